/** The statements of workers about themselves. */
import { sendHint } from "./channel.ts";
import type { Row } from "./driver.ts";
import { workerOfHolder } from "./record.ts";
import { json, millis, now, perDialect, raw, sql, type Statement, statement, table, testNow, text } from "./sql.ts";

/** Notes that a worker is there. Row: 1 if it is paused. */
export function registerWorker(
  { holder, name, queues }: { readonly holder: string; readonly name: string; readonly queues: readonly string[] },
): Statement {
  return statement(
    "registerWorker",
    sql`insert into ${table("workers")} (holder, name, queues, started_at, seen_at)
select ${holder}, ${name}, ${json(JSON.stringify(queues))}, ${now}, ${now} where true
on conflict (holder) do update set seen_at = excluded.seen_at
returning case when paused_at is null then 0 else 1 end`,
  );
}

/** Forgets a worker that has stopped. */
export function removeWorker(holder: string): Statement {
  return statement("removeWorker", sql`delete from ${table("workers")} where holder = ${holder}`);
}

/** A message whose lease is to be renewed. */
export interface BeatItem {
  readonly id: number;
  readonly token: number;
  readonly lease_ms: number;
}

/** What has become of a message that was not renewed. */
export interface Fate {
  readonly id: number;
  /** `locked`: somebody is at it, and nothing is known yet. */
  readonly fate: "cancelled" | "locked" | "lost";
}

/** Renews all leases of a worker. Rows for {@linkcode decodeFates}. */
export function beat(items: readonly BeatItem[], holder: string): Statement {
  const list = json(JSON.stringify([...items].sort((a, b) => a.id - b.id)));
  const paused = sql`select 0, 'paused' from ${table("workers")} where holder = ${holder} and paused_at is not null`;
  return statement(
    "beat",
    perDialect({
      postgres: () => sql`select id, fate from ${table("beat")}(${list}, ${holder}, ${testNow}) union all ${paused}`,
      sqlite: () => [
        sql`update ${table("messages")} as m
set lease_until = max(m.lease_until, ${now} + (i.value ->> 'lease_ms'))
from json_each(${list}) i
where m.id = i.value ->> 'id' and m.state = 'leased' and m.holder = ${holder} and m.token = i.value ->> 'token'`,
        sql`select i.value ->> 'id', case when m.id is null and a.outcome = 'cancelled' then 'cancelled' else 'lost' end
from json_each(${list}) i
left join ${table("messages")} m on m.id = i.value ->> 'id'
left join ${table("archive")} a on a.id = i.value ->> 'id'
where m.id is null or m.token <> i.value ->> 'token' or m.holder is not ${holder}
union all ${paused}`,
      ],
    }),
  );
}

/** Reads the rows of {@linkcode beat}. */
export function decodeFates(rows: readonly Row[]): { readonly fates: Fate[]; readonly isPaused: boolean } {
  const isPaused = rows.some(([, fate]) => fate === "paused");
  const fates = rows.filter(([, fate]) => fate !== "paused")
    .map(([id, fate]) => ({ id: Number(id), fate: String(fate) as Fate["fate"] }));
  return { fates, isPaused };
}

/**
 * Looks in which of some queues there is something to claim, or when there will be. They are given by name, because one that
 * was deleted and made again has another id. Rows: name of the queue, in how many milliseconds; and null, 1 if the worker is
 * paused.
 */
export function lookForWork(queues: readonly string[], holder: string): Statement {
  const list = json(JSON.stringify(queues));
  const name = sql`(select q.name from ${table("queues")} q where q.id = queue_id)`;
  const paused = sql`select null, 1 from ${table("workers")} where holder = ${holder} and paused_at is not null`;
  return statement(
    "lookForWork",
    perDialect({
      postgres: () =>
        sql`select ${name}, min(due_ms) from ${
          table("look")
        }(${list}, ${testNow}) group by queue_id union all ${paused}`,
      // From one lane that has something to the next, so that queues which are empty cost nothing.
      sqlite: () => {
        const first = sql`order by m.queue_id, m.priority, m.due_at, m.id limit 1`;
        const ready = sql`select m.id from ${table("messages")} m where m.state = 'ready'`;
        const leased = sql`select m.id from ${table("messages")} m where m.state = 'leased'`;
        return sql`with recursive lanes(id) as (
  select * from (${ready} ${first})
  union all
  select (${ready} and (m.queue_id, m.priority) > (l.queue_id, l.priority) ${first})
  from lanes join ${table("messages")} l on l.id = lanes.id
), leases(id) as (
  select * from (${leased} order by m.queue_id, m.lease_until limit 1)
  union all
  select (${leased} and m.queue_id > l.queue_id order by m.queue_id, m.lease_until limit 1)
  from leases join ${table("messages")} l on l.id = leases.id
)
select ${name}, max(0, min(case m.state when 'ready' then m.due_at else m.lease_until end) - ${now})
from (select id from lanes union all select id from leases) f join ${table("messages")} m on m.id = f.id
where m.queue_id in (
  select q.id from json_each(${list}) i join ${table("queues")} q on q.name = i.value where q.paused_at is null
)
group by m.queue_id
union all ${paused}`;
      },
    }),
  );
}

/** Registered workers, and whoever else holds leases; only those of a name if one is given. Rows for {@linkcode decodeWorker}. */
export function listWorkers(name?: string): Statement {
  const queues = perDialect({
    postgres: () => raw("json_agg(distinct q.name)"),
    sqlite: () => raw("json_group_array(distinct q.name)"),
  });
  return statement(
    "listWorkers",
    sql`select coalesce(w.name, h.name), cast(coalesce(w.queues, h.queues) as text),
  ${millis(raw("w.started_at"))}, ${millis(raw("w.seen_at"))}, ${millis(raw("w.paused_at"))},
  coalesce(h.leased, 0), coalesce(h.expired, 0), ${millis(raw("h.leased_at"))}, ${millis(raw("h.lease_until"))},
  ${millis(sql`${now}`)} - ${millis(raw("w.seen_at"))}
from ${table("workers")} w full join (
  select m.holder, ${workerOfHolder} as name, ${queues} as queues, count(*) as leased,
    count(*) filter (where m.lease_until <= ${now}) as expired, min(m.leased_at) as leased_at,
    max(m.lease_until) as lease_until
  from ${table("messages")} m join ${table("queues")} q on q.id = m.queue_id
  where m.state = 'leased'
  group by m.holder
) h on h.holder = w.holder
where coalesce(${text(name)}, w.name, h.name) = coalesce(w.name, h.name)`,
  );
}

/** A row of {@linkcode listWorkers}. */
export interface WorkerRecord {
  readonly name: string;
  readonly queues: readonly string[];
  readonly startedAt: Date | null;
  readonly seenAt: Date | null;
  /** For how long it was not heard of. */
  readonly unseenMs: number | null;
  readonly pausedAt: Date | null;
  readonly leased: number;
  readonly expired: number;
  readonly leasedSince: Date | null;
  readonly leaseUntil: Date | null;
}

/** Decodes a row of {@linkcode listWorkers}. */
export function decodeWorker(row: Row): WorkerRecord {
  const date = (value: unknown): Date | null => value === null ? null : new Date(Number(value));
  return {
    name: String(row[0]),
    queues: (JSON.parse(String(row[1])) as string[]).sort(),
    startedAt: date(row[2]),
    seenAt: date(row[3]),
    unseenMs: row[9] === null ? null : Number(row[9]),
    pausedAt: date(row[4]),
    leased: Number(row[5]),
    expired: Number(row[6]),
    leasedSince: date(row[7]),
    leaseUntil: date(row[8]),
  };
}

/** Pauses or resumes all workers of a name, and tells them. Rows: one for each. */
export function pauseWorkers(name: string, isPaused: boolean, hint: string): Statement {
  // Pausing a paused worker keeps the time at which it was first paused.
  const pausedAt = isPaused ? sql`coalesce(paused_at, ${now})` : raw("null");
  const change = sql`update ${table("workers")} set paused_at = ${pausedAt} where name = ${name} returning holder`;
  return statement(
    "pauseWorkers",
    perDialect({
      postgres: () => sql`with changed as (${change}) select holder, cast(${sendHint(hint)} as text) from changed`,
      sqlite: () => change,
    }),
  );
}
