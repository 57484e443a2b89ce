/** What a worker does with the messages of a queue. */
import { checkDuration, checkInteger, checkOptions, checkTimeout } from "./options.ts";
import type { Message } from "./message.ts";
import { type Queue, resolveQueue } from "./queue.ts";
import { checkRetry, type RetryPolicy } from "./retry.ts";
import type { Transaction } from "./transaction.ts";

/** What a handler is given beside its message. */
export interface JobContext<T = unknown> {
  /** The message that is handled; of a batch, the first. */
  readonly message: Message<T>;
  /** Which attempt this is, from 1. */
  readonly attempt: number;
  /** The name of the worker. */
  readonly worker: string;
  /**
   * Aborted when the result is of no use any more: the lease was lost (`LeaseLostError`), the message was cancelled
   * (`CancelledError`), the handler took too long (a `TimeoutError`), or the worker stops and the time for that is
   * over.
   */
  readonly signal: AbortSignal;
  /**
   * Stores how far the job has come; whoever looks at the message sees it. Resolves to false when the lease was lost.
   * Calls that come while one is under way are folded into one.
   */
  progress(value: unknown): Promise<boolean>;
  /**
   * Runs a callback in a transaction that also ends the message as succeeded, with what the callback resolves to as its
   * result: both are committed or neither.
   *
   * @throws {LeaseLostError} when the message is somebody else's by now; the transaction was rolled back.
   */
  transaction<R>(work: (tx: Transaction) => Promise<R>, options?: { readonly timeoutMs?: number }): Promise<R>;
}

/** What a handler of batches is given beside its messages. */
export interface BatchContext<T = unknown> extends Omit<JobContext<T>, "attempt" | "progress" | "transaction"> {
  /** Says that a message of the batch is done; those of which nothing is said are done when the handler resolves. */
  archive(message: Message<T>, result?: unknown): void;
  /** Says that a message of the batch has failed; those of which nothing is said fail when the handler rejects. */
  fail(message: Message<T>, error: unknown): void;
}

/** Does the work of one message. What it resolves to is stored as the result. */
export type JobHandler<T = unknown> = (message: Message<T>, context: JobContext<T>) => unknown;

/** Does the work of several messages at once. */
export type BatchHandler<T = unknown> = (messages: readonly Message<T>[], context: BatchContext<T>) => unknown;

/** Options of {@linkcode job}. */
export interface JobOptions<T = unknown> {
  /** How many handlers of this job may run at once in one worker. @default 10 */
  readonly concurrency?: number;
  /**
   * How many messages a worker may hold beyond those that are being handled. It holds as many as it is going to begin
   * within some milliseconds, so that slow jobs are not held back from other workers. @default 500
   */
  readonly prefetch?: number;
  /** For how long messages are leased; renewed every third of it. @default the queue's, else 30000 */
  readonly leaseMs?: number;
  /**
   * After how long a handler is aborted and its attempt counted as failed, in milliseconds; null: never.
   * @default 900000
   */
  readonly timeoutMs?: number | null;
  /**
   * How often and after which pauses a message is tried again. What a message says of itself goes first.
   * @default the queue's
   */
  readonly retry?: RetryPolicy;
  /** Called when a message has become a dead letter here, after that was committed. What it throws is only logged. */
  readonly onDead?: (message: Message<T>, error: unknown) => unknown;
}

/** Options of {@linkcode job} with a handler of batches. */
export interface BatchJobOptions<T = unknown> extends JobOptions<T> {
  /** The largest number of messages the handler is given at once. `concurrency` counts batches. */
  readonly batch: number;
}

/** A queue together with what is done with its messages; made by {@linkcode job}, run by a worker. */
export interface Job<T = unknown> {
  /** The queue. */
  readonly queue: Queue<T>;
  /** What is done. */
  readonly handler: BatchHandler<T> | JobHandler<T>;
  /** How. */
  readonly options: JobOptions<T> & { readonly batch?: number };
  /** How a result is written; JSON unless given. */
  readonly encodeResult?: (value: unknown) => string;
  /** Whether its messages are the runs of a workflow. */
  readonly isWorkflow?: true;
}

const OPTIONS: readonly string[] = ["batch", "concurrency", "leaseMs", "onDead", "prefetch", "retry", "timeoutMs"];

/**
 * Says what is done with the messages of a queue. Nothing runs before a worker does it.
 *
 * A handler that resolves ends its message as succeeded; one that rejects, throws or takes too long has its attempt
 * counted, and the message comes again after a pause until its attempts are used up, or at once becomes a dead letter
 * after a
 * `NonRetryableError`. A message may be delivered more than once, so what a handler does should bear repetition. A
 * promise that a handler neither awaits nor returns is not the worker's: when it rejects, the runtime ends the
 * process as it would anywhere.
 *
 * @example Usage
 * ```ts
 * import { connect, job } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * const greet = job<{ name: string }>("greetings", (message) => `Hello, ${message.payload.name}!`, { concurrency: 5 });
 * const worker = store.worker([greet]);
 * await store.admin.createQueue("greetings");
 * const message = await store.producer<{ name: string }>("greetings").enqueue({ name: "Ada" });
 * await worker.drain();
 * assert.equal(await store.result(message), "Hello, Ada!");
 * ```
 */
export function job<T = unknown>(
  queue: Queue<T> | string,
  handler: BatchHandler<T>,
  options: BatchJobOptions<T>,
): Job<T>;
/** Says what is done with each message of a queue. */
export function job<T = unknown>(queue: Queue<T> | string, handler: JobHandler<T>, options?: JobOptions<T>): Job<T>;
export function job<T = unknown>(
  queue: Queue<T> | string,
  handler: BatchHandler<T> | JobHandler<T>,
  options: JobOptions<T> & { readonly batch?: number } = {},
): Job<T> {
  checkOptions("job", options, OPTIONS);
  const resolved = resolveQueue<T>(queue);
  if (typeof handler !== "function") throw new TypeError("Cannot make a job: the handler must be a function");
  const { batch, concurrency, leaseMs, onDead, prefetch, retry, timeoutMs } = options;
  if (batch !== undefined) checkInteger("batch", batch, 1, 10_000);
  if (concurrency !== undefined) checkInteger("concurrency", concurrency, 1, 100_000);
  if (prefetch !== undefined) checkInteger("prefetch", prefetch, 0, 10_000);
  if (leaseMs !== undefined) checkDuration("leaseMs", leaseMs, 100);
  if (timeoutMs !== undefined && timeoutMs !== null) checkTimeout("timeoutMs", timeoutMs);
  if (onDead !== undefined && typeof onDead !== "function") {
    throw new TypeError("Cannot use onDead: it must be a function");
  }
  checkRetry(retry);
  return Object.freeze({ queue: resolved, handler, options: Object.freeze({ ...options }) });
}
