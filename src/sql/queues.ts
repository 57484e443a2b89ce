/** The statements on queues. */
import { alsoSend, sendHint } from "./channel.ts";
import { sqlite as sqliteDialect } from "./dialect.ts";
import { lockMessages } from "./locks.ts";
import { forgetRuns, queueColumns } from "./record.ts";
import { type Fragment, int, join, json, now, perDialect, raw, sql, type Statement, statement, table } from "./sql.ts";

/** The settings of a queue as they are stored; undefined leaves a setting as it is, null means none. */
export interface QueueSettings {
  readonly leaseMs?: number | null | undefined;
  readonly maxAttempts?: number | undefined;
  readonly maxCrashes?: number | undefined;
  /** A JSON text. */
  readonly backoff?: string | undefined;
  readonly retentionMs?: number | null | undefined;
  /** That of dead letters; undefined: the same as `retentionMs`, as long as it was the same. */
  readonly deadRetentionMs?: number | null | undefined;
  readonly concurrency?: number | null | undefined;
  readonly isPaused?: boolean | undefined;
  /** Marks the queue of a workflow, for ever. */
  readonly isWorkflow?: true | undefined;
}

/** The id of a queue by its name, as a scalar. */
export function idOfQueue(name: string): Fragment {
  return sql`(select q.id from ${table("queues")} q where q.name = ${name})`;
}

/** Creates a queue. No row: there is one of that name. */
export function createQueue(name: string, settings: QueueSettings): Statement {
  const {
    leaseMs,
    maxAttempts,
    maxCrashes,
    backoff,
    retentionMs,
    deadRetentionMs = retentionMs,
    concurrency,
    isPaused,
    isWorkflow = false,
  } = settings;
  return statement(
    "createQueue",
    sql`insert into ${table("queues")} (
  name, created_at, updated_at, paused_at, lease_ms, max_attempts, max_crashes, backoff, retention_ms,
  dead_retention_ms, concurrency, is_workflow
)
select ${name}, ${now}, ${now}, ${isPaused === true ? sql`${now}` : raw("null")}, ${int(leaseMs)}, ${int(maxAttempts)},
  ${int(maxCrashes)}, ${json(backoff)}, ${int(retentionMs)}, ${int(deadRetentionMs)}, ${int(concurrency)}, ${
      raw(String(isWorkflow))
    }
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
  const { leaseMs, maxAttempts, maxCrashes, backoff, retentionMs, deadRetentionMs, concurrency, isPaused } = settings;
  if (settings.isWorkflow === true) changes.push(raw("is_workflow = true"));
  if (leaseMs !== undefined) changes.push(sql`lease_ms = ${int(leaseMs)}`);
  if (maxAttempts !== undefined) changes.push(sql`max_attempts = ${maxAttempts}`);
  if (maxCrashes !== undefined) changes.push(sql`max_crashes = ${maxCrashes}`);
  if (backoff !== undefined) changes.push(sql`backoff = ${json(backoff)}`);
  if (retentionMs !== undefined) changes.push(sql`retention_ms = ${int(retentionMs)}`);
  if (deadRetentionMs !== undefined) changes.push(sql`dead_retention_ms = ${int(deadRetentionMs)}`);
  else if (retentionMs !== undefined) {
    const isSame = raw("dead_retention_ms is not distinct from retention_ms");
    changes.push(sql`dead_retention_ms = case when ${isSame} then ${int(retentionMs)} else dead_retention_ms end`);
  }
  if (concurrency !== undefined) changes.push(sql`concurrency = ${int(concurrency)}`);
  // Pausing a paused queue keeps the time at which it was first paused.
  if (isPaused === true) changes.push(sql`paused_at = coalesce(paused_at, ${now})`);
  if (isPaused === false) changes.push(sql`paused_at = null`);
  return statement(
    "updateQueue",
    sql`update ${table("queues")} set ${join(changes, ", ")} where name = ${name}
returning ${queueColumns}${isPaused === true ? raw("") : alsoSend(sql`'queue:' || name`)}`,
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
  // Live messages first: one that is being settled meanwhile is waited for, and then found in the archive.
  const deleteParts = [
    ...(isForced
      ? [
        forgetRuns(sql`(select id from ${table("messages")} where queue_id = ${queue})`, "steps"),
        forgetRuns(sql`(select id from ${table("messages")} where queue_id = ${queue})`, "mailbox"),
        deleteLive(queue),
      ]
      : []),
    sql`delete from ${table("keys")} where queue_id = ${queue} and ${condition}`,
    sql`delete from ${table("archive")} where queue_id = ${queue} and ${condition}`,
    sql`delete from ${table("queues")} where name = ${name} and ${condition}
returning id${isForced ? alsoSend(raw("'control'")) : raw("")}`,
  ];
  return statement(
    "deleteQueue",
    perDialect({
      postgres: () => [
        // Waits for those who are enqueuing to this queue and for those who replay. Not for long, because whoever wants to
        // enqueue meanwhile waits behind us: the driver tries again until the deadline.
        sql`select 1 where set_config('lock_timeout', '200ms', true) is null`,
        sql`select 1 where pg_advisory_xact_lock(hashtextextended('pgqrs:queue:' || ${name}, 0))::text is null`,
        sql`select 1 where pg_advisory_xact_lock(hashtextextended('pgqrs:replay', 0))::text is null`,
        ...deleteParts,
      ],
      sqlite: () => deleteParts,
    }),
  );
}

/** Deletes the live messages of a queue, in ascending order of id as everybody locks them. */
function deleteLive(queue: Fragment): Fragment {
  return sql`${
    perDialect({
      postgres: () =>
        sql`with ${lockMessages(sql`queue_id = ${queue}`)}
delete from ${table("messages")} where id in (select id from held)`,
      sqlite: () => sql`delete from ${table("messages")} where queue_id = ${queue}`,
    })
  }`;
}

/**
 * Deletes the live messages of a queue, or only those that nobody has leased; on SQLite at most as many as a list may have.
 * Row: how many.
 */
export function purgeQueue(name: string, isForced: boolean): Statement {
  const queue = idOfQueue(name);
  const unleased = isForced ? raw("true") : raw("state <> 'leased'");
  return statement(
    "purgeQueue",
    perDialect({
      postgres: () =>
        sql`with ${lockMessages(sql`queue_id = ${queue} and ${unleased}`)}, steps as (
  ${forgetRuns(raw("(select id from held)"), "steps")}
), mail as (
  ${forgetRuns(raw("(select id from held)"), "mailbox")}
), gone as (
  delete from ${table("messages")} where id in (select id from held)
  returning case when state = 'leased' then ${sendHint(raw("'control'"))}::text end
)
select count(*) from gone`,
      // By the partial indexes, so that what belongs to other queues is not read again for each batch.
      sqlite: () => {
        const ready = sql`select id from ${table("messages")} where queue_id = ${queue} and state = 'ready'`;
        const leased = sql`select id from ${table("messages")} where queue_id = ${queue} and state = 'leased'`;
        const resting = sql`select id from ${
          table("messages")
        } where queue_id = ${queue} and state in ('blocked', 'paused')`;
        const held = sql`${isForced ? sql`${ready} union all ${leased}` : ready} union all ${resting}`;
        const first = sql`(${held} limit ${sqliteDialect.listLimit})`;
        return [
          forgetRuns(first, "steps"),
          forgetRuns(first, "mailbox"),
          sql`delete from ${table("messages")} where id in (${held} limit ${sqliteDialect.listLimit})`,
          raw("select changes()"),
        ];
      },
    }),
  );
}
