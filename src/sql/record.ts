/** Per table: which columns are read, and how a row becomes a record. Columns never reach the API under their names. */
import { decodeJson, type StoredError } from "../json.ts";
import { type Fragment, millis, now, raw, sql, table } from "./sql.ts";

/**
 * In which state a message is: `delayed`, `ready` or `leased` while it lives, a run also `waiting`, `paused` or `blocked`; one
 * of the others when it has ended.
 */
export type MessageState =
  | "blocked"
  | "cancelled"
  | "delayed"
  | "deleted"
  | "failed"
  | "leased"
  | "paused"
  | "ready"
  | "succeeded"
  | "waiting";

/** A row of the live messages. */
export interface LiveRecord {
  readonly id: number;
  readonly queue: string;
  readonly state: MessageState;
  readonly priority: number;
  readonly dueAt: Date;
  readonly enqueuedAt: Date;
  readonly token: number;
  readonly holder: string | null;
  readonly leaseUntil: Date | null;
  /** No delivery begins from then on. */
  readonly expiresAt: Date | null;
  readonly attempts: number;
  readonly crashes: number;
  readonly maxAttempts: number;
  readonly maxCrashes: number;
  readonly key: string | null;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: unknown;
  readonly error: StoredError | null;
  readonly retry: StoredRetry | null;
  readonly progress: unknown;
}

/** What a message says about its own attempts. */
export interface StoredRetry {
  readonly maxAttempts?: number;
  readonly backoff?: Record<string, never>;
}

/** A row of the archive. */
export interface ArchivedRecord
  extends Omit<LiveRecord, "dueAt" | "holder" | "leaseUntil" | "maxCrashes" | "progress" | "retry" | "token"> {
  readonly reason: string | null;
  readonly archivedAt: Date;
  readonly archivedBy: string | null;
  readonly processingMs: number | null;
  readonly result: unknown;
}

/** A row of the queues. */
export interface QueueRecord {
  readonly id: number;
  readonly name: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly pausedAt: Date | null;
  readonly leaseMs: number | null;
  readonly maxAttempts: number;
  readonly maxCrashes: number;
  readonly backoff: unknown;
  readonly retentionMs: number | null;
  readonly deadRetentionMs: number | null;
  /** How many messages may be leased at once by workers and consumers together; null: any number. */
  readonly concurrency: number | null;
  /** Whether its messages are the runs of a workflow. */
  readonly isWorkflow: boolean;
}

const queueName = sql`(select q.name from ${table("queues")} q where q.id = queue_id)`;

/** The state of a live message: one that is due later is delayed, or a run that waits. */
export const stateNow: Fragment = sql`case
    when state <> 'ready' or due_at <= ${now} then state when waits is null then 'delayed' else 'waiting'
  end`;

/** The columns of a live message, in the order of {@linkcode decodeLive}. The name of the queue is looked up or given. */
export function liveColumns(queue?: string): Fragment {
  return sql`id, ${queue === undefined ? queueName : sql`${queue}`},
  ${stateNow},
  priority, ${millis(raw("due_at"))}, ${millis(raw("enqueued_at"))}, token, holder, ${millis(raw("lease_until"))},
  attempts, crashes, max_attempts, key, ${textOf("headers")}, ${textOf("payload")}, ${textOf("error")},
  max_crashes, ${textOf("retry")}, ${textOf("progress")}, ${millis(raw("expires_at"))}`;
}

/** Decodes a row of {@linkcode liveColumns}. */
export function decodeLive(row: readonly unknown[]): LiveRecord {
  return {
    id: Number(row[0]),
    queue: String(row[1]),
    state: String(row[2]) as MessageState,
    priority: Number(row[3]),
    dueAt: date(row[4]),
    enqueuedAt: date(row[5]),
    token: Number(row[6]),
    holder: textOrNull(row[7]),
    leaseUntil: dateOrNull(row[8]),
    attempts: Number(row[9]),
    crashes: Number(row[10]),
    maxAttempts: Number(row[11]),
    key: textOrNull(row[12]),
    headers: (jsonOrNull(row[13]) ?? {}) as Record<string, string>,
    payload: jsonOrNull(row[14]),
    error: jsonOrNull(row[15]) as StoredError | null,
    maxCrashes: Number(row[16]),
    retry: jsonOrNull(row[17]) as StoredRetry | null,
    progress: jsonOrNull(row[18]),
    expiresAt: dateOrNull(row[19]),
  };
}

/** The columns of an archived message, in the order of {@linkcode decodeArchived}. */
export const archivedColumns: Fragment = sql`id, ${queueName}, outcome, priority,
  ${millis(raw("enqueued_at"))}, ${millis(raw("archived_at"))}, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, ${textOf("headers")}, ${textOf("payload")}, ${textOf("error")}, ${
  textOf("result")
}, ${millis(raw("expires_at"))}`;

/** Decodes a row of {@linkcode archivedColumns}. */
export function decodeArchived(row: readonly unknown[]): ArchivedRecord {
  return {
    id: Number(row[0]),
    queue: String(row[1]),
    state: String(row[2]) as MessageState,
    priority: Number(row[3]),
    enqueuedAt: date(row[4]),
    archivedAt: date(row[5]),
    archivedBy: textOrNull(row[6]),
    processingMs: numberOrNull(row[7]),
    reason: textOrNull(row[8]),
    attempts: Number(row[9]),
    crashes: Number(row[10]),
    maxAttempts: Number(row[11]),
    key: textOrNull(row[12]),
    headers: (jsonOrNull(row[13]) ?? {}) as Record<string, string>,
    payload: jsonOrNull(row[14]),
    error: jsonOrNull(row[15]) as StoredError | null,
    result: jsonOrNull(row[16]),
    expiresAt: dateOrNull(row[17]),
  };
}

/**
 * The columns of a queue, in the order of {@linkcode decodeQueue}. Each has a name of its own, because a function that
 * executes in a caller's transaction may give rows as objects.
 */
export const queueColumns: Fragment = sql`id, name, ${millis(raw("created_at"))} as created_ms,
  ${millis(raw("updated_at"))} as updated_ms, ${
  millis(raw("paused_at"))
} as paused_ms, lease_ms, max_attempts, max_crashes, ${textOf("backoff")}, retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow`;

/** Decodes a row of {@linkcode queueColumns}. */
export function decodeQueue(row: readonly unknown[]): QueueRecord {
  return {
    id: Number(row[0]),
    name: String(row[1]),
    createdAt: date(row[2]),
    updatedAt: date(row[3]),
    pausedAt: dateOrNull(row[4]),
    leaseMs: numberOrNull(row[5]),
    maxAttempts: Number(row[6]),
    maxCrashes: Number(row[7]),
    backoff: jsonOrNull(row[8]),
    retentionMs: numberOrNull(row[9]),
    concurrency: numberOrNull(row[10]),
    deadRetentionMs: numberOrNull(row[11]),
    isWorkflow: Number(row[12]) === 1,
  };
}

/** What a message takes along when it ends. */
export const carried: Fragment = raw(
  "id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload",
);

/** The same of a message `m` that is joined with a list. */
export const carriedOfMessage: Fragment = raw(
  "m.id, m.queue_id, m.priority, m.enqueued_at, m.token, m.max_attempts, m.max_crashes, m.expires_at, m.key, m.type, " +
    "m.headers, m.retry, m.payload",
);

/** Deletes what is recorded of runs that are going to be deleted while they live. */
export function forgetRuns(ids: Fragment, from: "mailbox" | "steps"): Fragment {
  return sql`delete from ${table(from)} where run_id in ${ids}`;
}

/** The name of the worker behind a holder, which has a "#" and eight more characters. */
export const workerOfHolder: Fragment = raw("substr(holder, 1, length(holder) - 9)");

/** A JSON column as its text, so that no client's parser comes in between. */
function textOf(column: string): Fragment {
  return sql`cast(${raw(column)} as text)`;
}

function date(value: unknown): Date {
  return new Date(Number(value));
}

function dateOrNull(value: unknown): Date | null {
  return value === null ? null : date(value);
}

function numberOrNull(value: unknown): number | null {
  return value === null ? null : Number(value);
}

function textOrNull(value: unknown): string | null {
  return value === null ? null : String(value);
}

function jsonOrNull(value: unknown): unknown {
  return value === null ? null : decodeJson(String(value));
}
