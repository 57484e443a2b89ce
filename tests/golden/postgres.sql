-- archiveLeased 1
/* pgqrs:archiveLeased */ select i from "public"."pgqrs_archive_leased"($1::text::json, $2::text, $3::text, null) i;
-- values: "[{\"id\":7,\"token\":3,\"reason\":\"it's \\\"$1\\\" ?1\",\"result\":[1]}]", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- archiveLeased 2
/* pgqrs:archiveLeased */ select i from (select set_config('lock_timeout', $1::text, true) as ms) l
cross join lateral "public"."pgqrs_archive_leased"($2::text::json, case when l.ms is not null then $3::text end, $4::text, null) i;
-- values: "500", "[{\"id\":7,\"token\":3,\"reason\":\"it's \\\"$1\\\" ?1\",\"result\":[1]}]", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- beat 1
/* pgqrs:beat */ select id, fate from "public"."pgqrs_beat"($1::text::json, $2::text, null) union all select 0, 'paused' from "public"."pgqrs_workers" where holder = $3::text and paused_at is not null;
-- values: "[{\"id\":7,\"token\":3,\"lease_ms\":5}]", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- claimMessages 1
/* pgqrs:claimMessages */ select id, $1::text,
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_claim"(
  $2::text, $3::text::bigint, $4::text::bigint, $5::text::bigint, $6::text, $7::text, $8::text::bigint, false, null
);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "10", null, "5000", "it's \"$1\" ?1", null, null

-- claimMessages 2
/* pgqrs:claimMessages */ select id, $1::text,
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_claim"(
  $2::text, $3::text::bigint, $4::text::bigint, $5::text::bigint, $6::text, $7::text, $8::text::bigint, false, null
);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "10", "1000", "5000", "it's \"$1\" ?1", "it's \"$1\" ?1", null

-- claimMessages 3
/* pgqrs:claimMessages */ select id, $1::text,
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_claim"(
  $2::text, $3::text::bigint, $4::text::bigint, $5::text::bigint, $6::text, $7::text, $8::text::bigint, true, null
);
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "10", null, "5000", "it's \"$1\" ?1", null, "3"

-- countArchived 1
/* pgqrs:countArchived */ select count(*) from "public"."pgqrs_archive" where true;

-- countArchived 2
/* pgqrs:countArchived */ select count(*) from "public"."pgqrs_archive" where outcome = 'failed' and queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and reason = $2::text and type = $3::text and key = $4::text and archived_by = $5::text and archived_at < date_trunc('milliseconds', to_timestamp(($6::text::numeric / 1000)::float8) + interval '500 microseconds') and archived_at >= date_trunc('milliseconds', to_timestamp(($7::text::numeric / 1000)::float8) + interval '500 microseconds') and archived_at < (select case
    when q.retention_ms < q.dead_retention_ms or q.dead_retention_ms is null then date_trunc('milliseconds', statement_timestamp()) - q.retention_ms * interval '1 millisecond'
    else date_trunc('milliseconds', statement_timestamp()) - q.dead_retention_ms * interval '1 millisecond'
  end from "public"."pgqrs_queues" q where q.name = $8::text) and archived_at < (
  select case when outcome = 'failed' then date_trunc('milliseconds', statement_timestamp()) - q.dead_retention_ms * interval '1 millisecond' else date_trunc('milliseconds', statement_timestamp()) - q.retention_ms * interval '1 millisecond' end
  from "public"."pgqrs_queues" q where q.id = queue_id
);
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "1900000000000", "1800000000123", "queue it's \"$1\" ?1"

-- countRuns 1
/* pgqrs:countRuns */ select q.name, case when q.paused_at is null then 0 else 1 end, count(m.id) filter (where m.state = 'ready' and m.due_at <= date_trunc('milliseconds', statement_timestamp())),
  count(m.id) filter (where m.state = 'ready' and m.due_at > date_trunc('milliseconds', statement_timestamp()) and m.waits is null),
  count(m.id) filter (where m.state = 'leased'),
  count(m.id) filter (where m.state = 'ready' and m.due_at > date_trunc('milliseconds', statement_timestamp()) and m.waits is not null),
  count(m.id) filter (where m.state = 'paused'),
  count(m.id) filter (where m.state = 'blocked'),
  (select count(*) from "public"."pgqrs_archive" a where a.queue_id = q.id and a.outcome = $1::text), (select count(*) from "public"."pgqrs_archive" a where a.queue_id = q.id and a.outcome = $2::text), (select count(*) from "public"."pgqrs_archive" a where a.queue_id = q.id and a.outcome = $3::text)
from "public"."pgqrs_queues" q left join "public"."pgqrs_messages" m on m.queue_id = q.id
where q.is_workflow
group by q.id, q.name, q.paused_at
order by q.name;
-- values: "succeeded", "failed", "cancelled"

-- countMessages 1
/* pgqrs:countMessages */ select count(*) from "public"."pgqrs_messages" where id > $1::text::bigint;
-- values: "0"

-- countMessages 2
/* pgqrs:countMessages */ select count(*) from "public"."pgqrs_messages" where id > $1::text::bigint and state = 'ready' and due_at <= date_trunc('milliseconds', statement_timestamp());
-- values: "0"

-- countMessages 3
/* pgqrs:countMessages */ select count(*) from "public"."pgqrs_messages" where id > $1::text::bigint and state = 'ready' and due_at > date_trunc('milliseconds', statement_timestamp());
-- values: "0"

-- createMigrationsTable 1
/* pgqrs:createMigrationsTable */ create table if not exists "public"."pgqrs_migrations" (
  version integer primary key,
  name text not null,
  applied_at timestamptz not null,
  objects json not null
);

-- createQueue 1
/* pgqrs:createQueue */ insert into "public"."pgqrs_queues" (
  name, created_at, updated_at, paused_at, lease_ms, max_attempts, max_crashes, backoff, retention_ms,
  dead_retention_ms, concurrency, is_workflow
)
select $1::text, date_trunc('milliseconds', statement_timestamp()), date_trunc('milliseconds', statement_timestamp()), null, $2::text::bigint, $3::text::bigint,
  $4::text::bigint, $5::text::json, $6::text::bigint, $7::text::bigint, $8::text::bigint, false
where true
on conflict (name) do nothing
returning id, name, round(date_part('epoch', created_at) * 1000)::bigint as created_ms,
  round(date_part('epoch', updated_at) * 1000)::bigint as updated_ms, round(date_part('epoch', paused_at) * 1000)::bigint as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow;
-- values: "queue it's \"$1\" ?1", null, "5", "10", "{\"note\":\"x\"}", "1000", null, "3"

-- createQueue 2
/* pgqrs:createQueue */ insert into "public"."pgqrs_queues" (
  name, created_at, updated_at, paused_at, lease_ms, max_attempts, max_crashes, backoff, retention_ms,
  dead_retention_ms, concurrency, is_workflow
)
select $1::text, date_trunc('milliseconds', statement_timestamp()), date_trunc('milliseconds', statement_timestamp()), date_trunc('milliseconds', statement_timestamp()), $2::text::bigint, $3::text::bigint,
  $4::text::bigint, $5::text::json, $6::text::bigint, $7::text::bigint, $8::text::bigint, true
where true
on conflict (name) do nothing
returning id, name, round(date_part('epoch', created_at) * 1000)::bigint as created_ms,
  round(date_part('epoch', updated_at) * 1000)::bigint as updated_ms, round(date_part('epoch', paused_at) * 1000)::bigint as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow;
-- values: "queue it's \"$1\" ?1", null, "5", "10", "{\"note\":\"x\"}", "1000", null, "3"

-- createSchema 1
/* pgqrs:createSchema */ create schema if not exists "pgqrs";

-- deleteLeased 1
/* pgqrs:deleteLeased */ select i from "public"."pgqrs_delete_leased"($1::text::json, $2::text) i;
-- values: "[{\"id\":5,\"token\":null},{\"id\":7,\"token\":3}]", "it's \"$1\" ?1"

-- deleteMessages 1
/* pgqrs:deleteMessages */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where id = any($1::text::bigint[]) order by id for update
), steps as (
  delete from "public"."pgqrs_steps" where run_id in (select id from held)
), mail as (
  delete from "public"."pgqrs_mailbox" where run_id in (select id from held)
)
delete from "public"."pgqrs_messages" where id = any (array(select id from held)) returning id, case when state = 'leased' then pg_notify('pgqrs_public', 'control')::text end;
-- values: "{1,2}"

-- deleteQueue 1
/* pgqrs:deleteQueue */ select 1 where set_config('lock_timeout', '200ms', true) is null;
/* pgqrs:deleteQueue */ select 1 where pg_advisory_xact_lock(hashtextextended('pgqrs:queue:' || $1::text, 0))::text is null;
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ select 1 where pg_advisory_xact_lock(hashtextextended('pgqrs:replay', 0))::text is null;
/* pgqrs:deleteQueue */ delete from "public"."pgqrs_keys" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and not exists (select 1 from "public"."pgqrs_messages" m where m.queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $2::text));
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "public"."pgqrs_archive" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and not exists (select 1 from "public"."pgqrs_messages" m where m.queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $2::text));
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "public"."pgqrs_queues" where name = $1::text and not exists (select 1 from "public"."pgqrs_messages" m where m.queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $2::text))
returning id;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1"

-- deleteQueue 2
/* pgqrs:deleteQueue */ select 1 where set_config('lock_timeout', '200ms', true) is null;
/* pgqrs:deleteQueue */ select 1 where pg_advisory_xact_lock(hashtextextended('pgqrs:queue:' || $1::text, 0))::text is null;
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ select 1 where pg_advisory_xact_lock(hashtextextended('pgqrs:replay', 0))::text is null;
/* pgqrs:deleteQueue */ delete from "public"."pgqrs_steps" where run_id in (select id from "public"."pgqrs_messages" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text));
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "public"."pgqrs_mailbox" where run_id in (select id from "public"."pgqrs_messages" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text));
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) order by id for update
)
delete from "public"."pgqrs_messages" where id in (select id from held);
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "public"."pgqrs_keys" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and true;
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "public"."pgqrs_archive" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and true;
-- values: "queue it's \"$1\" ?1"
/* pgqrs:deleteQueue */ delete from "public"."pgqrs_queues" where name = $1::text and true
returning id, pg_notify('pgqrs_public', 'control')::text;
-- values: "queue it's \"$1\" ?1"

-- dropObject 1
/* pgqrs:dropObject */ drop table if exists "public"."pgqrs_keys";

-- dropObject 2
/* pgqrs:dropObject */ drop view if exists "public"."pgqrs_runs";

-- dropObject 3
/* pgqrs:dropObject */ drop trigger if exists pgqrs_archive_tells on "public"."pgqrs_archive";

-- dropObject 4
/* pgqrs:dropObject */ drop function if exists "public"."pgqrs_claim"(p_queue text);

-- endMessages 1
/* pgqrs:endMessages */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where id in (
  with recursive family(id) as (
    select unnest($1::text::bigint[])
    union
    select s.child_id from family f join "public"."pgqrs_steps" s on s.run_id = f.id
    where s.kind = 'call' and s.state = 'waiting' and s.child_id is not null
  )
  select id from family
) order by id for update
), gone as (
  delete from "public"."pgqrs_messages" where id = any (array(select id from held)) returning *, case when state = 'leased' then pg_notify('pgqrs_public', 'control')::text end
)
insert into "public"."pgqrs_archive" (id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, $2::text, $3::text, date_trunc('milliseconds', statement_timestamp()), $4::text, trunc(extract(epoch from date_trunc('milliseconds', statement_timestamp()) - leased_at) * 1000)::bigint,
  attempts, crashes, error
from gone
returning id;
-- values: "{1,2}", "cancelled", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- enqueueMessages 1
/* pgqrs:enqueueMessages */ select cast(e as text) from "public"."pgqrs_enqueue_many"(
  $1::text, $2::text::json, $3::text::json, $4::text, null
) e;
-- values: "queue it's \"$1\" ?1", "[1,\"two\"]", "{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":{\"type\":\"mail\"},\"retry\":{\"maxAttempts\":2}}", null

-- enqueueMessages 2
/* pgqrs:enqueueMessages */ select cast(e as text) from "public"."pgqrs_enqueue_many"(
  $1::text, $2::text::json, $3::text::json, $4::text, null
) e;
-- values: "queue it's \"$1\" ?1", "[1]", "{\"at_ms\":1900000000000}", "it's \"$1\" ?1"

-- enqueueMessages 3
/* pgqrs:enqueueMessages */ select cast(e as text) from "public"."pgqrs_enqueue_many"(
  $1::text, $2::text::json, $3::text::json, $4::text, null
) e;
-- values: "queue it's \"$1\" ?1", "[1,\"two\"]", "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":{\"type\":\"mail\"},\"retry\":{\"maxAttempts\":2}}]", null

-- enqueueMessages 4
/* pgqrs:enqueueMessages */ select cast(e as text) from "public"."pgqrs_enqueue_many"(
  $1::text, $2::text::json, $3::text::json, $4::text, null
) e;
-- values: "queue it's \"$1\" ?1", "[1,\"two\"]", "[{},{\"delay_ms\":5,\"priority\":9,\"ttl_ms\":7,\"headers\":{\"type\":\"mail\"},\"retry\":{\"maxAttempts\":2}}]", null

-- enqueueMessages 5
/* pgqrs:enqueueMessages */ select cast(e as text) from (select set_config('lock_timeout', $1::text, true) as ms) l
cross join lateral "public"."pgqrs_enqueue_many"(
  case when l.ms is not null then $2::text end, $3::text::json, $4::text::json, $5::text, null
) e;
-- values: "500", "queue it's \"$1\" ?1", "[1]", "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"hold\":\"time\",\"hold_ms\":1000,\"is_alone\":1}]", null

-- extendLeased 1
/* pgqrs:extendLeased */ select i from "public"."pgqrs_extend_leased"($1::text::json, $2::text, null) i;
-- values: "[{\"id\":7,\"token\":3,\"lease_ms\":5}]", "it's \"$1\" ?1"

-- failLeased 1
/* pgqrs:failLeased */ select i from "public"."pgqrs_fail_leased"($1::text::json, $2::text, $3::text, null) i;
-- values: "[{\"id\":7,\"token\":3,\"delay_ms\":5,\"is_final\":0,\"error\":{\"message\":\"x\"}}]", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- findEndings 1
/* pgqrs:findEndings */ select id, token, outcome from "public"."pgqrs_archive" where id = any($1::text::bigint[]);
-- values: "{1,2}"

-- findArchived 1
/* pgqrs:findArchived */ select id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id), outcome, priority,
  round(date_part('epoch', enqueued_at) * 1000)::bigint, round(date_part('epoch', archived_at) * 1000)::bigint, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text), cast(result as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_archive" where id = $1::text::bigint;
-- values: "7"

-- findMessage 1
/* pgqrs:findMessage */ select id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_messages" where id = $1::text::bigint;
-- values: "7"

-- findOverdue 1
/* pgqrs:findOverdue */ select 1 where set_config('enable_seqscan', 'off', true) is null
or set_config('enable_bitmapscan', 'off', true) is null or set_config('enable_hashjoin', 'off', true) is null
or set_config('enable_mergejoin', 'off', true) is null;
/* pgqrs:findOverdue */ select q.id, case when (select a.id from "public"."pgqrs_archive" a
    where a.queue_id = q.id and a.outcome = 'failed' and a.archived_at < date_trunc('milliseconds', statement_timestamp()) - q.dead_retention_ms * interval '1 millisecond'
    order by a.archived_at, a.id limit 1) is null then 0 else 1 end, (
  select case when count(*) filter (where x.outcome <> 'failed') > 0 or count(*) = 20 then 1 else 0 end
  from (select x.outcome from (
    select a.outcome from "public"."pgqrs_archive" a
    where a.queue_id = q.id and a.archived_at >= coalesce(q.purged_until, 'epoch'::timestamptz)
      and a.archived_at < date_trunc('milliseconds', statement_timestamp()) - q.retention_ms * interval '1 millisecond'
    order by a.archived_at, a.id limit 20
  ) x) x
)
from "public"."pgqrs_queues" q where q.id > $1::text::bigint order by q.id limit $2::text::bigint;
-- values: "7", "100"

-- findObjects 1
/* pgqrs:findObjects */ select cast(objects as text) from (with made as materialized (select json_array_elements_text($1::text::json) as name),
own as materialized (
  select c.oid, c.relname, c.relpersistence
  from pg_catalog.pg_class c
  where c.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass) and c.relkind = 'r' and 'table ' || c.relname in (select name from made)
)
select json_object_agg(o.name, o.definition order by o.name) as objects from (
  select 'column ' || c.relname || '.' || a.attname as name,
    format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end ||
      coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') ||
      case when a.attidentity = '' then '' else ' identity' end as definition
  from own c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
  union all
  select 'table ' || c.relname, case c.relpersistence when 'u' then 'unlogged' else 'logged' end from own c
  union all
  select 'index ' || x.relname, pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' invalid' end
  from own c
  join pg_catalog.pg_index i on i.indrelid = c.oid
  join pg_catalog.pg_class x on x.oid = i.indexrelid
  where 'index ' || x.relname in (select name from made)
    or exists (select 1 from pg_catalog.pg_constraint k where k.conindid = x.oid and k.conrelid = c.oid)
  union all
  select 'constraint ' || c.relname || '.' || x.conname, pg_get_constraintdef(x.oid)
  from own c
  join pg_catalog.pg_constraint x on x.conrelid = c.oid
  where x.contype in ('c', 'p', 'u')
  union all
  select f.name, f.definition
  from (
    select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name,
      encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') || coalesce(' ' || array_to_string(p.proconfig, ' '), '')
        as definition
    from pg_catalog.pg_proc p where p.pronamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass)
  ) f
  where f.name in (select name from made)
  union all
  -- The text of a view reads otherwise from one version of the server to the next, its columns do not.
  select 'view ' || c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
  from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0
  where c.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass) and c.relkind = 'v' and 'view ' || c.relname in (select name from made)
  group by c.relname
  union all
  select 'trigger ' || t.tgname, c.relname || ' ' || t.tgtype || ' ' || t.tgenabled::text || ' ' || p.proname
  from own c
  join pg_catalog.pg_trigger t on t.tgrelid = c.oid
  join pg_catalog.pg_proc p on p.oid = t.tgfoid
  where 'trigger ' || t.tgname in (select name from made)
) o) t;
-- values: "[\"table pgqrs_keys\"]"

-- findOrphans 1
/* pgqrs:findOrphans */ with recursive used (queue_id) as (
  select (select min(m.queue_id) from "public"."pgqrs_messages" m where m.state = 'ready')
  union all
  select (select min(m.queue_id) from "public"."pgqrs_messages" m where m.state = 'ready' and m.queue_id > u.queue_id) from used u where u.queue_id is not null
)
select queue_id from used where queue_id is not null and not exists (select 1 from "public"."pgqrs_queues" q where q.id = queue_id)
union
select queue_id from "public"."pgqrs_messages" where state = 'leased' and not exists (select 1 from "public"."pgqrs_queues" q where q.id = queue_id)
order by 1;

-- findRun 1
/* pgqrs:findRun */ select id, workflow, status, key, priority, round(date_part('epoch', enqueued_at) * 1000)::bigint,
  round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', ended_at) * 1000)::bigint, attempts, crashes, worker, round(date_part('epoch', lease_until) * 1000)::bigint,
  cast(waits as text), reason, cast(error as text), parent_id, round(date_part('epoch', queue_paused_at) * 1000)::bigint,
  (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= date_trunc('milliseconds', statement_timestamp()))) as ended_steps, cast(input as text), cast(result as text), cast(progress as text), max_attempts
from (
select m.id, q.name as workflow, case
    when m.state <> 'ready' or m.due_at <= date_trunc('milliseconds', statement_timestamp()) then m.state when m.waits is null then 'delayed' else 'waiting'
  end as status, m.key, m.priority, m.enqueued_at,
  case when m.state = 'ready' and m.due_at < to_timestamp(253402300799) then m.due_at end as due_at, null::timestamptz as ended_at,
  m.attempts, m.crashes, substr(m.holder, 1, length(m.holder) - 9) as worker, m.lease_until,
  case when (m.state in ('blocked', 'paused') or m.state = 'ready' and m.due_at > date_trunc('milliseconds', statement_timestamp())) then m.waits end as waits,
  case when m.state = 'blocked' then m.waits -> 0 ->> 'reason' end as reason, m.error, coalesce(
    substring(m.headers ->> 'pgqrs-parent' from '^([0-9]{1,15})/'),
    substring(m.key from '^[$]run/([0-9]{1,15})/')
  )::bigint as parent_id,
  q.paused_at as queue_paused_at, m.payload as input, null::json as result, m.progress, m.max_attempts
from "public"."pgqrs_messages" m join "public"."pgqrs_queues" q on q.id = m.queue_id
where q.is_workflow and m.id = $1::text::bigint
union all
select a.id, q.name as workflow, a.outcome as status, a.key, a.priority, a.enqueued_at,
  null::timestamptz as due_at, a.archived_at as ended_at, a.attempts, a.crashes, a.archived_by as worker,
  null::timestamptz as lease_until, null::json as waits, a.reason, a.error, coalesce(
    substring(a.headers ->> 'pgqrs-parent' from '^([0-9]{1,15})/'),
    substring(a.key from '^[$]run/([0-9]{1,15})/')
  )::bigint as parent_id,
  q.paused_at as queue_paused_at, a.payload as input, a.result, null::json as progress, a.max_attempts
from "public"."pgqrs_archive" a join "public"."pgqrs_queues" q on q.id = a.queue_id
where q.is_workflow and a.id = $2::text::bigint
) r;
-- values: "7", "7"

-- findProgress 1
/* pgqrs:findProgress */ select cast(progress as text) from "public"."pgqrs_messages" where id = $1::text::bigint;
-- values: "7"

-- findQueue 1
/* pgqrs:findQueue */ select id, name, round(date_part('epoch', created_at) * 1000)::bigint as created_ms,
  round(date_part('epoch', updated_at) * 1000)::bigint as updated_ms, round(date_part('epoch', paused_at) * 1000)::bigint as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow from "public"."pgqrs_queues" where name = $1::text;
-- values: "queue it's \"$1\" ?1"

-- findRefusal 1
/* pgqrs:findRefusal */ select i.n, k.message_id, case when i.conflict = 'reject' then 1 else 0 end
from json_to_recordset($1::text::json) as i(n bigint, key text, hash text, conflict text)
join "public"."pgqrs_keys" k on k.queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $2::text) and k.key = i.key
where i.conflict = 'reject' or k.hash <> i.hash and left(k.hash, 3) = left(i.hash, 3) and not (
  i.conflict = 'replace'
  and exists (select 1 from "public"."pgqrs_messages" m where m.id = k.message_id and m.state = 'ready')
)
order by i.n limit 1;
-- values: "[{\"key\":\"it's \\\"$1\\\" ?1\",\"hash\":\"ab\",\"conflict\":\"replace\",\"n\":1},{\"n\":2}]", "queue it's \"$1\" ?1"

-- findTriggers 1
/* pgqrs:findTriggers */ select t.tgname, c.relname
from pg_catalog.pg_trigger t
join pg_catalog.pg_class c on c.oid = t.tgrelid
where c.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass) and 'table ' || c.relname in (select json_array_elements_text($1::text::json)) and not t.tgisinternal
  and 'trigger ' || t.tgname not in (select json_array_elements_text($2::text::json))
order by 1, 2;
-- values: "[\"table pgqrs_keys\"]", "[\"table pgqrs_keys\"]"

-- inspectSchema 1
/* pgqrs:inspectSchema */ select
  (select count(*) from pg_catalog.pg_namespace where nspname = $1::text),
  (select count(*) from pg_catalog.pg_namespace
    where nspname = $2::text and has_schema_privilege(oid, 'create') and has_schema_privilege(oid, 'usage')),
  (select count(*) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $3::text and c.relname = 'pgqrs_migrations'),
  (select count(*) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $4::text and c.relname like 'pgqrs\_%')
    + (select count(*) from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
      where n.nspname = $5::text and p.proname like 'pgqrs\_%'),
  quote_ident(current_user),
  (select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by c.relname)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $6::text and c.relkind = 'r' and 'table ' || c.relname in (select json_array_elements_text('["table pgqrs_migrations","table pgqrs_queues","table pgqrs_messages","index pgqrs_messages_ready","index pgqrs_messages_leased","table pgqrs_archive","index pgqrs_archive_ended","index pgqrs_archive_dead","table pgqrs_keys","table pgqrs_workers","table pgqrs_maintenance","function pgqrs_claim(p_queue text, p_limit bigint, p_lease_ms bigint, p_default_lease_ms bigint, p_holder text, p_type text, p_max_attempts bigint, p_is_ahead boolean, p_now timestamp with time zone)","function pgqrs_archive_leased(p_items json, p_holder text, p_by text, p_now timestamp with time zone)","function pgqrs_archive_plain(p_ids bigint[], p_tokens bigint[], p_holder text, p_by text, p_now timestamp with time zone)","function pgqrs_delete_leased(p_items json, p_holder text)","function pgqrs_release_leased(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_extend_leased(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_beat(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_look(p_queues json, p_now timestamp with time zone)","function pgqrs_endings(p_ids json)","function pgqrs_fail_leased(p_items json, p_holder text, p_by text, p_now timestamp with time zone)","function pgqrs_enqueue_many(p_queue text, p_payloads json, p_options json, p_hint text, p_now timestamp with time zone)","function pgqrs_enqueue(queue text, payload json, options json)","table pgqrs_steps","table pgqrs_mailbox","index pgqrs_mailbox_key","index pgqrs_mailbox_topic","function pgqrs_record_steps(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_park_runs(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_receive_mail(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_send_mail(p_run bigint, p_topic text, p_key text, p_payload json, p_now timestamp with time zone)","function pgqrs_tell_parent()","function pgqrs_archive_children(p_items json, p_holder text, p_by text, p_now timestamp with time zone)","trigger pgqrs_archive_tells","function pgqrs_forget_runs()","trigger pgqrs_archive_forgets","view pgqrs_runs"]'::json)));
-- values: "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- forgetWorkers 1
/* pgqrs:forgetWorkers */ select 1 where set_config('enable_seqscan', 'off', true) is null
or set_config('enable_bitmapscan', 'off', true) is null or set_config('enable_hashjoin', 'off', true) is null
or set_config('enable_mergejoin', 'off', true) is null;
/* pgqrs:forgetWorkers */ with target as materialized (
  select w.holder from "public"."pgqrs_workers" w
  where w.seen_at < date_trunc('milliseconds', statement_timestamp()) - $1::text::bigint * interval '1 millisecond'
    and (w.paused_at is null or w.seen_at < date_trunc('milliseconds', statement_timestamp()) - $2::text::bigint * interval '1 millisecond') and (
    select m.id from "public"."pgqrs_messages" m
    where m.queue_id = any (array(
      select q.id from json_array_elements_text(w.queues) n cross join lateral (
        select q.id from "public"."pgqrs_queues" q where q.name = n.value limit 1
      ) q
    )) and m.state = 'leased' and m.holder = w.holder
    limit 1
  ) is null
  limit $3::text::bigint
  for update of w skip locked
), gone as (
  delete from "public"."pgqrs_workers" where holder = any (array(select holder from target)) returning holder
)
select count(*) from gone;
-- values: "300000", "86400000", "100"

-- giveTurnBack 1
/* pgqrs:giveTurnBack */ update "public"."pgqrs_maintenance"
set next_at = date_trunc('milliseconds', statement_timestamp()), key_queue_id = $1::text::bigint, key = $2::text
where id = 1 and next_at = date_trunc('milliseconds', to_timestamp(($3::text::numeric / 1000)::float8) + interval '500 microseconds');
-- values: "7", "it's \"$1\" ?1", "1900000000000"

-- keepTurn 1
/* pgqrs:keepTurn */ update "public"."pgqrs_maintenance"
set next_at = case when next_at < date_trunc('milliseconds', statement_timestamp()) + $1::text::bigint * interval '1 millisecond' then date_trunc('milliseconds', statement_timestamp()) + $2::text::bigint * interval '1 millisecond' else next_at + $3::text::bigint * interval '1 millisecond' end, key_queue_id = $4::text::bigint, key = $5::text
where id = 1 and next_at = date_trunc('milliseconds', to_timestamp(($6::text::numeric / 1000)::float8) + interval '500 microseconds')
returning round(date_part('epoch', next_at) * 1000)::bigint, key_queue_id, key;
-- values: "60000", "60000", "1", "7", "it's \"$1\" ?1", "1900000000000"

-- listAttempts 1
/* pgqrs:listAttempts */ select id, attempts, cast(retry as text) from "public"."pgqrs_messages" where id = any($1::text::bigint[]);
-- values: "{1,2}"

-- listArchived 1
/* pgqrs:listArchived */ select id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id), outcome, priority,
  round(date_part('epoch', enqueued_at) * 1000)::bigint, round(date_part('epoch', archived_at) * 1000)::bigint, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text), cast(result as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_archive" where id in (select p.id from "public"."pgqrs_queues" q cross join lateral (select id from "public"."pgqrs_archive" where queue_id = q.id and true order by archived_at desc, id desc limit $1::text::bigint) p)
order by archived_at desc, id desc limit $2::text::bigint offset $3::text::bigint;
-- values: "30", "10", "20"

-- listArchived 2
/* pgqrs:listArchived */ select id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id), outcome, priority,
  round(date_part('epoch', enqueued_at) * 1000)::bigint, round(date_part('epoch', archived_at) * 1000)::bigint, archived_by, processing_ms, reason,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text), cast(result as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_archive" where outcome = 'failed' and queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and reason = $2::text and type = $3::text and key = $4::text and archived_by = $5::text and archived_at < date_trunc('milliseconds', to_timestamp(($6::text::numeric / 1000)::float8) + interval '500 microseconds') and archived_at >= date_trunc('milliseconds', to_timestamp(($7::text::numeric / 1000)::float8) + interval '500 microseconds') and (archived_at, id) < (date_trunc('milliseconds', to_timestamp(($8::text::numeric / 1000)::float8) + interval '500 microseconds'), $9::text::bigint)
order by archived_at desc, id desc limit $10::text::bigint offset $11::text::bigint;
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "1900000000000", "1800000000123", "1900000000000", "7", "10", "0"

-- listEndings 1
/* pgqrs:listEndings */ select id, outcome, reason, cast(result as text), cast(error as text) from "public"."pgqrs_endings"($1::text::json);
-- values: "[1,2]"

-- listLargeValues 1
/* pgqrs:listLargeValues */ with next as materialized (
  select key from "public"."pgqrs_steps" where run_id = $1::text::bigint and place >= $2::text::bigint and size > $3::text::bigint
  order by place limit $4::text::bigint
)
select s.key, cast(s.value as text) from next n join "public"."pgqrs_steps" s on s.run_id = $5::text::bigint and s.key = n.key;
-- values: "7", "3", "10", "8", "7"

-- listSteps 1
/* pgqrs:listSteps */ select run_id, key, place, kind, state, attempts, round(date_part('epoch', due_at) * 1000)::bigint - round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint, child_id,
  case when 0 = 1 then null else cast(value as text) end, cast(error as text), round(date_part('epoch', started_at) * 1000)::bigint,
  round(date_part('epoch', ended_at) * 1000)::bigint, round(date_part('epoch', due_at) * 1000)::bigint, case when 0 = 1 then 1 else 0 end, ending
from "public"."pgqrs_steps" where run_id = $1::text::bigint and key > $2::text
order by run_id, key limit $3::text::bigint;
-- values: "7", "", "10"

-- listSteps 2
/* pgqrs:listSteps */ select run_id, key, place, kind, state, attempts, round(date_part('epoch', due_at) * 1000)::bigint - round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint, child_id,
  case when size > $1::text::bigint then null else cast(value as text) end, cast(error as text), round(date_part('epoch', started_at) * 1000)::bigint,
  round(date_part('epoch', ended_at) * 1000)::bigint, round(date_part('epoch', due_at) * 1000)::bigint, case when size > $2::text::bigint then 1 else 0 end, ending
from "public"."pgqrs_steps" where run_id = $3::text::bigint and key > $4::text
order by run_id, key limit $5::text::bigint;
-- values: "10", "10", "7", "it's \"$1\" ?1", "10"

-- parkRuns 1
/* pgqrs:parkRuns */ select run_id, token, due_ms from "public"."pgqrs_park_runs"($1::text::json, $2::text, null);
-- values: "[{\"id\":7,\"token\":3,\"state\":\"ready\",\"reason\":\"it's \\\"$1\\\" ?1\",\"waits\":[{\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"delay_ms\":5,\"topic\":\"it's \\\"$1\\\" ?1\"}]}]", "it's \"$1\" ?1"

-- pauseRun 1
/* pgqrs:pauseRun */ update "public"."pgqrs_messages" as m
set state = case when state = 'leased' then state else 'paused' end,
  wish = case when state = 'leased' then 'pause' end
where id = $1::text::bigint and state in ('ready', 'leased', 'blocked')
returning (select q.name from "public"."pgqrs_queues" q where q.id = queue_id);
-- values: "7"

-- receiveMail 1
/* pgqrs:receiveMail */ select run_id, token, key, state, value, due_ms, wish from "public"."pgqrs_receive_mail"(
  $1::text::json, $2::text, null
);
-- values: "[{\"id\":7,\"token\":3,\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"topic\":\"it's \\\"$1\\\" ?1\",\"delay_ms\":5,\"nothing\":null,\"ending\":4}]", "it's \"$1\" ?1"

-- recordSteps 1
/* pgqrs:recordSteps */ select run_id, token, wish, written from "public"."pgqrs_record_steps"($1::text::json, $2::text, null);
-- values: "[{\"id\":7,\"token\":3,\"key\":\"it's \\\"$1\\\" ?1\",\"place\":2,\"kind\":\"step\",\"state\":\"succeeded\",\"attempts\":0,\"took_ms\":1.5,\"value\":\"it's \"$1\" ?1\"}]", "it's \"$1\" ?1"

-- claimRun 1
/* pgqrs:claimRun */ update "public"."pgqrs_messages"
set state = 'leased', token = token + 1, holder = $1::text, leased_at = date_trunc('milliseconds', statement_timestamp()),
  lease_until = date_trunc('milliseconds', statement_timestamp()) + $2::text::bigint * interval '1 millisecond', is_started = true,
  crashes = crashes + case when state = 'leased' then 1 else 0 end
where id = $3::text::bigint and (
  state = 'ready' and due_at <= date_trunc('milliseconds', statement_timestamp()) or state = 'leased' and lease_until <= date_trunc('milliseconds', statement_timestamp()) and crashes + 1 < max_crashes
)
returning id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint;
-- values: "it's \"$1\" ?1", "5", "7"

-- redoStep 1
/* pgqrs:redoStep */ with held as materialized (
  select m.id, m.redo_before from "public"."pgqrs_messages" m where m.id = $1::text::bigint and m.holder = $2::text and m.token = $3::text::bigint for no key update
), step as (
  delete from "public"."pgqrs_steps" s using held h
  where s.run_id = h.id and s.key = $4::text and s.state = 'failed' and s.ended_at < h.redo_before
  returning s.run_id
), mail as (
  delete from "public"."pgqrs_mailbox" b using step s where b.run_id = s.run_id and b.taken_by = $5::text
)
select run_id from step;
-- values: "7", "it's \"$1\" ?1", "3", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- resumeRun 1
/* pgqrs:resumeRun */ update "public"."pgqrs_messages" as m
set state = case when state = 'leased' then state else 'ready' end, wish = null,
  waits = case when state = 'blocked' then null else waits end, due_at = case
    when state = 'blocked' or state = 'paused' and exists (
      select 1 from "public"."pgqrs_mailbox" b where b.run_id = $1::text::bigint and b.taken_by is null and b.topic in (select w ->> 'topic' from json_array_elements(waits) w)
    ) then date_trunc('milliseconds', statement_timestamp())
    else due_at
  end
where id = $2::text::bigint and (state in ('paused', 'blocked') or wish is not null)
returning (select q.name from "public"."pgqrs_queues" q where q.id = queue_id), pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = queue_id))::text;
-- values: "7", "7"

-- retryRun 1
/* pgqrs:retryRun */ select 1 where pg_advisory_xact_lock_shared(hashtextextended('pgqrs:replay', 0))::text is null;
/* pgqrs:retryRun */ with gone as (
  delete from "public"."pgqrs_archive" a where a.id = $1::text::bigint and a.outcome in ('failed', 'cancelled') returning *
), mail as (
  delete from "public"."pgqrs_mailbox"
where run_id = $2::text::bigint and taken_by is null and topic like '$child/%' and payload ->> 'outcome' <> 'succeeded' and exists (select 1 from gone)
), calls as (
  delete from "public"."pgqrs_steps"
where run_id = $3::text::bigint and kind = 'call' and state = 'waiting' and exists (
  select 1 from "public"."pgqrs_archive" c where c.id = child_id and c.outcome <> 'succeeded'
) and exists (select 1 from gone)
)
insert into "public"."pgqrs_messages" as m (id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, retry, payload, error, redo_before) select id, queue_id, 'ready', priority, date_trunc('milliseconds', statement_timestamp()), enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, retry,
  payload, error, date_trunc('milliseconds', statement_timestamp()) from gone
returning (select q.name from "public"."pgqrs_queues" q where q.id = queue_id), pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = queue_id))::text;
-- values: "7", "7", "7"

-- runDue 1
/* pgqrs:runDue */ select round(date_part('epoch', case state when 'ready' then due_at when 'leased' then lease_until end) * 1000)::bigint - round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint from "public"."pgqrs_messages" where id = $1::text::bigint;
-- values: "7"

-- runState 1
/* pgqrs:runState */ select case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end from "public"."pgqrs_messages" where id = $1::text::bigint
union all
select outcome from "public"."pgqrs_archive" where id = $2::text::bigint;
-- values: "7", "7"

-- sendMail 1
/* pgqrs:sendMail */ select fate, queue from "public"."pgqrs_send_mail"($1::text::bigint, $2::text, $3::text, $4::text::json, null);
-- values: "7", "it's \"$1\" ?1", "it's \"$1\" ?1", "\"it's \"$1\" ?1\""

-- sendMail 2
/* pgqrs:sendMail */ select fate, queue from "public"."pgqrs_send_mail"($1::text::bigint, $2::text, $3::text, $4::text::json, null);
-- values: "7", "it's \"$1\" ?1", null, "null"

-- wakeRun 1
/* pgqrs:wakeRun */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where id = $1::text::bigint order by id for update
), ended as (
  update "public"."pgqrs_steps" set due_at = date_trunc('milliseconds', statement_timestamp())
where run_id = $2::text::bigint and state in ('waiting', 'retrying') and kind not in ('call', 'receive') and due_at > date_trunc('milliseconds', statement_timestamp())
  and exists (select 1 from "public"."pgqrs_messages" m where m.id = run_id and m.state in ('ready', 'leased')) and run_id in (select id from held)
  returning (select q.name from "public"."pgqrs_queues" q join "public"."pgqrs_messages" m on q.id = m.queue_id
  where m.id = run_id) as queue, pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q join "public"."pgqrs_messages" m on q.id = m.queue_id
  where m.id = run_id))::text
), woken as (
  update "public"."pgqrs_messages" set due_at = date_trunc('milliseconds', statement_timestamp())
where id = $3::text::bigint and state = 'ready' and waits is not null and due_at > date_trunc('milliseconds', statement_timestamp()) and exists (select 1 from ended) and id in (select id from held)
)
select queue from ended;
-- values: "7", "7", "7"

-- listMessages 1
/* pgqrs:listMessages */ select id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_messages" where id > $1::text::bigint order by id limit $2::text::bigint;
-- values: "0", "10"

-- listMessages 2
/* pgqrs:listMessages */ select id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_messages" where id > $1::text::bigint and queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $2::text) and type = $3::text and key = $4::text and state = 'leased' order by id limit $5::text::bigint;
-- values: "7", "queue it's \"$1\" ?1", "it's \"$1\" ?1", "it's \"$1\" ?1", "10"

-- listRuns 1
/* pgqrs:listRuns */ select id, workflow, status, key, priority, round(date_part('epoch', enqueued_at) * 1000)::bigint,
  round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', ended_at) * 1000)::bigint, attempts, crashes, worker, round(date_part('epoch', lease_until) * 1000)::bigint,
  cast(waits as text), reason, cast(error as text), parent_id, round(date_part('epoch', queue_paused_at) * 1000)::bigint,
  (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= date_trunc('milliseconds', statement_timestamp()))) as ended_steps
from (
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at from (select m.id, q.name as workflow, case
    when m.state <> 'ready' or m.due_at <= date_trunc('milliseconds', statement_timestamp()) then m.state when m.waits is null then 'delayed' else 'waiting'
  end as status, m.key, m.priority, m.enqueued_at,
  case when m.state = 'ready' and m.due_at < to_timestamp(253402300799) then m.due_at end as due_at, null::timestamptz as ended_at,
  m.attempts, m.crashes, substr(m.holder, 1, length(m.holder) - 9) as worker, m.lease_until,
  case when (m.state in ('blocked', 'paused') or m.state = 'ready' and m.due_at > date_trunc('milliseconds', statement_timestamp())) then m.waits end as waits,
  case when m.state = 'blocked' then m.waits -> 0 ->> 'reason' end as reason, m.error, coalesce(
    substring(m.headers ->> 'pgqrs-parent' from '^([0-9]{1,15})/'),
    substring(m.key from '^[$]run/([0-9]{1,15})/')
  )::bigint as parent_id,
  q.paused_at as queue_paused_at
from "public"."pgqrs_messages" m join "public"."pgqrs_queues" q on q.id = m.queue_id
where q.is_workflow and true and true
order by m.id desc limit $1::text::bigint) live
union all
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at from (select a.id, q.name as workflow, a.outcome as status, a.key, a.priority, a.enqueued_at,
  null::timestamptz as due_at, a.archived_at as ended_at, a.attempts, a.crashes, a.archived_by as worker,
  null::timestamptz as lease_until, null::json as waits, a.reason, a.error, coalesce(
    substring(a.headers ->> 'pgqrs-parent' from '^([0-9]{1,15})/'),
    substring(a.key from '^[$]run/([0-9]{1,15})/')
  )::bigint as parent_id,
  q.paused_at as queue_paused_at
from "public"."pgqrs_archive" a join "public"."pgqrs_queues" q on q.id = a.queue_id
where q.is_workflow and true and true
order by a.id desc limit $2::text::bigint) ended
) r
order by id desc limit $3::text::bigint;
-- values: "10", "10", "10"

-- listRuns 2
/* pgqrs:listRuns */ select id, workflow, status, key, priority, round(date_part('epoch', enqueued_at) * 1000)::bigint,
  round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', ended_at) * 1000)::bigint, attempts, crashes, worker, round(date_part('epoch', lease_until) * 1000)::bigint,
  cast(waits as text), reason, cast(error as text), parent_id, round(date_part('epoch', queue_paused_at) * 1000)::bigint,
  (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= date_trunc('milliseconds', statement_timestamp()))) as ended_steps
from (
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at from (select m.id, q.name as workflow, case
    when m.state <> 'ready' or m.due_at <= date_trunc('milliseconds', statement_timestamp()) then m.state when m.waits is null then 'delayed' else 'waiting'
  end as status, m.key, m.priority, m.enqueued_at,
  case when m.state = 'ready' and m.due_at < to_timestamp(253402300799) then m.due_at end as due_at, null::timestamptz as ended_at,
  m.attempts, m.crashes, substr(m.holder, 1, length(m.holder) - 9) as worker, m.lease_until,
  case when (m.state in ('blocked', 'paused') or m.state = 'ready' and m.due_at > date_trunc('milliseconds', statement_timestamp())) then m.waits end as waits,
  case when m.state = 'blocked' then m.waits -> 0 ->> 'reason' end as reason, m.error, coalesce(
    substring(m.headers ->> 'pgqrs-parent' from '^([0-9]{1,15})/'),
    substring(m.key from '^[$]run/([0-9]{1,15})/')
  )::bigint as parent_id,
  q.paused_at as queue_paused_at
from "public"."pgqrs_messages" m join "public"."pgqrs_queues" q on q.id = m.queue_id
where q.is_workflow and m.state = 'ready' and m.due_at > date_trunc('milliseconds', statement_timestamp()) and m.waits is not null and m.queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and m.key = $2::text and m.id < $3::text::bigint
order by m.id desc limit $4::text::bigint) live
) r
order by id desc limit $5::text::bigint;
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", "7", "10", "10"

-- listRuns 3
/* pgqrs:listRuns */ select id, workflow, status, key, priority, round(date_part('epoch', enqueued_at) * 1000)::bigint,
  round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', ended_at) * 1000)::bigint, attempts, crashes, worker, round(date_part('epoch', lease_until) * 1000)::bigint,
  cast(waits as text), reason, cast(error as text), parent_id, round(date_part('epoch', queue_paused_at) * 1000)::bigint,
  (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= date_trunc('milliseconds', statement_timestamp()))) as ended_steps
from (
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at from (select a.id, q.name as workflow, a.outcome as status, a.key, a.priority, a.enqueued_at,
  null::timestamptz as due_at, a.archived_at as ended_at, a.attempts, a.crashes, a.archived_by as worker,
  null::timestamptz as lease_until, null::json as waits, a.reason, a.error, coalesce(
    substring(a.headers ->> 'pgqrs-parent' from '^([0-9]{1,15})/'),
    substring(a.key from '^[$]run/([0-9]{1,15})/')
  )::bigint as parent_id,
  q.paused_at as queue_paused_at
from "public"."pgqrs_archive" a join "public"."pgqrs_queues" q on q.id = a.queue_id
where q.is_workflow and a.outcome = 'failed' and a.enqueued_at >= date_trunc('milliseconds', to_timestamp(($1::text::numeric / 1000)::float8) + interval '500 microseconds') and a.enqueued_at < date_trunc('milliseconds', to_timestamp(($2::text::numeric / 1000)::float8) + interval '500 microseconds')
order by a.id desc limit $3::text::bigint) ended
) r
order by id desc limit $4::text::bigint;
-- values: "1800000000123", "1900000000000", "10", "10"

-- listMigrations 1
/* pgqrs:listMigrations */ select version, name, cast(objects as text) from "public"."pgqrs_migrations" order by version;

-- listQueues 1
/* pgqrs:listQueues */ select id, name, round(date_part('epoch', created_at) * 1000)::bigint as created_ms,
  round(date_part('epoch', updated_at) * 1000)::bigint as updated_ms, round(date_part('epoch', paused_at) * 1000)::bigint as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow from "public"."pgqrs_queues" order by name;

-- listWorkers 1
/* pgqrs:listWorkers */ select coalesce(w.name, h.name), cast(coalesce(w.queues, h.queues) as text),
  round(date_part('epoch', w.started_at) * 1000)::bigint, round(date_part('epoch', w.seen_at) * 1000)::bigint, round(date_part('epoch', w.paused_at) * 1000)::bigint,
  coalesce(h.leased, 0), coalesce(h.expired, 0), round(date_part('epoch', h.leased_at) * 1000)::bigint, round(date_part('epoch', h.lease_until) * 1000)::bigint,
  round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint - round(date_part('epoch', w.seen_at) * 1000)::bigint
from "public"."pgqrs_workers" w full join (
  select m.holder, substr(holder, 1, length(holder) - 9) as name, json_agg(distinct q.name) as queues, count(*) as leased,
    count(*) filter (where m.lease_until <= date_trunc('milliseconds', statement_timestamp())) as expired, min(m.leased_at) as leased_at,
    max(m.lease_until) as lease_until
  from "public"."pgqrs_messages" m join "public"."pgqrs_queues" q on q.id = m.queue_id
  where m.state = 'leased'
  group by m.holder
) h on h.holder = w.holder
where coalesce($1::text, w.name, h.name) = coalesce(w.name, h.name);
-- values: null

-- listWorkers 2
/* pgqrs:listWorkers */ select coalesce(w.name, h.name), cast(coalesce(w.queues, h.queues) as text),
  round(date_part('epoch', w.started_at) * 1000)::bigint, round(date_part('epoch', w.seen_at) * 1000)::bigint, round(date_part('epoch', w.paused_at) * 1000)::bigint,
  coalesce(h.leased, 0), coalesce(h.expired, 0), round(date_part('epoch', h.leased_at) * 1000)::bigint, round(date_part('epoch', h.lease_until) * 1000)::bigint,
  round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint - round(date_part('epoch', w.seen_at) * 1000)::bigint
from "public"."pgqrs_workers" w full join (
  select m.holder, substr(holder, 1, length(holder) - 9) as name, json_agg(distinct q.name) as queues, count(*) as leased,
    count(*) filter (where m.lease_until <= date_trunc('milliseconds', statement_timestamp())) as expired, min(m.leased_at) as leased_at,
    max(m.lease_until) as lease_until
  from "public"."pgqrs_messages" m join "public"."pgqrs_queues" q on q.id = m.queue_id
  where m.state = 'leased'
  group by m.holder
) h on h.holder = w.holder
where coalesce($1::text, w.name, h.name) = coalesce(w.name, h.name);
-- values: "it's \"$1\" ?1"

-- lookForWork 1
/* pgqrs:lookForWork */ select (select q.name from "public"."pgqrs_queues" q where q.id = queue_id), min(due_ms) from "public"."pgqrs_look"($1::text::json, null) group by queue_id union all select null, 1 from "public"."pgqrs_workers" where holder = $2::text and paused_at is not null;
-- values: "[\"queue it's \\\"$1\\\" ?1\",\"it's \\\"$1\\\" ?1\"]", "it's \"$1\" ?1"

-- lockMigrations 1
/* pgqrs:lockMigrations */ select pg_advisory_xact_lock(hashtextextended($1::text, 0));
-- values: "pgqrs:it's \"$1\" ?1"

-- notePurged 1
/* pgqrs:notePurged */ update "public"."pgqrs_queues" set purged_until = date_trunc('milliseconds', to_timestamp(($1::text::numeric / 1000)::float8) + interval '500 microseconds')
where id = $2::text::bigint and coalesce(purged_until, 'epoch'::timestamptz) < date_trunc('milliseconds', to_timestamp(($3::text::numeric / 1000)::float8) + interval '500 microseconds');
-- values: "1900000000000", "7", "1900000000000"

-- pauseWorkers 1
/* pgqrs:pauseWorkers */ with changed as (update "public"."pgqrs_workers" set paused_at = coalesce(paused_at, date_trunc('milliseconds', statement_timestamp())) where name = $1::text returning holder) select holder, cast(pg_notify('pgqrs_public', $2::text) as text) from changed;
-- values: "it's \"$1\" ?1", "it's \"$1\" ?1"

-- pauseWorkers 2
/* pgqrs:pauseWorkers */ with changed as (update "public"."pgqrs_workers" set paused_at = null where name = $1::text returning holder) select holder, cast(pg_notify('pgqrs_public', $2::text) as text) from changed;
-- values: "it's \"$1\" ?1", "it's \"$1\" ?1"

-- ping 1
/* pgqrs:ping */ select round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint;

-- progressLeased 1
/* pgqrs:progressLeased */ with i as materialized (
  select * from json_to_recordset($1::text::json) as i(
    id bigint, token bigint, progress json
  )
), held as materialized (
  select m.id from "public"."pgqrs_messages" m
  where m.id = any (array(select i.id from i)) and m.holder = $2::text
  order by m.id for update
)
update "public"."pgqrs_messages" m set progress = i.progress from i
where m.id = any (array(select held.id from held)) and m.id = i.id and m.token = i.token and m.holder = $3::text
returning m.id;
-- values: "[{\"id\":7,\"token\":3,\"progress\":[1]}]", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- purgeArchived 1
/* pgqrs:purgeArchived */ with target as materialized (select id from "public"."pgqrs_archive" where true and archived_at < (
  select case when outcome = 'failed' then date_trunc('milliseconds', statement_timestamp()) - q.dead_retention_ms * interval '1 millisecond' else date_trunc('milliseconds', statement_timestamp()) - q.retention_ms * interval '1 millisecond' end
  from "public"."pgqrs_queues" q where q.id = queue_id
) order by archived_at, id limit $1::text::bigint for update skip locked), gone as (
  delete from "public"."pgqrs_archive" where id = any (array(select id from target)) returning id
)
select count(*) from gone;
-- values: "100"

-- purgeArchived 2
/* pgqrs:purgeArchived */ with target as materialized (select id from "public"."pgqrs_archive" where true and queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and archived_at < (select case
    when q.retention_ms < q.dead_retention_ms or q.dead_retention_ms is null then date_trunc('milliseconds', statement_timestamp()) - q.retention_ms * interval '1 millisecond'
    else date_trunc('milliseconds', statement_timestamp()) - q.dead_retention_ms * interval '1 millisecond'
  end from "public"."pgqrs_queues" q where q.name = $2::text) and archived_at < (
  select case when outcome = 'failed' then date_trunc('milliseconds', statement_timestamp()) - q.dead_retention_ms * interval '1 millisecond' else date_trunc('milliseconds', statement_timestamp()) - q.retention_ms * interval '1 millisecond' end
  from "public"."pgqrs_queues" q where q.id = queue_id
) order by archived_at, id limit $3::text::bigint for update skip locked), gone as (
  delete from "public"."pgqrs_archive" where id = any (array(select id from target)) returning id
)
select count(*) from gone;
-- values: "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "100"

-- purgeDead 1
/* pgqrs:purgeDead */ select 1 where set_config('enable_seqscan', 'off', true) is null
or set_config('enable_bitmapscan', 'off', true) is null or set_config('enable_hashjoin', 'off', true) is null
or set_config('enable_mergejoin', 'off', true) is null;
/* pgqrs:purgeDead */ with target as materialized (
  select a.id from "public"."pgqrs_archive" a
  where a.queue_id = $1::text::bigint and a.outcome = 'failed'
    and a.archived_at < (select date_trunc('milliseconds', statement_timestamp()) - q.dead_retention_ms * interval '1 millisecond' from "public"."pgqrs_queues" q where q.id = $2::text::bigint)
  order by a.archived_at, a.id limit $3::text::bigint for update of a skip locked
), gone as (
  delete from "public"."pgqrs_archive" where id = any (array(select id from target)) returning id
)
select count(*) from gone;
-- values: "7", "7", "100"

-- purgeEnded 1
/* pgqrs:purgeEnded */ select 1 where set_config('enable_seqscan', 'off', true) is null
or set_config('enable_bitmapscan', 'off', true) is null or set_config('enable_hashjoin', 'off', true) is null
or set_config('enable_mergejoin', 'off', true) is null;
/* pgqrs:purgeEnded */ with seen as materialized (
  select a.id, a.archived_at, a.outcome from "public"."pgqrs_archive" a
  where a.queue_id = $1::text::bigint and a.archived_at >= (select coalesce(q.purged_until, 'epoch'::timestamptz) from "public"."pgqrs_queues" q where q.id = $2::text::bigint)
    and a.archived_at < (select date_trunc('milliseconds', statement_timestamp()) - q.retention_ms * interval '1 millisecond' from "public"."pgqrs_queues" q where q.id = $3::text::bigint)
  order by a.archived_at, a.id limit $4::text::bigint
), target as materialized (
  select a.id from "public"."pgqrs_archive" a where a.id = any (array(select s.id from seen s where (s.outcome <> 'failed' or s.archived_at < (select date_trunc('milliseconds', statement_timestamp()) - q.dead_retention_ms * interval '1 millisecond' from "public"."pgqrs_queues" q where q.id = $5::text::bigint))))
  for update skip locked
), gone as (
  delete from "public"."pgqrs_archive" where id = any (array(select id from target)) returning id
)
select (select count(*) from seen), round(date_part('epoch', s.archived_at) * 1000)::bigint, s.id, (select count(*) from gone) from seen s order by s.archived_at desc, s.id desc limit 1;
-- values: "7", "7", "7", "100", "7"

-- purgeEnded 2
/* pgqrs:purgeEnded */ select 1 where set_config('enable_seqscan', 'off', true) is null
or set_config('enable_bitmapscan', 'off', true) is null or set_config('enable_hashjoin', 'off', true) is null
or set_config('enable_mergejoin', 'off', true) is null;
/* pgqrs:purgeEnded */ with seen as materialized (
  select a.id, a.archived_at, a.outcome from "public"."pgqrs_archive" a
  where a.queue_id = $1::text::bigint and a.archived_at >= (select coalesce(q.purged_until, 'epoch'::timestamptz) from "public"."pgqrs_queues" q where q.id = $2::text::bigint)
    and a.archived_at < (select date_trunc('milliseconds', statement_timestamp()) - q.retention_ms * interval '1 millisecond' from "public"."pgqrs_queues" q where q.id = $3::text::bigint) and (a.archived_at, a.id) > (date_trunc('milliseconds', to_timestamp(($4::text::numeric / 1000)::float8) + interval '500 microseconds'), $5::text::bigint)
  order by a.archived_at, a.id limit $6::text::bigint
), target as materialized (
  select a.id from "public"."pgqrs_archive" a where a.id = any (array(select s.id from seen s where (s.outcome <> 'failed' or s.archived_at < (select date_trunc('milliseconds', statement_timestamp()) - q.dead_retention_ms * interval '1 millisecond' from "public"."pgqrs_queues" q where q.id = $7::text::bigint))))
  for update skip locked
), gone as (
  delete from "public"."pgqrs_archive" where id = any (array(select id from target)) returning id
)
select (select count(*) from seen), round(date_part('epoch', s.archived_at) * 1000)::bigint, s.id, (select count(*) from gone) from seen s order by s.archived_at desc, s.id desc limit 1;
-- values: "7", "7", "7", "1900000000000", "7", "100", "7"

-- purgeKeys 1
/* pgqrs:purgeKeys */ select 1 where set_config('enable_seqscan', 'off', true) is null
or set_config('enable_bitmapscan', 'off', true) is null or set_config('enable_hashjoin', 'off', true) is null
or set_config('enable_mergejoin', 'off', true) is null;
/* pgqrs:purgeKeys */ with seen as materialized (
  select queue_id, key, message_id from "public"."pgqrs_keys" where true order by queue_id, key limit $1::text::bigint
), target as materialized (
  select k.queue_id, k.key from seen s
  join "public"."pgqrs_keys" k on k.queue_id = s.queue_id and k.key = s.key and k.message_id = s.message_id
  where case k.hold
    when 'started' then (select m.id from "public"."pgqrs_messages" m where m.id = k.message_id) is null
    when 'finished' then (select m.id from "public"."pgqrs_messages" m where m.id = k.message_id) is null
    when 'time' then k.expires_at <= date_trunc('milliseconds', statement_timestamp())
    else k.expires_at <= date_trunc('milliseconds', statement_timestamp()) and (select m.id from "public"."pgqrs_messages" m where m.id = k.message_id) is null
  end
  for update of k skip locked
), gone as (
  delete from "public"."pgqrs_keys" k using target t where k.queue_id = t.queue_id and k.key = t.key returning 1
)
select (select count(*) from seen), queue_id, key, (select count(*) from gone) from seen order by queue_id desc, key desc limit 1;
-- values: "100"

-- purgeKeys 2
/* pgqrs:purgeKeys */ select 1 where set_config('enable_seqscan', 'off', true) is null
or set_config('enable_bitmapscan', 'off', true) is null or set_config('enable_hashjoin', 'off', true) is null
or set_config('enable_mergejoin', 'off', true) is null;
/* pgqrs:purgeKeys */ with seen as materialized (
  select queue_id, key, message_id from "public"."pgqrs_keys" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and (queue_id, key) > ($2::text::bigint, $3::text) order by queue_id, key limit $4::text::bigint
), target as materialized (
  select k.queue_id, k.key from seen s
  join "public"."pgqrs_keys" k on k.queue_id = s.queue_id and k.key = s.key and k.message_id = s.message_id
  where case k.hold
    when 'started' then (select m.id from "public"."pgqrs_messages" m where m.id = k.message_id) is null
    when 'finished' then (select m.id from "public"."pgqrs_messages" m where m.id = k.message_id) is null
    when 'time' then k.expires_at <= date_trunc('milliseconds', statement_timestamp())
    else k.expires_at <= date_trunc('milliseconds', statement_timestamp()) and (select m.id from "public"."pgqrs_messages" m where m.id = k.message_id) is null
  end
  for update of k skip locked
), gone as (
  delete from "public"."pgqrs_keys" k using target t where k.queue_id = t.queue_id and k.key = t.key returning 1
)
select (select count(*) from seen), queue_id, key, (select count(*) from gone) from seen order by queue_id desc, key desc limit 1;
-- values: "queue it's \"$1\" ?1", "7", "it's \"$1\" ?1", "100"

-- purgeQueue 1
/* pgqrs:purgeQueue */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and state <> 'leased' order by id for update
), steps as (
  delete from "public"."pgqrs_steps" where run_id in (select id from held)
), mail as (
  delete from "public"."pgqrs_mailbox" where run_id in (select id from held)
), gone as (
  delete from "public"."pgqrs_messages" where id in (select id from held)
  returning case when state = 'leased' then pg_notify('pgqrs_public', 'control')::text end
)
select count(*) from gone;
-- values: "queue it's \"$1\" ?1"

-- purgeQueue 2
/* pgqrs:purgeQueue */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and true order by id for update
), steps as (
  delete from "public"."pgqrs_steps" where run_id in (select id from held)
), mail as (
  delete from "public"."pgqrs_mailbox" where run_id in (select id from held)
), gone as (
  delete from "public"."pgqrs_messages" where id in (select id from held)
  returning case when state = 'leased' then pg_notify('pgqrs_public', 'control')::text end
)
select count(*) from gone;
-- values: "queue it's \"$1\" ?1"

-- registerWorker 1
/* pgqrs:registerWorker */ insert into "public"."pgqrs_workers" (holder, name, queues, started_at, seen_at)
select $1::text, $2::text, $3::text::json, date_trunc('milliseconds', statement_timestamp()), date_trunc('milliseconds', statement_timestamp()) where true
on conflict (holder) do update set seen_at = excluded.seen_at
returning case when paused_at is null then 0 else 1 end;
-- values: "it's \"$1\" ?1", "it's \"$1\" ?1", "[\"queue it's \\\"$1\\\" ?1\"]"

-- removeWorker 1
/* pgqrs:removeWorker */ delete from "public"."pgqrs_workers" where holder = $1::text;
-- values: "it's \"$1\" ?1"

-- releaseHeld 1
/* pgqrs:releaseHeld */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where state = 'leased' and substr(holder, 1, length(holder) - 9) = $1::text order by id for update
)
update "public"."pgqrs_messages" set state = 'ready', due_at = date_trunc('milliseconds', statement_timestamp()), token = token + 1, holder = null, leased_at = null, lease_until = null where id = any (array(select id from held))
returning id, pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = queue_id))::text, pg_notify('pgqrs_public', 'control')::text;
-- values: "it's \"$1\" ?1"

-- releaseLeased 1
/* pgqrs:releaseLeased */ select i from "public"."pgqrs_release_leased"($1::text::json, $2::text, null) i;
-- values: "[{\"id\":7,\"token\":3,\"delay_ms\":5}]", "it's \"$1\" ?1"

-- releaseStray 1
/* pgqrs:releaseStray */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) and state = 'leased' and holder = $2::text and not id = any($3::text::bigint[]) order by id for update
)
update "public"."pgqrs_messages" set state = 'ready', due_at = date_trunc('milliseconds', statement_timestamp()), token = token + 1, holder = null, leased_at = null, lease_until = null where id = any (array(select id from held)) returning id;
-- values: "queue it's \"$1\" ?1", "it's \"$1\" ?1", "{7}"

-- replayArchived 1
/* pgqrs:replayArchived */ select 1 where pg_advisory_xact_lock_shared(hashtextextended('pgqrs:replay', 0))::text is null;
/* pgqrs:replayArchived */ with target as materialized (select id from "public"."pgqrs_archive" where true and id = any($1::text::bigint[]) order by archived_at, id limit $2::text::bigint for update), gone as (
  delete from "public"."pgqrs_archive" where id = any (array(select id from target)) returning *
)
insert into "public"."pgqrs_messages" (id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, retry, payload, error, redo_before) select id, queue_id, 'ready', priority, date_trunc('milliseconds', statement_timestamp()), enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, retry,
  payload, error, date_trunc('milliseconds', statement_timestamp()) from gone
returning id, pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = queue_id))::text;
-- values: "{1,2}", "2"

-- replayArchived 2
/* pgqrs:replayArchived */ select 1 where pg_advisory_xact_lock_shared(hashtextextended('pgqrs:replay', 0))::text is null;
/* pgqrs:replayArchived */ with target as materialized (select id from "public"."pgqrs_archive" where outcome = 'failed' and queue_id = (select q.id from "public"."pgqrs_queues" q where q.name = $1::text) order by archived_at, id limit $2::text::bigint for update), gone as (
  delete from "public"."pgqrs_archive" where id = any (array(select id from target)) returning *
)
insert into "public"."pgqrs_messages" (id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, key, type, headers, retry, payload, error, redo_before) select id, queue_id, 'ready', priority, date_trunc('milliseconds', statement_timestamp()), enqueued_at, token + 1, max_attempts, max_crashes, key, type, headers, retry,
  payload, error, date_trunc('milliseconds', statement_timestamp()) from gone
returning id, pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = queue_id))::text;
-- values: "queue it's \"$1\" ?1", "100"

-- reportMetrics 1
/* pgqrs:reportMetrics */ select q.name, case when q.paused_at is null then 0 else 1 end,
  count(m.id) filter (where m.state = 'ready' and m.due_at <= date_trunc('milliseconds', statement_timestamp())),
  count(m.id) filter (where m.state = 'ready' and m.due_at > date_trunc('milliseconds', statement_timestamp())),
  count(m.id) filter (where m.state = 'leased'),
  (select count(*) from "public"."pgqrs_archive" a where a.queue_id = q.id and a.outcome = $1::text), (select count(*) from "public"."pgqrs_archive" a where a.queue_id = q.id and a.outcome = $2::text), (select count(*) from "public"."pgqrs_archive" a where a.queue_id = q.id and a.outcome = $3::text),
  round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint - round(date_part('epoch', min(m.due_at) filter (where m.state = 'ready' and m.due_at <= date_trunc('milliseconds', statement_timestamp()))) * 1000)::bigint,
  round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint - round(date_part('epoch', min(m.leased_at)) * 1000)::bigint,
  round(date_part('epoch', max(m.enqueued_at)) * 1000)::bigint,
  count(m.id) filter (where m.state = 'leased' and m.lease_until <= date_trunc('milliseconds', statement_timestamp())),
  count(m.id) filter (where m.state in ('blocked', 'paused'))
from "public"."pgqrs_queues" q left join "public"."pgqrs_messages" m on m.queue_id = q.id
where coalesce($4::text, q.name) = q.name
group by q.id, q.name, q.paused_at
order by q.name;
-- values: "succeeded", "failed", "cancelled", null

-- reportMetrics 2
/* pgqrs:reportMetrics */ select q.name, case when q.paused_at is null then 0 else 1 end,
  count(m.id) filter (where m.state = 'ready' and m.due_at <= date_trunc('milliseconds', statement_timestamp())),
  count(m.id) filter (where m.state = 'ready' and m.due_at > date_trunc('milliseconds', statement_timestamp())),
  count(m.id) filter (where m.state = 'leased'),
  (select count(*) from "public"."pgqrs_archive" a where a.queue_id = q.id and a.outcome = $1::text), (select count(*) from "public"."pgqrs_archive" a where a.queue_id = q.id and a.outcome = $2::text), (select count(*) from "public"."pgqrs_archive" a where a.queue_id = q.id and a.outcome = $3::text),
  round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint - round(date_part('epoch', min(m.due_at) filter (where m.state = 'ready' and m.due_at <= date_trunc('milliseconds', statement_timestamp()))) * 1000)::bigint,
  round(date_part('epoch', date_trunc('milliseconds', statement_timestamp())) * 1000)::bigint - round(date_part('epoch', min(m.leased_at)) * 1000)::bigint,
  round(date_part('epoch', max(m.enqueued_at)) * 1000)::bigint,
  count(m.id) filter (where m.state = 'leased' and m.lease_until <= date_trunc('milliseconds', statement_timestamp())),
  count(m.id) filter (where m.state in ('blocked', 'paused'))
from "public"."pgqrs_queues" q left join "public"."pgqrs_messages" m on m.queue_id = q.id
where coalesce($4::text, q.name) = q.name
group by q.id, q.name, q.paused_at
order by q.name;
-- values: "succeeded", "failed", "cancelled", "queue it's \"$1\" ?1"

-- settleAndClaim 1
/* pgqrs:settleAndClaim */ select 0, '', 'settled', 0, 0, 0, 0, null, null, 0, 0, 0, null, null, json_agg(settled)::text, null, 0, null, null, null
from "public"."pgqrs_archive_leased"($1::text::json, $2::text, $3::text, null) settled
union all
select id, $4::text,
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint from "public"."pgqrs_claim"(
  $5::text, $6::text::bigint, $7::text::bigint, $8::text::bigint, $9::text, $10::text, $11::text::bigint, true, null
);
-- values: "[{\"id\":7,\"token\":3,\"reason\":\"it's \\\"$1\\\" ?1\",\"result\":[1]}]", "it's \"$1\" ?1", "it's \"$1\" ?1", "queue it's \"$1\" ?1", "queue it's \"$1\" ?1", "10", null, "5000", "it's \"$1\" ?1", null, null

-- startLeased 1
/* pgqrs:startLeased */ with i as materialized (
  select * from json_to_recordset($1::text::json) as i(
    id bigint, token bigint, progress json
  )
), held as materialized (
  select m.id from "public"."pgqrs_messages" m
  where m.id = any (array(select i.id from i)) and m.holder = $2::text
  order by m.id for update
)
update "public"."pgqrs_messages" m set is_started = true from i
where m.id = any (array(select held.id from held)) and m.id = i.id and m.token = i.token and m.holder = $3::text
returning m.id;
-- values: "[{\"id\":7,\"token\":3,\"progress\":null}]", "it's \"$1\" ?1", "it's \"$1\" ?1"

-- takeTurn 1
/* pgqrs:takeTurn */ update "public"."pgqrs_maintenance" set next_at = case when next_at < date_trunc('milliseconds', statement_timestamp()) + $1::text::bigint * interval '1 millisecond' then date_trunc('milliseconds', statement_timestamp()) + $2::text::bigint * interval '1 millisecond' else next_at + $3::text::bigint * interval '1 millisecond' end where id = 1 and next_at <= date_trunc('milliseconds', statement_timestamp())
returning round(date_part('epoch', next_at) * 1000)::bigint, key_queue_id, key;
-- values: "60000", "60000", "1"

-- takeTurn 2
/* pgqrs:takeTurn */ update "public"."pgqrs_maintenance" set next_at = case when next_at < date_trunc('milliseconds', statement_timestamp()) + $1::text::bigint * interval '1 millisecond' then date_trunc('milliseconds', statement_timestamp()) + $2::text::bigint * interval '1 millisecond' else next_at + $3::text::bigint * interval '1 millisecond' end where id = 1 and true
returning round(date_part('epoch', next_at) * 1000)::bigint, key_queue_id, key;
-- values: "60000", "60000", "1"

-- updateMessage 1
/* pgqrs:updateMessage */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where id = $1::text::bigint order by id for update
)
update "public"."pgqrs_messages" set state = case when state in ('blocked', 'paused') then state else 'ready' end, due_at = case when state = 'leased' then date_trunc('milliseconds', statement_timestamp()) else due_at end, priority = coalesce($2::text::bigint, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null
where id = any (array(select id from held))
returning id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint, pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = queue_id))::text, case when (select h.state from held h) = 'leased' then pg_notify('pgqrs_public', 'control')::text end;
-- values: "7", null

-- updateMessage 2
/* pgqrs:updateMessage */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where id = $1::text::bigint order by id for update
)
update "public"."pgqrs_messages" set state = case when state in ('blocked', 'paused') then state else 'ready' end, due_at = date_trunc('milliseconds', statement_timestamp()) + $2::text::bigint * interval '1 millisecond', priority = coalesce($3::text::bigint, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null
where id = any (array(select id from held))
returning id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint, pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = queue_id))::text, case when (select h.state from held h) = 'leased' then pg_notify('pgqrs_public', 'control')::text end;
-- values: "7", "5", "9"

-- updateMessage 3
/* pgqrs:updateMessage */ with held as materialized (
  select id, state from "public"."pgqrs_messages" where id = $1::text::bigint order by id for update
)
update "public"."pgqrs_messages" set state = case when state in ('blocked', 'paused') then state else 'ready' end, due_at = date_trunc('milliseconds', to_timestamp(($2::text::numeric / 1000)::float8) + interval '500 microseconds'), priority = coalesce($3::text::bigint, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null
where id = any (array(select id from held))
returning id, (select q.name from "public"."pgqrs_queues" q where q.id = queue_id),
  case
    when state <> 'ready' or due_at <= date_trunc('milliseconds', statement_timestamp()) then state when waits is null then 'delayed' else 'waiting'
  end,
  priority, round(date_part('epoch', due_at) * 1000)::bigint, round(date_part('epoch', enqueued_at) * 1000)::bigint, token, holder, round(date_part('epoch', lease_until) * 1000)::bigint,
  attempts, crashes, max_attempts, key, cast(headers as text), cast(payload as text), cast(error as text),
  max_crashes, cast(retry as text), cast(progress as text), round(date_part('epoch', expires_at) * 1000)::bigint, pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = queue_id))::text, case when (select h.state from held h) = 'leased' then pg_notify('pgqrs_public', 'control')::text end;
-- values: "7", "1900000000123", null

-- updateQueue 1
/* pgqrs:updateQueue */ update "public"."pgqrs_queues" set updated_at = date_trunc('milliseconds', statement_timestamp()), paused_at = coalesce(paused_at, date_trunc('milliseconds', statement_timestamp())) where name = $1::text
returning id, name, round(date_part('epoch', created_at) * 1000)::bigint as created_ms,
  round(date_part('epoch', updated_at) * 1000)::bigint as updated_ms, round(date_part('epoch', paused_at) * 1000)::bigint as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow;
-- values: "queue it's \"$1\" ?1"

-- updateQueue 2
/* pgqrs:updateQueue */ update "public"."pgqrs_queues" set updated_at = date_trunc('milliseconds', statement_timestamp()), is_workflow = true, lease_ms = $1::text::bigint, max_attempts = $2::text::bigint, max_crashes = $3::text::bigint, backoff = $4::text::json, retention_ms = $5::text::bigint, dead_retention_ms = $6::text::bigint, concurrency = $7::text::bigint, paused_at = null where name = $8::text
returning id, name, round(date_part('epoch', created_at) * 1000)::bigint as created_ms,
  round(date_part('epoch', updated_at) * 1000)::bigint as updated_ms, round(date_part('epoch', paused_at) * 1000)::bigint as paused_ms, lease_ms, max_attempts, max_crashes, cast(backoff as text), retention_ms, concurrency,
  dead_retention_ms, case when is_workflow then 1 else 0 end as is_workflow, pg_notify('pgqrs_public', 'queue:' || name)::text;
-- values: null, "5", "10", "{\"note\":\"x\"}", "1000", null, "3", "queue it's \"$1\" ?1"

-- migration 1
/* pgqrs:migrate tables */ create table "public"."pgqrs_queues" (
  id bigint generated always as identity primary key,
  name text not null unique,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  paused_at timestamptz,
  lease_ms bigint,
  max_attempts integer not null,
  max_crashes integer not null,
  backoff json not null,
  retention_ms bigint,
  dead_retention_ms bigint,
  purged_until timestamptz,
  concurrency integer
);

/* pgqrs:migrate tables */ create table "public"."pgqrs_messages" (
  id bigint generated by default as identity primary key,
  queue_id bigint not null,
  state text not null,
  priority smallint not null,
  due_at timestamptz not null,
  enqueued_at timestamptz not null,
  token bigint not null default 0,
  holder text,
  leased_at timestamptz,
  lease_until timestamptz,
  attempts integer not null default 0,
  crashes integer not null default 0,
  max_attempts integer not null,
  max_crashes integer not null,
  is_started boolean not null default false,
  expires_at timestamptz,
  key text,
  type text,
  headers json,
  retry json,
  payload json not null,
  progress json,
  error json
) with (
  autovacuum_vacuum_scale_factor = 0.02,
  autovacuum_vacuum_threshold = 1000,
  autovacuum_analyze_scale_factor = 0.05,
  autovacuum_vacuum_cost_delay = 0
);

/* pgqrs:migrate tables */ create index pgqrs_messages_ready on "public"."pgqrs_messages" (queue_id, priority, due_at, id) where state = 'ready';

/* pgqrs:migrate tables */ create index pgqrs_messages_leased on "public"."pgqrs_messages" (queue_id, lease_until) where state = 'leased';

/* pgqrs:migrate tables */ create table "public"."pgqrs_archive" (
  id bigint primary key,
  queue_id bigint not null,
  outcome text not null,
  reason text,
  priority smallint not null,
  enqueued_at timestamptz not null,
  archived_at timestamptz not null,
  archived_by text,
  processing_ms bigint,
  token bigint not null,
  attempts integer not null,
  crashes integer not null,
  max_attempts integer not null,
  max_crashes integer not null,
  expires_at timestamptz,
  key text,
  type text,
  headers json,
  retry json,
  payload json not null,
  error json,
  result json
);

/* pgqrs:migrate tables */ create index pgqrs_archive_ended on "public"."pgqrs_archive" (queue_id, archived_at, id);

/* pgqrs:migrate tables */ create index pgqrs_archive_dead on "public"."pgqrs_archive" (queue_id, archived_at, id) where outcome = 'failed';

/* pgqrs:migrate tables */ create table "public"."pgqrs_keys" (
  queue_id bigint not null,
  key text not null,
  message_id bigint not null,
  hash text not null,
  hold text not null check (hold in ('default', 'started', 'finished', 'time')),
  expires_at timestamptz,
  primary key (queue_id, key)
);

/* pgqrs:migrate tables */ create table "public"."pgqrs_workers" (
  holder text primary key,
  name text not null,
  queues json not null,
  started_at timestamptz not null,
  seen_at timestamptz not null,
  paused_at timestamptz
);

/* pgqrs:migrate tables */ create table "public"."pgqrs_maintenance" (
  id integer primary key check (id = 1),
  next_at timestamptz not null,
  key_queue_id bigint,
  key text
);

/* pgqrs:migrate tables */ insert into "public"."pgqrs_maintenance" (id, next_at) values (1, 'epoch');

/* pgqrs:recordMigration */ insert into "public"."pgqrs_migrations" (version, name, applied_at, objects)
select 1, 'tables', statement_timestamp(), (with made as materialized (select json_array_elements_text('["table pgqrs_migrations","table pgqrs_queues","table pgqrs_messages","index pgqrs_messages_ready","index pgqrs_messages_leased","table pgqrs_archive","index pgqrs_archive_ended","index pgqrs_archive_dead","table pgqrs_keys","table pgqrs_workers","table pgqrs_maintenance"]'::json) as name),
own as materialized (
  select c.oid, c.relname, c.relpersistence
  from pg_catalog.pg_class c
  where c.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass) and c.relkind = 'r' and 'table ' || c.relname in (select name from made)
)
select json_object_agg(o.name, o.definition order by o.name) as objects from (
  select 'column ' || c.relname || '.' || a.attname as name,
    format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end ||
      coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') ||
      case when a.attidentity = '' then '' else ' identity' end as definition
  from own c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
  union all
  select 'table ' || c.relname, case c.relpersistence when 'u' then 'unlogged' else 'logged' end from own c
  union all
  select 'index ' || x.relname, pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' invalid' end
  from own c
  join pg_catalog.pg_index i on i.indrelid = c.oid
  join pg_catalog.pg_class x on x.oid = i.indexrelid
  where 'index ' || x.relname in (select name from made)
    or exists (select 1 from pg_catalog.pg_constraint k where k.conindid = x.oid and k.conrelid = c.oid)
  union all
  select 'constraint ' || c.relname || '.' || x.conname, pg_get_constraintdef(x.oid)
  from own c
  join pg_catalog.pg_constraint x on x.conrelid = c.oid
  where x.contype in ('c', 'p', 'u')
  union all
  select f.name, f.definition
  from (
    select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name,
      encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') || coalesce(' ' || array_to_string(p.proconfig, ' '), '')
        as definition
    from pg_catalog.pg_proc p where p.pronamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass)
  ) f
  where f.name in (select name from made)
  union all
  -- The text of a view reads otherwise from one version of the server to the next, its columns do not.
  select 'view ' || c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
  from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0
  where c.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass) and c.relkind = 'v' and 'view ' || c.relname in (select name from made)
  group by c.relname
  union all
  select 'trigger ' || t.tgname, c.relname || ' ' || t.tgtype || ' ' || t.tgenabled::text || ' ' || p.proname
  from own c
  join pg_catalog.pg_trigger t on t.tgrelid = c.oid
  join pg_catalog.pg_proc p on p.oid = t.tgfoid
  where 'trigger ' || t.tgname in (select name from made)
) o);

-- migration 2
/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_claim"(
  p_queue text, p_limit bigint, p_lease_ms bigint, p_default_lease_ms bigint, p_holder text, p_type text,
  p_max_attempts bigint, p_is_ahead boolean, p_now timestamptz
) returns setof "public"."pgqrs_messages"
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
set datestyle = 'ISO, YMD'
as $pgqrs$
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
  v_message "public"."pgqrs_messages"%rowtype;
  v_lanes timestamptz[];
  v_row record;
  v_is_read boolean;
  v_took interval;
begin
  select q.id, coalesce(p_lease_ms, q.lease_ms, p_default_lease_ms) * interval '1 millisecond', q.paused_at is not null,
    'pgqrs.claim_' || q.tableoid || '_' || q.id, coalesce(p_max_attempts, q.max_attempts), q.concurrency
  into v_queue, v_lease, v_is_paused, v_hint_name, v_max_attempts, v_concurrency
  from "public"."pgqrs_queues" q
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
    select m.id from "public"."pgqrs_messages" m
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
        delete from "public"."pgqrs_messages" m
        where m.id = any (v_expired) and m.crashes + 1 >= m.max_crashes and m.is_started
        returning m.*
      ), kept as (
        insert into "public"."pgqrs_archive" (
          id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error
        )
        select g.id, g.queue_id, g.priority, g.enqueued_at, g.token, g.max_attempts, g.max_crashes, g.expires_at, g.key, g.type, g.headers, g.retry, g.payload, 'failed', 'crashes', v_now, left(g.holder, -9), (date_part('epoch', v_now - g.leased_at) * 1000)::bigint, g.attempts, g.crashes + 1,
          g.error
        from gone g
      )
      select * from gone
    loop
      v_message.state := 'failed';
      v_message.crashes := v_message.crashes + 1;
      return next v_message;
    end loop;
    update "public"."pgqrs_messages" m
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
        select 1 from "public"."pgqrs_messages" m
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
        select c.id, coalesce(c.expires_at <= v_now, false) as is_late from "public"."pgqrs_messages" c
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
          delete from "public"."pgqrs_messages" m where m.id = any (v_late) returning m.*
        ), kept as (
          insert into "public"."pgqrs_archive" (
            id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error
          )
          select g.id, g.queue_id, g.priority, g.enqueued_at, g.token, g.max_attempts, g.max_crashes, g.expires_at, g.key, g.type, g.headers, g.retry, g.payload, 'cancelled', 'expired', v_now, left(p_holder, -9), null, g.attempts, g.crashes, g.error
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
    for v_row in select m.priority + 1 as lane, m.due_at from "public"."pgqrs_messages" m where m.id = any (v_ids) loop
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
        select m.lease_until - interval '1 microsecond' from "public"."pgqrs_messages" m
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
          select m.due_at from "public"."pgqrs_messages" m
          where m.queue_id = v_queue and m.state = 'ready' and m.priority = lane.priority::smallint and m.due_at > v_now
          order by m.due_at, m.id
          limit 1
        ) next
      ),
      (
        select m.lease_until from "public"."pgqrs_messages" m
        where m.queue_id = v_queue and m.state = 'leased' and m.lease_until > v_now
        order by m.lease_until
        limit 1
      )
    );
    return next v_message;
  end if;
  return query
  update "public"."pgqrs_messages" m
  set state = 'leased', token = m.token + 1, holder = p_holder, leased_at = v_now, lease_until = v_now + v_lease,
    is_started = not p_is_ahead, waits = null, max_attempts = coalesce((m.retry ->> 'maxAttempts')::integer, v_max_attempts)
  where m.id = any (v_ids)
  returning m.*;
end
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_archive_leased"(
  p_items json, p_holder text, p_by text, p_now timestamptz
) returns setof bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
begin
  return query
  with gone as (
    delete from "public"."pgqrs_messages" m
    using json_to_recordset(p_items) as i(id bigint, token bigint, reason text, result json)
    where m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token)
    returning m.*, i.reason, i.result
  )
  insert into "public"."pgqrs_archive" (
    id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error, result
  )
  select g.id, g.queue_id, g.priority, g.enqueued_at, g.token, g.max_attempts, g.max_crashes, g.expires_at, g.key, g.type, g.headers, g.retry, g.payload, 'succeeded', g.reason, v_now, p_by, (date_part('epoch', v_now - g.leased_at) * 1000)::bigint, g.attempts, g.crashes, g.error, g.result
  from gone g
  returning id;
end
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_archive_plain"(
  p_ids bigint[], p_tokens bigint[], p_holder text, p_by text, p_now timestamptz
) returns setof bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
begin
  if p_tokens[1] = all (p_tokens) then
    return query
    with gone as (
      delete from "public"."pgqrs_messages" m
      where m.id = any (p_ids) and m.holder = p_holder and m.token = p_tokens[1]
      returning m.*
    )
    insert into "public"."pgqrs_archive" (
      id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, archived_at, archived_by, processing_ms, attempts, crashes, error
    )
    select g.id, g.queue_id, g.priority, g.enqueued_at, g.token, g.max_attempts, g.max_crashes, g.expires_at, g.key, g.type, g.headers, g.retry, g.payload, 'succeeded', v_now, p_by, (date_part('epoch', v_now - g.leased_at) * 1000)::bigint, g.attempts, g.crashes, g.error
    from gone g
    returning id;
  else
    return query
    with gone as (
      delete from "public"."pgqrs_messages" m
      using unnest(p_ids, p_tokens) as i(id, token) where m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token)
      returning m.*
    )
    insert into "public"."pgqrs_archive" (
      id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, archived_at, archived_by, processing_ms, attempts, crashes, error
    )
    select g.id, g.queue_id, g.priority, g.enqueued_at, g.token, g.max_attempts, g.max_crashes, g.expires_at, g.key, g.type, g.headers, g.retry, g.payload, 'succeeded', v_now, p_by, (date_part('epoch', v_now - g.leased_at) * 1000)::bigint, g.attempts, g.crashes, g.error
    from gone g
    returning id;
  end if;
end
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_delete_leased"(p_items json, p_holder text) returns setof bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
begin
  return query
  delete from "public"."pgqrs_messages" m
  using json_to_recordset(p_items) as i(id bigint, token bigint)
  where m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token)
  returning m.id;
end
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_release_leased"(
  p_items json, p_holder text, p_now timestamptz
) returns setof bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
begin
  return query
  with given as (
    update "public"."pgqrs_messages" m
    set state = case when m.wish = 'pause' then 'paused' else 'ready' end, wish = null, due_at = v_now + i.delay_ms * interval '1 millisecond',
      token = m.token + 1, holder = null, leased_at = null, lease_until = null
    from json_to_recordset(p_items) as i(id bigint, token bigint, delay_ms bigint)
    where m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token)
    returning m.id, pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = m.queue_id))::text as told
  )
  select g.id from given g;
end
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_extend_leased"(
  p_items json, p_holder text, p_now timestamptz
) returns setof bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
begin
  -- The clock is read for each row, after its lock was waited for: the lease is as long as asked for, whatever the wait.
  return query
  update "public"."pgqrs_messages" m
  set lease_until = greatest(m.lease_until, coalesce(p_now, date_trunc('milliseconds', clock_timestamp())) + i.lease_ms * interval '1 millisecond')
  from json_to_recordset(p_items) as i(id bigint, token bigint, lease_ms bigint)
  where m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token)
  returning m.id;
end
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_fail_leased"(
  p_items json, p_holder text, p_by text, p_now timestamptz
) returns setof bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
begin
  -- Locked first, in ascending order, because two statements follow and each takes a part of the rows.
  perform m.id
  from json_to_recordset(p_items) as i(id bigint, token bigint)
  join "public"."pgqrs_messages" m on m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token)
  for update of m;
  return query
  with gone as (
    delete from "public"."pgqrs_messages" m
    using json_to_recordset(p_items) as i(id bigint, token bigint, error json, is_final integer)
    where m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token) and (m.attempts + 1 >= m.max_attempts or i.is_final = 1)
    returning m.*, i.error as last_error
  )
  insert into "public"."pgqrs_archive" (
    id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error
  )
  select g.id, g.queue_id, g.priority, g.enqueued_at, g.token, g.max_attempts, g.max_crashes, g.expires_at, g.key, g.type, g.headers, g.retry, g.payload, 'failed',
    case when g.attempts + 1 >= g.max_attempts then 'attempts' else 'not_retryable' end,
    v_now, p_by, (date_part('epoch', v_now - g.leased_at) * 1000)::bigint, g.attempts + 1, g.crashes, g.last_error
  from gone g
  returning id;
  return query
  with given as (
    update "public"."pgqrs_messages" m
    set state = case when m.wish = 'pause' then 'paused' else 'ready' end, wish = null, due_at = v_now + i.delay_ms * interval '1 millisecond',
      token = m.token + 1, attempts = m.attempts + 1, error = i.error, holder = null, leased_at = null, lease_until = null
    from json_to_recordset(p_items) as i(id bigint, token bigint, error json, delay_ms bigint, is_final integer)
    where m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token) and m.attempts + 1 < m.max_attempts and i.is_final = 0
    returning m.id, pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = m.queue_id))::text as told
  )
  select g.id from given g;
end
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_beat"(
  p_items json, p_holder text, p_now timestamptz
) returns table (id bigint, fate text)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
#variable_conflict use_column
declare
  v_ids bigint[];
begin
  v_ids := array(
    select m.id
    from json_to_recordset(p_items) as i(id bigint, token bigint)
    cross join lateral (
      select m.id from "public"."pgqrs_messages" m where m.id = any (array[i.id]) and m.holder = p_holder and m.token = coalesce(i.token, m.token) for update skip locked
    ) m
  );
  update "public"."pgqrs_messages" m
  set lease_until = greatest(m.lease_until, coalesce(p_now, date_trunc('milliseconds', clock_timestamp())) + i.lease_ms * interval '1 millisecond')
  from json_to_recordset(p_items) as i(id bigint, lease_ms bigint)
  where i.id = any (v_ids) and m.id = any (array[i.id]);
  return query
  select i.id, case
    when m.id is null and a.outcome = 'cancelled' then 'cancelled'
    when m.id is null or m.token <> i.token or m.holder is distinct from p_holder then 'lost'
    else 'locked'
  end
  from json_to_recordset(p_items) as i(id bigint, token bigint)
  left join lateral (select m.id, m.token, m.holder from "public"."pgqrs_messages" m where m.id = any (array[i.id])) m on true
  -- In this order only the primary key gives a row: another index has the id as its last column.
  left join lateral (
    select a.outcome from "public"."pgqrs_archive" a where a.id = any (array[i.id]) order by a.id limit 1
  ) a on true
  where i.id <> all (v_ids);
end
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_look"(
  p_queues json, p_now timestamptz
) returns table (queue_id bigint, due_ms bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
#variable_conflict use_column
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
  v_queues bigint[] := array(
    select q.id from json_array_elements_text(p_queues) e
    cross join lateral (
      select q.id from "public"."pgqrs_queues" q where q.name = any (array[e]) and q.paused_at is null
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
        from "public"."pgqrs_messages" m
        where m.state = 'ready' and (m.queue_id, m.priority) > (v_at, v_priority)
        order by m.queue_id, m.priority, m.due_at, m.id
        limit 1;
      else
        select m.queue_id, 9::smallint as priority, m.lease_until as at into v_lane
        from "public"."pgqrs_messages" m
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
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_endings"(
  p_ids json
) returns table (id bigint, outcome text, reason text, result json, error json)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
#variable_conflict use_column
begin
  return query
  select i.id, a.outcome, a.reason, a.result, a.error
  from (select e::text::bigint as id from json_array_elements(p_ids) e) i
  -- In this order only the primary key gives a row, and only for one id at a time.
  left join lateral (
    select m.id from "public"."pgqrs_messages" m where m.id = any (array[i.id]) order by m.id limit 1
  ) m on true
  left join lateral (
    select a.outcome, a.reason, a.result, a.error from "public"."pgqrs_archive" a
    where a.id = any (array[i.id]) order by a.id limit 1
  ) a on true
  where m.id is null;
end
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_enqueue_many"(
  p_queue text, p_payloads json, p_options json, p_hint text, p_now timestamptz
) returns setof json
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
  v_queue "public"."pgqrs_queues"%rowtype;
  v_item record;
  v_key "public"."pgqrs_keys"%rowtype;
  v_live "public"."pgqrs_messages"%rowtype;
  v_id bigint;
  v_due timestamptz;
  v_expires timestamptz;
  v_max_attempts integer;
  v_why text;
begin
  -- Shared among those who enqueue, against whoever deletes the queue: a message cannot slip into one that is going away.
  perform pg_advisory_xact_lock_shared(hashtextextended('pgqrs:queue:' || p_queue, 0));
  select * into v_queue from "public"."pgqrs_queues" q where q.name = p_queue;
  if not found then
    return;
  end if;
  if p_hint is not null then
    perform pg_notify('pgqrs_public', p_hint);
  end if;

  -- One set of options for all: the plain and fast case.
  if json_typeof(p_options) = 'object' then
    return query
    with stored as (
      insert into "public"."pgqrs_messages" (
        queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, expires_at, type, headers, retry, payload
      )
      select v_queue.id, 'ready', coalesce(o.priority, 0), d.due_at, v_now,
        coalesce((o.retry ->> 'maxAttempts')::int, v_queue.max_attempts), v_queue.max_crashes,
        d.due_at + o.ttl_ms * interval '1 millisecond', o.headers ->> 'type', o.headers, o.retry, item.value
      from json_to_record(p_options) as o(
        delay_ms bigint, at_ms numeric, priority int, ttl_ms bigint, headers json, retry json
      )
      cross join lateral (
        select coalesce(date_trunc('milliseconds', to_timestamp(o.at_ms / 1000.0) + interval '500 microseconds'), v_now + coalesce(o.delay_ms, 0) * interval '1 millisecond') as due_at
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
      select n, payload, option, nextval('"public"."pgqrs_messages_id_seq"') as id
      from rows from (json_array_elements(p_payloads), json_array_elements(p_options))
        with ordinality as t(payload, option, n)
    ), stored as (
      insert into "public"."pgqrs_messages" (
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
        select coalesce(date_trunc('milliseconds', to_timestamp(o.at_ms / 1000.0) + interval '500 microseconds'), v_now + coalesce(o.delay_ms, 0) * interval '1 millisecond') as due_at
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
        select n, payload, option, nextval('"public"."pgqrs_messages_id_seq"') as id
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
      v_due := coalesce(date_trunc('milliseconds', to_timestamp(v_item.at_ms / 1000.0) + interval '500 microseconds'), v_now + coalesce(v_item.delay_ms, 0) * interval '1 millisecond');
      v_expires := v_due + v_item.ttl_ms * interval '1 millisecond';
      v_max_attempts := coalesce((v_item.retry ->> 'maxAttempts')::int, v_queue.max_attempts);
      v_id := v_item.id;
      v_key := null;
      if v_item.key is not null then
        loop
          insert into "public"."pgqrs_keys" (queue_id, key, message_id, hash, hold, expires_at)
          values (v_queue.id, v_item.key, v_id, v_item.hash, v_item.hold,
            v_now + v_item.hold_ms * interval '1 millisecond')
          on conflict do nothing;
          exit when found;
          select * into v_key from "public"."pgqrs_keys" k where k.queue_id = v_queue.id and k.key = v_item.key for update;
          exit when found;
        end loop;
        v_live := null;
        if v_key.message_id is not null then
          select * into v_live from "public"."pgqrs_messages" m where m.id = v_key.message_id for update;
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
          update "public"."pgqrs_keys" k
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
            update "public"."pgqrs_messages" m
            set payload = v_item.payload, headers = v_item.headers, type = v_item.headers ->> 'type',
              priority = coalesce(v_item.priority, 0), due_at = v_due, expires_at = v_expires, retry = v_item.retry,
              max_attempts = v_max_attempts
            where m.id = v_id
            returning * into v_live;
            update "public"."pgqrs_keys" k set hash = v_item.hash where k.queue_id = v_queue.id and k.key = v_item.key;
          end if;
          return next json_build_object(
            'n', v_item.n, 'id', v_id, 'at', trunc(extract(epoch from v_now) * 1000)::bigint,
            'state', coalesce(
              case when v_live.state = 'ready' and v_live.due_at > v_now then 'delayed' end, v_live.state,
              (select a.outcome from "public"."pgqrs_archive" a where a.id = v_id), 'deleted'
            ),
            'priority', v_live.priority, 'attempts', v_live.attempts, 'max_attempts', v_live.max_attempts,
            'enqueued_at', trunc(extract(epoch from v_live.enqueued_at) * 1000)::bigint,
            'due_at', trunc(extract(epoch from v_live.due_at) * 1000)::bigint,
            'expires_at', trunc(extract(epoch from v_live.expires_at) * 1000)::bigint
          );
          continue;
        end if;
      end if;
      insert into "public"."pgqrs_messages" (
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
$pgqrs$;

/* pgqrs:migrate functions */ create or replace function "public"."pgqrs_enqueue"(
  queue text, payload json, options json default '{}'
) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $pgqrs$
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
  from "public"."pgqrs_enqueue_many"(
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
$pgqrs$;

/* pgqrs:recordMigration */ insert into "public"."pgqrs_migrations" (version, name, applied_at, objects)
select 2, 'functions', statement_timestamp(), (with made as materialized (select json_array_elements_text('["table pgqrs_migrations","table pgqrs_queues","table pgqrs_messages","index pgqrs_messages_ready","index pgqrs_messages_leased","table pgqrs_archive","index pgqrs_archive_ended","index pgqrs_archive_dead","table pgqrs_keys","table pgqrs_workers","table pgqrs_maintenance","function pgqrs_claim(p_queue text, p_limit bigint, p_lease_ms bigint, p_default_lease_ms bigint, p_holder text, p_type text, p_max_attempts bigint, p_is_ahead boolean, p_now timestamp with time zone)","function pgqrs_archive_leased(p_items json, p_holder text, p_by text, p_now timestamp with time zone)","function pgqrs_archive_plain(p_ids bigint[], p_tokens bigint[], p_holder text, p_by text, p_now timestamp with time zone)","function pgqrs_delete_leased(p_items json, p_holder text)","function pgqrs_release_leased(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_extend_leased(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_beat(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_look(p_queues json, p_now timestamp with time zone)","function pgqrs_endings(p_ids json)","function pgqrs_fail_leased(p_items json, p_holder text, p_by text, p_now timestamp with time zone)","function pgqrs_enqueue_many(p_queue text, p_payloads json, p_options json, p_hint text, p_now timestamp with time zone)","function pgqrs_enqueue(queue text, payload json, options json)"]'::json) as name),
own as materialized (
  select c.oid, c.relname, c.relpersistence
  from pg_catalog.pg_class c
  where c.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass) and c.relkind = 'r' and 'table ' || c.relname in (select name from made)
)
select json_object_agg(o.name, o.definition order by o.name) as objects from (
  select 'column ' || c.relname || '.' || a.attname as name,
    format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end ||
      coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') ||
      case when a.attidentity = '' then '' else ' identity' end as definition
  from own c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
  union all
  select 'table ' || c.relname, case c.relpersistence when 'u' then 'unlogged' else 'logged' end from own c
  union all
  select 'index ' || x.relname, pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' invalid' end
  from own c
  join pg_catalog.pg_index i on i.indrelid = c.oid
  join pg_catalog.pg_class x on x.oid = i.indexrelid
  where 'index ' || x.relname in (select name from made)
    or exists (select 1 from pg_catalog.pg_constraint k where k.conindid = x.oid and k.conrelid = c.oid)
  union all
  select 'constraint ' || c.relname || '.' || x.conname, pg_get_constraintdef(x.oid)
  from own c
  join pg_catalog.pg_constraint x on x.conrelid = c.oid
  where x.contype in ('c', 'p', 'u')
  union all
  select f.name, f.definition
  from (
    select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name,
      encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') || coalesce(' ' || array_to_string(p.proconfig, ' '), '')
        as definition
    from pg_catalog.pg_proc p where p.pronamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass)
  ) f
  where f.name in (select name from made)
  union all
  -- The text of a view reads otherwise from one version of the server to the next, its columns do not.
  select 'view ' || c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
  from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0
  where c.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass) and c.relkind = 'v' and 'view ' || c.relname in (select name from made)
  group by c.relname
  union all
  select 'trigger ' || t.tgname, c.relname || ' ' || t.tgtype || ' ' || t.tgenabled::text || ' ' || p.proname
  from own c
  join pg_catalog.pg_trigger t on t.tgrelid = c.oid
  join pg_catalog.pg_proc p on p.oid = t.tgfoid
  where 'trigger ' || t.tgname in (select name from made)
) o);

-- migration 3
/* pgqrs:migrate runs */ alter table "public"."pgqrs_messages" add column if not exists waits json;

/* pgqrs:migrate runs */ alter table "public"."pgqrs_messages" add column if not exists wish text;

/* pgqrs:migrate runs */ alter table "public"."pgqrs_messages" add column if not exists redo_before timestamptz;

/* pgqrs:migrate runs */ alter table "public"."pgqrs_queues" add column if not exists is_workflow boolean not null default false;

/* pgqrs:migrate runs */ create table "public"."pgqrs_steps" (
  run_id bigint not null,
  key text not null,
  place integer not null,
  kind text not null,
  state text not null,
  attempts integer not null default 0,
  due_at timestamptz,
  child_id bigint,
  value json,
  -- The length of the value, known without reading it.
  size integer,
  error json,
  -- In which order the steps of the run have ended.
  ending integer,
  started_at timestamptz not null,
  ended_at timestamptz,
  primary key (run_id, key)
);

/* pgqrs:migrate runs */ create table "public"."pgqrs_mailbox" (
  run_id bigint not null,
  id bigint generated always as identity,
  topic text not null,
  key text,
  payload json,
  sent_at timestamptz not null,
  taken_by text,
  primary key (run_id, id)
);

/* pgqrs:migrate runs */ create unique index pgqrs_mailbox_key on "public"."pgqrs_mailbox" (run_id, key) where key is not null;

/* pgqrs:migrate runs */ create index pgqrs_mailbox_topic on "public"."pgqrs_mailbox" (run_id, topic, id) where taken_by is null;

/* pgqrs:migrate runs */ create or replace function "public"."pgqrs_record_steps"(
  p_items json, p_holder text, p_now timestamptz
) returns table (run_id bigint, token bigint, wish text, written bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
#variable_conflict use_column
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
begin
  return query
  with item as materialized (
    select * from json_to_recordset(p_items) as i(
      id bigint, token bigint, key text, place int, kind text, state text, attempts int, delay_ms numeric, at_ms numeric,
      took_ms numeric, child_id bigint, value json, size int, error json, ending int
    )
  ), held as materialized (
    select m.id, m.token, m.wish
    from (select distinct id, token from item order by id) i
    cross join lateral (
      select m.id, m.token, m.wish from "public"."pgqrs_messages" m where m.id = any (array[i.id]) and m.holder = p_holder and m.token = i.token for no key update
    ) m
  ), kept as (
    insert into "public"."pgqrs_steps" as s (
      run_id, key, place, kind, state, attempts, due_at, child_id, value, size, error, ending, started_at, ended_at
    )
    select i.id, i.key, i.place, i.kind, i.state, i.attempts, coalesce(
        to_timestamp(i.at_ms::float8 / 1000), v_now + i.delay_ms::float8 * interval '1 millisecond'
      ), i.child_id, i.value, i.size, i.error, i.ending, v_now - i.took_ms::float8 * interval '1 millisecond',
      case when i.state in ('succeeded', 'failed') then v_now end
    from item i join held h on h.id = i.id and h.token = i.token
    on conflict (run_id, key) do update
    set state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at, value = excluded.value,
      size = excluded.size, error = excluded.error, ending = excluded.ending, ended_at = excluded.ended_at,
      child_id = coalesce(excluded.child_id, s.child_id)
    where s.state not in ('succeeded', 'failed')
    returning run_id
  )
  select h.id, h.token, h.wish, (select count(*) from kept k where k.run_id = h.id) from held h;
end
$pgqrs$;

/* pgqrs:migrate runs */ create or replace function "public"."pgqrs_park_runs"(
  p_items json, p_holder text, p_now timestamptz
) returns table (run_id bigint, token bigint, due_ms bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
#variable_conflict use_column
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
  v_item record;
  v_due timestamptz;
  v_waits json;
  v_queue bigint;
  v_state text;
begin
  for v_item in
    select i.* from json_to_recordset(p_items) as i(
      id bigint, token bigint, state text, reason text, at_once int, look_ms bigint, waits json
    )
    order by i.id
  loop
    select m.queue_id, case when v_item.state = 'ready' and m.wish = 'pause' then 'paused' else v_item.state end
    into v_queue, v_state
    from "public"."pgqrs_messages" m
    where m.id = v_item.id and m.holder = p_holder and m.token = v_item.token
    for no key update;
    continue when not found;
    insert into "public"."pgqrs_steps" as s (run_id, key, place, kind, state, due_at, child_id, started_at)
    select v_item.id, w.key, w.place, w.kind, 'waiting', coalesce(
      to_timestamp(w.at_ms::float8 / 1000), v_now + w.delay_ms::float8 * interval '1 millisecond'
    ), w.child_id, v_now
    from json_to_recordset(v_item.waits) as w(
      key text, place int, kind text, delay_ms numeric, at_ms numeric, child_id bigint
    )
    on conflict (run_id, key) do nothing;
    select min(s.due_at), json_agg(json_strip_nulls(json_build_object(
      'key', s.key, 'kind', s.kind, 'topic', w.topic, 'childId', s.child_id,
      'until', trunc(extract(epoch from s.due_at) * 1000)::bigint
    )) order by s.due_at, s.place)
    into v_due, v_waits
    from json_to_recordset(v_item.waits) as w(key text, topic text)
    join "public"."pgqrs_steps" s on s.run_id = v_item.id and s.key = w.key;
    if v_item.at_once = 1 or exists (
      select from json_to_recordset(v_item.waits) as w(topic text)
      join "public"."pgqrs_mailbox" b on b.run_id = v_item.id and b.topic = w.topic and b.taken_by is null
    ) then
      v_due := v_now;
    end if;
    if v_state = 'blocked' then
      v_waits := json_build_array(json_strip_nulls(json_build_object('kind', v_state, 'reason', v_item.reason)));
      v_due := v_now;
    end if;
    v_due := coalesce(least(v_due, v_now + v_item.look_ms * interval '1 millisecond'), to_timestamp(253402300799));
    update "public"."pgqrs_messages" m
    set state = v_state, due_at = v_due, waits = v_waits, wish = null, token = m.token + 1, holder = null,
      leased_at = null, lease_until = null, expires_at = null
    where m.id = v_item.id;
    run_id := v_item.id;
    token := v_item.token;
    due_ms := case when v_state = 'ready' then greatest(0, ceil(extract(epoch from v_due - v_now) * 1000)) end;
    return next;
    if v_state = 'ready' then
      perform pg_notify('pgqrs_public', 'queue:' || (select q.name from "public"."pgqrs_queues" q where q.id = v_queue));
    end if;
  end loop;
end
$pgqrs$;

/* pgqrs:migrate runs */ create or replace function "public"."pgqrs_receive_mail"(
  p_items json, p_holder text, p_now timestamptz
) returns table (run_id bigint, token bigint, key text, state text, value text, due_ms bigint, wish text)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
#variable_conflict use_column
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
  v_item record;
  v_step "public"."pgqrs_steps"%rowtype;
  v_mail "public"."pgqrs_mailbox"%rowtype;
  v_due timestamptz;
begin
  for v_item in
    select i.* from json_to_recordset(p_items) as i(
      id bigint, token bigint, key text, place int, kind text, topic text, delay_ms numeric, at_ms numeric, child_id bigint,
      nothing json, ending int
    )
    order by i.id, i.place
  loop
    select m.wish into wish from "public"."pgqrs_messages" m
    where m.id = v_item.id and m.holder = p_holder and m.token = v_item.token
    for no key update;
    continue when not found;
    run_id := v_item.id;
    token := v_item.token;
    key := v_item.key;
    select * into v_step from "public"."pgqrs_steps" s where s.run_id = v_item.id and s.key = v_item.key;
    if v_step.state in ('succeeded', 'failed') then
      -- The answer to the same call got lost.
      state := v_step.state;
      value := coalesce(v_step.error, v_step.value)::text;
      return next;
      continue;
    end if;
    v_due := coalesce(
      v_step.due_at, to_timestamp(v_item.at_ms::float8 / 1000),
      v_now + v_item.delay_ms::float8 * interval '1 millisecond'
    );
    select * into v_mail from "public"."pgqrs_mailbox" b
    where b.run_id = v_item.id and b.topic = v_item.topic and b.taken_by is null
    order by b.id
    limit 1;
    if v_mail.id is not null then
      update "public"."pgqrs_mailbox" b set taken_by = v_item.key where b.run_id = v_item.id and b.id = v_mail.id;
      state := case when v_item.kind = 'call' and v_mail.payload ->> 'outcome' <> 'succeeded' then 'failed' else 'succeeded' end;
      value := v_mail.payload::text;
    elsif v_due <= v_now then
      state := 'succeeded';
      value := v_item.nothing::text;
    else
      state := 'waiting';
      value := null;
    end if;
    insert into "public"."pgqrs_steps" as s (
      run_id, key, place, kind, state, due_at, child_id, value, size, error, ending, started_at, ended_at
    )
    values (v_item.id, v_item.key, v_item.place, v_item.kind, state, v_due, v_item.child_id,
      case when state <> 'failed' then value::json end, length(value), case when state = 'failed' then value::json end,
      case when state <> 'waiting' then v_item.ending end, v_now, case when state <> 'waiting' then v_now end)
    on conflict (run_id, key) do update
    set state = excluded.state, value = excluded.value, size = excluded.size, error = excluded.error,
      ending = excluded.ending, ended_at = excluded.ended_at, child_id = coalesce(excluded.child_id, s.child_id);
    due_ms := ceil(extract(epoch from v_due - v_now) * 1000);
    return next;
  end loop;
end
$pgqrs$;

/* pgqrs:migrate runs */ create or replace function "public"."pgqrs_send_mail"(
  p_run bigint, p_topic text, p_key text, p_payload json, p_now timestamptz
) returns table (fate text, queue text)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
#variable_conflict use_column
declare
  v_now timestamptz := coalesce(p_now, date_trunc('milliseconds', clock_timestamp()));
begin
  update "public"."pgqrs_messages" m
  set due_at = case when m.state = 'ready' and m.due_at > v_now and exists (
    select from json_array_elements(m.waits) w where w ->> 'topic' = p_topic
  ) then v_now else m.due_at end
  where m.id = p_run
  returning (select q.name from "public"."pgqrs_queues" q where q.id = m.queue_id) into queue;
  if queue is null then
    fate := (select 'ended' from "public"."pgqrs_archive" a where a.id = p_run);
    if fate is not null and p_topic like '$%' then
      -- A parent that has ended may be brought back, and then goes on with what has become of its children.
      insert into "public"."pgqrs_mailbox" (run_id, topic, key, payload, sent_at)
      values (p_run, p_topic, p_key, p_payload, v_now)
      on conflict do nothing;
    end if;
    if fate is not null then
      return next;
    end if;
    return;
  end if;
  insert into "public"."pgqrs_mailbox" (run_id, topic, key, payload, sent_at)
  values (p_run, p_topic, p_key, p_payload, v_now)
  on conflict do nothing;
  perform pg_notify('pgqrs_public', 'queue:' || queue);
  fate := 'sent';
  return next;
end
$pgqrs$;

/* pgqrs:migrate runs */ create or replace function "public"."pgqrs_tell_parent"() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $pgqrs$
declare
  v_parent text := new.headers ->> 'pgqrs-parent';
  v_key text := substr(v_parent, strpos(v_parent, '/') + 1);
begin
  -- Only the step that has started it waits for it.
  perform from "public"."pgqrs_steps" s
  where s.run_id = split_part(v_parent, '/', 1)::bigint and s.key = v_key and s.child_id = new.id;
  if found then
    perform from "public"."pgqrs_send_mail"(
      split_part(v_parent, '/', 1)::bigint, '$child/' || v_key, 'child:' || new.id || ':' || new.token,
      json_build_object('outcome', new.outcome, 'reason', new.reason, 'id', new.id, 'result', new.result, 'error', new.error),
      new.archived_at
    );
  end if;
  return null;
end
$pgqrs$;

/* pgqrs:migrate runs */ create or replace function "public"."pgqrs_archive_children"(
  p_items json, p_holder text, p_by text, p_now timestamptz
) returns setof bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
declare
  v_parents bigint[] := array(
    select p.id from (
      select distinct i.parent_id as id from json_to_recordset(p_items) as i(parent_id bigint) where i.parent_id is not null
    ) p order by p.id
  );
  v_parent bigint;
begin
  foreach v_parent in array v_parents loop
    perform from "public"."pgqrs_messages" m where m.id = v_parent for no key update;
  end loop;
  return query select a from "public"."pgqrs_archive_leased"(p_items, p_holder, p_by, p_now) a;
end
$pgqrs$;

/* pgqrs:migrate runs */ create or replace trigger pgqrs_archive_tells after insert on "public"."pgqrs_archive"
for each row when (new.headers is not null and new.headers ->> 'pgqrs-parent' ~ '^[0-9]{1,18}/')
execute function "public"."pgqrs_tell_parent"();

/* pgqrs:migrate runs */ create or replace function "public"."pgqrs_forget_runs"() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $pgqrs$
begin
  delete from "public"."pgqrs_steps" s using gone g where s.run_id = any (array[g.id]) and not exists (select from "public"."pgqrs_messages" m where m.id = any (array[g.id]));
  delete from "public"."pgqrs_mailbox" b using gone g where b.run_id = any (array[g.id]) and not exists (select from "public"."pgqrs_messages" m where m.id = any (array[g.id]));
  return null;
end
$pgqrs$;

/* pgqrs:migrate runs */ create or replace trigger pgqrs_archive_forgets after delete on "public"."pgqrs_archive"
referencing old table as gone for each statement
execute function "public"."pgqrs_forget_runs"();

/* pgqrs:migrate runs */ create view "public"."pgqrs_runs" as
select id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, reason, error, parent_id, queue_paused_at, (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id) as steps, (select count(*) from "public"."pgqrs_steps" s where s.run_id = r.id and (s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= date_trunc('milliseconds', statement_timestamp()))) as ended_steps
from (
select m.id, q.name as workflow, case
    when m.state <> 'ready' or m.due_at <= date_trunc('milliseconds', statement_timestamp()) then m.state when m.waits is null then 'delayed' else 'waiting'
  end as status, m.key, m.priority, m.enqueued_at,
  case when m.state = 'ready' and m.due_at < to_timestamp(253402300799) then m.due_at end as due_at, null::timestamptz as ended_at,
  m.attempts, m.crashes, substr(m.holder, 1, length(m.holder) - 9) as worker, m.lease_until,
  case when (m.state in ('blocked', 'paused') or m.state = 'ready' and m.due_at > date_trunc('milliseconds', statement_timestamp())) then m.waits end as waits,
  case when m.state = 'blocked' then m.waits -> 0 ->> 'reason' end as reason, m.error, coalesce(
    substring(m.headers ->> 'pgqrs-parent' from '^([0-9]{1,15})/'),
    substring(m.key from '^[$]run/([0-9]{1,15})/')
  )::bigint as parent_id,
  q.paused_at as queue_paused_at
from "public"."pgqrs_messages" m join "public"."pgqrs_queues" q on q.id = m.queue_id
where q.is_workflow
union all
select a.id, q.name as workflow, a.outcome as status, a.key, a.priority, a.enqueued_at,
  null::timestamptz as due_at, a.archived_at as ended_at, a.attempts, a.crashes, a.archived_by as worker,
  null::timestamptz as lease_until, null::json as waits, a.reason, a.error, coalesce(
    substring(a.headers ->> 'pgqrs-parent' from '^([0-9]{1,15})/'),
    substring(a.key from '^[$]run/([0-9]{1,15})/')
  )::bigint as parent_id,
  q.paused_at as queue_paused_at
from "public"."pgqrs_archive" a join "public"."pgqrs_queues" q on q.id = a.queue_id
where q.is_workflow
) r;

/* pgqrs:recordMigration */ insert into "public"."pgqrs_migrations" (version, name, applied_at, objects)
select 3, 'runs', statement_timestamp(), (with made as materialized (select json_array_elements_text('["table pgqrs_migrations","table pgqrs_queues","table pgqrs_messages","index pgqrs_messages_ready","index pgqrs_messages_leased","table pgqrs_archive","index pgqrs_archive_ended","index pgqrs_archive_dead","table pgqrs_keys","table pgqrs_workers","table pgqrs_maintenance","function pgqrs_claim(p_queue text, p_limit bigint, p_lease_ms bigint, p_default_lease_ms bigint, p_holder text, p_type text, p_max_attempts bigint, p_is_ahead boolean, p_now timestamp with time zone)","function pgqrs_archive_leased(p_items json, p_holder text, p_by text, p_now timestamp with time zone)","function pgqrs_archive_plain(p_ids bigint[], p_tokens bigint[], p_holder text, p_by text, p_now timestamp with time zone)","function pgqrs_delete_leased(p_items json, p_holder text)","function pgqrs_release_leased(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_extend_leased(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_beat(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_look(p_queues json, p_now timestamp with time zone)","function pgqrs_endings(p_ids json)","function pgqrs_fail_leased(p_items json, p_holder text, p_by text, p_now timestamp with time zone)","function pgqrs_enqueue_many(p_queue text, p_payloads json, p_options json, p_hint text, p_now timestamp with time zone)","function pgqrs_enqueue(queue text, payload json, options json)","table pgqrs_steps","table pgqrs_mailbox","index pgqrs_mailbox_key","index pgqrs_mailbox_topic","function pgqrs_record_steps(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_park_runs(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_receive_mail(p_items json, p_holder text, p_now timestamp with time zone)","function pgqrs_send_mail(p_run bigint, p_topic text, p_key text, p_payload json, p_now timestamp with time zone)","function pgqrs_tell_parent()","function pgqrs_archive_children(p_items json, p_holder text, p_by text, p_now timestamp with time zone)","trigger pgqrs_archive_tells","function pgqrs_forget_runs()","trigger pgqrs_archive_forgets","view pgqrs_runs"]'::json) as name),
own as materialized (
  select c.oid, c.relname, c.relpersistence
  from pg_catalog.pg_class c
  where c.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass) and c.relkind = 'r' and 'table ' || c.relname in (select name from made)
)
select json_object_agg(o.name, o.definition order by o.name) as objects from (
  select 'column ' || c.relname || '.' || a.attname as name,
    format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end ||
      coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') ||
      case when a.attidentity = '' then '' else ' identity' end as definition
  from own c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
  union all
  select 'table ' || c.relname, case c.relpersistence when 'u' then 'unlogged' else 'logged' end from own c
  union all
  select 'index ' || x.relname, pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' invalid' end
  from own c
  join pg_catalog.pg_index i on i.indrelid = c.oid
  join pg_catalog.pg_class x on x.oid = i.indexrelid
  where 'index ' || x.relname in (select name from made)
    or exists (select 1 from pg_catalog.pg_constraint k where k.conindid = x.oid and k.conrelid = c.oid)
  union all
  select 'constraint ' || c.relname || '.' || x.conname, pg_get_constraintdef(x.oid)
  from own c
  join pg_catalog.pg_constraint x on x.conrelid = c.oid
  where x.contype in ('c', 'p', 'u')
  union all
  select f.name, f.definition
  from (
    select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name,
      encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') || coalesce(' ' || array_to_string(p.proconfig, ' '), '')
        as definition
    from pg_catalog.pg_proc p where p.pronamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass)
  ) f
  where f.name in (select name from made)
  union all
  -- The text of a view reads otherwise from one version of the server to the next, its columns do not.
  select 'view ' || c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
  from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0
  where c.relnamespace = (select relnamespace from pg_catalog.pg_class where oid = '"public"."pgqrs_migrations"'::regclass) and c.relkind = 'v' and 'view ' || c.relname in (select name from made)
  group by c.relname
  union all
  select 'trigger ' || t.tgname, c.relname || ' ' || t.tgtype || ' ' || t.tgenabled::text || ' ' || p.proname
  from own c
  join pg_catalog.pg_trigger t on t.tgrelid = c.oid
  join pg_catalog.pg_proc p on p.oid = t.tgfoid
  where 'trigger ' || t.tgname in (select name from made)
) o);
