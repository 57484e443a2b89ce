/**
 * The statements of maintenance: what is kept no longer is deleted in bounded batches, by one worker at a time.
 *
 * Each reads as many rows as it is told to look at and no more, by an index, whatever else there is. A plan that was made for
 * small tables would read large ones as a whole, so that on Postgres such plans are switched off first, for the transaction.
 */
import type { Row } from "./driver.ts";
import { idOfQueue } from "./queues.ts";
import {
  type Deferred,
  duration,
  type Fragment,
  instant,
  int,
  millis,
  now,
  perDialect,
  raw,
  sql,
  type Statement,
  statement,
  table,
  text,
} from "./sql.ts";

/** A place in the list of all keys. */
export interface KeyPlace {
  readonly queueId: number;
  readonly key: string;
}

/** The right to do a round of maintenance. */
export interface Turn {
  /** Until when it is held, and its token: every turn and every renewal ends later than those before it. */
  readonly until: number;
  /** Up to where the round before has looked at keys; null: to the end. */
  readonly place: KeyPlace | null;
}

/** Takes the turn if it is due, or from whoever has it. Row for {@linkcode decodeTurn}; none: it is not due. */
export function takeTurn(intervalMs: number, isForced: boolean): Statement {
  const due = isForced ? raw("true") : sql`next_at <= ${now}`;
  return statement(
    "takeTurn",
    sql`update ${table("maintenance")} set next_at = ${laterThanBefore(intervalMs)} where id = 1 and ${due}
returning ${millis(raw("next_at"))}, key_queue_id, key`,
  );
}

/** Keeps a turn for longer. Row for {@linkcode decodeTurn}; none: somebody else has it. */
export function keepTurn({ until, place }: Turn, intervalMs: number): Statement {
  return statement(
    "keepTurn",
    sql`update ${table("maintenance")}
set next_at = ${laterThanBefore(intervalMs)}, key_queue_id = ${int(place?.queueId)}, key = ${text(place?.key)}
where id = 1 and next_at = ${instant(until)}
returning ${millis(raw("next_at"))}, key_queue_id, key`,
  );
}

/** Gives a turn back whose work is not done, so that somebody else goes on with it at once. */
export function giveTurnBack({ until, place }: Turn): Statement {
  return statement(
    "giveTurnBack",
    sql`update ${table("maintenance")}
set next_at = ${now}, key_queue_id = ${int(place?.queueId)}, key = ${text(place?.key)}
where id = 1 and next_at = ${instant(until)}`,
  );
}

/** Reads the row of a turn. */
export function decodeTurn([row]: readonly Row[]): Turn | undefined {
  if (row === undefined) return undefined;
  return { until: Number(row[0]), place: row[1] === null ? null : { queueId: Number(row[1]), key: String(row[2]) } };
}

/** An interval from now, and in any case later than what stands there: the time of a test may stand still. */
function laterThanBefore(intervalMs: number): Fragment {
  const later = sql`${now} + ${duration(intervalMs)}`;
  return sql`case when next_at < ${later} then ${later} else next_at + ${duration(1)} end`;
}

/**
 * Forgets up to `limit` workers that have not been seen for so long and hold no leases. One that is paused is remembered for
 * a day, so that it does not come back from a short absence as one that works. Row: how many.
 */
export function forgetWorkers(unseenMs: number, limit: number): Statement {
  const unseen = sql`w.seen_at < ${now} - ${duration(unseenMs)}
    and (w.paused_at is null or w.seen_at < ${now} - ${duration(PAUSED_MS)})`;
  return statement(
    "forgetWorkers",
    perDialect({
      postgres: () => [
        ...pinned,
        sql`with target as materialized (
  select w.holder from ${table("workers")} w
  where ${unseen} and (
    select m.id from ${table("messages")} m
    where m.queue_id = any (array(
      select q.id from json_array_elements_text(w.queues) n cross join lateral (
        select q.id from ${table("queues")} q where q.name = n.value limit 1
      ) q
    )) and m.state = 'leased' and m.holder = w.holder
    limit 1
  ) is null
  limit ${limit}
  for update of w skip locked
), gone as (
  delete from ${table("workers")} where holder = any (array(select holder from target)) returning holder
)
select count(*) from gone`,
      ],
      sqlite: () => [
        sql`delete from ${table("workers")} where holder in (
  select w.holder from ${table("workers")} w
  where ${unseen} and not exists (
    select 1 from json_each(w.queues) n cross join ${table("queues")} q on q.name = n.value
    cross join ${table("messages")} m on m.queue_id = q.id and m.state = 'leased'
    where m.holder = w.holder
  )
  limit ${limit}
)`,
        raw("select changes()"),
      ],
    }),
  );
}

/**
 * Looks at the next `limit` queues after one, and which of them keep something for longer than they say. Rows: the id of a
 * queue, whether there are such dead letters (1), and whether there may be other such messages (1).
 */
export function findOverdue(afterQueueId: number, limit: number): Statement {
  const dead = sql`select a.id from ${table("archive")} a
    where a.queue_id = q.id and a.outcome = 'failed' and a.archived_at < ${keptSince("dead_retention_ms")}
    order by a.archived_at, a.id limit 1`;
  // Where dead letters are kept for longer than the others the first ones are some of these, and do not count.
  const ended = sql`select x.outcome from (
    select a.outcome from ${table("archive")} a
    where a.queue_id = q.id and a.archived_at >= coalesce(q.purged_until, ${beginning})
      and a.archived_at < ${keptSince("retention_ms")}
    order by a.archived_at, a.id limit ${raw(String(LOOK))}
  ) x`;
  const queues = sql`select q.id, case when (${dead}) is null then 0 else 1 end, (
  select case when count(*) filter (where x.outcome <> 'failed') > 0 or count(*) = ${
    raw(String(LOOK))
  } then 1 else 0 end
  from (${ended}) x
)
from ${table("queues")} q where q.id > ${afterQueueId} order by q.id limit ${limit}`;
  return statement("findOverdue", perDialect({ postgres: () => [...pinned, queues], sqlite: () => queues }));
}

/** Deletes up to `limit` dead letters of a queue that are kept no longer, the oldest first. Row: how many. */
export function purgeDead(queueId: number, limit: number): Statement {
  const overdue = sql`select a.id from ${table("archive")} a
  where a.queue_id = ${queueId} and a.outcome = 'failed'
    and a.archived_at < (select ${keptSince("dead_retention_ms")} from ${table("queues")} q where q.id = ${queueId})
  order by a.archived_at, a.id limit ${limit}`;
  return statement(
    "purgeDead",
    perDialect({
      // One that is being replayed is left to those who do it.
      postgres: () => [
        ...pinned,
        sql`with target as materialized (
  ${overdue} for update of a skip locked
), gone as (
  delete from ${table("archive")} where id = any (array(select id from target)) returning id
)
select count(*) from gone`,
      ],
      sqlite: () => [sql`delete from ${table("archive")} where id in (${overdue})`, raw("select changes()")],
    }),
  );
}

/** A place in the archive of a queue. */
export interface EndedPlace {
  readonly archivedAt: number;
  readonly id: number;
}

/** What came of a look at some rows, of which those that are kept no longer were deleted. */
export interface Purged<Place> {
  readonly seen: number;
  readonly gone: number;
  /** The last row that was looked at; null at the end. */
  readonly last: Place | null;
}

/**
 * Looks at the next `limit` ended messages of a queue after a place that are older than it keeps them, and deletes them; but
 * not dead letters that it keeps for longer. Rows for {@linkcode decodePurgedEnded}.
 */
export function purgeEnded(queueId: number, limit: number, after: EndedPlace | null): Statement {
  const ofQueue = (value: Fragment): Fragment =>
    sql`(select ${value} from ${table("queues")} q where q.id = ${queueId})`;
  const next = after === null ? raw("") : sql` and (a.archived_at, a.id) > (${instant(after.archivedAt)}, ${after.id})`;
  const seen = sql`select a.id, a.archived_at, a.outcome from ${table("archive")} a
  where a.queue_id = ${queueId} and a.archived_at >= ${ofQueue(sql`coalesce(q.purged_until, ${beginning})`)}
    and a.archived_at < ${ofQueue(sql`${keptSince("retention_ms")}`)}${next}
  order by a.archived_at, a.id limit ${limit}`;
  const isOver = sql`(s.outcome <> 'failed' or s.archived_at < ${ofQueue(sql`${keptSince("dead_retention_ms")}`)})`;
  const last = sql`from seen s order by s.archived_at desc, s.id desc limit 1`;
  return statement(
    "purgeEnded",
    perDialect({
      postgres: () => [
        ...pinned,
        sql`with seen as materialized (
  ${seen}
), target as materialized (
  select a.id from ${table("archive")} a where a.id = any (array(select s.id from seen s where ${isOver}))
  for update skip locked
), gone as (
  delete from ${table("archive")} where id = any (array(select id from target)) returning id
)
select (select count(*) from seen), ${millis(raw("s.archived_at"))}, s.id, (select count(*) from gone) ${last}`,
      ],
      sqlite: () => [
        sql`with seen as materialized (${seen}) select (select count(*) from seen), s.archived_at, s.id ${last}`,
        sql`delete from ${table("archive")} where id in (select s.id from (${seen}) s where ${isOver})`,
        raw("select changes()"),
      ],
    }),
  );
}

/** Reads the row of a statement that has deleted all that it has seen. */
export function decodeCount(rows: readonly Row[]): Purged<never> {
  const gone = Number(rows[0]?.[0]);
  return { seen: gone, gone, last: null };
}

/** Reads the rows of {@linkcode purgeEnded}. */
export function decodePurgedEnded(rows: readonly Row[]): Purged<EndedPlace> {
  return decodePurged(rows, ([archivedAt, id]) => ({ archivedAt: Number(archivedAt), id: Number(id) }));
}

/**
 * Notes that a queue has nothing to delete before an instant but dead letters that it keeps for longer, so that these are not
 * looked at again.
 */
export function notePurged(queueId: number, until: number): Statement {
  return statement(
    "notePurged",
    sql`update ${table("queues")} set purged_until = ${instant(until)}
where id = ${queueId} and coalesce(purged_until, ${beginning}) < ${instant(until)}`,
  );
}

/**
 * Looks at the next `limit` keys after a place, of one queue or of all, and deletes those that hold no more. Rows for
 * {@linkcode decodePurgedKeys}.
 */
export function purgeKeys(queue: string | undefined, limit: number, after: KeyPlace | null): Statement {
  const ofQueue = queue === undefined ? raw("true") : sql`queue_id = ${idOfQueue(queue)}`;
  const place = after === null ? ofQueue : sql`${ofQueue} and (queue_id, key) > (${after.queueId}, ${after.key})`;
  // A scalar and no EXISTS, for which Postgres might read all messages into a table of hashes.
  const ended = sql`(select m.id from ${table("messages")} m where m.id = k.message_id) is null`;
  const isOver = sql`case k.hold
    when 'started' then ${ended}
    when 'finished' then ${ended}
    when 'time' then k.expires_at <= ${now}
    else k.expires_at <= ${now} and ${ended}
  end`;
  const last = raw("from seen order by queue_id desc, key desc limit 1");
  return statement(
    "purgeKeys",
    perDialect({
      // Who takes a key over gives it another message id, and that message cannot be seen from here.
      postgres: () => [
        ...pinned,
        sql`with seen as materialized (
  select queue_id, key, message_id from ${table("keys")} where ${place} order by queue_id, key limit ${limit}
), target as materialized (
  select k.queue_id, k.key from seen s
  join ${table("keys")} k on k.queue_id = s.queue_id and k.key = s.key and k.message_id = s.message_id
  where ${isOver}
  for update of k skip locked
), gone as (
  delete from ${table("keys")} k using target t where k.queue_id = t.queue_id and k.key = t.key returning 1
)
select (select count(*) from seen), queue_id, key, (select count(*) from gone) ${last}`,
      ],
      sqlite: () => {
        const seen = sql`select queue_id, key from ${
          table("keys")
        } where ${place} order by queue_id, key limit ${limit}`;
        return [
          sql`with seen as materialized (${seen}) select (select count(*) from seen), queue_id, key ${last}`,
          sql`delete from ${table("keys")} as k where (queue_id, key) in (${seen}) and ${isOver}`,
          raw("select changes()"),
        ];
      },
    }),
  );
}

/** Reads the rows of {@linkcode purgeKeys}. */
export function decodePurgedKeys(rows: readonly Row[]): Purged<KeyPlace> {
  return decodePurged(rows, ([queueId, key]) => ({ queueId: Number(queueId), key: String(key) }));
}

/** Postgres tells all in one row, or in none at the end; SQLite how many are gone in a row of its own. */
function decodePurged<Place>(rows: readonly Row[], placeOf: (columns: Row) => Place): Purged<Place> {
  const look = rows.find((row) => row.length > 1);
  if (look === undefined) return { seen: 0, gone: 0, last: null };
  const [seen, first, second, gone] = look;
  return { seen: Number(seen), gone: Number(gone ?? rows.at(-1)?.[0]), last: placeOf([first, second]) };
}

/** The instant before which the queue `q` keeps nothing; null when it keeps for ever. */
function keptSince(column: "dead_retention_ms" | "retention_ms"): Fragment {
  return sql`${now} - ${duration(raw(`q.${column}`))}`;
}

/** An instant before all others. */
const beginning: Deferred = perDialect({ postgres: () => raw("'epoch'::timestamptz"), sqlite: () => raw("0") });

/** Switches off, until the end of the transaction, what would read a table as a whole. No rows. */
const pinned: readonly Fragment[] = [
  sql`select 1 where set_config('enable_seqscan', 'off', true) is null
or set_config('enable_bitmapscan', 'off', true) is null or set_config('enable_hashjoin', 'off', true) is null
or set_config('enable_mergejoin', 'off', true) is null`,
];

/** How many ended messages tell whether a queue has some that are kept no longer. */
const LOOK = 20;
/** For how long a paused worker is remembered. */
const PAUSED_MS = 86_400_000;
