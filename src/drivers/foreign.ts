/** Joins a transaction that the caller has begun with a client of their own, through a function that executes. */
import { DatabaseError } from "../errors.ts";
import type { CallOptions, Connection, Row } from "../sql/driver.ts";
import type { Rendered } from "../sql/sql.ts";
import type { Execute } from "../transaction.ts";
import { endWithin, runParts, Turns } from "./transaction.ts";

/** A transaction is known by the function that executes in it: calls that are made at once with the same one take turns. */
const turnsOf = new WeakMap<Execute, Turns>();

/** A connection on which our statements are part of the caller's transaction. @throws {TypeError} */
export function joinExecute(tx: unknown, toError: (error: unknown, statement: string) => DatabaseError): Connection {
  if (typeof tx !== "function") {
    throw new TypeError("Cannot use tx: it must be a transaction of the store, of a postgres client, or a function");
  }
  const execute = tx as Execute;
  const turns = turnsOf.get(execute) ?? new Turns();
  turnsOf.set(execute, turns);
  return {
    query: ({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> => {
      const rows = turns.take(() =>
        runParts(parts, async ({ text, values }) => {
          try {
            const answer = await execute(text, [...values]);
            return ("rows" in answer ? answer.rows : answer).map(toRow);
          } catch (error) {
            throw toError(error, name);
          }
        })
      );
      return endWithin(rows, options, (reason) => undecided(name, reason));
    },
  };
}

function undecided(statement: string, reason: "aborted" | "timeout"): DatabaseError {
  return new DatabaseError(`No answer to ${statement} in the caller's transaction in time: its end decides`, {
    outcome: "unknown",
    reason,
    statement,
  });
}

/** A row by position. What we execute in a caller's transaction has one column, so an object will do. */
function toRow(row: unknown): Row {
  return Array.isArray(row) ? row : Object.values(row as object);
}
