/**
 * The driver for a `postgres` client that the caller made and goes on owning: it is used as it is and never closed.
 *
 * Its transforms and parsers cannot disturb us: statements are sent as text with text values and answers are read raw. A
 * connection of somebody else cannot be disposed of, so a call that gets no answer ends as *unknown* and is cancelled.
 */
import { DatabaseError } from "../errors.ts";
import { postgres as dialect } from "../sql/dialect.ts";
import type {
  CallOptions,
  Driver,
  DriverOptions,
  Row,
  TransactionConnection,
  TransactionLimits,
} from "../sql/driver.ts";
import type { Rendered, RenderedPart } from "../sql/sql.ts";
import { assertCommitted, toDatabaseError } from "./postgres_failure.ts";
import { CALLERS, endWithin, rolledBack, runParts, TransactionClock } from "./transaction.ts";

/** What we use of a `postgres` client, a reserved connection or a transaction of it. */
export interface PostgresSession {
  /** Sends a text with values. */
  unsafe(text: string, values?: unknown[], options?: Record<string, unknown>): PostgresQuery;
}

/** What we use of a `postgres` client. */
export interface PostgresClient extends PostgresSession {
  /** Takes a connection out of the pool. */
  reserve(): Promise<PostgresSession & { release(): void }>;
}

/** What we use of a query of a `postgres` client. */
export interface PostgresQuery extends PromiseLike<unknown> {
  /** Resolves to rows of undecoded columns. */
  raw(): PromiseLike<unknown>;
  /** Asks the server to stop. */
  cancel(): unknown;
}

/** Rows of undecoded columns, and what the server says that it did. */
type RawAnswer = readonly (readonly (Uint8Array | null)[])[] & { readonly command?: string };

const decoder = new TextDecoder();
/** How long the end of a transaction may take, whatever was left of its time. */
const COMMIT_MS = 900;

/** Makes a driver of the caller's client. */
export function adoptPostgres(client: PostgresClient, options: DriverOptions): Driver {
  return new PostgresClientDriver(client, options);
}

/** Sends one part through a session of the client and reads the answer raw. */
export async function sendRaw(
  session: PostgresSession,
  name: string,
  { text, values }: RenderedPart,
  limits: CallOptions,
  isPrepared: boolean,
): Promise<readonly Row[]> {
  const query = session.unsafe(text, [...values], { prepare: isPrepared, simple: false });
  const answer = Promise.resolve(query.raw()).catch((error) => {
    throw toDatabaseError(error, name);
  });
  const rows = await endWithin(answer, limits, (reason) => {
    query.cancel();
    return unanswered(name, reason);
  }) as RawAnswer;
  const decoded = rows.map((row) => row.map((value) => value === null ? null : decoder.decode(value)));
  return Object.assign(decoded, { command: rows.command });
}

class PostgresClientDriver implements Driver {
  readonly dialect = dialect;
  readonly #client: PostgresClient;
  readonly #options: DriverOptions;

  constructor(client: PostgresClient, options: DriverOptions) {
    this.#client = client;
    this.#options = options;
  }

  async query({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> {
    const limits = { ...options, deadline: options.deadline ?? performance.now() + this.#options.timeoutMs };
    if (parts.length === 1) {
      return await sendRaw(this.#client, name, parts[0] as RenderedPart, limits, this.#options.pooler === false);
    }
    const timeoutMs = this.#options.timeoutMs;
    return await this.transaction((tx) => tx.query({ name, parts }, limits), { ...limits, timeoutMs });
  }

  async transaction<T>(work: (tx: TransactionConnection) => Promise<T>, limits: TransactionLimits): Promise<T> {
    const clock = new TransactionClock(limits);
    // `begin` of the client can send a transaction's first statement on a connection that others use as well.
    const session = await this.#reserve(clock);
    let result: T;
    try {
      await sendRaw(session, "begin", { text: "begin", values: [] }, clock, false);
      result = await endWithin(work(new ReservedTransaction(session, clock)), clock);
    } catch (error) {
      clock.end();
      await leave(session, "rollback", clock).catch(() => {});
      throw rolledBack(error);
    }
    clock.end();
    await leave(session, "commit", clock);
    return result;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #reserve(limits: CallOptions): Promise<ReservedSession> {
    const reserved = this.#client.reserve();
    try {
      return await endWithin(
        reserved,
        limits,
        (reason) =>
          new DatabaseError("Cannot begin a transaction: all connections are busy; nothing was changed", {
            outcome: "not_applied",
            reason,
            statement: "begin a transaction",
          }),
      );
    } catch (error) {
      // It may still come, and then it belongs to the others.
      reserved.then((session) => session.release(), () => {});
      throw error instanceof DatabaseError ? error : toDatabaseError(error, "begin a transaction");
    }
  }
}

type ReservedSession = PostgresSession & { release(): void };

/** Ends the transaction and gives the session back, unless it is lost or may still be inside the transaction. */
async function leave(session: ReservedSession, text: "commit" | "rollback", clock: TransactionClock): Promise<void> {
  const answer = sendRaw(session, text, { text, values: [] }, {}, false);
  const release = (): void => session.release();
  answer.then(release, (error) => error.outcome === "not_applied" && release());
  const deadline = Math.max(text === "commit" ? clock.deadline : 0, performance.now() + COMMIT_MS);
  const answered = await endWithin(answer, { deadline }, (reason) => unanswered(text, reason));
  if (text === "commit") assertCommitted(answered);
}

function unanswered(statement: string, reason: "aborted" | "timeout"): DatabaseError {
  return new DatabaseError(`No answer to ${statement} in time: it may or may not have been applied`, {
    outcome: "unknown",
    reason,
    statement,
  });
}

class ReservedTransaction implements TransactionConnection {
  readonly #session: PostgresSession;
  readonly #clock: TransactionClock;

  constructor(session: PostgresSession, clock: TransactionClock) {
    this.#session = session;
    this.#clock = clock;
  }

  async query({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> {
    this.#clock.assertOpen();
    const limits = this.#clock.within(options);
    return await runParts(parts, (part) => sendRaw(this.#session, name, part, limits, false));
  }

  async run(text: string, values: readonly unknown[]): Promise<readonly Record<string, unknown>[]> {
    this.#clock.assertOpen();
    const answer = Promise.resolve(this.#session.unsafe(text, [...values])).catch((error) => {
      throw toDatabaseError(error, CALLERS);
    });
    return [...await endWithin(answer, this.#clock.within({})) as readonly Record<string, unknown>[]];
  }
}
