/** Runs of workflows, as an operator sees them. Nothing is changed here: that is done by `store.run(id)`. */
import { decodeValue } from "../codec.ts";
import type { CallLimits, Database } from "../database.ts";
import { decodeJson, type StoredError } from "../json.ts";
import { checkBoolean, checkOptions, checkTexts, idOf, instantOf, LIMITS } from "../options.ts";
import { readSteps, type StepInfo } from "../run.ts";
import {
  countRuns,
  decodeRun,
  decodeRunCounts,
  decodeRunTexts,
  findRun,
  listRuns,
  type RunCounts,
  type RunFilter,
  type RunRecord,
  type RunStatus,
  type StoredWait,
} from "../sql/run_reports.ts";
import type { WorkflowRef } from "../workflow.ts";
import { type Page, PAGE_OPTIONS, pageLimit, type PageOptions, parseCursor, toPage } from "./page.ts";
import { nameOf } from "./queues.ts";

/** Something that a run waits for. */
export interface RunWait {
  /**
   * What it is: `sleep`, a time; `mail`, something that is sent on a topic; `child`, the end of another run; `retry`, the time
   * of the next attempt of a step; `person`, somebody who resumes it; `code`, a program that fits what is recorded, and then
   * somebody who resumes it.
   */
  readonly kind: "child" | "code" | "mail" | "person" | "retry" | "sleep";
  /** The key of the step that waits; null if it is none. */
  readonly step: string | null;
  /** The topic on which something has to be sent; null if it does not wait for that. */
  readonly topic: string | null;
  /** The run that has to end; null if it does not wait for that. */
  readonly childId: number | null;
  /** When it goes on even so, by the database's clock; null: not by itself. */
  readonly until: Date | null;
  /** Why the code does not fit. */
  readonly reason: string | null;
}

/** A run. */
export interface RunInfo {
  /** The id, which is that of its message. */
  readonly id: number;
  /** The name of its workflow. */
  readonly workflow: string;
  /** How it stands, or how it has ended. */
  readonly status: RunStatus;
  /** The key under which it was started. */
  readonly key: string | null;
  /** From 0 to 9; larger ones go first. */
  readonly priority: number;
  /** How often it has failed outside of its steps. */
  readonly attempts: number;
  /** How many leases of workers have run out without a report. */
  readonly crashes: number;
  /** When it was started, by the database's clock. */
  readonly enqueuedAt: Date;
  /** When it goes on by itself; null if it does not, if it is executed, and when it has ended. */
  readonly dueAt: Date | null;
  /** When it has ended; null while it lives. */
  readonly endedAt: Date | null;
  /** Who executes it, or has ended it. */
  readonly worker: string | null;
  /** When the lease ends of whoever executes it. */
  readonly leaseUntil: Date | null;
  /** What it waits for, what comes first before the rest; nothing while only a free worker is missing. */
  readonly waitsFor: readonly RunWait[];
  /** Why it is blocked, or has ended. */
  readonly reason: string | null;
  /** The error with which it has failed last. */
  readonly error: StoredError | null;
  /** The run that has started it; null if none has. */
  readonly parentId: number | null;
  /** Since when deliveries of its queue are stopped; null while they are not. */
  readonly queuePausedAt: Date | null;
  /** How many steps are recorded. */
  readonly stepCount: number;
  /** How many of them have ended. */
  readonly endedStepCount: number;
}

/** A run with all that is known of it. */
export interface RunDetails extends RunInfo {
  /** What it was started with. */
  readonly input: unknown;
  /** What its function has returned; undefined before, and if it has not. */
  readonly result: unknown;
  /** How far it has come, as it has said last; null if it has said nothing, and when it has ended. */
  readonly progress: unknown;
  /** After how many failed attempts it has failed for good. */
  readonly maxAttempts: number;
  /** What is recorded, in the order in which it was first reached. */
  readonly steps: readonly StepInfo[];
  /** The runs that it has started. */
  readonly childIds: readonly number[];
}

/** Which runs are meant. */
export interface RunQuery {
  /** Only those of this workflow. */
  readonly workflow?: WorkflowRef<never, unknown> | WorkflowRef<unknown, unknown> | string;
  /** Only those that stand so, or have ended so. */
  readonly status?: RunStatus;
  /** Only those with this key. */
  readonly key?: string;
  /** Only those that were started at this instant or later. */
  readonly since?: Date;
  /** Only those that were started before this instant. */
  readonly until?: Date;
}

/** Options of `runs.get`. */
export interface RunGetOptions extends CallLimits {
  /** Whether steps and children are read too; without them it is one statement. @default true */
  readonly steps?: boolean;
}

const QUERY: readonly string[] = ["key", "since", "status", "until", "workflow"];
const STATUSES: readonly string[] = [
  "blocked",
  "cancelled",
  "delayed",
  "failed",
  "leased",
  "paused",
  "ready",
  "succeeded",
  "waiting",
];
const KINDS: Readonly<Record<string, RunWait["kind"]>> = {
  blocked: "code",
  call: "child",
  paused: "person",
  receive: "mail",
  sleep: "sleep",
};

/**
 * Looks at runs of workflows.
 *
 * @example Usage
 * ```ts
 * import { connect, workflow } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * const order = workflow("order", async (run, _input: { id: number }) => await run.receive<boolean>("approval"));
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * const { id } = await store.start(order, { id: 7 });
 * await store.worker([order]).drain();
 *
 * const { items } = await store.admin.runs.list({ workflow: "order", status: "waiting" });
 * assert.deepEqual(items.map((run) => run.id), [id]);
 * const run = await store.admin.runs.get(id);
 * assert.deepEqual(run?.waitsFor.map(({ kind, topic }) => [kind, topic]), [["mail", "approval"]]);
 * assert.deepEqual(run?.input, { id: 7 });
 * const [counts] = await store.admin.runs.counts();
 * assert.equal(counts?.waiting, 1);
 * ```
 */
export class RunAdmin {
  readonly #database: Database;

  /** Made by the store. */
  constructor(database: Database) {
    this.#database = database;
  }

  /** Lists runs that live and those that are kept, those that were stored last first. */
  async list(options: PageOptions & RunQuery = {}): Promise<Page<RunInfo>> {
    checkOptions("runs.list", options, [...QUERY, ...PAGE_OPTIONS]);
    const limit = pageLimit(options.limit, this.#database);
    const [beforeId] = parseCursor(options.cursor, 1) ?? [];
    const statement = listRuns({ ...filterOf(options), beforeId }, limit + 1);
    const rows = await this.#database.query(statement, { ...limitsOf(options), isLong: true });
    return toPage(rows.map((row) => toInfo(decodeRun(row))), limit, ({ id }) => String(id));
  }

  /** Reads a run with its steps; null when there is none of that id, or not any more. */
  async get(id: number, options: RunGetOptions = {}): Promise<RunDetails | null> {
    checkOptions("runs.get", options, [...LIMITS, "steps"]);
    const { steps: hasSteps = true, ...limits } = options;
    checkBoolean("steps", hasSteps);
    const statement = findRun(idOf(id));
    return await this.#database.call(limits, async (call) => {
      const [row] = await this.#database.query(statement, call);
      if (row === undefined) return null;
      const steps = hasSteps ? await readSteps(this.#database, id, call) : [];
      const { input, result, progress, maxAttempts } = decodeRunTexts(row);
      return {
        ...toInfo(decodeRun(row)),
        input: decodeValue(input),
        result: result === null ? undefined : decodeValue(result),
        progress: progress === null ? null : decodeJson(progress),
        maxAttempts,
        steps,
        childIds: steps.flatMap(childOf),
      };
    });
  }

  /** Counts the runs of each workflow by state, in the order of the names. */
  async counts(limits: CallLimits = {}): Promise<RunCounts[]> {
    checkOptions("runs.counts", limits, LIMITS);
    return (await this.#database.query(countRuns(), { ...limits, isLong: true })).map(decodeRunCounts);
  }
}

function filterOf({ workflow, status, key, since, until }: RunQuery): RunFilter {
  if (status !== undefined && !STATUSES.includes(status)) {
    throw new TypeError(`Cannot use status: it must be one of ${STATUSES.join(", ")}`);
  }
  checkTexts({ key });
  return {
    workflow: workflow === undefined ? undefined : nameOf(typeof workflow === "string" ? workflow : workflow.name),
    status,
    key,
    since: since === undefined ? undefined : instantOf("since", since),
    until: until === undefined ? undefined : instantOf("until", until),
  };
}

function limitsOf({ signal, timeoutMs }: CallLimits): CallLimits {
  return { ...(signal !== undefined && { signal }), ...(timeoutMs !== undefined && { timeoutMs }) };
}

function toInfo({ waits, ...record }: RunRecord): RunInfo {
  // Whatever else it waits for, it goes on only when somebody resumes it.
  const paused: StoredWait[] = record.status === "paused" ? [{ kind: "paused" }] : [];
  return { ...record, waitsFor: [...paused, ...waits].map(toWait) };
}

function toWait({ kind, key, topic, childId, until, reason }: StoredWait): RunWait {
  return {
    // What is left is a step that does something, and waits for its next attempt.
    kind: KINDS[kind] ?? "retry",
    step: key ?? null,
    // The others are our own.
    topic: topic === undefined || topic.startsWith("$") ? null : topic,
    childId: childId ?? null,
    until: until === undefined ? null : new Date(until),
    reason: reason ?? null,
  };
}

/** The run that a step has started, whether it waits for it or not. */
function childOf({ kind, state, childId, value }: StepInfo): number[] {
  if (childId !== null) return [childId];
  return kind === "start" && state === "succeeded" ? [Number(value)] : [];
}
