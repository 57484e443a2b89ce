/** What we use of a `postgres` client of the caller, and how our statements travel through it. */
import type { CallOptions, Connection, Row } from "../sql/driver.ts";
import type { Rendered, RenderedPart } from "../sql/sql.ts";
import { unanswered } from "./failure.ts";
import { joinExecute } from "./foreign.ts";
import { toDatabaseError } from "./postgres_failure.ts";
import { endWithin, runParts } from "./transaction.ts";

/** What we use of a `postgres` client, a reserved connection or a transaction of it. */
export interface PostgresSession {
  /** Sends a text with values. */
  unsafe(text: string, values?: unknown[], options?: Record<string, unknown>): PostgresQuery;
}

/** What we use of a `postgres` client. */
export interface PostgresClient extends PostgresSession {
  /** Takes a connection out of the pool. */
  reserve(): Promise<PostgresSession & { release(): void }>;
  /** Listens on a channel with a connection of its own. A client without it hears nothing of other processes. */
  listen?(
    channel: string,
    onNotify: (text: string) => void,
    onListen?: () => void,
  ): Promise<{ unlisten(): Promise<unknown> }>;
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

/** Joins a transaction of a `postgres` client, or of any other through a function. @throws {TypeError} */
export function joinPostgres(tx: unknown): Connection {
  // A transaction of `postgres` is itself a function, so what tells it is its method.
  if (typeof (tx as { unsafe?: unknown } | null)?.unsafe !== "function") return joinExecute(tx, toDatabaseError);
  return {
    query: ({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> =>
      runParts(parts, (part) => sendRaw(tx as PostgresSession, name, part, options, false)),
  };
}
