/** Workflows: ordinary async functions whose steps are recorded. */
import { checkInteger, checkName, checkOptions, checkTimeout } from "./options.ts";
import { checkDuration } from "./options.ts";
import { type Queue, queue, type Schema } from "./queue.ts";
import { checkRetry, type RetryPolicy } from "./retry.ts";
import type { Transaction } from "./transaction.ts";

/** What the function of a step is given. */
export interface StepContext {
  /** Which attempt of this step this is, from 1. */
  readonly attempt: number;
  /** Aborted when the step takes too long, and when the run is cancelled, has lost its lease, or has to stop. */
  readonly signal: AbortSignal;
  /** The same in every attempt of this step and in no other step: for whoever lets the world outside notice repetitions. */
  readonly idempotencyKey: string;
}

/** Options of {@linkcode RunContext.step}. */
export interface StepOptions<T = unknown> {
  /**
   * How often and after which pauses the step is tried again. Every failure is recorded, so that a crash does not begin
   * counting anew. @default the workflow's `retry`, else 5 attempts from one second on
   */
  readonly retry?: RetryPolicy;
  /**
   * After how long an attempt is aborted and counts as failed, in milliseconds; what it still does counts for nothing.
   *
   * @default never
   */
  readonly timeoutMs?: number;
  /**
   * Whether the step may begin at most once: that it begins is recorded first. When the process dies in the middle the step
   * has failed, with an `InterruptedError`. @default false
   */
  readonly atMostOnce?: boolean;
  /** Checks the value before it is recorded; what it returns is recorded. Any Standard Schema. */
  readonly schema?: Schema<T>;
}

/** Options of {@linkcode RunContext.receive}. */
export interface ReceiveOptions {
  /** For how long to wait, from when it was first asked, by the database's clock. @default for ever */
  readonly timeoutMs?: number;
}

/** Options of {@linkcode RunContext.map}. */
export interface MapOptions {
  /** A name for the steps of this map. @default "map" */
  readonly name?: string;
  /** How many branches may be under way at once. @default 10 */
  readonly concurrency?: number;
}

/**
 * What a workflow is given: everything that is recorded goes through it.
 *
 * A step is known by its name and by how often that name was used before it in the same scope, so names may repeat, and code
 * has to reach its steps in the same order every time. Branches that run side by side and use the same names get scopes of
 * their own, from `map` or `scope`.
 */
export interface RunContext {
  /** The id of the run, which is the id of its message. */
  readonly id: number;
  /** The name of the workflow. */
  readonly workflow: string;
  /** Which attempt of the run this is, from 1: failures of steps that are tried again do not count. */
  readonly attempt: number;
  /** Aborted when what the run does is of no use any more: see `JobContext.signal`. */
  readonly signal: AbortSignal;
  /**
   * Does something once: when it has been recorded, it is never done again and always yields the recorded value. Until
   * then it may be begun more than once. The value is the decoded recorded one, live and in replay.
   *
   * @throws what the function has thrown in its last attempt, as it was recorded.
   */
  step<T>(
    name: string,
    work: (step: StepContext) => Promise<T> | T,
    options?: StepOptions<T>,
  ): Promise<T>;
  /**
   * A step whose record is committed together with what it does in the database: exactly once.
   *
   * @throws what the callback has thrown; everything it did was rolled back.
   */
  transaction<T>(
    name: string,
    work: (tx: Transaction) => Promise<T>,
    options?: Pick<StepOptions<T>, "retry" | "schema" | "timeoutMs">,
  ): Promise<T>;
  /** Waits. The run takes no place meanwhile, and goes on wherever there is a worker. */
  sleep(name: string, ms: number): Promise<void>;
  /** Waits until an instant of the database's clock; one that is over ends at once. */
  sleepUntil(name: string, at: Date): Promise<void>;
  /** Takes the oldest thing that was sent to the run on a topic and not taken yet, or waits for it. */
  receive<T = unknown>(topic: string): Promise<T>;
  /** The same, and undefined when nothing has come in time. */
  receive<T = unknown>(topic: string, options: ReceiveOptions): Promise<T | undefined>;
  /**
   * Starts another workflow and waits for its result. It is cancelled when this run is.
   *
   * @throws {FailedError | CancelledError} when it has not succeeded.
   */
  call<Input, Output>(child: WorkflowRef<Input, Output>, input: Input): Promise<Output>;
  /** Starts another workflow and resolves to the id of its run, which goes on by itself. */
  start<Input, Output>(child: WorkflowRef<Input, Output>, input: Input): Promise<number>;
  /**
   * Runs a function for each item, several at a time, each in a scope of its own, and resolves to what they return, in
   * the order of the items. When one fails no further one is begun, and the first error is thrown when those under way
   * have ended.
   */
  map<Item, T>(
    items: readonly Item[],
    work: (item: Item, run: RunContext, index: number) => Promise<T> | T,
    options?: MapOptions,
  ): Promise<T[]>;
  /** A context whose steps are known by their names within this scope. */
  scope(name: string): RunContext;
  /** The time at which this was first asked. */
  now(): Promise<Date>;
  /** A random number from 0 to 1 that stays the same. */
  random(): Promise<number>;
  /** A random UUID that stays the same. */
  uuid(): Promise<string>;
  /** Stores how far the run has come: see `JobContext.progress`. */
  progress(value: unknown): Promise<boolean>;
}

/** The function of a workflow. */
export type WorkflowFunction<Input = unknown, Output = unknown> = (
  run: RunContext,
  input: Input,
) => Promise<Output> | Output;

/** Options of {@linkcode workflow}. */
export interface WorkflowOptions<Input = unknown> {
  /** Checks inputs before a run is started. Any Standard Schema. */
  readonly schema?: Schema<Input>;
  /** How many runs may be under way at once in one worker; those that wait do not count. @default 10 */
  readonly concurrency?: number;
  /** For how long a run is leased; renewed every third of it. @default the queue's, else 30000 */
  readonly leaseMs?: number;
  /**
   * After how long without a pause a run is given up and its attempt counted as failed, in milliseconds: from a claim to
   * the next time it waits. @default never
   */
  readonly timeoutMs?: number;
  /**
   * How often and after which pauses a step that fails is tried again, and a run whose function fails outside of its steps.
   * @default 5 attempts from one second on
   */
  readonly retry?: RetryPolicy;
  /**
   * What happens when the code does not fit what was recorded. `"strict"`: the run is parked as `blocked`, and goes on after
   * `resume`. `"warn"`: it is logged. `"off"`: nothing. A step that was recorded as one of another kind always blocks.
   *
   * @default "strict"
   */
  readonly onChange?: "off" | "strict" | "warn";
}

/** A workflow by its name and types: enough to start it. */
export interface WorkflowRef<Input = unknown, Output = unknown> {
  /** The name of the workflow, which is that of its queue. */
  readonly name: string;
  /** Its queue. */
  readonly queue: Queue<Input>;
  /** Only for the compiler: the type of what it returns. */
  readonly output?: () => Output;
}

/** A workflow with what it does; run by a worker. */
export interface Workflow<Input = unknown, Output = unknown> extends WorkflowRef<Input, Output> {
  /** What it does. */
  readonly run: WorkflowFunction<Input, Output>;
  /** How. */
  readonly options: WorkflowOptions<Input>;
}

const OPTIONS: readonly string[] = [
  "concurrency",
  "leaseMs",
  "onChange",
  "retry",
  "schema",
  "timeoutMs",
];

/**
 * Makes a workflow: an async function that survives crashes. What it does by `run.step` is recorded, and not done again when
 * another process goes on with the run; what stands between the steps is executed every time, so it should be quick and
 * have no effects.
 *
 * @example Usage
 * ```ts
 * import { connect, workflow } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * const count = workflow("count_lines", async (run, text: string) => {
 *   const lines = await run.step("split", () => text.split("\n"));
 *   await run.sleep("rest", 1);
 *   return lines.length;
 * });
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * const run = await store.start(count, "one\ntwo");
 * const stop = new AbortController();
 * const working = store.worker([count]).run({ signal: stop.signal });
 * assert.equal(await run.result(), 2);
 * stop.abort();
 * await working;
 * ```
 */
export function workflow<Input = unknown, Output = unknown>(
  name: string,
  run: WorkflowFunction<Input, Output>,
  options: WorkflowOptions<Input> = {},
): Workflow<Input, Output> {
  checkOptions("workflow", options, OPTIONS);
  if (typeof run !== "function") throw new TypeError("Cannot make a workflow: the second argument must be a function");
  const { concurrency, leaseMs, onChange, retry, schema, timeoutMs } = options;
  if (concurrency !== undefined) checkInteger("concurrency", concurrency, 1, 100_000);
  if (leaseMs !== undefined) checkDuration("leaseMs", leaseMs, 100);
  if (timeoutMs !== undefined) checkTimeout("timeoutMs", timeoutMs);
  if (onChange !== undefined && !["off", "strict", "warn"].includes(onChange)) {
    throw new TypeError('Cannot use onChange: it must be "strict", "warn" or "off"');
  }
  checkRetry(retry);
  return Object.freeze({ ...refOf<Input, Output>(name, schema), run, options: Object.freeze({ ...options }) });
}

/**
 * Names a workflow whose function is elsewhere: in another process, or another file.
 *
 * @example Usage
 * ```ts
 * import { connect, workflowRef } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * const run = await store.start(workflowRef<string, number>("count_lines"), "one\ntwo");
 * assert.equal(await run.status(), "ready");
 * ```
 */
export function workflowRef<Input = unknown, Output = unknown>(name: string): WorkflowRef<Input, Output> {
  return Object.freeze(refOf<Input, Output>(name, undefined));
}

function refOf<Input, Output>(name: string, schema: Schema<Input> | undefined): WorkflowRef<Input, Output> {
  checkName("the name of a workflow", name);
  return { name, queue: queue<Input>(name, { ...(schema !== undefined && { schema }), codec: "tagged" }) };
}

/** Whether something is made by {@linkcode workflow}. */
export function isWorkflow(value: unknown): value is Workflow {
  const { name, run, queue } = (value ?? {}) as Partial<Workflow>;
  return typeof name === "string" && typeof run === "function" && typeof queue === "object";
}
