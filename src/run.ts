/** What whoever started a run, or knows its id, can do with it. */
import type { Admin } from "./admin.ts";
import type { CallLimits, Database, QueryLimits } from "./database.ts";
import { decodeValue, encodeValue } from "./codec.ts";
import { revive } from "./codec_read.ts";
import { NotFoundError, StateError } from "./errors.ts";
import { decodeJson, type StoredError } from "./json.ts";
import type { MessageState } from "./message.ts";
import { checkName, checkOptions, LIMITS } from "./options.ts";
import type { ResultOptions, Results } from "./results.ts";
import {
  decodeStep,
  listSteps,
  pauseRun,
  resumeRun,
  retryRun,
  runState,
  sendMail,
  type StepKind,
  type StepRecord,
  type StepState,
  wakeRun,
} from "./sql/runs.ts";
import { hintOf } from "./wake.ts";

/** What is recorded of a step. */
export interface StepInfo {
  /** By what it is known: its name, with `#2`, `#3`, … for those of the same name, behind the scopes that it is in. */
  readonly key: string;
  /** What it does. */
  readonly kind: StepKind;
  /** How it stands. */
  readonly state: StepState;
  /** How often it has failed. */
  readonly attempts: number;
  /** What it has yielded; undefined as long as it has not. */
  readonly value: unknown;
  /** The error of its last attempt; null if that has not failed. */
  readonly error: StoredError | null;
  /** When it was begun, by the database's clock. */
  readonly startedAt: Date;
  /** When it has ended; null before. */
  readonly endedAt: Date | null;
  /** When its time comes: the end of a sleep or of a time limit, or the next attempt; null if it has none. */
  readonly dueAt: Date | null;
  /** The id of the run that it has started and waits for; null if it is no call. */
  readonly childId: number | null;
}

/** Options of {@linkcode RunHandle.send}. */
export interface SendOptions extends CallLimits {
  /** Under one key something is sent to a run only once. */
  readonly key?: string;
}

/** Options of {@linkcode RunHandle.cancel}. */
export interface CancelOptions extends CallLimits {
  /** Why, for the archive. @default "cancelled" */
  readonly reason?: string;
}

const PAGE = 1_000;

/**
 * A run, wherever it is executed. Made by `store.start` and `store.run`; a handle holds nothing but the id.
 *
 * @example Usage
 * ```ts
 * import { connect, workflow } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * const order = workflow("order", async (run, _input: { id: number }) => {
 *   const isApproved = await run.receive<boolean>("approval", { timeoutMs: 86_400_000 });
 *   return isApproved === true ? "shipped" : "dropped";
 * });
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * const run = await store.start(order, { id: 7 });
 * await store.worker([order]).drain();
 * assert.equal(await run.status(), "waiting");
 * await run.send("approval", true);
 * await store.worker([order]).drain();
 * assert.equal(await run.result(), "shipped");
 * ```
 */
export class RunHandle<Output = unknown> {
  readonly #database: Database;
  readonly #admin: Admin;
  readonly #results: Results;
  /** The id of the run, which is the id of its message. */
  readonly id: number;

  /** Made by `store.start` and `store.run`. */
  constructor(database: Database, admin: Admin, results: Results, id: number) {
    this.#database = database;
    this.#admin = admin;
    this.#results = results;
    this.id = id;
  }

  /**
   * Waits until the run has ended, and resolves to what its function has returned. Any number of calls share one statement.
   *
   * @throws {FailedError} when it has failed, with the reason and the error of its last attempt.
   * @throws {CancelledError} when it was cancelled.
   * @throws {NotFoundError} when there is no such run, or not any more.
   * @throws {TimeoutError} after `timeoutMs`; the run goes on.
   */
  async result(options: ResultOptions = {}): Promise<Output> {
    // All who wait are given the same object.
    return revive(structuredClone(await this.#results.wait(this.id, options))) as Output;
  }

  /** In which state the run is. @throws {NotFoundError} */
  async status(limits: CallLimits = {}): Promise<MessageState> {
    checkOptions("status", limits, LIMITS);
    const [row] = await this.#database.query(runState(this.id), limits);
    if (row === undefined) throw this.#unknown();
    return String(row[0]) as MessageState;
  }

  /** Lists what is recorded, in the order in which it was first reached. */
  async steps(limits: CallLimits = {}): Promise<StepInfo[]> {
    checkOptions("steps", limits, LIMITS);
    return await readSteps(this.#database, this.id, limits);
  }

  /**
   * Sends something to the run, where `run.receive` of the same topic takes it: in the order in which it was sent, and each
   * once.
   *
   * @throws {NotFoundError} when there is no such run.
   * @throws {StateError} when it has ended.
   */
  async send(topic: string, payload: unknown, options: SendOptions = {}): Promise<void> {
    checkName("the topic", topic, 200);
    if (topic.startsWith("$")) throw new TypeError("Cannot use the topic: it must not begin with $");
    checkOptions("send", options, ["key", ...LIMITS]);
    const { key, ...limits } = options;
    if (key !== undefined) checkName("key", key);
    const text = encodeValue(payload);
    const [row] = await this.#database.query(sendMail(this.id, topic, key && `user:${key}`, text), limits);
    if (row === undefined) throw this.#unknown();
    const [fate, queue] = row;
    if (fate !== "sent") throw new StateError(`Cannot send to run ${this.id}: it has ended`, { from: "ended" });
    this.#database.wake.tell(hintOf(String(queue)));
  }

  /**
   * Ends the run as cancelled, and then the runs that it waits for. A step that is being done is aborted, and nothing it
   * does is recorded any more. Resolves to false when the run had ended; what it waited for ends nevertheless.
   */
  async cancel(options: CancelOptions = {}): Promise<boolean> {
    checkOptions("cancel", options, ["reason", ...LIMITS]);
    const isCancelled = await this.#admin.messages.cancel(this.id, options);
    // A child that was being started meanwhile is known now, and no other can be.
    await this.#admin.messages.cancel(this.id, options);
    return isCancelled;
  }

  /** Stops the run at its next step, until it is resumed. Resolves to false when it has ended. */
  async pause(limits: CallLimits = {}): Promise<boolean> {
    return await this.#change(pauseRun(this.id), "pause", limits);
  }

  /** Lets a run go on that is paused or blocked. Resolves to false when it is neither. */
  async resume(limits: CallLimits = {}): Promise<boolean> {
    return await this.#change(resumeRun(this.id), "resume", limits);
  }

  /**
   * Ends what the run sleeps for, and the pause before the next attempt of a step. Resolves to false when it does
   * neither.
   */
  async wake(limits: CallLimits = {}): Promise<boolean> {
    return await this.#change(wakeRun(this.id), "wake", limits);
  }

  /**
   * Brings a run back that has failed or was cancelled: the step whose failure has ended it is done again, all else that
   * is recorded stays. Resolves to false otherwise.
   */
  async retry(limits: CallLimits = {}): Promise<boolean> {
    return await this.#change(retryRun(this.id), "retry", limits);
  }

  async #change(statement: ReturnType<typeof pauseRun>, what: string, limits: CallLimits): Promise<boolean> {
    checkOptions(what, limits, LIMITS);
    const [row] = await this.#database.query(statement, limits);
    if (row === undefined) return false;
    this.#database.wake.tell(hintOf(String(row[0])));
    return true;
  }

  #unknown(): NotFoundError {
    return new NotFoundError(`Run ${this.id} does not exist, or not any more`);
  }
}

/** Reads what is recorded of a run, in the order in which it was first reached. */
export async function readSteps(database: Database, id: number, limits: QueryLimits): Promise<StepInfo[]> {
  const steps: StepRecord[] = [];
  for (let after: string | undefined;; after = steps.at(-1)?.key) {
    const rows = await database.query(listSteps(id, PAGE, { after }), limits);
    steps.push(...rows.map(decodeStep));
    if (rows.length < PAGE) return steps.sort((a, b) => a.place - b.place).map(toStepInfo);
  }
}

function toStepInfo(step: StepRecord): StepInfo {
  const { key, kind, state, attempts, value, error, startedAt, endedAt, dueAt, dueMs, childId } = step;
  const isSlept = kind === "sleep" && state === "waiting" && dueMs !== null && dueMs <= 0;
  return {
    key,
    kind,
    state: isSlept ? "succeeded" : state,
    attempts,
    value: state === "succeeded" && kind !== "call" ? decodeValue(value ?? "null") : undefined,
    error: error === null ? null : storedError(error),
    startedAt,
    endedAt: isSlept ? dueAt : endedAt,
    dueAt,
    childId,
  };
}

/** An error as it is told of elsewhere; one that is no error has its text. */
function storedError(text: string): StoredError {
  const { name, message, stack } = (decodeJson(text) ?? {}) as Partial<StoredError>;
  return { name: name ?? "Error", message: message ?? text, ...(stack !== undefined && { stack }) };
}
