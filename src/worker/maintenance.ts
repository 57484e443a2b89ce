/**
 * Deletes what is kept no longer. Workers take turns: one at a time over the whole database, whoever finds that it is time.
 *
 * A round goes through the database in batches, with pauses in which the work goes on. Nothing depends on its end: what a
 * round that was cut short has left is found by the next.
 */
import { type Database, partlyApplied } from "../database.ts";
import { DatabaseError } from "../errors.ts";
import type { Row } from "../sql/driver.ts";
import {
  decodeCount,
  decodePurgedEnded,
  decodePurgedKeys,
  decodeTurn,
  type EndedPlace,
  findOverdue,
  forgetWorkers,
  giveTurnBack,
  keepTurn,
  notePurged,
  type Purged,
  purgeDead,
  purgeEnded,
  purgeKeys,
  takeTurn,
  type Turn,
} from "../sql/maintenance.ts";
import type { Statement } from "../sql/sql.ts";
import { pause } from "../turn.ts";

/** What a round has done. */
export interface Maintained {
  /** How many ended messages were deleted, dead letters among them. */
  readonly messages: number;
  /** How many keys were deleted that held no more. */
  readonly keys: number;
  /** How many workers were forgotten that had died. */
  readonly workers: number;
  /** Whether it came to its end. */
  readonly isDone: boolean;
}

/** How a round is to be done. */
export interface RoundOptions {
  /** Whether to begin although it is not due, and even if somebody else is at it: that one then stops. */
  readonly isForced: boolean;
  /** Ends the round after its batch when aborted. */
  readonly signal: AbortSignal;
  /** Whether the round belongs to a call that was let in. */
  readonly isLetIn?: boolean;
  /** When the round ends after its batch, by the clock of `performance.now()`. */
  readonly deadline?: number;
}

const INTERVAL_MS = 60_000;
/** After how long a turn is renewed. */
const KEEP_MS = 15_000;
/** Workers tell once a minute that they are there. */
const UNSEEN_MS = 300_000;
const FIRST_BATCH = 100;
const LARGEST_BATCH = 1_000;
/** No batch is smaller than this but after one that took too long to come to its end. */
const SMALLEST_BATCH = 20;
const BATCH_TIMEOUT_MS = 10_000;
/** How long it may take to give the turn back after the time of the call is over. */
const BACK_MS = 1_000;
/** How many milliseconds a batch should take. */
const BATCH_MS = 100;
/** The same where the event loop stands still meanwhile. */
const SYNCHRONOUS_BATCH_MS = 8;
/** How long the pause after a batch is, in times of what that took. */
const PAUSE_FACTOR = 2;
const SHORTEST_PAUSE_MS = 5;
/** How many queues one statement looks at. */
const QUEUES = 200;
/** How many keys a round looks at, unless it finds many that hold no more. */
const KEYS = 10_000;
/** A queue is noted as cleared but for so long, because what a long transaction ends shows up late. */
const MARGIN_MS = 3_600_000;

/** Does a round of maintenance. Undefined: it was not due. */
export async function maintain(database: Database, options: RoundOptions): Promise<Maintained | undefined> {
  return await new Round(database, options).work();
}

/** A round is cut short: its time is over, its worker stops, or somebody else has the turn. */
class CutShort extends Error {}

/** What came of a batch, and whether it was the last. */
type Batch<Place> = Purged<Place> & { readonly isEnd: boolean };

class Round {
  readonly #database: Database;
  readonly #options: RoundOptions;
  readonly #done = { messages: 0, keys: 0, workers: 0 };
  #turn: Turn | undefined;
  #keptAt = 0;
  #size = FIRST_BATCH;
  #tookMs = 0;

  constructor(database: Database, options: RoundOptions) {
    this.#database = database;
    this.#options = options;
  }

  async work(): Promise<Maintained | undefined> {
    this.#turn = decodeTurn(await this.#query(takeTurn(INTERVAL_MS, this.#options.isForced)));
    if (this.#turn === undefined) return undefined;
    this.#keptAt = performance.now();
    try {
      await this.#forgetWorkers();
      await this.#purgeKeys();
      await this.#purgeArchive();
      return { ...this.#done, isDone: true };
    } catch (error) {
      if (!(error instanceof CutShort)) throw this.#isFruitless ? error : partlyApplied(error);
      if (this.#turn !== undefined) await this.#query(giveTurnBack(this.#turn), performance.now() + BACK_MS);
      return { ...this.#done, isDone: false };
    }
  }

  get #isFruitless(): boolean {
    return this.#done.messages + this.#done.keys + this.#done.workers === 0;
  }

  async #forgetWorkers(): Promise<void> {
    for (let isEnd = false; !isEnd;) {
      const batch = await this.#batch((size) => forgetWorkers(UNSEEN_MS, size), decodeCount);
      this.#done.workers += batch.gone;
      isEnd = batch.isEnd;
    }
  }

  /**
   * Goes on with the keys where the round before has stopped, as there may be many in force and no index tells which are
   * not. While a tenth and more of what it looks at holds no more it does not stop, so that these cannot pile up.
   */
  async #purgeKeys(): Promise<void> {
    let place = this.#turn?.place ?? null;
    for (let looked = 0, isWorth = true; looked < KEYS || isWorth;) {
      const after = place;
      const { seen, gone, last, isEnd } = await this.#batch(
        (size) => purgeKeys(undefined, size, after),
        decodePurgedKeys,
      );
      this.#done.keys += gone;
      looked += seen;
      isWorth = gone * 10 >= seen;
      place = isEnd ? null : last;
      if (this.#turn !== undefined) this.#turn = { ...this.#turn, place };
      if (isEnd) break;
    }
    // Where it has stopped is stored with the turn.
    await this.#keepTurn();
  }

  async #purgeArchive(): Promise<void> {
    for (let after = 0, isEnd = false; !isEnd;) {
      const rows = await this.#one(findOverdue(after, QUEUES));
      for (const [id, hasDead, hasEnded] of rows) {
        // These first: those that are kept for longer than the others are then all that is left of them.
        if (Number(hasDead) === 1) await this.#purgeDead(Number(id));
        if (Number(hasEnded) === 1) await this.#purgeEnded(Number(id));
      }
      isEnd = rows.length < QUEUES;
      after = Number(rows.at(-1)?.[0]);
    }
  }

  async #purgeDead(queueId: number): Promise<void> {
    for (let isEnd = false; !isEnd;) {
      const batch = await this.#batch((size) => purgeDead(queueId, size), decodeCount);
      this.#done.messages += batch.gone;
      isEnd = batch.isEnd;
    }
  }

  async #purgeEnded(queueId: number): Promise<void> {
    let place: EndedPlace | null = null;
    let kept = 0;
    for (let isEnd = false; !isEnd;) {
      const after: EndedPlace | null = place;
      const batch: Batch<EndedPlace> = await this.#batch(
        (size): Statement => purgeEnded(queueId, size, after),
        decodePurgedEnded,
      );
      this.#done.messages += batch.gone;
      kept += batch.seen - batch.gone;
      place = batch.last ?? place;
      isEnd = batch.isEnd;
    }
    const until = (place?.archivedAt ?? 0) - MARGIN_MS;
    if (kept > 0 && until > 0) await this.#one(notePurged(queueId, until));
  }

  /** Executes a statement of a size that suits the database. */
  async #batch<Place>(
    make: (size: number) => Statement,
    decode: (rows: readonly Row[]) => Purged<Place>,
  ): Promise<Batch<Place>> {
    for (;;) {
      const size = this.#size;
      const begin = performance.now();
      try {
        const purged = decode(await this.#one(make(size)));
        this.#size = this.#nextSize(purged.seen);
        return { ...purged, isEnd: purged.seen < size };
      } catch (error) {
        // What a statement that took too long has done is not known, and looked at again.
        if (!(error instanceof DatabaseError) || error.reason !== "timeout" || size === 1) throw error;
        this.#size = Math.max(1, size >> 3);
        await pause(performance.now() - begin, this.#options.signal);
      }
    }
  }

  /** Twice as many while that is quick, half as many when it was slow, which may be because of others. */
  #nextSize(seen: number): number {
    const targetMs = this.#database.driver.isSynchronous === true ? SYNCHRONOUS_BATCH_MS : BATCH_MS;
    const size = this.#size;
    if (this.#tookMs > targetMs) return Math.min(size, Math.max(SMALLEST_BATCH, size >> 1));
    return seen === size && this.#tookMs * 2 < targetMs ? Math.min(LARGEST_BATCH, size * 2) : size;
  }

  /** Executes a statement and then pauses, so that the work goes first. @throws {CutShort} */
  async #one(statement: Statement): Promise<readonly Row[]> {
    await this.#goOn();
    const begin = performance.now();
    const rows = await this.#query(statement);
    this.#tookMs = performance.now() - begin;
    await pause(Math.max(SHORTEST_PAUSE_MS, this.#tookMs * PAUSE_FACTOR), this.#options.signal);
    return rows;
  }

  /** @throws {CutShort} */
  async #goOn(): Promise<void> {
    const { signal, deadline = Number.POSITIVE_INFINITY } = this.#options;
    if (signal.aborted || performance.now() >= deadline) throw new CutShort();
    if (performance.now() - this.#keptAt >= KEEP_MS) await this.#keepTurn();
  }

  async #keepTurn(): Promise<void> {
    if (this.#turn === undefined) return;
    this.#turn = decodeTurn(await this.#query(keepTurn(this.#turn, INTERVAL_MS)));
    this.#keptAt = performance.now();
    if (this.#turn === undefined) throw new CutShort();
  }

  async #query(statement: Statement, deadline = this.#options.deadline): Promise<readonly Row[]> {
    const { isLetIn = false } = this.#options;
    const latest = performance.now() + Math.min(BATCH_TIMEOUT_MS, this.#database.settings.timeoutMs);
    // Not on the connections that everybody shares: it may take longer than others like to wait.
    return await this.#database.query(statement, {
      isLetIn,
      isLong: true,
      deadline: Math.min(latest, deadline ?? latest),
    });
  }
}

/** What the maintenance of a worker needs of it. */
export interface MaintenanceHost {
  readonly database: Database;
  report(error: unknown, retryAfterMs: number): void;
}

/** The maintenance of one worker: it looks once a minute whether it is its turn. */
export class Maintenance {
  readonly #host: MaintenanceHost;
  readonly #stopping = new AbortController();
  #work: Promise<void> = Promise.resolve();

  constructor(host: MaintenanceHost) {
    this.#host = host;
  }

  /** Begins. */
  start(): void {
    this.#work = this.#loop();
  }

  /** Ends after the batch that is under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#work;
  }

  /** The first look is at once: there may be nobody but workers that live for seconds. */
  async #loop(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const pauseMs = INTERVAL_MS * (0.75 + Math.random() / 2);
      try {
        await maintain(this.#host.database, { isForced: false, signal, isLetIn: true });
      } catch (error) {
        this.#host.report(error, pauseMs);
      }
      await pause(pauseMs, signal);
    }
  }
}
