/** Who holds leases. */
import type { CallLimits, Database } from "../database.ts";
import { workerOf } from "../message.ts";
import { checkName, checkOptions, LIMITS } from "../options.ts";
import { releaseHeld } from "../sql/messages.ts";
import { listHolders } from "../sql/metrics.ts";

/** A consumer or worker that holds leases on one queue. */
export interface WorkerInfo {
  /** Its name. Two of one name are listed apart. */
  readonly name: string;
  /** The queue. */
  readonly queue: string;
  /** How many messages it has leased. */
  readonly leased: number;
  /** How many of these leases have run out: it has crashed, or is late. */
  readonly expired: number;
  /** Since when it has held the oldest of them. */
  readonly leasedSince: Date;
  /** When the last of them ends. */
  readonly leaseUntil: Date;
}

/** Looks at workers and takes their leases away. */
export class WorkerAdmin {
  readonly #database: Database;

  /** Made by the store. */
  constructor(database: Database) {
    this.#database = database;
  }

  /** Lists who holds leases, by name and queue. */
  async list(limits: CallLimits = {}): Promise<WorkerInfo[]> {
    checkOptions("workers.list", limits, LIMITS);
    const rows = await this.#database.query(listHolders(), limits);
    const list = rows.map((row) => ({
      name: workerOf(String(row[0])) ?? "",
      queue: String(row[1]),
      leased: Number(row[2]),
      leasedSince: new Date(Number(row[3])),
      leaseUntil: new Date(Number(row[4])),
      expired: Number(row[5]),
    }));
    // By the name without its random part, and alike whatever the collation of the database.
    return list.sort((a, b) => order(a.name, b.name) || order(a.queue, b.queue));
  }

  /** Takes all leases of a name away, so that its messages can be claimed at once. Resolves to their ids. */
  async release(name: string, limits: CallLimits = {}): Promise<number[]> {
    checkName("the name of a worker", name, 200);
    checkOptions("workers.release", limits, LIMITS);
    const rows = await this.#database.query(releaseHeld(name), limits);
    return rows.map(([id]) => Number(id)).sort((a, b) => a - b);
  }
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
