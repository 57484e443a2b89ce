/**
 * The Postgres driver: a few pipelined connections for short statements, the others for whatever takes its time.
 *
 * Two pipelined connections carry more than a pool of sixteen, because every answer wakes one process instead of many.
 * A transaction, a long statement and a migration get a connection of their own and never stand in that pipeline. One more
 * is for control: heartbeats, which must not wait behind anything, and hints of other processes.
 */
import { postgres as dialect, quoteName } from "../sql/dialect.ts";
import type {
  CallOptions,
  Connection,
  Driver,
  DriverOptions,
  HintListener,
  Row,
  TransactionConnection,
  TransactionLimits,
} from "../sql/driver.ts";
import type { Rendered, RenderedPart } from "../sql/sql.ts";
import { unsent } from "./failure.ts";
import { parsePostgresDsn } from "./postgres_address.ts";
import { assertCommitted, isRetryable } from "./postgres_failure.ts";
import { Lane, type Session } from "./postgres_lane.ts";
import { type Listened, Listening } from "./postgres_listen.ts";
import { joinPostgres } from "./postgres_session.ts";
import { COMMIT_MS, endWithin, rolledBack, runParts, TransactionClock } from "./transaction.ts";

/** How many statements may be under way on one connection, well below the hundred at which the client misbehaves. */
const PIPELINE = 50;
/** How many parts of a large list are sent ahead: while the server works on one, the next is made ready and travels. */
const AHEAD = 1;
/** How many more places there are for control where it has no connection of its own. */
const RESERVE = 10;
/** How long a server may be silent that is asked whether it is there. */
const PING_MS = 5_000;
const RETRY_PAUSE_MS = 10;

/** Opens a driver for a DSN. Nothing is sent before the first call. */
export function openPostgres(dsn: string, options: DriverOptions): Driver {
  const address = parsePostgresDsn(dsn);
  const pooler = address.pooler ?? options.pooler;
  return new PostgresDriver((onNotify) => new Lane(address, { ...options, pooler }, onNotify), options);
}

/** Who waits for a place on a connection, or for a connection as a whole. */
interface Waiter {
  readonly place: Place;
  readonly give: (lane: Lane) => void;
}

/** A place among the others, one that is kept free for control, or the connection as a whole. */
type Place = "control" | "shared" | "whole";

class PostgresDriver implements Driver {
  readonly dialect = dialect;
  readonly #hot: Lane[];
  readonly #wide: Lane[];
  readonly #control: Lane[];
  readonly #listenings = new Map<string, Listening>();
  readonly #keepAliveMs: number;
  /** Who waits for a place, by the connections that would do: a place of the one kind is of no use to the other. */
  readonly #waiting = new Map<readonly Lane[], Waiter[]>();
  readonly #timeoutMs: number;

  constructor(newLane: (onNotify?: Lane["onNotify"]) => Lane, options: DriverOptions) {
    const { maxConnections, timeoutMs, keepAliveMs } = options;
    const hear: Lane["onNotify"] = (channel, text) => this.#listenings.get(channel)?.hear(text);
    const hot = maxConnections > 3 ? 2 : 1;
    this.#timeoutMs = timeoutMs;
    this.#keepAliveMs = keepAliveMs;
    this.#hot = Array.from({ length: hot }, () => newLane(hear));
    // With a single connection everything shares it, and a transaction holds the others up for as long as it runs.
    this.#wide = maxConnections === 1
      ? this.#hot
      : Array.from({ length: Math.max(1, maxConnections - hot - 1) }, () => newLane());
    this.#control = maxConnections > 2 ? [newLane(hear)] : this.#hot;
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
        if (!isRetryable(error, limits) || performance.now() + RETRY_PAUSE_MS > limits.deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_PAUSE_MS * Math.random()));
      }
    }
  }

  async transaction<T>(work: (tx: TransactionConnection) => Promise<T>, limits: TransactionLimits): Promise<T> {
    const clock = new TransactionClock(limits);
    const lane = await this.#take("begin a transaction", this.#wide, "whole", clock);
    try {
      return await runTransaction(lane, clock, work);
    } finally {
      this.#giveBack(this.#wide, lane, "whole");
    }
  }

  join(tx: unknown): Connection {
    return joinPostgres(tx);
  }

  listen(channel: string, listener: HintListener): () => void {
    let listening = this.#listenings.get(channel);
    if (listening === undefined) {
      listening = new Listening(channel, {
        listen: () => this.#listen(channel),
        notify: (_, text) => this.#notify(channel, text),
        keepAliveMs: this.#keepAliveMs,
      });
      this.#listenings.set(channel, listening);
    }
    return listening.add(listener);
  }

  close(): Promise<void> {
    for (const listening of this.#listenings.values()) listening.close();
    for (const lane of [...this.#hot, ...this.#wide, ...this.#control]) lane.close();
    return Promise.resolve();
  }

  async #queryOnce(name: string, part: RenderedPart, limits: CallOptions): Promise<readonly Row[]> {
    const place = limits.isControl === true ? "control" : limits.isLong === true ? "whole" : "shared";
    const lanes = place === "control" ? this.#control : place === "whole" ? this.#wide : this.#hot;
    return await this.#onLane(name, lanes, place, limits, (lane) => lane.query(name, part, limits));
  }

  async #onLane<T>(
    name: string,
    lanes: readonly Lane[],
    place: Place,
    limits: CallOptions,
    work: (lane: Lane) => Promise<T>,
  ): Promise<T> {
    const lane = await this.#take(name, lanes, place, limits);
    try {
      return await work(lane);
    } finally {
      this.#giveBack(lanes, lane, place);
    }
  }

  /** Begins to listen on the control connection. A pooler would give LISTEN a session that is somebody else's next. */
  async #listen(channel: string): Promise<Listened | undefined> {
    const session = await this.#onControl(`listen ${quoteName(channel)}`, this.#timeoutMs, true);
    if (session === undefined) return undefined;
    const [lane] = this.#control as [Lane];
    return {
      lost: session.socket.destroyed
        ? Promise.resolve()
        : new Promise((resolve) => session.socket.once("close", () => resolve())),
      signCount: () => lane.signCount,
      // Where everything shares one connection, what stands before the question may take its time.
      ping: () =>
        this.#onControl("select 1", this.#control === this.#hot ? this.#timeoutMs : Math.min(PING_MS, this.#timeoutMs)),
      unlisten: async () => void await this.#onControl(`unlisten ${quoteName(channel)}`, this.#timeoutMs),
    };
  }

  /** Sends something of our own; with `isDirect` only to a session that is not a pooler's. */
  async #onControl(text: string, timeoutMs: number, isDirect = false): Promise<Session | undefined> {
    const limits = { deadline: performance.now() + timeoutMs };
    return await this.#onLane("listen", this.#control, "control", limits, async (lane) => {
      const session = await lane.open("listen", limits);
      if (isDirect && session.isPooled) return undefined;
      await lane.query("listen", { text, values: [] }, limits, session);
      return session;
    });
  }

  async #notify(channel: string, text: string): Promise<void> {
    const part = { text: "select pg_catalog.pg_notify($1::text, $2::text)", values: [channel, text] };
    await this.#queryOnce("notify", part, { deadline: performance.now() + this.#timeoutMs });
  }

  /** A place on the least busy connection, as soon as there is one; or a connection as a whole. */
  async #take(statement: string, lanes: readonly Lane[], place: Place, limits: CallOptions): Promise<Lane> {
    const line = this.#waiting.get(lanes) ?? [];
    const isFirst = place === "control" || line.length === 0;
    const free = isFirst ? occupy(lanes, place) : undefined;
    if (free !== undefined) return free;
    if (line.length === 0) this.#waiting.set(lanes, line);
    let give: Waiter["give"] = () => {};
    const turn = new Promise<Lane>((resolve) => give = resolve);
    const waiter = { give, place };
    if (isFirst) line.unshift(waiter);
    else line.push(waiter);
    try {
      return await endWithin(turn, limits, (reason) => unsent(statement, reason, "all connections are busy"));
    } catch (error) {
      const index = line.indexOf(waiter);
      if (index >= 0) line.splice(index, 1);
      // A place that came together with the deadline belongs to the next one in the line.
      else turn.then((lane) => this.#giveBack(lanes, lane, place));
      throw error;
    }
  }

  #giveBack(lanes: readonly Lane[], lane: Lane, place: Place): void {
    if (place === "whole") lane.isReserved = false;
    lane.load--;
    // In the order of arrival: nobody who comes later can take a place before those who wait.
    const line = this.#waiting.get(lanes) ?? [];
    for (let next = line[0]; next !== undefined; next = line[0]) {
      const free = occupy(lanes, next.place);
      if (free === undefined) return;
      line.shift();
      next.give(free);
    }
  }
}

/** Takes a place at once: calls that are made together, or while a connection is opened, must not all find it idle. */
function occupy(lanes: readonly Lane[], place: Place): Lane | undefined {
  const places = place === "control" ? PIPELINE + RESERVE : PIPELINE;
  let best: Lane | undefined;
  for (const lane of lanes) {
    const fits = !lane.isReserved && (place === "whole" || lane.load < places);
    if (fits && (best === undefined || lane.load < best.load)) best = lane;
  }
  if (best === undefined) return undefined;
  best.load++;
  if (place === "whole") best.isReserved = true;
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
    return await runParts(parts, (part) => this.#lane.query(name, part, limits, this.#session), AHEAD);
  }

  async run(text: string, values: readonly unknown[]): Promise<readonly Record<string, unknown>[]> {
    this.#clock.assertOpen();
    return await this.#lane.run(text, values, this.#clock.within({}), this.#session);
  }
}
