/**
 * Migration 2: the hot operations as functions of Postgres.
 *
 * Two reasons, see docs/decisions/0003. A plan that was made while the table was small reads every row of it later, and
 * only settings can forbid that; a function carries its settings through any pooler. And under READ COMMITTED each statement
 * of a function sees what was committed while the one before it waited for a lock, so a decision is never made on an old
 * snapshot. SQLite has a single writer and needs neither.
 */
import { sendHint } from "../channel.ts";
import type { DialectName } from "../dialect.ts";
import { bodyQuote, type Fragment, raw, sql, table, tableLiteral } from "../sql.ts";
import { claim } from "./0002_claim.ts";
import { CARRIED, CARRIED_OF_GONE, NOW, PINNED, PROCESSING } from "./0002_pinned.ts";

/** What is made: a function is known by its arguments, because others may have one of the same name. */
export const functionObjects: Readonly<Record<DialectName, readonly string[]>> = {
  postgres: [
    "function pgqrs_claim(p_queue text, p_limit bigint, p_lease_ms bigint, p_default_lease_ms bigint, p_holder text, " +
    "p_type text, p_max_attempts bigint, p_is_ahead boolean, p_now timestamp with time zone)",
    "function pgqrs_archive_leased(p_items json, p_holder text, p_by text, p_now timestamp with time zone)",
    "function pgqrs_archive_plain(p_ids bigint[], p_tokens bigint[], p_holder text, p_by text, " +
    "p_now timestamp with time zone)",
    "function pgqrs_delete_leased(p_items json, p_holder text)",
    "function pgqrs_release_leased(p_items json, p_holder text, p_now timestamp with time zone)",
    "function pgqrs_extend_leased(p_items json, p_holder text, p_now timestamp with time zone)",
    "function pgqrs_beat(p_items json, p_holder text, p_now timestamp with time zone)",
    "function pgqrs_look(p_queues json, p_now timestamp with time zone)",
    "function pgqrs_endings(p_ids json)",
    "function pgqrs_fail_leased(p_items json, p_holder text, p_by text, p_now timestamp with time zone)",
    "function pgqrs_enqueue_many(p_queue text, p_payloads json, p_options json, p_hint text, " +
    "p_now timestamp with time zone)",
    "function pgqrs_enqueue(queue text, payload json, options json)",
  ],
  sqlite: [],
};

/** The functions; `create or replace`, so that the migration can be repeated. */
export function postgresFunctions(): Fragment[] {
  return [claim(), ...settling(), beat(), look(), endings(), enqueueMany(), enqueueOne()];
}

/**
 * The row of an item, if the lease is the caller's: by the token of the delivery, or (by id alone) by the caller as the
 * holder of the current one. Only a leased row has a holder; a condition on the state would offer the planner the index of
 * all leases, and an equality of the ids would offer it the whole of the primary key: both read every row when the plan was
 * made on a small table. In this form a row can be reached by its id alone.
 */
const FENCE = raw("m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token)");

/**
 * Sends a hint for a message that was given back, also for one that has to wait: the claim that follows learns when it is
 * due. Equal ones of a statement are sent once.
 */
const HINT = sql`${
  sendHint(sql`'queue:' || (select q.name from ${table("queues")} q where q.id = m.queue_id)`)
}::text as told`;

/** A message that is given back is ready again, unless it is a run that somebody wishes to pause. */
const GIVEN_BACK = raw("state = case when m.wish = 'pause' then 'paused' else 'ready' end, wish = null");

/** Ends the messages that a condition finds as succeeded, without a reason and without a result. */
function archiveGone(condition: Fragment): Fragment {
  return sql`with gone as (
      delete from ${table("messages")} m
      ${condition}
      returning m.*
    )
    insert into ${table("archive")} (
      ${CARRIED}, outcome, archived_at, archived_by, processing_ms, attempts, crashes, error
    )
    select ${CARRIED_OF_GONE}, 'succeeded', v_now, p_by, ${PROCESSING}, g.attempts, g.crashes, g.error
    from gone g
    returning id;`;
}

function settling(): Fragment[] {
  // The items come in ascending order of id, and the nested loop that the settings leave locks the rows in that order.
  return [
    sql`create or replace function ${table("archive_leased")}(
  p_items json, p_holder text, p_by text, p_now timestamptz
) returns setof bigint
language plpgsql
${PINNED}
as ${bodyQuote}
declare
  v_now timestamptz := ${NOW};
begin
  return query
  with gone as (
    delete from ${table("messages")} m
    using json_to_recordset(p_items) as i(id bigint, token bigint, reason text, result json)
    where ${FENCE}
    returning m.*, i.reason, i.result
  )
  insert into ${table("archive")} (
    ${CARRIED}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error, result
  )
  select ${CARRIED_OF_GONE}, 'succeeded', g.reason, v_now, p_by, ${PROCESSING}, g.attempts, g.crashes, g.error, g.result
  from gone g
  returning id;
end
${bodyQuote}`,
    // The same without reasons and results, as it is with most jobs: a list of numbers is read in half the time. Most have one
    // token in common, the first, so that one path over the index finds all of them.
    sql`create or replace function ${table("archive_plain")}(
  p_ids bigint[], p_tokens bigint[], p_holder text, p_by text, p_now timestamptz
) returns setof bigint
language plpgsql
${PINNED}
as ${bodyQuote}
declare
  v_now timestamptz := ${NOW};
begin
  if p_tokens[1] = all (p_tokens) then
    return query
    ${archiveGone(sql`where m.id = any (p_ids) and m.holder = p_holder and m.token = p_tokens[1]`)}
  else
    return query
    ${archiveGone(sql`using unnest(p_ids, p_tokens) as i(id, token) where ${FENCE}`)}
  end if;
end
${bodyQuote}`,
    sql`create or replace function ${table("delete_leased")}(p_items json, p_holder text) returns setof bigint
language plpgsql
${PINNED}
as ${bodyQuote}
begin
  return query
  delete from ${table("messages")} m
  using json_to_recordset(p_items) as i(id bigint, token bigint)
  where ${FENCE}
  returning m.id;
end
${bodyQuote}`,
    sql`create or replace function ${table("release_leased")}(
  p_items json, p_holder text, p_now timestamptz
) returns setof bigint
language plpgsql
${PINNED}
as ${bodyQuote}
declare
  v_now timestamptz := ${NOW};
begin
  return query
  with given as (
    update ${table("messages")} m
    set ${GIVEN_BACK}, due_at = v_now + i.delay_ms * interval '1 millisecond',
      token = m.token + 1, holder = null, leased_at = null, lease_until = null
    from json_to_recordset(p_items) as i(id bigint, token bigint, delay_ms bigint)
    where ${FENCE}
    returning m.id, ${HINT}
  )
  select g.id from given g;
end
${bodyQuote}`,
    sql`create or replace function ${table("extend_leased")}(
  p_items json, p_holder text, p_now timestamptz
) returns setof bigint
language plpgsql
${PINNED}
as ${bodyQuote}
begin
  -- The clock is read for each row, after its lock was waited for: the lease is as long as asked for, whatever the wait.
  return query
  update ${table("messages")} m
  set lease_until = greatest(m.lease_until, ${NOW} + i.lease_ms * interval '1 millisecond')
  from json_to_recordset(p_items) as i(id bigint, token bigint, lease_ms bigint)
  where ${FENCE}
  returning m.id;
end
${bodyQuote}`,
    sql`create or replace function ${table("fail_leased")}(
  p_items json, p_holder text, p_by text, p_now timestamptz
) returns setof bigint
language plpgsql
${PINNED}
as ${bodyQuote}
declare
  v_now timestamptz := ${NOW};
begin
  -- Locked first, in ascending order, because two statements follow and each takes a part of the rows.
  perform m.id
  from json_to_recordset(p_items) as i(id bigint, token bigint)
  join ${table("messages")} m on ${FENCE}
  for update of m;
  return query
  with gone as (
    delete from ${table("messages")} m
    using json_to_recordset(p_items) as i(id bigint, token bigint, error json, is_final integer)
    where ${FENCE} and (m.attempts + 1 >= m.max_attempts or i.is_final = 1)
    returning m.*, i.error as last_error
  )
  insert into ${table("archive")} (
    ${CARRIED}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error
  )
  select ${CARRIED_OF_GONE}, 'failed',
    case when g.attempts + 1 >= g.max_attempts then 'attempts' else 'not_retryable' end,
    v_now, p_by, ${PROCESSING}, g.attempts + 1, g.crashes, g.last_error
  from gone g
  returning id;
  return query
  with given as (
    update ${table("messages")} m
    set ${GIVEN_BACK}, due_at = v_now + i.delay_ms * interval '1 millisecond',
      token = m.token + 1, attempts = m.attempts + 1, error = i.error, holder = null, leased_at = null, lease_until = null
    from json_to_recordset(p_items) as i(id bigint, token bigint, error json, delay_ms bigint, is_final integer)
    where ${FENCE} and m.attempts + 1 < m.max_attempts and i.is_final = 0
    returning m.id, ${HINT}
  )
  select g.id from given g;
end
${bodyQuote}`,
  ];
}

/**
 * Renews the leases of a worker. A message that somebody has locked is left out: whoever has the lock either ends the lease
 * or lets it be. Rows: the messages that were not renewed, each with what has become of it.
 */
function beat(): Fragment {
  return sql`create or replace function ${table("beat")}(
  p_items json, p_holder text, p_now timestamptz
) returns table (id bigint, fate text)
language plpgsql
${PINNED}
as ${bodyQuote}
#variable_conflict use_column
declare
  v_ids bigint[];
begin
  v_ids := array(
    select m.id
    from json_to_recordset(p_items) as i(id bigint, token bigint)
    cross join lateral (
      select m.id from ${table("messages")} m where ${FENCE} for update skip locked
    ) m
  );
  update ${table("messages")} m
  set lease_until = greatest(m.lease_until, ${NOW} + i.lease_ms * interval '1 millisecond')
  from json_to_recordset(p_items) as i(id bigint, lease_ms bigint)
  where i.id = any (v_ids) and m.id = any (array[i.id]);
  return query
  select i.id, case
    when m.id is null and a.outcome = 'cancelled' then 'cancelled'
    when m.id is null or m.token <> i.token or m.holder is distinct from p_holder then 'lost'
    else 'locked'
  end
  from json_to_recordset(p_items) as i(id bigint, token bigint)
  left join lateral (select m.id, m.token, m.holder from ${
    table("messages")
  } m where m.id = any (array[i.id])) m on true
  -- In this order only the primary key gives a row: another index has the id as its last column.
  left join lateral (
    select a.outcome from ${table("archive")} a where a.id = any (array[i.id]) order by a.id limit 1
  ) a on true
  where i.id <> all (v_ids);
end
${bodyQuote}`;
}

/**
 * Looks in which of some queues there is something to claim, or when there will be. It goes from one lane that has something
 * to the next, so that queues which are empty cost nothing. Rows: queue, in how many milliseconds.
 */
function look(): Fragment {
  return sql`create or replace function ${table("look")}(
  p_queues json, p_now timestamptz
) returns table (queue_id bigint, due_ms bigint)
language plpgsql
${PINNED}
as ${bodyQuote}
#variable_conflict use_column
declare
  v_now timestamptz := ${NOW};
  v_queues bigint[] := array(
    select q.id from json_array_elements_text(p_queues) e
    cross join lateral (
      select q.id from ${table("queues")} q where q.name = any (array[e]) and q.paused_at is null
    ) q
  );
  v_place integer;
  v_at bigint;
  v_priority smallint;
  v_lane record;
begin
  foreach v_place in array array[1, 2] loop
    v_at := (select min(q) from unnest(v_queues) q);
    v_priority := -1;
    loop
      if v_place = 1 then
        select m.queue_id, m.priority, m.due_at as at into v_lane
        from ${table("messages")} m
        where m.state = 'ready' and (m.queue_id, m.priority) > (v_at, v_priority)
        order by m.queue_id, m.priority, m.due_at, m.id
        limit 1;
      else
        select m.queue_id, 9::smallint as priority, m.lease_until as at into v_lane
        from ${table("messages")} m
        where m.state = 'leased' and m.queue_id >= v_at
        order by m.queue_id, m.lease_until
        limit 1;
      end if;
      exit when not found;
      if v_lane.queue_id = any (v_queues) then
        queue_id := v_lane.queue_id;
        due_ms := greatest(0, ceil(extract(epoch from v_lane.at - v_now) * 1000));
        return next;
        v_at := v_lane.queue_id;
        v_priority := v_lane.priority;
        if v_place = 2 then
          v_at := v_at + 1;
        end if;
      else
        -- Queues of others in between are leapt over.
        v_at := (select min(q) from unnest(v_queues) q where q > v_lane.queue_id);
        v_priority := -1;
        exit when v_at is null;
      end if;
    end loop;
  end loop;
end
${bodyQuote}`;
}

/**
 * What has become of messages that live no more: one statement, because a message moves from one table to the other. Those
 * who wait for results ask for it again and again, so it must not read a whole table, whatever was known when it was planned.
 */
function endings(): Fragment {
  return sql`create or replace function ${table("endings")}(
  p_ids json
) returns table (id bigint, outcome text, reason text, result json, error json)
language plpgsql
${PINNED}
as ${bodyQuote}
#variable_conflict use_column
begin
  return query
  select i.id, a.outcome, a.reason, a.result, a.error
  from (select e::text::bigint as id from json_array_elements(p_ids) e) i
  -- In this order only the primary key gives a row, and only for one id at a time.
  left join lateral (
    select m.id from ${table("messages")} m where m.id = any (array[i.id]) order by m.id limit 1
  ) m on true
  left join lateral (
    select a.outcome, a.reason, a.result, a.error from ${table("archive")} a
    where a.id = any (array[i.id]) order by a.id limit 1
  ) a on true
  where m.id is null;
end
${bodyQuote}`;
}

/** The instant of a number of milliseconds: rounded, because a float of seconds is not exact in distant years. */
function atMillis(ms: string): Fragment {
  return raw(`date_trunc('milliseconds', to_timestamp(${ms} / 1000.0) + interval '500 microseconds')`);
}

function enqueueMany(): Fragment {
  return sql`create or replace function ${table("enqueue_many")}(
  p_queue text, p_payloads json, p_options json, p_hint text, p_now timestamptz
) returns setof json
language plpgsql
${PINNED}
as ${bodyQuote}
declare
  v_now timestamptz := ${NOW};
  v_queue ${table("queues")}%rowtype;
  v_item record;
  v_key ${table("keys")}%rowtype;
  v_live ${table("messages")}%rowtype;
  v_id bigint;
  v_due timestamptz;
  v_expires timestamptz;
  v_max_attempts integer;
  v_why text;
begin
  -- Shared among those who enqueue, against whoever deletes the queue: a message cannot slip into one that is going away.
  perform pg_advisory_xact_lock_shared(hashtextextended('pgqrs:queue:' || p_queue, 0));
  select * into v_queue from ${table("queues")} q where q.name = p_queue;
  if not found then
    return;
  end if;
  if p_hint is not null then
    perform ${sendHint(raw("p_hint"))};
  end if;

  -- One set of options for all: the plain and fast case.
  if json_typeof(p_options) = 'object' then
    return query
    with stored as (
      insert into ${table("messages")} (
        queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, type, headers, retry, payload
      )
      select v_queue.id, 'ready', coalesce(o.priority, 0), d.due_at, v_now,
        coalesce((o.retry ->> 'maxAttempts')::int, v_queue.max_attempts), v_queue.max_crashes,
        d.due_at + o.ttl_ms * interval '1 millisecond', o.headers ->> 'type', o.headers, o.retry, item.value
      from json_to_record(p_options) as o(
        delay_ms bigint, at_ms numeric, priority int, ttl_ms bigint, headers json, retry json
      )
      cross join lateral (
        select coalesce(${atMillis("o.at_ms")}, v_now + coalesce(o.delay_ms, 0) * interval '1 millisecond') as due_at
      ) d
      cross join json_array_elements(p_payloads) item
      returning id, max_attempts
    )
    select json_build_object(
      'at', trunc(extract(epoch from v_now) * 1000)::bigint, 'ids', coalesce(json_agg(id), '[]'),
      'max_attempts', min(max_attempts)
    ) from stored;
    return;
  end if;

  -- Options for each, but no keys: what several callers want at the same time, in one statement.
  if not exists (select from json_array_elements(p_options) o where o ->> 'key' is not null) then
    return query
    with item as materialized (
      select n, payload, option, nextval(${tableLiteral("messages_id_seq")}) as id
      from rows from (json_array_elements(p_payloads), json_array_elements(p_options))
        with ordinality as t(payload, option, n)
    ), stored as (
      insert into ${table("messages")} (
        id, queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, type, headers, retry,
        payload
      )
      select t.id, v_queue.id, 'ready', coalesce(o.priority, 0), d.due_at, v_now,
        coalesce((o.retry ->> 'maxAttempts')::int, v_queue.max_attempts), v_queue.max_crashes,
        d.due_at + o.ttl_ms * interval '1 millisecond', o.headers ->> 'type', o.headers, o.retry, t.payload
      from item t
      cross join lateral json_to_record(t.option) as o(
        delay_ms bigint, at_ms numeric, priority int, ttl_ms bigint, headers json, retry json
      )
      cross join lateral (
        select coalesce(${atMillis("o.at_ms")}, v_now + coalesce(o.delay_ms, 0) * interval '1 millisecond') as due_at
      ) d
      returning id, max_attempts
    )
    select json_build_object(
      'at', trunc(extract(epoch from v_now) * 1000)::bigint, 'ids', json_agg(id order by id),
      'limits', json_agg(max_attempts order by id)
    ) from stored;
    return;
  end if;

  -- Keys in ascending order, so that two lists with the same keys cannot wait for each other in a circle.
  begin
    for v_item in
      -- The ids are taken in the order of the list, whatever the order of the keys.
      with item as materialized (
        select n, payload, option, nextval(${tableLiteral("messages_id_seq")}) as id
        from rows from (json_array_elements(p_payloads), json_array_elements(p_options))
          with ordinality as t(payload, option, n)
      )
      select t.n, t.id, t.payload, o.*
      from item t
      cross join lateral json_to_record(t.option) as o(
        delay_ms bigint, at_ms numeric, priority int, ttl_ms bigint, headers json, retry json,
        key text, hash text, conflict text, hold text, hold_ms bigint, is_alone int
      )
      order by o.key, t.n
    loop
      v_due := coalesce(${atMillis("v_item.at_ms")}, v_now + coalesce(v_item.delay_ms, 0) * interval '1 millisecond');
      v_expires := v_due + v_item.ttl_ms * interval '1 millisecond';
      v_max_attempts := coalesce((v_item.retry ->> 'maxAttempts')::int, v_queue.max_attempts);
      v_id := v_item.id;
      v_key := null;
      if v_item.key is not null then
        loop
          insert into ${table("keys")} (queue_id, key, message_id, hash, hold, expires_at)
          values (v_queue.id, v_item.key, v_id, v_item.hash, v_item.hold,
            v_now + v_item.hold_ms * interval '1 millisecond')
          on conflict do nothing;
          exit when found;
          select * into v_key from ${table("keys")} k where k.queue_id = v_queue.id and k.key = v_item.key for update;
          exit when found;
        end loop;
        v_live := null;
        if v_key.message_id is not null then
          select * into v_live from ${table("messages")} m where m.id = v_key.message_id for update;
        end if;
        if v_key.message_id is null then
          null;
        elsif not (case v_key.hold
          when 'started' then v_live.id is not null and v_live.token = 0
          when 'finished' then v_live.id is not null
          when 'time' then v_key.expires_at > v_now
          else v_live.id is not null or v_key.expires_at > v_now
        end) then
          -- The key was held by a message for which it counts no more.
          update ${table("keys")} k
          set message_id = v_id, hash = v_item.hash, hold = v_item.hold,
            expires_at = v_now + v_item.hold_ms * interval '1 millisecond'
          where k.queue_id = v_queue.id and k.key = v_item.key;
        else
          v_id := v_key.message_id;
          v_why := case
            when v_item.conflict = 'reject' then 'taken'
            when v_item.conflict = 'replace' and v_live.state = 'ready' then null
            -- Hashes made by the library and by SQL start differently and are not compared with each other.
            when v_key.hash <> v_item.hash and left(v_key.hash, 3) = left(v_item.hash, 3) then 'payload'
          end;
          if v_why is not null and v_item.is_alone = 1 then
            -- The others of the list are calls of their own.
            return next json_build_object('n', v_item.n, 'id', v_id, 'refused', v_why, 'is_alone', 1);
            continue;
          end if;
          if v_why is not null then
            raise exception using errcode = 'PQ001';
          end if;
          if v_item.conflict = 'replace' and v_live.state = 'ready' then
            update ${table("messages")} m
            set payload = v_item.payload, headers = v_item.headers, type = v_item.headers ->> 'type',
              priority = coalesce(v_item.priority, 0), due_at = v_due, expires_at = v_expires, retry = v_item.retry,
              max_attempts = v_max_attempts
            where m.id = v_id
            returning * into v_live;
            update ${table("keys")} k set hash = v_item.hash where k.queue_id = v_queue.id and k.key = v_item.key;
          end if;
          return next json_build_object(
            'n', v_item.n, 'id', v_id, 'at', trunc(extract(epoch from v_now) * 1000)::bigint,
            'state', coalesce(
              case when v_live.state = 'ready' and v_live.due_at > v_now then 'delayed' end, v_live.state,
              (select a.outcome from ${table("archive")} a where a.id = v_id), 'deleted'
            ),
            'priority', v_live.priority, 'attempts', v_live.attempts, 'max_attempts', v_live.max_attempts,
            'enqueued_at', trunc(extract(epoch from v_live.enqueued_at) * 1000)::bigint,
            'due_at', trunc(extract(epoch from v_live.due_at) * 1000)::bigint,
            'expires_at', trunc(extract(epoch from v_live.expires_at) * 1000)::bigint
          );
          continue;
        end if;
      end if;
      insert into ${table("messages")} (
        id, queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, key, type, headers,
        retry, payload
      )
      values (
        v_id, v_queue.id, 'ready', coalesce(v_item.priority, 0), v_due, v_now, v_max_attempts, v_queue.max_crashes,
        v_expires, v_item.key, v_item.headers ->> 'type', v_item.headers, v_item.retry, v_item.payload
      );
      return next json_build_object(
        'n', v_item.n, 'id', v_id, 'at', trunc(extract(epoch from v_now) * 1000)::bigint, 'is_new', 1,
        'max_attempts', v_max_attempts
      );
    end loop;
  exception when sqlstate 'PQ001' then
    -- Nothing of the list is stored, and the caller's transaction goes on.
    return next json_build_object('n', v_item.n, 'id', v_id, 'refused', v_why);
  end;
end
${bodyQuote}`;
}

function enqueueOne(): Fragment {
  return sql`create or replace function ${table("enqueue")}(
  queue text, payload json, options json default '{}'
) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as ${bodyQuote}
declare
  v_unknown text := (
    select string_agg(k, ', ') from json_object_keys(options) k
    where k not in ('delayMs', 'at', 'priority', 'key', 'headers', 'maxAttempts', 'backoff', 'ttlMs', 'notify')
  );
  v_at timestamptz := (options ->> 'at')::timestamptz;
  v_headers json := options -> 'headers';
  v_max_attempts integer := (options ->> 'maxAttempts')::int;
  v_ttl_ms bigint := (options ->> 'ttlMs')::bigint;
  v_backoff json := options -> 'backoff';
  v_wrong text := case
    when v_unknown is not null then 'unknown option ' || v_unknown
    when payload is null then 'the payload is missing'
    when v_at is not null and options ->> 'delayMs' is not null then 'delayMs and at exclude each other'
    when (options ->> 'delayMs')::bigint not between 0 and 3155760000000 then 'delayMs is out of range'
    when not isfinite(v_at) or v_at < '1970-01-01Z' or v_at >= '10000-01-01Z' then 'at is not between 1970 and 9999'
    when (options ->> 'priority')::int not between 0 and 9 then 'priority is not between 0 and 9'
    when v_max_attempts not between 1 and 10000 then 'maxAttempts is not between 1 and 10000'
    when octet_length(options ->> 'key') not between 1 and 255 then 'key does not have 1 to 255 bytes'
    when case json_typeof(v_headers)
      when 'object' then exists (select 1 from json_each(v_headers) h where json_typeof(h.value) <> 'string')
      else v_headers is not null
    end then 'headers is not an object of strings'
    when v_headers::text like '%"pgqrs-%' and exists (select 1 from json_object_keys(v_headers) h where h like 'pgqrs-%')
      then 'headers that begin with pgqrs- are the library''s own'
    when v_ttl_ms not between 1 and 3155760000000 then 'ttlMs is out of range'
    when case json_typeof(v_backoff)
      when 'object' then exists (
        select 1 from json_each(v_backoff) b
        where not coalesce(case b.key
          when 'kind' then b.value #>> '{}' in ('exponential', 'fixed')
          when 'jitter' then json_typeof(b.value) = 'number' and (b.value #>> '{}')::numeric between 0 and 1
          when 'baseMs' then json_typeof(b.value) = 'number' and b.value #>> '{}' ~ '^[0-9]{1,13}$'
            and (b.value #>> '{}')::bigint <= 3155760000000
          when 'maxMs' then json_typeof(b.value) = 'number' and b.value #>> '{}' ~ '^[0-9]{1,13}$'
            and (b.value #>> '{}')::bigint <= 3155760000000
          else false
        end, false)
      )
      else v_backoff is not null
    end then 'backoff is not an object of kind, baseMs, maxMs and jitter'
  end;
  v_answer json;
begin
  if v_wrong is not null then
    raise exception 'pgqrs_enqueue: %', v_wrong using errcode = '22023';
  end if;
  select a into v_answer
  from ${table("enqueue_many")}(
    queue,
    json_build_array(payload),
    json_build_array(json_build_object(
      'delay_ms', (options ->> 'delayMs')::bigint,
      'at_ms', trunc(extract(epoch from v_at) * 1000),
      'priority', (options ->> 'priority')::int,
      'ttl_ms', v_ttl_ms,
      'headers', v_headers,
      'retry', case when v_max_attempts is not null or v_backoff is not null
        then json_strip_nulls(json_build_object('maxAttempts', v_max_attempts, 'backoff', v_backoff)) end,
      'key', options ->> 'key',
      'hash', 'pg:' || encode(sha256(convert_to(payload::jsonb::text, 'UTF8')), 'hex'),
      'conflict', 'existing',
      'hold', 'default',
      'hold_ms', 86400000
    )),
    case when coalesce((options ->> 'notify')::boolean, true) then 'queue:' || queue end,
    null
  ) a;
  if v_answer is null then
    raise exception 'pgqrs_enqueue: queue "%" does not exist', queue using errcode = 'P0002';
  end if;
  if v_answer ->> 'refused' is not null then
    raise exception 'pgqrs_enqueue: key is in use for another payload' using errcode = '23505';
  end if;
  return coalesce(v_answer ->> 'id', v_answer -> 'ids' ->> 0)::bigint;
end
${bodyQuote}`;
}
