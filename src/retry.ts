/** From the number of failures to the pause before the next attempt. Pure. */
import { checkDuration, checkInteger, checkOptions } from "./options.ts";

/** How long to wait before the next attempt. */
export interface Backoff {
  /** `"fixed"`: always `baseMs`. `"exponential"`: `baseMs`, twice that, four times that, … @default "exponential" */
  readonly kind?: "exponential" | "fixed";
  /** The first pause, in milliseconds. @default 1000 */
  readonly baseMs?: number;
  /** The longest pause, in milliseconds. @default 60000 */
  readonly maxMs?: number;
  /** The part of the pause that is left to chance, from 0 to 1: with 0.25 it is 75 % to 125 % of it. @default 0.25 */
  readonly jitter?: number;
}

/** The policy of a queue that says nothing else. */
const defaultBackoff: Required<Backoff> = Object.freeze({
  kind: "exponential",
  baseMs: 1_000,
  maxMs: 60_000,
  jitter: 0.25,
});

/** Checks a policy and fills in what it leaves open. @throws {TypeError | RangeError} */
export function resolveBackoff(backoff: Backoff | undefined): Required<Backoff> {
  const {
    kind = defaultBackoff.kind,
    baseMs = defaultBackoff.baseMs,
    maxMs = defaultBackoff.maxMs,
    jitter = defaultBackoff.jitter,
  } = backoff ?? {};
  if (kind !== "exponential" && kind !== "fixed") {
    throw new TypeError('Cannot use backoff.kind: it must be "exponential" or "fixed"');
  }
  checkDuration("backoff.baseMs", baseMs);
  checkDuration("backoff.maxMs", maxMs);
  if (typeof jitter !== "number" || !(jitter >= 0 && jitter <= 1)) {
    throw new RangeError("Cannot use backoff.jitter: it must be between 0 and 1");
  }
  return { kind, baseMs, maxMs, jitter };
}

/**
 * The pause after the `failures`-th failure, in whole milliseconds: at most `maxMs`, whatever the number of failures.
 * The jitter keeps those that failed together from coming back together.
 */
export function retryDelay(backoff: Required<Backoff>, failures: number, random: () => number = Math.random): number {
  const { kind, baseMs, maxMs, jitter } = backoff;
  // Beyond 2^52 the product is no whole number any more; `maxMs` has long been reached by then.
  const doublings = kind === "fixed" ? 0 : Math.min(Math.max(failures - 1, 0), 52);
  const pause = Math.min(baseMs * 2 ** doublings, maxMs);
  return Math.round(Math.min(pause * (1 - jitter + 2 * jitter * random()), maxMs));
}

/** How often and after which pauses a job tries again. */
export interface RetryPolicy {
  /** After how many failed attempts a message becomes a dead letter. @default the queue's */
  readonly maxAttempts?: number;
  /**
   * The pause before the next attempt: a policy, or a function of the error and of the number of the attempt that has
   * failed
   * (from 1) that returns milliseconds.
   *
   * @default the queue's
   */
  readonly backoff?: Backoff | ((error: unknown, attempt: number) => number);
}

/** Checks a policy. @throws {TypeError | RangeError} */
export function checkRetry(policy: RetryPolicy | undefined): void {
  if (policy === undefined) return;
  checkOptions("retry", policy, ["backoff", "maxAttempts"]);
  const { maxAttempts, backoff } = policy;
  if (maxAttempts !== undefined) checkInteger("retry.maxAttempts", maxAttempts, 1, 10_000);
  if (typeof backoff !== "function") resolveBackoff(backoff);
}

/**
 * The pause after the `attempt`-th failed attempt. A function that throws or returns no duration, or a policy that a
 * later release has stored, does not keep a job from being tried again: then the usual policy holds.
 */
export function delayAfter(backoff: RetryPolicy["backoff"], error: unknown, attempt: number): number {
  try {
    if (typeof backoff !== "function") return retryDelay(resolveBackoff(backoff), attempt);
    const given: unknown = backoff(error, attempt);
    // A promise is no duration; what it rejects with must not end the process.
    if (given instanceof Promise) given.catch(() => {});
    const delayMs = Math.round(given as number);
    checkDuration("backoff", delayMs);
    return delayMs;
  } catch {
    return retryDelay(defaultBackoff, attempt);
  }
}
