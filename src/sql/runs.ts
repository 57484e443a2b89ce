/**
 * The statements of runs: a run is a message that remembers its steps.
 *
 * Every write of whoever executes a run names the message and the token of its delivery, and changes nothing once that is
 * not the row's own. What several runs write at the same time leaves as one statement.
 */
import { replayed, replayedOf } from "./archive.ts";
import { alsoSend } from "./channel.ts";
import { lockMessages } from "./locks.ts";
import type { Row } from "./driver.ts";
import { NEVER_MS } from "./migrations/0003_runs.ts";
import { liveColumns, stateNow } from "./record.ts";
import {
  duration,
  type Fragment,
  json,
  millis,
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

/** What a step does. */
export type StepKind = "call" | "receive" | "sleep" | "start" | "step" | "transaction" | "value";

/** Where a step stands: `started` is written only for steps that run at most once. */
export type StepState = "failed" | "retrying" | "started" | "succeeded" | "waiting";

/** Which delivery of a run writes. */
export interface RunToken {
  readonly id: number;
  readonly token: number;
}

/** What is recorded of a step. */
export interface StepItem extends RunToken {
  readonly key: string;
  /** The place in the order in which the steps of the run were first reached, from 1. */
  readonly place: number;
  readonly kind: StepKind;
  readonly state: StepState;
  /** How often it has failed. */
  readonly attempts: number;
  /** When its time comes: after so many milliseconds, or at an instant. */
  readonly delay_ms?: number | undefined;
  readonly at_ms?: number | undefined;
  readonly took_ms: number;
  readonly child_id?: number | undefined;
  /** JSON texts. */
  readonly value?: string | undefined;
  readonly error?: string | undefined;
  /** The length of the value. */
  readonly size?: number | undefined;
  /** In which order the steps of the run have ended. */
  readonly ending?: number | undefined;
}

/** Records steps. Rows: the deliveries that were held, what somebody wishes of the run, and how many steps were written. */
export function recordSteps(items: readonly StepItem[], holder: string): Statement {
  return statement(
    "recordSteps",
    perDialect({
      postgres: () =>
        sql`select run_id, token, wish, written from ${table("record_steps")}(${
          embed(items, ["value", "error"])
        }, ${holder}, ${testNow})`,
      sqlite: () => [
        sql`insert into ${table("steps")} as s (
  run_id, key, place, kind, state, attempts, due_at, child_id, value, size, error, ending, started_at, ended_at
)
select m.id, i.value ->> 'key', i.value ->> 'place', i.value ->> 'kind', i.value ->> 'state', i.value ->> 'attempts',
  cast(coalesce(i.value ->> 'at_ms', ${now} + (i.value ->> 'delay_ms')) as integer), i.value ->> 'child_id',
  i.value ->> 'value', length(i.value ->> 'value'), i.value ->> 'error',
  i.value ->> 'ending',
  cast(${now} - (i.value ->> 'took_ms') as integer),
  case when i.value ->> 'state' in ('succeeded', 'failed') then ${now} end
from ${held(items, holder)}
on conflict (run_id, key) do update
set state = excluded.state, attempts = excluded.attempts, due_at = excluded.due_at, value = excluded.value,
  size = excluded.size, error = excluded.error, ending = excluded.ending, ended_at = excluded.ended_at, child_id = coalesce(excluded.child_id, s.child_id)
where s.state not in ('succeeded', 'failed')`,
        sql`select distinct m.id, m.token, m.wish, changes() from ${held(items, holder)}`,
      ],
    }),
  );
}

/** What a run waits for. */
export interface WaitItem {
  readonly key: string;
  readonly place: number;
  readonly kind: StepKind;
  /** From now on, or at an instant; neither: without an end. */
  readonly delay_ms?: number | undefined;
  readonly at_ms?: number | undefined;
  readonly topic?: string | undefined;
  readonly child_id?: number | undefined;
}

/** A run that is given back until something happens, or until somebody resumes it. */
export interface ParkItem extends RunToken {
  readonly state: "blocked" | "paused" | "ready";
  /** Why it is blocked. */
  readonly reason?: string | undefined;
  /** Whether it is due at once, whatever it waits for: 1, else 0. */
  readonly at_once?: 0 | 1;
  /** In how many milliseconds at the latest it is executed again. */
  readonly look_ms?: number;
  readonly waits: readonly WaitItem[];
}

/** Gives runs back. Rows: the runs that were held, and in how many milliseconds they are due; null: not by themselves. */
export function parkRuns(items: readonly ParkItem[], holder: string): Statement {
  return statement(
    "parkRuns",
    perDialect({
      postgres: () =>
        sql`select run_id, token, due_ms from ${table("park_runs")}(${
          json(JSON.stringify(items))
        }, ${holder}, ${testNow})`,
      sqlite: () => [
        sql`insert into ${table("steps")} (run_id, key, place, kind, state, due_at, child_id, started_at)
select m.id, w.value ->> 'key', w.value ->> 'place', w.value ->> 'kind', 'waiting',
  cast(coalesce(w.value ->> 'at_ms', ${now} + (w.value ->> 'delay_ms')) as integer), w.value ->> 'child_id', ${now}
from json_each(${json(JSON.stringify(items))}) i cross join json_each(i.value -> 'waits') w
cross join ${table("messages")} m on ${heldBy(holder)}
where true
on conflict (run_id, key) do nothing`,
        parkParts(items, holder),
      ],
    }),
  );
}

/** SQLite: the update of {@linkcode parkRuns}, after the steps were written for which the runs wait. */
function parkParts(items: readonly ParkItem[], holder: string): Fragment {
  const waits = sql`json_each(i.value -> 'waits') w
    cross join ${table("steps")} s on s.run_id = m.id and s.key = w.value ->> 'key'`;
  const state = sql`case
    when i.value ->> 'state' = 'ready' and m.wish = 'pause' then 'paused' else i.value ->> 'state'
  end`;
  return sql`with parked as materialized (
  select m.id, ${state} as state, case
    when ${state} = 'blocked' or i.value ->> 'at_once' = 1 or exists (
      select 1 from json_each(i.value -> 'waits') w cross join ${table("mailbox")} b
      on b.run_id = m.id and b.topic = w.value ->> 'topic' and b.taken_by is null
    ) then ${now}
    else min(
      coalesce((select min(s.due_at) from ${waits}), ${NEVER_MS}), coalesce(${now} + (i.value ->> 'look_ms'), ${NEVER_MS})
    )
  end as due_at, case
    when ${state} = 'blocked' then json_array(json_patch('{}', json_object('kind', ${state}, 'reason', i.value ->> 'reason')))
    else (
      select json_group_array(json_patch('{}', json_object(
        'key', s.key, 'kind', s.kind, 'topic', w.value ->> 'topic', 'childId', s.child_id, 'until', s.due_at
      )) order by s.due_at is null, s.due_at, s.place) from ${waits}
    )
  end as waits
  from json_each(${json(JSON.stringify(items))}) i cross join ${table("messages")} m on ${heldBy(holder)}
)
update ${table("messages")} as m
set state = p.state, due_at = p.due_at, waits = p.waits, wish = null, token = m.token + 1, holder = null,
  leased_at = null, lease_until = null, expires_at = null
from parked p
where m.id = p.id
returning id, token - 1, case when state = 'ready' then max(0, due_at - ${now}) end`;
}

/** What a step takes out of a run's mailbox. */
export interface ReceiveItem extends RunToken {
  readonly key: string;
  readonly place: number;
  readonly kind: StepKind;
  readonly topic: string;
  /** For how long it waits, from when it was first asked, or until when. */
  readonly delay_ms?: number | undefined;
  readonly at_ms?: number | undefined;
  readonly child_id?: number | undefined;
  /** What is received when nothing has come in time: a JSON text. */
  readonly nothing: string;
  /** In which order the steps of the run have ended, if this one does now. */
  readonly ending: number;
}

/**
 * Takes mail; of one topic of a run one at a time. Rows: run, token, key, state of the step, its value, in how many
 * milliseconds its time is over, what is wished.
 */
export function receiveMail(items: readonly ReceiveItem[], holder: string): Statement {
  return statement(
    "receiveMail",
    perDialect({
      postgres: () =>
        sql`select run_id, token, key, state, value, due_ms, wish from ${table("receive_mail")}(
  ${embed(items, ["nothing"])}, ${holder}, ${testNow}
)`,
      sqlite: () => receiveParts(items, holder),
    }),
  );
}

function receiveParts(items: readonly ReceiveItem[], holder: string): Fragment[] {
  const step = sql`${table("steps")} s on s.run_id = m.id and s.key = i.value ->> 'key'`;
  const isOpen = sql`not exists (select 1 from ${table("steps")} s
    where s.run_id = m.id and s.key = i.value ->> 'key' and s.state in ('succeeded', 'failed'))`;
  const mail = sql`${table("mailbox")} b where b.run_id = m.id and b.topic = i.value ->> 'topic'`;
  return [
    sql`update ${table("mailbox")} set taken_by = t.key
from (
  select i.value ->> 'key' as key, (select min(b.id) from ${mail} and b.taken_by is null) as mail_id
  from ${held(items, holder)} and ${isOpen}
) t
where id = t.mail_id`,
    sql`insert into ${table("steps")} as s (
  run_id, key, place, kind, state, due_at, child_id, started_at
)
select m.id, i.value ->> 'key', i.value ->> 'place', i.value ->> 'kind', 'waiting',
  cast(coalesce(i.value ->> 'at_ms', ${now} + (i.value ->> 'delay_ms')) as integer), i.value ->> 'child_id', ${now}
from ${held(items, holder)}
on conflict (run_id, key) do update set child_id = coalesce(excluded.child_id, s.child_id) where s.state = 'waiting'`,
    sql`update ${table("steps")} as s
set state = case when r.is_failed then 'failed' else 'succeeded' end, ending = r.ending, ended_at = ${now},
  value = case when r.is_failed then null else r.value end, error = case when r.is_failed then r.value end,
  size = length(r.value)
from (
  select m.id, i.value ->> 'key' as key, case when b.id is null then i.value ->> 'nothing' else b.payload end as value,
    b.id as mail_id, i.value ->> 'ending' as ending,
    i.value ->> 'kind' = 'call' and coalesce(b.payload ->> 'outcome' <> 'succeeded', 0) as is_failed
  from ${
      held(items, holder, sql`left join ${table("mailbox")} b on b.run_id = m.id and b.taken_by = i.value ->> 'key'`)
    }
) r
where s.run_id = r.id and s.key = r.key and s.state = 'waiting' and (r.mail_id is not null or s.due_at <= ${now})`,
    sql`select m.id, m.token, s.key, s.state, coalesce(s.error, s.value), s.due_at - ${now}, m.wish
from ${held(items, holder, sql`join ${step}`)}`,
  ];
}

/** Puts mail into a run's box. Row: `sent` and the run's queue, or `ended`; none: there is no such run. */
export function sendMail(run: number, topic: string, key: string | undefined, payload: string): Statement {
  return statement(
    "sendMail",
    perDialect({
      postgres: () =>
        sql`select fate, queue from ${table("send_mail")}(${run}, ${topic}, ${text(key)}, ${
          json(payload)
        }, ${testNow})`,
      sqlite: () => [
        sql`insert into ${table("mailbox")} (run_id, topic, key, payload, sent_at)
select m.id, ${topic}, ${text(key)}, ${json(payload)}, ${now} from ${table("messages")} m where m.id = ${run}
on conflict do nothing`,
        sql`update ${table("messages")} set due_at = ${now}
where id = ${run} and state = 'ready' and due_at > ${now}
  and exists (select 1 from json_each(waits) w where w.value ->> 'topic' = ${topic})`,
        sql`select 'sent', ${queueOf} from ${table("messages")} m where m.id = ${run}
union all
select 'ended', null from ${table("archive")} where id = ${run}`,
      ],
    }),
  );
}

/** What is known of a step. */
export interface StepRecord {
  readonly runId: number;
  readonly key: string;
  readonly place: number;
  readonly kind: StepKind;
  readonly state: StepState;
  readonly attempts: number;
  /** In how many milliseconds its time comes; null: it has none. */
  readonly dueMs: number | null;
  readonly childId: number | null;
  /** JSON texts. */
  readonly value: string | null;
  readonly error: string | null;
  /** Whether the value was left out because of its length. */
  readonly isLarge: boolean;
  /** In which order the steps of the run have ended; null: not yet, or by itself. */
  readonly ending: number | null;
  readonly startedAt: Date;
  readonly endedAt: Date | null;
  readonly dueAt: Date | null;
}

/**
 * Lists steps of a run after a key, in the order of their keys, which only the primary key gives. Values of more than
 * `most` characters are left out.
 */
export function listSteps(
  id: number,
  limit: number,
  { after = "", most }: { readonly after?: string | undefined; readonly most?: number } = {},
): Statement {
  const isLarge = most === undefined ? raw("0 = 1") : sql`size > ${most}`;
  return statement(
    "listSteps",
    sql`select run_id, key, place, kind, state, attempts, ${millis(raw("due_at"))} - ${millis(sql`${now}`)}, child_id,
  case when ${isLarge} then null else cast(value as text) end, cast(error as text), ${millis(raw("started_at"))},
  ${millis(raw("ended_at"))}, ${millis(raw("due_at"))}, case when ${isLarge} then 1 else 0 end, ending
from ${table("steps")} where run_id = ${id} and key > ${after}
order by run_id, key limit ${limit}`,
  );
}

/** Lists values of a run of more than `most` characters, from a place on. Rows: key, value. */
export function listLargeValues(id: number, most: number, from: number, limit: number): Statement {
  return statement(
    "listLargeValues",
    // The values of those that are next, and of no others: to read one takes long.
    sql`with next as materialized (
  select key from ${table("steps")} where run_id = ${id} and place >= ${from} and size > ${most}
  order by place limit ${limit}
)
select s.key, cast(s.value as text) from next n join ${table("steps")} s on s.run_id = ${id} and s.key = n.key`,
  );
}

/** Reads a row of {@linkcode listSteps}. */
export function decodeStep(row: Row): StepRecord {
  const date = (value: unknown): Date | null => value === null ? null : new Date(Number(value));
  return {
    runId: Number(row[0]),
    key: String(row[1]),
    place: Number(row[2]),
    kind: String(row[3]) as StepKind,
    state: String(row[4]) as StepState,
    attempts: Number(row[5]),
    dueMs: row[6] === null ? null : Number(row[6]),
    childId: row[7] === null ? null : Number(row[7]),
    value: row[8] === null ? null : String(row[8]),
    error: row[9] === null ? null : String(row[9]),
    startedAt: new Date(Number(row[10])),
    endedAt: date(row[11]),
    dueAt: date(row[12]),
    isLarge: Number(row[13]) === 1,
    ending: row[14] === null ? null : Number(row[14]),
  };
}

/**
 * Takes one run, if it is due, or a lease of it has run out. Row for `decodeLive`; none: somebody has it, or it is not
 * due.
 */
export function claimRun(id: number, holder: string, leaseMs: number): Statement {
  const isLapsed = raw("state = 'leased'");
  return statement(
    "claimRun",
    sql`update ${table("messages")}
set state = 'leased', token = token + 1, holder = ${holder}, leased_at = ${now},
  lease_until = ${now} + ${duration(leaseMs)}, is_started = ${
      perDialect({ postgres: () => raw("true"), sqlite: () => raw("1") })
    },
  crashes = crashes + case when ${isLapsed} then 1 else 0 end
where id = ${id} and (
  state = 'ready' and due_at <= ${now} or ${isLapsed} and lease_until <= ${now} and crashes + 1 < max_crashes
)
returning ${liveColumns()}`,
  );
}

/** In how many milliseconds a run may be taken. Row: null if somebody has to do something first; none: it has ended. */
export function runDue(id: number): Statement {
  const due = sql`case state when 'ready' then due_at when 'leased' then lease_until end`;
  return statement(
    "runDue",
    sql`select ${millis(due)} - ${millis(sql`${now}`)} from ${table("messages")} where id = ${id}`,
  );
}

/** In which state a run is, whether it lives or has ended. */
export function runState(id: number): Statement {
  return statement(
    "runState",
    sql`select ${stateNow} from ${table("messages")} where id = ${id}
union all
select outcome from ${table("archive")} where id = ${id}`,
  );
}

/** Has a run stop: at once, or, while it is executed, at its next step. Row: its queue; none: it has ended. */
export function pauseRun(id: number): Statement {
  return statement(
    "pauseRun",
    sql`update ${table("messages")} as m
set state = case when state = 'leased' then state else 'paused' end,
  wish = case when state = 'leased' then 'pause' end
where id = ${id} and state in ('ready', 'leased', 'blocked')
returning ${queueOf}`,
  );
}

/** The topics that a parked run waits for. */
const waitedTopics = perDialect({
  postgres: () => raw("select w ->> 'topic' from json_array_elements(waits) w"),
  sqlite: () => raw("select w.value ->> 'topic' from json_each(waits) w"),
});

/** Lets a run go on that is paused or blocked, or is going to be. Row: its queue; none: it is neither. */
export function resumeRun(id: number): Statement {
  return statement(
    "resumeRun",
    sql`update ${table("messages")} as m
set state = case when state = 'leased' then state else 'ready' end, wish = null,
  waits = case when state = 'blocked' then null else waits end, due_at = case
    when state = 'blocked' or state = 'paused' and exists (
      select 1 from ${table("mailbox")} b where b.run_id = ${id} and b.taken_by is null and b.topic in (${waitedTopics})
    ) then ${now}
    else due_at
  end
where id = ${id} and (state in ('paused', 'blocked') or wish is not null)
returning ${queueOf}${alsoSend(sql`'queue:' || ${queueOf}`)}`,
  );
}

/** Ends what a run sleeps for, whatever else it does. Rows: its queue, once or more; none: it does not sleep. */
export function wakeRun(id: number): Statement {
  const lives = sql`exists (select 1 from ${
    table("messages")
  } m where m.id = run_id and m.state in ('ready', 'leased'))`;
  const end = sql`update ${table("steps")} set due_at = ${now}
where run_id = ${id} and state in ('waiting', 'retrying') and kind not in ('call', 'receive') and due_at > ${now}
  and ${lives}`;
  const queue = sql`(select q.name from ${table("queues")} q join ${table("messages")} m on q.id = m.queue_id
  where m.id = run_id)`;
  const wake = sql`update ${table("messages")} set due_at = ${now}
where id = ${id} and state = 'ready' and waits is not null and due_at > ${now}`;
  return statement(
    "wakeRun",
    perDialect({
      // Whoever parks the run has its row first, and so do we.
      postgres: () =>
        sql`with ${lockMessages(sql`id = ${id}`)}, ended as (
  ${end} and run_id in (select id from held)
  returning ${queue} as queue${alsoSend(sql`'queue:' || ${queue}`)}
), woken as (
  ${wake} and exists (select 1 from ended) and id in (select id from held)
)
select queue from ended`,
      sqlite: () => [
        sql`${end}
returning ${queue}`,
        sql`${wake} and changes() > 0`,
      ],
    }),
  );
}

/**
 * Brings a run back that has failed or was cancelled. What is recorded stays; of the failures before now those are done again
 * that would end the run once more. Row: its queue; none: there is no such run in the archive.
 */
export function retryRun(id: number): Statement {
  const isOver = sql`a.id = ${id} and a.outcome in ('failed', 'cancelled')`;
  const isBack = sql`exists (select 1 from ${table("archive")} a where ${isOver})`;
  // A child that has not succeeded is brought back when the step reaches it again.
  const outcomes = sql`delete from ${table("mailbox")}
where run_id = ${id} and taken_by is null and topic like '$child/%' and payload ->> 'outcome' <> 'succeeded'`;
  const calls = sql`delete from ${table("steps")}
where run_id = ${id} and kind = 'call' and state = 'waiting' and exists (
  select 1 from ${table("archive")} c where c.id = child_id and c.outcome <> 'succeeded'
)`;
  return statement(
    "retryRun",
    perDialect({
      postgres: () => [
        sql`select 1 where pg_advisory_xact_lock_shared(hashtextextended('pgqrs:replay', 0))::text is null`,
        sql`with gone as (
  delete from ${table("archive")} a where ${isOver} returning *
), mail as (
  ${outcomes} and exists (select 1 from gone)
), calls as (
  ${calls} and exists (select 1 from gone)
)
insert into ${table("messages")} as m (${replayed}) select ${replayedOf} from gone
returning ${queueOf}${alsoSend(sql`'queue:' || ${queueOf}`)}`,
      ],
      sqlite: () => [
        sql`insert into ${table("messages")} as m (${replayed}) select ${replayedOf} from ${
          table("archive")
        } a where ${isOver}
returning ${queueOf}`,
        sql`${outcomes} and ${isBack}`,
        sql`${calls} and ${isBack}`,
        sql`delete from ${table("archive")} as a where ${isOver}`,
      ],
    }),
  );
}

/**
 * Forgets a step that had failed before its run was brought back, so that it is done again. Row: the run; none: it has failed
 * since, or the lease was lost.
 */
export function redoStep({ id, token, key }: RunToken & { readonly key: string }, holder: string): Statement {
  const held = sql`m.id = ${id} and m.holder = ${holder} and m.token = ${token}`;
  return statement(
    "redoStep",
    perDialect({
      postgres: () =>
        sql`with held as materialized (
  select m.id, m.redo_before from ${table("messages")} m where ${held} for no key update
), step as (
  delete from ${table("steps")} s using held h
  where s.run_id = h.id and s.key = ${key} and s.state = 'failed' and s.ended_at < h.redo_before
  returning s.run_id
), mail as (
  delete from ${table("mailbox")} b using step s where b.run_id = s.run_id and b.taken_by = ${key}
)
select run_id from step`,
      sqlite: () => [
        sql`delete from ${table("steps")} as s where s.run_id = ${id} and s.key = ${key} and s.state = 'failed'
  and s.ended_at < (select m.redo_before from ${table("messages")} m where ${held})
returning run_id`,
        sql`delete from ${table("mailbox")} where changes() > 0 and run_id = ${id} and taken_by = ${key}`,
      ],
    }),
  );
}

/** SQLite: the items of a list together with the runs that are held. */
function held(items: readonly RunToken[], holder: string, more: Fragment = raw("")): Fragment {
  return sql`json_each(${json(JSON.stringify(items))}) i cross join ${
    table("messages")
  } m on m.id = i.value ->> 'id' ${more}
where ${heldBy(holder)}`;
}

function heldBy(holder: string): Fragment {
  return sql`m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ${holder} and m.token = i.value ->> 'token'`;
}

const queueOf = sql`(select q.name from ${table("queues")} q where q.id = queue_id)`;

/** Postgres: a list as one JSON parameter, in which some columns are JSON texts that are embedded as they are. */
function embed<T extends RunToken>(items: readonly T[], names: readonly (keyof T & string)[]): Fragment {
  const texts = items.map((item) => {
    const parts = Object.entries(item).flatMap(([name, value]) => {
      if (value === undefined) return [];
      const isEmbedded = names.includes(name as keyof T & string);
      return [`${JSON.stringify(name)}:${isEmbedded ? value : JSON.stringify(value)}`];
    });
    return `{${parts.join(",")}}`;
  });
  return sql`${json(`[${texts.join(",")}]`)}`;
}
