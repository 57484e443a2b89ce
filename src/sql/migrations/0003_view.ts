/**
 * The view of migration 3: every run that lives or is kept, so that plain SQL tells why one does not move.
 *
 * Reports read the same rows by the clock of a test, which no view can be given. On Postgres a view stands in the way of
 * whoever changes the type of a column that it reads, or drops one: a migration that does so makes it anew.
 */
import { type Dialect, made } from "../dialect.ts";
import { type Deferred, type Fragment, perDialect, raw, sql, type SqlValue, table } from "../sql.ts";

/** The header that says whose child a run is: the id of the parent, a slash, and the key of the step that waits for it. */
export const PARENT_HEADER = "pgqrs-parent";

/** How far away a run is due that waits for something without a time. */
export const NEVER_MS = 253_402_300_799_000;

/** The columns of {@linkcode liveRuns} and {@linkcode endedRuns}, in their order. */
export const RUN_COLUMNS: Fragment = raw(
  "id, workflow, status, key, priority, enqueued_at, due_at, ended_at, attempts, crashes, worker, lease_until, waits, " +
    "reason, error, parent_id, queue_paused_at",
);

/** The runs that live, as they are at an instant. `waits` is empty while nothing but a worker is missing. */
export function liveRuns(at: SqlValue, more: Fragment = raw("")): Fragment {
  const rests = sql`(m.state in ('blocked', 'paused') or m.state = 'ready' and m.due_at > ${at})`;
  const never = perDialect({
    postgres: () => raw(`to_timestamp(${NEVER_MS / 1_000})`),
    sqlite: () => raw(String(NEVER_MS)),
  });
  return sql`select m.id, q.name as workflow, case
    when m.state <> 'ready' or m.due_at <= ${at} then m.state when m.waits is null then 'delayed' else 'waiting'
  end as status, m.key, m.priority, m.enqueued_at,
  case when m.state = 'ready' and m.due_at < ${never} then m.due_at end as due_at, ${none("timestamptz")} as ended_at,
  m.attempts, m.crashes, substr(m.holder, 1, length(m.holder) - 9) as worker, m.lease_until,
  case when ${rests} then m.waits end as waits,
  case when m.state = 'blocked' then m.waits -> 0 ->> 'reason' end as reason, m.error, ${parentOf("m")} as parent_id,
  q.paused_at as queue_paused_at${more}
from ${table("messages")} m join ${table("queues")} q on q.id = m.queue_id
where q.is_workflow`;
}

/** The runs that have ended and are kept. */
export function endedRuns(more: Fragment = raw("")): Fragment {
  return sql`select a.id, q.name as workflow, a.outcome as status, a.key, a.priority, a.enqueued_at,
  ${none("timestamptz")} as due_at, a.archived_at as ended_at, a.attempts, a.crashes, a.archived_by as worker,
  ${none("timestamptz")} as lease_until, ${none("json")} as waits, a.reason, a.error, ${parentOf("a")} as parent_id,
  q.paused_at as queue_paused_at${more}
from ${table("archive")} a join ${table("queues")} q on q.id = a.queue_id
where q.is_workflow`;
}

/** How many steps of a run `r` are recorded, and how many of them have ended: a sleep ends by itself. */
export function stepCounts(at: SqlValue): Fragment {
  const steps = sql`(select count(*) from ${table("steps")} s where s.run_id = r.id`;
  const isOver = sql`(s.state in ('succeeded', 'failed') or s.kind = 'sleep' and s.due_at <= ${at})`;
  return sql`${steps}) as steps, ${steps} and ${isOver}) as ended_steps`;
}

/** Makes the view. On SQLite its instants are milliseconds since the epoch, as in the tables. */
export function runsView(): Fragment {
  return sql`create view ${table("runs")} as
select ${RUN_COLUMNS}, ${stepCounts(CLOCK)}
from (
${liveRuns(CLOCK)}
union all
${endedRuns()}
) r`;
}

/** The clock of the database. */
const CLOCK: Deferred = {
  [made]: true,
  kind: "deferred",
  resolve: ({ dialect }: { readonly dialect: Dialect }) => raw(dialect.now),
};

/** Nothing, of a type. */
function none(type: "json" | "timestamptz"): Deferred {
  return perDialect({ postgres: () => raw(`null::${type}`), sqlite: () => raw("null") });
}

/** Whose child a run is: a parent that waits is in a header, and every parent in the key. Others may have written both. */
function parentOf(from: "a" | "m"): Deferred {
  return perDialect({
    postgres: () =>
      raw(`coalesce(
    substring(${from}.headers ->> '${PARENT_HEADER}' from '^([0-9]{1,15})/'),
    substring(${from}.key from '^[$]run/([0-9]{1,15})/')
  )::bigint`),
    sqlite: () =>
      raw(`nullif(cast(coalesce(
    ${from}.headers ->> '$."${PARENT_HEADER}"', case when ${from}.key glob '$run/[0-9]*' then substr(${from}.key, 6) end
  ) as integer), 0)`),
  });
}
