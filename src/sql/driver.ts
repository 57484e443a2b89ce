/** What a database client looks like from above: a driver is an adapter of some tens of lines, nothing more. */
import type { Dialect } from "./dialect.ts";
import type { Rendered } from "./sql.ts";

/** A row by position: a client's transforms of column names cannot disturb it. */
export type Row = readonly unknown[];

/** Limits on one call. */
export interface CallOptions {
  /** Gives up waiting when aborted: the call then ends as *unknown* if it was already sent. */
  readonly signal?: AbortSignal | undefined;
  /** When the call has to have ended, by the monotonic clock of `performance.now()`. */
  readonly deadline?: number | undefined;
  /** A statement that may take long or much memory: it never shares a pipelined connection. */
  readonly isLong?: boolean | undefined;
  /** A statement that must not wait behind others, such as a heartbeat. */
  readonly isControl?: boolean | undefined;
  /** Whether a lock that is not to be had in time ends the call; else it is tried again until the deadline. */
  readonly isImpatient?: boolean | undefined;
}

/** Who is told of hints. */
export interface HintListener {
  /** Called for each hint that arrives. */
  onHint(text: string): void;
  /**
   * Called when hints begin to arrive, and when they do not any more; also by `listen` itself. It may be called with `true`
   * again, after an interruption that could not be told before.
   */
  onChange(isHeard: boolean): void;
}

/** Something that executes statements: a driver, or a transaction. */
export interface Connection {
  /**
   * Executes all parts of a statement as one atomic unit, in one round trip and one commit, and resolves to the rows of
   * all parts, in order. Rejects with a `DatabaseError` within the deadline.
   */
  query(rendered: Rendered, options?: CallOptions): Promise<readonly Row[]>;
}

/** A transaction in which the caller's own statements run beside ours. */
export interface TransactionConnection extends Connection {
  /** Executes a statement of the caller and resolves to its rows as objects. */
  run(text: string, values: readonly unknown[]): Promise<readonly Record<string, unknown>[]>;
}

/** Options of {@linkcode Driver.transaction}. */
export interface TransactionLimits extends CallOptions {
  /** Rolls back when the callback has not ended after this many milliseconds. */
  readonly timeoutMs: number;
}

/** One database, through one client. */
export interface Driver extends Connection {
  readonly dialect: Dialect;
  /** Whether a statement runs on the event loop, so that nothing else happens meanwhile. */
  readonly isSynchronous?: boolean;
  /** Where every look for work is a request over the network: how often to look at most, and at least. */
  readonly polling?: { readonly shortestMs: number; readonly longestMs: number };
  /** Runs `work` in a transaction that is committed when it resolves and rolled back when it rejects. */
  transaction<T>(work: (tx: TransactionConnection) => Promise<T>, limits: TransactionLimits): Promise<T>;
  /**
   * Joins a transaction that the caller has begun with a client of their own.
   *
   * @throws {TypeError} when `tx` is nothing that statements can be executed with.
   */
  join(tx: unknown): Connection;
  /**
   * Listens for hints of other processes on a channel until the function it returns is called. It connects by itself, again
   * and again, and never throws. A driver without it has no hints.
   */
  listen?(channel: string, listener: HintListener): () => void;
  /** Closes what this driver has opened, and nothing else. Called when no call is under way and none will come. */
  close(): Promise<void>;
}

/** What a driver needs to know beside the address. */
export interface DriverOptions {
  readonly maxConnections: number;
  readonly connectTimeoutMs: number;
  readonly timeoutMs: number;
  /** After how long a silent connection is asked whether it is still there. */
  readonly keepAliveMs: number;
  /** Whether SQLite writes ahead to a log, so that readers and the writer do not hinder each other. */
  readonly useWal: boolean;
  /** `true`: transaction pooler in between, `false`: certainly none, `"auto"`: find out. */
  readonly pooler: boolean | "auto";
  /** Gets what the server has to tell beside answers. */
  readonly onNotice: (message: string) => void;
}
