/** Workers, and whoever else holds leases. */
import { type CallLimits, type Database, partlyApplied } from "../database.ts";
import { NotFoundError } from "../errors.ts";
import { checkDuration, checkName, checkOptions, LIMITS } from "../options.ts";
import { forgetWorkers } from "../sql/maintenance.ts";
import { releaseHeld } from "../sql/messages.ts";
import { decodeWorker, listWorkers, pauseWorkers, type WorkerRecord } from "../sql/workers.ts";
import { ANY, CONTROL } from "../wake.ts";

/** A worker, or a consumer that holds leases. */
export interface WorkerInfo {
  /** Its name. Two of one name are listed apart. */
  readonly name: string;
  /** What it is: a worker is listed from its start to its stop, a consumer as long as it holds leases. */
  readonly kind: "consumer" | "worker";
  /** The queues that it serves; of a consumer those from which it has leased something. */
  readonly queues: readonly string[];
  /** When it began; null for a consumer. */
  readonly startedAt: Date | null;
  /** When it was heard of last: a worker tells once a minute that it is there. Null for a consumer. */
  readonly seenAt: Date | null;
  /** Since when it is paused; null while it is not. */
  readonly pausedAt: Date | null;
  /** How many messages it has leased. */
  readonly leased: number;
  /** How many of these leases have run out: it has crashed, or is late. */
  readonly expired: number;
  /** Since when it has held the oldest of them; null without any. */
  readonly leasedSince: Date | null;
  /** When the last of them ends; null without any. */
  readonly leaseUntil: Date | null;
}

/** How many workers and consumers there are. */
export interface WorkerStats {
  /** Workers that are registered, paused and unseen ones among them. */
  readonly workers: number;
  /** Workers that are paused. */
  readonly paused: number;
  /** Workers that were not heard of for three minutes: they have crashed, or cannot reach the database. */
  readonly unseen: number;
  /** Consumers that hold leases. */
  readonly consumers: number;
  /** Messages that workers and consumers have leased. */
  readonly leased: number;
  /** Leases that have run out. */
  readonly expired: number;
}

/** Options of `workers.purge`. */
export interface PurgeWorkersOptions extends CallLimits {
  /** For how long they have not been heard of, in milliseconds. @default 180000 */
  readonly unseenMs?: number;
}

/** A worker tells once a minute that it is there; two such calls may be lost. */
const UNSEEN_MS = 180_000;
const BATCH = 1_000;

/** Looks at workers, pauses them and takes their leases away. */
export class WorkerAdmin {
  readonly #database: Database;

  /** Made by the store. */
  constructor(database: Database) {
    this.#database = database;
  }

  /** Lists the workers that are registered, and the consumers that hold leases, by name. */
  async list(limits: CallLimits = {}): Promise<WorkerInfo[]> {
    checkOptions("workers.list", limits, LIMITS);
    return await this.#list(undefined, limits);
  }

  /** Reads all workers and consumers of a name. @throws {NotFoundError} when there is none. */
  async get(name: string, limits: CallLimits = {}): Promise<WorkerInfo[]> {
    checkWorkerName(name);
    checkOptions("workers.get", limits, LIMITS);
    const list = await this.#list(name, limits);
    if (list.length === 0) throw unknownWorker(name);
    return list;
  }

  /** Counts workers and consumers. */
  async stats(limits: CallLimits = {}): Promise<WorkerStats> {
    checkOptions("workers.stats", limits, LIMITS);
    const rows = (await this.#database.query(listWorkers(), limits)).map(decodeWorker);
    const count = (isMeant: (row: WorkerRecord) => boolean): number => rows.filter(isMeant).length;
    return {
      workers: count(({ startedAt }) => startedAt !== null),
      paused: count(({ pausedAt }) => pausedAt !== null),
      unseen: count(({ unseenMs }) => unseenMs !== null && unseenMs > UNSEEN_MS),
      consumers: count(({ startedAt }) => startedAt === null),
      leased: rows.reduce((sum, { leased }) => sum + leased, 0),
      expired: rows.reduce((sum, { expired }) => sum + expired, 0),
    };
  }

  /**
   * Pauses all workers of a name: they begin nothing more, give back what they have not begun, and let handlers that run
   * come to their end. Holds until they are resumed or stop; one that is started later under the name is not paused.
   *
   * @throws {NotFoundError} when no worker of that name is registered.
   */
  async pause(name: string, limits: CallLimits = {}): Promise<WorkerInfo[]> {
    checkOptions("workers.pause", limits, LIMITS);
    return await this.#pause(name, true, limits);
  }

  /** Lets all workers of a name go on. @throws {NotFoundError} when no worker of that name is registered. */
  async resume(name: string, limits: CallLimits = {}): Promise<WorkerInfo[]> {
    checkOptions("workers.resume", limits, LIMITS);
    return await this.#pause(name, false, limits);
  }

  /** Takes all leases of a name away, so that its messages can be claimed at once. Resolves to their ids. */
  async release(name: string, limits: CallLimits = {}): Promise<number[]> {
    checkWorkerName(name);
    checkOptions("workers.release", limits, LIMITS);
    const rows = await this.#database.query(releaseHeld(name), { ...limits, hints: [CONTROL, ANY] });
    return rows.map(([id]) => Number(id)).sort((a, b) => a - b);
  }

  /**
   * Forgets workers that were not heard of for some time and hold no leases; one that is paused is remembered for a day.
   * Workers do that by themselves as well. Resolves to how many.
   */
  async purge(options: PurgeWorkersOptions = {}): Promise<number> {
    checkOptions("workers.purge", options, [...LIMITS, "unseenMs"]);
    const { unseenMs = UNSEEN_MS, ...limits } = options;
    checkDuration("unseenMs", unseenMs);
    return await this.#database.call({ ...limits, isLong: true }, async (call) => {
      for (let count = 0;;) {
        const rows = await this.#database.query(forgetWorkers(unseenMs, BATCH), call).catch((error) => {
          throw count === 0 ? error : partlyApplied(error);
        });
        const gone = Number(rows.at(-1)?.[0] ?? 0);
        count += gone;
        if (gone < BATCH) return count;
      }
    });
  }

  async #list(name: string | undefined, limits: CallLimits): Promise<WorkerInfo[]> {
    const list = (await this.#database.query(listWorkers(name), limits)).map(decodeWorker).map(toInfo);
    // Alike whatever the collation of the database.
    return list.sort((a, b) => order(a.name, b.name) || Number(a.startedAt) - Number(b.startedAt));
  }

  async #pause(name: string, isPaused: boolean, limits: CallLimits): Promise<WorkerInfo[]> {
    checkWorkerName(name);
    return await this.#database.call(limits, async (call) => {
      const change = pauseWorkers(name, isPaused, this.#database.hintText(CONTROL));
      const rows = await this.#database.query(change, { ...call, hints: [CONTROL] });
      if (rows.length === 0) throw unknownWorker(name);
      return (await this.#list(name, call)).filter(({ kind }) => kind === "worker");
    });
  }
}

function checkWorkerName(name: string): void {
  checkName("the name of a worker", name, 200);
}

function unknownWorker(name: string): NotFoundError {
  return new NotFoundError(`Worker ${JSON.stringify(name)} is not there: store.admin.workers.list() tells who is`);
}

function toInfo({ unseenMs: _, ...record }: WorkerRecord): WorkerInfo {
  return { ...record, kind: record.startedAt === null ? "consumer" : "worker" };
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
