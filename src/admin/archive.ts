/** Messages that have ended, and among them the dead letters. */
import { type CallLimits, type Database, partlyApplied, type QueryLimits } from "../database.ts";
import { type ArchivedMessage, toArchivedMessage } from "../message.ts";
import { checkBoolean, checkInteger, checkOptions, checkTexts, idOf, instantOf, LIMITS } from "../options.ts";
import {
  type ArchiveFilter,
  countArchived,
  findArchived,
  listArchived,
  purgeArchived,
  replayArchived,
} from "../sql/archive.ts";
import { decodePurgedKeys, type KeyPlace, purgeKeys } from "../sql/maintenance.ts";
import { listQueues } from "../sql/queues.ts";
import { decodeArchived, decodeQueue } from "../sql/record.ts";
import { type Page, PAGE_OPTIONS, pageLimit, type PageOptions, parseCursor, toPage } from "./page.ts";
import { nameOf, type QueueName } from "./queues.ts";
import { ANY } from "../wake.ts";

/** Which dead letters are meant. */
export interface DeadQuery {
  /** Only those of this queue. */
  readonly queue?: QueueName;
  /** Only those that ended for this reason. */
  readonly reason?: string;
  /** Only those whose header `type` is this. */
  readonly type?: string;
  /** Only the one with this key. */
  readonly key?: string;
  /** Only those that this consumer, worker or operator ended. */
  readonly worker?: string;
  /** Only those that ended at this instant or later. */
  readonly since?: Date;
  /** Only those that ended before this instant. */
  readonly before?: Date;
}

/** Which ended messages are meant. */
export interface ArchiveQuery extends DeadQuery {
  /** Only those that ended so. */
  readonly outcome?: "cancelled" | "failed" | "succeeded";
}

/** Which page of the ended messages is meant. */
export interface ArchivePageOptions extends PageOptions {
  /** How many to pass over; a `cursor` is faster for all but the first pages. @default 0 */
  readonly offset?: number;
}

/** Options of `purge`. */
export interface PurgeOptions extends CallLimits {
  /** Only those that were kept longer than their queue's retention says. @default false */
  readonly expired?: boolean;
}

const DEAD_QUERY: readonly string[] = ["before", "key", "queue", "reason", "since", "type", "worker"];
const QUERY: readonly string[] = [...DEAD_QUERY, "outcome"];
const OUTCOMES: readonly string[] = ["cancelled", "failed", "succeeded"];
/** How many rows one statement deletes or brings back, so that none holds its locks for long. */
const BATCH = 1_000;

/** Looks at ended messages and clears them away. */
export class ArchiveAdmin {
  readonly #database: Database;

  /** Made by the store. */
  constructor(database: Database) {
    this.#database = database;
  }

  /** Reads an ended message; null when there is none of that id. */
  async get<T = unknown>(id: number, limits: CallLimits = {}): Promise<ArchivedMessage<T> | null> {
    checkOptions("archive.get", limits, LIMITS);
    const [row] = await this.#database.query(findArchived(idOf(id)), limits);
    return row === undefined ? null : toArchivedMessage<T>(decodeArchived(row));
  }

  /** Lists ended messages, the last ended first. */
  async list<T = unknown>(options: ArchiveQuery & ArchivePageOptions = {}): Promise<Page<ArchivedMessage<T>>> {
    checkOptions("archive.list", options, [...QUERY, ...PAGE_OPTIONS, "offset"]);
    const { offset = 0, cursor } = options;
    const limit = pageLimit(options.limit, this.#database);
    checkInteger("offset", offset, 0, Number.MAX_SAFE_INTEGER);
    const [archivedAt = 0, id = 0] = parseCursor(cursor, 2) ?? [];
    const after = cursor === undefined ? undefined : { archivedAt, id };
    const statement = listArchived(archiveFilter(options), { limit: limit + 1, offset, after });
    const rows = await this.#database.query(statement, options);
    return toPage(
      rows.map((row) => toArchivedMessage<T>(decodeArchived(row))),
      limit,
      (last) => `${last.archivedAt.getTime()}.${last.id}`,
    );
  }

  /** Counts ended messages. */
  async count(options: ArchiveQuery & CallLimits = {}): Promise<number> {
    checkOptions("archive.count", options, [...QUERY, ...LIMITS]);
    const [row] = await this.#database.query(countArchived(archiveFilter(options)), options);
    return Number(row?.[0] ?? 0);
  }

  /** Deletes ended messages in batches, with `expired` also the keys that hold no more. Resolves to how many messages. */
  async purge(options: ArchiveQuery & PurgeOptions = {}): Promise<number> {
    checkOptions("archive.purge", options, [...QUERY, ...LIMITS, "expired"]);
    const { expired = false } = options;
    checkBoolean("expired", expired);
    const filter = { ...archiveFilter(options), isExpired: expired };
    return await this.#database.call(options, (call) => this.#purge(filter, call));
  }

  async #purge(filter: ArchiveFilter & { readonly isExpired: boolean }, limits: QueryLimits): Promise<number> {
    // Queue by queue: the index that tells what ended first begins with the queue.
    const queues = filter.queue === undefined ? await this.#queueNames(limits) : [filter.queue];
    let count = 0;
    try {
      for (const queue of queues) {
        for await (const purged of this.#purgeQueue({ ...filter, queue }, limits)) count += purged;
      }
      if (filter.isExpired) await this.#purgeKeys(filter.queue, limits);
      return count;
    } catch (error) {
      throw count === 0 ? error : partlyApplied(error);
    }
  }

  async #queueNames(limits: QueryLimits): Promise<string[]> {
    return (await this.#database.query(listQueues(), limits)).map((row) => decodeQueue(row).name);
  }

  async *#purgeQueue(filter: ArchiveFilter, limits: QueryLimits): AsyncGenerator<number> {
    for (let purged = BATCH; purged === BATCH;) {
      const [row] = await this.#database.query(purgeArchived(filter, BATCH), limits);
      purged = Number(row?.[0] ?? 0);
      yield purged;
    }
  }

  async #purgeKeys(queue: string | undefined, limits: QueryLimits): Promise<void> {
    let after: KeyPlace | null = null;
    do {
      after = decodePurgedKeys(await this.#database.query(purgeKeys(queue, BATCH, after), limits)).last;
    } while (after !== null);
  }

  /**
   * Brings an ended message back as ready, under its id and with all its attempts before it, however it ended. False: there
   * is no ended message of that id.
   */
  async replay(id: number, limits: CallLimits = {}): Promise<boolean> {
    checkOptions("archive.replay", limits, LIMITS);
    return (await this.#database.query(replayArchived({ ids: [idOf(id)] }, 1), { ...limits, hints: [ANY] })).length > 0;
  }
}

/** Looks at dead letters (messages that failed for good) and brings them back. */
export class DeadAdmin {
  readonly #database: Database;
  readonly #archive: ArchiveAdmin;

  /** Made by the store. */
  constructor(database: Database) {
    this.#database = database;
    this.#archive = new ArchiveAdmin(database);
  }

  /** Lists dead letters, the last first. */
  async list<T = unknown>(options: ArchivePageOptions & DeadQuery = {}): Promise<Page<ArchivedMessage<T>>> {
    checkOptions("dead.list", options, [...DEAD_QUERY, ...PAGE_OPTIONS, "offset"]);
    return await this.#archive.list<T>({ ...options, outcome: "failed" });
  }

  /** Counts dead letters. */
  async count(options: CallLimits & DeadQuery = {}): Promise<number> {
    checkOptions("dead.count", options, [...DEAD_QUERY, ...LIMITS]);
    return await this.#archive.count({ ...options, outcome: "failed" });
  }

  /**
   * Brings dead letters back as ready, under their ids and with all their attempts before them: one by its id, several by
   * theirs, or all that match. Resolves to the ids.
   */
  async replay(which: DeadQuery | number | readonly number[], limits: CallLimits = {}): Promise<number[]> {
    checkOptions("dead.replay", limits, LIMITS);
    if (typeof which === "number" || Array.isArray(which)) {
      const ids = [which].flat().map(idOf);
      return ids.length === 0 ? [] : await this.#replay({ ids }, ids.length, limits);
    }
    checkOptions("dead.replay", which, DEAD_QUERY);
    const filter = archiveFilter(which as DeadQuery);
    return await this.#database.call(limits, (call) => this.#replayAll(filter, call));
  }

  /** Deletes dead letters in batches. Resolves to how many. */
  async purge(options: DeadQuery & PurgeOptions = {}): Promise<number> {
    checkOptions("dead.purge", options, [...DEAD_QUERY, ...LIMITS, "expired"]);
    return await this.#archive.purge({ ...options, outcome: "failed" });
  }

  async #replayAll(filter: ArchiveFilter, call: QueryLimits): Promise<number[]> {
    // What failed after this call began is not for it: otherwise a message that fails at once would go in circles.
    const [row] = await this.#database.query(countArchived({ ...filter, outcome: "failed" }), call);
    const count = Number(row?.[0] ?? 0);
    const replayed: number[] = [];
    while (replayed.length < count) {
      const ids = await this.#replay(filter, Math.min(BATCH, count - replayed.length), call).catch((error) => {
        throw replayed.length === 0 ? error : partlyApplied(error);
      });
      if (ids.length === 0) break;
      replayed.push(...ids);
    }
    return replayed;
  }

  async #replay(filter: Parameters<typeof replayArchived>[0], limit: number, limits: QueryLimits): Promise<number[]> {
    const replay = replayArchived({ ...filter, outcome: "failed" }, limit);
    const rows = await this.#database.query(replay, { ...limits, hints: [ANY] });
    return rows.map(([id]) => Number(id)).sort((a, b) => a - b);
  }
}

function archiveFilter({ queue, outcome, reason, type, key, worker, since, before }: ArchiveQuery): ArchiveFilter {
  if (outcome !== undefined && !OUTCOMES.includes(outcome)) {
    throw new TypeError(`Cannot use outcome: it must be one of ${OUTCOMES.join(", ")}`);
  }
  checkTexts({ reason, type, key, worker });
  return {
    queue: queue === undefined ? undefined : nameOf(queue),
    outcome,
    reason,
    type,
    key,
    worker,
    since: since === undefined ? undefined : instantOf("since", since),
    before: before === undefined ? undefined : instantOf("before", before),
  };
}
