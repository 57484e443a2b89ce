/**
 * The statements of those who take messages: claim and settling.
 *
 * How a message lives: `enqueue` inserts a row that is `ready` from `due_at` on (`delayed` is the name of a ready row whose
 * time has not come). A claim makes it `leased`, raises its `token` and notes the holder and the end of the lease; every
 * write of the holder carries the token and changes nothing once it is not the row's own. Releasing, failing and the end of
 * a lease make it ready again under a higher token. The statement that ends it moves the row to the archive.
 *
 * On Postgres the hot statements are functions of the schema (migrations/0002_functions.ts), so that no plan made on a small
 * table is used on a large one. On SQLite they are the same steps as parts of one transaction.
 */
import { carried, carriedOfMessage, liveColumns, workerOfHolder } from "./record.ts";
import {
  type Fragment,
  int,
  join,
  json,
  now,
  oneOf,
  perDialect,
  raw,
  sql,
  type Statement,
  statement,
  table,
  testNow,
  text,
} from "./sql.ts";

/** How many leases that have run out are taken back by one claim. */
const SWEEP = 100;

/** What a claim asks for. */
export interface Claim {
  readonly queue: string;
  readonly limit: number;
  readonly leaseMs: number | undefined;
  readonly defaultLeaseMs: number;
  readonly holder: string;
  readonly type: string | undefined;
}

/** A message that a holder wants to settle, with what the operation needs. */
export interface SettleItem {
  readonly id: number;
  /** The token of the delivery; null: whatever delivery the holder has now. */
  readonly token: number | null;
}

/** Claims up to `limit` messages: by priority, then by due time, then by id. */
export function claimMessages(claim: Claim): Statement {
  return statement(
    "claimMessages",
    perDialect({
      postgres: () =>
        sql`select ${liveColumns(claim.queue)} from ${table("claim")}(
  ${claim.queue}, ${claim.limit}, ${int(claim.leaseMs)}, ${claim.defaultLeaseMs}, ${claim.holder}, ${
          text(claim.type)
        }, ${testNow}
)`,
      sqlite: () => [...takeBackExpired(), claimReady(claim)],
    }),
  );
}

/** The parts of a claim that take back leases which have run out. */
function takeBackExpired(): Fragment[] {
  const expired = sql`state = 'leased' and lease_until <= ${now}`;
  return [
    sql`insert into ${
      table("archive")
    } (${carried}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select ${carried}, 'failed', 'crashes', ${now}, ${workerOfHolder}, ${now} - leased_at, attempts, crashes + 1, error
from ${table("messages")} where ${expired} and crashes + 1 >= max_crashes order by lease_until limit ${
      raw(String(SWEEP))
    }`,
    // A lease that runs out between the two parts and has used up its crashes is left for the next claim.
    sql`update ${table("messages")}
set state = 'ready', due_at = lease_until, token = token + 1, crashes = crashes + 1,
  holder = null, leased_at = null, lease_until = null
where id in (
  select id from ${table("messages")} where ${expired} and crashes + 1 < max_crashes order by lease_until limit ${
      raw(String(SWEEP))
    }
)`,
  ];
}

/** Ten lanes as on Postgres; SQLite reads a UNION ALL lazily too, and has no LATERAL. */
function claimReady({ queue, limit, leaseMs, defaultLeaseMs, holder, type }: Claim): Fragment {
  const ofType = type === undefined ? raw("") : sql` and type = ${type}`;
  const lanes = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((priority) =>
    sql`select id from (
    select c.id from ${table("messages")} c
    where c.queue_id = (select q.id from ${table("queues")} q where q.name = ${queue} and q.paused_at is null)
      and c.state = 'ready' and c.priority = ${raw(String(priority))} and c.due_at <= ${now}${ofType}
    order by c.due_at, c.id limit ${limit}
  )`
  );
  return sql`update ${table("messages")}
set state = 'leased', token = token + 1, holder = ${holder}, leased_at = ${now},
  lease_until = ${now} + coalesce(${int(leaseMs)}, (select q.lease_ms from ${
    table("queues")
  } q where q.id = queue_id), ${defaultLeaseMs})
where id in (
  ${join(lanes, "\n  union all ")}
  limit ${limit}
)
returning ${liveColumns(queue)}`;
}

/** Ends leased messages as succeeded. Rows: the ids that were held. */
export function archiveLeased(
  items: readonly (SettleItem & { readonly reason: string | null; readonly result: string | null })[],
  holder: string,
  by: string,
): Statement {
  return statement(
    "archiveLeased",
    perDialect({
      postgres: () =>
        sql`select * from ${table("archive_leased")}(${encodeItems(items, ["result"])}, ${holder}, ${by}, ${testNow})`,
      sqlite: () =>
        sql`insert into ${
          table("archive")
        } (${carried}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error, result)
select ${carriedOfMessage}, 'succeeded', i.value ->> 'reason', ${now}, ${by}, ${now} - m.leased_at,
  m.attempts, m.crashes, m.error, i.value ->> 'result'
from json_each(${encodeItems(items)}) i join ${table("messages")} m on m.id = i.value ->> 'id'
where ${fence(holder)}
returning id`,
    }),
  );
}

/** Deletes leased messages. Rows: the ids that were held. */
export function deleteLeased(items: readonly SettleItem[], holder: string): Statement {
  return statement(
    "deleteLeased",
    perDialect({
      postgres: () => sql`select * from ${table("delete_leased")}(${encodeItems(items)}, ${holder})`,
      sqlite: () =>
        sql`delete from ${table("messages")} where id in (
  select m.id from json_each(${encodeItems(items)}) i join ${table("messages")} m on m.id = i.value ->> 'id'
  where ${fence(holder)}
)
returning id`,
    }),
  );
}

/** Gives leased messages back, due after a delay, without counting a failure. Rows: the ids that were held. */
export function releaseLeased(
  items: readonly (SettleItem & { readonly delay_ms: number })[],
  holder: string,
): Statement {
  return statement(
    "releaseLeased",
    perDialect({
      postgres: () => sql`select * from ${table("release_leased")}(${encodeItems(items)}, ${holder}, ${testNow})`,
      sqlite: () =>
        sql`update ${table("messages")} as m
set state = 'ready', due_at = ${now} + (i.value ->> 'delay_ms'), token = m.token + 1,
  holder = null, leased_at = null, lease_until = null
from json_each(${encodeItems(items)}) i
where m.id = i.value ->> 'id' and ${fence(holder)}
returning id`,
    }),
  );
}

/** Sets the end of leases to now + `lease_ms`, never earlier than it is. Rows: the ids that were held. */
export function extendLeased(
  items: readonly (SettleItem & { readonly lease_ms: number })[],
  holder: string,
): Statement {
  return statement(
    "extendLeased",
    perDialect({
      postgres: () => sql`select * from ${table("extend_leased")}(${encodeItems(items)}, ${holder}, ${testNow})`,
      sqlite: () =>
        sql`update ${table("messages")} as m
set lease_until = max(m.lease_until, ${now} + (i.value ->> 'lease_ms'))
from json_each(${encodeItems(items)}) i
where m.id = i.value ->> 'id' and ${fence(holder)}
returning id`,
    }),
  );
}

/** Counts a failure: the message is due again after its delay, or ends as failed at its limit. Rows: the ids held. */
export function failLeased(
  items: readonly (SettleItem & {
    readonly error: string;
    readonly delay_ms: number;
    readonly is_final: 0 | 1;
  })[],
  holder: string,
  by: string,
): Statement {
  return statement(
    "failLeased",
    perDialect({
      postgres: () =>
        sql`select * from ${table("fail_leased")}(${encodeItems(items, ["error"])}, ${holder}, ${by}, ${testNow})`,
      sqlite: () => [
        sql`insert into ${
          table("archive")
        } (${carried}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error)
select ${carriedOfMessage}, 'failed',
  case when m.attempts + 1 >= m.max_attempts then 'attempts' else 'not_retryable' end,
  ${now}, ${by}, ${now} - m.leased_at, m.attempts + 1, m.crashes, i.value ->> 'error'
from json_each(${encodeItems(items)}) i join ${table("messages")} m on m.id = i.value ->> 'id'
where ${fence(holder)} and (m.attempts + 1 >= m.max_attempts or i.value ->> 'is_final' = 1)
returning id`,
        sql`update ${table("messages")} as m
set state = 'ready', due_at = ${now} + (i.value ->> 'delay_ms'), token = m.token + 1, attempts = m.attempts + 1,
  error = i.value ->> 'error', holder = null, leased_at = null, lease_until = null
from json_each(${encodeItems(items)}) i
where m.id = i.value ->> 'id' and ${fence(holder)}
returning id`,
      ],
    }),
  );
}

/** Whose lease is the caller's: the token of the delivery, or (by id alone) the caller as the holder of the current one. */
function fence(holder: string): Fragment {
  return sql`m.state = 'leased' and m.holder = ${holder} and m.token = coalesce(i.value ->> 'token', m.token)`;
}

/** A list as one JSON parameter. On Postgres the columns named in `json` are embedded, so that their exact text is kept. */
function encodeItems<T extends SettleItem>(items: readonly T[], embedded: readonly (keyof T)[] = []): Fragment {
  const sorted = [...items].sort((a, b) => a.id - b.id);
  const isPlain = sorted.every((item) => embedded.every((name) => item[name] === null));
  if (isPlain) return sql`${json(JSON.stringify(sorted))}`;
  const texts = sorted.map((item) => {
    const plain = Object.entries(item).filter(([name]) => !embedded.includes(name as keyof T));
    const parts = plain.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
    for (const name of embedded) parts.push(`${JSON.stringify(name)}:${item[name] ?? "null"}`);
    return `{${parts.join(",")}}`;
  });
  return sql`${json(`[${texts.join(",")}]`)}`;
}

/** How many failed attempts messages have had. Rows: id, attempts. */
export function listAttempts(ids: readonly number[]): Statement {
  return statement("listAttempts", sql`select id, attempts from ${table("messages")} where id ${oneOf(ids)}`);
}
