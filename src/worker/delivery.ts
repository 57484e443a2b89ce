/** One message in the hands of a worker: from its claim to what became of it. */
import { CancelledError, LeaseLostError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { Backoff } from "../retry.ts";
import type { LiveRecord } from "../sql/record.ts";
import type { Batch } from "./batch.ts";

/** Where a delivery stands. */
export type DeliveryState =
  /** Claimed, not yet begun. */
  | "waiting"
  /** Its handler runs, or is going to as soon as that is noted. */
  | "running"
  /** Its handler has ended, or is not waited for any more; what came of it waits to be stored. */
  | "settling"
  /** What came of it was sent. */
  | "sent"
  /** Nothing more is done on its behalf. */
  | "over";

/** A message in the hands of a worker. */
export class Delivery<T = unknown> {
  readonly message: Message<T>;
  /** The token of the lease, by which every write is fenced. */
  readonly token: number;
  /** For how long the lease is renewed. */
  leaseMs: number;
  /**
   * Whether it has had half of its crashes, and so may be the reason for them. A worker handles one such message at a
   * time: those that ran beside the one that ends processes come back together with it, and would share its crashes
   * to the last.
   */
  readonly isSuspect: boolean;
  /** Whether a crash from now on counts only if it was noted that the message was begun. */
  readonly isProofNeeded: boolean;
  /** After which pause it may be claimed again, if it is given back. */
  returnMs = 0;
  /** The back-off that the message brought along. */
  readonly backoff: Backoff | undefined;
  /** Until when the lease certainly holds, by the monotonic clock: counted from before the database was asked. */
  safeUntil: number;
  /** From when on the handler may not be begun any more, by the same clock. */
  readonly beginBefore: number;
  /** When it came, by the same clock. */
  readonly claimedAt = performance.now();
  state: DeliveryState = "waiting";
  /** When the handler was begun, by the same clock; undefined before that. */
  startedAt: number | undefined;
  /** Something that ends the message was sent and not answered: it may have been applied. */
  isInDoubt = false;
  /** Another attempt would fail in the same way. */
  isFinal = false;
  /** Its failure was seen to be counted. */
  isCounted = false;
  /** How many transactions of the handler are under way: what they do is told by themselves. */
  transactions = 0;
  /** A transaction of the handler has ended the message, with this value. */
  isSettled = false;
  value: unknown;
  /** The call of the handler to which it belongs, if that has several messages. */
  batch: Batch | undefined;
  #controller: AbortController | undefined;
  #reason: unknown;

  constructor(record: LiveRecord, message: Message<T>, leaseMs: number, safeUntil: number) {
    this.message = message;
    this.token = record.token;
    this.isSuspect = record.crashes * 2 >= record.maxCrashes;
    this.isProofNeeded = this.isSuspect || record.crashes + 1 >= record.maxCrashes;
    this.backoff = record.retry?.backoff as Backoff | undefined;
    this.leaseMs = leaseMs;
    this.safeUntil = safeUntil;
    const { expiresAt, leaseUntil } = record;
    const isTimed = expiresAt !== null && leaseUntil !== null;
    this.beginBefore = isTimed ? safeUntil + (Number(expiresAt) - Number(leaseUntil)) : Number.POSITIVE_INFINITY;
  }

  /** The signal of the handler. Made when it is first asked for: most handlers never do. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /**
   * Told that the lease was renewed by a statement that was sent then. A lease that is over before the answer comes would be
   * renewed for ever and never begun on, out of everybody's reach: it becomes longer.
   */
  renewed(sentAt: number): void {
    this.safeUntil = sentAt + this.leaseMs;
    if (this.safeUntil <= performance.now()) this.leaseMs *= 2;
  }

  /** Tells the handler that its result is of no use any more. */
  abort(reason: Error): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#controller?.abort(reason);
  }
}

/** The error of a delivery whose message is somebody else's by now. */
export function leaseLost({ id, queue }: Message): LeaseLostError {
  return new LeaseLostError(`Lease of message ${id} of queue ${JSON.stringify(queue)} was lost: its result is dropped`);
}

/** The error of a delivery whose message somebody has cancelled. */
export function cancelled({ id }: Message): CancelledError {
  return new CancelledError(`Message ${id} was cancelled while it was being handled`);
}
