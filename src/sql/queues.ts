/** The statements on queues. */
import { commas, queueColumns } from "./record.ts";
import { idOfQueue } from "./messages.ts";
import { int, json, now, perDialect, raw, sql, type Statement, statement, table } from "./sql.ts";

/** The settings of a queue as they are stored; undefined leaves a setting as it is, null means none. */
export interface QueueSettings {
  readonly leaseMs?: number | null | undefined;
  readonly maxAttempts?: number | undefined;
  readonly maxCrashes?: number | undefined;
  /** A JSON text. */
  readonly backoff?: string | undefined;
  readonly retentionMs?: number | null | undefined;
  readonly isPaused?: boolean | undefined;
}

/** Creates a queue. No row: there is one of that name. */
export function createQueue(name: string, settings: QueueSettings): Statement {
  const { leaseMs, maxAttempts, maxCrashes, backoff, retentionMs, isPaused } = settings;
  return statement(
    "createQueue",
    sql`insert into ${table("queues")} (
  name, created_at, updated_at, paused_at, lease_ms, max_attempts, max_crashes, backoff, retention_ms
)
select ${name}, ${now}, ${now}, ${isPaused === true ? sql`${now}` : raw("null")}, ${int(leaseMs)}, ${int(maxAttempts)},
  ${int(maxCrashes)}, ${json(backoff)}, ${int(retentionMs)}
where true
on conflict (name) do nothing
returning ${queueColumns}`,
  );
}

/** Finds a queue. */
export function findQueue(name: string): Statement {
  return statement("findQueue", sql`select ${queueColumns} from ${table("queues")} where name = ${name}`);
}

/** Lists queues by name. */
export function listQueues(): Statement {
  return statement("listQueues", sql`select ${queueColumns} from ${table("queues")} order by name`);
}

/** Changes settings of a queue. No row: there is no such queue. */
export function updateQueue(name: string, settings: QueueSettings): Statement {
  const changes = [sql`updated_at = ${now}`];
  const { leaseMs, maxAttempts, maxCrashes, backoff, retentionMs, isPaused } = settings;
  if (leaseMs !== undefined) changes.push(sql`lease_ms = ${int(leaseMs)}`);
  if (maxAttempts !== undefined) changes.push(sql`max_attempts = ${maxAttempts}`);
  if (maxCrashes !== undefined) changes.push(sql`max_crashes = ${maxCrashes}`);
  if (backoff !== undefined) changes.push(sql`backoff = ${json(backoff)}`);
  if (retentionMs !== undefined) changes.push(sql`retention_ms = ${int(retentionMs)}`);
  // Pausing a paused queue keeps the time at which it was first paused.
  if (isPaused === true) changes.push(sql`paused_at = coalesce(paused_at, ${now})`);
  if (isPaused === false) changes.push(sql`paused_at = null`);
  return statement(
    "updateQueue",
    sql`update ${table("queues")} set ${commas(changes)} where name = ${name} returning ${queueColumns}`,
  );
}

/**
 * Deletes a queue with all that belongs to it; without `isForced` only one without live messages. One row has the queue's id
 * if it was deleted.
 */
export function deleteQueue(name: string, isForced: boolean): Statement {
  const queue = idOfQueue(name);
  const unused = sql`not exists (select 1 from ${table("messages")} m where m.queue_id = ${queue})`;
  const condition = isForced ? raw("true") : unused;
  return statement(
    "deleteQueue",
    perDialect({
      postgres: () => [
        // Waits for those who are enqueuing to this queue, and only for them.
        sql`select pg_advisory_xact_lock(hashtextextended('pgqrs:queue:' || ${name}, 0))`,
        sql`with target as materialized (
  select id from ${table("queues")} where name = ${name} and ${condition} for update
), held as materialized (
  select m.id from ${table("messages")} m where m.queue_id in (select id from target) order by m.id for update
), live as (
  delete from ${table("messages")} where id in (select id from held)
), ended as (
  delete from ${table("archive")} where queue_id in (select id from target)
), keyed as (
  delete from ${table("keys")} where queue_id in (select id from target)
)
delete from ${table("queues")} where id in (select id from target) returning id`,
      ],
      sqlite: () => [
        sql`delete from ${table("keys")} where queue_id = ${queue} and ${condition}`,
        sql`delete from ${table("archive")} where queue_id = ${queue} and ${condition}`,
        ...(isForced ? [sql`delete from ${table("messages")} where queue_id = ${queue}`] : []),
        sql`delete from ${table("queues")} where name = ${name} and ${condition} returning id`,
      ],
    }),
  );
}

/** Deletes the live messages of a queue, or only those that nobody has leased. Row: how many. */
export function purgeQueue(name: string, isForced: boolean): Statement {
  const queue = idOfQueue(name);
  const unleased = isForced ? raw("true") : raw("state <> 'leased'");
  return statement(
    "purgeQueue",
    perDialect({
      postgres: () =>
        sql`with held as materialized (
  select id from ${table("messages")} where queue_id = ${queue} and ${unleased} order by id for update
), gone as (
  delete from ${table("messages")} where id in (select id from held) returning id
)
select count(*) from gone`,
      sqlite: () => [
        sql`delete from ${table("messages")} where queue_id = ${queue} and ${unleased}`,
        raw("select changes()"),
      ],
    }),
  );
}
