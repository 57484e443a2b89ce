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
import type { Row } from "./driver.ts";
import { callWithin, lockMessages } from "./locks.ts";
import { idOfQueue } from "./queues.ts";
import {
  carried,
  carriedOfMessage,
  decodeLive,
  liveColumns,
  type LiveRecord,
  type StoredRetry,
  workerOfHolder,
} from "./record.ts";
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

/** SQLite: a message that is given back is ready again, unless it is a run that somebody wishes to pause. */
const GIVEN_BACK = raw("state = case when m.wish = 'pause' then 'paused' else 'ready' end, wish = null");

/** What a claim asks for. */
export interface Claim {
  readonly queue: string;
  readonly limit: number;
  readonly leaseMs: number | undefined;
  readonly defaultLeaseMs: number;
  readonly holder: string;
  readonly type: string | undefined;
  /** The limit of attempts of those messages that have none of their own. @default the queue's */
  readonly maxAttempts?: number | undefined;
  /**
   * Whether the messages are going to be begun later: then crashes in the second half of those that are allowed do not
   * count before {@linkcode startLeased}, and a claim that finds too few also tells when the next message is due.
   */
  readonly isAhead?: boolean;
}

/** A message that a holder wants to settle, with what the operation needs. */
export interface SettleItem {
  readonly id: number;
  /** The token of the delivery; null: whatever delivery the holder has now. */
  readonly token: number | null;
}

/** Claims up to `limit` messages: by priority, then by due time, then by id. Rows for {@linkcode decodeExchange}. */
export function claimMessages(claim: Claim): Statement {
  return statement(
    "claimMessages",
    perDialect({
      postgres: () => sql`select ${liveColumns(claim.queue)} from ${callClaim(claim)}`,
      sqlite: () => claimParts(claim),
    }),
  );
}

/** Ends leased messages as succeeded and claims the next, in this order. Rows for {@linkcode decodeExchange}. */
export function settleAndClaim(items: readonly ArchiveItem[], by: string, claim: Claim): Statement {
  return statement(
    "settleAndClaim",
    perDialect({
      // The branches of a UNION ALL are executed in their order.
      postgres: () =>
        sql`select 0, '', 'settled', 0, 0, 0, 0, null, null, 0, 0, 0, null, null, json_agg(settled)::text, null, 0, null, null, null
from ${callArchive(items, sql`${claim.holder}`, by)} settled
union all
select ${liveColumns(claim.queue)} from ${callClaim(claim)}`,
      sqlite: () => [...archiveParts(items, claim.holder, by), ...claimParts(claim)],
    }),
  );
}

/** What came of a claim, of a settling, or of both. */
export interface Exchange {
  /** The messages that were settled. */
  readonly settled: Set<number>;
  /** The messages that were claimed, in the order in which they are to be handled. */
  readonly claimed: LiveRecord[];
  /** Messages that the claim has ended: as `failed` because of their crashes, or as `cancelled` because they are too late. */
  readonly ended: LiveRecord[];
  /** In how many milliseconds there will be something to claim, as far as is known now; null if that is not known. */
  readonly nextMs: number | null;
  /** Whether the queue limits how many may be leased at once, and has reached that. Undefined: it has no limit. */
  readonly isFull: boolean | undefined;
}

/** Reads the rows of {@linkcode claimMessages} and {@linkcode settleAndClaim}. */
export function decodeExchange(rows: readonly Row[]): Exchange {
  const settled = new Set<number>();
  const claimed: LiveRecord[] = [];
  const ended: LiveRecord[] = [];
  let nextMs: number | null = null;
  let isFull: boolean | undefined;
  for (const row of rows) {
    const state = row[2];
    if (row.length === 1) settled.add(Number(row[0]));
    else if (state === "leased") claimed.push(decodeLive(row));
    else if (state === "settled") {
      for (const id of JSON.parse(String(row[14] ?? "[]")) ?? []) settled.add(Number(id));
    } else if (state === "next") nextMs = row[4] === null ? null : Math.max(0, Number(row[4]) - Number(row[5]));
    else if (state === "limited") isFull = Number(row[9]) === 1;
    else ended.push(decodeLive(row));
  }
  return { settled, claimed: claimed.sort(inClaimOrder), ended, nextMs, isFull };
}

/** By priority, then by due time, then by id: the order of the claim, which an UPDATE does not keep. */
function inClaimOrder(a: LiveRecord, b: LiveRecord): number {
  return b.priority - a.priority || a.dueAt.getTime() - b.dueAt.getTime() || a.id - b.id;
}

function callClaim(claim: Claim): Fragment {
  const { queue, limit, leaseMs, defaultLeaseMs, holder, type, maxAttempts, isAhead = false } = claim;
  return sql`${table("claim")}(
  ${queue}, ${limit}, ${int(leaseMs)}, ${defaultLeaseMs}, ${holder}, ${text(type)}, ${int(maxAttempts)}, ${
    raw(String(isAhead))
  }, ${testNow}
)`;
}

function claimParts(claim: Claim): Fragment[] {
  const parts = [...takeBackExpired(claim), ...dropLate(claim), claimReady(claim)];
  return claim.isAhead === true ? [...parts, findLimit(claim.queue), findNext(claim.queue)] : parts;
}

const endedColumns =
  sql`${carried}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error`;

/** Like {@linkcode liveColumns}, of a row that has just been put into the archive. */
function columnsOfEnded(queue: string): Fragment {
  return sql`id, ${queue}, outcome, priority, enqueued_at, enqueued_at, token, null, null, attempts, crashes, max_attempts,
  key, cast(headers as text), cast(payload as text), cast(error as text), max_crashes,
  cast(retry as text), null, expires_at`;
}

/** The parts of a claim that take back leases which have run out. */
function takeBackExpired({ queue }: Claim): Fragment[] {
  const expired = sql`queue_id = ${idOfQueue(queue)} and state = 'leased' and lease_until <= ${now}`;
  const sweep = raw(String(SWEEP));
  return [
    // In the second half of its crashes, one counts only if the message had certainly been begun; so does the last.
    sql`insert into ${table("archive")} (${endedColumns})
select ${carried}, 'failed', 'crashes', ${now}, ${workerOfHolder}, ${now} - leased_at, attempts, crashes + 1, error
from ${table("messages")} where ${expired} and crashes + 1 >= max_crashes and is_started = 1
order by lease_until limit ${sweep}
returning ${columnsOfEnded(queue)}`,
    // A lease that runs out between the two parts and has used up its crashes is left for the next claim.
    sql`update ${table("messages")}
set state = 'ready', due_at = lease_until, token = token + 1,
  crashes = crashes + (is_started = 1 or crashes * 2 < max_crashes and crashes + 1 < max_crashes),
  holder = null, leased_at = null, lease_until = null
where id in (
  select id from ${table("messages")} where ${expired} and (crashes + 1 < max_crashes or is_started = 0)
  order by lease_until limit ${sweep}
)`,
  ];
}

/**
 * The part of a claim that drops what was not begun in time: as many as are going to be claimed, and more. Those that it
 * leaves are not claimed, so that whoever is told of some asks again.
 */
function dropLate({ queue, limit, holder }: Claim): Fragment[] {
  return [
    sql`insert into ${table("archive")} (${endedColumns})
select ${carried}, 'cancelled', 'expired', ${now}, ${holder.slice(0, -9)}, null, attempts, crashes, error
from ${table("messages")}
where queue_id = (select q.id from ${table("queues")} q where q.name = ${queue} and q.paused_at is null)
  and state = 'ready' and expires_at is not null and expires_at <= ${now}
order by expires_at limit ${limit + SWEEP}
returning ${columnsOfEnded(queue)}`,
  ];
}

/** Ten lanes as on Postgres; SQLite reads a UNION ALL lazily too, and has no LATERAL. */
function claimReady(claim: Claim): Fragment {
  const { queue, limit, leaseMs, defaultLeaseMs, holder, type, maxAttempts, isAhead = false } = claim;
  const ofType = type === undefined ? raw("") : sql` and type = ${type}`;
  const lanes = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((priority) =>
    sql`select id from (
    select c.id from ${table("messages")} c
    where c.queue_id = (select q.id from ${table("queues")} q where q.name = ${queue} and q.paused_at is null)
      and c.state = 'ready' and c.priority = ${raw(String(priority))} and c.due_at <= ${now}${ofType}
    order by c.due_at, c.id limit ${limit}
  )`
  );
  const ofQueue = (column: string): Fragment =>
    sql`(select q.${raw(column)} from ${table("queues")} q where q.id = queue_id)`;
  return sql`update ${table("messages")}
set state = 'leased', token = token + 1, holder = ${holder}, leased_at = ${now},
  lease_until = ${now} + coalesce(${int(leaseMs)}, ${ofQueue("lease_ms")}, ${defaultLeaseMs}),
  is_started = ${isAhead ? 0 : 1}, waits = null,
  max_attempts = coalesce(retry ->> 'maxAttempts', ${int(maxAttempts)}, ${ofQueue("max_attempts")})
where id in (
  ${join(lanes, "\n  union all ")}
  limit coalesce((
    select max(0, min(${limit}, coalesce(q.concurrency - ${heldOf(queue)}, ${limit})))
    from ${table("queues")} q where q.name = ${queue}
  ), 0)
) and coalesce(expires_at > ${now}, 1)
returning ${liveColumns(queue)}`;
}

/** How many messages of a queue are leased. A lease that has run out and was not taken back may still be renewed. */
function heldOf(queue: string): Fragment {
  return sql`(select count(*) from ${table("messages")} h where h.queue_id = ${
    idOfQueue(queue)
  } and h.state = 'leased')`;
}

/** Of a queue that limits how many may be leased at once: whether it has reached that, as a row of a claim. */
function findLimit(queue: string): Fragment {
  return sql`select 0, '', 'limited', 0, ${now}, ${now}, 0, null, null, q.concurrency <= ${
    heldOf(queue)
  }, 0, 0, null, null,
  null, null, 0, null, null, null
from ${table("queues")} q where q.name = ${queue} and q.concurrency is not null`;
}

/**
 * When the next message will be due or the next lease runs out, as a row of a claim. Time goes on between the parts of a
 * claim: what has fallen due since is left for the next claim, which is to follow at once.
 */
function findNext(queue: string): Fragment {
  const open = sql`select q.id from ${table("queues")} q where q.name = ${queue} and q.paused_at is null
      and coalesce(q.concurrency > ${heldOf(queue)}, 1)`;
  const lanes = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0].map((priority) =>
    sql`select (
    select c.due_at from ${table("messages")} c
    where c.queue_id = (select id from open) and c.state = 'ready' and c.priority = ${raw(String(priority))}
    order by c.due_at limit 1
  ) as at`
  );
  return sql`with open(id) as (
  ${open}
)
select 0, '', 'next', 0, min(at), ${now}, 0, null, null, 0, 0, 0, null, null, null, null, 0, null, null, null
from (
  ${join(lanes, "\n  union all ")}
  union all select (
    select c.lease_until from ${table("messages")} c
    where c.queue_id = ${idOfQueue(queue)} and c.state = 'leased'
    order by c.lease_until limit 1
  )
)`;
}

/** A message to end as succeeded. */
export interface ArchiveItem extends SettleItem {
  readonly reason: string | null;
  /** A JSON text. */
  readonly result: string | null;
  /** The run that waits for it, if it is a child. */
  readonly parent_id?: number | undefined;
}

/** Ends leased messages as succeeded. Rows: the ids that were held. */
export function archiveLeased(
  items: readonly ArchiveItem[],
  holder: string,
  by: string,
  patienceMs?: number,
): Statement {
  return statement(
    "archiveLeased",
    perDialect({
      postgres: () =>
        sql`select i from ${callWithin(patienceMs, holder, (holder) => callArchive(items, holder, by))} i`,
      sqlite: () => archiveParts(items, holder, by),
    }),
  );
}

function callArchive(items: readonly ArchiveItem[], holder: Fragment, by: string): Fragment {
  if (items.every(({ reason, result, parent_id }) => reason === null && result === null && parent_id === undefined)) {
    const sorted = [...items].sort((a, b) => a.id - b.id);
    const ids = `{${sorted.map(({ id }) => id).join(",")}}`;
    const tokens = `{${sorted.map(({ token }) => token ?? "null").join(",")}}`;
    return sql`${table("archive_plain")}(${ids}::bigint[], ${tokens}::bigint[], ${holder}, ${by}, ${testNow})`;
  }
  const name = items.some(({ parent_id }) => parent_id !== undefined) ? "archive_children" : "archive_leased";
  return sql`${table(name)}(${encodeItems(items, ["result"])}, ${holder}, ${by}, ${testNow})`;
}

function archiveParts(items: readonly ArchiveItem[], holder: string, by: string): Fragment[] {
  return [
    sql`insert into ${
      table("archive")
    } (${carried}, outcome, reason, archived_at, archived_by, processing_ms, attempts, crashes, error, result)
select ${carriedOfMessage}, 'succeeded', i.value ->> 'reason', ${now}, ${by}, ${now} - m.leased_at,
  m.attempts, m.crashes, m.error, i.value ->> 'result'
from json_each(${encodeItems(items)}) i join ${table("messages")} m on m.id = i.value ->> 'id'
where ${fence(holder)}
returning id`,
  ];
}

/** Deletes leased messages. Rows: the ids that were held. */
export function deleteLeased(items: readonly SettleItem[], holder: string, patienceMs?: number): Statement {
  return statement(
    "deleteLeased",
    perDialect({
      postgres: () =>
        sql`select i from ${
          callWithin(patienceMs, holder, (holder) => sql`${table("delete_leased")}(${encodeItems(items)}, ${holder})`)
        } i`,
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
  patienceMs?: number,
): Statement {
  return statement(
    "releaseLeased",
    perDialect({
      postgres: () =>
        sql`select i from ${
          callWithin(
            patienceMs,
            holder,
            (holder) => sql`${table("release_leased")}(${encodeItems(items)}, ${holder}, ${testNow})`,
          )
        } i`,
      sqlite: () =>
        sql`update ${table("messages")} as m
set ${GIVEN_BACK}, due_at = ${now} + (i.value ->> 'delay_ms'), token = m.token + 1,
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
  patienceMs?: number,
): Statement {
  return statement(
    "extendLeased",
    perDialect({
      postgres: () =>
        sql`select i from ${
          callWithin(
            patienceMs,
            holder,
            (holder) => sql`${table("extend_leased")}(${encodeItems(items)}, ${holder}, ${testNow})`,
          )
        } i`,
      sqlite: () =>
        sql`update ${table("messages")} as m
set lease_until = max(m.lease_until, ${now} + (i.value ->> 'lease_ms'))
from json_each(${encodeItems(items)}) i
where m.id = i.value ->> 'id' and ${fence(holder)}
returning id`,
    }),
  );
}

/** A message whose attempt has failed. */
export interface FailItem extends SettleItem {
  /** A JSON text. */
  readonly error: string;
  readonly delay_ms: number;
  readonly is_final: 0 | 1;
}

/** Counts a failure: the message is due again after its delay, or ends as failed at its limit. Rows: the ids held. */
export function failLeased(
  items: readonly FailItem[],
  holder: string,
  by: string,
  patienceMs?: number,
): Statement {
  return statement(
    "failLeased",
    perDialect({
      postgres: () =>
        sql`select i from ${
          callWithin(
            patienceMs,
            holder,
            (holder) => sql`${table("fail_leased")}(${encodeItems(items, ["error"])}, ${holder}, ${by}, ${testNow})`,
          )
        } i`,
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
set ${GIVEN_BACK}, due_at = ${now} + (i.value ->> 'delay_ms'), token = m.token + 1, attempts = m.attempts + 1,
  error = i.value ->> 'error', holder = null, leased_at = null, lease_until = null
from json_each(${encodeItems(items)}) i
where m.id = i.value ->> 'id' and ${fence(holder)}
returning id`,
      ],
    }),
  );
}

/** Notes that leased messages are begun now, so that a crash from here on is theirs. Rows: the ids that were held. */
export function startLeased(items: readonly SettleItem[], holder: string): Statement {
  return updateLeased("startLeased", items, holder, {
    postgres: sql`is_started = true`,
    sqlite: sql`is_started = 1`,
  });
}

/** Notes how far leased messages have come. Rows: the ids that were held. */
export function progressLeased(
  items: readonly (SettleItem & { readonly progress: string })[],
  holder: string,
): Statement {
  return updateLeased("progressLeased", items, holder, {
    postgres: sql`progress = i.progress`,
    sqlite: sql`progress = i.value ->> 'progress'`,
  });
}

function updateLeased(
  name: string,
  items: readonly SettleItem[],
  holder: string,
  change: Readonly<Record<"postgres" | "sqlite", Fragment>>,
): Statement {
  return statement(
    name,
    perDialect({
      postgres: () =>
        sql`with i as materialized (
  select * from json_to_recordset(${encodeItems(items, ["progress" as keyof SettleItem])}) as i(
    id bigint, token bigint, progress json
  )
), held as materialized (
  select m.id from ${table("messages")} m
  where m.id = any (array(select i.id from i)) and m.holder = ${holder}
  order by m.id for update
)
update ${table("messages")} m set ${change.postgres} from i
where m.id = any (array(select held.id from held)) and m.id = i.id and m.token = i.token and m.holder = ${holder}
returning m.id`,
      sqlite: () =>
        sql`update ${table("messages")} as m set ${change.sqlite} from json_each(${encodeItems(items)}) i
where m.id = i.value ->> 'id' and ${fence(holder)}
returning id`,
    }),
  );
}

/** Gives back what is leased to a holder in a queue without its knowing. Rows: the ids. */
export function releaseStray(queue: string, holder: string, known: readonly number[]): Statement {
  const change =
    sql`state = 'ready', due_at = ${now}, token = token + 1, holder = null, leased_at = null, lease_until = null`;
  const stray = sql`queue_id = ${idOfQueue(queue)} and state = 'leased' and holder = ${holder} and not id ${
    oneOf(known)
  }`;
  return statement(
    "releaseStray",
    perDialect({
      postgres: () =>
        sql`with ${lockMessages(stray)}
update ${table("messages")} set ${change} where id = any (array(select id from held)) returning id`,
      sqlite: () => sql`update ${table("messages")} set ${change} where ${stray} returning id`,
    }),
  );
}

/** Finds how messages have ended. Rows: id, token of the delivery that ended it, outcome. */
export function findEndings(ids: readonly number[]): Statement {
  return statement("findEndings", sql`select id, token, outcome from ${table("archive")} where id ${oneOf(ids)}`);
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

/** How many failed attempts messages have had, and what they say of further ones. Rows for {@linkcode decodeAttempts}. */
export function listAttempts(ids: readonly number[]): Statement {
  return statement(
    "listAttempts",
    sql`select id, attempts, cast(retry as text) from ${table("messages")} where id ${oneOf(ids)}`,
  );
}

/** Reads a row of {@linkcode listAttempts}. */
export function decodeAttempts(row: Row): { readonly attempts: number; readonly backoff: StoredRetry["backoff"] } {
  const retry = row[2] === null ? {} : JSON.parse(String(row[2])) as StoredRetry;
  return { attempts: Number(row[1]), backoff: retry.backoff };
}
