/** Read-only reports. */
import { millis, now, sql, type Statement, statement, table, text } from "./sql.ts";

/** Asks for nothing but an answer. Row: the database's time. */
export function ping(): Statement {
  return statement("ping", sql`select ${millis(sql`${now}`)}`);
}

/** Counts per queue, for one or for all. Rows: for {@linkcode decodeMetrics}. */
export function reportMetrics(queue: string | undefined): Statement {
  const ended = (outcome: string) =>
    sql`(select count(*) from ${table("archive")} a where a.queue_id = q.id and a.outcome = ${outcome})`;
  return statement(
    "reportMetrics",
    sql`select q.name, case when q.paused_at is null then 0 else 1 end,
  count(m.id) filter (where m.state = 'ready' and m.due_at <= ${now}),
  count(m.id) filter (where m.state = 'ready' and m.due_at > ${now}),
  count(m.id) filter (where m.state = 'leased'),
  ${ended("succeeded")}, ${ended("failed")}, ${ended("cancelled")},
  ${millis(sql`${now}`)} - ${millis(sql`min(m.due_at) filter (where m.state = 'ready' and m.due_at <= ${now})`)},
  ${millis(sql`${now}`)} - ${millis(sql`min(m.leased_at)`)},
  ${millis(sql`max(m.enqueued_at)`)},
  count(m.id) filter (where m.state = 'leased' and m.lease_until <= ${now}),
  count(m.id) filter (where m.state in ('blocked', 'paused'))
from ${table("queues")} q left join ${table("messages")} m on m.queue_id = q.id
where coalesce(${text(queue)}, q.name) = q.name
group by q.id, q.name, q.paused_at
order by q.name`,
  );
}

/** Counts of one queue. */
export interface QueueMetrics {
  /** The queue. */
  readonly queue: string;
  /** Whether deliveries are stopped. */
  readonly isPaused: boolean;
  /** Messages that could be claimed now. */
  readonly ready: number;
  /** Messages whose time has not come, and runs that wait for something. */
  readonly delayed: number;
  /** Runs that are paused or blocked: they go on when somebody resumes them. */
  readonly stopped: number;
  /** Messages that a consumer or worker has leased. */
  readonly leased: number;
  /** Those of them whose lease has run out: nobody works on them, and the next claim takes them back. */
  readonly expired: number;
  /** Messages in the archive that ended well. */
  readonly succeeded: number;
  /** Dead letters. */
  readonly failed: number;
  /** Messages in the archive that were cancelled. */
  readonly cancelled: number;
  /** For how long the oldest ready message has been ready, in milliseconds; null without one. */
  readonly oldestReadyMs: number | null;
  /** For how long the oldest lease has been held, in milliseconds; null without one. */
  readonly oldestLeaseMs: number | null;
  /** When the youngest live message was enqueued; null without one. */
  readonly lastEnqueuedAt: Date | null;
}

/** Decodes a row of {@linkcode reportMetrics}. */
export function decodeMetrics(row: readonly unknown[]): QueueMetrics {
  const numberOrNull = (value: unknown): number | null => value === null ? null : Math.max(0, Number(value));
  return {
    queue: String(row[0]),
    isPaused: Number(row[1]) === 1,
    ready: Number(row[2]),
    delayed: Number(row[3]),
    leased: Number(row[4]),
    succeeded: Number(row[5]),
    failed: Number(row[6]),
    cancelled: Number(row[7]),
    oldestReadyMs: numberOrNull(row[8]),
    oldestLeaseMs: numberOrNull(row[9]),
    lastEnqueuedAt: row[10] === null ? null : new Date(Number(row[10])),
    expired: Number(row[11]),
    stopped: Number(row[12]),
  };
}
