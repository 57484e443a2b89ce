/**
 * The part of Hrana 2, in its JSON form, that the test server speaks.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import type { SQLInputValue, SQLOutputValue } from "node:sqlite";

/** A value on the wire. */
export type Value =
  | { type: "null" }
  | { type: "integer"; value: string }
  | { type: "float"; value: number }
  | { type: "text"; value: string }
  | { type: "blob"; base64: string };

/** A statement, by its text or by the number of a stored text. */
export interface Statement {
  sql?: string | null;
  sql_id?: number | null;
  args?: Value[];
  named_args?: { name: string; value: Value }[];
}

/** What a statement answers. */
export interface StatementResult {
  cols: { name: string; decltype: string | null }[];
  rows: Value[][];
  affected_row_count: number;
  last_insert_rowid: string;
}

/** When a step of a batch runs. */
export type Condition =
  | { type: "ok" | "error"; step: number }
  | { type: "not"; cond: Condition }
  | { type: "and" | "or"; conds: Condition[] }
  | { type: "is_autocommit" };

/** One thing asked of a stream. */
export type Request =
  | { type: "execute"; stmt: Statement }
  | { type: "batch"; batch: { steps: { condition?: Condition | null; stmt: Statement }[] } }
  | { type: "sequence"; sql?: string | null; sql_id?: number | null }
  | { type: "store_sql"; sql_id: number; sql: string }
  | { type: "close_sql"; sql_id: number }
  | { type: "get_autocommit" }
  | { type: "close" };

/** The body of one HTTP request. */
export interface Pipeline {
  baton: string | null;
  requests: Request[];
}

/** How a failure looks on the wire. */
export interface HranaError {
  message: string;
  code: string;
}

/** For each step of a batch its result or its error; both are null for a step that did not run. */
export interface BatchOutcome {
  step_results: (StatementResult | null)[];
  step_errors: (HranaError | null)[];
}

/** The value as SQLite takes it. */
export function decode(value: Value): SQLInputValue {
  switch (value.type) {
    case "null":
      return null;
    case "integer":
      return BigInt(value.value);
    case "blob":
      return Buffer.from(value.base64, "base64");
    default:
      return value.value;
  }
}

/** The value as the client takes it. */
export function encode(value: SQLOutputValue): Value {
  if (value === null) return { type: "null" };
  if (typeof value === "bigint") return { type: "integer", value: String(value) };
  if (typeof value === "number") return { type: "float", value };
  if (typeof value === "string") return { type: "text", value };
  return { type: "blob", base64: Buffer.from(value).toString("base64") };
}
