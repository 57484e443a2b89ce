/**
 * The Postgres driver: a few pipelined connections for short statements, the others for whatever takes its time.
 *
 * Two pipelined connections carry more than a pool of sixteen, because every answer wakes one process instead of many.
 * A transaction, a long statement and a migration get a connection of their own and never stand in that pipeline.
 */
import { postgres as dialect } from "../sql/dialect.ts";
import type {
  CallOptions,
  Connection,
  Driver,
  DriverOptions,
  Row,
  TransactionConnection,
  TransactionLimits,
} from "../sql/driver.ts";
import type { Rendered, RenderedPart } from "../sql/sql.ts";
import { unsent } from "./failure.ts";
import { parsePostgresDsn } from "./postgres_address.ts";
import { assertCommitted, isRetryable } from "./postgres_failure.ts";
import { Lane, type Session } from "./postgres_lane.ts";
import { joinPostgres } from "./postgres_session.ts";
import { COMMIT_MS, endWithin, rolledBack, runParts, TransactionClock } from "./transaction.ts";

/** How many statements may be under way on one connection, well below the hundred at which the client misbehaves. */
const PIPELINE = 50;
const RETRY_PAUSE_MS = 10;

/** Opens a driver for a DSN. Nothing is sent before the first call. */
export function openPostgres(dsn: string, options: DriverOptions): Driver {
  const address = parsePostgresDsn(dsn);
  const pooler = address.pooler ?? options.pooler;
  return new PostgresDriver((): Lane => new Lane(address, { ...options, pooler }), options);
}

/** Who waits for a place on a connection, or for a connection as a whole. */
interface Waiter {
  readonly isWhole: boolean;
  readonly give: (lane: Lane) => void;
}

class PostgresDriver implements Driver {
  readonly dialect = dialect;
  readonly #hot: Lane[];
  readonly #wide: Lane[];
  /** Who waits for a place, by the connections that would do: a place of the one kind is of no use to the other. */
  readonly #waiting = new Map<readonly Lane[], Waiter[]>();
  readonly #timeoutMs: number;

  constructor(newLane: () => Lane, { maxConnections, timeoutMs }: DriverOptions) {
    const hot = maxConnections > 2 ? 2 : 1;
    this.#timeoutMs = timeoutMs;
    this.#hot = Array.from({ length: hot }, newLane);
    // With a single connection everything shares it, and a transaction holds the others up for as long as it runs.
    this.#wide = maxConnections === 1 ? this.#hot : Array.from({ length: maxConnections - hot }, newLane);
  }

  async query({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> {
    const limits = { ...options, deadline: options.deadline ?? performance.now() + this.#timeoutMs };
    const [first] = parts;
    if (first === undefined) return [];
    const inTransaction = { ...limits, timeoutMs: Math.max(1, limits.deadline - performance.now()) };
    for (;;) {
      try {
        if (parts.length === 1) return await this.#queryOnce(name, first, limits);
        return await this.transaction((tx) => tx.query({ name, parts }, limits), inTransaction);
      } catch (error) {
        if (!isRetryable(error) || performance.now() + RETRY_PAUSE_MS > limits.deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS * Math.random()));
      }
    }
  }

  async transaction<T>(work: (tx: TransactionConnection) => Promise<T>, limits: TransactionLimits): Promise<T> {
    const clock = new TransactionClock(limits);
    const lane = await this.#take("begin a transaction", this.#wide, true, clock);
    try {
      return await runTransaction(lane, clock, work);
    } finally {
      this.#giveBack(this.#wide, lane, true);
    }
  }

  join(tx: unknown): Connection {
    return joinPostgres(tx);
  }

  close(): Promise<void> {
    for (const lane of [...this.#hot, ...this.#wide]) lane.close();
    return Promise.resolve();
  }

  async #queryOnce(name: string, part: RenderedPart, limits: CallOptions): Promise<readonly Row[]> {
    const isLong = limits.isLong === true;
    const lanes = isLong ? this.#wide : this.#hot;
    const lane = await this.#take(name, lanes, isLong, limits);
    try {
      return await lane.query(name, part, limits);
    } finally {
      this.#giveBack(lanes, lane, isLong);
    }
  }

  /** A place on the least busy connection, as soon as there is one; or a connection as a whole. */
  async #take(statement: string, lanes: readonly Lane[], isWhole: boolean, limits: CallOptions): Promise<Lane> {
    const line = this.#waiting.get(lanes) ?? [];
    const free = line.length === 0 ? occupy(lanes, isWhole) : undefined;
    if (free !== undefined) return free;
    if (line.length === 0) this.#waiting.set(lanes, line);
    let give: Waiter["give"] = () => {};
    const turn = new Promise<Lane>((resolve) => give = resolve);
    const waiter = { give, isWhole };
    line.push(waiter);
    try {
      return await endWithin(turn, limits, (reason) => unsent(statement, reason, "all connections are busy"));
    } catch (error) {
      const index = line.indexOf(waiter);
      if (index >= 0) line.splice(index, 1);
      // A place that came together with the deadline belongs to the next one in the line.
      else turn.then((lane) => this.#giveBack(lanes, lane, isWhole));
      throw error;
    }
  }

  #giveBack(lanes: readonly Lane[], lane: Lane, isWhole: boolean): void {
    if (isWhole) lane.isReserved = false;
    lane.load--;
    // In the order of arrival: nobody who comes later can take a place before those who wait.
    const line = this.#waiting.get(lanes) ?? [];
    for (let next = line[0]; next !== undefined; next = line[0]) {
      const free = occupy(lanes, next.isWhole);
      if (free === undefined) return;
      line.shift();
      next.give(free);
    }
  }
}

/** Takes a place at once: calls that are made together, or while a connection is opened, must not all find it idle. */
function occupy(lanes: readonly Lane[], isWhole: boolean): Lane | undefined {
  let best: Lane | undefined;
  for (const lane of lanes) {
    const fits = !lane.isReserved && (isWhole || lane.load < PIPELINE);
    if (fits && (best === undefined || lane.load < best.load)) best = lane;
  }
  if (best === undefined) return undefined;
  best.load++;
  if (isWhole) best.isReserved = true;
  return best;
}

const BEGIN: RenderedPart = { text: "begin", values: [] };
const COMMIT: RenderedPart = { text: "commit", values: [] };
const ROLLBACK: RenderedPart = { text: "rollback", values: [] };

async function runTransaction<T>(
  lane: Lane,
  clock: TransactionClock,
  work: (tx: TransactionConnection) => Promise<T>,
): Promise<T> {
  const session = await lane.open("begin a transaction", clock);
  let result: T;
  try {
    await lane.query("begin", BEGIN, clock, session);
    result = await endWithin(work(new LaneTransaction(lane, session, clock)), clock);
  } catch (error) {
    clock.end();
    await rollback(lane, session);
    throw rolledBack(error);
  }
  clock.end();
  const limits = { deadline: Math.max(clock.deadline, performance.now() + COMMIT_MS) };
  assertCommitted(await lane.query("commit", COMMIT, limits, session));
  return result;
}

/** Rolls back; a session that may still be inside the transaction is never given to anybody else. */
async function rollback(lane: Lane, session: Session): Promise<void> {
  try {
    await lane.query("rollback", ROLLBACK, { deadline: performance.now() + COMMIT_MS }, session);
  } catch {
    lane.dispose("Transaction could not be rolled back", session);
  }
}

class LaneTransaction implements TransactionConnection {
  readonly #lane: Lane;
  readonly #session: Session;
  readonly #clock: TransactionClock;

  constructor(lane: Lane, session: Session, clock: TransactionClock) {
    this.#lane = lane;
    this.#session = session;
    this.#clock = clock;
  }

  async query({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> {
    this.#clock.assertOpen();
    const limits = this.#clock.within(options);
    return await runParts(parts, (part) => this.#lane.query(name, part, limits, this.#session));
  }

  async run(text: string, values: readonly unknown[]): Promise<readonly Record<string, unknown>[]> {
    this.#clock.assertOpen();
    return await this.#lane.run(text, values, this.#clock.within({}), this.#session);
  }
}
