/**
 * Installations that stop in the middle.
 *
 * @module
 */
import { Store } from "../../mod.ts";
import { Database } from "../../src/database.ts";
import type { Connection, Driver, DriverOptions } from "../../src/sql/driver.ts";
import { openLibsql } from "../../src/drivers/libsql.ts";
import { openPostgres } from "../../src/drivers/postgres.ts";
import { openSqlite } from "../../src/drivers/sqlite.ts";

const OPTIONS: DriverOptions = {
  maxConnections: 1,
  connectTimeoutMs: 30_000,
  timeoutMs: 60_000,
  keepAliveMs: 5_000,
  useWal: true,
  pooler: "auto",
  onNotice() {},
};
const SETTINGS = { leaseMs: 5_000, maxAttempts: 5, maxBatchSize: 100, pollIntervalMs: 250, timeoutMs: 60_000 };

/** What is done around a statement: it is sent by calling `send`. */
export type Around = <T>(send: () => Promise<T>, connection: Connection) => Promise<T>;

/** Opens a store whose driver sends every statement, inside transactions as well, through `around`. */
export async function openAround(dsn: string, schema: string, around: Around): Promise<Store> {
  const driver = await openDriver(dsn);
  const watched: Driver = {
    dialect: driver.dialect,
    query: (rendered, options) => around(() => driver.query(rendered, options), driver),
    transaction: (work, limits) =>
      driver.transaction((tx) =>
        work({
          query: (rendered, options) => around(() => tx.query(rendered, options), tx),
          run: (text, values) => tx.run(text, values),
        }), limits),
    join: (tx) => driver.join(tx),
    close: () => driver.close(),
  };
  return new Store(new Database(watched, { dialect: driver.dialect, schema }, SETTINGS, undefined));
}

/** Installs as a whole, and resolves to the number of statements that it took. */
export async function countStatements(dsn: string, schema: string): Promise<number> {
  let count = 0;
  await using store = await openAround(dsn, schema, (send) => (count++, send()));
  await store.admin.install();
  return count;
}

async function openDriver(dsn: string): Promise<Driver> {
  if (dsn.startsWith("postgres")) return openPostgres(dsn, OPTIONS);
  return dsn.startsWith("http") ? await openLibsql(dsn, OPTIONS) : await openSqlite(dsn, OPTIONS);
}
