/** The errors that the drivers have in common. */
import { DatabaseError, type DatabaseReason } from "../errors.ts";

/** The error of a call of which nothing was sent. */
export function unsent(statement: string, reason: DatabaseReason, why: string): DatabaseError {
  return new DatabaseError(`Cannot ${statement}: ${why}; nothing was changed`, {
    outcome: "not_applied",
    reason,
    statement,
  });
}

/** The error of a call that was sent and got no answer. */
export function unanswered(statement: string, reason: "aborted" | "timeout"): DatabaseError {
  return new DatabaseError(`No answer to ${statement} in time: it may or may not have been applied`, {
    outcome: "unknown",
    reason,
    statement,
  });
}
