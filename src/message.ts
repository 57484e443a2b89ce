/** What a message looks like to its user. */
import type { StoredError } from "./json.ts";
import type { Backoff } from "./retry.ts";
import type { ArchivedRecord, LiveRecord, MessageState } from "./sql/record.ts";

export type { MessageState, StoredError };

/** A message. Its id stays the same through every state and is never used again. */
export interface Message<T = unknown> {
  /** The id, unique in the schema. */
  readonly id: number;
  /** The name of the queue. */
  readonly queue: string;
  /** What was enqueued. */
  readonly payload: T;
  /** The state in which the message was when it was read. */
  readonly state: MessageState;
  /** From 0 to 9; larger ones are delivered first. */
  readonly priority: number;
  /** The idempotency key under which it was enqueued. */
  readonly key: string | null;
  /** The headers. */
  readonly headers: Readonly<Record<string, string>>;
  /** How many attempts were reported as failed so far. */
  readonly attempts: number;
  /** After how many failed attempts the message becomes a dead letter. */
  readonly maxAttempts: number;
  /** How many leases ran out without a report. */
  readonly crashes: number;
  /** When it was enqueued, by the database's clock. */
  readonly enqueuedAt: Date;
  /** From when on it could or can be delivered; of a message that has ended, when it was enqueued. */
  readonly visibleAt: Date;
  /** When the lease ends; null while nobody has it. */
  readonly leaseUntil: Date | null;
  /** No delivery begins from then on, see `ttlMs`; null: for ever. */
  readonly expiresAt: Date | null;
  /** The name of the consumer or worker that has the lease. */
  readonly worker: string | null;
  /** The error of the last failed attempt. */
  readonly error: StoredError | null;
  /** How far its job has come, as its handler said last, perhaps in an earlier attempt; null once it has ended. */
  readonly progress: unknown;
}

/** A message that has ended. */
export interface ArchivedMessage<T = unknown> extends Message<T> {
  /** How it ended. A message that `failed` is a dead letter. */
  readonly outcome: "cancelled" | "failed" | "succeeded";
  /** Why: what the consumer said, or the operator, or `attempts`, `crashes`, `not_retryable`, `expired`. */
  readonly reason: string | null;
  /** What the consumer gave as the result. */
  readonly result: unknown;
  /** When it ended, by the database's clock. */
  readonly archivedAt: Date;
  /** The name of the consumer, worker or operator that ended it. */
  readonly archivedBy: string | null;
  /** From the beginning of the last lease to the end, in milliseconds; null if it ended without a lease. */
  readonly processingMs: number | null;
}

/** What identifies one delivery. */
export interface Lease {
  readonly holder: string;
  readonly token: number;
  /** The pauses that the message asks for. */
  readonly backoff: Backoff | undefined;
}

/** The leases under which messages were handed out. Not a field of the message, so that nobody can forge or log it. */
const leases = new WeakMap<object, Lease>();

/** The lease under which a message was handed out, if it is that very object. */
export function leaseOf(message: object): Lease | undefined {
  return leases.get(message);
}

/** Makes a message of a row, and remembers its lease when it was claimed by this very call. */
export function toMessage<T>(record: LiveRecord, isClaimed = false): Message<T> {
  const { holder } = record;
  // Field by field: a spread of the record costs several times as much, and this runs once for every delivery.
  const message: Message<T> = {
    id: record.id,
    queue: record.queue,
    payload: record.payload as T,
    state: record.state,
    priority: record.priority,
    key: record.key,
    headers: record.headers,
    attempts: record.attempts,
    maxAttempts: record.maxAttempts,
    crashes: record.crashes,
    enqueuedAt: record.enqueuedAt,
    visibleAt: record.dueAt,
    leaseUntil: record.leaseUntil,
    expiresAt: record.expiresAt,
    worker: workerOf(holder),
    error: record.error,
    progress: record.progress,
  };
  if (isClaimed && holder !== null) {
    leases.set(message, { holder, token: record.token, backoff: record.retry?.backoff });
  }
  return message;
}

/** Makes a message of a row of the archive. */
export function toArchivedMessage<T>(record: ArchivedRecord): ArchivedMessage<T> {
  return {
    ...record,
    payload: record.payload as T,
    outcome: record.state as ArchivedMessage["outcome"],
    visibleAt: record.enqueuedAt,
    leaseUntil: null,
    worker: null,
    progress: null,
  };
}

/** A holder is a worker's name and a random part of its own, so that two workers of one name are never taken for one. */
export function newHolder(name: string): string {
  return `${name}#${crypto.randomUUID().slice(0, 8)}`;
}

/** The name of the worker behind a holder. */
export function workerOf(holder: string | null): string | null {
  return holder === null ? null : holder.slice(0, holder.lastIndexOf("#"));
}
