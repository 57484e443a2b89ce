/**
 * The errors that a caller is meant to handle.
 *
 * A wrong argument is a built-in `TypeError` or `RangeError`, thrown before anything is sent. All else is a
 * {@linkcode PgqrsError} with a `code` of a closed union. No message, property or cause of any of them carries a password
 * or a payload.
 *
 * @module
 */

/** Every value that {@linkcode PgqrsError.code} can have. */
export type ErrorCode =
  | "config"
  | "database"
  | "not_found"
  | "schema"
  | "state";

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
