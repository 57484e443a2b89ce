/**
 * Stores with something of a test's own between them and the driver.
 *
 * @module
 */
import { Store } from "../../mod.ts";
import { Database } from "../../src/database.ts";
import { openLibsql } from "../../src/drivers/libsql.ts";
import { openPostgres } from "../../src/drivers/postgres.ts";
import { openSqlite } from "../../src/drivers/sqlite.ts";
import type { Driver, DriverOptions } from "../../src/sql/driver.ts";

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

/** What stands between a database and its driver. */
export type Watch = (driver: Driver) => Pick<Driver, "query" | "transaction">;

/** Opens a store that sends what it has to send through what `watch` makes of the driver. */
export async function openWatched(dsn: string, schema: string, watch: Watch): Promise<Store> {
  return new Store(await openWatchedDatabase(dsn, schema, watch));
}

/** Opens only the database of such a store, by a clock if one is given. */
export async function openWatchedDatabase(
  dsn: string,
  schema: string,
  watch: Watch,
  clock?: () => number,
): Promise<Database> {
  const driver = await openDriver(dsn);
  const { dialect, isSynchronous = false } = driver;
  const watched: Driver = {
    dialect,
    isSynchronous,
    ...watch(driver),
    join: (tx) => driver.join(tx),
    close: () => driver.close(),
  };
  return new Database(watched, { dialect, schema, clock }, SETTINGS, undefined);
}

async function openDriver(dsn: string): Promise<Driver> {
  if (dsn.startsWith("postgres")) return openPostgres(dsn, OPTIONS);
  return dsn.startsWith("http") ? await openLibsql(dsn, OPTIONS) : await openSqlite(dsn, OPTIONS);
}
