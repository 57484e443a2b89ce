/** What an error of the client or the server means: whether anything was applied, and what may be told about it. */
import { DatabaseError, type DatabaseReason, type Outcome } from "../errors.ts";
import type { CallOptions } from "../sql/driver.ts";

/** Classes of SQLSTATE whose server messages hold names and no values, so that they may be shown. */
const VALUE_FREE = [
  "08",
  "0A",
  "25",
  "28",
  "2B",
  "2D",
  "34",
  "3D",
  "3F",
  "40",
  "42",
  "53",
  "54",
  "55",
  "57",
  "58",
  "XX",
];

/** Something cannot be removed because of others; only the detail names them. */
const DEPENDED_UPON = "2BP01";

const LOCK_NOT_AVAILABLE = "55P03";

/** States after which the same statement may simply be sent again: it was rolled back for the sake of others. */
const RETRYABLE: readonly string[] = ["40001", "40P01", LOCK_NOT_AVAILABLE];

/** States with which a server that is starting, stopping or full turns a connection away. */
const TRY_LATER: readonly string[] = ["53300", "57P01", "57P02", "57P03", "57P05"];

/** Codes of a certificate that is refused and of a file of certificates that cannot be read: nobody will change them. */
const HOPELESS = /CERT|SELF_SIGNED|^UNABLE_TO_|^ERR_(SSL|TLS)_|^E(ACCES|ISDIR|NOENT|PERM)$/;

/** Makes a `DatabaseError` without any value of the statement: details, parameters and the original stay behind. */
export function toDatabaseError(error: unknown, statement: string): DatabaseError {
  if (error instanceof DatabaseError) return error;
  const { code, severity, message, constraint, detail } = fieldsOf(error);
  if (severity === undefined) {
    const failure = { outcome: "unknown", reason: "connection", statement } as const;
    return new DatabaseError(`Connection was lost during ${statement}: it may or may not have been applied`, failure);
  }
  const outcome = outcomeOf(code, severity);
  // A syntax error quotes the place where the parser stopped, which may be a literal.
  const shown = VALUE_FREE.includes(code.slice(0, 2))
    ? message.replace(/ at or near "[^\w].*$/s, "") + (code === DEPENDED_UPON ? `: ${detail}` : "")
    : describeClass(code, constraint);
  const told = outcome === "unknown" ? "it may or may not have been applied" : "nothing was changed";
  return new DatabaseError(`Cannot ${statement}: ${shown} (SQLSTATE ${code}); ${told}`, {
    outcome,
    reason: reasonOf(code, outcome),
    statement,
    sqlState: code,
  });
}

/** Whether the statement was rolled back for the sake of others and may be sent again at once. */
export function isRetryable(error: unknown, { isImpatient = false }: CallOptions): boolean {
  if (!(error instanceof DatabaseError) || error.sqlState === undefined) return false;
  return RETRYABLE.includes(error.sqlState) && !(isImpatient && error.sqlState === LOCK_NOT_AVAILABLE);
}

/**
 * Looks at what COMMIT answered: after a failed statement whose error was swallowed, the server rolls back and reports no
 * error. @throws {DatabaseError} when it did.
 */
export function assertCommitted(answer: unknown): void {
  if ((answer as { readonly command?: unknown }).command !== "ROLLBACK") return;
  throw new DatabaseError("Transaction was rolled back because a statement in it had failed: nothing was changed", {
    outcome: "not_applied",
    reason: "server",
    statement: "commit",
    sqlState: "25P02",
  });
}

/** Whether another attempt to connect may succeed without anybody changing the configuration. */
export function isWorthReconnecting(error: unknown): boolean {
  const { code, severity } = fieldsOf(error);
  if (severity === undefined && HOPELESS.test(code)) return false;
  return severity === undefined || TRY_LATER.includes(code) || code.startsWith("08");
}

function outcomeOf(code: string, severity: string): Outcome {
  if (severity === "FATAL" || severity === "PANIC") return "unknown";
  return code === "40003" || code.startsWith("08") ? "unknown" : "not_applied";
}

function reasonOf(code: string, outcome: Outcome): DatabaseReason {
  if (outcome === "unknown" || code.startsWith("57P")) return "connection";
  if (code.startsWith("23")) return "constraint";
  if (code === "42501" || code.startsWith("28")) return "permission";
  if (RETRYABLE.includes(code)) return "busy";
  return code === "57014" ? "timeout" : "server";
}

function describeClass(code: string, constraint: string | undefined): string {
  if (code.startsWith("23")) return `a constraint was violated${constraint === undefined ? "" : ` ("${constraint}")`}`;
  if (code.startsWith("22")) return "a value cannot be represented in the database";
  return "the database reported an error";
}

interface ServerFields {
  readonly code: string;
  readonly severity: string | undefined;
  readonly message: string;
  readonly constraint: string | undefined;
  readonly detail: string;
}

function fieldsOf(error: unknown): ServerFields {
  const fields = (typeof error === "object" && error !== null ? error : {}) as Record<string, unknown>;
  const textOf = (value: unknown): string | undefined => typeof value === "string" ? value : undefined;
  return {
    code: textOf(fields.code) ?? "",
    // Only an answer of the server has a severity; it may be translated, `severity_local` is not read for that reason.
    severity: textOf(fields.severity),
    message: textOf(fields.message) ?? "",
    constraint: textOf(fields.constraint_name),
    detail: textOf(fields.detail) ?? "",
  };
}
