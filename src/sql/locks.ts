/** How statements on several live messages lock them. */
import { type Fragment, sql, table } from "./sql.ts";

/**
 * The CTE `held`, on Postgres: the ids of the live messages that meet a condition, locked in ascending order. Everybody
 * locks in that order, so that two statements on the same messages never wait for each other in a circle.
 */
export function lockMessages(condition: Fragment): Fragment {
  return sql`held as materialized (
  select id from ${table("messages")} where ${condition} order by id for update
)`;
}
