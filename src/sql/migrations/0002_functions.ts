/**
 * Migration 2: the hot operations as functions of Postgres.
 *
 * Two reasons, see docs/decisions/0003. A plan that was made while the table was small reads every row of it later, and
 * only settings can forbid that; a function carries its settings through any pooler. And under READ COMMITTED each statement
 * of a function sees what was committed while the one before it waited for a lock, so a decision is never made on an old
 * snapshot. SQLite has a single writer and needs neither.
 */
import { bodyQuote, type Fragment, raw, sql, table, tableLiteral } from "../sql.ts";

/** What every function is pinned to: the path over the index in its order, and one plan for all values. */
const PINNED = raw(`set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off`);

const NOW = raw("coalesce(p_now, date_trunc('milliseconds', clock_timestamp()))");

/** The columns that a message takes along when it ends. */
const CARRIED = raw(
  "id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload",
);
const CARRIED_OF_GONE = raw(
  "g.id, g.queue_id, g.priority, g.enqueued_at, g.token, g.max_attempts, g.max_crashes, g.key, g.type, g.headers, g.payload",
);
const PROCESSING = raw("(extract(epoch from v_now - g.leased_at) * 1000)::bigint");

/** The functions; `create or replace`, so that the migration can be repeated. */
export function postgresFunctions(): Fragment[] {
  return [claim(), ...settling(), enqueueMany(), enqueueOne()];
}

/**
 * The claim.
 *
 * Rows that are gone but still seen by some old snapshot stay in the indexes, before those that are next: a claim that
 * begins at the beginning reads them all again. So a claim that took long leaves a hint in its session: where each lane
 * began, and up to when leases were looked at. The next claims begin there, for a quarter of a second or twenty times as
 * long as it took. A hint is of no meaning for anything else, so it does not matter whose session a pooler makes it, and
 * when it leads to fewer messages than were asked for, the claim begins anew without it.
 */
function claim(): Fragment {
  return sql`create or replace function ${table("claim")}(
  p_queue text, p_limit bigint, p_lease_ms bigint, p_default_lease_ms bigint, p_holder text, p_type text,
  p_now timestamptz
) returns setof ${table("messages")}
language plpgsql
${PINNED}
as ${bodyQuote}
declare
  v_begin timestamptz := clock_timestamp();
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', v_begin));
  v_queue bigint;
  v_lease interval;
  v_is_paused boolean;
  v_hint_name text;
  -- 1 to 10: where the lanes 0 to 9 begin. 11: up to when leases were looked at. 12: until when all this holds.
  v_hint timestamptz[];
  v_expired bigint[];
  v_ids bigint[];
  v_lanes timestamptz[];
  v_is_read boolean;
  v_took interval;
begin
  select q.id, coalesce(p_lease_ms, q.lease_ms, p_default_lease_ms) * interval '1 millisecond', q.paused_at is not null,
    'pgqrs.claim_' || q.tableoid::text || '_' || q.id
  into v_queue, v_lease, v_is_paused, v_hint_name
  from ${table("queues")} q
  where q.name = p_queue;
  -- The time of a test stands still or jumps, and means nothing to a hint.
  if v_queue is not null and p_now is null and p_type is null then
    v_hint := nullif(current_setting(v_hint_name, true), '');
    if v_hint[12] < v_now then
      v_hint := null;
    end if;
  end if;

  -- Whose lease has run out is taken back here, by whoever comes along: no routine has to be run for it.
  v_expired := array(
    select m.id from ${table("messages")} m
    where m.state = 'leased' and m.lease_until <= v_now and m.lease_until > coalesce(v_hint[11], '-infinity')
    order by m.lease_until
    limit 100
    for update skip locked
  );
  if cardinality(v_expired) > 0 then
    with gone as (
      delete from ${table("messages")} m
      where m.id = any (v_expired) and m.crashes + 1 >= m.max_crashes
      returning m.*
    )
    insert into ${table("archive")} (
      ${CARRIED}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error
    )
    select ${CARRIED_OF_GONE}, 'failed', 'crashes', v_now, left(g.holder, -9), ${PROCESSING}, g.attempts, g.crashes + 1, g.error
    from gone g;
    update ${table("messages")} m
    set state = 'ready', due_at = m.lease_until, token = m.token + 1, crashes = m.crashes + 1,
      holder = null, leased_at = null, lease_until = null
    where m.id = any (v_expired);
  end if;
  if v_queue is null or v_is_paused then
    return;
  end if;

  -- Ten lanes, the highest priority first. Each is a range of one index, read lazily: a lane is opened only when those
  -- before it did not yield enough, and messages that are not yet due lie behind the end of its range.
  loop
    select coalesce(array_agg(r.id), '{}'), array[${firstOfLanes()}]
    into v_ids, v_lanes
    from (
      select ready.id, ready.due_at, lane.priority
      from generate_series(9, 0, -1) as lane(priority)
      cross join lateral (
        select c.id, c.due_at from ${table("messages")} c
        where c.queue_id = v_queue and c.state = 'ready' and c.priority = lane.priority::smallint
          and c.due_at >= coalesce(v_hint[lane.priority + 1], '-infinity')
          and c.due_at <= v_now and (p_type is null or c.type = p_type)
        order by c.due_at, c.id
        limit p_limit
        for update skip locked
      ) ready
      limit p_limit
    ) r;
    exit when v_hint is null or cardinality(v_ids) >= p_limit;
    v_hint := null;
  end loop;

  v_took := clock_timestamp() - v_begin;
  if p_now is null and p_type is null and cardinality(v_ids) > 0
    and v_took > interval '2 milliseconds' + cardinality(v_ids) * interval '20 microseconds'
  then
    -- A lane without a message was read to its end, if one below it was opened or there were not enough messages.
    v_is_read := cardinality(v_ids) < p_limit;
    for lane in 1..10 loop
      v_is_read := v_is_read or v_lanes[lane] is not null;
      if v_is_read then
        v_lanes[lane] := coalesce(v_lanes[lane], v_now);
      end if;
    end loop;
    perform set_config(v_hint_name, (
      v_lanes || case when cardinality(v_expired) < 100 then v_now else v_hint[11] end
        || coalesce(v_hint[12], v_now + greatest(interval '250 milliseconds', v_took * 20))
    )::text, false);
  end if;

  return query
  update ${table("messages")} m
  set state = 'leased', token = m.token + 1, holder = p_holder, leased_at = v_now, lease_until = v_now + v_lease
  where m.id = any (v_ids)
  returning m.*;
end
${bodyQuote}`;
}

/** When the first of the claimed messages of each lane was due. */
function firstOfLanes(): Fragment {
  const lanes = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  return raw(lanes.map((lane) => `min(r.due_at) filter (where r.priority = ${lane})`).join(", "));
}

/**
 * The row of an item, if the lease is the caller's: by the token of the delivery, or (by id alone) by the caller as the
 * holder of the current one. Only a leased row has a holder; a condition on the state would offer the planner the index of
 * all leases, and an equality of the ids would offer it the whole of the primary key: both read every row when the plan was
 * made on a small table. In this form a row can be reached by its id alone.
 */
const FENCE = raw("m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token)");

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
  update ${table("messages")} m
  set state = 'ready', due_at = v_now + i.delay_ms * interval '1 millisecond', token = m.token + 1,
    holder = null, leased_at = null, lease_until = null
  from json_to_recordset(p_items) as i(id bigint, token bigint, delay_ms bigint)
  where ${FENCE}
  returning m.id;
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
  update ${table("messages")} m
  set state = 'ready', due_at = v_now + i.delay_ms * interval '1 millisecond', token = m.token + 1,
    attempts = m.attempts + 1, error = i.error, holder = null, leased_at = null, lease_until = null
  from json_to_recordset(p_items) as i(id bigint, token bigint, error json, delay_ms bigint, is_final integer)
  where ${FENCE} and m.attempts + 1 < m.max_attempts and i.is_final = 0
  returning m.id;
end
${bodyQuote}`,
  ];
}

function enqueueMany(): Fragment {
  return sql`create or replace function ${table("enqueue_many")}(
  p_queue text, p_payloads json, p_options json, p_now timestamptz
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
  v_why text;
begin
  -- Shared among those who enqueue, against whoever deletes the queue: a message cannot slip into one that is going away.
  perform pg_advisory_xact_lock_shared(hashtextextended('pgqrs:queue:' || p_queue, 0));
  select * into v_queue from ${table("queues")} q where q.name = p_queue;
  if not found then
    return;
  end if;

  -- One set of options for all: the plain and fast case.
  if json_typeof(p_options) = 'object' then
    return query
    with stored as (
      insert into ${table("messages")} (
        queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, type, headers, payload
      )
      select v_queue.id, 'ready', coalesce(o.priority, 0),
        coalesce(to_timestamp(o.at_ms / 1000.0), v_now + coalesce(o.delay_ms, 0) * interval '1 millisecond'), v_now,
        coalesce(o.max_attempts, v_queue.max_attempts), v_queue.max_crashes, o.headers ->> 'type', o.headers, item.value
      from json_to_record(p_options) as o(delay_ms bigint, at_ms numeric, priority int, max_attempts int, headers json)
      cross join json_array_elements(p_payloads) item
      returning id, max_attempts
    )
    select json_build_object(
      'at', trunc(extract(epoch from v_now) * 1000)::bigint, 'ids', coalesce(json_agg(id), '[]'),
      'max_attempts', min(max_attempts)
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
        delay_ms bigint, at_ms numeric, priority int, max_attempts int, headers json,
        key text, hash text, conflict text, hold text, hold_ms bigint
      )
      order by o.key, t.n
    loop
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
          if v_why is not null then
            raise exception using errcode = 'PQ001';
          end if;
          if v_item.conflict = 'replace' and v_live.state = 'ready' then
            update ${table("messages")} m
            set payload = v_item.payload, headers = v_item.headers, type = v_item.headers ->> 'type',
              priority = coalesce(v_item.priority, 0),
              due_at = coalesce(to_timestamp(v_item.at_ms / 1000.0),
                v_now + coalesce(v_item.delay_ms, 0) * interval '1 millisecond'),
              max_attempts = coalesce(v_item.max_attempts, v_queue.max_attempts)
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
            'due_at', trunc(extract(epoch from v_live.due_at) * 1000)::bigint
          );
          continue;
        end if;
      end if;
      insert into ${table("messages")} (
        id, queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, key, type, headers, payload
      )
      values (
        v_id, v_queue.id, 'ready', coalesce(v_item.priority, 0),
        coalesce(to_timestamp(v_item.at_ms / 1000.0),
          v_now + coalesce(v_item.delay_ms, 0) * interval '1 millisecond'),
        v_now, coalesce(v_item.max_attempts, v_queue.max_attempts), v_queue.max_crashes,
        v_item.key, v_item.headers ->> 'type', v_item.headers, v_item.payload
      );
      return next json_build_object(
        'n', v_item.n, 'id', v_id, 'at', trunc(extract(epoch from v_now) * 1000)::bigint, 'is_new', 1,
        'max_attempts', coalesce(v_item.max_attempts, v_queue.max_attempts)
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
as ${bodyQuote}
declare
  v_unknown text := (
    select string_agg(k, ', ') from json_object_keys(options) k
    where k not in ('delayMs', 'at', 'priority', 'key', 'headers', 'maxAttempts')
  );
  v_answer json;
begin
  if v_unknown is not null then
    raise exception 'pgqrs_enqueue: unknown option %', v_unknown using errcode = '22023';
  end if;
  select a into v_answer
  from ${table("enqueue_many")}(
    queue,
    json_build_array(payload),
    json_build_array(json_build_object(
      'delay_ms', (options ->> 'delayMs')::bigint,
      'at_ms', extract(epoch from (options ->> 'at')::timestamptz) * 1000,
      'priority', (options ->> 'priority')::int,
      'max_attempts', (options ->> 'maxAttempts')::int,
      'headers', options -> 'headers',
      'key', options ->> 'key',
      'hash', 'pg:' || encode(sha256(convert_to(payload::jsonb::text, 'UTF8')), 'hex'),
      'conflict', 'existing',
      'hold', 'default',
      'hold_ms', 86400000
    )),
    null
  ) a;
  if v_answer is null then
    raise exception 'pgqrs_enqueue: queue "%" does not exist', queue using errcode = 'P0002';
  end if;
  if v_answer ->> 'refused' is not null then
    raise exception 'pgqrs_enqueue: key is in use for another payload' using errcode = '23505';
  end if;
  return (v_answer ->> 'id')::bigint;
end
${bodyQuote}`;
}
