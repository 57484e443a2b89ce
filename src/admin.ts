/** Installs and administers. Reading never writes. */
import { ArchiveAdmin, DeadAdmin } from "./admin/archive.ts";
import { examine, type Finding } from "./admin/doctor.ts";
import { MessageAdmin } from "./admin/messages.ts";
import { type CreateQueueOptions, nameOf, QueueAdmin, type QueueInfo, type QueueName } from "./admin/queues.ts";
import {
  install,
  type InstallOptions,
  migrate,
  type MigrateOptions,
  type MigrationStep,
  uninstall,
  verify,
} from "./admin/schema.ts";
import { RunAdmin } from "./admin/runs.ts";
import { WorkerAdmin } from "./admin/workers.ts";
import { type CallLimits, type Database, unknownQueue } from "./database.ts";
import { checkOptions, LIMITS } from "./options.ts";
import { decodeMetrics, type QueueMetrics, reportMetrics } from "./sql/metrics.ts";
import { maintain, type Maintained } from "./worker/maintenance.ts";

/**
 * Installs the tables and administers what is in them.
 *
 * @example Usage
 * ```ts
 * import { connect } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * await store.admin.verify();
 * await store.admin.createQueue("tasks", { maxAttempts: 3 });
 * await store.producer("tasks").enqueue({ n: 1 });
 * assert.equal((await store.admin.metrics("tasks")).ready, 1);
 * ```
 */
export class Admin {
  readonly #database: Database;
  /** Live messages. */
  readonly messages: MessageAdmin;
  /** Messages that have ended. */
  readonly archive: ArchiveAdmin;
  /** Messages that failed for good. */
  readonly dead: DeadAdmin;
  /** Queues. */
  readonly queues: QueueAdmin;
  /** Workers, and whoever else holds leases. */
  readonly workers: WorkerAdmin;
  /** Runs of workflows. */
  readonly runs: RunAdmin;

  /** Made by the store. */
  constructor(database: Database) {
    this.#database = database;
    this.messages = new MessageAdmin(database);
    this.archive = new ArchiveAdmin(database);
    this.dead = new DeadAdmin(database);
    this.queues = new QueueAdmin(database);
    this.workers = new WorkerAdmin(database);
    this.runs = new RunAdmin(database);
  }

  /**
   * Makes the tables, and the schema if it may. Does nothing when they are there; safe when many processes do it at once;
   * a process that is killed in the middle leaves nothing half done.
   *
   * @throws {SchemaError} when the schema holds somebody else's tables, is of a newer release, or when an owner has to run
   * something first, which the message names.
   */
  async install(options: InstallOptions = {}): Promise<void> {
    await install(this.#database, options);
  }

  /** Removes our own tables and functions, with everything in them, and nothing else. Resolves to what was removed. */
  async uninstall(): Promise<string[]> {
    return await uninstall(this.#database);
  }

  /**
   * Compares tables, columns, indexes, constraints and functions with what was installed, and looks for messages whose
   * queue is gone.
   *
   * @throws {SchemaError} naming all that is missing, altered or orphaned.
   */
  async verify(): Promise<void> {
    await verify(this.#database);
  }

  /**
   * Applies the steps of the schema that are pending, or with `print` only says what they are. Resolves to these steps.
   *
   * @throws {SchemaError} as {@linkcode install} does.
   */
  async migrate(options: MigrateOptions = {}): Promise<MigrationStep[]> {
    return await migrate(this.#database, options);
  }

  /** Creates a queue: the same as `queues.create`. @throws {StateError} when there is one of that name. */
  async createQueue(queue: QueueName, options: CreateQueueOptions = {}): Promise<QueueInfo> {
    return await this.queues.create(queue, options);
  }

  /**
   * Deletes now what is kept no longer: ended messages and dead letters by the retention of their queues, keys that hold no
   * more, workers that have died. Workers do the same once a minute, one at a time; this is for those who have none. It works
   * in batches with pauses; when the time of the call is over, or when somebody else begins, it ends after its batch and
   * leaves the rest for the next.
   *
   * @example Usage
   * ```ts
   * import { connect } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * await using store = await connect("sqlite::memory:");
   * await store.admin.install();
   * const { messages, keys, workers, isDone } = await store.admin.maintain();
   * assert.deepEqual([messages, keys, workers, isDone], [0, 0, 0, true]);
   * ```
   */
  async maintain(limits: CallLimits = {}): Promise<Maintained> {
    checkOptions("maintain", limits, LIMITS);
    return await this.#database.call(limits, async ({ isLetIn, deadline, signal }) => {
      const { closing } = this.#database;
      const stop = signal === undefined ? closing : AbortSignal.any([signal, closing]);
      const options = { isForced: true, isLetIn, deadline, signal: stop };
      return await maintain(this.#database, options) ?? { messages: 0, keys: 0, workers: 0, isDone: false };
    });
  }

  /**
   * Looks for what stands in the way of messages: an answer that is slow, clocks that differ, tables that are not as they
   * were installed, queues that are paused or stuck, leases that have run out, dead letters, workers that are not heard of,
   * and of a Postgres server what keeps it from cleaning up or lets it lose what was committed. Only reads.
   *
   * @example Usage
   * ```ts
   * import { connect } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * await using store = await connect("sqlite::memory:");
   * await store.admin.install();
   * const findings = await store.admin.doctor();
   * assert.ok(findings.every(({ level }) => level === "ok"));
   * ```
   */
  async doctor(limits: CallLimits = {}): Promise<Finding[]> {
    checkOptions("doctor", limits, LIMITS);
    return await examine(this.#database, limits);
  }

  /** Counts the messages of a queue by state. @throws {NotFoundError} */
  metrics(queue: QueueName, limits?: CallLimits): Promise<QueueMetrics>;
  /** Counts the messages of every queue by state, in the order of their names. */
  metrics(queue?: undefined, limits?: CallLimits): Promise<QueueMetrics[]>;
  /** Counts messages by state. */
  async metrics(queue?: QueueName, limits: CallLimits = {}): Promise<QueueMetrics | QueueMetrics[]> {
    checkOptions("metrics", limits, LIMITS);
    const name = queue === undefined ? undefined : nameOf(queue);
    const rows = await this.#database.query(reportMetrics(name), { ...limits, isLong: true });
    const metrics = rows.map(decodeMetrics);
    if (name === undefined) return metrics;
    if (metrics[0] === undefined) throw unknownQueue(name);
    return metrics[0];
  }
}
