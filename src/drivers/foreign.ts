/** Joins a transaction that the caller has begun with a client of their own. */
import type { DialectName } from "../sql/dialect.ts";
import type { CallOptions, Connection, Row } from "../sql/driver.ts";
import type { Rendered } from "../sql/sql.ts";
import type { Execute } from "../transaction.ts";
import { type PostgresSession, sendRaw } from "./postgres_client.ts";
import { toDatabaseError as toPostgresError } from "./postgres_failure.ts";
import { toDatabaseError as toSqliteError } from "./sqlite_failure.ts";
import { runParts } from "./transaction.ts";

/** A connection on which our statements are part of the caller's transaction. @throws {TypeError} */
export function joinTransaction(tx: Execute | PostgresSession, dialect: DialectName): Connection {
  if (isSession(tx)) {
    return {
      query: ({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> =>
        runParts(parts, (part) => sendRaw(tx, name, part, options, false)),
    };
  }
  if (typeof tx !== "function") {
    throw new TypeError("Cannot use tx: it must be a transaction of the store, of a postgres client, or a function");
  }
  const toError = dialect === "postgres" ? toPostgresError : toSqliteError;
  return {
    query: ({ name, parts }: Rendered): Promise<readonly Row[]> =>
      runParts(parts, async ({ text, values }) => {
        try {
          const answer = await tx(text, [...values]);
          return ("rows" in answer ? answer.rows : answer).map(toRow);
        } catch (error) {
          throw toError(error, name);
        }
      }),
  };
}

/** A transaction of `postgres` is itself a function, so what tells it is its method. */
function isSession(tx: Execute | PostgresSession): tx is PostgresSession {
  return typeof (tx as { unsafe?: unknown } | null)?.unsafe === "function";
}

/** A row by position. What we execute in a caller's transaction names each column differently, so an object will do. */
function toRow(row: unknown): Row {
  return Array.isArray(row) ? row : Object.values(row as object);
}
