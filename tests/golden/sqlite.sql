-- archiveLeased 1
/* pgqrs:archiveLeased */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error, result)
select m.id, m.queue_id, m.priority, m.enqueued_at, m.token, m.max_attempts, m.max_crashes, m.expires_at, m.key, m.type, m.headers, m.retry, m.payload, 'succeeded', i.value ->> 'reason', cast(round(unixepoch('subsec') * 1000) as integer), ?1, cast(round(unixepoch('subsec') * 1000) as integer) - m.leased_at,
  m.attempts, m.crashes, m.error, i.value ->> 'result'
from json_each(?2) i join "pgqrs_messages" m on m.id = i.value ->> 'id'
where m.state = 'leased' and m.holder = ?3 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "it's \"$1\" ?1", "[{\"id\":7,\"token\":3,\"reason\":\"it's \\\"$1\\\" ?1\",\"result\":\"[1]\"}]", "it's \"$1\" ?1"

-- archiveLeased 2
/* pgqrs:archiveLeased */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error, result)
select m.id, m.queue_id, m.priority, m.enqueued_at, m.token, m.max_attempts, m.max_crashes, m.expires_at, m.key, m.type, m.headers, m.retry, m.payload, 'succeeded', i.value ->> 'reason', cast(round(unixepoch('subsec') * 1000) as integer), ?1, cast(round(unixepoch('subsec') * 1000) as integer) - m.leased_at,
  m.attempts, m.crashes, m.error, i.value ->> 'result'
from json_each(?2) i join "pgqrs_messages" m on m.id = i.value ->> 'id'
where m.state = 'leased' and m.holder = ?3 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "it's \"$1\" ?1", "[{\"id\":7,\"token\":3,\"reason\":\"it's \\\"$1\\\" ?1\",\"result\":\"[1]\"}]", "it's \"$1\" ?1"

-- beat 1
/* pgqrs:beat */ update "pgqrs_messages" as m
set lease_until = max(m.lease_until, cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'lease_ms'))
from json_each(?1) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = i.value ->> 'token';
-- values: "[{\"id\":7,\"token\":3,\"lease_ms\":5}]", "it's \"$1\" ?1"
/* pgqrs:beat */ select i.value ->> 'id', case when m.id is null and a.outcome = 'cancelled' then 'cancelled' else 'lost' end
from json_each(?1) i
left join "pgqrs_messages" m on m.id = i.value ->> 'id'
left join "pgqrs_archive" a on a.id = i.value ->> 'id'
where m.id is null or m.token <> i.value ->> 'token' or m.holder is not ?2
union all select 0, 'paused' from "pgqrs_workers" where holder = ?3 and paused_at is not null;
-- values: "[{\"id\":7,\"token\":3,\"lease_ms\":5}]", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- claimMessages 1
/* pgqrs:claimMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, 'failed', 'crashes', cast(round(unixepoch('subsec') * 1000) as integer), substr(holder, 1, length(holder) - 9), cast(round(unixepoch('subsec') * 1000) as integer) - leased_at, attempts, crashes + 1, error
from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and crashes + 1 >= max_crashes and is_started = 1
order by lease_until limit 100
returning id, ?2, outcome, priority, enqueued_at, enqueued_at, token, null, null, attempts, crashes, max_attempts,
  key, cast(headers as text), cast(payload as text), cast(error as text), max_crashes,
  cast(retry as text), null, expires_at;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'ready', due_at = lease_until, token = token + 1,
  crashes = crashes + (is_started = 1 or crashes * 2 < max_crashes and crashes + 1 < max_crashes),
  holder = null, leased_at = null, lease_until = null
where id in (
  select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and (crashes + 1 < max_crashes or is_started = 0)
  order by lease_until limit 100
);
-- values: "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, 'cancelled', 'expired', cast(round(unixepoch('subsec') * 1000) as integer), ?1, null, attempts, crashes, error
from "pgqrs_messages"
where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2 and q.paused_at is null)
  and state = 'ready' and expires_at is not null and expires_at <= cast(round(unixepoch('subsec') * 1000) as integer)
order by expires_at limit ?3
returning id, ?4, outcome, priority, enqueued_at, enqueued_at, token, null, null, attempts, crashes, max_attempts,
  key, cast(headers as text), cast(payload as text), cast(error as text), max_crashes,
  cast(retry as text), null, expires_at;
-- values: "it'", "queue it's \"$1\" ?1", 110, "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'leased', token = token + 1, holder = ?1, leased_at = cast(round(unixepoch('subsec') * 1000) as integer),
  lease_until = cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(?2, (select q.lease_ms from "pgqrs_queues" q where q.id = queue_id), ?3),
  is_started = ?4, waits = null,
  max_attempts = coalesce(retry ->> 'maxAttempts', ?5, (select q.max_attempts from "pgqrs_queues" q where q.id = queue_id))
where id in (
  select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?6 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 9 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?7
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?8 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 8 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?9
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?10 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 7 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?11
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?12 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 6 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?13
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?14 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 5 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?15
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?16 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 4 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?17
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?18 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 3 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?19
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?20 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 2 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?21
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?22 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 1 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?23
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?24 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 0 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?25
  )
  limit coalesce((
    select max(0, min(?26, coalesce(q.concurrency - (select count(*) from "pgqrs_messages" h where h.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?27) and h.state = 'leased'), ?28)))
    from "pgqrs_queues" q where q.name = ?29
  ), 0)
) and coalesce(expires_at > cast(round(unixepoch('subsec') * 1000) as integer), 1)
returning id, ?30,
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at;
-- values: "it's \"$1\" ?1", null, 5000, 1, null, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"

-- claimMessages 2
/* pgqrs:claimMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, 'failed', 'crashes', cast(round(unixepoch('subsec') * 1000) as integer), substr(holder, 1, length(holder) - 9), cast(round(unixepoch('subsec') * 1000) as integer) - leased_at, attempts, crashes + 1, error
from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and crashes + 1 >= max_crashes and is_started = 1
order by lease_until limit 100
returning id, ?2, outcome, priority, enqueued_at, enqueued_at, token, null, null, attempts, crashes, max_attempts,
  key, cast(headers as text), cast(payload as text), cast(error as text), max_crashes,
  cast(retry as text), null, expires_at;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'ready', due_at = lease_until, token = token + 1,
  crashes = crashes + (is_started = 1 or crashes * 2 < max_crashes and crashes + 1 < max_crashes),
  holder = null, leased_at = null, lease_until = null
where id in (
  select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and (crashes + 1 < max_crashes or is_started = 0)
  order by lease_until limit 100
);
-- values: "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, 'cancelled', 'expired', cast(round(unixepoch('subsec') * 1000) as integer), ?1, null, attempts, crashes, error
from "pgqrs_messages"
where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2 and q.paused_at is null)
  and state = 'ready' and expires_at is not null and expires_at <= cast(round(unixepoch('subsec') * 1000) as integer)
order by expires_at limit ?3
returning id, ?4, outcome, priority, enqueued_at, enqueued_at, token, null, null, attempts, crashes, max_attempts,
  key, cast(headers as text), cast(payload as text), cast(error as text), max_crashes,
  cast(retry as text), null, expires_at;
-- values: "it'", "queue it's \"$1\" ?1", 110, "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'leased', token = token + 1, holder = ?1, leased_at = cast(round(unixepoch('subsec') * 1000) as integer),
  lease_until = cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(?2, (select q.lease_ms from "pgqrs_queues" q where q.id = queue_id), ?3),
  is_started = ?4, waits = null,
  max_attempts = coalesce(retry ->> 'maxAttempts', ?5, (select q.max_attempts from "pgqrs_queues" q where q.id = queue_id))
where id in (
  select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?6 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 9 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?7
    order by c.due_at, c.id limit ?8
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?9 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 8 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?10
    order by c.due_at, c.id limit ?11
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?12 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 7 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?13
    order by c.due_at, c.id limit ?14
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?15 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 6 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?16
    order by c.due_at, c.id limit ?17
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?18 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 5 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?19
    order by c.due_at, c.id limit ?20
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?21 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 4 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?22
    order by c.due_at, c.id limit ?23
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?24 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 3 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?25
    order by c.due_at, c.id limit ?26
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?27 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 2 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?28
    order by c.due_at, c.id limit ?29
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?30 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 1 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?31
    order by c.due_at, c.id limit ?32
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?33 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 0 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?34
    order by c.due_at, c.id limit ?35
  )
  limit coalesce((
    select max(0, min(?36, coalesce(q.concurrency - (select count(*) from "pgqrs_messages" h where h.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?37) and h.state = 'leased'), ?38)))
    from "pgqrs_queues" q where q.name = ?39
  ), 0)
) and coalesce(expires_at > cast(round(unixepoch('subsec') * 1000) as integer), 1)
returning id, ?40,
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at;
-- values: "it's \"$1\" ?1", 1000, 5000, 1, null, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"

-- claimMessages 3
/* pgqrs:claimMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, 'failed', 'crashes', cast(round(unixepoch('subsec') * 1000) as integer), substr(holder, 1, length(holder) - 9), cast(round(unixepoch('subsec') * 1000) as integer) - leased_at, attempts, crashes + 1, error
from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and crashes + 1 >= max_crashes and is_started = 1
order by lease_until limit 100
returning id, ?2, outcome, priority, enqueued_at, enqueued_at, token, null, null, attempts, crashes, max_attempts,
  key, cast(headers as text), cast(payload as text), cast(error as text), max_crashes,
  cast(retry as text), null, expires_at;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'ready', due_at = lease_until, token = token + 1,
  crashes = crashes + (is_started = 1 or crashes * 2 < max_crashes and crashes + 1 < max_crashes),
  holder = null, leased_at = null, lease_until = null
where id in (
  select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and (crashes + 1 < max_crashes or is_started = 0)
  order by lease_until limit 100
);
-- values: "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, 'cancelled', 'expired', cast(round(unixepoch('subsec') * 1000) as integer), ?1, null, attempts, crashes, error
from "pgqrs_messages"
where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2 and q.paused_at is null)
  and state = 'ready' and expires_at is not null and expires_at <= cast(round(unixepoch('subsec') * 1000) as integer)
order by expires_at limit ?3
returning id, ?4, outcome, priority, enqueued_at, enqueued_at, token, null, null, attempts, crashes, max_attempts,
  key, cast(headers as text), cast(payload as text), cast(error as text), max_crashes,
  cast(retry as text), null, expires_at;
-- values: "it'", "queue it's \"$1\" ?1", 110, "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'leased', token = token + 1, holder = ?1, leased_at = cast(round(unixepoch('subsec') * 1000) as integer),
  lease_until = cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(?2, (select q.lease_ms from "pgqrs_queues" q where q.id = queue_id), ?3),
  is_started = ?4, waits = null,
  max_attempts = coalesce(retry ->> 'maxAttempts', ?5, (select q.max_attempts from "pgqrs_queues" q where q.id = queue_id))
where id in (
  select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?6 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 9 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?7
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?8 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 8 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?9
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?10 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 7 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?11
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?12 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 6 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?13
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?14 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 5 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?15
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?16 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 4 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?17
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?18 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 3 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?19
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?20 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 2 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?21
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?22 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 1 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?23
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?24 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 0 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?25
  )
  limit coalesce((
    select max(0, min(?26, coalesce(q.concurrency - (select count(*) from "pgqrs_messages" h where h.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?27) and h.state = 'leased'), ?28)))
    from "pgqrs_queues" q where q.name = ?29
  ), 0)
) and coalesce(expires_at > cast(round(unixepoch('subsec') * 1000) as integer), 1)
returning id, ?30,
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at;
-- values: "it's \"$1\" ?1", null, 5000, 0, 3, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ select 0, '', 'limited', 0, cast(round(unixepoch('subsec') * 1000) as integer), cast(round(unixepoch('subsec') * 1000) as integer), 0, null, null, q.concurrency <= (select count(*) from "pgqrs_messages" h where h.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and h.state = 'leased'), 0, 0, null, null,
  null, null, 0, null, null, null
from "pgqrs_queues" q where q.name = ?2 and q.concurrency is not null;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:claimMessages */ with open(id) as (
  select q.id from "pgqrs_queues" q where q.name = ?1 and q.paused_at is null
      and coalesce(q.concurrency > (select count(*) from "pgqrs_messages" h where h.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and h.state = 'leased'), 1)
)
select 0, '', 'next', 0, min(at), cast(round(unixepoch('subsec') * 1000) as integer), 0, null, null, 0, 0, 0, null, null, null, null, 0, null, null, null
from (
  select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 9
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 8
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 7
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 6
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 5
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 4
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 3
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 2
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 1
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 0
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.lease_until from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?3) and c.state = 'leased'
    order by c.lease_until limit 1
  )
);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"

-- countArchived 1
/* pgqrs:countArchived */ select count(*) from "pgqrs_archive" where true;

-- countArchived 2
/* pgqrs:countArchived */ select count(*) from "pgqrs_archive" where outcome = 'failed' and queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and reason = ?2 and type = ?3 and key = ?4 and archived_by = ?5 and archived_at < ?6 and archived_at >= ?7 and archived_at < (select case
    when q.retention_ms < q.dead_retention_ms or q.dead_retention_ms is null then cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms
    else cast(round(unixepoch('subsec') * 1000) as integer) - q.dead_retention_ms
  end from "pgqrs_queues" q where q.name = ?8) and archived_at < (
  select case when outcome = 'failed' then cast(round(unixepoch('subsec') * 1000) as integer) - q.dead_retention_ms else cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms end
  from "pgqrs_queues" q where q.id = queue_id
);
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", 1900000000000, 1800000000123, "queue it's \"$1\" ?1"

-- countRuns 1
/* pgqrs:countRuns */ select q.name, case when q.paused_at is null then 0 else 1 end, count(m.id) filter (where m.state = 'ready' and m.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)),
  count(m.id) filter (where m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer) and m.waits is null),
  count(m.id) filter (where m.state = 'leased'),
  count(m.id) filter (where m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer) and m.waits is not null),
  count(m.id) filter (where m.state = 'paused'),
  count(m.id) filter (where m.state = 'blocked'),
  (select count(*) from "pgqrs_archive" a where a.queue_id = q.id and a.outcome = ?1), (select count(*) from "pgqrs_archive" a where a.queue_id = q.id and a.outcome = ?2), (select count(*) from "pgqrs_archive" a where a.queue_id = q.id and a.outcome = ?3)
from "pgqrs_queues" q left join "pgqrs_messages" m on m.queue_id = q.id
where q.is_workflow
group by q.id, q.name, q.paused_at
order by q.name;
-- values: "succeeded", "failed", "cancelled"

-- countMessages 1
/* pgqrs:countMessages */ select count(*) from "pgqrs_messages" where id > ?1;
-- values: 0

-- countMessages 2
/* pgqrs:countMessages */ select count(*) from "pgqrs_messages" where id > ?1 and state = 'ready' and due_at <= cast(round(unixepoch('subsec') * 1000) as integer);
-- values: 0

-- countMessages 3
/* pgqrs:countMessages */ select count(*) from "pgqrs_messages" where id > ?1 and state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer);
-- values: 0

-- createMigrationsTable 1
/* pgqrs:createMigrationsTable */ create table if not exists "pgqrs_migrations" (
  version integer primary key,
  name text not null,
  applied_at integer not null,
  objects text not null
);

-- createQueue 1
/* pgqrs:createQueue */ insert into "pgqrs_queues" (
  name, created_at, updated_at, paused_at, lease_ms, max_attempts, max_crashes, backoff, retention_ms,
  dead_retention_ms, concurrency, is_workflow
)
select ?1, cast(round(unixepoch('subsec') * 1000) as integer), cast(round(unixepoch('subsec') * 1000) as integer), null, ?2, ?3,
  ?4, ?5, ?6, ?7, ?8, false
where true
on conflict (name) do nothing
returning id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow;
-- values: "queue it's \"$1\" ?1", null, 5, 10, "{\"note\":\"x\"}", 1000, null, 3

-- createQueue 2
/* pgqrs:createQueue */ insert into "pgqrs_queues" (
  name, created_at, updated_at, paused_at, lease_ms, max_attempts, max_crashes, backoff, retention_ms,
  dead_retention_ms, concurrency, is_workflow
)
select ?1, cast(round(unixepoch('subsec') * 1000) as integer), cast(round(unixepoch('subsec') * 1000) as integer), cast(round(unixepoch('subsec') * 1000) as integer), ?2, ?3,
  ?4, ?5, ?6, ?7, ?8, true
where true
on conflict (name) do nothing
returning id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow;
-- values: "queue it's \"$1\" ?1", null, 5, 10, "{\"note\":\"x\"}", 1000, null, 3

-- createSchema 1
/* pgqrs:createSchema */ create schema if not exists "pgqrs";

-- deleteLeased 1
/* pgqrs:deleteLeased */ delete from "pgqrs_messages" where id in (
  select m.id from json_each(?1) i join "pgqrs_messages" m on m.id = i.value ->> 'id'
  where m.state = 'leased' and m.holder = ?2 and m.token = coalesce(i.value ->> 'token', m.token)
)
returning id;
-- values: "[{\"id\":5,\"token\":null},{\"id\":7,\"token\":3}]", "it's \"$1\" ?1"

-- deleteMessages 1
/* pgqrs:deleteMessages */ delete from "pgqrs_steps" where run_id in (select id from "pgqrs_messages" where id in (select value from json_each(?1)));
-- values: "[1,2]"
/* pgqrs:deleteMessages */ delete from "pgqrs_mailbox" where run_id in (select id from "pgqrs_messages" where id in (select value from json_each(?1)));
-- values: "[1,2]"
/* pgqrs:deleteMessages */ delete from "pgqrs_messages" where id in (select value from json_each(?1)) returning id;
-- values: "[1,2]"

-- deleteQueue 1
/* pgqrs:deleteQueue */ delete from "pgqrs_keys" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and not exists (select 1 from "pgqrs_messages" m where m.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2));
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_archive" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and not exists (select 1 from "pgqrs_messages" m where m.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2));
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_queues" where name = ?1 and not exists (select 1 from "pgqrs_messages" m where m.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2))
returning id;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"

-- deleteQueue 2
/* pgqrs:deleteQueue */ delete from "pgqrs_steps" where run_id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1));
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_mailbox" where run_id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1));
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1);
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_keys" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and true;
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_archive" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and true;
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_queues" where name = ?1 and true
returning id;
-- values: "queue it's \"$1\" ?1"

-- dropObject 1
/* pgqrs:dropObject */ drop table if exists "pgqrs_keys";

-- dropObject 2
/* pgqrs:dropObject */ drop view if exists "pgqrs_runs";

-- dropObject 3
/* pgqrs:dropObject */ drop trigger if exists pgqrs_archive_tells;

-- dropObject 4
/* pgqrs:dropObject */ drop function if exists "pgqrs_claim"(p_queue text);

-- endMessages 1
/* pgqrs:endMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, ?1, ?2, cast(round(unixepoch('subsec') * 1000) as integer), ?3, cast(round(unixepoch('subsec') * 1000) as integer) - leased_at, attempts, crashes, error
from "pgqrs_messages" where id in (
  with recursive family(id) as (
    select value from json_each(?4)
    union
    select s.child_id from family f join "pgqrs_steps" s on s.run_id = f.id
    where s.kind = 'call' and s.state = 'waiting' and s.child_id is not null
  )
  select id from family
)
returning id;
-- values: "cancelled", "it's \"$1\" ?1", "it's \"$1\" ?1", "[1,2]"

-- enqueueMessages 1
/* pgqrs:enqueueMessages */ insert into "pgqrs_messages" (
  queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, type, headers, retry, payload
)
select q.id, 'ready', ?1, coalesce(?2, cast(round(unixepoch('subsec') * 1000) as integer) + ?3), cast(round(unixepoch('subsec') * 1000) as integer), coalesce(?4 ->> 'maxAttempts', q.max_attempts),
  q.max_crashes, coalesce(?5, cast(round(unixepoch('subsec') * 1000) as integer) + ?6) + ?7, ?8 ->> 'type', ?9, ?10, i.value
from json_each(?11) i join "pgqrs_queues" q on q.name = ?12
order by i.key;
-- values: 9, null, 5, "{\"maxAttempts\":2}", null, 5, 7, "{\"type\":\"mail\"}", "{\"type\":\"mail\"}", "{\"maxAttempts\":2}", "[\"1\",\"\\\"two\\\"\"]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ select json_object('at', enqueued_at, 'last', id, 'max_attempts', max_attempts) from "pgqrs_messages"
where id = last_insert_rowid() and exists (select 1 from "pgqrs_queues" q where q.name = ?1);
-- values: "queue it's \"$1\" ?1"

-- enqueueMessages 2
/* pgqrs:enqueueMessages */ insert into "pgqrs_messages" (
  queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, type, headers, retry, payload
)
select q.id, 'ready', ?1, coalesce(?2, cast(round(unixepoch('subsec') * 1000) as integer) + ?3), cast(round(unixepoch('subsec') * 1000) as integer), coalesce(?4 ->> 'maxAttempts', q.max_attempts),
  q.max_crashes, coalesce(?5, cast(round(unixepoch('subsec') * 1000) as integer) + ?6) + ?7, ?8 ->> 'type', ?9, ?10, i.value
from json_each(?11) i join "pgqrs_queues" q on q.name = ?12
order by i.key;
-- values: 0, 1900000000000, 0, null, 1900000000000, 0, null, null, null, null, "[\"1\"]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ select json_object('at', enqueued_at, 'last', id, 'max_attempts', max_attempts) from "pgqrs_messages"
where id = last_insert_rowid() and exists (select 1 from "pgqrs_queues" q where q.name = ?1);
-- values: "queue it's \"$1\" ?1"

-- enqueueMessages 3
/* pgqrs:enqueueMessages */ delete from "pgqrs_keys"
where (queue_id, key) in (select q.id, i.value ->> 'key' from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2)
  and not case hold
    when 'started' then exists (select 1 from "pgqrs_messages" m where m.id = message_id and m.token = 0)
    when 'finished' then exists (select 1 from "pgqrs_messages" m where m.id = message_id)
    when 'time' then expires_at > cast(round(unixepoch('subsec') * 1000) as integer)
    else expires_at > cast(round(unixepoch('subsec') * 1000) as integer) or exists (select 1 from "pgqrs_messages" m where m.id = message_id)
  end;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"retry\":\"{\\\"maxAttempts\\\":2}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ insert into "pgqrs_keys" (queue_id, key, message_id, hash, hold, expires_at)
select q.id, i.value ->> 'key', (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?1, i.value ->> 'hash', i.value ->> 'hold', cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'hold_ms')
from json_each(?2) i cross join "pgqrs_queues" q on q.name = ?3
where i.value ->> 'key' is not null
on conflict do nothing;
-- values: 0, "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"retry\":\"{\\\"maxAttempts\\\":2}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ insert into "pgqrs_keys" (queue_id, key, message_id, hash, hold)
select q.id, i.value ->> 'key', null, '', 'default'
from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
where k.message_id <> (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?3 and case i.value ->> 'conflict'
    when 'reject' then 1
    when 'replace' then k.hash <> i.value ->> 'hash'
      and not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
    else k.hash <> i.value ->> 'hash'
  end;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"retry\":\"{\\\"maxAttempts\\\":2}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1", 0
/* pgqrs:enqueueMessages */ insert into "pgqrs_messages" (
  id, queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, key, type, headers, retry,
  payload
)
select (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?1, q.id, 'ready', coalesce(i.value ->> 'priority', 0), coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)), cast(round(unixepoch('subsec') * 1000) as integer),
  coalesce((i.value ->> 'retry') ->> 'maxAttempts', q.max_attempts), q.max_crashes, coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)) + (i.value ->> 'ttl_ms'),
  i.value ->> 'key', (i.value ->> 'headers') ->> 'type', i.value ->> 'headers', i.value ->> 'retry',
  i.value ->> 'payload'
from json_each(?2) i cross join "pgqrs_queues" q on q.name = ?3
where i.value ->> 'key' is null
  or exists (select 1 from "pgqrs_keys" k where k.queue_id = q.id and k.key = i.value ->> 'key' and k.message_id = (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?4)
order by i.key
returning json_object(
  'id', id, 'at', enqueued_at, 'max_attempts', max_attempts, 'n', case when key is not null then 0 end
);
-- values: 0, "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"retry\":\"{\\\"maxAttempts\\\":2}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1", 0
/* pgqrs:enqueueMessages */ with i as materialized (
  select i.value, q.id as queue_id, q.max_attempts, k.key, k.message_id
  from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
  where i.value ->> 'conflict' = 'replace'
    and exists (select 1 from "pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
)
update "pgqrs_messages" as m
set payload = i.value ->> 'payload', headers = i.value ->> 'headers', type = (i.value ->> 'headers') ->> 'type',
  priority = coalesce(i.value ->> 'priority', 0), due_at = coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)), expires_at = coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)) + (i.value ->> 'ttl_ms'),
  retry = i.value ->> 'retry', max_attempts = coalesce((i.value ->> 'retry') ->> 'maxAttempts', i.max_attempts)
from i
where m.id = i.message_id;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"retry\":\"{\\\"maxAttempts\\\":2}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ with i as materialized (
  select i.value, q.id as queue_id, q.max_attempts, k.key, k.message_id
  from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
  where i.value ->> 'conflict' = 'replace'
    and exists (select 1 from "pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
)
update "pgqrs_keys" as k
set hash = i.value ->> 'hash'
from i
where k.queue_id = i.queue_id and k.key = i.key;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"retry\":\"{\\\"maxAttempts\\\":2}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ select json_object(
  'n', i.value ->> 'n', 'id', k.message_id, 'at', cast(round(unixepoch('subsec') * 1000) as integer),
  'state', coalesce(case when m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' end, m.state, a.outcome, 'deleted'),
  'priority', m.priority, 'attempts', m.attempts, 'max_attempts', m.max_attempts,
  'enqueued_at', m.enqueued_at, 'due_at', m.due_at, 'expires_at', m.expires_at
)
from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
left join "pgqrs_messages" m on m.id = k.message_id
left join "pgqrs_archive" a on a.id = k.message_id;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"retry\":\"{\\\"maxAttempts\\\":2}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"

-- enqueueMessages 4
/* pgqrs:enqueueMessages */ insert into "pgqrs_messages" (
  id, queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, key, type, headers, retry,
  payload
)
select (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?1, q.id, 'ready', coalesce(i.value ->> 'priority', 0), coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)), cast(round(unixepoch('subsec') * 1000) as integer),
  coalesce((i.value ->> 'retry') ->> 'maxAttempts', q.max_attempts), q.max_crashes, coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)) + (i.value ->> 'ttl_ms'),
  i.value ->> 'key', (i.value ->> 'headers') ->> 'type', i.value ->> 'headers', i.value ->> 'retry',
  i.value ->> 'payload'
from json_each(?2) i cross join "pgqrs_queues" q on q.name = ?3
order by i.key
returning json_object(
  'id', id, 'at', enqueued_at, 'max_attempts', max_attempts, 'n', case when key is not null then 0 end
);
-- values: 0, "[{\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"retry\":\"{\\\"maxAttempts\\\":2}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"

-- enqueueMessages 5
/* pgqrs:enqueueMessages */ delete from "pgqrs_keys"
where (queue_id, key) in (select q.id, i.value ->> 'key' from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2)
  and not case hold
    when 'started' then exists (select 1 from "pgqrs_messages" m where m.id = message_id and m.token = 0)
    when 'finished' then exists (select 1 from "pgqrs_messages" m where m.id = message_id)
    when 'time' then expires_at > cast(round(unixepoch('subsec') * 1000) as integer)
    else expires_at > cast(round(unixepoch('subsec') * 1000) as integer) or exists (select 1 from "pgqrs_messages" m where m.id = message_id)
  end;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"is_alone\":1,\"payload\":\"1\",\"n\":1}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ insert into "pgqrs_keys" (queue_id, key, message_id, hash, hold, expires_at)
select q.id, i.value ->> 'key', (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?1, i.value ->> 'hash', i.value ->> 'hold', cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'hold_ms')
from json_each(?2) i cross join "pgqrs_queues" q on q.name = ?3
where i.value ->> 'key' is not null
on conflict do nothing;
-- values: 0, "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"is_alone\":1,\"payload\":\"1\",\"n\":1}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ select json_object('n', i.value ->> 'n', 'id', k.message_id, 'refused', case
  when i.value ->> 'conflict' = 'reject' then 'taken' else 'payload'
end, 'is_alone', 1)
from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
where k.message_id <> (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?3 and case i.value ->> 'conflict'
    when 'reject' then 1
    when 'replace' then k.hash <> i.value ->> 'hash'
      and not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
    else k.hash <> i.value ->> 'hash'
  end;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"is_alone\":1,\"payload\":\"1\",\"n\":1}]", "queue it's \"$1\" ?1", 0
/* pgqrs:enqueueMessages */ insert into "pgqrs_messages" (
  id, queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, key, type, headers, retry,
  payload
)
select (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?1, q.id, 'ready', coalesce(i.value ->> 'priority', 0), coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)), cast(round(unixepoch('subsec') * 1000) as integer),
  coalesce((i.value ->> 'retry') ->> 'maxAttempts', q.max_attempts), q.max_crashes, coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)) + (i.value ->> 'ttl_ms'),
  i.value ->> 'key', (i.value ->> 'headers') ->> 'type', i.value ->> 'headers', i.value ->> 'retry',
  i.value ->> 'payload'
from json_each(?2) i cross join "pgqrs_queues" q on q.name = ?3
where i.value ->> 'key' is null
  or exists (select 1 from "pgqrs_keys" k where k.queue_id = q.id and k.key = i.value ->> 'key' and k.message_id = (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?4)
order by i.key
returning json_object(
  'id', id, 'at', enqueued_at, 'max_attempts', max_attempts, 'n', case when key is not null then 0 end
);
-- values: 0, "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"is_alone\":1,\"payload\":\"1\",\"n\":1}]", "queue it's \"$1\" ?1", 0
/* pgqrs:enqueueMessages */ with i as materialized (
  select i.value, q.id as queue_id, q.max_attempts, k.key, k.message_id
  from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
  where i.value ->> 'conflict' = 'replace'
    and exists (select 1 from "pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
)
update "pgqrs_messages" as m
set payload = i.value ->> 'payload', headers = i.value ->> 'headers', type = (i.value ->> 'headers') ->> 'type',
  priority = coalesce(i.value ->> 'priority', 0), due_at = coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)), expires_at = coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)) + (i.value ->> 'ttl_ms'),
  retry = i.value ->> 'retry', max_attempts = coalesce((i.value ->> 'retry') ->> 'maxAttempts', i.max_attempts)
from i
where m.id = i.message_id;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"is_alone\":1,\"payload\":\"1\",\"n\":1}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ with i as materialized (
  select i.value, q.id as queue_id, q.max_attempts, k.key, k.message_id
  from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
  where i.value ->> 'conflict' = 'replace'
    and exists (select 1 from "pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
)
update "pgqrs_keys" as k
set hash = i.value ->> 'hash'
from i
where k.queue_id = i.queue_id and k.key = i.key;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"is_alone\":1,\"payload\":\"1\",\"n\":1}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ select json_object(
  'n', i.value ->> 'n', 'id', k.message_id, 'at', cast(round(unixepoch('subsec') * 1000) as integer),
  'state', coalesce(case when m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' end, m.state, a.outcome, 'deleted'),
  'priority', m.priority, 'attempts', m.attempts, 'max_attempts', m.max_attempts,
  'enqueued_at', m.enqueued_at, 'due_at', m.due_at, 'expires_at', m.expires_at
)
from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
left join "pgqrs_messages" m on m.id = k.message_id
left join "pgqrs_archive" a on a.id = k.message_id;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"is_alone\":1,\"payload\":\"1\",\"n\":1}]", "queue it's \"$1\" ?1"

-- extendLeased 1
/* pgqrs:extendLeased */ update "pgqrs_messages" as m
set lease_until = max(m.lease_until, cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'lease_ms'))
from json_each(?1) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "[{\"id\":7,\"token\":3,\"lease_ms\":5}]", "it's \"$1\" ?1"

-- failLeased 1
/* pgqrs:failLeased */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select m.id, m.queue_id, m.priority, m.enqueued_at, m.token, m.max_attempts, m.max_crashes, m.expires_at, m.key, m.type, m.headers, m.retry, m.payload, 'failed',
  case when m.attempts + 1 >= m.max_attempts then 'attempts' else 'not_retryable' end,
  cast(round(unixepoch('subsec') * 1000) as integer), ?1, cast(round(unixepoch('subsec') * 1000) as integer) - m.leased_at, m.attempts + 1, m.crashes, i.value ->> 'error'
from json_each(?2) i join "pgqrs_messages" m on m.id = i.value ->> 'id'
where m.state = 'leased' and m.holder = ?3 and m.token = coalesce(i.value ->> 'token', m.token) and (m.attempts + 1 >= m.max_attempts or i.value ->> 'is_final' = 1)
returning id;
-- values: "it's \"$1\" ?1", "[{\"id\":7,\"token\":3,\"error\":\"{\\\"message\\\":\\\"x\\\"}\",\"delay_ms\":5,\"is_final\":0}]", "it's \"$1\" ?1"
/* pgqrs:failLeased */ update "pgqrs_messages" as m
set state = case when m.wish = 'pause' then 'paused' else 'ready' end, wish = null, due_at = cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'delay_ms'), token = m.token + 1, attempts = m.attempts + 1,
  error = i.value ->> 'error', holder = null, leased_at = null, lease_until = null
from json_each(?1) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "[{\"id\":7,\"token\":3,\"error\":\"{\\\"message\\\":\\\"x\\\"}\",\"delay_ms\":5,\"is_final\":0}]", "it's \"$1\" ?1"

-- findEndings 1
/* pgqrs:findEndings */ select id, token, outcome from "pgqrs_archive" where id in (select value from json_each(?1));
-- values: "[1,2]"

-- findArchived 1
/* pgqrs:findArchived */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id), outcome, priority,
  enqueued_at, archived_at, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text), cast(result as text), expires_at from "pgqrs_archive" where id = ?1;
-- values: 7

-- findMessage 1
/* pgqrs:findMessage */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at from "pgqrs_messages" where id = ?1;
-- values: 7

-- findOverdue 1
/* pgqrs:findOverdue */ select q.id, case when (select a.id from "pgqrs_archive" a
    where a.queue_id = q.id and a.outcome = 'failed' and a.archived_at < cast(round(unixepoch('subsec') * 1000) as integer) - q.dead_retention_ms
    order by a.archived_at, a.id limit 1) is null then 0 else 1 end, (
  select case when count(*) filter (where x.outcome <> 'failed') > 0 or count(*) = 20 then 1 else 0 end
  from (select x.outcome from (
    select a.outcome from "pgqrs_archive" a
    where a.queue_id = q.id and a.archived_at >= coalesce(q.purged_until, 0)
      and a.archived_at < cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms
    order by a.archived_at, a.id limit 20
  ) x) x
)
from "pgqrs_queues" q where q.id > ?1 order by q.id limit ?2;
-- values: 7, 100

-- findObjects 1
/* pgqrs:findObjects */ select cast(objects as text) from (select json_group_object(type || ' ' || name, sql) as objects from sqlite_schema
where type || ' ' || name in (select value from json_each(?1))) t;
-- values: "[\"table pgqrs_keys\"]"

-- findOrphans 1
/* pgqrs:findOrphans */ with recursive used (queue_id) as (
  select (select min(m.queue_id) from "pgqrs_messages" m where m.state = 'ready')
  union all
  select (select min(m.queue_id) from "pgqrs_messages" m where m.state = 'ready' and m.queue_id > u.queue_id) from used u where u.queue_id is not null
)
select queue_id from used where queue_id is not null and not exists (select 1 from "pgqrs_queues" q where q.id = queue_id)
union
select queue_id from "pgqrs_messages" where state = 'leased' and not exists (select 1 from "pgqrs_queues" q where q.id = queue_id)
order by 1;

-- findRun 1
/* pgqrs:findRun */ select id, workflow, status, key, priority, enqueued_at,
  due_at, ended_at, attempts, crashes, worker, lease_until,
  cast(waits as text), reason, cast(error as text), parent_id, queue_paused_at,
  (select count(*) from "pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= cast(round(unixepoch('subsec') * 1000) as integer))) as ended_steps, cast(input as text), cast(result as text), cast(progress as text), max_attempts
from (
select m.id, q.name as workflow, case
    when m.state <> 'ready' or m.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then m.state when m.waits is null then 'delayed' else 'waiting'
  end as status, m.key, m.priority, m.enqueued_at,
  case when m.state = 'ready' and m.due_at < 253402300799000 then m.due_at end as due_at, null as ended_at,
  m.attempts, m.crashes, substr(m.holder, 1, length(m.holder) - 9) as worker, m.lease_until,
  case when (m.state in ('blocked', 'paused') or m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer)) then m.waits end as waits,
  case when m.state = 'blocked' then m.waits -> 0 ->> 'reason' end as reason, m.error, nullif(cast(coalesce(
    m.headers ->> '$."pgqrs-parent"', case when m.key glob '$run/[0-9]*' then substr(m.key, 6) end
  ) as integer), 0) as parent_id,
  q.paused_at as queue_paused_at, m.payload as input, null as result, m.progress, m.max_attempts
from "pgqrs_messages" m join "pgqrs_queues" q on q.id = m.queue_id
where q.is_workflow and m.id = ?1
union all
select a.id, q.name as workflow, a.outcome as status, a.key, a.priority, a.enqueued_at,
  null as due_at, a.archived_at as ended_at, a.attempts, a.crashes, a.archived_by as worker,
  null as lease_until, null as waits, a.reason, a.error, nullif(cast(coalesce(
    a.headers ->> '$."pgqrs-parent"', case when a.key glob '$run/[0-9]*' then substr(a.key, 6) end
  ) as integer), 0) as parent_id,
  q.paused_at as queue_paused_at, a.payload as input, a.result, null as progress, a.max_attempts
from "pgqrs_archive" a join "pgqrs_queues" q on q.id = a.queue_id
where q.is_workflow and a.id = ?2
) r;
-- values: 7, 7

-- findProgress 1
/* pgqrs:findProgress */ select cast(progress as text) from "pgqrs_messages" where id = ?1;
-- values: 7

-- findQueue 1
/* pgqrs:findQueue */ select id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow from "pgqrs_queues" where name = ?1;
-- values: "queue it's \"$1\" ?1"

-- findRefusal 1
/* pgqrs:findRefusal */ select i.value ->> 'n', k.message_id, i.value ->> 'conflict' = 'reject'
from json_each(?1) i cross join "pgqrs_keys" k on k.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and k.key = i.value ->> 'key'
where k.message_id <> 0 and case i.value ->> 'conflict'
    when 'reject' then 1
    when 'replace' then k.hash <> i.value ->> 'hash'
      and not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
    else k.hash <> i.value ->> 'hash'
  end
order by i.key limit 1;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"n\":1},{\"n\":2}]", "queue it's \"$1\" ?1"

-- findTriggers 1
/* pgqrs:findTriggers */ select name, tbl_name from sqlite_schema
where type = 'trigger' and 'table ' || tbl_name in (select value from json_each(?1))
  and type || ' ' || name not in (select value from json_each(?2))
order by 1, 2;
-- values: "[\"table pgqrs_keys\"]", "[\"table pgqrs_keys\"]"

-- inspectSchema 1
/* pgqrs:inspectSchema */ select 1, 1, (select count(*) from sqlite_schema where name = 'pgqrs_migrations'),
  (select count(*) from sqlite_schema where name like 'pgqrs\_%' escape '\'), '', '';

-- forgetWorkers 1
/* pgqrs:forgetWorkers */ delete from "pgqrs_workers" where holder in (
  select w.holder from "pgqrs_workers" w
  where w.seen_at < cast(round(unixepoch('subsec') * 1000) as integer) - ?1
    and (w.paused_at is null or w.seen_at < cast(round(unixepoch('subsec') * 1000) as integer) - ?2) and not exists (
    select 1 from json_each(w.queues) n cross join "pgqrs_queues" q on q.name = n.value
    cross join "pgqrs_messages" m on m.queue_id = q.id and m.state = 'leased'
    where m.holder = w.holder
  )
  limit ?3
);
-- values: 300000, 86400000, 100
/* pgqrs:forgetWorkers */ select changes();

-- giveTurnBack 1
/* pgqrs:giveTurnBack */ update "pgqrs_maintenance"
set next_at = cast(round(unixepoch('subsec') * 1000) as integer), key_queue_id = ?1, key = ?2
where id = 1 and next_at = ?3;
-- values: 7, "it's \"$1\" ?1", 1900000000000

-- keepTurn 1
/* pgqrs:keepTurn */ update "pgqrs_maintenance"
set next_at = case when next_at < cast(round(unixepoch('subsec') * 1000) as integer) + ?1 then cast(round(unixepoch('subsec') * 1000) as integer) + ?2 else next_at + ?3 end, key_queue_id = ?4, key = ?5
where id = 1 and next_at = ?6
returning next_at, key_queue_id, key;
-- values: 60000, 60000, 1, 7, "it's \"$1\" ?1", 1900000000000

-- listAttempts 1
/* pgqrs:listAttempts */ select id, attempts, cast(retry as text) from "pgqrs_messages" where id in (select value from json_each(?1));
-- values: "[1,2]"

-- listArchived 1
/* pgqrs:listArchived */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id), outcome, priority,
  enqueued_at, archived_at, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text), cast(result as text), expires_at from "pgqrs_archive" where id in (select a.id from "pgqrs_queues" q cross join "pgqrs_archive" a on a.id in (select id from "pgqrs_archive" where queue_id = q.id and true order by archived_at desc, id desc limit ?1))
order by archived_at desc, id desc limit ?2 offset ?3;
-- values: 30, 10, 20

-- listArchived 2
/* pgqrs:listArchived */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id), outcome, priority,
  enqueued_at, archived_at, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text), cast(result as text), expires_at from "pgqrs_archive" where outcome = 'failed' and queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and reason = ?2 and type = ?3 and key = ?4 and archived_by = ?5 and archived_at < ?6 and archived_at >= ?7 and (archived_at, id) < (?8, ?9)
order by archived_at desc, id desc limit ?10 offset ?11;
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", 1900000000000, 1800000000123, 1900000000000, 7, 10, 0

-- listEndings 1
/* pgqrs:listEndings */ select i.value, a.outcome, a.reason, a.result, a.error
from json_each(?1) i left join "pgqrs_archive" a on a.id = i.value
where not exists (select 1 from "pgqrs_messages" m where m.id = i.value);
-- values: "[1,2]"

-- listLargeValues 1
/* pgqrs:listLargeValues */ with next as materialized (
  select key from "pgqrs_steps" where run_id = ?1 and place >= ?2 and size > ?3
  order by place limit ?4
)
select s.key, cast(s.value as text) from next n join "pgqrs_steps" s on s.run_id = ?5 and s.key = n.key;
-- values: 7, 3, 10, 8, 7

-- listSteps 1
/* pgqrs:listSteps */ select run_id, key, place, kind, state, attempts, due_at - cast(round(unixepoch('subsec') * 1000) as integer), child_id,
  case when 0 = 1 then null else cast(value as text) end, cast(error as text), started_at,
  ended_at, due_at, case when 0 = 1 then 1 else 0 end, ending
from "pgqrs_steps" where run_id = ?1 and key > ?2
order by run_id, key limit ?3;
-- values: 7, "", 10

-- listSteps 2
/* pgqrs:listSteps */ select run_id, key, place, kind, state, attempts, due_at - cast(round(unixepoch('subsec') * 1000) as integer), child_id,
  case when size > ?1 then null else cast(value as text) end, cast(error as text), started_at,
  ended_at, due_at, case when size > ?2 then 1 else 0 end, ending
from "pgqrs_steps" where run_id = ?3 and key > ?4
order by run_id, key limit ?5;
-- values: 10, 10, 7, "it's \"$1\" ?1", 10

-- parkRuns 1
/* pgqrs:parkRuns */ insert into "pgqrs_steps" (run_id, key, place, kind, state, due_at, child_id, started_at)
select m.id, w.value ->> 'key', w.value ->> 'place', w.value ->> 'kind', 'waiting',
  cast(coalesce(w.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + (w.value ->> 'delay_ms')) as integer), w.value ->> 'child_id', cast(round(unixepoch('subsec') * 1000) as integer)
from json_each(?1) i cross join json_each(i.value -> 'waits') w
cross join "pgqrs_messages" m on m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = i.value ->> 'token'
where true
on conflict (run_id, key) do nothing;
-- values: "[{\"id\":7,\"token\":3,\"state\":\"ready\",\"reason\":\"it's \\\"$1\\\" ?1\",\"waits\":[{\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"delay_ms\":5,\"topic\":\"it's \\\"$1\\\" ?1\"}]}]", "it's \"$1\" ?1"
/* pgqrs:parkRuns */ with parked as materialized (
  select m.id, case
    when i.value ->> 'state' = 'ready' and m.wish = 'pause' then 'paused' else i.value ->> 'state'
  end as state, case
    when case
    when i.value ->> 'state' = 'ready' and m.wish = 'pause' then 'paused' else i.value ->> 'state'
  end = 'blocked' or i.value ->> 'at_once' = 1 or exists (
      select 1 from json_each(i.value -> 'waits') w cross join "pgqrs_mailbox" b
      on b.run_id = m.id and b.topic = w.value ->> 'topic' and b.taken_by is null
    ) then cast(round(unixepoch('subsec') * 1000) as integer)
    else min(
      coalesce((select min(s.due_at) from json_each(i.value -> 'waits') w
    cross join "pgqrs_steps" s on s.run_id = m.id and s.key = w.value ->> 'key'), ?1), coalesce(cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'look_ms'), ?2)
    )
  end as due_at, case
    when case
    when i.value ->> 'state' = 'ready' and m.wish = 'pause' then 'paused' else i.value ->> 'state'
  end = 'blocked' then json_array(json_patch('{}', json_object('kind', case
    when i.value ->> 'state' = 'ready' and m.wish = 'pause' then 'paused' else i.value ->> 'state'
  end, 'reason', i.value ->> 'reason')))
    else (
      select json_group_array(json_patch('{}', json_object(
        'key', s.key, 'kind', s.kind, 'topic', w.value ->> 'topic', 'childId', s.child_id, 'until', s.due_at
      )) order by s.due_at is null, s.due_at, s.place) from json_each(i.value -> 'waits') w
    cross join "pgqrs_steps" s on s.run_id = m.id and s.key = w.value ->> 'key'
    )
  end as waits
  from json_each(?3) i cross join "pgqrs_messages" m on m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?4 and m.token = i.value ->> 'token'
)
update "pgqrs_messages" as m
set state = p.state, due_at = p.due_at, waits = p.waits, wish = null, token = m.token + 1, holder = null,
  leased_at = null, lease_until = null, expires_at = null
from parked p
where m.id = p.id
returning id, token - 1, case when state = 'ready' then max(0, due_at - cast(round(unixepoch('subsec') * 1000) as integer)) end;
-- values: 253402300799000, 253402300799000, "[{\"id\":7,\"token\":3,\"state\":\"ready\",\"reason\":\"it's \\\"$1\\\" ?1\",\"waits\":[{\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"delay_ms\":5,\"topic\":\"it's \\\"$1\\\" ?1\"}]}]", "it's \"$1\" ?1"

-- pauseRun 1
/* pgqrs:pauseRun */ update "pgqrs_messages" as m
set state = case when state = 'leased' then state else 'paused' end,
  wish = case when state = 'leased' then 'pause' end
where id = ?1 and state in ('ready', 'leased', 'blocked')
returning (select q.name from "pgqrs_queues" q where q.id = queue_id);
-- values: 7

-- receiveMail 1
/* pgqrs:receiveMail */ update "pgqrs_mailbox" set taken_by = t.key
from (
  select i.value ->> 'key' as key, (select min(b.id) from "pgqrs_mailbox" b where b.run_id = m.id and b.topic = i.value ->> 'topic' and b.taken_by is null) as mail_id
  from json_each(?1) i cross join "pgqrs_messages" m on m.id = i.value ->> 'id' 
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = i.value ->> 'token' and not exists (select 1 from "pgqrs_steps" s
    where s.run_id = m.id and s.key = i.value ->> 'key' and s.state in ('succeeded', 'failed'))
) t
where id = t.mail_id;
-- values: "[{\"id\":7,\"token\":3,\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"topic\":\"it's \\\"$1\\\" ?1\",\"delay_ms\":5,\"nothing\":\"null\",\"ending\":4}]", "it's \"$1\" ?1"
/* pgqrs:receiveMail */ insert into "pgqrs_steps" as s (
  run_id, key, place, kind, state, due_at, child_id, started_at
)
select m.id, i.value ->> 'key', i.value ->> 'place', i.value ->> 'kind', 'waiting',
  cast(coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'delay_ms')) as integer), i.value ->> 'child_id', cast(round(unixepoch('subsec') * 1000) as integer)
from json_each(?1) i cross join "pgqrs_messages" m on m.id = i.value ->> 'id' 
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = i.value ->> 'token'
on conflict (run_id, key) do update set child_id = coalesce(excluded.child_id, s.child_id) where s.state = 'waiting';
-- values: "[{\"id\":7,\"token\":3,\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"topic\":\"it's \\\"$1\\\" ?1\",\"delay_ms\":5,\"nothing\":\"null\",\"ending\":4}]", "it's \"$1\" ?1"
/* pgqrs:receiveMail */ update "pgqrs_steps" as s
set state = case when r.is_failed then 'failed' else 'succeeded' end, ending = r.ending, ended_at = cast(round(unixepoch('subsec') * 1000) as integer),
  value = case when r.is_failed then null else r.value end, error = case when r.is_failed then r.value end,
  size = length(r.value)
from (
  select m.id, i.value ->> 'key' as key, case when b.id is null then i.value ->> 'nothing' else b.payload end as value,
    b.id as mail_id, i.value ->> 'ending' as ending,
    i.value ->> 'kind' = 'call' and coalesce(b.payload ->> 'outcome' <> 'succeeded', 0) as is_failed
  from json_each(?1) i cross join "pgqrs_messages" m on m.id = i.value ->> 'id' left join "pgqrs_mailbox" b on b.run_id = m.id and b.taken_by = i.value ->> 'key'
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = i.value ->> 'token'
) r
where s.run_id = r.id and s.key = r.key and s.state = 'waiting' and (r.mail_id is not null or s.due_at <= cast(round(unixepoch('subsec') * 1000) as integer));
-- values: "[{\"id\":7,\"token\":3,\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"topic\":\"it's \\\"$1\\\" ?1\",\"delay_ms\":5,\"nothing\":\"null\",\"ending\":4}]", "it's \"$1\" ?1"
/* pgqrs:receiveMail */ select m.id, m.token, s.key, s.state, coalesce(s.error, s.value), s.due_at - cast(round(unixepoch('subsec') * 1000) as integer), m.wish
from json_each(?1) i cross join "pgqrs_messages" m on m.id = i.value ->> 'id' join "pgqrs_steps" s on s.run_id = m.id and s.key = i.value ->> 'key'
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = i.value ->> 'token';
-- values: "[{\"id\":7,\"token\":3,\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"topic\":\"it's \\\"$1\\\" ?1\",\"delay_ms\":5,\"nothing\":\"null\",\"ending\":4}]", "it's \"$1\" ?1"

-- recordSteps 1
/* pgqrs:recordSteps */ insert into "pgqrs_steps" as s (
  run_id, key, place, kind, state, attempts, due_at, child_id, value, size, error, ending, started_at, ended_at
)
select m.id, i.value ->> 'key', i.value ->> 'place', i.value ->> 'kind', i.value ->> 'state', i.value ->> 'attempts',
  cast(coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'delay_ms')) as integer), i.value ->> 'child_id',
  i.value ->> 'value', length(i.value ->> 'value'), i.value ->> 'error',
  i.value ->> 'ending',
  cast(cast(round(unixepoch('subsec') * 1000) as integer) - (i.value ->> 'took_ms') as integer),
  case when i.value ->> 'state' in ('succeeded', 'failed') then cast(round(unixepoch('subsec') * 1000) as integer) end
from json_each(?1) i cross join "pgqrs_messages" m on m.id = i.value ->> 'id' 
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = i.value ->> 'token'
on conflict (run_id, key) do update
set state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at, value = excluded.value,
  size = excluded.size, error = excluded.error, ending = excluded.ending, ended_at = excluded.ended_at, child_id = coalesce(excluded.child_id, s.child_id)
where s.state not in ('succeeded', 'failed');
-- values: "[{\"id\":7,\"token\":3,\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"state\":\"succeeded\",\"attempts\":0,\"took_ms\":1.5,\"value\":\"\\\"it's \\\"$1\\\" ?1\\\"\"}]", "it's \"$1\" ?1"
/* pgqrs:recordSteps */ select distinct m.id, m.token, m.wish, changes() from json_each(?1) i cross join "pgqrs_messages" m on m.id = i.value ->> 'id' 
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = i.value ->> 'token';
-- values: "[{\"id\":7,\"token\":3,\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"state\":\"succeeded\",\"attempts\":0,\"took_ms\":1.5,\"value\":\"\\\"it's \\\"$1\\\" ?1\\\"\"}]", "it's \"$1\" ?1"

-- claimRun 1
/* pgqrs:claimRun */ update "pgqrs_messages"
set state = 'leased', token = token + 1, holder = ?1, leased_at = cast(round(unixepoch('subsec') * 1000) as integer),
  lease_until = cast(round(unixepoch('subsec') * 1000) as integer) + ?2, is_started = 1,
  crashes = crashes + case when state = 'leased' then 1 else 0 end
where id = ?3 and (
  state = 'ready' and due_at <= cast(round(unixepoch('subsec') * 1000) as integer) or state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and crashes + 1 < max_crashes
)
returning id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at;
-- values: "it's \"$1\" ?1", 5, 7

-- redoStep 1
/* pgqrs:redoStep */ delete from "pgqrs_steps" as s where s.run_id = ?1 and s.key = ?2 and s.state = 'failed'
  and s.ended_at < (select m.redo_before from "pgqrs_messages" m where m.id = ?3 and m.holder = ?4 and m.token = ?5)
returning run_id;
-- values: 7, "it's \"$1\" ?1", 7, "it's \"$1\" ?1", 3
/* pgqrs:redoStep */ delete from "pgqrs_mailbox" where changes() > 0 and run_id = ?1 and taken_by = ?2;
-- values: 7, "it's \"$1\" ?1"

-- resumeRun 1
/* pgqrs:resumeRun */ update "pgqrs_messages" as m
set state = case when state = 'leased' then state else 'ready' end, wish = null,
  waits = case when state = 'blocked' then null else waits end, due_at = case
    when state = 'blocked' or state = 'paused' and exists (
      select 1 from "pgqrs_mailbox" b where b.run_id = ?1 and b.taken_by is null and b.topic in (select w.value ->> 'topic' from json_each(waits) w)
    ) then cast(round(unixepoch('subsec') * 1000) as integer)
    else due_at
  end
where id = ?2 and (state in ('paused', 'blocked') or wish is not null)
returning (select q.name from "pgqrs_queues" q where q.id = queue_id);
-- values: 7, 7

-- retryRun 1
/* pgqrs:retryRun */ insert into "pgqrs_messages" as m (id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, retry, payload, error, redo_before) select id, queue_id, 'ready', priority, cast(round(unixepoch('subsec') * 1000) as integer), enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, retry,
  payload, error, cast(round(unixepoch('subsec') * 1000) as integer) from "pgqrs_archive" a where a.id = ?1 and a.outcome in ('failed', 'cancelled')
returning (select q.name from "pgqrs_queues" q where q.id = queue_id);
-- values: 7
/* pgqrs:retryRun */ delete from "pgqrs_mailbox"
where run_id = ?1 and taken_by is null and topic like '$child/%' and payload ->> 'outcome' <> 'succeeded' and exists (select 1 from "pgqrs_archive" a where a.id = ?2 and a.outcome in ('failed', 'cancelled'));
-- values: 7, 7
/* pgqrs:retryRun */ delete from "pgqrs_steps"
where run_id = ?1 and kind = 'call' and state = 'waiting' and exists (
  select 1 from "pgqrs_archive" c where c.id = child_id and c.outcome <> 'succeeded'
) and exists (select 1 from "pgqrs_archive" a where a.id = ?2 and a.outcome in ('failed', 'cancelled'));
-- values: 7, 7
/* pgqrs:retryRun */ delete from "pgqrs_archive" as a where a.id = ?1 and a.outcome in ('failed', 'cancelled');
-- values: 7

-- runDue 1
/* pgqrs:runDue */ select case state when 'ready' then due_at when 'leased' then lease_until end - cast(round(unixepoch('subsec') * 1000) as integer) from "pgqrs_messages" where id = ?1;
-- values: 7

-- runState 1
/* pgqrs:runState */ select case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end from "pgqrs_messages" where id = ?1
union all
select outcome from "pgqrs_archive" where id = ?2;
-- values: 7, 7

-- sendMail 1
/* pgqrs:sendMail */ insert into "pgqrs_mailbox" (run_id, topic, key, payload, sent_at)
select m.id, ?1, ?2, ?3, cast(round(unixepoch('subsec') * 1000) as integer) from "pgqrs_messages" m where m.id = ?4
on conflict do nothing;
-- values: "it's \"$1\" ?1", "it's \"$1\" ?1", "\"it's \"$1\" ?1\"", 7
/* pgqrs:sendMail */ update "pgqrs_messages" set due_at = cast(round(unixepoch('subsec') * 1000) as integer)
where id = ?1 and state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer)
  and exists (select 1 from json_each(waits) w where w.value ->> 'topic' = ?2);
-- values: 7, "it's \"$1\" ?1"
/* pgqrs:sendMail */ select 'sent', (select q.name from "pgqrs_queues" q where q.id = queue_id) from "pgqrs_messages" m where m.id = ?1
union all
select 'ended', null from "pgqrs_archive" where id = ?2;
-- values: 7, 7

-- sendMail 2
/* pgqrs:sendMail */ insert into "pgqrs_mailbox" (run_id, topic, key, payload, sent_at)
select m.id, ?1, ?2, ?3, cast(round(unixepoch('subsec') * 1000) as integer) from "pgqrs_messages" m where m.id = ?4
on conflict do nothing;
-- values: "it's \"$1\" ?1", null, "null", 7
/* pgqrs:sendMail */ update "pgqrs_messages" set due_at = cast(round(unixepoch('subsec') * 1000) as integer)
where id = ?1 and state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer)
  and exists (select 1 from json_each(waits) w where w.value ->> 'topic' = ?2);
-- values: 7, "it's \"$1\" ?1"
/* pgqrs:sendMail */ select 'sent', (select q.name from "pgqrs_queues" q where q.id = queue_id) from "pgqrs_messages" m where m.id = ?1
union all
select 'ended', null from "pgqrs_archive" where id = ?2;
-- values: 7, 7

-- wakeRun 1
/* pgqrs:wakeRun */ update "pgqrs_steps" set due_at = cast(round(unixepoch('subsec') * 1000) as integer)
where run_id = ?1 and state in ('waiting', 'retrying') and kind not in ('call', 'receive') and due_at > cast(round(unixepoch('subsec') * 1000) as integer)
  and exists (select 1 from "pgqrs_messages" m where m.id = run_id and m.state in ('ready', 'leased'))
returning (select q.name from "pgqrs_queues" q join "pgqrs_messages" m on q.id = m.queue_id
  where m.id = run_id);
-- values: 7
/* pgqrs:wakeRun */ update "pgqrs_messages" set due_at = cast(round(unixepoch('subsec') * 1000) as integer)
where id = ?1 and state = 'ready' and waits is not null and due_at > cast(round(unixepoch('subsec') * 1000) as integer) and changes() > 0;
-- values: 7

-- listMessages 1
/* pgqrs:listMessages */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at from "pgqrs_messages" where id > ?1 order by id limit ?2;
-- values: 0, 10

-- listMessages 2
/* pgqrs:listMessages */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at from "pgqrs_messages" where id > ?1 and queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and type = ?3 and key = ?4 and state = 'leased' order by id limit ?5;
-- values: 7, "queue it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", 10

-- listRuns 1
/* pgqrs:listRuns */ select id, workflow, status, key, priority, enqueued_at,
  due_at, ended_at, attempts, crashes, worker, lease_until,
  cast(waits as text), reason, cast(error as text), parent_id, queue_paused_at,
  (select count(*) from "pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= cast(round(unixepoch('subsec') * 1000) as integer))) as ended_steps
from (
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at from (select m.id, q.name as workflow, case
    when m.state <> 'ready' or m.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then m.state when m.waits is null then 'delayed' else 'waiting'
  end as status, m.key, m.priority, m.enqueued_at,
  case when m.state = 'ready' and m.due_at < 253402300799000 then m.due_at end as due_at, null as ended_at,
  m.attempts, m.crashes, substr(m.holder, 1, length(m.holder) - 9) as worker, m.lease_until,
  case when (m.state in ('blocked', 'paused') or m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer)) then m.waits end as waits,
  case when m.state = 'blocked' then m.waits -> 0 ->> 'reason' end as reason, m.error, nullif(cast(coalesce(
    m.headers ->> '$."pgqrs-parent"', case when m.key glob '$run/[0-9]*' then substr(m.key, 6) end
  ) as integer), 0) as parent_id,
  q.paused_at as queue_paused_at
from "pgqrs_messages" m join "pgqrs_queues" q on q.id = m.queue_id
where q.is_workflow and true and true
order by m.id desc limit ?1) live
union all
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at from (select a.id, q.name as workflow, a.outcome as status, a.key, a.priority, a.enqueued_at,
  null as due_at, a.archived_at as ended_at, a.attempts, a.crashes, a.archived_by as worker,
  null as lease_until, null as waits, a.reason, a.error, nullif(cast(coalesce(
    a.headers ->> '$."pgqrs-parent"', case when a.key glob '$run/[0-9]*' then substr(a.key, 6) end
  ) as integer), 0) as parent_id,
  q.paused_at as queue_paused_at
from "pgqrs_archive" a join "pgqrs_queues" q on q.id = a.queue_id
where q.is_workflow and true and true
order by a.id desc limit ?2) ended
) r
order by id desc limit ?3;
-- values: 10, 10, 10

-- listRuns 2
/* pgqrs:listRuns */ select id, workflow, status, key, priority, enqueued_at,
  due_at, ended_at, attempts, crashes, worker, lease_until,
  cast(waits as text), reason, cast(error as text), parent_id, queue_paused_at,
  (select count(*) from "pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= cast(round(unixepoch('subsec') * 1000) as integer))) as ended_steps
from (
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at from (select m.id, q.name as workflow, case
    when m.state <> 'ready' or m.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then m.state when m.waits is null then 'delayed' else 'waiting'
  end as status, m.key, m.priority, m.enqueued_at,
  case when m.state = 'ready' and m.due_at < 253402300799000 then m.due_at end as due_at, null as ended_at,
  m.attempts, m.crashes, substr(m.holder, 1, length(m.holder) - 9) as worker, m.lease_until,
  case when (m.state in ('blocked', 'paused') or m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer)) then m.waits end as waits,
  case when m.state = 'blocked' then m.waits -> 0 ->> 'reason' end as reason, m.error, nullif(cast(coalesce(
    m.headers ->> '$."pgqrs-parent"', case when m.key glob '$run/[0-9]*' then substr(m.key, 6) end
  ) as integer), 0) as parent_id,
  q.paused_at as queue_paused_at
from "pgqrs_messages" m join "pgqrs_queues" q on q.id = m.queue_id
where q.is_workflow and m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer) and m.waits is not null and m.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and m.key = ?2 and m.id < ?3
order by m.id desc limit ?4) live
) r
order by id desc limit ?5;
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", 7, 10, 10

-- listRuns 3
/* pgqrs:listRuns */ select id, workflow, status, key, priority, enqueued_at,
  due_at, ended_at, attempts, crashes, worker, lease_until,
  cast(waits as text), reason, cast(error as text), parent_id, queue_paused_at,
  (select count(*) from "pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= cast(round(unixepoch('subsec') * 1000) as integer))) as ended_steps
from (
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at from (select a.id, q.name as workflow, a.outcome as status, a.key, a.priority, a.enqueued_at,
  null as due_at, a.archived_at as ended_at, a.attempts, a.crashes, a.archived_by as worker,
  null as lease_until, null as waits, a.reason, a.error, nullif(cast(coalesce(
    a.headers ->> '$."pgqrs-parent"', case when a.key glob '$run/[0-9]*' then substr(a.key, 6) end
  ) as integer), 0) as parent_id,
  q.paused_at as queue_paused_at
from "pgqrs_archive" a join "pgqrs_queues" q on q.id = a.queue_id
where q.is_workflow and a.outcome = 'failed' and a.enqueued_at >= ?1 and a.enqueued_at < ?2
order by a.id desc limit ?3) ended
) r
order by id desc limit ?4;
-- values: 1800000000123, 1900000000000, 10, 10

-- listMigrations 1
/* pgqrs:listMigrations */ select version, name, cast(objects as text) from "pgqrs_migrations" order by version;

-- listQueues 1
/* pgqrs:listQueues */ select id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow from "pgqrs_queues" order by name;

-- listWorkers 1
/* pgqrs:listWorkers */ select coalesce(w.name, h.name), cast(coalesce(w.queues, h.queues) as text),
  w.started_at, w.seen_at, w.paused_at,
  coalesce(h.leased, 0), coalesce(h.expired, 0), h.leased_at, h.lease_until,
  cast(round(unixepoch('subsec') * 1000) as integer) - w.seen_at
from "pgqrs_workers" w full join (
  select m.holder, substr(holder, 1, length(holder) - 9) as name, json_group_array(distinct q.name) as queues, count(*) as leased,
    count(*) filter (where m.lease_until <= cast(round(unixepoch('subsec') * 1000) as integer)) as expired, min(m.leased_at) as leased_at,
    max(m.lease_until) as lease_until
  from "pgqrs_messages" m join "pgqrs_queues" q on q.id = m.queue_id
  where m.state = 'leased'
  group by m.holder
) h on h.holder = w.holder
where coalesce(?1, w.name, h.name) = coalesce(w.name, h.name);
-- values: null

-- listWorkers 2
/* pgqrs:listWorkers */ select coalesce(w.name, h.name), cast(coalesce(w.queues, h.queues) as text),
  w.started_at, w.seen_at, w.paused_at,
  coalesce(h.leased, 0), coalesce(h.expired, 0), h.leased_at, h.lease_until,
  cast(round(unixepoch('subsec') * 1000) as integer) - w.seen_at
from "pgqrs_workers" w full join (
  select m.holder, substr(holder, 1, length(holder) - 9) as name, json_group_array(distinct q.name) as queues, count(*) as leased,
    count(*) filter (where m.lease_until <= cast(round(unixepoch('subsec') * 1000) as integer)) as expired, min(m.leased_at) as leased_at,
    max(m.lease_until) as lease_until
  from "pgqrs_messages" m join "pgqrs_queues" q on q.id = m.queue_id
  where m.state = 'leased'
  group by m.holder
) h on h.holder = w.holder
where coalesce(?1, w.name, h.name) = coalesce(w.name, h.name);
-- values: "it's \"$1\" ?1"

-- lookForWork 1
/* pgqrs:lookForWork */ with recursive lanes(id) as (
  select * from (select m.id from "pgqrs_messages" m where m.state = 'ready' order by m.queue_id, m.priority, m.due_at, m.id limit 1)
  union all
  select (select m.id from "pgqrs_messages" m where m.state = 'ready' and (m.queue_id, m.priority) > (l.queue_id, l.priority) order by m.queue_id, m.priority, m.due_at, m.id limit 1)
  from lanes join "pgqrs_messages" l on l.id = lanes.id
), leases(id) as (
  select * from (select m.id from "pgqrs_messages" m where m.state = 'leased' order by m.queue_id, m.lease_until limit 1)
  union all
  select (select m.id from "pgqrs_messages" m where m.state = 'leased' and m.queue_id > l.queue_id order by m.queue_id, m.lease_until limit 1)
  from leases join "pgqrs_messages" l on l.id = leases.id
)
select (select q.name from "pgqrs_queues" q where q.id = queue_id), max(0, min(case m.state when 'ready' then m.due_at else m.lease_until end) - cast(round(unixepoch('subsec') * 1000) as integer))
from (select id from lanes union all select id from leases) f join "pgqrs_messages" m on m.id = f.id
where m.queue_id in (
  select q.id from json_each(?1) i join "pgqrs_queues" q on q.name = i.value where q.paused_at is null
)
group by m.queue_id
union all select null, 1 from "pgqrs_workers" where holder = ?2 and paused_at is not null;
-- values: "[\"queue it's \\\"$1\\\" ?1\",\"it's \\\"$1\\\" ?1\"]", "it's \"$1\" ?1"

-- lockMigrations 1
/* pgqrs:lockMigrations */ select 1;

-- notePurged 1
/* pgqrs:notePurged */ update "pgqrs_queues" set purged_until = ?1
where id = ?2 and coalesce(purged_until, 0) < ?3;
-- values: 1900000000000, 7, 1900000000000

-- pauseWorkers 1
/* pgqrs:pauseWorkers */ update "pgqrs_workers" set paused_at = coalesce(paused_at, cast(round(unixepoch('subsec') * 1000) as integer)) where name = ?1 returning holder;
-- values: "it's \"$1\" ?1"

-- pauseWorkers 2
/* pgqrs:pauseWorkers */ update "pgqrs_workers" set paused_at = null where name = ?1 returning holder;
-- values: "it's \"$1\" ?1"

-- ping 1
/* pgqrs:ping */ select cast(round(unixepoch('subsec') * 1000) as integer);

-- progressLeased 1
/* pgqrs:progressLeased */ update "pgqrs_messages" as m set progress = i.value ->> 'progress' from json_each(?1) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "[{\"id\":7,\"token\":3,\"progress\":\"[1]\"}]", "it's \"$1\" ?1"

-- purgeArchived 1
/* pgqrs:purgeArchived */ delete from "pgqrs_archive" where id in (select id from "pgqrs_archive" where true and archived_at < (
  select case when outcome = 'failed' then cast(round(unixepoch('subsec') * 1000) as integer) - q.dead_retention_ms else cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms end
  from "pgqrs_queues" q where q.id = queue_id
) order by archived_at, id limit ?1);
-- values: 100
/* pgqrs:purgeArchived */ select changes();

-- purgeArchived 2
/* pgqrs:purgeArchived */ delete from "pgqrs_archive" where id in (select id from "pgqrs_archive" where true and queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and archived_at < (select case
    when q.retention_ms < q.dead_retention_ms or q.dead_retention_ms is null then cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms
    else cast(round(unixepoch('subsec') * 1000) as integer) - q.dead_retention_ms
  end from "pgqrs_queues" q where q.name = ?2) and archived_at < (
  select case when outcome = 'failed' then cast(round(unixepoch('subsec') * 1000) as integer) - q.dead_retention_ms else cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms end
  from "pgqrs_queues" q where q.id = queue_id
) order by archived_at, id limit ?3);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", 100
/* pgqrs:purgeArchived */ select changes();

-- purgeDead 1
/* pgqrs:purgeDead */ delete from "pgqrs_archive" where id in (select a.id from "pgqrs_archive" a
  where a.queue_id = ?1 and a.outcome = 'failed'
    and a.archived_at < (select cast(round(unixepoch('subsec') * 1000) as integer) - q.dead_retention_ms from "pgqrs_queues" q where q.id = ?2)
  order by a.archived_at, a.id limit ?3);
-- values: 7, 7, 100
/* pgqrs:purgeDead */ select changes();

-- purgeEnded 1
/* pgqrs:purgeEnded */ with seen as materialized (select a.id, a.archived_at, a.outcome from "pgqrs_archive" a
  where a.queue_id = ?1 and a.archived_at >= (select coalesce(q.purged_until, 0) from "pgqrs_queues" q where q.id = ?2)
    and a.archived_at < (select cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms from "pgqrs_queues" q where q.id = ?3)
  order by a.archived_at, a.id limit ?4) select (select count(*) from seen), s.archived_at, s.id from seen s order by s.archived_at desc, s.id desc limit 1;
-- values: 7, 7, 7, 100
/* pgqrs:purgeEnded */ delete from "pgqrs_archive" where id in (select s.id from (select a.id, a.archived_at, a.outcome from "pgqrs_archive" a
  where a.queue_id = ?1 and a.archived_at >= (select coalesce(q.purged_until, 0) from "pgqrs_queues" q where q.id = ?2)
    and a.archived_at < (select cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms from "pgqrs_queues" q where q.id = ?3)
  order by a.archived_at, a.id limit ?4) s where (s.outcome <> 'failed' or s.archived_at < (select cast(round(unixepoch('subsec') * 1000) as integer) - q.dead_retention_ms from "pgqrs_queues" q where q.id = ?5)));
-- values: 7, 7, 7, 100, 7
/* pgqrs:purgeEnded */ select changes();

-- purgeEnded 2
/* pgqrs:purgeEnded */ with seen as materialized (select a.id, a.archived_at, a.outcome from "pgqrs_archive" a
  where a.queue_id = ?1 and a.archived_at >= (select coalesce(q.purged_until, 0) from "pgqrs_queues" q where q.id = ?2)
    and a.archived_at < (select cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms from "pgqrs_queues" q where q.id = ?3) and (a.archived_at, a.id) > (?4, ?5)
  order by a.archived_at, a.id limit ?6) select (select count(*) from seen), s.archived_at, s.id from seen s order by s.archived_at desc, s.id desc limit 1;
-- values: 7, 7, 7, 1900000000000, 7, 100
/* pgqrs:purgeEnded */ delete from "pgqrs_archive" where id in (select s.id from (select a.id, a.archived_at, a.outcome from "pgqrs_archive" a
  where a.queue_id = ?1 and a.archived_at >= (select coalesce(q.purged_until, 0) from "pgqrs_queues" q where q.id = ?2)
    and a.archived_at < (select cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms from "pgqrs_queues" q where q.id = ?3) and (a.archived_at, a.id) > (?4, ?5)
  order by a.archived_at, a.id limit ?6) s where (s.outcome <> 'failed' or s.archived_at < (select cast(round(unixepoch('subsec') * 1000) as integer) - q.dead_retention_ms from "pgqrs_queues" q where q.id = ?7)));
-- values: 7, 7, 7, 1900000000000, 7, 100, 7
/* pgqrs:purgeEnded */ select changes();

-- purgeKeys 1
/* pgqrs:purgeKeys */ with seen as materialized (select queue_id, key from "pgqrs_keys" where true order by queue_id, key limit ?1) select (select count(*) from seen), queue_id, key from seen order by queue_id desc, key desc limit 1;
-- values: 100
/* pgqrs:purgeKeys */ delete from "pgqrs_keys" as k where (queue_id, key) in (select queue_id, key from "pgqrs_keys" where true order by queue_id, key limit ?1) and case k.hold
    when 'started' then (select m.id from "pgqrs_messages" m where m.id = k.message_id) is null
    when 'finished' then (select m.id from "pgqrs_messages" m where m.id = k.message_id) is null
    when 'time' then k.expires_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    else k.expires_at <= cast(round(unixepoch('subsec') * 1000) as integer) and (select m.id from "pgqrs_messages" m where m.id = k.message_id) is null
  end;
-- values: 100
/* pgqrs:purgeKeys */ select changes();

-- purgeKeys 2
/* pgqrs:purgeKeys */ with seen as materialized (select queue_id, key from "pgqrs_keys" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and (queue_id, key) > (?2, ?3) order by queue_id, key limit ?4) select (select count(*) from seen), queue_id, key from seen order by queue_id desc, key desc limit 1;
-- values: "queue it's \"$1\" ?1", 7, "it's \"$1\" ?1", 100
/* pgqrs:purgeKeys */ delete from "pgqrs_keys" as k where (queue_id, key) in (select queue_id, key from "pgqrs_keys" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and (queue_id, key) > (?2, ?3) order by queue_id, key limit ?4) and case k.hold
    when 'started' then (select m.id from "pgqrs_messages" m where m.id = k.message_id) is null
    when 'finished' then (select m.id from "pgqrs_messages" m where m.id = k.message_id) is null
    when 'time' then k.expires_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    else k.expires_at <= cast(round(unixepoch('subsec') * 1000) as integer) and (select m.id from "pgqrs_messages" m where m.id = k.message_id) is null
  end;
-- values: "queue it's \"$1\" ?1", 7, "it's \"$1\" ?1", 100
/* pgqrs:purgeKeys */ select changes();

-- purgeQueue 1
/* pgqrs:purgeQueue */ delete from "pgqrs_steps" where run_id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'ready' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and state in ('blocked', 'paused') limit ?3);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", 2000
/* pgqrs:purgeQueue */ delete from "pgqrs_mailbox" where run_id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'ready' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and state in ('blocked', 'paused') limit ?3);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", 2000
/* pgqrs:purgeQueue */ delete from "pgqrs_messages" where id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'ready' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and state in ('blocked', 'paused') limit ?3);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", 2000
/* pgqrs:purgeQueue */ select changes();

-- purgeQueue 2
/* pgqrs:purgeQueue */ delete from "pgqrs_steps" where run_id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'ready' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and state = 'leased' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?3) and state in ('blocked', 'paused') limit ?4);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", 2000
/* pgqrs:purgeQueue */ delete from "pgqrs_mailbox" where run_id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'ready' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and state = 'leased' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?3) and state in ('blocked', 'paused') limit ?4);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", 2000
/* pgqrs:purgeQueue */ delete from "pgqrs_messages" where id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'ready' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and state = 'leased' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?3) and state in ('blocked', 'paused') limit ?4);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", 2000
/* pgqrs:purgeQueue */ select changes();

-- registerWorker 1
/* pgqrs:registerWorker */ insert into "pgqrs_workers" (holder, name, queues, started_at, seen_at)
select ?1, ?2, ?3, cast(round(unixepoch('subsec') * 1000) as integer), cast(round(unixepoch('subsec') * 1000) as integer) where true
on conflict (holder) do update set seen_at = excluded.seen_at
returning case when paused_at is null then 0 else 1 end;
-- values: "it's \"$1\" ?1", "it's \"$1\" ?1", "[\"queue it's \\\"$1\\\" ?1\"]"

-- removeWorker 1
/* pgqrs:removeWorker */ delete from "pgqrs_workers" where holder = ?1;
-- values: "it's \"$1\" ?1"

-- releaseHeld 1
/* pgqrs:releaseHeld */ update "pgqrs_messages" set state = 'ready', due_at = cast(round(unixepoch('subsec') * 1000) as integer), token = token + 1, holder = null, leased_at = null, lease_until = null where state = 'leased' and substr(holder, 1, length(holder) - 9) = ?1 returning id;
-- values: "it's \"$1\" ?1"

-- releaseLeased 1
/* pgqrs:releaseLeased */ update "pgqrs_messages" as m
set state = case when m.wish = 'pause' then 'paused' else 'ready' end, wish = null, due_at = cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'delay_ms'), token = m.token + 1,
  holder = null, leased_at = null, lease_until = null
from json_each(?1) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "[{\"id\":7,\"token\":3,\"delay_ms\":5}]", "it's \"$1\" ?1"

-- releaseStray 1
/* pgqrs:releaseStray */ update "pgqrs_messages" set state = 'ready', due_at = cast(round(unixepoch('subsec') * 1000) as integer), token = token + 1, holder = null, leased_at = null, lease_until = null where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'leased' and holder = ?2 and not id in (select value from json_each(?3)) returning id;
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", "[7]"

-- replayArchived 1
/* pgqrs:replayArchived */ insert into "pgqrs_messages" (id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, retry, payload, error, redo_before) select id, queue_id, 'ready', priority, cast(round(unixepoch('subsec') * 1000) as integer), enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, retry,
  payload, error, cast(round(unixepoch('subsec') * 1000) as integer) from "pgqrs_archive"
where id in (select id from "pgqrs_archive" where true and id in (select value from json_each(?1)) order by archived_at, id limit ?2) returning id;
-- values: "[1,2]", 2
/* pgqrs:replayArchived */ delete from "pgqrs_archive"
where id in (select id from "pgqrs_archive" where true and id in (select value from json_each(?1)) order by archived_at, id limit ?2) and exists (select 1 from "pgqrs_messages" m where m.id = "pgqrs_archive".id);
-- values: "[1,2]", 2

-- replayArchived 2
/* pgqrs:replayArchived */ insert into "pgqrs_messages" (id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, retry, payload, error, redo_before) select id, queue_id, 'ready', priority, cast(round(unixepoch('subsec') * 1000) as integer), enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, retry,
  payload, error, cast(round(unixepoch('subsec') * 1000) as integer) from "pgqrs_archive"
where id in (select id from "pgqrs_archive" where outcome = 'failed' and queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) order by archived_at, id limit ?2) returning id;
-- values: "queue it's \"$1\" ?1", 100
/* pgqrs:replayArchived */ delete from "pgqrs_archive"
where id in (select id from "pgqrs_archive" where outcome = 'failed' and queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) order by archived_at, id limit ?2) and exists (select 1 from "pgqrs_messages" m where m.id = "pgqrs_archive".id);
-- values: "queue it's \"$1\" ?1", 100

-- reportMetrics 1
/* pgqrs:reportMetrics */ select q.name, case when q.paused_at is null then 0 else 1 end,
  count(m.id) filter (where m.state = 'ready' and m.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)),
  count(m.id) filter (where m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer)),
  count(m.id) filter (where m.state = 'leased'),
  (select count(*) from "pgqrs_archive" a where a.queue_id = q.id and a.outcome = ?1), (select count(*) from "pgqrs_archive" a where a.queue_id = q.id and a.outcome = ?2), (select count(*) from "pgqrs_archive" a where a.queue_id = q.id and a.outcome = ?3),
  cast(round(unixepoch('subsec') * 1000) as integer) - min(m.due_at) filter (where m.state = 'ready' and m.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)),
  cast(round(unixepoch('subsec') * 1000) as integer) - min(m.leased_at),
  max(m.enqueued_at),
  count(m.id) filter (where m.state = 'leased' and m.lease_until <= cast(round(unixepoch('subsec') * 1000) as integer)),
  count(m.id) filter (where m.state in ('blocked', 'paused'))
from "pgqrs_queues" q left join "pgqrs_messages" m on m.queue_id = q.id
where coalesce(?4, q.name) = q.name
group by q.id, q.name, q.paused_at
order by q.name;
-- values: "succeeded", "failed", "cancelled", null

-- reportMetrics 2
/* pgqrs:reportMetrics */ select q.name, case when q.paused_at is null then 0 else 1 end,
  count(m.id) filter (where m.state = 'ready' and m.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)),
  count(m.id) filter (where m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer)),
  count(m.id) filter (where m.state = 'leased'),
  (select count(*) from "pgqrs_archive" a where a.queue_id = q.id and a.outcome = ?1), (select count(*) from "pgqrs_archive" a where a.queue_id = q.id and a.outcome = ?2), (select count(*) from "pgqrs_archive" a where a.queue_id = q.id and a.outcome = ?3),
  cast(round(unixepoch('subsec') * 1000) as integer) - min(m.due_at) filter (where m.state = 'ready' and m.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)),
  cast(round(unixepoch('subsec') * 1000) as integer) - min(m.leased_at),
  max(m.enqueued_at),
  count(m.id) filter (where m.state = 'leased' and m.lease_until <= cast(round(unixepoch('subsec') * 1000) as integer)),
  count(m.id) filter (where m.state in ('blocked', 'paused'))
from "pgqrs_queues" q left join "pgqrs_messages" m on m.queue_id = q.id
where coalesce(?4, q.name) = q.name
group by q.id, q.name, q.paused_at
order by q.name;
-- values: "succeeded", "failed", "cancelled", "queue it's \"$1\" ?1"

-- settleAndClaim 1
/* pgqrs:settleAndClaim */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error, result)
select m.id, m.queue_id, m.priority, m.enqueued_at, m.token, m.max_attempts, m.max_crashes, m.expires_at, m.key, m.type, m.headers, m.retry, m.payload, 'succeeded', i.value ->> 'reason', cast(round(unixepoch('subsec') * 1000) as integer), ?1, cast(round(unixepoch('subsec') * 1000) as integer) - m.leased_at,
  m.attempts, m.crashes, m.error, i.value ->> 'result'
from json_each(?2) i join "pgqrs_messages" m on m.id = i.value ->> 'id'
where m.state = 'leased' and m.holder = ?3 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "it's \"$1\" ?1", "[{\"id\":7,\"token\":3,\"reason\":\"it's \\\"$1\\\" ?1\",\"result\":\"[1]\"}]", "it's \"$1\" ?1"
/* pgqrs:settleAndClaim */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, 'failed', 'crashes', cast(round(unixepoch('subsec') * 1000) as integer), substr(holder, 1, length(holder) - 9), cast(round(unixepoch('subsec') * 1000) as integer) - leased_at, attempts, crashes + 1, error
from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and crashes + 1 >= max_crashes and is_started = 1
order by lease_until limit 100
returning id, ?2, outcome, priority, enqueued_at, enqueued_at, token, null, null, attempts, crashes, max_attempts,
  key, cast(headers as text), cast(payload as text), cast(error as text), max_crashes,
  cast(retry as text), null, expires_at;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:settleAndClaim */ update "pgqrs_messages"
set state = 'ready', due_at = lease_until, token = token + 1,
  crashes = crashes + (is_started = 1 or crashes * 2 < max_crashes and crashes + 1 < max_crashes),
  holder = null, leased_at = null, lease_until = null
where id in (
  select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and (crashes + 1 < max_crashes or is_started = 0)
  order by lease_until limit 100
);
-- values: "queue it's \"$1\" ?1"
/* pgqrs:settleAndClaim */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, 'cancelled', 'expired', cast(round(unixepoch('subsec') * 1000) as integer), ?1, null, attempts, crashes, error
from "pgqrs_messages"
where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2 and q.paused_at is null)
  and state = 'ready' and expires_at is not null and expires_at <= cast(round(unixepoch('subsec') * 1000) as integer)
order by expires_at limit ?3
returning id, ?4, outcome, priority, enqueued_at, enqueued_at, token, null, null, attempts, crashes, max_attempts,
  key, cast(headers as text), cast(payload as text), cast(error as text), max_crashes,
  cast(retry as text), null, expires_at;
-- values: "it'", "queue it's \"$1\" ?1", 110, "queue it's \"$1\" ?1"
/* pgqrs:settleAndClaim */ update "pgqrs_messages"
set state = 'leased', token = token + 1, holder = ?1, leased_at = cast(round(unixepoch('subsec') * 1000) as integer),
  lease_until = cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(?2, (select q.lease_ms from "pgqrs_queues" q where q.id = queue_id), ?3),
  is_started = ?4, waits = null,
  max_attempts = coalesce(retry ->> 'maxAttempts', ?5, (select q.max_attempts from "pgqrs_queues" q where q.id = queue_id))
where id in (
  select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?6 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 9 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?7
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?8 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 8 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?9
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?10 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 7 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?11
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?12 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 6 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?13
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?14 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 5 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?15
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?16 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 4 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?17
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?18 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 3 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?19
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?20 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 2 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?21
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?22 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 1 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?23
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?24 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 0 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?25
  )
  limit coalesce((
    select max(0, min(?26, coalesce(q.concurrency - (select count(*) from "pgqrs_messages" h where h.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?27) and h.state = 'leased'), ?28)))
    from "pgqrs_queues" q where q.name = ?29
  ), 0)
) and coalesce(expires_at > cast(round(unixepoch('subsec') * 1000) as integer), 1)
returning id, ?30,
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at;
-- values: "it's \"$1\" ?1", null, 5000, 0, null, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:settleAndClaim */ select 0, '', 'limited', 0, cast(round(unixepoch('subsec') * 1000) as integer), cast(round(unixepoch('subsec') * 1000) as integer), 0, null, null, q.concurrency <= (select count(*) from "pgqrs_messages" h where h.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and h.state = 'leased'), 0, 0, null, null,
  null, null, 0, null, null, null
from "pgqrs_queues" q where q.name = ?2 and q.concurrency is not null;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:settleAndClaim */ with open(id) as (
  select q.id from "pgqrs_queues" q where q.name = ?1 and q.paused_at is null
      and coalesce(q.concurrency > (select count(*) from "pgqrs_messages" h where h.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and h.state = 'leased'), 1)
)
select 0, '', 'next', 0, min(at), cast(round(unixepoch('subsec') * 1000) as integer), 0, null, null, 0, 0, 0, null, null, null, null, 0, null, null, null
from (
  select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 9
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 8
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 7
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 6
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 5
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 4
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 3
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 2
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 1
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.due_at from "pgqrs_messages" c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = 0
    order by c.due_at limit 1
  ) as at
  union all select (
    select c.lease_until from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?3) and c.state = 'leased'
    order by c.lease_until limit 1
  )
);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"

-- startLeased 1
/* pgqrs:startLeased */ update "pgqrs_messages" as m set is_started = 1 from json_each(?1) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "[{\"id\":7,\"token\":3}]", "it's \"$1\" ?1"

-- takeTurn 1
/* pgqrs:takeTurn */ update "pgqrs_maintenance" set next_at = case when next_at < cast(round(unixepoch('subsec') * 1000) as integer) + ?1 then cast(round(unixepoch('subsec') * 1000) as integer) + ?2 else next_at + ?3 end where id = 1 and next_at <= cast(round(unixepoch('subsec') * 1000) as integer)
returning next_at, key_queue_id, key;
-- values: 60000, 60000, 1

-- takeTurn 2
/* pgqrs:takeTurn */ update "pgqrs_maintenance" set next_at = case when next_at < cast(round(unixepoch('subsec') * 1000) as integer) + ?1 then cast(round(unixepoch('subsec') * 1000) as integer) + ?2 else next_at + ?3 end where id = 1 and true
returning next_at, key_queue_id, key;
-- values: 60000, 60000, 1

-- updateMessage 1
/* pgqrs:updateMessage */ update "pgqrs_messages" set state = case when state in ('blocked', 'paused') then state else 'ready' end, due_at = case when state = 'leased' then cast(round(unixepoch('subsec') * 1000) as integer) else due_at end, priority = coalesce(?1, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null where id = ?2 returning id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at;
-- values: null, 7

-- updateMessage 2
/* pgqrs:updateMessage */ update "pgqrs_messages" set state = case when state in ('blocked', 'paused') then state else 'ready' end, due_at = cast(round(unixepoch('subsec') * 1000) as integer) + ?1, priority = coalesce(?2, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null where id = ?3 returning id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at;
-- values: 5, 9, 7

-- updateMessage 3
/* pgqrs:updateMessage */ update "pgqrs_messages" set state = case when state in ('blocked', 'paused') then state else 'ready' end, due_at = ?1, priority = coalesce(?2, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null where id = ?3 returning id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), expires_at;
-- values: 1900000000123, null, 7

-- updateQueue 1
/* pgqrs:updateQueue */ update "pgqrs_queues" set updated_at = cast(round(unixepoch('subsec') * 1000) as integer), paused_at = coalesce(paused_at, cast(round(unixepoch('subsec') * 1000) as integer)) where name = ?1
returning id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow;
-- values: "queue it's \"$1\" ?1"

-- updateQueue 2
/* pgqrs:updateQueue */ update "pgqrs_queues" set updated_at = cast(round(unixepoch('subsec') * 1000) as integer), is_workflow = true, lease_ms = ?1, max_attempts = ?2, max_crashes = ?3, backoff = ?4, retention_ms = ?5, dead_retention_ms = ?6, concurrency = ?7, paused_at = null where name = ?8
returning id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow;
-- values: null, 5, 10, "{\"note\":\"x\"}", 1000, null, 3, "queue it's \"$1\" ?1"

-- migration 1
/* pgqrs:migrate tables */ create table "pgqrs_queues" (
  id integer primary key autoincrement,
  name text not null unique,
  created_at integer not null,
  updated_at integer not null,
  paused_at integer,
  lease_ms integer,
  max_attempts integer not null,
  max_crashes integer not null,
  backoff text not null,
  retention_ms integer,
  dead_retention_ms integer,
  purged_until integer,
  concurrency integer
);

/* pgqrs:migrate tables */ create table "pgqrs_messages" (
  id integer primary key autoincrement,
  queue_id integer not null,
  state text not null,
  priority integer not null,
  due_at integer not null,
  enqueued_at integer not null,
  token integer not null default 0,
  holder text,
  leased_at integer,
  lease_until integer,
  attempts integer not null default 0,
  crashes integer not null default 0,
  max_attempts integer not null,
  max_crashes integer not null,
  is_started integer not null default 0,
  expires_at integer,
  key text,
  type text,
  headers text,
  retry text,
  payload text not null,
  progress text,
  error text
);

/* pgqrs:migrate tables */ create index "pgqrs_messages_ready" on "pgqrs_messages" (queue_id, priority, due_at, id) where state = 'ready';

/* pgqrs:migrate tables */ create index "pgqrs_messages_leased" on "pgqrs_messages" (queue_id, lease_until) where state = 'leased';

/* pgqrs:migrate tables */ create index "pgqrs_messages_expiring" on "pgqrs_messages" (queue_id, expires_at) where state = 'ready' and expires_at is not null;

/* pgqrs:migrate tables */ create table "pgqrs_archive" (
  id integer primary key,
  queue_id integer not null,
  outcome text not null,
  reason text,
  priority integer not null,
  enqueued_at integer not null,
  archived_at integer not null,
  archived_by text,
  processing_ms integer,
  token integer not null,
  attempts integer not null,
  crashes integer not null,
  max_attempts integer not null,
  max_crashes integer not null,
  expires_at integer,
  key text,
  type text,
  headers text,
  retry text,
  payload text not null,
  error text,
  result text
);

/* pgqrs:migrate tables */ create index "pgqrs_archive_ended" on "pgqrs_archive" (queue_id, archived_at, id);

/* pgqrs:migrate tables */ create index "pgqrs_archive_dead" on "pgqrs_archive" (queue_id, archived_at, id) where outcome = 'failed';

/* pgqrs:migrate tables */ create trigger "pgqrs_archive_takes" after insert on "pgqrs_archive" begin
  delete from "pgqrs_messages" where id = new.id;
end;

/* pgqrs:migrate tables */ create table "pgqrs_keys" (
  queue_id integer not null,
  key text not null,
  message_id integer not null,
  hash text not null,
  hold text not null check (hold in ('default', 'started', 'finished', 'time')),
  expires_at integer,
  primary key (queue_id, key)
) without rowid;

/* pgqrs:migrate tables */ create table "pgqrs_workers" (
  holder text primary key,
  name text not null,
  queues text not null,
  started_at integer not null,
  seen_at integer not null,
  paused_at integer
) without rowid;

/* pgqrs:migrate tables */ create table "pgqrs_maintenance" (
  id integer primary key check (id = 1),
  next_at integer not null,
  key_queue_id integer,
  key text
);

/* pgqrs:migrate tables */ insert into "pgqrs_maintenance" (id, next_at) values (1, 0);

/* pgqrs:recordMigration */ insert into "pgqrs_migrations" (version, name, applied_at, objects)
select 1, 'tables', cast(unixepoch('subsec') * 1000 as integer), (select json_group_object(type || ' ' || name, sql) as objects from sqlite_schema
where type || ' ' || name in (select value from json_each('["table pgqrs_migrations","table pgqrs_queues","table pgqrs_messages","index pgqrs_messages_ready","index pgqrs_messages_leased","table pgqrs_archive","index pgqrs_archive_ended","index pgqrs_archive_dead","table pgqrs_keys","table pgqrs_workers","table pgqrs_maintenance","index pgqrs_messages_expiring","trigger pgqrs_archive_takes"]')));

-- migration 2
/* pgqrs:recordMigration */ insert into "pgqrs_migrations" (version, name, applied_at, objects)
select 2, 'functions', cast(unixepoch('subsec') * 1000 as integer), (select json_group_object(type || ' ' || name, sql) as objects from sqlite_schema
where type || ' ' || name in (select value from json_each('["table pgqrs_migrations","table pgqrs_queues","table pgqrs_messages","index pgqrs_messages_ready","index pgqrs_messages_leased","table pgqrs_archive","index pgqrs_archive_ended","index pgqrs_archive_dead","table pgqrs_keys","table pgqrs_workers","table pgqrs_maintenance","index pgqrs_messages_expiring","trigger pgqrs_archive_takes"]')));

-- migration 3
/* pgqrs:migrate runs */ alter table "pgqrs_messages" add column waits text;

/* pgqrs:migrate runs */ alter table "pgqrs_messages" add column wish text;

/* pgqrs:migrate runs */ alter table "pgqrs_messages" add column redo_before integer;

/* pgqrs:migrate runs */ alter table "pgqrs_queues" add column is_workflow integer not null default 0;

/* pgqrs:migrate runs */ create table "pgqrs_steps" (
  run_id integer not null,
  key text not null,
  place integer not null,
  kind text not null,
  state text not null,
  attempts integer not null default 0,
  due_at integer,
  child_id integer,
  value text,
  size integer,
  error text,
  ending integer,
  started_at integer not null,
  ended_at integer,
  primary key (run_id, key)
) without rowid;

/* pgqrs:migrate runs */ create table "pgqrs_mailbox" (
  id integer primary key autoincrement,
  run_id integer not null,
  topic text not null,
  key text,
  payload text,
  sent_at integer not null,
  taken_by text
);

/* pgqrs:migrate runs */ create unique index "pgqrs_mailbox_key" on "pgqrs_mailbox" (run_id, key) where key is not null;

/* pgqrs:migrate runs */ create index "pgqrs_mailbox_topic" on "pgqrs_mailbox" (run_id, topic, id) where taken_by is null;

/* pgqrs:migrate runs */ create index "pgqrs_mailbox_taken" on "pgqrs_mailbox" (run_id, taken_by);

/* pgqrs:migrate runs */ create trigger "pgqrs_archive_tells" after insert on "pgqrs_archive"
when new.headers ->> '$."pgqrs-parent"' is not null begin
  insert into "pgqrs_mailbox" (run_id, topic, key, payload, sent_at)
  select s.run_id, '$child/' || s.key, 'child:' || new.id || ':' || new.token, json_object(
    'outcome', new.outcome, 'reason', new.reason, 'id', new.id, 'result', json(new.result), 'error', json(new.error)
  ), new.archived_at
  from "pgqrs_steps" s where s.run_id = cast(substr(new.headers ->> '$."pgqrs-parent"', 1, instr(new.headers ->> '$."pgqrs-parent"', '/') - 1) as integer) and s.key = substr(new.headers ->> '$."pgqrs-parent"', instr(new.headers ->> '$."pgqrs-parent"', '/') + 1) and s.child_id = new.id
  on conflict do nothing;
  update "pgqrs_messages" set due_at = new.archived_at
  where id = cast(substr(new.headers ->> '$."pgqrs-parent"', 1, instr(new.headers ->> '$."pgqrs-parent"', '/') - 1) as integer) and state = 'ready' and due_at > new.archived_at and exists (
    select 1 from json_each(waits) w where w.value ->> 'childId' = new.id
  );
end;

/* pgqrs:migrate runs */ create trigger "pgqrs_archive_forgets" after delete on "pgqrs_archive"
when not exists (select 1 from "pgqrs_messages" m where m.id = old.id) begin
  delete from "pgqrs_steps" where run_id = old.id;
  delete from "pgqrs_mailbox" where run_id = old.id;
end;

/* pgqrs:migrate runs */ create view "pgqrs_runs" as
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at, (select count(*) from "pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= cast(round(unixepoch('subsec') * 1000) as integer))) as ended_steps
from (
select m.id, q.name as workflow, case
    when m.state <> 'ready' or m.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) then m.state when m.waits is null then 'delayed' else 'waiting'
  end as status, m.key, m.priority, m.enqueued_at,
  case when m.state = 'ready' and m.due_at < 253402300799000 then m.due_at end as due_at, null as ended_at,
  m.attempts, m.crashes, substr(m.holder, 1, length(m.holder) - 9) as worker, m.lease_until,
  case when (m.state in ('blocked', 'paused') or m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer)) then m.waits end as waits,
  case when m.state = 'blocked' then m.waits -> 0 ->> 'reason' end as reason, m.error, nullif(cast(coalesce(
    m.headers ->> '$."pgqrs-parent"', case when m.key glob '$run/[0-9]*' then substr(m.key, 6) end
  ) as integer), 0) as parent_id,
  q.paused_at as queue_paused_at
from "pgqrs_messages" m join "pgqrs_queues" q on q.id = m.queue_id
where q.is_workflow
union all
select a.id, q.name as workflow, a.outcome as status, a.key, a.priority, a.enqueued_at,
  null as due_at, a.archived_at as ended_at, a.attempts, a.crashes, a.archived_by as worker,
  null as lease_until, null as waits, a.reason, a.error, nullif(cast(coalesce(
    a.headers ->> '$."pgqrs-parent"', case when a.key glob '$run/[0-9]*' then substr(a.key, 6) end
  ) as integer), 0) as parent_id,
  q.paused_at as queue_paused_at
from "pgqrs_archive" a join "pgqrs_queues" q on q.id = a.queue_id
where q.is_workflow
) r;

/* pgqrs:recordMigration */ insert into "pgqrs_migrations" (version, name, applied_at, objects)
select 3, 'runs', cast(unixepoch('subsec') * 1000 as integer), (select json_group_object(type || ' ' || name, sql) as objects from sqlite_schema
where type || ' ' || name in (select value from json_each('["table pgqrs_migrations","table pgqrs_queues","table pgqrs_messages","index pgqrs_messages_ready","index pgqrs_messages_leased","table pgqrs_archive","index pgqrs_archive_ended","index pgqrs_archive_dead","table pgqrs_keys","table pgqrs_workers","table pgqrs_maintenance","index pgqrs_messages_expiring","trigger pgqrs_archive_takes","table pgqrs_steps","table pgqrs_mailbox","index pgqrs_mailbox_key","index pgqrs_mailbox_topic","index pgqrs_mailbox_taken","trigger pgqrs_archive_tells","trigger pgqrs_archive_forgets","view pgqrs_runs"]')));
