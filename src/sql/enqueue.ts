/** The statements that put messages on a queue. */
import { callWithin } from "./locks.ts";
import { idOfQueue } from "./queues.ts";
import {
  type Fragment,
  instant,
  int,
  json,
  jsonLater,
  type Late,
  now,
  perDialect,
  raw,
  sql,
  type Statement,
  statement,
  table,
  testNow,
  text,
} from "./sql.ts";

/** What is said of all messages of a list, or of each. The names are those under which SQL reads them. */
export interface EnqueueItem {
  readonly delay_ms?: number | undefined;
  readonly at_ms?: number | undefined;
  readonly priority?: number | undefined;
  /** For how long after it is due a delivery may begin. */
  readonly ttl_ms?: number | undefined;
  /** A JSON text. */
  readonly headers?: string | undefined;
  /** What the message says of its own attempts: a JSON text of `{ maxAttempts, backoff }`. */
  readonly retry?: string | undefined;
  readonly key?: string | undefined;
  readonly hash?: string | undefined;
  readonly conflict?: "existing" | "reject" | "replace" | undefined;
  readonly hold?: "default" | "finished" | "started" | "time" | undefined;
  readonly hold_ms?: number | undefined;
  /** Whether the list goes on without this item when its key refuses it: 1, in a list of calls that came together. */
  readonly is_alone?: 1 | undefined;
}

/**
 * Inserts messages, all or none. `payloads` are JSON texts; `options` are one object for all, or one for each when keys or
 * other options differ; `hint` is what to tell other processes; `patienceMs` is how long to wait for a lock on Postgres.
 * Rows: JSON texts for `decodeEnqueued`; none when there is no such queue.
 */
export function enqueueMessages(
  queue: string,
  payloads: readonly string[],
  options: EnqueueItem | readonly EnqueueItem[],
  hint?: string | null,
  patienceMs?: number,
): Statement {
  return statement(
    "enqueueMessages",
    perDialect({
      postgres: () => callParts(queue, payloads, options, hint ?? null, patienceMs),
      sqlite: () => isList(options) ? insertEach(queue, payloads, options) : insertAlike(queue, payloads, options),
    }),
  );
}

/** The options as JSON text; what is JSON already is embedded as it is. */
function encodeOptions(options: EnqueueItem | readonly EnqueueItem[]): string {
  if (isList(options)) return `[${options.map(encodeOptions).join(",")}]`;
  const { headers, retry, ...plain } = options;
  let text = JSON.stringify(plain).slice(0, -1);
  for (const [name, value] of Object.entries({ headers, retry })) {
    if (value !== undefined) text += `${text === "{" ? "" : ","}"${name}":${value}`;
  }
  return `${text}}`;
}

/** Postgres: one call for a list of usual size, for a large one several whose texts neither side has to hold at once. */
function callParts(
  queue: string,
  payloads: readonly string[],
  options: EnqueueItem | readonly EnqueueItem[],
  hint: string | null,
  patienceMs: number | undefined,
): Fragment[] {
  const lengthOf = (text: string, i: number): number => text.length + (isList(options) ? headersLength(options[i]) : 0);
  const chunks = chunksOf(payloads, Number.POSITIVE_INFINITY, PART_LENGTH, lengthOf);
  const calls = chunks.map(({ start, list }) => {
    const own = isList(options) ? options.slice(start, start + list.length) : options;
    const call = callWithin(patienceMs, queue, (queue) =>
      sql`${table("enqueue_many")}(
  ${queue}, ${jsonLater(() => `[${list.join(",")}]`)}, ${jsonLater(() => encodeOptions(own))}, ${text(hint)}, ${testNow}
)`);
    return chunks.length > 1 ? callPart(call, start) : sql`select cast(e as text) from ${call} e`;
  });
  const keys = isList(options) && chunks.length > 1 ? options.flatMap(({ key }) => key ?? []) : [];
  return keys.length > 0 ? [takeKeys(queue, keys), ...calls] : calls;
}

/**
 * Takes all keys of a list in ascending order before the first of several calls, each of which knows only the order of its
 * own: otherwise two lists could wait for each other in a circle. A new key belongs to no message yet, and so is free.
 */
function takeKeys(queue: string, keys: readonly string[]): Fragment {
  return sql`insert into ${table("keys")} as k (queue_id, key, message_id, hash, hold)
select q.id, i.key, 0, '', 'finished'
from json_array_elements_text(${jsonLater(() => JSON.stringify(keys))}) i(key) join ${
    table("queues")
  } q on q.name = ${queue}
order by i.key
on conflict (queue_id, key) do update set hold = k.hold`;
}

function headersLength(item: EnqueueItem | undefined): number {
  return item?.headers?.length ?? 0;
}

/**
 * One of several calls for a list. A call that is refused has stored nothing and says so in a row; here it must undo the
 * calls before it, which a missing message id does: it violates the table's own constraint. A call that finds no queue has
 * no row; it must end the list, because a queue that is created now would get the rest of it: so it divides by zero, see
 * `lacksQueue`. One that finds the queue keeps it from being deleted until the transaction ends. The second column
 * is what the places in the part have to be moved by.
 */
function callPart(call: Fragment, start: number): Fragment {
  return sql`with answer as materialized (
  select e from ${call} e
), refused as (
  insert into ${table("keys")} (queue_id, key, message_id, hash, hold)
  select 0, '', null, '', 'default' from answer where e ->> 'refused' is not null
), missing as (
  insert into ${table("keys")} (queue_id, key, message_id, hash, hold)
  select 1 / count(*), '', null, '', 'default' from answer having count(*) = 0
)
select cast(e as text), ${start} from answer`;
}

/** SQLite, one set of options for all: an insert per stretch of the list, and one row that tells the last id. */
function insertAlike(queue: string, payloads: readonly string[], options: EnqueueItem): Fragment[] {
  const { delay_ms = 0, at_ms, priority = 0, ttl_ms, headers, retry } = options;
  const due = sql`coalesce(${instant(at_ms)}, ${now} + ${delay_ms})`;
  const parts: Fragment[] = [];
  const lengthOf = (text: string): number => text.length + headersLength(options);
  for (const { list } of chunksOf(payloads, CHUNK, CHUNK_LENGTH, lengthOf)) {
    parts.push(sql`insert into ${table("messages")} (
  queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, type, headers, retry, payload
)
select q.id, 'ready', ${priority}, ${due}, ${now}, coalesce(${json(retry)} ->> 'maxAttempts', q.max_attempts),
  q.max_crashes, ${due} + ${int(ttl_ms)}, ${json(headers)} ->> 'type', ${json(headers)}, ${json(retry)}, i.value
from json_each(${jsonLater(() => JSON.stringify(list))}) i join ${table("queues")} q on q.name = ${queue}
order by i.key`);
  }
  parts.push(
    sql`select json_object('at', enqueued_at, 'last', id, 'max_attempts', max_attempts) from ${table("messages")}
where id = last_insert_rowid() and exists (select 1 from ${table("queues")} q where q.name = ${queue})`,
  );
  return parts;
}

/**
 * SQLite, options for each. The id of an item is known before it is inserted (the last id ever used, plus its place in the
 * list), so that the key rows can be written first and decide which items are stored.
 */
function insertEach(queue: string, payloads: readonly string[], options: readonly EnqueueItem[]): Fragment[] {
  const items = payloads.map((payload, i) => ({ ...options[i], payload, n: i + 1 }));
  const kind = {
    hasKeys: options.some(({ key }) => key !== undefined),
    isAlone: options.some(({ is_alone }) => is_alone === 1),
  };
  let last: { readonly start: number; readonly text: string } | undefined;
  const lengthOf = (item: (typeof items)[number]): number => item.payload.length + headersLength(item);
  return chunksOf(items, CHUNK, CHUNK_LENGTH, lengthOf).flatMap(({ start, list }) =>
    insertChunk(
      queue,
      // Many places of a chunk's statements read the same text.
      jsonLater(() => {
        if (last?.start !== start) last = { start, text: JSON.stringify(list) };
        return last.text;
      }),
      start,
      kind,
    )
  );
}

/** What a list has, as far as it makes its statements other ones. */
interface ListKind {
  readonly hasKeys: boolean;
  readonly isAlone: boolean;
}

function insertChunk(queue: string, items: Late, start: number, { hasKeys, isAlone }: ListKind): Fragment[] {
  const base = sql`(select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages')`;
  const freshId = sql`${base} + (i.value ->> 'n') - ${start}`;
  // A cross join is one whose order SQLite keeps: with the list inside it would read every key of the queue.
  const from = sql`json_each(${items}) i cross join ${table("queues")} q on q.name = ${queue}`;
  const keyRow = sql`k.queue_id = q.id and k.key = i.value ->> 'key'`;
  const due = sql`coalesce(i.value ->> 'at_ms', ${now} + coalesce(i.value ->> 'delay_ms', 0))`;
  const isStored = sql`i.value ->> 'key' is null
  or exists (select 1 from ${table("keys")} k where ${keyRow} and k.message_id = ${freshId})`;
  const insert = insertItems({
    freshId,
    due,
    from: hasKeys
      ? sql`${from}
where ${isStored}`
      : from,
  });
  if (!hasKeys) return [insert];
  const keyed = sql`${from} cross join ${table("keys")} k on ${keyRow}`;
  const replacing = sql`with i as materialized (
  select i.value, q.id as queue_id, q.max_attempts, k.key, k.message_id
  from ${keyed}
  where i.value ->> 'conflict' = 'replace'
    and exists (select 1 from ${table("messages")} m where m.id = k.message_id and m.state = 'ready')
)`;
  const live = sql`exists (select 1 from ${table("messages")} m where m.id = message_id)`;
  return [
    // A key that counts no more for the message that held it is free.
    sql`delete from ${table("keys")}
where (queue_id, key) in (select q.id, i.value ->> 'key' from ${from})
  and not case hold
    when 'started' then exists (select 1 from ${table("messages")} m where m.id = message_id and m.token = 0)
    when 'finished' then ${live}
    when 'time' then expires_at > ${now}
    else expires_at > ${now} or ${live}
  end`,
    sql`insert into ${table("keys")} (queue_id, key, message_id, hash, hold, expires_at)
select q.id, i.value ->> 'key', ${freshId}, i.value ->> 'hash', i.value ->> 'hold', ${now} + (i.value ->> 'hold_ms')
from ${from}
where i.value ->> 'key' is not null
on conflict do nothing`,
    isAlone
      ? sql`select json_object('n', i.value ->> 'n', 'id', k.message_id, 'refused', case
  when i.value ->> 'conflict' = 'reject' then 'taken' else 'payload'
end, 'is_alone', 1)
from ${keyed}
where ${refuses(freshId)}`
      // Refuses the whole list: a missing message id violates the table's own constraint, and everything is rolled back.
      : sql`insert into ${table("keys")} (queue_id, key, message_id, hash, hold)
select q.id, i.value ->> 'key', null, '', 'default'
from ${keyed}
where ${refuses(freshId)}`,
    insert,
    sql`${replacing}
update ${table("messages")} as m
set payload = i.value ->> 'payload', headers = i.value ->> 'headers', type = (i.value ->> 'headers') ->> 'type',
  priority = coalesce(i.value ->> 'priority', 0), due_at = ${due}, expires_at = ${due} + (i.value ->> 'ttl_ms'),
  retry = i.value ->> 'retry', max_attempts = coalesce((i.value ->> 'retry') ->> 'maxAttempts', i.max_attempts)
from i
where m.id = i.message_id`,
    sql`${replacing}
update ${table("keys")} as k
set hash = i.value ->> 'hash'
from i
where k.queue_id = i.queue_id and k.key = i.key`,
    sql`select json_object(
  'n', i.value ->> 'n', 'id', k.message_id, 'at', ${now},
  'state', coalesce(case when m.state = 'ready' and m.due_at > ${now} then 'delayed' end, m.state, a.outcome, 'deleted'),
  'priority', m.priority, 'attempts', m.attempts, 'max_attempts', m.max_attempts,
  'enqueued_at', m.enqueued_at, 'due_at', m.due_at, 'expires_at', m.expires_at
)
from ${keyed}
left join ${table("messages")} m on m.id = k.message_id
left join ${table("archive")} a on a.id = k.message_id`,
  ];
}

/** Inserts the items that come `from` a list. Rows: for each its id, without a place for those without a key. */
function insertItems({ freshId, due, from }: Readonly<Record<"due" | "freshId" | "from", Fragment>>): Fragment {
  return sql`insert into ${table("messages")} (
  id, queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, key, type, headers, retry,
  payload
)
select ${freshId}, q.id, 'ready', coalesce(i.value ->> 'priority', 0), ${due}, ${now},
  coalesce((i.value ->> 'retry') ->> 'maxAttempts', q.max_attempts), q.max_crashes, ${due} + (i.value ->> 'ttl_ms'),
  i.value ->> 'key', (i.value ->> 'headers') ->> 'type', i.value ->> 'headers', i.value ->> 'retry',
  i.value ->> 'payload'
from ${from}
order by i.key
returning json_object(
  'id', id, 'at', enqueued_at, 'max_attempts', max_attempts, 'n', case when key is not null then 0 end
)`;
}

/** Why a key refuses an item, given the key row `k`. */
function refuses(freshId: Fragment): Fragment {
  return sql`k.message_id <> ${freshId} and case i.value ->> 'conflict'
    when 'reject' then 1
    when 'replace' then k.hash <> i.value ->> 'hash'
      and not exists (select 1 from ${table("messages")} m where m.id = k.message_id and m.state = 'ready')
    else k.hash <> i.value ->> 'hash'
  end`;
}

/** Finds the key of a list that refuses it. Rows: place in the list, message id, whether the key is merely taken (1). */
export function findRefusal(queue: string, options: readonly EnqueueItem[]): Statement {
  const items = JSON.stringify(options.map(({ key, hash, conflict }, i) => ({ key, hash, conflict, n: i + 1 })));
  const keyRow = sql`k.queue_id = ${idOfQueue(queue)}`;
  return statement(
    "findRefusal",
    perDialect({
      postgres: () =>
        sql`select i.n, k.message_id, case when i.conflict = 'reject' then 1 else 0 end
from json_to_recordset(${json(items)}) as i(n bigint, key text, hash text, conflict text)
join ${table("keys")} k on ${keyRow} and k.key = i.key
where i.conflict = 'reject' or k.hash <> i.hash and left(k.hash, 3) = left(i.hash, 3) and not (
  i.conflict = 'replace'
  and exists (select 1 from ${table("messages")} m where m.id = k.message_id and m.state = 'ready')
)
order by i.n limit 1`,
      sqlite: () =>
        sql`select i.value ->> 'n', k.message_id, i.value ->> 'conflict' = 'reject'
from json_each(${items}) i cross join ${table("keys")} k on ${keyRow} and k.key = i.value ->> 'key'
where ${refuses(raw("0"))}
order by i.key limit 1`,
    }),
  );
}

/** A stretch of a list, and where it begins. */
interface Chunk<T> {
  readonly start: number;
  readonly list: readonly T[];
}

/** Cuts a list so that no stretch has more items or, unless it is a single item, a longer text than allowed. */
function chunksOf<T>(
  list: readonly T[],
  maxItems: number,
  maxLength: number,
  lengthOf: (item: T, index: number) => number,
): readonly Chunk<T>[] {
  const chunks: Chunk<T>[] = [];
  let start = 0;
  let length = 0;
  for (const [i, item] of list.entries()) {
    const own = lengthOf(item, i);
    if (i > start && (i - start === maxItems || length + own > maxLength)) {
      chunks.push({ start, list: list.slice(start, i) });
      start = i;
      length = 0;
    }
    length += own;
  }
  chunks.push({ start, list: list.slice(start) });
  return chunks;
}

/** How many rows SQLite inserts at a stretch: some milliseconds of work, after which timers get their turn. */
const CHUNK = 1_000;
/** How long the texts of such a stretch may be together. */
const CHUNK_LENGTH = 262_144;
/** How long the texts of a list may be together that Postgres gets in one piece. */
const PART_LENGTH = 2_097_152;

function isList(options: EnqueueItem | readonly EnqueueItem[]): options is readonly EnqueueItem[] {
  return Array.isArray(options);
}
