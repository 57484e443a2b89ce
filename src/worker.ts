/** Runs jobs: claims, handles, settles, until it is told to stop. */
import type { Database } from "./database.ts";
import { StateError } from "./errors.ts";
import type { Job } from "./job.ts";
import { checkBoolean, checkInteger, checkLimits, checkName, checkOptions, checkTimeout } from "./options.ts";
import { runJob } from "./run/run_job.ts";
import { Shift } from "./worker/shift.ts";
import { isWorkflow, type Workflow } from "./workflow.ts";

/** Options of `store.worker`. */
export interface WorkerOptions {
  /** A name for whoever looks at workers, leases and the archive. @default "worker" */
  readonly name?: string;
  /** How many handlers may run at once in all jobs together. @default no limit beside those of the jobs */
  readonly concurrency?: number;
  /** How often to look for work of which no hint came, in milliseconds. @default the store's `pollIntervalMs` (250) */
  readonly pollIntervalMs?: number;
  /**
   * How long handlers may go on after the worker was told to stop, in milliseconds. After it they are aborted and their
   * messages given back, without a failure being counted. @default 30000
   */
  readonly stopTimeoutMs?: number;
  /** Whether this worker takes its turn in deleting what is kept no longer. @default true */
  readonly maintenance?: boolean;
}

/** Options of `worker.run` and `worker.drain`. */
export interface RunOptions {
  /** Stops the worker when aborted; that is no error. */
  readonly signal?: AbortSignal;
}

/** What `worker.drain` has done. */
export interface Drained {
  /** How many messages have ended as succeeded. */
  readonly completed: number;
  /** How many attempts have failed. */
  readonly failed: number;
  /** How many messages have become dead letters. */
  readonly dead: number;
}

/** How a worker is. */
export interface WorkerHealth {
  /** Its name. */
  readonly name: string;
  /** What it does: `running` while it has something to do, `stopped` before `run` or `drain` and after it. */
  readonly state: "idle" | "paused" | "running" | "stopped" | "stopping";
  /** How many messages are being handled. */
  readonly running: number;
  /** How many messages it holds that are not begun yet. */
  readonly waiting: number;
  /** Of how many messages the handlers go on although they were aborted or took too long. */
  readonly overdue: number;
  /** How many messages it has ended as succeeded since it began. */
  readonly completed: number;
  /** How many attempts have failed since it began. */
  readonly failed: number;
  /** How many messages have become dead letters here since it began. */
  readonly dead: number;
  /** When the database answered last; null before it did. */
  readonly lastAnswerAt: Date | null;
  /** Since when the database has not answered; null while it does. */
  readonly failingSince: Date | null;
  /** Whether hints of other processes arrive, so that it need not wait for the next look. */
  readonly isListening: boolean;
}

const OPTIONS: readonly string[] = ["concurrency", "maintenance", "name", "pollIntervalMs", "stopTimeoutMs"];

/**
 * Runs jobs.
 *
 * It never stops by itself: while the database cannot be reached it tries again, and what handlers do wrong ends their
 * message and nothing else. Any number of workers may serve a queue.
 *
 * @example Usage
 * ```ts
 * import { connect, job } from "@pgqrs/pgqrs";
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * const worker = store.worker([job("tasks", (message) => console.log(message.payload))], { name: "host-1" });
 * await worker.run({ signal: AbortSignal.timeout(100) });
 * ```
 */
export class Worker {
  readonly #database: Database;
  readonly #jobs: readonly Job[];
  readonly #options: WorkerOptions;
  /** What it does or did last. */
  #shift: Shift;
  #isWorking = false;

  /** Made by `store.worker`. */
  constructor(database: Database, given: readonly (Job | Workflow)[], options: WorkerOptions = {}) {
    checkOptions("worker", options, OPTIONS);
    const { name = "worker", concurrency, pollIntervalMs, stopTimeoutMs, maintenance } = options;
    checkName("the name of a worker", name, 200);
    if (concurrency !== undefined) checkInteger("concurrency", concurrency, 1, 100_000);
    if (pollIntervalMs !== undefined) checkTimeout("pollIntervalMs", pollIntervalMs);
    if (stopTimeoutMs !== undefined) checkTimeout("stopTimeoutMs", stopTimeoutMs, 0);
    if (maintenance !== undefined) checkBoolean("maintenance", maintenance);
    if (!Array.isArray(given) || given.length === 0) {
      throw new TypeError("Cannot make a worker: give it a list of jobs");
    }
    const jobs = given.map((one) => isWorkflow(one) ? runJob(one) : one);
    const names = jobs.map((one: Job) => one?.queue?.name);
    const twice = names.find((one, i) => names.indexOf(one) !== i);
    if (names.includes(undefined as never)) throw new TypeError("Cannot make a worker: jobs are made by job()");
    if (twice !== undefined) {
      throw new TypeError(`Cannot make a worker: two jobs serve the queue ${JSON.stringify(twice)}`);
    }
    this.#database = database;
    this.#jobs = jobs;
    this.#options = options;
    this.#shift = new Shift(database, name, options);
  }

  /** The name that is recorded as `worker` and as `archivedBy`. */
  get name(): string {
    return this.#options.name ?? "worker";
  }

  /**
   * Works until the signal is aborted or the store is closed. Then nothing new is begun, what was claimed and not
   * begun is given back, handlers have `stopTimeoutMs` to end, and everything they have done is stored before this
   * resolves.
   *
   * @throws {SchemaError} when pgqrs is not installed.
   * @throws {StateError} when this worker runs already.
   */
  async run(options: RunOptions = {}): Promise<void> {
    checkOptions("run", options, ["signal"]);
    checkLimits(options);
    await this.#work(options.signal, false);
  }

  /**
   * Works until nothing is left that is due and may be claimed, and tells what was done. Messages that are delayed, also
   * those that wait for another attempt, stay; so do those of a queue of which others hold as many as its `concurrency` lets
   * anybody lease.
   *
   * @throws {SchemaError} when pgqrs is not installed.
   * @throws {StateError} when this worker runs already.
   */
  async drain(options: RunOptions = {}): Promise<Drained> {
    checkOptions("drain", options, ["signal"]);
    checkLimits(options);
    const { completed, failed, dead } = await this.#work(options.signal, true);
    return { completed, failed, dead };
  }

  /**
   * Tells how the worker is, without asking the database. After it has stopped it tells how it was at the end.
   *
   * @example Usage
   * ```ts
   * import { connect, job } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * await using store = await connect("sqlite::memory:");
   * await store.admin.install();
   * const worker = store.worker([job("tasks", () => {})]);
   * const stop = new AbortController();
   * const running = worker.run({ signal: stop.signal });
   * assert.equal(worker.health().failingSince, null);
   * stop.abort();
   * await running;
   * assert.equal(worker.health().state, "stopped");
   * ```
   */
  health(): WorkerHealth {
    const health = this.#shift.health();
    return this.#isWorking ? health : { ...health, state: "stopped" };
  }

  async #work(signal: AbortSignal | undefined, isDraining: boolean): Promise<WorkerHealth> {
    if (this.#isWorking) throw new StateError(`Cannot run worker ${this.name}: it is running already`);
    this.#isWorking = true;
    this.#shift = new Shift(this.#database, this.name, this.#options);
    try {
      await this.#shift.work(this.#jobs, signal, isDraining);
      return this.#shift.health();
    } finally {
      this.#isWorking = false;
    }
  }
}
