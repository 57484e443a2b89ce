/**
 * The driver for SQLite files and memory, on the `node:sqlite` that Deno, Bun and Node have built in.
 *
 * The database is synchronous: every statement runs to its end on the event loop. So no call waits for a lock inside
 * SQLite; a busy database is asked again after a pause of ours, during which timers and heartbeats run. One connection
 * serves everything, and a queue in front of it keeps a transaction to itself.
 */
import { ConfigError, DatabaseError } from "../errors.ts";
import { sqlite as dialect } from "../sql/dialect.ts";
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
import { joinExecute } from "./foreign.ts";
import { Gate } from "./gate.ts";
import { isBusy, toDatabaseError } from "./sqlite_failure.ts";
import { createFile, findFile, parseSqliteDsn } from "./sqlite_file.ts";
import { WriteAheadLog } from "./sqlite_log.ts";
import { encodeCallerValue } from "./sqlite_value.ts";
import { CALLERS, COMMIT_MS, endWithin, rolledBack, runParts, TransactionClock, Turns } from "./transaction.ts";

/** What we use of a prepared statement of `node:sqlite`. */
export interface SqliteStatement {
  /** Runs the statement and returns all rows. */
  all(...values: unknown[]): unknown[];
  /** Makes rows arrays instead of objects. */
  setReturnArrays(isOn: boolean): void;
  /** Makes integers bigints. */
  setReadBigInts(isOn: boolean): void;
}

/** What we use of a `DatabaseSync` of `node:sqlite`. */
export interface SqliteClient {
  /** Runs statements without values. */
  exec(text: string): void;
  /** Prepares a statement. */
  prepare(text: string): SqliteStatement;
  /** Closes the database. */
  close(): void;
}

interface SqliteOptions extends DriverOptions {
  /** That of `node:timers`, handed in because no module of a driver may import `node:` at its top. */
  readonly setImmediate: (callback: () => void) => unknown;
}

const SHORTEST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 25;
/** How long statements may run in a row before the event loop gets its turn. */
const STRETCH_MS = 8;
/** How often to look whether another connection has committed, while anybody wants to know. */
const LOOK_MS = 10;

/** Opens a database in memory, or a file; with `create` one that is not there is made for this user alone. */
export async function openSqlite(dsn: string, options: DriverOptions, create = true): Promise<Driver> {
  const { path, synchronous } = parseSqliteDsn(dsn);
  const { DatabaseSync } = await loadSqlite();
  const { resolve } = await import("node:path");
  const { setImmediate } = await import("node:timers");
  if (path !== ":memory:") await (create ? createFile(path) : findFile(path));
  const client = openFile(() => new DatabaseSync(path) as unknown as SqliteClient);
  const log = path === ":memory:" || !options.useWal ? undefined : new WriteAheadLog(resolve(path), client);
  const driver = new SqliteDriver(client, { ...options, setImmediate }, true, log);
  await driver.prepareConnection(options.useWal ? "wal" : "delete", synchronous);
  return driver;
}

/** Makes a driver of a `DatabaseSync` that the caller made and goes on owning. */
export async function adoptSqlite(client: SqliteClient, options: DriverOptions): Promise<Driver> {
  const { setImmediate } = await import("node:timers");
  return new SqliteDriver(client, { ...options, setImmediate }, false);
}

class SqliteDriver implements Driver {
  readonly dialect = dialect;
  readonly isSynchronous = true;
  readonly #client: SqliteClient;
  readonly #isOwned: boolean;
  readonly #timeoutMs: number;
  readonly #nextMacrotask: SqliteOptions["setImmediate"];
  readonly #gate = new Gate();
  readonly #statements = new Map<string, SqliteStatement>();
  readonly #log: WriteAheadLog | undefined;
  readonly #looks = new Set<ReturnType<typeof setInterval>>();
  #closing: Promise<void> | undefined;
  #stretchEndsAt = 0;

  constructor(
    client: SqliteClient,
    { timeoutMs, setImmediate }: SqliteOptions,
    isOwned: boolean,
    log?: WriteAheadLog,
  ) {
    this.#client = client;
    this.#log = log;
    this.#nextMacrotask = setImmediate;
    this.#isOwned = isOwned;
    this.#timeoutMs = timeoutMs;
  }

  /** Sets what holds for a connection and not for the file. */
  async prepareConnection(journal: "delete" | "wal", synchronous: string): Promise<void> {
    // The lock is never waited for inside SQLite, where the wait would stop the whole process.
    this.#client.exec("pragma busy_timeout = 0");
    const limits = { deadline: performance.now() + this.#timeoutMs };
    await this.#whileBusy("open", limits, () => this.#client.exec(`pragma journal_mode = ${journal}`));
    this.#client.exec(`pragma synchronous = ${synchronous}`);
  }

  async query(rendered: Rendered, options: CallOptions = {}): Promise<readonly Row[]> {
    const limits = { ...options, deadline: options.deadline ?? performance.now() + this.#timeoutMs };
    await this.#gate.enter(rendered.name, limits);
    try {
      await this.#takeTurns();
      if (rendered.parts.length === 1) {
        return await this.#whileBusy(rendered.name, limits, () => this.#all(rendered.parts[0] as RenderedPart));
      }
      return await this.#queryParts(rendered, limits);
    } finally {
      this.#gate.leave();
    }
  }

  async transaction<T>(work: (tx: TransactionConnection) => Promise<T>, limits: TransactionLimits): Promise<T> {
    const clock = new TransactionClock(limits);
    await this.#gate.enter("begin a transaction", clock);
    try {
      await this.#log?.wait("begin a transaction", clock);
      await this.#whileBusy("begin", clock, () => this.#client.exec("begin immediate"));
      this.#log?.begin();
      try {
        const result = await endWithin(
          work(new SqliteTransaction((part) => this.#all(part), this.#client, clock, () => this.#takeTurns())),
          clock,
        );
        clock.end();
        await this.#commit({ deadline: Math.max(clock.deadline, performance.now() + COMMIT_MS) });
        return result;
      } catch (error) {
        clock.end();
        this.#rollback();
        throw rolledBack(error);
      }
    } finally {
      this.#gate.leave();
    }
  }

  join(tx: unknown): Connection {
    return joinExecute(tx, toDatabaseError);
  }

  /**
   * SQLite tells nobody of a commit, but counts those of other connections, and to ask for the number costs microseconds.
   * What was committed is not known, so that everybody looks.
   */
  listen(_channel: string, { onHint, onChange }: HintListener): () => void {
    if (!this.#isShared()) return () => {};
    let version: unknown;
    const look = (): void => {
      if (this.#gate.isTaken) return;
      const before = version;
      version = this.#dataVersion() ?? before;
      if (version === before) return;
      if (before === undefined) onChange(true);
      else onHint("any");
    };
    const timer = setInterval(look, LOOK_MS);
    this.#looks.add(timer);
    look();
    return () => {
      this.#looks.delete(timer);
      clearInterval(timer);
    };
  }

  /** Whether others can have the database open. */
  #isShared(): boolean {
    try {
      const statement = this.#client.prepare("pragma database_list");
      statement.setReturnArrays(true);
      return (statement.all() as Row[]).some(([, name, file]) => name === "main" && file !== "" && file !== null);
    } catch {
      return false;
    }
  }

  /** Changes whenever another connection has committed. Undefined: the database cannot be asked now. */
  #dataVersion(): unknown {
    try {
      return this.#all({ text: "pragma data_version", values: [] })[0]?.[0];
    } catch {
      return undefined;
    }
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    for (const timer of this.#looks) clearInterval(timer);
    // Whoever was let in before may finish; nobody is let in after.
    await this.#gate.close();
    await this.#log?.close();
    this.#statements.clear();
    if (this.#isOwned) this.#client.close();
  }

  /** Parts that fit in one stretch run without an await in between; a long list takes turns with the event loop. */
  async #queryParts({ name, parts }: Rendered, limits: CallOptions): Promise<readonly Row[]> {
    await this.#log?.wait(name, limits);
    await this.#whileBusy(name, limits, () => this.#client.exec("begin immediate"));
    const rows: Row[] = [];
    try {
      this.#log?.begin();
      for (const part of parts) {
        for (const row of this.#all(part)) rows.push(row);
        assertInTime(name, limits);
        // On a client of the caller nobody may come in between: what they wrote would be part of our transaction.
        if (this.#isOwned && performance.now() > this.#stretchEndsAt) await this.#takeTurns();
      }
      await this.#commit(limits);
      return rows;
    } catch (error) {
      this.#rollback();
      throw toDatabaseError(error, name);
    }
  }

  /**
   * Gives timers and sockets their turn after some milliseconds of work. Without it a loop of awaited calls would hold
   * the event loop for ever, because each of them ends in a microtask.
   */
  async #takeTurns(): Promise<void> {
    if (performance.now() > this.#stretchEndsAt) {
      await new Promise<void>((resolve) => this.#nextMacrotask(resolve));
      this.#stretchEndsAt = performance.now() + STRETCH_MS;
    }
  }

  /** Tries until the database is free, with pauses in which the event loop runs. */
  async #whileBusy<T>(name: string, { deadline, signal }: CallOptions, attempt: () => T): Promise<T> {
    for (let pause = SHORTEST_PAUSE_MS;; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return attempt();
      } catch (error) {
        const isLate = deadline !== undefined && performance.now() + pause > deadline;
        if (!isBusy(error) || isLate || signal?.aborted) throw toDatabaseError(error, name);
      }
      await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
    }
  }

  /** Without a log to write ahead to, a commit waits for those who read. */
  async #commit(limits: CallOptions): Promise<void> {
    await this.#log?.sync();
    assertInTime("commit", limits);
    await this.#whileBusy("commit", limits, () => this.#client.exec("commit"));
    this.#log?.end();
  }

  #all({ text, values }: RenderedPart): Row[] {
    let statement = this.#statements.get(text);
    if (statement === undefined) {
      statement = this.#client.prepare(text);
      statement.setReturnArrays(true);
      this.#statements.set(text, statement);
    }
    this.#log?.count(values);
    return statement.all(...values) as Row[];
  }

  #rollback(): void {
    this.#log?.end();
    try {
      this.#client.exec("rollback");
    } catch {
      // SQLite has rolled back by itself after errors such as a full disk.
    }
  }
}

class SqliteTransaction implements TransactionConnection {
  readonly #all: (part: RenderedPart) => Row[];
  readonly #client: SqliteClient;
  readonly #clock: TransactionClock;
  readonly #takeTurns: () => Promise<void>;
  readonly #turns = new Turns();

  constructor(
    all: (part: RenderedPart) => Row[],
    client: SqliteClient,
    clock: TransactionClock,
    takeTurns: () => Promise<void>,
  ) {
    this.#all = all;
    this.#client = client;
    this.#clock = clock;
    this.#takeTurns = takeTurns;
  }

  async query({ name, parts }: Rendered): Promise<readonly Row[]> {
    this.#clock.assertOpen();
    return await this.#turns.take(() => runParts(parts, (part) => this.#whileOpen(name, () => this.#all(part))));
  }

  async run(text: string, values: readonly unknown[]): Promise<readonly Record<string, unknown>[]> {
    this.#clock.assertOpen();
    const encoded = values.map(encodeCallerValue);
    const all = (): unknown[] => this.#client.prepare(text).all(...encoded);
    return await this.#turns.take(() => this.#whileOpen(CALLERS, all)) as Record<string, unknown>[];
  }

  /** The callback may have ended while this waited for its turn, and after that nothing would be rolled back. */
  async #whileOpen<T>(name: string, work: () => T): Promise<T> {
    await this.#takeTurns();
    this.#clock.assertOpen();
    try {
      return work();
    } catch (error) {
      throw toDatabaseError(error, name);
    }
  }
}

/**
 * Loads what the runtime has. Node has it from 22.5 on, before 22.13 behind a flag, and before 22.16 without rows as arrays.
 *
 * @throws {ConfigError} when that is not enough, before any file is touched.
 */
async function loadSqlite(): Promise<typeof import("node:sqlite")> {
  const sqlite = await import("node:sqlite").catch(() => undefined);
  if (sqlite !== undefined && "setReturnArrays" in sqlite.StatementSync.prototype) return sqlite;
  throw new ConfigError("Cannot use the SQLite DSN: on Node it needs version 22.16 or newer, for its node:sqlite");
}

function openFile(open: () => SqliteClient): SqliteClient {
  try {
    return open();
  } catch (error) {
    throw toDatabaseError(error, "open the database file");
  }
}

/** Between two parts nothing is committed yet, so a call that is late or aborted is rolled back. */
function assertInTime(statement: string, { deadline = Number.POSITIVE_INFINITY, signal }: CallOptions): void {
  const isLate = performance.now() > deadline;
  if (!isLate && signal?.aborted !== true) return;
  throw new DatabaseError(`Cannot ${statement}: it took too long or was aborted; nothing was changed`, {
    outcome: "not_applied",
    reason: isLate ? "timeout" : "aborted",
    statement,
  });
}
