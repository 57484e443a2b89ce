/** What an error of SQLite means, on every client and runtime. */
import { DatabaseError, type DatabaseReason } from "../errors.ts";

const NAMES: Readonly<Record<number, string>> = {
  1: "SQLITE_ERROR",
  3: "SQLITE_PERM",
  5: "SQLITE_BUSY",
  6: "SQLITE_LOCKED",
  7: "SQLITE_NOMEM",
  8: "SQLITE_READONLY",
  10: "SQLITE_IOERR",
  11: "SQLITE_CORRUPT",
  13: "SQLITE_FULL",
  14: "SQLITE_CANTOPEN",
  19: "SQLITE_CONSTRAINT",
  26: "SQLITE_NOTADB",
};

const REASONS: Readonly<Record<string, DatabaseReason>> = {
  SQLITE_BUSY: "busy",
  SQLITE_CANTOPEN: "connection",
  SQLITE_CONSTRAINT: "constraint",
  SQLITE_LOCKED: "busy",
  SQLITE_PERM: "permission",
  SQLITE_READONLY: "permission",
};

/** What may be told of a message: names of tables and columns, a word of a statement, a file, but no value. */
const TOLD =
  /^(Requires (read|write) access|no such (table|column|function)|near "\w{1,40}": syntax error|(NOT NULL|UNIQUE|CHECK|PRIMARY KEY) constraint failed|table \S+ (has no|already)|index \S+ already)/;

/** Makes a `DatabaseError` without any value of the statement. */
export function toDatabaseError(error: unknown, statement: string): DatabaseError {
  if (error instanceof DatabaseError) return error;
  const name = resultName(error);
  // The libSQL client puts the code before the message once more for a batch and in a transaction.
  const message = String((error as { message?: unknown } | null)?.message ?? "").replace(
    /^(SQLITE_\w+: )+(SQLite error: )?/,
    "",
  );
  const told = TOLD.test(message) ? `: ${message.slice(0, 200)}` : "";
  // A failed write to the disk may have happened after the commit record had reached it.
  const outcome = name === "SQLITE_IOERR" ? "unknown" : "not_applied";
  const effect = outcome === "unknown" ? "it may or may not have been applied" : "nothing was changed";
  return new DatabaseError(`Cannot ${statement}: ${name}${told}; ${effect}`, {
    outcome,
    reason: REASONS[name] ?? "server",
    statement,
    sqlState: name,
  });
}

/** How SQLite itself says what it is, for runtimes that give no code. */
const SENTENCES: readonly (readonly [RegExp, string])[] = [
  [/database( table)? is locked/, "SQLITE_BUSY"],
  [/constraint failed/, "SQLITE_CONSTRAINT"],
  [/unable to open database file/, "SQLITE_CANTOPEN"],
  [/file is not a database/, "SQLITE_NOTADB"],
];

/** Whether another connection holds a lock, so that the same statement may simply be tried again. */
export function isBusy(error: unknown): boolean {
  const name = error instanceof DatabaseError ? error.sqlState : resultName(error);
  return name === "SQLITE_BUSY" || name === "SQLITE_LOCKED";
}

function resultName(error: unknown): string {
  const { errcode, code, message, name } = Object(error) as Record<"code" | "errcode" | "message" | "name", unknown>;
  // Deno has not even asked SQLite.
  if (name === "NotCapable") return "SQLITE_PERM";
  if (typeof errcode === "number") return NAMES[errcode & 0xff] ?? `SQLITE_${errcode}`;
  const known = Object.values(NAMES);
  if (typeof code === "string" && code.startsWith("SQLITE_")) {
    return known.find((name) => code.startsWith(name)) ?? code;
  }
  // Some runtimes give no code, only the sentence of SQLite.
  const text = String(message);
  return SENTENCES.find(([sentence]) => sentence.test(text))?.[1] ?? "SQLITE_ERROR";
}
