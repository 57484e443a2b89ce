/**
 * The statements of an operator on live messages, whatever their state and whoever has them.
 *
 * What depends on the state is decided in SET or after the lock, because a state in WHERE is judged on an old snapshot. What
 * takes a lease away raises the token, so that its holder changes nothing any more.
 */
import { sendHint } from "./channel.ts";
import { lockMessages } from "./locks.ts";
import { idOfQueue } from "./queues.ts";
import { carried, forgetRuns, liveColumns, workerOfHolder } from "./record.ts";
import {
  type Fragment,
  instant,
  int,
  now,
  oneOf,
  perDialect,
  raw,
  sql,
  type Statement,
  statement,
  table,
} from "./sql.ts";

/** Finds a live message. */
export function findMessage(id: number): Statement {
  return statement("findMessage", sql`select ${liveColumns()} from ${table("messages")} where id = ${id}`);
}

/** Finds how far a live message has come. Row: a JSON text or null. */
export function findProgress(id: number): Statement {
  return statement("findProgress", sql`select cast(progress as text) from ${table("messages")} where id = ${id}`);
}

/** Which live messages to list or count. */
export interface MessageFilter {
  readonly queue?: string | undefined;
  readonly state?: "delayed" | "leased" | "ready" | undefined;
  readonly type?: string | undefined;
  readonly key?: string | undefined;
  readonly afterId?: number | undefined;
}

/** Lists live messages in ascending order of id. */
export function listMessages(filter: MessageFilter, limit: number): Statement {
  return statement(
    "listMessages",
    sql`select ${liveColumns()} from ${table("messages")} where ${matches(filter)} order by id limit ${limit}`,
  );
}

/** Counts live messages. */
export function countMessages(filter: MessageFilter): Statement {
  return statement("countMessages", sql`select count(*) from ${table("messages")} where ${matches(filter)}`);
}

function matches({ queue, state, type, key, afterId }: MessageFilter): Fragment {
  let condition = sql`id > ${afterId ?? 0}`;
  if (queue !== undefined) condition = sql`${condition} and queue_id = ${idOfQueue(queue)}`;
  if (type !== undefined) condition = sql`${condition} and type = ${type}`;
  if (key !== undefined) condition = sql`${condition} and key = ${key}`;
  if (state === "leased") condition = sql`${condition} and state = 'leased'`;
  if (state === "ready") condition = sql`${condition} and state = 'ready' and due_at <= ${now}`;
  if (state === "delayed") condition = sql`${condition} and state = 'ready' and due_at > ${now}`;
  return condition;
}

/** Ends messages whatever their state, as an operator does: a lease is taken away. Rows: the ids that were live. */
export function endMessages(
  ids: readonly number[],
  { outcome, reason, by }: {
    readonly outcome: "cancelled" | "succeeded";
    readonly reason: string;
    readonly by: string;
  },
): Statement {
  const target = sql`${carried}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error`;
  // Runs are cancelled together with those that they wait for.
  const chosen = outcome === "succeeded" ? sql`id ${oneOf(ids)}` : sql`id in (
  with recursive family(id) as (
    ${
    perDialect({
      postgres: () => sql`select unnest(${`{${ids.join(",")}}`}::bigint[])`,
      sqlite: () => sql`select value from json_each(${`[${ids.join(",")}]`})`,
    })
  }
    union
    select s.child_id from family f join ${table("steps")} s on s.run_id = f.id
    where s.kind = 'call' and s.state = 'waiting' and s.child_id is not null
  )
  select id from family
)`;
  return statement(
    "endMessages",
    perDialect({
      postgres: () =>
        sql`with ${lockMessages(chosen)}, gone as (
  delete from ${table("messages")} where id = any (array(select id from held)) returning *, ${hintOfLoss("state")}
)
insert into ${table("archive")} (${target})
select ${carried}, ${outcome}, ${reason}, ${now}, ${by}, trunc(extract(epoch from ${now} - leased_at) * 1000)::bigint,
  attempts, crashes, error
from gone
returning id`,
      sqlite: () =>
        sql`insert into ${table("archive")} (${target})
select ${carried}, ${outcome}, ${reason}, ${now}, ${by}, ${now} - leased_at, attempts, crashes, error
from ${table("messages")} where ${chosen}
returning id`,
    }),
  );
}

/** Deletes messages whatever their state. Rows: the ids that were live. */
export function deleteMessages(ids: readonly number[]): Statement {
  return statement(
    "deleteMessages",
    perDialect({
      postgres: () =>
        sql`with ${lockMessages(sql`id ${oneOf(ids)}`)}, steps as (
  ${forgetRuns(raw("(select id from held)"), "steps")}
), mail as (
  ${forgetRuns(raw("(select id from held)"), "mailbox")}
)
delete from ${table("messages")} where id = any (array(select id from held)) returning id, ${hintOfLoss("state")}`,
      sqlite: () => [
        forgetRuns(sql`(select id from ${table("messages")} where id ${oneOf(ids)})`, "steps"),
        forgetRuns(sql`(select id from ${table("messages")} where id ${oneOf(ids)})`, "mailbox"),
        sql`delete from ${table("messages")} where id ${oneOf(ids)} returning id`,
      ],
    }),
  );
}

/** What an operator changes of a message. */
export interface MessageChange {
  readonly dueAt?: number | undefined;
  readonly delayMs?: number | undefined;
  readonly priority?: number | undefined;
}

/** Changes due time and priority of a message; a lease is taken away. Rows: the message as it is afterwards. */
export function updateMessage(id: number, { dueAt, delayMs, priority }: MessageChange): Statement {
  const due = dueAt !== undefined
    ? sql`${instant(dueAt)}`
    : delayMs !== undefined
    ? after(delayMs)
    : sql`case when state = 'leased' then ${now} else due_at end`;
  const change =
    sql`set state = case when state in ('blocked', 'paused') then state else 'ready' end, due_at = ${due}, priority = coalesce(${
      int(priority)
    }, priority),
  -- Only a lease that is taken away is a delivery that has ended.
  token = token + case when state = 'leased' then 1 else 0 end,
  holder = null, leased_at = null, lease_until = null`;
  return statement(
    "updateMessage",
    perDialect({
      postgres: () =>
        sql`with ${lockMessages(sql`id = ${id}`)}
update ${table("messages")} ${change}
where id = any (array(select id from held))
returning ${liveColumns()}, ${hintOfQueue}, ${hintOfLoss("(select h.state from held h)")}`,
      sqlite: () => sql`update ${table("messages")} ${change} where id = ${id} returning ${liveColumns()}`,
    }),
  );
}

/** Takes the leases of a worker away, so that its messages are claimable at once. Rows: the ids. */
export function releaseHeld(worker: string): Statement {
  const change =
    sql`state = 'ready', due_at = ${now}, token = token + 1, holder = null, leased_at = null, lease_until = null`;
  const held = sql`state = 'leased' and ${workerOfHolder} = ${worker}`;
  return statement(
    "releaseHeld",
    perDialect({
      postgres: () =>
        sql`with ${lockMessages(held)}
update ${table("messages")} set ${change} where id = any (array(select id from held))
returning id, ${hintOfQueue}, ${sendHint(raw("'control'"))}::text`,
      sqlite: () => sql`update ${table("messages")} set ${change} where ${held} returning id`,
    }),
  );
}

/** Postgres: tells that there may be something to claim in the queue of a row. Equal hints are sent once. */
export const hintOfQueue: Fragment = sql`${
  sendHint(sql`'queue:' || (select q.name from ${table("queues")} q where q.id = queue_id)`)
}::text`;

/** Postgres: tells that a lease was taken away, if there was one. */
function hintOfLoss(state: string): Fragment {
  return sql`case when ${raw(state)} = 'leased' then ${sendHint(raw("'control'"))}::text end`;
}

/** The instant `delayMs` from now. */
function after(delayMs: number): Fragment {
  const delay = perDialect({
    postgres: () => sql`${delayMs} * interval '1 millisecond'`,
    sqlite: () => sql`${delayMs}`,
  });
  return sql`${now} + ${delay}`;
}
