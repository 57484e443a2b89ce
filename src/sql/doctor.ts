/** What an operator may want to know of a server, as far as the role may see it. */
import { perDialect, raw, sql, type Statement, statement, tableLiteral } from "./sql.ts";

/** What is done with a table by whom sends, and by whom takes messages; both ask for the version of the tables. */
const NEEDS: Readonly<Record<string, readonly [task: string, privileges: string][]>> = {
  pgqrs_migrations: [["send or claim", "select"]],
  pgqrs_queues: [["send or claim", "select"]],
  pgqrs_messages: [["send or claim", "select"], ["send", "insert"], ["claim", "update delete"]],
  pgqrs_keys: [["send", "select insert update delete"]],
  pgqrs_archive: [["claim", "select insert"]],
};

/**
 * Finds what the role may not do that it takes to send and to claim. Reads the catalogs alone, which everybody may. Rows: a
 * privilege, what it is missing on, what cannot be done; and `read-only` where nothing can be written at all.
 */
export function inspectPrivileges(schema: string): Statement {
  const needs = Object.entries(NEEDS).flatMap(([name, tasks]) =>
    tasks.flatMap(([task, privileges]) => privileges.split(" ").map((one) => `('${name}', '${one}', '${task}')`))
  );
  return statement(
    "inspectPrivileges",
    perDialect({
      postgres: () =>
        sql`select 'read-only', '', 'send or claim' where current_setting('transaction_read_only') = 'on'
union all
select 'usage', 'schema ' || n.nspname, 'send or claim' from pg_catalog.pg_namespace n
where n.nspname = ${schema} and not has_schema_privilege(n.oid, 'usage')
union all
(
  select need.privilege, 'table ' || c.relname, need.task
  from pg_catalog.pg_namespace n
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relkind = 'r'
  join (values ${raw(needs.join(", "))}) need (name, privilege, task) on need.name = c.relname
  where n.nspname = ${schema} and not has_table_privilege(c.oid, need.privilege)
  order by 3, 2, 1
)
union all
select 'execute', 'function ' || p.proname, case when p.proname like '%claim%' then 'claim' else 'send' end
from pg_catalog.pg_namespace n join pg_catalog.pg_proc p on p.pronamespace = n.oid
where n.nspname = ${schema} and p.proname in ('pgqrs_claim', 'pgqrs_enqueue_many')
  and not has_function_privilege(p.oid, 'execute')`,
      sqlite: () => sql`select null, null, null where false`,
    }),
  );
}

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
