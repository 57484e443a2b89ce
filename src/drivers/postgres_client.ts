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
import { endWithin, rolledBack, runParts, TransactionClock } from "./transaction.ts";

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

const decoder = new TextDecoder();
const COMMIT_MS = 1_000;

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
    return new DatabaseError(`No answer to ${name} in time: it may or may not have been applied`, {
      outcome: "unknown",
      reason,
      statement: name,
    });
  }) as readonly (readonly (Uint8Array | null)[])[];
  return rows.map((row) => row.map((value) => value === null ? null : decoder.decode(value)));
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
    const session = await this.#client.reserve();
    const send = (text: string, limits: CallOptions): Promise<unknown> =>
      sendRaw(session, text, { text, values: [] }, limits, false);
    try {
      try {
        await send("begin", clock);
        const result = await endWithin(work(new ReservedTransaction(session, clock)), clock);
        clock.end();
        assertCommitted(await send("commit", { deadline: performance.now() + COMMIT_MS }));
        return result;
      } catch (error) {
        if (isCommitInDoubt(error)) throw error;
        clock.end();
        await send("rollback", { deadline: performance.now() + COMMIT_MS }).catch(() => {});
        throw rolledBack(error);
      }
    } finally {
      session.release();
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

function isCommitInDoubt(error: unknown): boolean {
  return error instanceof DatabaseError && error.statement === "commit" && error.outcome === "unknown";
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
    const answer = Promise.resolve(this.#session.unsafe(text, [...values]));
    return await endWithin(answer, this.#clock.within({})) as readonly Record<string, unknown>[];
  }
}
