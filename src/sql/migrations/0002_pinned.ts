/** What the functions of migration 2 have in common. */
import { type Fragment, raw } from "../sql.ts";

/** What every function is pinned to: the path over the index in its order, and one plan for all values. */
export const PINNED: Fragment = raw(`set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off`);

/** The time: the clock is read anew wherever this stands, unless a test has set it. */
export const NOW: Fragment = raw("coalesce(p_now, date_trunc('milliseconds', clock_timestamp()))");

/** The columns that a message takes along when it ends. */
export const CARRIED: Fragment = raw(
  "id, queue_id, priority, enqueued_at, token, max_attempts, max_crashes, expires_at, key, type, headers, retry, payload",
);
/** The same of a row that has just been deleted. */
export const CARRIED_OF_GONE: Fragment = raw(
  "g.id, g.queue_id, g.priority, g.enqueued_at, g.token, g.max_attempts, g.max_crashes, g.expires_at, g.key, g.type, " +
    "g.headers, g.retry, g.payload",
);
/** For how long it was worked on. */
export const PROCESSING: Fragment = raw("(date_part('epoch', v_now - g.leased_at) * 1000)::bigint");
