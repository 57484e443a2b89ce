/**
 * Migration 3: what makes a message a run.
 *
 * A run is a message that remembers its steps. Its steps and what was sent to it hang on the message's id, and stay with it
 * until the archive forgets it. A run that waits is a message that is due later: no other state, no other index, no other
 * claim. What it waits for stands in `waits`; whoever gives it that makes it due at once, under the lock of its row.
 */
import { sendHint } from "../channel.ts";
import type { DialectName } from "../dialect.ts";
import { bodyQuote, type Fragment, raw, sql, table } from "../sql.ts";
import { NOW, PINNED } from "./0002_pinned.ts";
import { NEVER_MS, PARENT_HEADER, runsView } from "./0003_view.ts";

const TABLES: readonly string[] = [
  "table pgqrs_steps",
  "table pgqrs_mailbox",
  "index pgqrs_mailbox_key",
  "index pgqrs_mailbox_topic",
];

/** What is made. */
export const runObjects: Readonly<Record<DialectName, readonly string[]>> = {
  postgres: [
    ...TABLES,
    "function pgqrs_record_steps(p_items json, p_holder text, p_now timestamp with time zone)",
    "function pgqrs_park_runs(p_items json, p_holder text, p_now timestamp with time zone)",
    "function pgqrs_receive_mail(p_items json, p_holder text, p_now timestamp with time zone)",
    "function pgqrs_send_mail(p_run bigint, p_topic text, p_key text, p_payload json, p_now timestamp with time zone)",
    "function pgqrs_tell_parent()",
    "function pgqrs_archive_children(p_items json, p_holder text, p_by text, p_now timestamp with time zone)",
    "trigger pgqrs_archive_tells",
    "function pgqrs_forget_runs()",
    "trigger pgqrs_archive_forgets",
    "view pgqrs_runs",
  ],
  sqlite: [
    ...TABLES,
    "index pgqrs_mailbox_taken",
    "trigger pgqrs_archive_tells",
    "trigger pgqrs_archive_forgets",
    "view pgqrs_runs",
  ],
};

export { NEVER_MS, PARENT_HEADER };

/** The lease is the caller's: as in migration 2. */
const FENCE = raw("m.id = any (array[i.id]) and m.holder = p_holder and m.token = i.token");

/** The statements for Postgres. */
export function postgresRuns(isUnlogged: boolean): Fragment[] {
  const create = raw(isUnlogged ? "create unlogged table" : "create table");
  return [
    sql`alter table ${table("messages")} add column if not exists waits json`,
    sql`alter table ${table("messages")} add column if not exists wish text`,
    sql`alter table ${table("messages")} add column if not exists redo_before timestamptz`,
    sql`alter table ${table("queues")} add column if not exists is_workflow boolean not null default false`,
    sql`${create} ${table("steps")} (
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
)`,
    sql`${create} ${table("mailbox")} (
  run_id bigint not null,
  id bigint generated always as identity,
  topic text not null,
  key text,
  payload json,
  sent_at timestamptz not null,
  taken_by text,
  primary key (run_id, id)
)`,
    sql`create unique index ${raw("pgqrs_mailbox_key")} on ${table("mailbox")} (run_id, key) where key is not null`,
    sql`create index ${raw("pgqrs_mailbox_topic")} on ${table("mailbox")} (run_id, topic, id) where taken_by is null`,
    recordSteps(),
    parkRuns(),
    receiveMail(),
    sendMail(),
    tellParent(),
    archiveChildren(),
    sql`create or replace trigger ${raw("pgqrs_archive_tells")} after insert on ${table("archive")}
for each row when (new.headers is not null and new.headers ->> '${raw(PARENT_HEADER)}' ~ '^[0-9]{1,18}/')
execute function ${table("tell_parent")}()`,
    forgetRuns(),
    sql`create or replace trigger ${raw("pgqrs_archive_forgets")} after delete on ${table("archive")}
referencing old table as gone for each statement
execute function ${table("forget_runs")}()`,
    runsView(),
  ];
}

/**
 * Records steps of runs whose leases are the caller's. What has ended once stays as it is. Rows: the deliveries that
 * were held, what somebody wishes of the run, and how many of its steps were written.
 */
function recordSteps(): Fragment {
  return sql`create or replace function ${table("record_steps")}(
  p_items json, p_holder text, p_now timestamptz
) returns table (run_id bigint, token bigint, wish text, written bigint)
language plpgsql
${PINNED}
as ${bodyQuote}
#variable_conflict use_column
declare
  v_now timestamptz := ${NOW};
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
      select m.id, m.token, m.wish from ${table("messages")} m where ${FENCE} for no key update
    ) m
  ), kept as (
    insert into ${table("steps")} as s (
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
${bodyQuote}`;
}

/**
 * Gives runs back until something happens that they wait for: a time, or mail of a topic. What has happened already,
 * under the lock of the row, makes a run due at once, so that nothing can slip in between. A run may also be given back
 * without being claimable, as \`paused\` or \`blocked\`. Rows: run, in how many milliseconds it is due.
 */
function parkRuns(): Fragment {
  return sql`create or replace function ${table("park_runs")}(
  p_items json, p_holder text, p_now timestamptz
) returns table (run_id bigint, token bigint, due_ms bigint)
language plpgsql
${PINNED}
as ${bodyQuote}
#variable_conflict use_column
declare
  v_now timestamptz := ${NOW};
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
    from ${table("messages")} m
    where m.id = v_item.id and m.holder = p_holder and m.token = v_item.token
    for no key update;
    continue when not found;
    insert into ${table("steps")} as s (run_id, key, place, kind, state, due_at, child_id, started_at)
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
    join ${table("steps")} s on s.run_id = v_item.id and s.key = w.key;
    if v_item.at_once = 1 or exists (
      select from json_to_recordset(v_item.waits) as w(topic text)
      join ${table("mailbox")} b on b.run_id = v_item.id and b.topic = w.topic and b.taken_by is null
    ) then
      v_due := v_now;
    end if;
    if v_state = 'blocked' then
      v_waits := json_build_array(json_strip_nulls(json_build_object('kind', v_state, 'reason', v_item.reason)));
      v_due := v_now;
    end if;
    v_due := coalesce(least(v_due, v_now + v_item.look_ms * interval '1 millisecond'), to_timestamp(${
    raw(String(NEVER_MS / 1_000))
  }));
    update ${table("messages")} m
    set state = v_state, due_at = v_due, waits = v_waits, wish = null, token = m.token + 1, holder = null,
      leased_at = null, lease_until = null, expires_at = null
    where m.id = v_item.id;
    run_id := v_item.id;
    token := v_item.token;
    due_ms := case when v_state = 'ready' then greatest(0, ceil(extract(epoch from v_due - v_now) * 1000)) end;
    return next;
    if v_state = 'ready' then
      perform ${sendHint(sql`'queue:' || (select q.name from ${table("queues")} q where q.id = v_queue)`)};
    end if;
  end loop;
end
${bodyQuote}`;
}

/**
 * Takes for each item the oldest mail of a topic, and records it as the value of the step. Nothing there, and the time over:
 * records \`nothing\`, which the caller gives. Rows: run, state of the step, its value, in how many milliseconds its time is
 * over, what somebody wishes.
 */
function receiveMail(): Fragment {
  return sql`create or replace function ${table("receive_mail")}(
  p_items json, p_holder text, p_now timestamptz
) returns table (run_id bigint, token bigint, key text, state text, value text, due_ms bigint, wish text)
language plpgsql
${PINNED}
as ${bodyQuote}
#variable_conflict use_column
declare
  v_now timestamptz := ${NOW};
  v_item record;
  v_step ${table("steps")}%rowtype;
  v_mail ${table("mailbox")}%rowtype;
  v_due timestamptz;
begin
  for v_item in
    select i.* from json_to_recordset(p_items) as i(
      id bigint, token bigint, key text, place int, kind text, topic text, delay_ms numeric, at_ms numeric, child_id bigint,
      nothing json, ending int
    )
    order by i.id, i.place
  loop
    select m.wish into wish from ${table("messages")} m
    where m.id = v_item.id and m.holder = p_holder and m.token = v_item.token
    for no key update;
    continue when not found;
    run_id := v_item.id;
    token := v_item.token;
    key := v_item.key;
    select * into v_step from ${table("steps")} s where s.run_id = v_item.id and s.key = v_item.key;
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
    select * into v_mail from ${table("mailbox")} b
    where b.run_id = v_item.id and b.topic = v_item.topic and b.taken_by is null
    order by b.id
    limit 1;
    if v_mail.id is not null then
      update ${table("mailbox")} b set taken_by = v_item.key where b.run_id = v_item.id and b.id = v_mail.id;
      state := case when v_item.kind = 'call' and v_mail.payload ->> 'outcome' <> 'succeeded' then 'failed' else 'succeeded' end;
      value := v_mail.payload::text;
    elsif v_due <= v_now then
      state := 'succeeded';
      value := v_item.nothing::text;
    else
      state := 'waiting';
      value := null;
    end if;
    insert into ${table("steps")} as s (
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
${bodyQuote}`;
}

/**
 * Puts mail into a run's box, and makes the run due if it waits for it. Row: \`sent\`, \`ended\`, or nothing for a run
 * that does not exist. Under a key that was used before nothing is added.
 */
function sendMail(): Fragment {
  return sql`create or replace function ${table("send_mail")}(
  p_run bigint, p_topic text, p_key text, p_payload json, p_now timestamptz
) returns table (fate text, queue text)
language plpgsql
${PINNED}
as ${bodyQuote}
#variable_conflict use_column
declare
  v_now timestamptz := ${NOW};
begin
  update ${table("messages")} m
  set due_at = case when m.state = 'ready' and m.due_at > v_now and exists (
    select from json_array_elements(m.waits) w where w ->> 'topic' = p_topic
  ) then v_now else m.due_at end
  where m.id = p_run
  returning (select q.name from ${table("queues")} q where q.id = m.queue_id) into queue;
  if queue is null then
    fate := (select 'ended' from ${table("archive")} a where a.id = p_run);
    if fate is not null and p_topic like '$%' then
      -- A parent that has ended may be brought back, and then goes on with what has become of its children.
      insert into ${table("mailbox")} (run_id, topic, key, payload, sent_at)
      values (p_run, p_topic, p_key, p_payload, v_now)
      on conflict do nothing;
    end if;
    if fate is not null then
      return next;
    end if;
    return;
  end if;
  insert into ${table("mailbox")} (run_id, topic, key, payload, sent_at)
  values (p_run, p_topic, p_key, p_payload, v_now)
  on conflict do nothing;
  perform ${sendHint(raw("'queue:' || queue"))};
  fate := 'sent';
  return next;
end
${bodyQuote}`;
}

/** Whatever ends a child, its parent hears of it: the outcome becomes mail of the step that waits for it. */
function tellParent(): Fragment {
  return sql`create or replace function ${table("tell_parent")}() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as ${bodyQuote}
declare
  v_parent text := new.headers ->> '${raw(PARENT_HEADER)}';
  v_key text := substr(v_parent, strpos(v_parent, '/') + 1);
begin
  -- Only the step that has started it waits for it.
  perform from ${table("steps")} s
  where s.run_id = split_part(v_parent, '/', 1)::bigint and s.key = v_key and s.child_id = new.id;
  if found then
    perform from ${table("send_mail")}(
      split_part(v_parent, '/', 1)::bigint, '$child/' || v_key, 'child:' || new.id || ':' || new.token,
      json_build_object('outcome', new.outcome, 'reason', new.reason, 'id', new.id, 'result', new.result, 'error', new.error),
      new.archived_at
    );
  end if;
  return null;
end
${bodyQuote}`;
}

/**
 * Ends leased messages as succeeded among which there are children. Their parents are locked first, in ascending order:
 * otherwise two workers that end children of the same parents could wait for each other.
 */
function archiveChildren(): Fragment {
  return sql`create or replace function ${table("archive_children")}(
  p_items json, p_holder text, p_by text, p_now timestamptz
) returns setof bigint
language plpgsql
${PINNED}
as ${bodyQuote}
declare
  v_parents bigint[] := array(
    select p.id from (
      select distinct i.parent_id as id from json_to_recordset(p_items) as i(parent_id bigint) where i.parent_id is not null
    ) p order by p.id
  );
  v_parent bigint;
begin
  foreach v_parent in array v_parents loop
    perform from ${table("messages")} m where m.id = v_parent for no key update;
  end loop;
  return query select a from ${table("archive_leased")}(p_items, p_holder, p_by, p_now) a;
end
${bodyQuote}`;
}

/** What the archive forgets is forgotten with its steps, unless it has come back to life. */
function forgetRuns(): Fragment {
  const isGone = sql`not exists (select from ${table("messages")} m where m.id = any (array[g.id]))`;
  return sql`create or replace function ${table("forget_runs")}() returns trigger
language plpgsql
${PINNED}
as ${bodyQuote}
begin
  delete from ${table("steps")} s using gone g where s.run_id = any (array[g.id]) and ${isGone};
  delete from ${table("mailbox")} b using gone g where b.run_id = any (array[g.id]) and ${isGone};
  return null;
end
${bodyQuote}`;
}

/** The statements for SQLite. */
export function sqliteRuns(): Fragment[] {
  return [
    sql`alter table ${table("messages")} add column waits text`,
    sql`alter table ${table("messages")} add column wish text`,
    sql`alter table ${table("messages")} add column redo_before integer`,
    sql`alter table ${table("queues")} add column is_workflow integer not null default 0`,
    sql`create table ${table("steps")} (
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
) without rowid`,
    sql`create table ${table("mailbox")} (
  id integer primary key autoincrement,
  run_id integer not null,
  topic text not null,
  key text,
  payload text,
  sent_at integer not null,
  taken_by text
)`,
    sql`create unique index ${table("mailbox_key")} on ${table("mailbox")} (run_id, key) where key is not null`,
    sql`create index ${table("mailbox_topic")} on ${table("mailbox")} (run_id, topic, id) where taken_by is null`,
    sql`create index ${table("mailbox_taken")} on ${table("mailbox")} (run_id, taken_by)`,
    tellParentOnSqlite(),
    sql`create trigger ${table("archive_forgets")} after delete on ${table("archive")}
when not exists (select 1 from ${table("messages")} m where m.id = old.id) begin
  delete from ${table("steps")} where run_id = old.id;
  delete from ${table("mailbox")} where run_id = old.id;
end`,
    runsView(),
  ];
}

/** The same as {@linkcode tellParent}. */
function tellParentOnSqlite(): Fragment {
  const parent = raw(`new.headers ->> '$."${PARENT_HEADER}"'`);
  const parentId = sql`cast(substr(${parent}, 1, instr(${parent}, '/') - 1) as integer)`;
  const key = sql`substr(${parent}, instr(${parent}, '/') + 1)`;
  return sql`create trigger ${table("archive_tells")} after insert on ${table("archive")}
when ${parent} is not null begin
  insert into ${table("mailbox")} (run_id, topic, key, payload, sent_at)
  select s.run_id, '$child/' || s.key, 'child:' || new.id || ':' || new.token, json_object(
    'outcome', new.outcome, 'reason', new.reason, 'id', new.id, 'result', json(new.result), 'error', json(new.error)
  ), new.archived_at
  from ${table("steps")} s where s.run_id = ${parentId} and s.key = ${key} and s.child_id = new.id
  on conflict do nothing;
  update ${table("messages")} set due_at = new.archived_at
  where id = ${parentId} and state = 'ready' and due_at > new.archived_at and exists (
    select 1 from json_each(waits) w where w.value ->> 'childId' = new.id
  );
end`;
}
