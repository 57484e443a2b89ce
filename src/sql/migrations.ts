/**
 * The migrations: one ordered list, forward and append only, with both dialects in each entry so that neither can be
 * forgotten. A test holds the hash of every released entry. They are additive, so that workers of two releases can run on
 * one schema. TypeScript and not `.sql` files, because Node cannot import text.
 */
import type { DialectName } from "./dialect.ts";
import { postgresTables, sqliteTables, tableObjects } from "./migrations/0001_tables.ts";
import { functionObjects, postgresFunctions } from "./migrations/0002_functions.ts";
import { postgresRuns, runObjects, sqliteRuns } from "./migrations/0003_runs.ts";
import {
  type Fragment,
  json,
  perDialect,
  raw,
  sql,
  type Statement,
  statement,
  table,
  tableLiteral,
  type Target,
} from "./sql.ts";

/** How a schema is made. */
export interface SchemaOptions {
  /** Postgres only: tables that are not written to the log, faster and lost when the server crashes. */
  readonly isUnlogged: boolean;
}

/** One step of the schema. */
export interface Migration {
  readonly version: number;
  readonly name: string;
  /** What it makes, by kind and name, as a description has it: whatever else there is belongs to somebody else. */
  readonly objects: Readonly<Record<DialectName, readonly string[]>>;
  readonly postgres: (options: SchemaOptions) => readonly Fragment[];
  readonly sqlite: (options: SchemaOptions) => readonly Fragment[];
}

/** All steps, in order. */
export const migrations: readonly Migration[] = [
  {
    version: 1,
    name: "tables",
    objects: tableObjects,
    postgres: ({ isUnlogged }) => postgresTables(isUnlogged),
    sqlite: () => sqliteTables(),
  },
  {
    version: 2,
    name: "functions",
    objects: functionObjects,
    postgres: () => postgresFunctions(),
    sqlite: () => [],
  },
  {
    version: 3,
    name: "runs",
    objects: runObjects,
    postgres: ({ isUnlogged }) => postgresRuns(isUnlogged),
    sqlite: () => sqliteRuns(),
  },
];

/** The version of the schema that this release makes and needs. */
export const schemaVersion: number = migrations.length;

/** The statements of one migration for one database, the last of which records it. */
export function migrationStatements(migration: Migration, options: SchemaOptions, target: Target): Statement[] {
  const parts = target.dialect.name === "postgres" ? migration.postgres(options) : migration.sqlite(options);
  const steps = parts.map((part) => statement(`migrate ${migration.name}`, part));
  return [...steps, recordMigration(migration)];
}

/** Creates the table that marks a schema as ours. */
export function createMigrationsTable(): Statement {
  return statement(
    "createMigrationsTable",
    perDialect({
      postgres: () =>
        sql`create table if not exists ${table("migrations")} (
  version integer primary key,
  name text not null,
  applied_at timestamptz not null,
  objects json not null
)`,
      sqlite: () =>
        sql`create table if not exists ${table("migrations")} (
  version integer primary key,
  name text not null,
  applied_at integer not null,
  objects text not null
)`,
    }),
  );
}

/** Notes a migration as applied, with a description of what has been made so far: `verify` compares with that. */
function recordMigration({ version, name }: Migration): Statement {
  const at = perDialect({
    postgres: () => raw("statement_timestamp()"),
    sqlite: () => raw("cast(unixepoch('subsec') * 1000 as integer)"),
  });
  return statement(
    "recordMigration",
    sql`insert into ${table("migrations")} (version, name, applied_at, objects)
select ${raw(String(version))}, ${raw(`'${name}'`)}, ${at}, (${describeObjects(objectsUpTo(version))})`,
  );
}

/** Lists the recorded migrations. Rows: version, name, description of the objects. */
export function listMigrations(): Statement {
  return statement(
    "listMigrations",
    sql`select version, name, cast(objects as text) from ${table("migrations")} order by version`,
  );
}

/** Describes objects as they are, given their names in a description. Row: a JSON object. */
export function findObjects(names: readonly string[]): Statement {
  return statement("findObjects", sql`select cast(objects as text) from (${describeObjects(bound(names))}) t`);
}

/**
 * Finds the triggers of others on our tables, given the names in a description; they would go with their tables. Rows: the
 * trigger, the table.
 */
export function findTriggers(names: readonly string[]): Statement {
  return statement(
    "findTriggers",
    perDialect({
      postgres: () =>
        sql`select t.tgname, c.relname
from pg_catalog.pg_trigger t
join pg_catalog.pg_class c on c.oid = t.tgrelid
where c.relnamespace = ${SCHEMA} and 'table ' || c.relname in (${elements(bound(names))}) and not t.tgisinternal
  and 'trigger ' || t.tgname not in (${elements(bound(names))})
order by 1, 2`,
      sqlite: () =>
        sql`select name, tbl_name from sqlite_schema
where type = 'trigger' and 'table ' || tbl_name in (${elements(bound(names))})
  and type || ' ' || name not in (${elements(bound(names))})
order by 1, 2`,
    }),
  );
}

/** A list of names as a JSON text that is bound. */
function bound(names: readonly string[]): Fragment {
  return sql`${json(JSON.stringify(names))}`;
}

/** What the migrations up to a version make, as a JSON text: part of the statement, because a migration binds nothing. */
function objectsUpTo(version: number): Fragment {
  const text = (dialect: DialectName): string =>
    JSON.stringify(migrations.slice(0, version).flatMap(({ objects }) => objects[dialect]));
  return sql`${
    perDialect({
      postgres: () => raw(`'${text("postgres")}'::json`),
      sqlite: () => raw(`'${text("sqlite")}'`),
    })
  }`;
}

/** A query for the elements of a JSON list of names. */
function elements(names: Fragment): Fragment {
  return sql`${
    perDialect({
      postgres: () => sql`select json_array_elements_text(${names})`,
      sqlite: () => sql`select value from json_each(${names})`,
    })
  }`;
}

/** A query with one value: a JSON object of the name of each of our objects and what defines it. */
function describeObjects(names: Fragment): Fragment {
  return sql`${
    perDialect({
      postgres: () => describePostgres(names),
      sqlite: () =>
        sql`select json_group_object(type || ' ' || name, sql) as objects from sqlite_schema
where type || ' ' || name in (${elements(names)})`,
    })
  }`;
}

/** The schema, by a table in it: its own name is not a value but part of the text. */
const SCHEMA = sql`(select relnamespace from pg_catalog.pg_class where oid = ${tableLiteral("migrations")}::regclass)`;

/** The tables with all that is in them, their indexes and triggers, the functions, and the columns of views. */
function describePostgres(names: Fragment): Fragment {
  return sql`with made as materialized (${elements(names)} as name),
own as materialized (
  select c.oid, c.relname, c.relpersistence
  from pg_catalog.pg_class c
  where c.relnamespace = ${SCHEMA} and c.relkind = 'r' and 'table ' || c.relname in (select name from made)
)
select json_object_agg(o.name, o.definition order by o.name) as objects from (
  select 'column ' || c.relname || '.' || a.attname as name,
    format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end ||
      coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') ||
      case when a.attidentity = '' then '' else ' identity' end as definition
  from own c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where a.attnum > 0 and not a.attisdropped
  union all
  select 'table ' || c.relname, case c.relpersistence when 'u' then 'unlogged' else 'logged' end from own c
  union all
  select 'index ' || x.relname, pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' invalid' end
  from own c
  join pg_catalog.pg_index i on i.indrelid = c.oid
  join pg_catalog.pg_class x on x.oid = i.indexrelid
  where 'index ' || x.relname in (select name from made)
    or exists (select 1 from pg_catalog.pg_constraint k where k.conindid = x.oid and k.conrelid = c.oid)
  union all
  select 'constraint ' || c.relname || '.' || x.conname, pg_get_constraintdef(x.oid)
  from own c
  join pg_catalog.pg_constraint x on x.conrelid = c.oid
  where x.contype in ('c', 'p', 'u')
  union all
  select f.name, f.definition
  from (
    select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name,
      encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') || coalesce(' ' || array_to_string(p.proconfig, ' '), '')
        as definition
    from pg_catalog.pg_proc p where p.pronamespace = ${SCHEMA}
  ) f
  where f.name in (select name from made)
  union all
  -- The text of a view reads otherwise from one version of the server to the next, its columns do not.
  select 'view ' || c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
  from pg_catalog.pg_class c
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0
  where c.relnamespace = ${SCHEMA} and c.relkind = 'v' and 'view ' || c.relname in (select name from made)
  group by c.relname
  union all
  select 'trigger ' || t.tgname, c.relname || ' ' || t.tgtype || ' ' || t.tgenabled::text || ' ' || p.proname
  from own c
  join pg_catalog.pg_trigger t on t.tgrelid = c.oid
  join pg_catalog.pg_proc p on p.oid = t.tgfoid
  where 'trigger ' || t.tgname in (select name from made)
) o`;
}

/**
 * Finds queues that are gone but have live messages, which nobody would ever claim. Rows: the ids of such queues. It goes
 * from queue to queue over the index of ready messages, so a long backlog costs no more than a short one.
 */
export function findOrphans(): Statement {
  const ready = sql`select min(m.queue_id) from ${table("messages")} m where m.state = 'ready'`;
  const isGone = sql`not exists (select 1 from ${table("queues")} q where q.id = queue_id)`;
  return statement(
    "findOrphans",
    sql`with recursive used (queue_id) as (
  select (${ready})
  union all
  select (${ready} and m.queue_id > u.queue_id) from used u where u.queue_id is not null
)
select queue_id from used where queue_id is not null and ${isGone}
union
select queue_id from ${table("messages")} where state = 'leased' and ${isGone}
order by 1`,
  );
}

/** What stands in the way of an installation. Row: see the columns. */
export function inspectSchema(schema: string): Statement {
  return statement(
    "inspectSchema",
    perDialect({
      // Whether the schema exists, may be written to, holds our marker, holds objects of that prefix; who we are; tables.
      postgres: () =>
        sql`select
  (select count(*) from pg_catalog.pg_namespace where nspname = ${schema}),
  (select count(*) from pg_catalog.pg_namespace
    where nspname = ${schema} and has_schema_privilege(oid, 'create') and has_schema_privilege(oid, 'usage')),
  (select count(*) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relname = 'pgqrs_migrations'),
  (select count(*) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relname like 'pgqrs\\_%')
    + (select count(*) from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
      where n.nspname = ${schema} and p.proname like 'pgqrs\\_%'),
  quote_ident(current_user),
  (select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by c.relname)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = ${schema} and c.relkind = 'r' and 'table ' || c.relname in (${
          elements(objectsUpTo(schemaVersion))
        }))`,
      sqlite: () =>
        sql`select 1, 1, (select count(*) from sqlite_schema where name = 'pgqrs_migrations'),
  (select count(*) from sqlite_schema where name like 'pgqrs\\_%' escape '\\'), '', ''`,
    }),
  );
}

/** Makes whoever migrates at the same time wait until this transaction has ended. SQLite has one writer anyway. */
export function lockMigrations(schema: string): Statement {
  return statement(
    "lockMigrations",
    perDialect({
      postgres: () => sql`select pg_advisory_xact_lock(hashtextextended(${`pgqrs:${schema}`}, 0))`,
      sqlite: () => raw("select 1"),
    }),
  );
}

/** Creates the schema. */
export function createSchema(quotedSchema: string): Statement {
  return statement("createSchema", raw(`create schema if not exists ${quotedSchema}`));
}

/** Removes objects of ours, named as in a description. */
export function dropObject(name: string): Statement | undefined {
  const [, kind, rest = ""] = /^(table|trigger|view|function) (.*)$/s.exec(name) ?? [];
  if (kind === "trigger") return dropTrigger(rest);
  if (kind === "view") return statement("dropObject", sql`drop view if exists ${table(withoutPrefix(rest))}`);
  if (kind === "table") return statement("dropObject", sql`drop table if exists ${table(withoutPrefix(rest))}`);
  if (kind !== "function") return undefined;
  const [, bare = "", signature = ""] = /^([^(]*)(\(.*\))$/s.exec(rest) ?? [];
  return statement("dropObject", sql`drop function if exists ${table(withoutPrefix(bare))}${raw(signature)}`);
}

/** The name of a trigger begins with that of its table, without which Postgres does not find it. */
function dropTrigger(name: string): Statement {
  const [on = ""] = withoutPrefix(name).split("_");
  return statement(
    "dropObject",
    perDialect({
      postgres: () => sql`drop trigger if exists ${raw(name)} on ${table(on)}`,
      sqlite: () => sql`drop trigger if exists ${raw(name)}`,
    }),
  );
}

function withoutPrefix(name: string): string {
  return name.replace(/^pgqrs_/, "");
}
