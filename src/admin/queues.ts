/** Queues: create, look at, change, delete. */
import { type CallLimits, type Database, partlyApplied, unknownQueue } from "../database.ts";
import { StateError } from "../errors.ts";
import { checkBoolean, checkDuration, checkInteger, checkOptions, LIMITS } from "../options.ts";
import { type Queue, resolveQueue } from "../queue.ts";
import { type Backoff, resolveBackoff } from "../retry.ts";
import { createQueue, deleteQueue, listQueues, purgeQueue, type QueueSettings, updateQueue } from "../sql/queues.ts";
import { decodeQueue, type QueueRecord } from "../sql/record.ts";
import { CONTROL, hintOf } from "../wake.ts";

/** Settings of a queue. */
export interface QueueOptions {
  /** For how long messages are leased unless the call says so, in milliseconds. Null: what the store says. @default null */
  readonly leaseMs?: number | null;
  /** After how many failed attempts a message becomes a dead letter. @default the store's `maxAttempts` (5) */
  readonly maxAttempts?: number;
  /** After how many leases that ran out unreported a message becomes a dead letter. @default 10 */
  readonly maxCrashes?: number;
  /** The pause after a failed attempt. @default exponential from 1 s to 60 s with a quarter left to chance */
  readonly backoff?: Backoff;
  /** For how long ended messages are kept, dead letters apart, in milliseconds. Null: for ever. @default 30 days */
  readonly retentionMs?: number | null;
  /**
   * For how long dead letters are kept, in milliseconds. Null: for ever.
   *
   * @default `retentionMs`; an update of that changes this too, as long as both are the same
   */
  readonly deadRetentionMs?: number | null;
  /**
   * How many messages may be leased at once by all workers and consumers together. It is counted from the leases, so that
   * whoever crashes keeps its places no longer than its leases last. Null: any number. @default null
   */
  readonly concurrency?: number | null;
  /** Whether deliveries are stopped. @default false */
  readonly paused?: boolean;
}

/** Options of `createQueue`. */
export interface CreateQueueOptions extends QueueOptions, CallLimits {
  /** Resolves to a queue of that name that is there already, as it is, instead of failing. @default false */
  readonly ifMissing?: boolean;
}

/** A queue and its settings. */
export interface QueueInfo {
  /** The name. */
  readonly name: string;
  /** When it was created. */
  readonly createdAt: Date;
  /** When its settings were changed last. */
  readonly updatedAt: Date;
  /** Since when deliveries are stopped; null while they are not. */
  readonly pausedAt: Date | null;
  /** For how long messages are leased unless the call says so, in milliseconds; null: what the store says. */
  readonly leaseMs: number | null;
  /** After how many failed attempts a message becomes a dead letter. */
  readonly maxAttempts: number;
  /** After how many leases that ran out unreported a message becomes a dead letter. */
  readonly maxCrashes: number;
  /** The pause after a failed attempt. */
  readonly backoff: Required<Backoff>;
  /** For how long ended messages are kept, in milliseconds; null: for ever. */
  readonly retentionMs: number | null;
  /** For how long dead letters are kept, in milliseconds; null: for ever. */
  readonly deadRetentionMs: number | null;
  /** How many messages may be leased at once by all workers and consumers together; null: any number. */
  readonly concurrency: number | null;
  /** Whether its messages are the runs of a workflow. */
  readonly isWorkflow: boolean;
}

/** What a queue is called. */
export type QueueName = Queue<never> | Queue<unknown> | string;

const SETTINGS: readonly string[] = [
  "backoff",
  "concurrency",
  "deadRetentionMs",
  "leaseMs",
  "maxAttempts",
  "maxCrashes",
  "paused",
  "retentionMs",
];
const MONTH_MS = 2_592_000_000;
const MAX_CRASHES = 10;

/** Administers queues. */
export class QueueAdmin {
  readonly #database: Database;

  /** Made by the store. */
  constructor(database: Database) {
    this.#database = database;
  }

  /** Creates a queue. @throws {StateError} when there is one of that name, unless `ifMissing` is set. */
  async create(queue: QueueName, options: CreateQueueOptions = {}): Promise<QueueInfo> {
    checkOptions("createQueue", options, [...SETTINGS, ...LIMITS, "ifMissing"]);
    const name = nameOf(queue);
    const {
      ifMissing = false,
      leaseMs = null,
      maxAttempts = this.#database.settings.maxAttempts,
      maxCrashes = MAX_CRASHES,
      backoff = {},
      retentionMs = MONTH_MS,
      deadRetentionMs = retentionMs,
      concurrency = null,
      paused = false,
      ...limits
    } = options;
    checkBoolean("ifMissing", ifMissing);
    const settings = encodeSettings({
      leaseMs,
      maxAttempts,
      maxCrashes,
      backoff,
      retentionMs,
      deadRetentionMs,
      concurrency,
      paused,
    });
    return await this.#database.call(limits, async (call) => {
      const [row] = await this.#database.query(createQueue(name, settings), call);
      this.#database.forgetQueue(name);
      if (row !== undefined) return toInfo(decodeQueue(row));
      if (ifMissing) return toInfo(await this.#database.queueNamed(name, call));
      throw new StateError(`Cannot create queue ${JSON.stringify(name)}: it exists`, {
        from: "existing",
        to: "existing",
      });
    });
  }

  /** Reads a queue. @throws {NotFoundError} */
  async get(queue: QueueName, limits: CallLimits = {}): Promise<QueueInfo> {
    checkOptions("queues.get", limits, LIMITS);
    const name = nameOf(queue);
    this.#database.forgetQueue(name);
    return toInfo(await this.#database.queueNamed(name, limits));
  }

  /** Lists all queues by name. */
  async list(limits: CallLimits = {}): Promise<QueueInfo[]> {
    checkOptions("queues.list", limits, LIMITS);
    return (await this.#database.query(listQueues(), limits)).map((row) => toInfo(decodeQueue(row)));
  }

  /** Changes settings. Limits of attempts hold for messages that are on the queue from their next delivery on. @throws {NotFoundError} */
  async update(queue: QueueName, options: QueueOptions, limits: CallLimits = {}): Promise<QueueInfo> {
    checkOptions("updateQueue", options, SETTINGS);
    checkOptions("updateQueue", limits, LIMITS);
    return await this.#update(nameOf(queue), encodeSettings(options), limits);
  }

  /** Stops deliveries; what is leased goes on. @throws {NotFoundError} */
  async pause(queue: QueueName, limits: CallLimits = {}): Promise<QueueInfo> {
    checkOptions("queues.pause", limits, LIMITS);
    return await this.#update(nameOf(queue), { isPaused: true }, limits);
  }

  /** Takes deliveries up again. @throws {NotFoundError} */
  async resume(queue: QueueName, limits: CallLimits = {}): Promise<QueueInfo> {
    checkOptions("queues.resume", limits, LIMITS);
    return await this.#update(nameOf(queue), { isPaused: false }, limits);
  }

  /**
   * Deletes a queue with its archive. One that has live messages is deleted only with `force`, and they with it.
   *
   * @throws {NotFoundError}
   * @throws {StateError} when it is in use.
   */
  async delete(queue: QueueName, options: CallLimits & { readonly force?: boolean } = {}): Promise<void> {
    checkOptions("deleteQueue", options, [...LIMITS, "force"]);
    const name = nameOf(queue);
    const { force = false, ...limits } = options;
    checkBoolean("force", force);
    await this.#database.call(limits, async (call) => {
      const limits = { ...call, isLong: true, hints: force ? [CONTROL] : [] };
      const rows = await this.#database.query(deleteQueue(name, force), limits);
      this.#database.forgetQueue(name);
      if (rows.some(([id]) => Number(id) > 0)) return;
      await this.#database.queueNamed(name, call);
      throw new StateError(`Cannot delete queue ${JSON.stringify(name)}: it has live messages; use { force: true }`, {
        from: "in use",
        to: "deleted",
      });
    });
  }

  /** Deletes the live messages that nobody has leased, with `force` those too. Resolves to how many. */
  async purge(queue: QueueName, options: CallLimits & { readonly force?: boolean } = {}): Promise<number> {
    checkOptions("purgeQueue", options, [...LIMITS, "force"]);
    const name = nameOf(queue);
    const { force = false, ...limits } = options;
    checkBoolean("force", force);
    return await this.#database.call({ ...limits, isLong: true }, async (call) => {
      await this.#database.queueNamed(name, call);
      const { listLimit } = this.#database.target.dialect;
      let count = 0;
      for (;;) {
        const hints = force ? [CONTROL] : [];
        const [row] = await this.#database.query(purgeQueue(name, force), { ...call, hints }).catch((error) => {
          throw count === 0 ? error : partlyApplied(error);
        });
        const purged = Number(row?.[0] ?? 0);
        count += purged;
        if (purged < listLimit) return count;
      }
    });
  }

  async #update(name: string, settings: QueueSettings, limits: CallLimits): Promise<QueueInfo> {
    const hints = settings.isPaused === true ? [] : [hintOf(name)];
    const [row] = await this.#database.query(updateQueue(name, settings), { ...limits, hints });
    this.#database.forgetQueue(name);
    if (row === undefined) throw unknownQueue(name);
    return toInfo(decodeQueue(row));
  }
}

/** The name of a queue. @throws {TypeError | RangeError} */
export function nameOf(queue: QueueName): string {
  return resolveQueue(queue as string).name;
}

function encodeSettings(
  { leaseMs, maxAttempts, maxCrashes, backoff, retentionMs, deadRetentionMs, concurrency, paused }: QueueOptions,
): QueueSettings {
  if (leaseMs !== undefined && leaseMs !== null) checkDuration("leaseMs", leaseMs, 1);
  if (maxAttempts !== undefined) checkInteger("maxAttempts", maxAttempts, 1, 10_000);
  if (maxCrashes !== undefined) checkInteger("maxCrashes", maxCrashes, 1, 10_000);
  if (retentionMs !== undefined && retentionMs !== null) checkDuration("retentionMs", retentionMs);
  if (deadRetentionMs !== undefined && deadRetentionMs !== null) checkDuration("deadRetentionMs", deadRetentionMs);
  if (concurrency !== undefined && concurrency !== null) checkInteger("concurrency", concurrency, 1, 100_000);
  if (backoff !== undefined) checkOptions("backoff", backoff, ["baseMs", "jitter", "kind", "maxMs"]);
  if (paused !== undefined) checkBoolean("paused", paused);
  return {
    leaseMs,
    maxAttempts,
    maxCrashes,
    backoff: backoff === undefined ? undefined : JSON.stringify(resolveBackoff(backoff)),
    retentionMs,
    deadRetentionMs,
    concurrency,
    isPaused: paused,
  };
}

function toInfo({ id: _, backoff, ...rest }: QueueRecord): QueueInfo {
  return { ...rest, backoff: resolveBackoff(backoff as Backoff) };
}
