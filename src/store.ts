/** A database with pgqrs in it. */
import { Admin } from "./admin.ts";
import { Consumer, type ConsumerOptions } from "./consumer.ts";
import type { CallLimits, Database } from "./database.ts";
import type { EventListener, EventName } from "./events.ts";
import type { Job } from "./job.ts";
import { decodeJson } from "./json.ts";
import type { Message } from "./message.ts";
import { checkLimits, checkOptions, idOf, LIMITS } from "./options.ts";
import { type EnqueueOptions, Producer } from "./producer.ts";
import { type Queue, resolveQueue } from "./queue.ts";
import { type ResultOptions, Results } from "./results.ts";
import { findProgress } from "./sql/messages.ts";
import { ping } from "./sql/metrics.ts";
import type { Transaction } from "./transaction.ts";
import { RunHandle } from "./run.ts";
import { executeRun } from "./run/inline.ts";
import { startRun } from "./run/start.ts";
import { Worker, type WorkerOptions } from "./worker.ts";
import { isWorkflow, type Workflow, type WorkflowRef } from "./workflow.ts";

/** Options of {@linkcode Store.start}: those of a message. */
export type StartOptions = EnqueueOptions;

/** Options of {@linkcode Store.transaction}. */
export interface TransactionOptions {
  /**
   * Rolls back when the callback has not ended after this many milliseconds. On SQLite everything else of the store waits
   * meanwhile.
   *
   * @default 1000 on SQLite and libSQL, the store's `timeoutMs` on Postgres
   */
  readonly timeoutMs?: number;
  /** Rolls back when aborted. */
  readonly signal?: AbortSignal;
}

/** What {@linkcode Store.ping} tells. */
export interface Pong {
  /** How long the answer took, in milliseconds. */
  readonly roundTripMs: number;
  /** The database's clock. */
  readonly now: Date;
}

/**
 * A database with pgqrs in it: made by {@linkcode connect}, closed by `close` or by `await using`.
 *
 * @example Usage
 * ```ts
 * import { connect } from "@pgqrs/pgqrs";
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * ```
 */
export class Store {
  readonly #database: Database;
  readonly #results: Results;
  /** Installs and administers. */
  readonly admin: Admin;

  /** Made by `connect`. */
  constructor(database: Database) {
    this.#database = database;
    this.#results = new Results(database);
    this.admin = new Admin(database);
  }

  /** Makes a producer for a queue. Nothing is sent. */
  producer<T = unknown>(queue: Queue<T> | string): Producer<T> {
    return new Producer<T>(this.#database, resolveQueue<T>(queue));
  }

  /** Makes a consumer for a queue. Nothing is sent. */
  consumer<T = unknown>(queue: Queue<T> | string, options: ConsumerOptions = {}): Consumer<T> {
    return new Consumer<T>(this.#database, resolveQueue<T>(queue), options);
  }

  /** Makes a worker that runs jobs and workflows. Nothing is sent before `run` or `drain`. */
  // deno-lint-ignore no-explicit-any
  worker(jobs: readonly (Job<any> | Workflow<any, any>)[], options: WorkerOptions = {}): Worker {
    return new Worker(this.#database, jobs, options);
  }

  /**
   * Starts a run of a workflow, and resolves when it is stored; a worker executes it. Its queue, which has the name of the
   * workflow, is made when it is missing. Under one key there is one run: any number of calls resolve to it.
   *
   * @throws {TypeError | RangeError} when the input or an option cannot be stored exactly; nothing was sent.
   * @throws {StateError} when the key is taken for another input, or is taken and `onConflict` is `"reject"`.
   *
   * @example Usage
   * ```ts
   * import { connect, workflow } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * const greet = workflow("greet", (run, name: string) => run.step("greet", () => `Hello, ${name}!`));
   * await using store = await connect("sqlite::memory:");
   * await store.admin.install();
   * const run = await store.start(greet, "Ada", { key: "ada" });
   * assert.equal((await store.start(greet, "Ada", { key: "ada" })).id, run.id);
   * await store.worker([greet]).drain();
   * assert.equal(await run.result(), "Hello, Ada!");
   * ```
   */
  async start<Input, Output>(
    workflow: WorkflowRef<Input, Output>,
    input: Input,
    options: StartOptions = {},
  ): Promise<RunHandle<Output>> {
    const { id } = await startRun(this.#database, workflow, input, options);
    return this.run<Output>(id);
  }

  /**
   * Starts a run, or goes on with the one that has the key, and executes it here and now, without a worker; resolves to its
   * result. While it waits, so does this call; and while somebody else executes it, that one is waited for.
   *
   * @throws as {@linkcode start} and `RunHandle.result` do.
   *
   * @example Usage
   * ```ts
   * import { connect, workflow } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * const greet = workflow("greet", (run, name: string) => run.step("greet", () => `Hello, ${name}!`));
   * await using store = await connect("sqlite::memory:");
   * await store.admin.install();
   * assert.equal(await store.execute(greet, "Ada", { key: "ada" }), "Hello, Ada!");
   * ```
   */
  async execute<Input, Output>(
    workflow: Workflow<Input, Output>,
    input: Input,
    options: Omit<StartOptions, "tx"> = {},
  ): Promise<Output> {
    if (!isWorkflow(workflow)) throw new TypeError("Cannot execute: the first argument must be made by workflow()");
    const { id } = await startRun(this.#database, workflow as WorkflowRef<Input, Output>, input, options);
    await executeRun(this.#database, this.#results, workflow as unknown as Workflow, id, options.signal);
    return await this.run<Output>(id).result(options.signal === undefined ? {} : { signal: options.signal });
  }

  /** A handle of a run. Nothing is sent. */
  run<Output = unknown>(id: number): RunHandle<Output> {
    return new RunHandle<Output>(this.#database, this.admin, this.#results, idOf(id));
  }

  /**
   * Waits until a message has ended, whoever handles it, and resolves to its result: what its handler resolved to, or what
   * `archive` was given; null if that was nothing. Of a message that has ended long ago it tells the same, as long as the
   * archive keeps it. Any number of calls share one statement.
   *
   * @throws {FailedError} when it has become a dead letter, with the reason and the error of its last attempt.
   * @throws {CancelledError} when it was cancelled, or not begun in time.
   * @throws {NotFoundError} when there is no such message, or not any more.
   * @throws {TimeoutError} after `timeoutMs`; the message goes on.
   * @throws {DatabaseError} when the store is closed, or the database has not answered for the store's `timeoutMs`.
   *
   * @example Usage
   * ```ts
   * import { connect, job } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * await using store = await connect("sqlite::memory:");
   * await store.admin.install();
   * await store.admin.createQueue("sums");
   * const message = await store.producer("sums").enqueue([1, 2, 3]);
   * const result = store.result<number>(message, { timeoutMs: 60_000 });
   * await store.worker([job<number[]>("sums", ({ payload }) => payload.reduce((a, b) => a + b))]).drain();
   * assert.equal(await result, 6);
   * ```
   */
  async result<R = unknown>(message: Message<unknown> | number, options: ResultOptions = {}): Promise<R> {
    return await this.#results.wait(idOfMessage(message), options) as R;
  }

  /**
   * Tells how far the job of a message has come, as its handler said last with `context.progress`; null if it said nothing,
   * and when the message has ended.
   */
  async progress<P = unknown>(message: Message<unknown> | number, limits: CallLimits = {}): Promise<P | null> {
    checkOptions("progress", limits, LIMITS);
    const [row] = await this.#database.query(findProgress(idOfMessage(message)), limits);
    const text = row?.[0] ?? null;
    return text === null ? null : decodeJson(String(text)) as P;
  }

  /**
   * Hears of what this store's workers do, in the order in which it happens. The function it returns ends that. What a
   * listener throws or rejects with is only logged.
   *
   * @throws {TypeError} when there is no event of that name.
   *
   * @example Usage
   * ```ts
   * import { connect } from "@pgqrs/pgqrs";
   *
   * await using store = await connect("sqlite::memory:");
   * const stop = store.on("dead", ({ message, reason }) => console.warn(`message ${message.id} has died: ${reason}`));
   * stop();
   * ```
   */
  on<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void {
    return this.#database.events.on(name, listener);
  }

  /**
   * Runs a callback in a transaction that commits when it resolves and is rolled back when it rejects or takes too long.
   * Inside it every call of this store has to be given `{ tx }`; one without it is refused.
   *
   * @throws whatever the callback rejects with.
   * @throws {DatabaseError} when it took too long, was aborted or could not be committed.
   * @throws {StateError} inside another transaction of this store.
   *
   * @example Usage
   * ```ts
   * import { connect } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * await using store = await connect("sqlite::memory:");
   * await store.admin.install();
   * await store.admin.createQueue("mails");
   * await store.transaction(async (tx) => {
   *   await tx.query("create table orders (id integer)");
   *   await tx.query("insert into orders (id) values (?)", [7]);
   *   await store.producer("mails").enqueue({ order: 7 }, { tx });
   * });
   * assert.equal(await store.admin.messages.count({ queue: "mails" }), 1);
   * ```
   */
  async transaction<T>(work: (tx: Transaction) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    checkOptions("transaction", options, LIMITS);
    checkLimits(options);
    const { timeoutMs = this.#database.transactionMs, signal } = options;
    signal?.throwIfAborted();
    return await this.#database.transaction(work, { timeoutMs, ...(signal !== undefined && { signal }) });
  }

  /** Asks the database for its time. */
  async ping(limits: CallLimits = {}): Promise<Pong> {
    checkOptions("ping", limits, LIMITS);
    const begin = performance.now();
    const [row] = await this.#database.query(ping(), limits);
    return { roundTripMs: performance.now() - begin, now: new Date(Number(row?.[0])) };
  }

  /**
   * Closes the connections that this store has opened; a client that was handed in stays open.
   *
   * From now on every call is refused as *not applied*. What is under way ends by itself, each call and transaction within
   * its own deadline, and then the connections are closed; a `dequeue` that waits for messages ends at once without any.
   */
  async close(): Promise<void> {
    await this.#database.close();
  }

  /** The same as `close`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function idOfMessage(message: Message<unknown> | number): number {
  return idOf(typeof message === "number" ? message : message?.id);
}
