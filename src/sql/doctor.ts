/** What an operator may want to know of a server, as far as the role may see it. */
import { perDialect, sql, type Statement, statement, tableLiteral } from "./sql.ts";

/**
 * Asks the server about what slows queues down or loses what was committed. Rows: what it is, a number, a word. SQLite has
 * no server and gives no row.
 */
export function inspectServer(): Statement {
  return statement(
    "inspectServer",
    perDialect({
      // A snapshot that is held keeps everything that has ended since then from being cleaned up.
      postgres: () =>
        sql`(
  select 'snapshot', round(extract(epoch from now() - xact_start) * 1000)::bigint, pid::text
  from pg_catalog.pg_stat_activity
  where backend_xmin is not null and pid <> pg_backend_pid() and backend_type = 'client backend'
  order by xact_start limit 1
)
union all
(
  select 'prepared', round(extract(epoch from now() - prepared) * 1000)::bigint, gid
  from pg_catalog.pg_prepared_xacts order by prepared limit 1
)
union all
select 'off', 0, name from pg_catalog.pg_settings
where name in ('autovacuum', 'fsync', 'full_page_writes', 'synchronous_commit') and setting = 'off'
union all
select 'unlogged', 0, c.relname from pg_catalog.pg_class c
where c.oid = ${tableLiteral("messages")}::regclass and c.relpersistence = 'u'
union all
select 'dead rows', n_dead_tup, '' from pg_catalog.pg_stat_all_tables
where relid = ${tableLiteral("messages")}::regclass and n_dead_tup > 100000 and n_dead_tup > 10 * n_live_tup`,
      sqlite: () => sql`select null, null, null where false`,
    }),
  );
}
