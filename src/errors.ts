/**
 * The errors that a caller is meant to handle.
 *
 * A wrong argument is a built-in `TypeError` or `RangeError`, thrown before anything is sent. All else is a
 * {@linkcode PgqrsError} with a `code` of a closed union. No message, property or cause of any of them carries a password
 * or a payload.
 *
 * @module
 */
import type { StoredError } from "./json.ts";

/** Every value that {@linkcode PgqrsError.code} can have. */
export type ErrorCode =
  | "cancelled"
  | "config"
  | "database"
  | "failed"
  | "interrupted"
  | "lease_lost"
  | "not_found"
  | "not_retryable"
  | "retry"
  | "schema"
  | "state"
  | "timeout";

/** What is known about the effect of a failed call: nothing was changed, or nobody can tell. */
export type Outcome = "not_applied" | "unknown";

/** Why the database did not answer as it should: see {@linkcode DatabaseError.reason}. */
export type DatabaseReason =
  | "aborted"
  | "busy"
  | "closed"
  | "connection"
  | "constraint"
  | "permission"
  | "server"
  | "timeout";

/** A hundred years, the longest duration that is stored, in milliseconds. */
const LONGEST_MS = 3_155_760_000_000;

/** The root of all errors of this package that are meant to be caught. */
export class PgqrsError extends Error {
  /** Which kind of error this is; a closed union, so that a `switch` over it is exhaustive. */
  readonly code: ErrorCode;

  /** Makes an error of the given kind. */
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** The queue, message, run or worker that was named does not exist. */
export class NotFoundError extends PgqrsError {
  /** Makes the error with a message that says what was looked for and what to do. */
  constructor(message: string) {
    super("not_found", message);
  }
}

/** What was asked does not fit the state in which the thing is. */
export class StateError extends PgqrsError {
  /** The state in which the thing was found, if there is one. */
  readonly from: string | undefined;
  /** The state or effect that was asked for, if there is one. */
  readonly to: string | undefined;

  /** Makes the error; `from` and `to` name the transition that was refused. */
  constructor(message: string, transition: { readonly from?: string; readonly to?: string } = {}) {
    super("state", message);
    this.from = transition.from;
    this.to = transition.to;
  }
}

/** The tables are missing, belong to somebody else, or are of a release that this one cannot work with. */
export class SchemaError extends PgqrsError {
  /** Makes the error with a message that names the next step. */
  constructor(message: string) {
    super("schema", message);
  }
}

/** A setting is missing or has a value that cannot be used; the message names the source and the setting. */
export class ConfigError extends PgqrsError {
  /** Makes the error. A secret is never part of the message. */
  constructor(message: string) {
    super("config", message);
  }
}

/** The lease of a message was lost: it is somebody else's by now, or has ended, and nothing was changed. */
export class LeaseLostError extends PgqrsError {
  /** Makes the error with a message that names the message of the queue. */
  constructor(message: string) {
    super("lease_lost", message);
  }
}

/** A message was cancelled. */
export class CancelledError extends PgqrsError {
  /** Why, as the archive has it: `"expired"` for one that was not begun in time. */
  readonly reason: string | null;

  /** Makes the error with a message that names the message of the queue. */
  constructor(message: string, reason: string | null = null) {
    super("cancelled", message);
    this.reason = reason;
  }
}

/**
 * Thrown by a handler: the attempt has failed, and the next one is to be made after this pause, whatever the policy says.
 *
 * @example Usage
 * ```ts
 * import { job, RetryError } from "@pgqrs/pgqrs";
 *
 * job("pages", async (message) => {
 *   const response = await fetch(String(message.payload));
 *   const seconds = Number(response.headers.get("retry-after") ?? 1);
 *   if (response.status === 429) throw new RetryError("The site asks for a pause", { afterMs: seconds * 1_000 });
 * });
 * ```
 */
export class RetryError extends PgqrsError {
  /** How long to wait, in milliseconds; undefined: what the policy says. */
  readonly afterMs: number | undefined;

  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { readonly afterMs?: number } = {}) {
    super("retry", message, options);
    const { afterMs } = options;
    if (afterMs !== undefined && !(Number.isSafeInteger(afterMs) && afterMs >= 0 && afterMs <= LONGEST_MS)) {
      throw new RangeError(`Cannot use afterMs: it must be a whole number of milliseconds from 0 to ${LONGEST_MS}`);
    }
    this.afterMs = afterMs;
  }
}

/** Thrown by a handler: another attempt makes no sense, so the message becomes a dead letter at once. */
export class NonRetryableError extends PgqrsError {
  /** Makes the error. */
  constructor(message: string, options?: ErrorOptions) {
    super("not_retryable", message, options);
  }
}

/** A step that may begin at most once was begun, and its process has ended: nobody knows what it has done. */
export class InterruptedError extends PgqrsError {
  /** Makes the error with a message that names the step. */
  constructor(message: string) {
    super("interrupted", message);
  }
}

/** The message whose result was waited for has become a dead letter. */
export class FailedError extends PgqrsError {
  /** Why: `"attempts"`, `"crashes"` or `"not_retryable"`. */
  readonly reason: string | null;
  /** The error of the last attempt, as it is stored; null if none was reported. */
  readonly error: StoredError | null;

  /** Makes the error. The texts of the handler's own error are in `error` alone. */
  constructor(message: string, reason: string | null, error: StoredError | null) {
    super("failed", message);
    this.reason = reason;
    this.error = error;
  }
}

/** What was waited for has not happened in time. It goes on by itself, and may be waited for again. */
export class TimeoutError extends PgqrsError {
  /** Makes the error; its cause is the error of the database, if that did not answer when it was asked last. */
  constructor(message: string, options?: ErrorOptions) {
    super("timeout", message, options);
  }
}

/** What the driver layer knows of a failure: the fields of {@linkcode DatabaseError}. */
export interface DatabaseFailure {
  /** Whether the call certainly changed nothing, or may have been applied. */
  readonly outcome: Outcome;
  /** Why the database did not answer. */
  readonly reason: DatabaseReason;
  /** The name of the statement, as in the `pgqrs:` comment that the server sees. */
  readonly statement?: string;
  /** The five characters of SQLSTATE or the name of the SQLite result code, where there is one. */
  readonly sqlState?: string;
}

/**
 * The database refused a statement, could not be reached, or did not answer in time.
 *
 * With `outcome` `"not_applied"` the call changed nothing and may be repeated. With `"unknown"` it may have been applied:
 * repeat an `enqueue` under the same `key`; settling a message again is safe in any case.
 */
export class DatabaseError extends PgqrsError {
  /** Whether the call certainly changed nothing, or may have been applied. */
  readonly outcome: Outcome;
  /** Why the database did not answer as it should. */
  readonly reason: DatabaseReason;
  /** The name of the statement, as in the `pgqrs:` comment that the server sees. */
  readonly statement: string | undefined;
  /** The five characters of SQLSTATE or the name of the SQLite result code, where there is one. */
  readonly sqlState: string | undefined;

  /** Makes the error; drivers are the only callers. */
  constructor(message: string, failure: DatabaseFailure) {
    super("database", message);
    this.outcome = failure.outcome;
    this.reason = failure.reason;
    this.statement = failure.statement;
    this.sqlState = failure.sqlState;
  }
}
