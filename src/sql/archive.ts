/** The statements on messages that have ended. */
import { idOfQueue } from "./queues.ts";
import { archivedColumns } from "./record.ts";
import {
  type Deferred,
  type Fragment,
  instant,
  now,
  oneOf,
  perDialect,
  raw,
  sql,
  type Statement,
  statement,
  table,
} from "./sql.ts";

/** Which ended messages are meant. */
export interface ArchiveFilter {
  readonly queue?: string | undefined;
  readonly outcome?: "cancelled" | "failed" | "succeeded" | undefined;
  readonly reason?: string | undefined;
  readonly type?: string | undefined;
  readonly key?: string | undefined;
  readonly worker?: string | undefined;
  /** Only messages that ended before this instant. */
  readonly before?: number | undefined;
  /** Only messages that ended at this instant or later. */
  readonly since?: number | undefined;
  /** Only messages that have been kept longer than their queue's retention says. */
  readonly isExpired?: boolean | undefined;
}

/** A place in a list of ended messages: when the last one seen ended, and its id. */
export interface ArchivePlace {
  readonly archivedAt: number;
  readonly id: number;
}

/** Finds an ended message. */
export function findArchived(id: number): Statement {
  return statement("findArchived", sql`select ${archivedColumns} from ${table("archive")} where id = ${id}`);
}

/** Lists ended messages, the last ended first. */
export function listArchived(
  filter: ArchiveFilter,
  { limit, offset, after }: {
    readonly limit: number;
    readonly offset: number;
    readonly after: ArchivePlace | undefined;
  },
): Statement {
  const place = after === undefined
    ? matches(filter)
    : sql`${matches(filter)} and (archived_at, id) < (${instant(after.archivedAt)}, ${after.id})`;
  const order = raw("order by archived_at desc, id desc");
  const target = filter.queue === undefined ? sql`id in (${ofEachQueue(place, order, limit + offset)})` : place;
  return statement(
    "listArchived",
    sql`select ${archivedColumns} from ${table("archive")} where ${target}
${order} limit ${limit} offset ${offset}`,
  );
}

/** The ids of the first rows of each queue, by the index that begins with the queue; they hold the first of all queues. */
function ofEachQueue(place: Fragment, order: Fragment, limit: number): Deferred {
  const page = sql`select id from ${table("archive")} where queue_id = q.id and ${place} ${order} limit ${limit}`;
  return perDialect({
    postgres: () => sql`select p.id from ${table("queues")} q cross join lateral (${page}) p`,
    sqlite: () => sql`select a.id from ${table("queues")} q cross join ${table("archive")} a on a.id in (${page})`,
  });
}

/** Counts ended messages. */
export function countArchived(filter: ArchiveFilter): Statement {
  return statement("countArchived", sql`select count(*) from ${table("archive")} where ${matches(filter)}`);
}

/** Deletes up to `limit` ended messages, those that ended first. Row: how many. */
export function purgeArchived(filter: ArchiveFilter, limit: number): Statement {
  const target = sql`select id from ${table("archive")} where ${
    matches(filter)
  } order by archived_at, id limit ${limit}`;
  return statement(
    "purgeArchived",
    perDialect({
      postgres: () =>
        sql`with target as materialized (${target} for update skip locked), gone as (
  delete from ${table("archive")} where id = any (array(select id from target)) returning id
)
select count(*) from gone`,
      sqlite: () => [sql`delete from ${table("archive")} where id in (${target})`, raw("select changes()")],
    }),
  );
}

/** A place in the list of all keys. */
export interface KeyPlace {
  readonly queueId: number;
  readonly key: string;
}

/**
 * Looks at the next `limit` keys after a place, of one queue or of all, and deletes those that hold no more. Row: the last
 * key that was looked at, as queue id and key; none at the end.
 */
export function purgeKeys(queue: string | undefined, limit: number, after?: KeyPlace): Statement {
  const ofQueue = queue === undefined ? raw("true") : sql`queue_id = ${idOfQueue(queue)}`;
  const place = after === undefined ? ofQueue : sql`${ofQueue} and (queue_id, key) > (${after.queueId}, ${after.key})`;
  const live = sql`exists (select 1 from ${table("messages")} m where m.id = k.message_id)`;
  const isOver = sql`case k.hold
    when 'started' then not ${live}
    when 'finished' then not ${live}
    when 'time' then k.expires_at <= ${now}
    else k.expires_at <= ${now} and not ${live}
  end`;
  const last = raw("order by queue_id desc, key desc limit 1");
  return statement(
    "purgeKeys",
    perDialect({
      // Who takes a key over gives it another message id, and that message cannot be seen from here.
      postgres: () =>
        sql`with seen as materialized (
  select queue_id, key, message_id from ${table("keys")} where ${place} order by queue_id, key limit ${limit}
), target as materialized (
  select k.queue_id, k.key from seen s
  join ${table("keys")} k on k.queue_id = s.queue_id and k.key = s.key and k.message_id = s.message_id
  where ${isOver}
  for update of k skip locked
), gone as (
  delete from ${table("keys")} k using target t where k.queue_id = t.queue_id and k.key = t.key
)
select queue_id, key from seen ${last}`,
      sqlite: () => {
        const seen = sql`select queue_id, key from ${
          table("keys")
        } where ${place} order by queue_id, key limit ${limit}`;
        return [
          sql`select queue_id, key from (${seen}) ${last}`,
          sql`delete from ${table("keys")} as k where (queue_id, key) in (${seen}) and ${isOver}`,
        ];
      },
    }),
  );
}

/**
 * Brings ended messages back as ready under their ids: by id, or up to `limit` that match a filter, those that ended first.
 * Attempts and crashes begin anew; the token goes on. Rows: the ids.
 */
export function replayArchived(
  filter: ArchiveFilter & { readonly ids?: readonly number[] | undefined },
  limit: number,
): Statement {
  const chosen = filter.ids === undefined ? matches(filter) : sql`${matches(filter)} and id ${oneOf(filter.ids)}`;
  const target = sql`select id from ${table("archive")} where ${chosen} order by archived_at, id limit ${limit}`;
  const columns = raw(
    "id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, error",
  );
  const values =
    sql`id, queue_id, 'ready', priority, ${now}, enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, payload, error`;
  return statement(
    "replayArchived",
    perDialect({
      postgres: () => [
        // Shared among those who replay, against whoever deletes a queue: nothing comes back to one that is going away.
        sql`select 1 where pg_advisory_xact_lock_shared(hashtextextended('pgqrs:replay', 0))::text is null`,
        sql`with target as materialized (${target} for update), gone as (
  delete from ${table("archive")} where id = any (array(select id from target)) returning *
)
insert into ${table("messages")} (${columns}) select ${values} from gone returning id`,
      ],
      sqlite: () => [
        sql`insert into ${table("messages")} (${columns}) select ${values} from ${table("archive")}
where id in (${target}) returning id`,
        // What is live now has just been brought back: an id is never in both tables otherwise.
        sql`delete from ${table("archive")}
where id in (${target}) and exists (select 1 from ${table("messages")} m where m.id = ${table("archive")}.id)`,
      ],
    }),
  );
}

function matches(filter: ArchiveFilter): Fragment {
  const { queue, outcome, reason, type, key, worker, before, since, isExpired } = filter;
  let condition: Fragment = outcome === undefined ? raw("true") : raw(`outcome = '${outcome}'`);
  if (queue !== undefined) condition = sql`${condition} and queue_id = ${idOfQueue(queue)}`;
  if (reason !== undefined) condition = sql`${condition} and reason = ${reason}`;
  if (type !== undefined) condition = sql`${condition} and type = ${type}`;
  if (key !== undefined) condition = sql`${condition} and key = ${key}`;
  if (worker !== undefined) condition = sql`${condition} and archived_by = ${worker}`;
  if (before !== undefined) condition = sql`${condition} and archived_at < ${instant(before)}`;
  if (since !== undefined) condition = sql`${condition} and archived_at >= ${instant(since)}`;
  if (isExpired === true) condition = sql`${condition} and archived_at < ${retainedSince}`;
  return condition;
}

/** The instant before which the queue of an archived row keeps nothing; null when it keeps for ever. */
const retainedSince = sql`(
  select ${
  perDialect({
    postgres: () => sql`${now} - q.retention_ms * interval '1 millisecond'`,
    sqlite: () => sql`${now} - q.retention_ms`,
  })
} from ${table("queues")} q where q.id = queue_id
)`;
