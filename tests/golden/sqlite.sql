-- archiveLeased 1
/* pgqrs:archiveLeased */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error, result)
select m.id, m.queue_id, m.priority, m.enqueued_at, m.token, m.max_attempts, m.max_crashes, m.key, m.type, m.headers, m.payload, 'succeeded', i.value ->> 'reason', cast(round(unixepoch('subsec') * 1000) as integer), ?1, cast(round(unixepoch('subsec') * 1000) as integer) - m.leased_at,
  m.attempts, m.crashes, m.error, i.value ->> 'result'
from json_each(?2) i join "pgqrs_messages" m on m.id = i.value ->> 'id'
where m.state = 'leased' and m.holder = ?3 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "it's \"$1\" ?1", "[{\"id\":7,\"token\":3,\"reason\":\"it's \\\"$1\\\" ?1\",\"result\":\"[1]\"}]", "it's \"$1\" ?1"

-- claimMessages 1
/* pgqrs:claimMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, 'failed', 'crashes', cast(round(unixepoch('subsec') * 1000) as integer), substr(holder, 1, length(holder) - 9), cast(round(unixepoch('subsec') * 1000) as integer) - leased_at, attempts, crashes + 1, error
from "pgqrs_messages" where state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and crashes + 1 >= max_crashes order by lease_until limit 100;
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'ready', due_at = lease_until, token = token + 1, crashes = crashes + 1,
  holder = null, leased_at = null, lease_until = null
where id in (
  select id from "pgqrs_messages" where state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and crashes + 1 < max_crashes order by lease_until limit 100
);
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'leased', token = token + 1, holder = ?1, leased_at = cast(round(unixepoch('subsec') * 1000) as integer),
  lease_until = cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(?2, (select q.lease_ms from "pgqrs_queues" q where q.id = queue_id), ?3)
where id in (
  select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?4 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 9 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?5
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?6 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 8 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?7
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?8 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 7 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?9
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?10 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 6 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?11
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?12 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 5 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?13
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?14 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 4 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?15
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?16 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 3 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?17
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?18 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 2 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?19
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?20 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 1 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?21
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?22 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 0 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    order by c.due_at, c.id limit ?23
  )
  limit ?24
)
returning id, ?25,
  case when state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' else state end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text);
-- values: "it's \"$1\" ?1", null, 5000, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", 10, 10, "queue it's \"$1\" ?1"

-- claimMessages 2
/* pgqrs:claimMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, 'failed', 'crashes', cast(round(unixepoch('subsec') * 1000) as integer), substr(holder, 1, length(holder) - 9), cast(round(unixepoch('subsec') * 1000) as integer) - leased_at, attempts, crashes + 1, error
from "pgqrs_messages" where state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and crashes + 1 >= max_crashes order by lease_until limit 100;
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'ready', due_at = lease_until, token = token + 1, crashes = crashes + 1,
  holder = null, leased_at = null, lease_until = null
where id in (
  select id from "pgqrs_messages" where state = 'leased' and lease_until <= cast(round(unixepoch('subsec') * 1000) as integer) and crashes + 1 < max_crashes order by lease_until limit 100
);
/* pgqrs:claimMessages */ update "pgqrs_messages"
set state = 'leased', token = token + 1, holder = ?1, leased_at = cast(round(unixepoch('subsec') * 1000) as integer),
  lease_until = cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(?2, (select q.lease_ms from "pgqrs_queues" q where q.id = queue_id), ?3)
where id in (
  select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?4 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 9 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?5
    order by c.due_at, c.id limit ?6
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?7 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 8 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?8
    order by c.due_at, c.id limit ?9
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?10 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 7 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?11
    order by c.due_at, c.id limit ?12
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?13 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 6 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?14
    order by c.due_at, c.id limit ?15
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?16 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 5 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?17
    order by c.due_at, c.id limit ?18
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?19 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 4 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?20
    order by c.due_at, c.id limit ?21
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?22 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 3 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?23
    order by c.due_at, c.id limit ?24
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?25 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 2 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?26
    order by c.due_at, c.id limit ?27
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?28 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 1 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?29
    order by c.due_at, c.id limit ?30
  )
  union all select id from (
    select c.id from "pgqrs_messages" c
    where c.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?31 and q.paused_at is null)
      and c.state = 'ready' and c.priority = 0 and c.due_at <= cast(round(unixepoch('subsec') * 1000) as integer) and type = ?32
    order by c.due_at, c.id limit ?33
  )
  limit ?34
)
returning id, ?35,
  case when state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' else state end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text);
-- values: "it's \"$1\" ?1", 1000, 5000, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, "queue it's \"$1\" ?1", "it's \"$1\" ?1", 10, 10, "queue it's \"$1\" ?1"

-- countArchived 1
/* pgqrs:countArchived */ select count(*) from "pgqrs_archive" where true;

-- countArchived 2
/* pgqrs:countArchived */ select count(*) from "pgqrs_archive" where outcome = 'failed' and queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and reason = ?2 and type = ?3 and key = ?4 and archived_by = ?5 and archived_at < ?6 and archived_at >= ?7 and archived_at < (
  select cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms from "pgqrs_queues" q where q.id = queue_id
);
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", 1900000000000, 1800000000123

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
  name, created_at, updated_at, paused_at, lease_ms, max_attempts, max_crashes, backoff, retention_ms
)
select ?1, cast(round(unixepoch('subsec') * 1000) as integer), cast(round(unixepoch('subsec') * 1000) as integer), null, ?2, ?3,
  ?4, ?5, ?6
where true
on conflict (name) do nothing
returning id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms;
-- values: "queue it's \"$1\" ?1", null, 5, 10, "{\"note\":\"x\"}", 1000

-- createQueue 2
/* pgqrs:createQueue */ insert into "pgqrs_queues" (
  name, created_at, updated_at, paused_at, lease_ms, max_attempts, max_crashes, backoff, retention_ms
)
select ?1, cast(round(unixepoch('subsec') * 1000) as integer), cast(round(unixepoch('subsec') * 1000) as integer), cast(round(unixepoch('subsec') * 1000) as integer), ?2, ?3,
  ?4, ?5, ?6
where true
on conflict (name) do nothing
returning id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms;
-- values: "queue it's \"$1\" ?1", null, 5, 10, "{\"note\":\"x\"}", 1000

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
/* pgqrs:deleteMessages */ delete from "pgqrs_messages" where id in (select value from json_each(?1)) returning id;
-- values: "[1,2]"

-- deleteQueue 1
/* pgqrs:deleteQueue */ delete from "pgqrs_keys" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and not exists (select 1 from "pgqrs_messages" m where m.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2));
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_archive" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and not exists (select 1 from "pgqrs_messages" m where m.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2));
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_queues" where name = ?1 and not exists (select 1 from "pgqrs_messages" m where m.queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2)) returning id;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"

-- deleteQueue 2
/* pgqrs:deleteQueue */ delete from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1);
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_keys" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and true;
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_archive" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and true;
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "pgqrs_queues" where name = ?1 and true returning id;
-- values: "queue it's \"$1\" ?1"

-- dropObject 1
/* pgqrs:dropObject */ drop table if exists "pgqrs_keys";

-- dropObject 2
/* pgqrs:dropObject */ drop function if exists "pgqrs_claim"(p_queue text);

-- endMessages 1
/* pgqrs:endMessages */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, ?1, ?2, cast(round(unixepoch('subsec') * 1000) as integer), ?3, cast(round(unixepoch('subsec') * 1000) as integer) - leased_at, attempts, crashes, error
from "pgqrs_messages" where id in (select value from json_each(?4))
returning id;
-- values: "cancelled", "it's \"$1\" ?1", "it's \"$1\" ?1", "[1,2]"

-- enqueueMessages 1
/* pgqrs:enqueueMessages */ insert into "pgqrs_messages" (
  queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, type, headers, payload
)
select q.id, 'ready', ?1, coalesce(?2, cast(round(unixepoch('subsec') * 1000) as integer) + ?3), cast(round(unixepoch('subsec') * 1000) as integer),
  coalesce(?4, q.max_attempts), q.max_crashes, ?5 ->> 'type', ?6, i.value
from json_each(?7) i join "pgqrs_queues" q on q.name = ?8
order by i.key;
-- values: 9, null, 5, 2, "{\"type\":\"mail\"}", "{\"type\":\"mail\"}", "[\"1\",\"\\\"two\\\"\"]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ select json_object('at', enqueued_at, 'last', id, 'max_attempts', max_attempts) from "pgqrs_messages"
where id = last_insert_rowid() and exists (select 1 from "pgqrs_queues" q where q.name = ?1);
-- values: "queue it's \"$1\" ?1"

-- enqueueMessages 2
/* pgqrs:enqueueMessages */ insert into "pgqrs_messages" (
  queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, type, headers, payload
)
select q.id, 'ready', ?1, coalesce(?2, cast(round(unixepoch('subsec') * 1000) as integer) + ?3), cast(round(unixepoch('subsec') * 1000) as integer),
  coalesce(?4, q.max_attempts), q.max_crashes, ?5 ->> 'type', ?6, i.value
from json_each(?7) i join "pgqrs_queues" q on q.name = ?8
order by i.key;
-- values: 0, 1900000000000, 0, null, null, null, "[\"1\"]", "queue it's \"$1\" ?1"
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
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"max_attempts\":2,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ insert into "pgqrs_keys" (queue_id, key, message_id, hash, hold, expires_at)
select q.id, i.value ->> 'key', (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?1, i.value ->> 'hash', i.value ->> 'hold', cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'hold_ms')
from json_each(?2) i cross join "pgqrs_queues" q on q.name = ?3
where i.value ->> 'key' is not null
on conflict do nothing;
-- values: 0, "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"max_attempts\":2,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ insert into "pgqrs_keys" (queue_id, key, message_id, hash, hold)
select q.id, i.value ->> 'key', null, '', 'default'
from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
where k.message_id <> (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?3 and case i.value ->> 'conflict'
    when 'reject' then 1
    when 'replace' then k.hash <> i.value ->> 'hash'
      and not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
    else k.hash <> i.value ->> 'hash'
  end;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"max_attempts\":2,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1", 0
/* pgqrs:enqueueMessages */ insert into "pgqrs_messages" (
  id, queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, key, type, headers, payload
)
select (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?1, q.id, 'ready', coalesce(i.value ->> 'priority', 0), coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)), cast(round(unixepoch('subsec') * 1000) as integer),
  coalesce(i.value ->> 'max_attempts', q.max_attempts), q.max_crashes,
  i.value ->> 'key', (i.value ->> 'headers') ->> 'type', i.value ->> 'headers', i.value ->> 'payload'
from json_each(?2) i cross join "pgqrs_queues" q on q.name = ?3
where i.value ->> 'key' is null
  or exists (select 1 from "pgqrs_keys" k where k.queue_id = q.id and k.key = i.value ->> 'key' and k.message_id = (select coalesce(max(s.seq), 0) from sqlite_sequence s where s.name = 'pgqrs_messages') + (i.value ->> 'n') - ?4)
order by i.key
returning json_object(
  'id', id, 'at', enqueued_at, 'max_attempts', max_attempts, 'n', case when key is not null then 0 end
);
-- values: 0, "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"max_attempts\":2,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1", 0
/* pgqrs:enqueueMessages */ with i as materialized (
  select i.value, q.id as queue_id, q.max_attempts, k.key, k.message_id
  from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
  where i.value ->> 'conflict' = 'replace'
    and exists (select 1 from "pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
)
update "pgqrs_messages" as m
set payload = i.value ->> 'payload', headers = i.value ->> 'headers', type = (i.value ->> 'headers') ->> 'type',
  priority = coalesce(i.value ->> 'priority', 0), due_at = coalesce(i.value ->> 'at_ms', cast(round(unixepoch('subsec') * 1000) as integer) + coalesce(i.value ->> 'delay_ms', 0)),
  max_attempts = coalesce(i.value ->> 'max_attempts', i.max_attempts)
from i
where m.id = i.message_id;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"max_attempts\":2,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"
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
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"max_attempts\":2,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"
/* pgqrs:enqueueMessages */ select json_object(
  'n', i.value ->> 'n', 'id', k.message_id, 'at', cast(round(unixepoch('subsec') * 1000) as integer),
  'state', coalesce(case when m.state = 'ready' and m.due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' end, m.state, a.outcome, 'deleted'),
  'priority', m.priority, 'attempts', m.attempts, 'max_attempts', m.max_attempts,
  'enqueued_at', m.enqueued_at, 'due_at', m.due_at
)
from json_each(?1) i cross join "pgqrs_queues" q on q.name = ?2 cross join "pgqrs_keys" k on k.queue_id = q.id and k.key = i.value ->> 'key'
left join "pgqrs_messages" m on m.id = k.message_id
left join "pgqrs_archive" a on a.id = k.message_id;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"payload\":\"1\",\"n\":1},{\"delay_ms\":5,\"priority\":9,\"max_attempts\":2,\"headers\":\"{\\\"type\\\":\\\"mail\\\"}\",\"payload\":\"\\\"two\\\"\",\"n\":2}]", "queue it's \"$1\" ?1"

-- extendLeased 1
/* pgqrs:extendLeased */ update "pgqrs_messages" as m
set lease_until = max(m.lease_until, cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'lease_ms'))
from json_each(?1) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "[{\"id\":7,\"token\":3,\"lease_ms\":5}]", "it's \"$1\" ?1"

-- failLeased 1
/* pgqrs:failLeased */ insert into "pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select m.id, m.queue_id, m.priority, m.enqueued_at, m.token, m.max_attempts, m.max_crashes, m.key, m.type, m.headers, m.payload, 'failed',
  case when m.attempts + 1 >= m.max_attempts then 'attempts' else 'not_retryable' end,
  cast(round(unixepoch('subsec') * 1000) as integer), ?1, cast(round(unixepoch('subsec') * 1000) as integer) - m.leased_at, m.attempts + 1, m.crashes, i.value ->> 'error'
from json_each(?2) i join "pgqrs_messages" m on m.id = i.value ->> 'id'
where m.state = 'leased' and m.holder = ?3 and m.token = coalesce(i.value ->> 'token', m.token) and (m.attempts + 1 >= m.max_attempts or i.value ->> 'is_final' = 1)
returning id;
-- values: "it's \"$1\" ?1", "[{\"id\":7,\"token\":3,\"error\":\"{\\\"message\\\":\\\"x\\\"}\",\"delay_ms\":5,\"is_final\":0}]", "it's \"$1\" ?1"
/* pgqrs:failLeased */ update "pgqrs_messages" as m
set state = 'ready', due_at = cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'delay_ms'), token = m.token + 1, attempts = m.attempts + 1,
  error = i.value ->> 'error', holder = null, leased_at = null, lease_until = null
from json_each(?1) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "[{\"id\":7,\"token\":3,\"error\":\"{\\\"message\\\":\\\"x\\\"}\",\"delay_ms\":5,\"is_final\":0}]", "it's \"$1\" ?1"

-- findArchived 1
/* pgqrs:findArchived */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id), outcome, priority,
  enqueued_at, archived_at, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text), cast(result as text) from "pgqrs_archive" where id = ?1;
-- values: 7

-- findMessage 1
/* pgqrs:findMessage */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case when state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' else state end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text) from "pgqrs_messages" where id = ?1;
-- values: 7

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

-- findQueue 1
/* pgqrs:findQueue */ select id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms from "pgqrs_queues" where name = ?1;
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

-- listAttempts 1
/* pgqrs:listAttempts */ select id, attempts from "pgqrs_messages" where id in (select value from json_each(?1));
-- values: "[1,2]"

-- listArchived 1
/* pgqrs:listArchived */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id), outcome, priority,
  enqueued_at, archived_at, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text), cast(result as text) from "pgqrs_archive" where id in (select a.id from "pgqrs_queues" q cross join "pgqrs_archive" a on a.id in (select id from "pgqrs_archive" where queue_id = q.id and true order by archived_at desc, id desc limit ?1))
order by archived_at desc, id desc limit ?2 offset ?3;
-- values: 30, 10, 20

-- listArchived 2
/* pgqrs:listArchived */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id), outcome, priority,
  enqueued_at, archived_at, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text), cast(result as text) from "pgqrs_archive" where outcome = 'failed' and queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and reason = ?2 and type = ?3 and key = ?4 and archived_by = ?5 and archived_at < ?6 and archived_at >= ?7 and (archived_at, id) < (?8, ?9)
order by archived_at desc, id desc limit ?10 offset ?11;
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", 1900000000000, 1800000000123, 1900000000000, 7, 10, 0

-- listHolders 1
/* pgqrs:listHolders */ select m.holder, q.name, count(*), min(m.leased_at), max(m.lease_until),
  count(*) filter (where m.lease_until <= cast(round(unixepoch('subsec') * 1000) as integer))
from "pgqrs_messages" m join "pgqrs_queues" q on q.id = m.queue_id
where m.state = 'leased'
group by m.holder, q.name
order by m.holder, q.name;

-- listMessages 1
/* pgqrs:listMessages */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case when state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' else state end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text) from "pgqrs_messages" where id > ?1 order by id limit ?2;
-- values: 0, 10

-- listMessages 2
/* pgqrs:listMessages */ select id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case when state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' else state end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text) from "pgqrs_messages" where id > ?1 and queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and type = ?3 and key = ?4 and state = 'leased' order by id limit ?5;
-- values: 7, "queue it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", 10

-- listMigrations 1
/* pgqrs:listMigrations */ select version, name, cast(objects as text) from "pgqrs_migrations" order by version;

-- listQueues 1
/* pgqrs:listQueues */ select id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms from "pgqrs_queues" order by name;

-- lockMigrations 1
/* pgqrs:lockMigrations */ select 1;

-- ping 1
/* pgqrs:ping */ select cast(round(unixepoch('subsec') * 1000) as integer);

-- purgeArchived 1
/* pgqrs:purgeArchived */ delete from "pgqrs_archive" where id in (select id from "pgqrs_archive" where true and archived_at < (
  select cast(round(unixepoch('subsec') * 1000) as integer) - q.retention_ms from "pgqrs_queues" q where q.id = queue_id
) order by archived_at, id limit ?1);
-- values: 100
/* pgqrs:purgeArchived */ select changes();

-- purgeKeys 1
/* pgqrs:purgeKeys */ select queue_id, key from (select queue_id, key from "pgqrs_keys" where true order by queue_id, key limit ?1) order by queue_id desc, key desc limit 1;
-- values: 100
/* pgqrs:purgeKeys */ delete from "pgqrs_keys" as k where (queue_id, key) in (select queue_id, key from "pgqrs_keys" where true order by queue_id, key limit ?1) and case k.hold
    when 'started' then not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id)
    when 'finished' then not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id)
    when 'time' then k.expires_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    else k.expires_at <= cast(round(unixepoch('subsec') * 1000) as integer) and not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id)
  end;
-- values: 100

-- purgeKeys 2
/* pgqrs:purgeKeys */ select queue_id, key from (select queue_id, key from "pgqrs_keys" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and (queue_id, key) > (?2, ?3) order by queue_id, key limit ?4) order by queue_id desc, key desc limit 1;
-- values: "queue it's \"$1\" ?1", 7, "it's \"$1\" ?1", 100
/* pgqrs:purgeKeys */ delete from "pgqrs_keys" as k where (queue_id, key) in (select queue_id, key from "pgqrs_keys" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and (queue_id, key) > (?2, ?3) order by queue_id, key limit ?4) and case k.hold
    when 'started' then not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id)
    when 'finished' then not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id)
    when 'time' then k.expires_at <= cast(round(unixepoch('subsec') * 1000) as integer)
    else k.expires_at <= cast(round(unixepoch('subsec') * 1000) as integer) and not exists (select 1 from "pgqrs_messages" m where m.id = k.message_id)
  end;
-- values: "queue it's \"$1\" ?1", 7, "it's \"$1\" ?1", 100

-- purgeQueue 1
/* pgqrs:purgeQueue */ delete from "pgqrs_messages" where id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'ready' limit ?2);
-- values: "queue it's \"$1\" ?1", 2000
/* pgqrs:purgeQueue */ select changes();

-- purgeQueue 2
/* pgqrs:purgeQueue */ delete from "pgqrs_messages" where id in (select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?1) and state = 'ready' union all select id from "pgqrs_messages" where queue_id = (select q.id from "pgqrs_queues" q where q.name = ?2) and state = 'leased' limit ?3);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", 2000
/* pgqrs:purgeQueue */ select changes();

-- releaseHeld 1
/* pgqrs:releaseHeld */ update "pgqrs_messages" set state = 'ready', due_at = cast(round(unixepoch('subsec') * 1000) as integer), token = token + 1, holder = null, leased_at = null, lease_until = null where state = 'leased' and substr(holder, 1, length(holder) - 9) = ?1 returning id;
-- values: "it's \"$1\" ?1"

-- releaseLeased 1
/* pgqrs:releaseLeased */ update "pgqrs_messages" as m
set state = 'ready', due_at = cast(round(unixepoch('subsec') * 1000) as integer) + (i.value ->> 'delay_ms'), token = m.token + 1,
  holder = null, leased_at = null, lease_until = null
from json_each(?1) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ?2 and m.token = coalesce(i.value ->> 'token', m.token)
returning id;
-- values: "[{\"id\":7,\"token\":3,\"delay_ms\":5}]", "it's \"$1\" ?1"

-- replayArchived 1
/* pgqrs:replayArchived */ insert into "pgqrs_messages" (id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, error) select id, queue_id, 'ready', priority, cast(round(unixepoch('subsec') * 1000) as integer), enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, payload, error from "pgqrs_archive"
where id in (select id from "pgqrs_archive" where true and id in (select value from json_each(?1)) order by archived_at, id limit ?2) returning id;
-- values: "[1,2]", 2
/* pgqrs:replayArchived */ delete from "pgqrs_archive"
where id in (select id from "pgqrs_archive" where true and id in (select value from json_each(?1)) order by archived_at, id limit ?2) and exists (select 1 from "pgqrs_messages" m where m.id = "pgqrs_archive".id);
-- values: "[1,2]", 2

-- replayArchived 2
/* pgqrs:replayArchived */ insert into "pgqrs_messages" (id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, payload, error) select id, queue_id, 'ready', priority, cast(round(unixepoch('subsec') * 1000) as integer), enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, payload, error from "pgqrs_archive"
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
  max(m.enqueued_at)
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
  max(m.enqueued_at)
from "pgqrs_queues" q left join "pgqrs_messages" m on m.queue_id = q.id
where coalesce(?4, q.name) = q.name
group by q.id, q.name, q.paused_at
order by q.name;
-- values: "succeeded", "failed", "cancelled", "queue it's \"$1\" ?1"

-- updateMessage 1
/* pgqrs:updateMessage */ update "pgqrs_messages"
set state = 'ready', due_at = case when state = 'leased' then cast(round(unixepoch('subsec') * 1000) as integer) else due_at end, priority = coalesce(?1, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null
where id = ?2
returning id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case when state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' else state end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text);
-- values: null, 7

-- updateMessage 2
/* pgqrs:updateMessage */ update "pgqrs_messages"
set state = 'ready', due_at = cast(round(unixepoch('subsec') * 1000) as integer) + ?1, priority = coalesce(?2, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null
where id = ?3
returning id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case when state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' else state end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text);
-- values: 5, 9, 7

-- updateMessage 3
/* pgqrs:updateMessage */ update "pgqrs_messages"
set state = 'ready', due_at = ?1, priority = coalesce(?2, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null
where id = ?3
returning id, (select q.name from "pgqrs_queues" q where q.id = queue_id),
  case when state = 'ready' and due_at > cast(round(unixepoch('subsec') * 1000) as integer) then 'delayed' else state end,
  priority, due_at, enqueued_at, token, holder, lease_until,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text);
-- values: 1900000000123, null, 7

-- updateQueue 1
/* pgqrs:updateQueue */ update "pgqrs_queues" set updated_at = cast(round(unixepoch('subsec') * 1000) as integer), paused_at = coalesce(paused_at, cast(round(unixepoch('subsec') * 1000) as integer)) where name = ?1 returning id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms;
-- values: "queue it's \"$1\" ?1"

-- updateQueue 2
/* pgqrs:updateQueue */ update "pgqrs_queues" set updated_at = cast(round(unixepoch('subsec') * 1000) as integer), lease_ms = ?1, max_attempts = ?2, max_crashes = ?3, backoff = ?4, retention_ms = ?5, paused_at = null where name = ?6 returning id, name, created_at as created_ms,
  updated_at as updated_ms, paused_at as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms;
-- values: null, 5, 10, "{\"note\":\"x\"}", 1000, "queue it's \"$1\" ?1"

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
  retention_ms integer
);

/* pgqrs:migrate tables */ create table "pgqrs_messages" (
  id integer primary key autoincrement,
  queue_id integer not null,
  state text not null check (state in ('ready', 'leased')),
  priority integer not null check (priority between 0 and 9),
  due_at integer not null,
  enqueued_at integer not null,
  token integer not null default 0,
  holder text,
  leased_at integer,
  lease_until integer,
  attempts integer not null default 0,
  crashes integer not null default 0,
  max_attempts integer not null check (max_attempts > 0),
  max_crashes integer not null check (max_crashes > 0),
  key text,
  type text,
  headers text,
  payload text not null,
  error text
);

/* pgqrs:migrate tables */ create index "pgqrs_messages_ready" on "pgqrs_messages" (queue_id, priority, due_at, id) where state = 'ready';

/* pgqrs:migrate tables */ create index "pgqrs_messages_leased" on "pgqrs_messages" (lease_until) where state = 'leased';

/* pgqrs:migrate tables */ create table "pgqrs_archive" (
  id integer primary key,
  queue_id integer not null,
  outcome text not null check (outcome in ('succeeded', 'failed', 'cancelled')),
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
  key text,
  type text,
  headers text,
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

/* pgqrs:recordMigration */ insert into "pgqrs_migrations" (version, name, applied_at, objects)
select 1, 'tables', cast(unixepoch('subsec') * 1000 as integer), (select json_group_object(type || ' ' || name, sql) as objects from sqlite_schema
where type || ' ' || name in (select value from json_each('["table pgqrs_migrations","table pgqrs_queues","table pgqrs_messages","index pgqrs_messages_ready","index pgqrs_messages_leased","table pgqrs_archive","index pgqrs_archive_ended","index pgqrs_archive_dead","table pgqrs_keys","trigger pgqrs_archive_takes"]')));

-- migration 2
/* pgqrs:recordMigration */ insert into "pgqrs_migrations" (version, name, applied_at, objects)
select 2, 'functions', cast(unixepoch('subsec') * 1000 as integer), (select json_group_object(type || ' ' || name, sql) as objects from sqlite_schema
where type || ' ' || name in (select value from json_each('["table pgqrs_migrations","table pgqrs_queues","table pgqrs_messages","index pgqrs_messages_ready","index pgqrs_messages_leased","table pgqrs_archive","index pgqrs_archive_ended","index pgqrs_archive_dead","table pgqrs_keys","trigger pgqrs_archive_takes"]')));
