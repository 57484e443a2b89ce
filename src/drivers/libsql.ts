/**
 * The driver for remote libSQL and Turso, over the `/web` entry of its client, which loads no native code.
 *
 * Several parts travel as one `batch` in write mode: one request, one transaction. Only a caller's own transaction is
 * interactive.
 */
import { ConfigError, DatabaseError, type Outcome } from "../errors.ts";
import { sqlite as dialect } from "../sql/dialect.ts";
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
import { unanswered, unsent } from "./failure.ts";
import { joinExecute } from "./foreign.ts";
import { isBusy, toDatabaseError } from "./sqlite_failure.ts";
import { encodeCallerValue } from "./sqlite_value.ts";
import { CALLERS, COMMIT_MS, endWithin, rolledBack, runParts, TransactionClock, Turns } from "./transaction.ts";

/** What we use of a result of a libSQL client. */
export interface LibsqlResult {
  /** The rows; a row has its columns under their positions as well. */
  readonly rows: readonly unknown[];
  /** The names of the columns. */
  readonly columns: readonly string[];
}

/** What we use of an interactive transaction of a libSQL client. */
export interface LibsqlTransaction {
  /** Executes one statement. */
  execute(statement: { sql: string; args: never[] }): Promise<LibsqlResult>;
  /** Commits. */
  commit(): Promise<void>;
  /** Rolls back. */
  rollback(): Promise<void>;
  /** Gives the stream up. */
  close(): void;
}

/** What we use of a libSQL client. */
export interface LibsqlClient {
  /** Executes one statement. */
  execute(statement: { sql: string; args: never[] }): Promise<LibsqlResult>;
  /** Executes several statements in one transaction. */
  batch(statements: { sql: string; args: never[] }[], mode: "write"): Promise<LibsqlResult[]>;
  /** Begins an interactive transaction. */
  transaction(mode: "write"): Promise<LibsqlTransaction>;
  /** Closes the client. */
  close(): void;
}

const SHORTEST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 200;
/** A look is a request over the network, which the provider may count. */
const POLLING = { shortestMs: 1_000, longestMs: 5_000 };

/** Opens a driver for a `libsql:`, `turso:`, `http:` or `https:` DSN. */
export async function openLibsql(dsn: string, options: DriverOptions): Promise<Driver> {
  const { createClient } = await import("@libsql/client/web");
  try {
    const client = createClient({ url: dsn.replace(/^turso:/, "libsql:"), intMode: "number", fetch: sendOnce });
    return new LibsqlDriver(client as unknown as LibsqlClient, options, true);
  } catch (error) {
    // The message of the client repeats the DSN with the token in it.
    const { code } = error as { code?: unknown };
    throw new ConfigError(`Cannot use the libSQL DSN: ${typeof code === "string" ? code : "it is not a URL"}`);
  }
}

/**
 * Sends a request one time. Deno's `fetch` sends a POST again when the connection was reset, by which a batch that had been
 * applied would be applied twice; it cannot repeat a body that is a stream.
 */
async function sendOnce(request: Request): Promise<Response> {
  const { method, headers, url, signal } = request;
  // Deno's `fetch` would say the same, but a stream that it refuses keeps the process alive for ever.
  if (isDenied(url)) throw new Error("Requires net access");
  const body = new Blob([await request.text()]).stream();
  const init: RequestInit & { readonly duplex: "half" } = { method, headers, signal, body, duplex: "half" };
  const response = await fetch(url, init);
  if (response.status < 400) return response;
  // The client would keep what the page says and forget the status, which alone tells what has happened.
  await response.body?.cancel();
  throw new Error(`HTTP status ${response.status}`);
}

/** What we use of Deno, where there is one. */
interface Runtime {
  readonly Deno?: {
    readonly permissions?: { requestSync?(wanted: { name: "net"; host: string }): { readonly state: string } };
  };
}

/** Whether Deno lets no request go there; at a terminal it asks the user first, as for every permission. */
function isDenied(url: string): boolean {
  const { Deno: deno }: Runtime = globalThis;
  const { hostname, port, protocol } = new URL(url);
  const host = `${hostname}:${port || (protocol === "https:" ? "443" : "80")}`;
  return deno?.permissions?.requestSync?.({ name: "net", host }).state === "denied";
}

/** Makes a driver of a client that the caller made and goes on owning. */
export function adoptLibsql(client: LibsqlClient, options: DriverOptions): Driver {
  return new LibsqlDriver(client, options, false);
}

class LibsqlDriver implements Driver {
  readonly #turns = new Turns();
  readonly dialect = dialect;
  readonly polling = POLLING;
  readonly #client: LibsqlClient;
  readonly #isOwned: boolean;
  readonly #timeoutMs: number;

  constructor(client: LibsqlClient, { timeoutMs }: DriverOptions, isOwned: boolean) {
    this.#client = client;
    this.#isOwned = isOwned;
    this.#timeoutMs = timeoutMs;
  }

  async query({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> {
    const limits = { ...options, deadline: options.deadline ?? performance.now() + this.#timeoutMs };
    return await this.#whileBusy(name, limits, async () => {
      const [first] = parts;
      if (parts.length === 1 && first !== undefined) return toRows(await this.#client.execute(encode(first)));
      return (await this.#client.batch(parts.map(encode), "write")).flatMap(toRows);
    });
  }

  /** One at a time: those that compete for the write lock by asking again and again would keep each other from it. */
  transaction<T>(work: (tx: TransactionConnection) => Promise<T>, limits: TransactionLimits): Promise<T> {
    return this.#turns.take(() => this.#transact(work, limits));
  }

  async #transact<T>(work: (tx: TransactionConnection) => Promise<T>, limits: TransactionLimits): Promise<T> {
    const clock = new TransactionClock(limits);
    let isWanted = true;
    const tx = await this.#whileBusy("begin a transaction", clock, async () => {
      const begun = await this.#client.transaction("write");
      // The client begins with the first statement. If that were one of the caller's, a busy database would fail it.
      await begun.execute({ sql: "select 1", args: [] }).catch((error) => {
        begun.close();
        throw error;
      });
      // One that comes too late would keep the write lock until the server gives its stream up.
      if (!isWanted) begun.close();
      return begun;
    }).catch((error) => {
      isWanted = false;
      throw rolledBack(error);
    });
    try {
      let result: T;
      try {
        result = await endWithin(work(new RemoteTransaction(tx, clock)), clock);
        clock.end();
      } catch (error) {
        clock.end();
        await endWithin(tx.rollback(), { deadline: performance.now() + COMMIT_MS }).catch(() => {});
        throw rolledBack(error);
      }
      await endWithin(
        tx.commit(),
        { deadline: Math.max(clock.deadline, performance.now() + COMMIT_MS) },
        (reason) => unanswered("commit", reason),
      )
        .catch((error) => {
          throw toFailure(error, "commit");
        });
      return result;
    } finally {
      tx.close();
    }
  }

  join(tx: unknown): Connection {
    return joinExecute(tx, toDatabaseError);
  }

  close(): Promise<void> {
    if (this.#isOwned) this.#client.close();
    return Promise.resolve();
  }

  /** Sends until the database is free. A request whose answer was lost is never sent again: it may have been applied. */
  async #whileBusy<T>(name: string, limits: CallOptions, send: () => Promise<T>): Promise<T> {
    for (let pause = SHORTEST_PAUSE_MS;; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      if (limits.signal?.aborted) throw unsent(name, "aborted", "the call was aborted");
      try {
        return await endWithin(send(), limits, (reason) => unanswered(name, reason));
      } catch (error) {
        const failure = toFailure(error, name);
        const isLate = limits.deadline !== undefined && performance.now() + pause > limits.deadline;
        if (!isBusy(failure) || isLate) throw failure;
      }
      await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random() / 2)));
    }
  }
}

class RemoteTransaction implements TransactionConnection {
  readonly #tx: LibsqlTransaction;
  readonly #clock: TransactionClock;
  readonly #turns = new Turns();

  constructor(tx: LibsqlTransaction, clock: TransactionClock) {
    this.#tx = tx;
    this.#clock = clock;
  }

  async query({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> {
    this.#clock.assertOpen();
    return await this.#turns.take(() =>
      runParts(parts, async (part) => toRows(await this.#execute(encode(part), name, options)))
    );
  }

  async run(text: string, values: readonly unknown[]): Promise<readonly Record<string, unknown>[]> {
    this.#clock.assertOpen();
    const statement = { sql: text, args: values.map(encodeCallerValue) as never[] };
    const { rows, columns } = await this.#turns.take(() => this.#execute(statement, CALLERS, {}));
    return rows.map((row) => {
      const values = row as Record<number, unknown>;
      return Object.fromEntries(columns.map((column, i) => [column, values[i]]));
    });
  }

  async #execute(statement: { sql: string; args: never[] }, name: string, limits: CallOptions): Promise<LibsqlResult> {
    this.#clock.assertOpen();
    const answer = this.#tx.execute(statement).catch((error) => {
      throw toFailure(error, name);
    });
    return await endWithin(answer, this.#clock.within(limits));
  }
}

function encode({ text, values }: RenderedPart): { sql: string; args: never[] } {
  return { sql: text, args: [...values] as never[] };
}

function toRows({ rows, columns }: LibsqlResult): Row[] {
  return rows.map((row) => {
    const values = row as Record<number, unknown>;
    return columns.map((_, i) => values[i]);
  });
}

/** What the runtimes say when a request has never left the process: refused, or of a name that nobody knows. */
const UNSENT =
  /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|ConnectionRefused|[Cc]onnection refused|Unable to connect|client error \(Connect\)|Requests to port/;

/** What Deno says when it does not let a request go. */
const DENIED = /Requires net access/;

function toFailure(error: unknown, statement: string): DatabaseError {
  if (error instanceof DatabaseError) return error;
  const { code } = error as { code?: unknown };
  if (typeof code === "string" && code.startsWith("SQLITE_")) return toDatabaseError(error, statement);
  const text = textOf(error);
  if (DENIED.test(text)) return unsent(statement, "permission", "Deno needs the permission --allow-net");
  const status = /HTTP status (\d+)/.exec(text)?.[1];
  const isRefused = status !== undefined && status.startsWith("4") && status !== "408";
  return connectionFailure(statement, UNSENT.test(text) || isRefused ? "not_applied" : "unknown", status);
}

/** The codes and messages of an error and of what caused it: each runtime tells in another place. */
function textOf(error: unknown): string {
  const texts: string[] = [];
  let { cause, code, message } = (error ?? {}) as { cause?: unknown; code?: unknown; message?: unknown };
  for (let depth = 0; depth < 4; depth++) {
    texts.push(String(code), String(message));
    ({ cause, code, message } = (cause ?? {}) as { cause?: unknown; code?: unknown; message?: unknown });
  }
  return texts.join(" ");
}

function connectionFailure(statement: string, outcome: Outcome, status: string | undefined): DatabaseError {
  const effect = outcome === "unknown" ? "it may or may not have been applied" : "nothing was changed";
  const why = status === undefined ? "no answer from the server" : `the server answered with HTTP status ${status}`;
  return new DatabaseError(`Cannot ${statement}: ${why}; ${effect}`, {
    outcome,
    reason: status === "401" || status === "403" ? "permission" : "connection",
    statement,
  });
}
