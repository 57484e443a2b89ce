/** From a DSN, a configuration or a client to a store: the one place that picks a driver. */
import { Config } from "./config.ts";
import { Database, type Logger, type OpenTransaction, type Settings, type TransactionScope } from "./database.ts";
import type { LibsqlClient } from "./drivers/libsql.ts";
import type { PostgresClient } from "./drivers/postgres_session.ts";
import type { SqliteClient } from "./drivers/sqlite.ts";
import { guardLogger } from "./log.ts";
import { checkBoolean, checkOptions, checkTimeout } from "./options.ts";
import type { Driver, DriverOptions } from "./sql/driver.ts";
import { Store } from "./store.ts";

/** Options of {@linkcode connect}. */
export interface ConnectOptions {
  /** The Postgres schema that holds the tables. @default "public" */
  readonly schema?: string;
  /**
   * The largest number of Postgres connections. From three on, one of them is kept for heartbeats and hints, and is opened
   * when there are any; with fewer these share a connection with everything else.
   *
   * @default 16
   */
  readonly maxConnections?: number;
  /** For how long a call tries to connect, with ever longer pauses, in milliseconds. @default 30000 */
  readonly connectTimeoutMs?: number;
  /**
   * How long a call may take unless it says so itself, in milliseconds. It then ends as *not applied* or *unknown*.
   *
   * @default 30000
   */
  readonly timeoutMs?: number;
  /** Whether a transaction pooler stands before Postgres, so that prepared statements cannot be used. @default "auto" */
  readonly pooler?: boolean | "auto";
  /**
   * Gets what workers do, what goes wrong beside calls, and what the server has to tell beside answers; never a payload, a
   * result or a secret. `console` will do. @default nothing is logged
   */
  readonly logger?: Logger;
  /**
   * Whether workers and waiting consumers listen for hints of other processes, so that they need not wait for their next
   * look. On Postgres they come by LISTEN: on one of the `maxConnections`, or on a connection that a client of the caller
   * opens for it; a pooler is found out and not used for it, so that behind one everything is found by looking. On a SQLite
   * file whoever waits asks every 10 ms whether another process has committed. Hints are sent in any case, see `notify`.
   *
   * @default true
   */
  readonly listen?: boolean;
  /** Whether a SQLite file is made when there is none, instead of failing. @default true */
  readonly create?: boolean;
  /** A clock for tests, in milliseconds since the epoch. It replaces the database's in everything that is stored. */
  readonly clock?: () => number;
}

/** What {@linkcode connect} takes: a DSN, a configuration, or a client that the caller goes on owning. */
export type ConnectTarget = Config | LibsqlClient | PostgresClient | SqliteClient | string;

const OPTIONS: readonly string[] = [
  "clock",
  "connectTimeoutMs",
  "create",
  "listen",
  "logger",
  "maxConnections",
  "pooler",
  "schema",
  "timeoutMs",
];
const TIMEOUT_MS = 30_000;

/**
 * Opens a store. Without a target it is configured by `Config.load()`: environment, then file. A DSN is
 * `postgres://` or `postgresql://`, `sqlite:`, `file:` or `:memory:`, `libsql:`, `turso:`, `http:` or `https:`; only the
 * driver that is used is loaded. A client of `postgres`, `@libsql/client` or `node:sqlite` is used as it is and never
 * closed.
 *
 * Postgres is connected to by the first call, so `connect` itself does not fail when it is down.
 *
 * @throws {ConfigError} when the target or a setting cannot be used.
 * @throws {TypeError | RangeError} when an option cannot.
 *
 * @example Usage
 * ```ts
 * import { connect } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * await using store = await connect("sqlite::memory:");
 * assert.ok((await store.ping()).roundTripMs >= 0);
 * ```
 */
export async function connect(target?: ConnectTarget, options: ConnectOptions = {}): Promise<Store> {
  checkOptions("connect", options, OPTIONS);
  checkTarget(target);
  const config = await configOf(target, options);
  const { listen, clock, create = true } = options;
  checkBoolean("create", create);
  const logger = options.logger === undefined ? undefined : guardLogger(options.logger);
  const driverOptions = driverOptionsOf(config, { ...options, ...(logger !== undefined && { logger }) });
  const hasAddress = target === undefined || typeof target === "string" || target instanceof Config;
  const driver = hasAddress ? await open(config.dsn, driverOptions, create) : await adopt(target, driverOptions);
  const { leaseMs, maxAttempts, maxBatchSize, pollIntervalMs, schema } = config;
  const settings: Settings = { leaseMs, maxAttempts, maxBatchSize, pollIntervalMs, timeoutMs: driverOptions.timeoutMs };
  const scope = await openScope();
  return new Store(
    new Database(driver, { dialect: driver.dialect, schema, clock }, settings, { scope, logger, isListening: listen }),
  );
}

function checkTarget(target: unknown): void {
  const isObject = (typeof target === "object" && target !== null) || typeof target === "function";
  if (target !== undefined && typeof target !== "string" && !isObject) throw notTarget();
}

function notTarget(): TypeError {
  return new TypeError("Cannot connect: the target is neither a DSN nor a client of postgres, libSQL or node:sqlite");
}

async function configOf(target: ConnectTarget | undefined, options: ConnectOptions): Promise<Config> {
  const { schema, maxConnections, connectTimeoutMs } = options;
  const overrides = {
    ...(schema !== undefined && { schema }),
    ...(maxConnections !== undefined && { maxConnections }),
    ...(connectTimeoutMs !== undefined && { connectTimeoutMs }),
  };
  if (target === undefined) return await Config.load(overrides);
  if (target instanceof Config) return Config.fromDsn(target.dsn, { ...target.values, ...overrides });
  // A client of the caller has its address by itself; the defaults of everything else hold.
  return Config.fromDsn(typeof target === "string" ? target : ":memory:", overrides);
}

function driverOptionsOf(config: Config, options: ConnectOptions): DriverOptions {
  const { timeoutMs = TIMEOUT_MS, pooler = "auto", listen, logger, clock } = options;
  if (listen !== undefined) checkBoolean("listen", listen);
  checkTimeout("timeoutMs", timeoutMs);
  if (pooler !== "auto" && typeof pooler !== "boolean") {
    throw new TypeError('Cannot use pooler: it must be a boolean or "auto"');
  }
  if (clock !== undefined && typeof clock !== "function") {
    throw new TypeError("Cannot use clock: it must be a function");
  }
  return {
    maxConnections: config.maxConnections,
    connectTimeoutMs: config.connectTimeoutMs,
    keepAliveMs: config.heartbeatIntervalMs,
    useWal: config.useWal,
    timeoutMs,
    pooler,
    onNotice: (message) => logger?.info(message),
  };
}

/** Opens the driver for a DSN. Each is a literal dynamic import, so that none is loaded unless it is used. */
async function open(dsn: string, options: DriverOptions, create: boolean): Promise<Driver> {
  if (/^postgres(ql)?:/.test(dsn)) return (await import("./drivers/postgres.ts")).openPostgres(dsn, options);
  if (/^(libsql|turso|https?):/.test(dsn)) return await (await import("./drivers/libsql.ts")).openLibsql(dsn, options);
  return await (await import("./drivers/sqlite.ts")).openSqlite(dsn, options, create);
}

/** Makes a driver of the caller's client, known by what it can do. */
async function adopt(client: LibsqlClient | PostgresClient | SqliteClient, options: DriverOptions): Promise<Driver> {
  if (typeof (client as PostgresClient).unsafe === "function") {
    return (await import("./drivers/postgres_client.ts")).adoptPostgres(client as PostgresClient, options);
  }
  if (typeof (client as LibsqlClient).batch === "function") {
    return (await import("./drivers/libsql.ts")).adoptLibsql(client as LibsqlClient, options);
  }
  if (typeof (client as SqliteClient).prepare === "function") {
    return await (await import("./drivers/sqlite.ts")).adoptSqlite(client as SqliteClient, options);
  }
  throw notTarget();
}

/** Where there is `AsyncLocalStorage`, a call inside a transaction is told from one outside; a browser has none. */
async function openScope(): Promise<TransactionScope | undefined> {
  try {
    const { AsyncLocalStorage } = await import("node:async_hooks");
    const storage = new AsyncLocalStorage<OpenTransaction>();
    return {
      run: (value, work) => storage.run(value, work),
      getStore: () => storage.getStore(),
      snapshot: () => AsyncLocalStorage.snapshot(),
    };
  } catch {
    return undefined;
  }
}
