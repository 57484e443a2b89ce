/** How statements on several live messages lock them. */
import { type Fragment, sql, table } from "./sql.ts";

/**
 * The CTE `held`, on Postgres: the live messages that meet a condition, locked in ascending order of id. Everybody
 * locks in that order, so that two statements on the same messages never wait for each other in a circle.
 */
export function lockMessages(condition: Fragment): Fragment {
  return sql`held as materialized (
  select id, state from ${table("messages")} where ${condition} order by id for update
)`;
}

/**
 * A call of a function of the schema, on Postgres, for a FROM. With patience it fails with SQLSTATE 55P03 when a lock is not to
 * be had in so many milliseconds. The limit is set before the call because an argument of the call, the guarded one,
 * depends on it; it ends with the statement's own transaction.
 */
export function callWithin(
  patienceMs: number | undefined,
  guarded: string,
  call: (guarded: Fragment) => Fragment,
): Fragment {
  if (patienceMs === undefined) return call(sql`${guarded}`);
  const limit = sql`(select set_config('lock_timeout', ${String(patienceMs)}, true) as ms) l`;
  return sql`${limit}
cross join lateral ${call(sql`case when l.ms is not null then ${guarded} end`)}`;
}
