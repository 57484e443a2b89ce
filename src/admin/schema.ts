/** Makes, checks and removes the tables. */
import type { Database, LetIn } from "../database.ts";
import { DatabaseError, SchemaError } from "../errors.ts";
import { checkBoolean, checkOptions } from "../options.ts";
import { quoteName } from "../sql/dialect.ts";
import type { Row } from "../sql/driver.ts";
import {
  createMigrationsTable,
  createSchema,
  dropObject,
  findObjects,
  findOrphans,
  findTriggers,
  inspectSchema,
  listMigrations,
  lockMigrations,
  type Migration,
  migrations,
  migrationStatements,
  type SchemaOptions,
  schemaVersion,
} from "../sql/migrations.ts";
import { render, type Statement } from "../sql/sql.ts";

/** Options of `install`. */
export interface InstallOptions {
  /**
   * Postgres only: messages are in tables that are not written to the log. They are faster, and empty after a crash of the
   * server; the queues themselves stay.
   *
   * @default false
   */
  readonly unlogged?: boolean;
}

/** Options of `migrate`. */
export interface MigrateOptions extends InstallOptions {
  /** Only says what would be executed, for those with a migration tool of their own. @default false */
  readonly print?: boolean;
}

/** One step of the schema, and the SQL of it. */
export interface MigrationStep {
  /** The number of the step. */
  readonly version: number;
  /** What it is about. */
  readonly name: string;
  /** The statements, in order. */
  readonly statements: readonly string[];
}

/** For how long one installation may wait for another and work. */
const INSTALL_MS = 60_000;

/** Executes a statement, in the transaction of the migration or outside of any. */
type Query = (one: Statement) => Promise<readonly Row[]>;

/** What is there already. */
interface Inspection {
  readonly exists: boolean;
  readonly isWritable: boolean;
  readonly isOurs: boolean;
  readonly hasObjects: boolean;
  readonly user: string;
  readonly tables: string;
}

/** Installs what is missing. Safe to call at any time and by many processes at once: one works, the others wait. */
export async function install(database: Database, options: InstallOptions = {}): Promise<void> {
  checkOptions("install", options, ["unlogged"]);
  const schemaOptions = { isUnlogged: isUnlogged(database, options) };
  await database.letIn((letIn) => applyPending(database, schemaOptions, letIn));
}

/** Applies or prints the steps that are pending. */
export async function migrate(database: Database, options: MigrateOptions = {}): Promise<MigrationStep[]> {
  checkOptions("migrate", options, ["print", "unlogged"]);
  const { print = false, ...installOptions } = options;
  checkBoolean("print", print);
  const schemaOptions = { isUnlogged: isUnlogged(database, installOptions) };
  if (!print) return await database.letIn((letIn) => applyPending(database, schemaOptions, letIn));
  const pending = await database.letIn((letIn) => pendingMigrations(database, queryOf(database, letIn)));
  const texts = (statements: readonly Statement[]): string[] =>
    statements.flatMap((one) =>
      render(one, { ...database.target, clock: undefined }).parts.map(({ text }) => `${text};`)
    );
  return pending.map((migration, i) => ({
    version: migration.version,
    name: migration.name,
    statements: texts([
      ...(i === 0 ? preparation(database) : []),
      ...migrationStatements(migration, schemaOptions, database.target),
    ]),
  }));
}

/**
 * Compares the objects with what the migrations made, and looks for messages whose queue is gone.
 *
 * @throws {SchemaError} naming all that is missing or altered.
 */
export async function verify(database: Database): Promise<void> {
  await database.letIn((letIn) => compare(database, letIn));
}

async function compare(database: Database, letIn: LetIn): Promise<void> {
  const query = queryOf(database, letIn);
  const inspection = await inspect(database, query);
  if (!inspection.isOurs) throw new SchemaError(`pgqrs is not installed${inSchema(database)}: run "pgqrs install"`);
  const applied = await query(listMigrations());
  const version = versionOf(applied);
  const problems = version === schemaVersion ? [] : [`version ${version} where ${schemaVersion} is needed`];
  const expected = descriptionOf(applied);
  const [row] = await query(findObjects(Object.keys(expected)));
  const actual = JSON.parse(String(row?.[0] ?? "{}")) as Record<string, string>;
  for (const [name, definition] of Object.entries(expected)) {
    if (actual[name] === undefined) problems.push(`missing ${name}`);
    else if (normal(actual[name]) !== normal(definition)) problems.push(`altered ${name}`);
  }
  // Only in tables that are as they should be can anything be looked for.
  const orphans = problems.length > 0 ? [] : await database.query(findOrphans(), { ...letIn, isLong: true });
  for (const [id] of orphans) problems.push(`orphaned messages: the queue with id ${id} is gone`);
  if (problems.length > 0) {
    throw new SchemaError(`pgqrs schema${inSchema(database)} is not as installed: ${problems.join("; ")}`);
  }
}

/** Removes our own objects and nothing else; a schema that we created stays. Resolves to their names. */
export async function uninstall(database: Database): Promise<string[]> {
  return await database.letIn(async (letIn) => {
    if (!(await inspect(database, queryOf(database, letIn))).isOurs) return [];
    return await inMigration(database, letIn, (query) => dropAll(database, query));
  });
}

async function dropAll(database: Database, query: Query): Promise<string[]> {
  if (!(await inspect(database, query)).isOurs) return [];
  const names = Object.keys(descriptionOf(await query(listMigrations())));
  // Whatever else depends on our objects makes the database refuse, but a trigger would go with its table.
  const triggers = (await query(findTriggers(names))).map(([name, on]) => `${name} on ${on}`);
  if (triggers.length > 0) {
    throw new SchemaError(
      `Cannot uninstall${inSchema(database)}: first drop the triggers of yours on our tables: ${triggers.join(", ")}`,
    );
  }
  const dropped: string[] = [];
  // Tables last: a function returns rows of one, and a view reads them. Triggers before the functions that they call.
  for (const name of ["trigger", "view", "function", "table"].flatMap((kind) => names.filter(isOf(kind)))) {
    const drop = dropObject(name);
    if (drop === undefined) continue;
    await query(drop);
    dropped.push(name);
  }
  return dropped;
}

async function applyPending(database: Database, options: SchemaOptions, letIn: LetIn): Promise<MigrationStep[]> {
  try {
    if ((await pendingMigrations(database, queryOf(database, letIn))).length === 0) return [];
    return await inMigration(database, letIn, async (query) => {
      const inspection = await inspect(database, query);
      const pending = await pendingAfter(database, inspection, query);
      if (!inspection.exists) await query(createSchema(quoteName(database.target.schema)));
      await query(createMigrationsTable());
      const steps: MigrationStep[] = [];
      for (const migration of pending) {
        const statements = migrationStatements(migration, options, database.target);
        for (const one of statements) await query(one);
        const texts = statements.flatMap((one) => render(one, database.target).parts.map(({ text }) => text));
        steps.push({ version: migration.version, name: migration.name, statements: texts });
      }
      return steps;
    });
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.reason !== "permission") throw error;
    throw await explainPermission(database, error, letIn);
  }
}

async function pendingMigrations(database: Database, query: Query): Promise<readonly Migration[]> {
  return await pendingAfter(database, await inspect(database, query), query);
}

async function pendingAfter(
  database: Database,
  { isOurs, hasObjects }: Inspection,
  query: Query,
): Promise<readonly Migration[]> {
  const where = inSchema(database);
  if (!isOurs && hasObjects) {
    const elsewhere = database.target.dialect.name === "postgres"
      ? 'another schema, for example connect(dsn, { schema: "pgqrs" })'
      : "another file";
    throw new SchemaError(
      `Cannot install${where}: it holds pgqrs_* objects that this library did not make (the Rust pgqrs uses the same ` +
        `names); choose ${elsewhere}`,
    );
  }
  const version = isOurs ? versionOf(await query(listMigrations())) : 0;
  if (version > schemaVersion) {
    throw new SchemaError(
      `Cannot work${where}: its version ${version} was made by a newer release; this one knows ${schemaVersion}`,
    );
  }
  return migrations.filter((migration) => migration.version > version);
}

/** Runs work in one transaction that nobody else migrates in. A kill at any statement leaves nothing behind. */
async function inMigration<T>(
  database: Database,
  letIn: LetIn,
  work: (query: Query) => Promise<T>,
): Promise<T> {
  return await database.transaction(async (tx) => {
    const query: Query = (one) => database.query(one, { timeoutMs: INSTALL_MS, tx });
    await query(lockMigrations(database.target.schema));
    return await work(query);
  }, { ...letIn, timeoutMs: INSTALL_MS });
}

/** Executes outside of a transaction. */
function queryOf(database: Database, letIn: LetIn): Query {
  return (one) => database.query(one, letIn);
}

function preparation(database: Database): Statement[] {
  const isPostgres = database.target.dialect.name === "postgres";
  return [
    ...(isPostgres ? [createSchema(quoteName(database.target.schema))] : []),
    createMigrationsTable(),
  ];
}

async function inspect(database: Database, query: Query): Promise<Inspection> {
  const [row = []] = await query(inspectSchema(database.target.schema));
  const isSet = (i: number): boolean => Number(row[i]) > 0;
  const [, , , , user, tables] = row.map(String);
  return {
    exists: isSet(0),
    isWritable: isSet(1),
    isOurs: isSet(2),
    hasObjects: isSet(3),
    user: user ?? "",
    tables: tables ?? "",
  };
}

/** Names the statement that lets this role go on: each works for an owner who is no superuser and has no other roles. */
async function explainPermission(database: Database, error: DatabaseError, letIn: LetIn): Promise<Error> {
  const { exists, isOurs, isWritable, tables, user } = await inspect(database, queryOf(database, letIn));
  const schema = quoteName(database.target.schema);
  if (!exists) {
    return new SchemaError(
      `Cannot create schema ${schema}: an owner of the database has to run: ` +
        `create schema ${schema} grant usage, create on schema ${schema} to ${user}`,
    );
  }
  if (isOurs && error.statement === "listMigrations") {
    const sequence = database.target.dialect.qualify(database.target.schema, "pgqrs_messages_id_seq");
    return new SchemaError(
      `Cannot read the tables in schema ${schema}: their owner has to run: grant usage on schema ${schema} to ${user}; ` +
        `grant select, insert, update, delete on ${tables} to ${user}; grant usage on sequence ${sequence} to ${user}`,
    );
  }
  if (isWritable) return error;
  return new SchemaError(
    `Cannot install in schema ${schema}: its owner has to run: grant usage, create on schema ${schema} to ${user}`,
  );
}

function isUnlogged(database: Database, { unlogged = false }: InstallOptions): boolean {
  checkBoolean("unlogged", unlogged);
  if (unlogged && database.target.dialect.name !== "postgres") {
    throw new TypeError("Cannot install unlogged tables: only Postgres has them");
  }
  return unlogged;
}

function versionOf(applied: readonly Row[]): number {
  return Number(applied.at(-1)?.[0] ?? 0);
}

function descriptionOf(applied: readonly Row[]): Record<string, string> {
  return JSON.parse(String(applied.at(-1)?.[2] ?? "{}")) as Record<string, string>;
}

function normal(definition: string): string {
  return definition.replace(/\s+/g, " ").trim().toLowerCase();
}

function isOf(kind: string): (name: string) => boolean {
  return (name) => name.startsWith(`${kind} `);
}

function inSchema({ target }: Database): string {
  return target.dialect.name === "postgres" ? ` in schema ${quoteName(target.schema)}` : "";
}
