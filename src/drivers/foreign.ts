/** Joins a transaction that the caller has begun with a client of their own, through a function that executes. */
import type { DatabaseError } from "../errors.ts";
import type { Connection, Row } from "../sql/driver.ts";
import type { Rendered } from "../sql/sql.ts";
import type { Execute } from "../transaction.ts";
import { runParts } from "./transaction.ts";

/** A connection on which our statements are part of the caller's transaction. @throws {TypeError} */
export function joinExecute(tx: unknown, toError: (error: unknown, statement: string) => DatabaseError): Connection {
  if (typeof tx !== "function") {
    throw new TypeError("Cannot use tx: it must be a transaction of the store, of a postgres client, or a function");
  }
  const execute = tx as Execute;
  return {
    query: ({ name, parts }: Rendered): Promise<readonly Row[]> =>
      runParts(parts, async ({ text, values }) => {
        try {
          const answer = await execute(text, [...values]);
          return ("rows" in answer ? answer.rows : answer).map(toRow);
        } catch (error) {
          throw toError(error, name);
        }
      }),
  };
}

/** A row by position. What we execute in a caller's transaction has one column, so an object will do. */
function toRow(row: unknown): Row {
  return Array.isArray(row) ? row : Object.values(row as object);
}
