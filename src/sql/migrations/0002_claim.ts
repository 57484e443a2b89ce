/** The claim of migration 2. */
import { bodyQuote, type Fragment, sql, table } from "../sql.ts";
import { CARRIED, CARRIED_OF_GONE, PINNED, PROCESSING } from "./0002_pinned.ts";

/**
 * The claim.
 *
 * Rows that are gone but still seen by some old snapshot stay in the indexes, before those that are next: a claim that
 * begins at the beginning reads them all again (2,800 instead of 20,000 messages a second after some seconds). So a claim
 * that took long leaves a hint in its session: where each lane began, and up to when leases were looked at. For a quarter
 * of a second, or twenty times as long as that claim took, the next ones begin there. It does not matter whose session a
 * pooler makes it: with a hint that leads to fewer messages than were asked for, or without any, a claim is the same.
 */
export function claim(): Fragment {
  return sql`create or replace function ${table("claim")}(
  p_queue text, p_limit bigint, p_lease_ms bigint, p_default_lease_ms bigint, p_holder text, p_type text,
  p_max_attempts bigint, p_is_ahead boolean, p_now timestamptz
) returns setof ${table("messages")}
language plpgsql
${PINNED}
set datestyle = 'ISO, YMD'
as ${bodyQuote}
declare
  v_begin timestamptz := clock_timestamp();
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', v_begin));
  v_queue bigint;
  v_lease interval;
  v_max_attempts integer;
  v_concurrency integer;
  v_limit bigint := p_limit;
  v_free bigint;
  v_swept timestamptz;
  v_dropped bigint := 0;
  v_is_paused boolean;
  v_hint_name text;
  -- 1 to 10: where the lanes 0 to 9 begin. 11: up to when leases were looked at. 12: until when all this holds.
  v_hint timestamptz[];
  v_expired bigint[];
  v_ids bigint[] := '{}';
  v_late bigint[];
  v_message ${table("messages")}%rowtype;
  v_lanes timestamptz[];
  v_row record;
  v_is_read boolean;
  v_took interval;
begin
  select q.id, coalesce(p_lease_ms, q.lease_ms, p_default_lease_ms) * interval '1 millisecond', q.paused_at is not null,
    'pgqrs.claim_' || q.tableoid || '_' || q.id, coalesce(p_max_attempts, q.max_attempts), q.concurrency
  into v_queue, v_lease, v_is_paused, v_hint_name, v_max_attempts, v_concurrency
  from ${table("queues")} q
  where q.name = p_queue;
  -- The time of a test stands still or jumps, and means nothing to a hint.
  if v_queue is not null and p_now is null and p_type is null then
    v_hint := nullif(current_setting(v_hint_name, true), '');
    if v_hint[12] < v_now then
      v_hint := null;
    end if;
  end if;

  if v_queue is null then
    return;
  end if;
  v_swept := v_now;

  -- Whose lease has run out is taken back here, by whoever comes along: no routine has to be run for it.
  v_expired := array(
    select m.id from ${table("messages")} m
    where m.queue_id = v_queue and m.state = 'leased'
      and m.lease_until <= v_now and m.lease_until > coalesce(v_hint[11], '-infinity')
    order by m.lease_until
    limit 100
    for update skip locked
  );
  if cardinality(v_expired) > 0 then
    -- The last crash that is allowed ends a message only if it had certainly been begun.
    for v_message in
      with gone as (
        delete from ${table("messages")} m
        where m.id = any (v_expired) and m.crashes + 1 >= m.max_crashes and m.is_started
        returning m.*
      ), kept as (
        insert into ${table("archive")} (
          ${CARRIED}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error
        )
        select ${CARRIED_OF_GONE}, 'failed', 'crashes', v_now, left(g.holder, -9), ${PROCESSING}, g.attempts, g.crashes + 1,
          g.error
        from gone g
      )
      select * from gone
    loop
      v_message.state := 'failed';
      v_message.crashes := v_message.crashes + 1;
      return next v_message;
    end loop;
    update ${table("messages")} m
    set state = 'ready', due_at = m.lease_until, token = m.token + 1,
      -- In the second half of its crashes, too, one counts only if the message had certainly been begun.
      crashes = m.crashes + case
        when m.is_started or m.crashes * 2 < m.max_crashes and m.crashes + 1 < m.max_crashes then 1
        else 0
      end,
      holder = null, leased_at = null, lease_until = null
    where m.id = any (v_expired);
  end if;
  if v_is_paused then
    return;
  end if;
  if v_concurrency is not null then
    -- Counted from the leases, in a statement after the lock, so that nothing can leak and no two count the same places.
    perform pg_advisory_xact_lock(hashtextextended('pgqrs:concurrency:' || v_hint_name, 0));
    v_now := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
    -- A lease that has run out and was not taken back counts too: a late heartbeat may still renew it.
    v_free := v_concurrency - (
      select count(*) from (
        select 1 from ${table("messages")} m
        where m.queue_id = v_queue and m.state = 'leased' and m.lease_until > coalesce(v_hint[11], '-infinity')
        limit v_concurrency
      ) held
    );
    v_limit := least(p_limit, v_free);
  end if;

  -- Ten lanes, the highest priority first. Each is a range of one index, read lazily: a lane is opened only when those
  -- before it did not yield enough, and messages that are not yet due lie behind the end of its range.
  while v_limit > 0 loop
    select coalesce(array_agg(ready.id) filter (where not ready.is_late), '{}'),
      coalesce(array_agg(ready.id) filter (where ready.is_late), '{}')
    into v_ids, v_late
    from (
      select c.id, c.is_late
      from generate_series(9, 0, -1) as lane(priority)
      cross join lateral (
        select c.id, coalesce(c.expires_at <= v_now, false) as is_late from ${table("messages")} c
        where c.queue_id = v_queue and c.state = 'ready' and c.priority = lane.priority::smallint
          and c.due_at >= coalesce(v_hint[lane.priority + 1], '-infinity')
          and c.due_at <= v_now and (p_type is null or c.type = p_type)
        order by c.due_at, c.id
        limit v_limit
        for update skip locked
      ) c
      limit v_limit
    ) ready;
    if cardinality(v_late) > 0 then
      -- What was not begun in time is dropped, and its place is for the next.
      for v_message in
        with gone as (
          delete from ${table("messages")} m where m.id = any (v_late) returning m.*
        ), kept as (
          insert into ${table("archive")} (
            ${CARRIED}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error
          )
          select ${CARRIED_OF_GONE}, 'cancelled', 'expired', v_now, left(p_holder, -9), null, g.attempts, g.crashes, g.error
          from gone g
        )
        select * from gone
      loop
        v_message.state := 'cancelled';
        return next v_message;
      end loop;
      -- However many there are, a claim does not take long: whoever is told of some asks again.
      v_dropped := v_dropped + cardinality(v_late);
      continue when v_dropped < 100;
    end if;
    exit when v_hint is null or cardinality(v_ids) >= v_limit;
    v_hint := null;
  end loop;

  v_took := clock_timestamp() - v_begin;
  if p_now is null and p_type is null and cardinality(v_ids) > 0 and v_dropped < 100
    and v_took > interval '2 milliseconds' + cardinality(v_ids) * interval '20 microseconds'
  then
    v_lanes := array_fill(null::timestamptz, array[10]);
    for v_row in select m.priority + 1 as lane, m.due_at from ${table("messages")} m where m.id = any (v_ids) loop
      v_lanes[v_row.lane] := least(v_lanes[v_row.lane], v_row.due_at);
    end loop;
    -- A lane without a message was read to its end, if one below it was opened or there were not enough messages.
    v_is_read := cardinality(v_ids) < v_limit;
    for lane in 1..10 loop
      v_is_read := v_is_read or v_lanes[lane] is not null;
      if v_is_read then
        v_lanes[lane] := coalesce(v_lanes[lane], v_now);
      end if;
    end loop;
    if v_concurrency is not null then
      -- None of those that count may lie before it.
      v_swept := least(v_swept, (
        select m.lease_until - interval '1 microsecond' from ${table("messages")} m
        where m.queue_id = v_queue and m.state = 'leased'
        order by m.lease_until
        limit 1
      ));
    end if;
    perform set_config(v_hint_name, (
      v_lanes || case when cardinality(v_expired) < 100 then v_swept else v_hint[11] end
        || coalesce(v_hint[12], v_now + greatest(interval '250 milliseconds', v_took * 20))
    )::text, false);
  end if;

  if p_is_ahead and v_concurrency is not null then
    -- A worker of a queue with a limit does not claim ahead, and asks again when it has ended something.
    v_message := null;
    v_message.id := 0;
    v_message.state := 'limited';
    v_message.enqueued_at := v_now;
    v_message.due_at := v_now;
    v_message.attempts := case when v_free > cardinality(v_ids) then 0 else 1 end;
    return next v_message;
  end if;
  if p_is_ahead and cardinality(v_ids) < v_limit then
    -- A worker that has emptied the queue waits for the next message to be due, or for the next lease to run out.
    v_message := null;
    v_message.id := 0;
    v_message.state := 'next';
    v_message.enqueued_at := v_now;
    v_message.due_at := least(
      -- There may be more leases that have run out: the next claim, which takes them back, is to follow at once.
      case when cardinality(v_expired) >= 100 then v_now end,
      (
        select min(next.due_at)
        from generate_series(0, 9) as lane(priority)
        cross join lateral (
          select m.due_at from ${table("messages")} m
          where m.queue_id = v_queue and m.state = 'ready' and m.priority = lane.priority::smallint and m.due_at > v_now
          order by m.due_at, m.id
          limit 1
        ) next
      ),
      (
        select m.lease_until from ${table("messages")} m
        where m.queue_id = v_queue and m.state = 'leased' and m.lease_until > v_now
        order by m.lease_until
        limit 1
      )
    );
    return next v_message;
  end if;
  return query
  update ${table("messages")} m
  set state = 'leased', token = m.token + 1, holder = p_holder, leased_at = v_now, lease_until = v_now + v_lease,
    is_started = not p_is_ahead, waits = null, max_attempts = coalesce((m.retry ->> 'maxAttempts')::integer, v_max_attempts)
  where m.id = any (v_ids)
  returning m.*;
end
${bodyQuote}`;
}
