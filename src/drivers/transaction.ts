/** The time limit of a caller's transaction, shared by all drivers. */
import { DatabaseError, StateError } from "../errors.ts";
import type { CallOptions, Row, TransactionLimits } from "../sql/driver.ts";
import type { RenderedPart } from "../sql/sql.ts";

/** What a statement that the caller has written is called in errors: its text may hold values. */
export const CALLERS = "run a statement of the transaction";

/** How long the end of a transaction may take, whatever was left of its time. */
export const COMMIT_MS = 900;

/** A longer timer would fire at once. */
const LONGEST_TIMER_MS = 2_147_483_647;

/** When a transaction has to have ended, and whether it has. */
export class TransactionClock {
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  #hasEnded = false;

  constructor({ timeoutMs, deadline, signal }: TransactionLimits) {
    this.deadline = Math.min(performance.now() + timeoutMs, deadline ?? Number.POSITIVE_INFINITY);
    this.signal = signal;
  }

  /** Called when the callback has ended in either way: the handle is of no use after that. */
  end(): void {
    this.#hasEnded = true;
  }

  /** @throws {StateError} when somebody kept the handle and uses it after the transaction. */
  assertOpen(): void {
    if (this.#hasEnded) throw new StateError("Cannot use a transaction after it has ended", { from: "ended" });
  }

  /** The nearer of the transaction's and the call's own limits. */
  within({ deadline, signal }: CallOptions): CallOptions {
    return {
      deadline: Math.min(this.deadline, deadline ?? Number.POSITIVE_INFINITY),
      signal: signal ?? this.signal,
    };
  }
}

/**
 * Lets the calls on one transaction go one after the other. What a caller sends at once would otherwise mix: a savepoint of
 * the one would end that of the other, and the last inserted id would be somebody else's.
 */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs work when all that came before has ended. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}

/** Waits for a promise, but no longer than the deadline and the signal allow. */
export function endWithin<T>(
  promise: Promise<T>,
  { deadline, signal }: CallOptions,
  fail: (reason: "aborted" | "timeout") => Error = transactionTimeout,
): Promise<T> {
  if (deadline === undefined && signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const abort = (): void => settle(() => reject(fail("aborted")));
    const timer = deadline === undefined || deadline === Number.POSITIVE_INFINITY ? undefined : setTimeout(
      () => settle(() => reject(fail("timeout"))),
      Math.max(0, Math.min(deadline - performance.now(), LONGEST_TIMER_MS)),
    );
    function settle(done: () => void): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      done();
    }
    signal?.addEventListener("abort", abort);
    promise.then((value) => settle(() => resolve(value)), (error) => settle(() => reject(error)));
    if (signal?.aborted) abort();
  });
}

function transactionTimeout(reason: "aborted" | "timeout"): DatabaseError {
  const why = reason === "timeout" ? "took too long" : "was aborted";
  return new DatabaseError(`Transaction ${why} and was rolled back: nothing was changed`, {
    outcome: "not_applied",
    reason,
    statement: "transaction",
  });
}

/** The error of a transaction that was not committed: whatever happened inside it, nothing was applied. */
export function rolledBack(error: unknown): unknown {
  if (!(error instanceof DatabaseError) || error.outcome === "not_applied") return error;
  return new DatabaseError(`Transaction was rolled back: ${error.reason} during ${error.statement ?? "a statement"}`, {
    outcome: "not_applied",
    reason: error.reason,
    ...(error.statement === undefined ? {} : { statement: error.statement }),
    ...(error.sqlState === undefined ? {} : { sqlState: error.sqlState }),
  });
}

/**
 * Executes the parts of a statement inside a transaction that is open already, as one unit: when one of them fails, those
 * before it are undone and the caller's transaction goes on. Up to `ahead` parts are sent before an earlier one is answered.
 */
export async function runParts(
  parts: readonly RenderedPart[],
  execute: (part: RenderedPart) => Promise<readonly Row[]>,
  ahead = 0,
): Promise<readonly Row[]> {
  if (parts.length === 1) return await execute(parts[0] as RenderedPart);
  await execute(SAVEPOINT);
  try {
    const rows: Row[] = [];
    const underWay: Promise<readonly Row[]>[] = [];
    for (const part of parts) {
      const answer = execute(part);
      // It fails too when one before it does, and that is the one to tell of.
      answer.catch(() => {});
      underWay.push(answer);
      if (underWay.length > ahead) rows.push(...await underWay.shift() as readonly Row[]);
    }
    for (const answer of underWay) rows.push(...await answer);
    await execute(RELEASE);
    return rows;
  } catch (error) {
    await execute(ROLLBACK_TO);
    await execute(RELEASE);
    throw error;
  }
}

const SAVEPOINT: RenderedPart = { text: "savepoint pgqrs", values: [] };
const RELEASE: RenderedPart = { text: "release savepoint pgqrs", values: [] };
const ROLLBACK_TO: RenderedPart = { text: "rollback to savepoint pgqrs", values: [] };
