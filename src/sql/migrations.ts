/**
 * The migrations: one ordered list, forward and append only, with both dialects in each entry so that neither can be
 * forgotten. A test holds the hash of every released entry. They are additive, so that workers of two releases can run on
 * one schema. TypeScript and not `.sql` files, because Node cannot import text.
 */
import { postgresTables, sqliteTables } from "./migrations/0001_tables.ts";
import { postgresFunctions } from "./migrations/0002_functions.ts";
import {
  type Fragment,
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
  readonly postgres: (options: SchemaOptions) => readonly Fragment[];
  readonly sqlite: (options: SchemaOptions) => readonly Fragment[];
}

/** All steps, in order. */
export const migrations: readonly Migration[] = [
  {
    version: 1,
    name: "tables",
    postgres: ({ isUnlogged }) => postgresTables(isUnlogged),
    sqlite: () => sqliteTables(),
  },
  { version: 2, name: "functions", postgres: () => postgresFunctions(), sqlite: () => [] },
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

/** Notes a migration as applied, with a description of every object as it is now: `verify` compares with that. */
function recordMigration({ version, name }: Migration): Statement {
  const at = perDialect({
    postgres: () => raw("statement_timestamp()"),
    sqlite: () => raw("cast(unixepoch('subsec') * 1000 as integer)"),
  });
  return statement(
    "recordMigration",
    sql`insert into ${table("migrations")} (version, name, applied_at, objects)
select ${raw(String(version))}, ${raw(`'${name}'`)}, ${at}, (${describeObjects()})`,
  );
}

/** Lists the recorded migrations. Rows: version, name, description of the objects. */
export function listMigrations(): Statement {
  return statement(
    "listMigrations",
    sql`select version, name, cast(objects as text) from ${table("migrations")} order by version`,
  );
}

/** Describes the objects as they are. Row: a JSON object. */
export function findObjects(): Statement {
  return statement("findObjects", sql`select cast(d as text) from (${describeObjects("d")}) t`);
}

/** A query with one value: a JSON object of the name of each of our objects and what defines it. */
function describeObjects(as = "objects"): Fragment {
  return sql`${
    perDialect({
      postgres: () => describePostgres(as),
      sqlite: () =>
        sql`select json_group_object(type || ' ' || name, sql) as ${raw(as)} from sqlite_schema
where name like 'pgqrs\\_%' escape '\\' and sql is not null`,
    })
  }`;
}

function describePostgres(as: string): Fragment {
  // The namespace by the name of a table of ours, because the schema's own name is not a value but part of the text.
  const ours = sql`n.oid = (select relnamespace from pg_catalog.pg_class where oid = ${
    tableLiteral("migrations")
  }::regclass)`;
  return sql`select json_object_agg(o.name, o.definition order by o.name) as ${raw(as)} from (
  select 'column ' || c.relname || '.' || a.attname as name,
    format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end ||
      coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') ||
      case when a.attidentity = '' then '' else ' identity' end as definition
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_class c on c.oid = a.attrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
  where ${ours} and c.relkind = 'r' and c.relname like 'pgqrs\\_%' and a.attnum > 0 and not a.attisdropped
  union all
  select 'table ' || c.relname, case c.relpersistence when 'u' then 'unlogged' else 'logged' end
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where ${ours} and c.relkind = 'r' and c.relname like 'pgqrs\\_%'
  union all
  select 'index ' || c.relname, pg_get_indexdef(i.indexrelid) || case when i.indisvalid then '' else ' invalid' end
  from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid = i.indexrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where ${ours} and c.relname like 'pgqrs\\_%'
  union all
  select 'constraint ' || c.relname || '.' || x.conname, pg_get_constraintdef(x.oid)
  from pg_catalog.pg_constraint x
  join pg_catalog.pg_class c on c.oid = x.conrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where ${ours} and c.relname like 'pgqrs\\_%' and x.contype in ('c', 'p', 'u')
  union all
  select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
    encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') || coalesce(' ' || array_to_string(p.proconfig, ' '), '')
  from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where ${ours} and p.proname like 'pgqrs\\_%'
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
    where n.nspname = ${schema} and c.relkind = 'r' and c.relname like 'pgqrs\\_%')`,
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
  const [, kind, rest = ""] = /^(table|function) (.*)$/s.exec(name) ?? [];
  if (kind === "table") return statement("dropObject", sql`drop table if exists ${table(withoutPrefix(rest))}`);
  if (kind !== "function") return undefined;
  const [, bare = "", signature = ""] = /^([^(]*)(\(.*\))$/s.exec(rest) ?? [];
  return statement("dropObject", sql`drop function if exists ${table(withoutPrefix(bare))}${raw(signature)}`);
}

function withoutPrefix(name: string): string {
  return name.replace(/^pgqrs_/, "");
}
