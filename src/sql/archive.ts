/** The statements on messages that have ended. */
import { decodeJson, type StoredError } from "../json.ts";
import type { Row } from "./driver.ts";
import { hintOfQueue } from "./messages.ts";
import { idOfQueue } from "./queues.ts";
import { archivedColumns } from "./record.ts";
import {
  type Deferred,
  duration,
  type Fragment,
  instant,
  json,
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

/** What has become of a message that lives no more. */
export interface Ending {
  readonly id: number;
  /** Null: there is no trace of it. */
  readonly outcome: "cancelled" | "failed" | "succeeded" | null;
  readonly reason: string | null;
  readonly result: unknown;
  readonly error: StoredError | null;
}

/** Finds those messages of a list that live no more, and what has become of them. Rows for {@linkcode decodeEndings}. */
export function listEndings(ids: readonly number[]): Statement {
  const list = json(JSON.stringify(ids));
  return statement(
    "listEndings",
    perDialect({
      postgres: () =>
        sql`select id, outcome, reason, cast(result as text), cast(error as text) from ${table("endings")}(${list})`,
      // Live ones are looked for in the same statement: a message is in one of the tables, and between two it could move.
      sqlite: () =>
        sql`select i.value, a.outcome, a.reason, a.result, a.error
from json_each(${list}) i left join ${table("archive")} a on a.id = i.value
where not exists (select 1 from ${table("messages")} m where m.id = i.value)`,
    }),
  );
}

/** Reads the rows of {@linkcode listEndings}. */
export function decodeEndings(rows: readonly Row[]): Ending[] {
  return rows.map(([id, outcome, reason, result, error]) => ({
    id: Number(id),
    outcome: outcome as Ending["outcome"],
    reason: reason === null ? null : String(reason),
    result: result === null ? null : decodeJson(String(result)),
    error: error === null ? null : decodeJson(String(error)) as StoredError,
  }));
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

/** What a message has when it comes back. */
export const replayed: Fragment = raw(
  "id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, retry, payload, " +
    "error, redo_before",
);

/** The values of {@linkcode replayed}, of a row of the archive. */
export const replayedOf: Fragment =
  sql`id, queue_id, 'ready', priority, ${now}, enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, retry,
  payload, error, ${now}`;

/**
 * Brings ended messages back as ready under their ids: by id, or up to `limit` that match a filter, those that ended first.
 * Attempts and crashes begin anew; the token goes on, and nothing expires it any more. Rows: the ids.
 */
export function replayArchived(
  filter: ArchiveFilter & { readonly ids?: readonly number[] | undefined },
  limit: number,
): Statement {
  const chosen = filter.ids === undefined ? matches(filter) : sql`${matches(filter)} and id ${oneOf(filter.ids)}`;
  const target = sql`select id from ${table("archive")} where ${chosen} order by archived_at, id limit ${limit}`;
  return statement(
    "replayArchived",
    perDialect({
      postgres: () => [
        // Shared among those who replay, against whoever deletes a queue: nothing comes back to one that is going away.
        sql`select 1 where pg_advisory_xact_lock_shared(hashtextextended('pgqrs:replay', 0))::text is null`,
        sql`with target as materialized (${target} for update), gone as (
  delete from ${table("archive")} where id = any (array(select id from target)) returning *
)
insert into ${table("messages")} (${replayed}) select ${replayedOf} from gone
returning id, ${hintOfQueue}`,
      ],
      sqlite: () => [
        sql`insert into ${table("messages")} (${replayed}) select ${replayedOf} from ${table("archive")}
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
  if (isExpired === true) condition = sql`${condition} and ${isKeptNoLonger(queue)}`;
  return condition;
}

/**
 * Whether an archived row has been kept for longer than its queue says. Of one queue, what both kinds of retention keep is
 * not even read: its first instant does not depend on the row, and bounds the range of the index.
 */
function isKeptNoLonger(queue: string | undefined): Fragment {
  const since = (column: string): Fragment => sql`${now} - ${duration(raw(`q.${column}`))}`;
  const own = sql`archived_at < (
  select case when outcome = 'failed' then ${since("dead_retention_ms")} else ${since("retention_ms")} end
  from ${table("queues")} q where q.id = queue_id
)`;
  if (queue === undefined) return own;
  const shorter = sql`case
    when q.retention_ms < q.dead_retention_ms or q.dead_retention_ms is null then ${since("retention_ms")}
    else ${since("dead_retention_ms")}
  end`;
  return sql`archived_at < (select ${shorter} from ${table("queues")} q where q.name = ${queue}) and ${own}`;
}
