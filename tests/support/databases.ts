/**
 * Databases for tests: each one empty, alone, and removed by `close()`.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import postgres from "postgres";
import { type HranaOptions, type HranaServer, startHrana } from "./hrana_server.ts";
import { startPostgres } from "./postgres_server.ts";

/** An empty database. */
export interface TestDatabase {
  /** What `connect` takes. */
  readonly dsn: string;
  /** Removes the database, with connections still open on it or not. */
  close(): Promise<void>;
}

/** A database behind a Hrana server of its own. */
export interface TestLibsql extends TestDatabase {
  readonly server: HranaServer;
  /** The file behind the server, to look at it by another way. */
  readonly file: string;
}

/** SQLite in memory: every connection to it has an empty database of its own. */
export const memory: TestDatabase = { dsn: "sqlite::memory:", close: () => Promise.resolve() };

let sharedServer: Promise<string> | undefined;

/**
 * The DSN of the server that tests share.
 *
 * `PGQRS_TEST_PG_URL` names it when a test runner started one, or when the user wants the tests on a server of their
 * own. Otherwise the first call starts one, which ends with this process: nothing holds the process open for it.
 */
export function sharedPostgres(): Promise<string> {
  const given = process.env.PGQRS_TEST_PG_URL;
  if (given) return Promise.resolve(given);
  sharedServer ??= startPostgres().then((server) => server.dsn());
  return sharedServer;
}

/**
 * Creates a database.
 *
 * @param server is the DSN of the server to create it on; by default the shared one.
 */
export async function freshPostgres(server?: string): Promise<TestDatabase> {
  const admin = server ?? await sharedPostgres();
  const name = `pgqrs_test_${randomUUID().replaceAll("-", "")}`;
  await administer(admin, `create database ${name}`);
  const dsn = new URL(admin);
  dsn.pathname = `/${name}`;
  return { dsn: dsn.href, close: () => administer(admin, `drop database if exists ${name} with (force)`) };
}

/** Names a SQLite file in a folder of its own; the file does not exist yet. */
export function freshSqliteFile(): TestDatabase & { readonly file: string } {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-sqlite-"));
  const file = join(folder, "test.db");
  return { dsn: `sqlite:${file}`, file, close: () => Promise.resolve(remove(folder)) };
}

/** Starts a Hrana server on an empty file. */
export async function freshLibsql(options: HranaOptions = {}): Promise<TestLibsql> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-libsql-"));
  const file = join(folder, "test.db");
  const server = await startHrana(file, options);
  const close = async () => {
    await server.close();
    remove(folder);
  };
  return { dsn: server.url, server, file, close };
}

/** One connection of the bare `postgres` client, to look at a database beside the library. */
export function bareClient(dsn: string): postgres.Sql {
  return postgres(dsn, { max: 1, onnotice() {}, fetch_types: false });
}

/** Runs one statement on a connection that exists only for it, so that nothing idles between tests. */
async function administer(dsn: string, statement: string): Promise<void> {
  const sql = bareClient(dsn);
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

function remove(folder: string): void {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
