/** What a workflow is given: it finds the key of each step and leaves the rest to the execution. */
import { decodeValue, encodeValue } from "../codec.ts";
import { revive } from "../codec_read.ts";
import { CancelledError, FailedError } from "../errors.ts";
import type { StoredError } from "../json.ts";
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkName,
  checkOptions,
  checkTimeout,
  instantOf,
} from "../options.ts";
import { checkRetry } from "../retry.ts";
import type { ReceiveItem, StepKind, StepRecord, StepState } from "../sql/runs.ts";
import type { Transaction } from "../transaction.ts";
import type { MapOptions, ReceiveOptions, RunContext, StepContext, StepOptions, WorkflowRef } from "../workflow.ts";
import type { Execution } from "./execution.ts";
import { Keys } from "./key.ts";
import { doStep, doTransaction, type StepPolicy } from "./steps.ts";

/** Where the outcome of a child arrives. */
const CHILD_TOPIC = "$child/";
const CLOCK_TOPIC = "$clock";
const MAP_CONCURRENCY = 10;
/** How often mail is looked for while another branch of the run keeps it here. */
const LOOK_MS = 1_000;
const NOTHING = encodeValue(undefined);
/** Longer ones would not fit into an index. */
const LONGEST_KEY = 500;

/** Which step something is done for. */
export interface StepPlace {
  readonly key: string;
  readonly place: number;
  readonly kind: StepKind;
}

/** What all contexts of one execution share. */
export interface ContextRoots {
  readonly execution: Execution;
  readonly workflow: string;
  readonly attempt: number;
  readonly policy: StepPolicy;
  /** Starts a run for a step; of one that is called the step is told the end. Resolves to its id. */
  startChild(child: WorkflowRef, input: unknown, step: StepPlace): Promise<number>;
  progress(value: unknown): Promise<boolean>;
  /** The time of the process, or of a test. */
  now(): number;
}

/** A run's context, or that of a scope in it. */
export class Context implements RunContext {
  readonly #roots: ContextRoots;
  readonly #keys: Keys;

  constructor(roots: ContextRoots, scope?: string) {
    this.#roots = roots;
    this.#keys = new Keys(scope);
  }

  get id(): number {
    return this.#roots.execution.lease.id;
  }

  get workflow(): string {
    return this.#roots.workflow;
  }

  get attempt(): number {
    return this.#roots.attempt;
  }

  get signal(): AbortSignal {
    return this.#roots.execution.signal;
  }

  step<T>(name: string, work: (step: StepContext) => Promise<T> | T, options: StepOptions<T> = {}): Promise<T> {
    return this.#call(async (execution, isStep) => {
      const key = this.#key(name);
      isStep(key);
      checkOptions("step", options, ["atMostOnce", "retry", "schema", "timeoutMs"]);
      if (options.timeoutMs !== undefined) checkTimeout("timeoutMs", options.timeoutMs);
      if (options.atMostOnce !== undefined) checkBoolean("atMostOnce", options.atMostOnce);
      if (typeof work !== "function") throw new TypeError("Cannot do a step: the second argument must be a function");
      return await doStep(execution, key, work, options, this.#policy(options));
    });
  }

  transaction<T>(
    name: string,
    work: (tx: Transaction) => Promise<T>,
    options: Pick<StepOptions<T>, "retry" | "schema" | "timeoutMs"> = {},
  ): Promise<T> {
    return this.#call(async (execution, isStep) => {
      const key = this.#key(name);
      isStep(key);
      checkOptions("transaction", options, ["retry", "schema", "timeoutMs"]);
      if (options.timeoutMs !== undefined) checkTimeout("timeoutMs", options.timeoutMs);
      if (typeof work !== "function") throw new TypeError("Cannot do a step: the second argument must be a function");
      return await doTransaction(execution, key, work, options, this.#policy(options));
    });
  }

  sleep(name: string, ms: number): Promise<void> {
    return this.#call(async (execution) => {
      const key = this.#key(name);
      checkDuration("the time to sleep", ms);
      const known = await execution.reach(key, "sleep");
      const left = known?.dueMs ?? ms;
      if (known?.state === "succeeded") return;
      const place = known?.place ?? execution.nextPlace();
      const item = { key, place, kind: "sleep", delay_ms: ms } as const;
      if (known !== undefined && left <= 0) await execution.replay.sleep(left);
      else await execution.wait(item, performance.now() + left, known !== undefined);
      await execution.wake(item);
    });
  }

  sleepUntil(name: string, at: Date): Promise<void> {
    return this.#call(async (execution) => {
      const key = this.#key(name);
      const at_ms = instantOf("the time to sleep until", at);
      const known = await execution.reach(key, "sleep");
      if (known?.state === "succeeded") return;
      if (known !== undefined && (known.dueMs ?? 0) <= 0) {
        await execution.replay.sleep(known.dueMs ?? 0);
        return await execution.wake({ key, place: known.place, kind: "sleep" });
      }
      // Only the database knows how far away it is; nobody ever sends anything on this topic.
      await this.#take(known, { key, kind: "sleep", topic: CLOCK_TOPIC, at_ms });
    });
  }

  receive<T = unknown>(topic: string): Promise<T>;
  receive<T = unknown>(topic: string, options: ReceiveOptions): Promise<T | undefined>;
  receive<T = unknown>(topic: string, options: ReceiveOptions = {}): Promise<T> {
    return this.#call(async (execution) => {
      checkName("the topic", topic, 200);
      if (topic.startsWith("$")) throw new TypeError("Cannot use the topic: it must not begin with $");
      const key = this.#key(topic);
      checkOptions("receive", options, ["timeoutMs"]);
      const { timeoutMs } = options;
      if (timeoutMs !== undefined) checkDuration("timeoutMs", timeoutMs);
      const known = await execution.reach(key, "receive");
      const { value } = await this.#take(known, { key, kind: "receive", topic, delay_ms: timeoutMs });
      return decodeValue(value ?? "null") as T;
    });
  }

  call<Input, Output>(child: WorkflowRef<Input, Output>, input: Input): Promise<Output> {
    return this.#call(async (execution) => {
      const key = this.#key(child.name);
      const known = await execution.reach(key, "call");
      const place = known?.place ?? execution.nextPlace();
      const id = known?.childId ??
        await execution.busy(() => this.#roots.startChild(child as WorkflowRef, input, { key, place, kind: "call" }));
      const topic = `${CHILD_TOPIC}${key}`;
      const { state, value } = await this.#take(known, { key, place, kind: "call", topic, child_id: id });
      const outcome = outcomeOf<Output>(child.name, value ?? "null");
      if (state === "failed" || outcome.error !== undefined) throw execution.asFinal(outcome.error, key);
      return outcome.value as Output;
    });
  }

  start<Input, Output>(child: WorkflowRef<Input, Output>, input: Input): Promise<number> {
    return this.#call(async (execution, isStep) => {
      const key = this.#key(child.name);
      isStep(key);
      const known = await execution.reach(key, "start");
      if (known !== undefined) return execution.outcomeOf<number>(key, known);
      const step: StepPlace = { key, place: execution.nextPlace(), kind: "start" };
      return await execution.busy(() => this.#roots.startChild(child as WorkflowRef, input, step));
    });
  }

  async map<Item, T>(
    items: readonly Item[],
    work: (item: Item, run: RunContext, index: number) => Promise<T> | T,
    options: MapOptions = {},
  ): Promise<T[]> {
    checkOptions("map", options, ["concurrency", "name"]);
    const { name = "map", concurrency = MAP_CONCURRENCY } = options;
    checkInteger("concurrency", concurrency, 1, 10_000);
    const key = this.#key(name);
    const results: T[] = new Array(items.length);
    let next = 0;
    let failure: { readonly error: unknown } | undefined;
    const branch = async (): Promise<void> => {
      while (failure === undefined && next < items.length) {
        const index = next++;
        try {
          results[index] = await work(items[index] as Item, new Context(this.#roots, `${key}/${index}`), index);
        } catch (error) {
          failure ??= { error };
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, branch));
    if (failure !== undefined) throw failure.error;
    return results;
  }

  scope(name: string): RunContext {
    return new Context(this.#roots, this.#key(name));
  }

  now(): Promise<Date> {
    return this.#value("now", () => new Date(this.#roots.now()));
  }

  random(): Promise<number> {
    return this.#value("random", () => Math.random());
  }

  uuid(): Promise<string> {
    return this.#value("uuid", () => crypto.randomUUID());
  }

  progress(value: unknown): Promise<boolean> {
    return this.#roots.progress(value);
  }

  /**
   * A call is counted as long as it is under way. Its key is found at once, so that it does not depend on what comes
   * between.
   */
  #call<T>(work: (execution: Execution, isStep: (key: string) => void) => Promise<T>): Promise<T> {
    const { execution } = this.#roots;
    return execution.call((isStep) => work(execution, isStep));
  }

  #key(name: string): string {
    checkName("the name of a step", name, 200);
    const { execution } = this.#roots;
    const outer = execution.host.database.step;
    if (outer !== undefined) {
      const inner = JSON.stringify(name);
      throw execution.misuse(`Cannot begin ${inner} inside of step ${JSON.stringify(outer)}: begin it beside that one`);
    }
    const key = this.#keys.next(name);
    if (key.length <= LONGEST_KEY) return key;
    throw execution.misuse(
      `Cannot begin ${JSON.stringify(name)}: with its scopes its key has more than ${LONGEST_KEY} characters`,
    );
  }

  #policy({ retry }: Pick<StepOptions, "retry">): StepPolicy {
    checkRetry(retry);
    const { maxAttempts, backoff } = this.#roots.policy;
    return { maxAttempts: retry?.maxAttempts ?? maxAttempts, backoff: retry?.backoff ?? backoff };
  }

  /** Something that is made once. */
  #value<T>(name: string, make: () => T): Promise<T> {
    return this.#call(async (execution, isStep) => {
      const key = this.#key(name);
      isStep(key);
      const known = await execution.reach(key, "value");
      if (known !== undefined) return execution.outcomeOf<T>(key, known);
      const step = { key, place: execution.nextPlace(), kind: "value" } as const;
      return await execution.busy(async () => {
        const value = encodeValue(make());
        await execution.record({ ...step, state: "succeeded", attempts: 0, took_ms: 0, value });
        return decodeValue(value) as T;
      });
    });
  }

  /** Takes mail, or waits for it. */
  async #take(
    known: StepRecord | undefined,
    what: Omit<ReceiveItem, "ending" | "id" | "nothing" | "place" | "token"> & { readonly place?: number },
  ): Promise<{ readonly state: StepState; readonly value: string | null }> {
    if (known?.state === "succeeded") return known;
    if (known?.state === "failed") return { state: "failed", value: known.error };
    const { execution } = this.#roots;
    const { id, token, signal } = execution.lease;
    const item = { ...what, place: known?.place ?? what.place ?? execution.nextPlace() };
    for (;;) {
      const received = await execution.busy(() => {
        execution.host.catchUp();
        const ending = execution.nextEnding();
        return execution.host.recorder.receive({ id, token, ...item, nothing: NOTHING, ending }, signal);
      });
      if (received.state !== "waiting") return received;
      execution.heed(received.wish);
      // Nobody tells a run that goes on elsewhere of its mail, so that it looks.
      await execution.wait(item, performance.now() + Math.min(received.dueMs ?? LOOK_MS, LOOK_MS));
    }
  }
}

/** What came of a child. */
function outcomeOf<T>(name: string, text: string): { readonly value?: T; readonly error?: Error } {
  const { id, outcome, reason, result, error } = JSON.parse(text) as {
    readonly id: number;
    readonly outcome: "cancelled" | "failed" | "succeeded";
    readonly reason: string | null;
    readonly result: unknown;
    readonly error: StoredError | null;
  };
  if (outcome === "succeeded") return { value: revive(result) as T };
  const which = `Child ${JSON.stringify(name)}, run ${id},`;
  if (outcome === "cancelled") return { error: new CancelledError(`${which} was cancelled`, reason) };
  return { error: new FailedError(`${which} has failed: ${reason ?? "no reason is known"}`, reason, error) };
}
