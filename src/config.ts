/**
 * Settings from arguments, the environment and a YAML file. Nothing else in this package reads either of the latter.
 *
 * One table says of every setting what it is called in each source, what it may be and what it is by default; the order
 * of the sources holds for each setting by itself. A DSN is never part of a message: it may carry a password.
 */
import { ConfigError } from "./errors.ts";
import { nearestOf } from "./nearest.ts";
import { LONGEST_TIMER_MS } from "./options.ts";

/** Every setting beside the address of the database. */
export type ConfigValues = Omit<Config, "dsn" | "sources" | "toJSON" | "values">;

/** Where each setting of a {@linkcode Config} comes from. */
export type ConfigSources = { readonly [Name in "dsn" | keyof ConfigValues]: string };

/** Settings for {@linkcode Config.load} that go before all other sources. One that is `undefined` is not given. */
export interface LoadConfigOptions extends Partial<ConfigValues> {
  /** The address of the database. @default `PGQRS_DSN`, then the file's `dsn` */
  readonly dsn?: string;
  /** The YAML file to read. @default `PGQRS_CONFIG_FILE`, then `./pgqrs.yaml`, then `./pgqrs.yml` */
  readonly configFile?: string;
}

/** What a setting is called in the file and the environment, and what it may be: its type is that of its preset. */
interface Setting<T> {
  readonly key: string;
  readonly env: string;
  readonly preset: T;
  /** The largest number. */
  readonly most?: number;
  /** What one of a file's or variable's units is in an argument's. */
  readonly unit?: number;
}

/** Where settings are looked for. */
interface Sources {
  readonly given: object;
  readonly env?: (name: string) => string | undefined;
  readonly file?: ConfigFile | undefined;
}

interface ConfigFile {
  readonly name: string;
  readonly values: ReadonlyMap<string, unknown>;
}

const SETTINGS: { readonly [Name in keyof ConfigValues]: Setting<ConfigValues[Name]> } = {
  schema: { key: "schema", env: "PGQRS_SCHEMA", preset: "public" },
  maxConnections: { key: "max_connections", env: "PGQRS_MAX_CONNECTIONS", preset: 16, most: 1_000 },
  connectTimeoutMs: { key: "connection_timeout_seconds", env: "PGQRS_CONNECTION_TIMEOUT", preset: 30_000, unit: 1e3 },
  leaseMs: { key: "default_lock_time_seconds", env: "PGQRS_DEFAULT_LOCK_TIME", preset: 5_000, unit: 1e3 },
  maxBatchSize: { key: "default_max_batch_size", env: "PGQRS_DEFAULT_BATCH_SIZE", preset: 100, most: 10_000 },
  maxAttempts: { key: "max_read_ct", env: "PGQRS_MAX_READ_CT", preset: 5, most: 10_000 },
  heartbeatIntervalMs: { key: "heartbeat_interval_seconds", env: "PGQRS_HEARTBEAT_INTERVAL", preset: 5_000, unit: 1e3 },
  pollIntervalMs: { key: "poll_interval_ms", env: "PGQRS_POLL_INTERVAL_MS", preset: 250 },
  useWal: { key: "sqlite.use_wal", env: "PGQRS_SQLITE_USE_WAL", preset: true },
};
const DSN: Setting<undefined> = { key: "dsn", env: "PGQRS_DSN", preset: undefined };
const KEYS = [DSN, ...Object.values(SETTINGS)].map((setting) => setting.key);
const OLD_KEYS: ReadonlyMap<string, string> = new Map([["heartbeat_interval", "heartbeat_interval_seconds"]]);
const DSN_PATTERN = /^(?::memory:|(?:postgres|postgresql|sqlite|file|libsql|turso|https?):[^\p{Cc}]+)$/u;
const DSN_PARTS =
  /^(postgres|postgresql|sqlite|file|libsql|turso|https?):(?:(\/\/)([^/?#]*))?([^?#]*)(\?[^#]*)?(#.*)?$/s;
const NAME = /^[^\0\p{Cs}]{1,63}$/u;
/** Parameters of a DSN that hold nothing confidential. */
const PLAIN_PARAMETERS = /^(application_name|cache|connect_timeout|mode|pgbouncer|schema|sslmode|tls)$/;

/**
 * The settings of a store. Immutable; what is printed of it shows no password.
 *
 * @example Usage
 * ```ts
 * import { Config, connect } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * const config = Config.fromDsn("sqlite::memory:", { leaseMs: 30_000 });
 * assert.equal(config.leaseMs, 30_000);
 * await using store = await connect(config);
 * ```
 */
export class Config {
  /** The Postgres schema that holds the tables, 1 to 63 bytes. @default "public" */
  declare readonly schema: string;
  /** The largest number of Postgres connections. @default 16 */
  declare readonly maxConnections: number;
  /** For how long a call tries to connect, with ever longer pauses, in milliseconds. @default 30000 */
  declare readonly connectTimeoutMs: number;
  /** For how long a dequeued message is leased unless the call or the queue says so, in milliseconds. @default 5000 */
  declare readonly leaseMs: number;
  /** How many items a page of a list has unless the call says so. @default 100 */
  declare readonly maxBatchSize: number;
  /** After how many failed attempts a message is dead unless the call or the queue says so. @default 5 */
  declare readonly maxAttempts: number;
  /** After how many milliseconds a silent Postgres connection is asked whether it is still there. @default 5000 */
  declare readonly heartbeatIntervalMs: number;
  /** After how many milliseconds a `dequeue` that waits looks for messages again. @default 250 */
  declare readonly pollIntervalMs: number;
  /** Whether SQLite writes ahead to a log, so that readers and the writer do not hinder each other. @default true */
  declare readonly useWal: boolean;
  /** Private, so that no copy, dump or inspection of the object carries the password. */
  readonly #dsn: string;
  readonly #sources: ConfigSources;

  private constructor(dsn: string, values: Iterable<readonly [string, unknown]>, sources: ConfigSources) {
    this.#dsn = dsn;
    this.#sources = sources;
    Object.freeze(Object.assign(this, Object.fromEntries(values)));
  }

  /** The address of the database, password included. */
  get dsn(): string {
    return this.#dsn;
  }

  /** Where each setting comes from: `"argument"`, the name of a variable, the name of a file, or `"default"`. */
  get sources(): ConfigSources {
    return this.#sources;
  }

  /** All settings but the DSN, as one object that can be given as overrides. */
  get values(): ConfigValues {
    return { ...this };
  }

  /**
   * Makes a configuration of a DSN, the overrides and the defaults. Neither the environment nor a file is read.
   *
   * @throws {ConfigError} If the DSN or an override cannot be used.
   *
   * @example Usage
   * ```ts
   * import { Config } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * const config = Config.fromDsn("postgres://me:secret@localhost/mydb", { maxConnections: 32 });
   * assert.equal(config.maxConnections, 32);
   * assert.equal(JSON.parse(JSON.stringify(config)).dsn, "postgres://me:***@localhost/mydb");
   * ```
   */
  static fromDsn(dsn: string, overrides: Partial<ConfigValues> = {}): Config {
    checkGiven(overrides, Object.keys(SETTINGS));
    return Config.#from({ given: { ...overrides, dsn } });
  }

  /**
   * Makes a configuration of the `PGQRS_*` variables and the defaults. An empty variable counts as not set.
   *
   * @throws {ConfigError} If `PGQRS_DSN` is not set, a value cannot be used or the environment may not be read.
   *
   * @example Usage
   * ```ts
   * import { Config } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   * import process from "node:process";
   *
   * process.env.PGQRS_DSN = "sqlite::memory:";
   * process.env.PGQRS_DEFAULT_LOCK_TIME = "0.5";
   * assert.equal(Config.fromEnv().leaseMs, 500);
   * delete process.env.PGQRS_DSN;
   * delete process.env.PGQRS_DEFAULT_LOCK_TIME;
   * ```
   */
  static fromEnv(): Config {
    return Config.#from({ given: {}, env: readVariable });
  }

  /**
   * Makes a configuration of a YAML file and the defaults. A key without a value counts as not given.
   *
   * @throws {ConfigError} If the file cannot be read, has an unknown key or no `dsn`, or a value cannot be used.
   *
   * @example Usage
   * ```ts
   * import { Config } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   * import { rm, writeFile } from "node:fs/promises";
   *
   * await writeFile("example.yaml", 'dsn: "sqlite::memory:"\nmax_connections: 32\n');
   * assert.equal((await Config.fromFile("example.yaml")).maxConnections, 32);
   * await rm("example.yaml");
   * ```
   */
  static async fromFile(path: string): Promise<Config> {
    return Config.#from({ given: {}, file: await readConfigFile(path, "argument path") });
  }

  /**
   * Makes a configuration of all sources. For each setting by itself the first that has it counts: the overrides,
   * `PGQRS_*`, the file, the default. The file is `configFile`, else what `PGQRS_CONFIG_FILE` names, else
   * `./pgqrs.yaml`, else `./pgqrs.yml`; only a file that was named has to be there. What Deno may not read is not set.
   *
   * @throws {ConfigError} If no source has a DSN, a value cannot be used, or a file that was named cannot be read.
   *
   * @example Usage
   * ```ts
   * import { Config } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * const config = await Config.load({ dsn: "sqlite::memory:", pollIntervalMs: 50 });
   * assert.equal(config.pollIntervalMs, 50);
   * ```
   */
  static async load(overrides: LoadConfigOptions = {}): Promise<Config> {
    checkGiven(overrides, ["dsn", "configFile", ...Object.keys(SETTINGS)]);
    const denied = new Set<string>();
    const env = (name: string): string | undefined => {
      try {
        return readVariable(name);
      } catch {
        denied.add("the environment");
        return undefined;
      }
    };
    const sources = { given: overrides, env };
    return Config.#from({ ...sources, file: await findConfigFile(sources, denied) }, denied);
  }

  /** Gives all settings with a DSN that shows no password. */
  toJSON(): ConfigValues & { readonly dsn: string } {
    return { dsn: redactDsn(this.#dsn), ...this.values };
  }

  /** Shows to `console.log` of Node and Bun what {@linkcode Config.toJSON} gives. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `Config ${JSON.stringify(this)}`;
  }

  /** Shows to `console.log` of Deno what {@linkcode Config.toJSON} gives. */
  [Symbol.for("Deno.customInspect")](): string {
    return `Config ${JSON.stringify(this)}`;
  }

  static #from(sources: Sources, denied: ReadonlySet<string> = new Set()): Config {
    const [dsn, source] = pick("dsn", DSN, sources);
    if (typeof dsn !== "string") {
      const hint = denied.size === 0 ? "" : `; ${[...denied].join(" and ")} could not be read for lack of permission`;
      throw new ConfigError(`Cannot find a DSN: pass it, set PGQRS_DSN, or write "dsn" into pgqrs.yaml${hint}`);
    }
    const found = Object.entries(SETTINGS).map(([name, setting]) => [name, ...pick(name, setting, sources)] as const);
    const from = {
      dsn: source,
      ...Object.fromEntries(found.map(([name, , source]) => [name, source])),
    } as ConfigSources;
    return new Config(dsn, found.map(([name, value]) => [name, value]), Object.freeze(from));
  }
}

/** The value of the first source that has the setting, or its default; and which source that is. */
function pick(
  name: string,
  setting: Setting<unknown>,
  { given, env, file }: Sources,
): [value: unknown, source: string] {
  const argument: unknown = Reflect.get(given, name);
  if (argument !== undefined) return [read(`argument ${name}`, argument, { ...setting, unit: 1 }, true), "argument"];
  const variable = env?.(setting.env);
  if (variable !== undefined) return [read(setting.env, variable, setting), setting.env];
  if (file === undefined || !file.values.has(setting.key)) return [setting.preset, "default"];
  return [read(`${file.name}: ${setting.key}`, file.values.get(setting.key), setting), file.name];
}

function read(source: string, value: unknown, setting: Setting<unknown>, isExact = false): unknown {
  const { most = LONGEST_TIMER_MS, unit = 1, preset } = setting;
  const refuse = (expected: string, shown = `, not ${showValue(value)}`): never => {
    throw new ConfigError(`Cannot use ${source}: it must be ${expected}${shown}`);
  };
  switch (typeof preset) {
    case "number": {
      // The environment has only text, and tools that fill in templates quote the numbers of the file.
      const number = !isExact && typeof value === "string" && /^\d+(\.\d+)?$/.test(value) ? Number(value) : value;
      const scaled = typeof number !== "number" ? NaN : unit === 1 ? number : Math.round(number * unit);
      if (Number.isInteger(scaled) && scaled >= 1 && scaled <= most) return scaled;
      return refuse(unit === 1 ? `a whole number from 1 to ${most}` : `seconds from ${1 / unit} to ${most / unit}`);
    }
    case "boolean":
      if (typeof value === "boolean") return value;
      if (!isExact && (value === "true" || value === "1")) return true;
      if (!isExact && (value === "false" || value === "0")) return false;
      return refuse("true or false");
    case "string":
      if (typeof value === "string" && NAME.test(value) && new TextEncoder().encode(value).length <= 63) return value;
      return refuse("a name of 1 to 63 bytes without U+0000");
    default:
      if (typeof value === "string" && DSN_PATTERN.test(value.trim())) return value.trim();
      return refuse("a DSN that begins with postgres:, postgresql:, sqlite:, file:, libsql:, turso: or http(s):", "");
  }
}

/** Shows a value that is short and plain; anything else may be a DSN that slipped into another setting. */
function showValue(value: unknown): string {
  if (typeof value === "number" || typeof value === "boolean" || value === null) return String(value);
  if (typeof value !== "string") return Array.isArray(value) ? "a list" : `a value of type ${typeof value}`;
  return /^[\w.,+% -]{0,40}$/.test(value) ? JSON.stringify(value) : `a text of ${value.length} characters`;
}

function checkGiven(given: unknown, names: readonly string[]): void {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new ConfigError("Cannot use the overrides: they must be an object");
  }
  for (const name of Object.keys(given)) if (!names.includes(name)) throw unknownName("argument", name, names);
}

function unknownName(source: string, name: string, known: readonly string[]): ConfigError {
  const nearest = nearestOf(name.slice(0, 64), known);
  const hint = nearest === undefined ? `known are ${known.join(", ")}` : `did you mean "${nearest}"?`;
  return new ConfigError(`Cannot use ${source} ${showValue(name)}: there is no such setting; ${hint}`);
}

/** What holds the environment, in the runtimes that have one. */
interface Runtime {
  readonly Deno?: { readonly env: { get(name: string): string | undefined } };
  readonly process?: { readonly env?: Readonly<Record<string, string | undefined>> };
}

/** Reads a variable; one that is empty or blank is not set. @throws {ConfigError} If Deno may not read it. */
function readVariable(name: string): string | undefined {
  const { Deno: deno, process }: Runtime = globalThis;
  try {
    const value = deno === undefined ? process?.env?.[name] : deno.env.get(name);
    return value?.trim() || undefined;
  } catch {
    throw new ConfigError(`Cannot read ${name}: no permission; on Deno give --allow-env=PGQRS_*`);
  }
}

async function findConfigFile({ given, env }: Sources, denied: Set<string>): Promise<ConfigFile | undefined> {
  const path: unknown = Reflect.get(given, "configFile");
  if (path !== undefined) return await readConfigFile(path, "argument configFile");
  const named = env?.("PGQRS_CONFIG_FILE");
  if (named !== undefined) return await readConfigFile(named, "PGQRS_CONFIG_FILE");
  return await readConfigFile("pgqrs.yaml", denied) ?? await readConfigFile("pgqrs.yml", denied);
}

/** Reads a file that somebody named; or one that nobody did, which may be missing or denied. */
async function readConfigFile(path: unknown, namedBy: string | Set<string>): Promise<ConfigFile | undefined> {
  if (typeof path !== "string" || path === "") throw new ConfigError(`Cannot use ${namedBy}: it must be a path`);
  // A DSN in the wrong place must not show its password either.
  const name = /:.*@/s.test(path) ? redactDsn(path) : path;
  let text: string;
  try {
    const { readFile } = await import("node:fs/promises");
    text = await readFile(path, "utf8");
  } catch (error) {
    const { code, name: kind }: { code?: unknown; name?: unknown } = Object(error);
    const reason = code === "ENOENT" ? "no such file" : `${code ?? kind}`;
    const isDenied = /^(NotCapable|PermissionDenied|EACCES|EPERM)$/.test(reason);
    const hint = isDenied ? "no permission; on Deno give --allow-read" : reason;
    if (typeof namedBy === "string") throw new ConfigError(`Cannot read ${name} (${namedBy}): ${hint}`);
    if (isDenied) namedBy.add(name);
    // Without a code it is not the file that is missing, but in a browser the module.
    else if (code !== "ENOENT" && code !== undefined) throw new ConfigError(`Cannot read ${name}: ${hint}`);
    return undefined;
  }
  return { name, values: await parseFile(name, text) };
}

async function parseFile(name: string, text: string): Promise<ReadonlyMap<string, unknown>> {
  const { parse } = await import("@std/yaml");
  let root: unknown;
  try {
    root = parse(text) ?? {};
  } catch (error) {
    // The parser's message quotes the file, so that only the number of the line is taken from it.
    const [, line] = /\bline (\d+)|\((\d+):\d+\)/.exec(String(error))?.filter(Boolean) ?? [];
    throw new ConfigError(`Cannot read ${name}: it is not valid YAML${line === undefined ? "" : ` (line ${line})`}`);
  }
  if (Object.getPrototypeOf(root) !== Object.prototype) throw new ConfigError(`Cannot use ${name}: it is no mapping`);
  const values = new Map<string, unknown>();
  for (const [written, value] of Object.entries(Object(root)).flatMap(flatten)) {
    const key = OLD_KEYS.get(written) ?? written;
    if (!KEYS.includes(key)) throw unknownName(`${name}: key`, key, KEYS);
    if (values.has(key)) throw new ConfigError(`Cannot use ${name}: ${key} is given twice`);
    if (value !== null) values.set(key, value);
  }
  return values;
}

/** Makes `sqlite.use_wal` of `use_wal` below `sqlite`. */
function flatten([key, value]: [string, unknown]): [string, unknown][] {
  const isGroup = KEYS.some((known) => known.startsWith(`${key}.`)) && typeof value === "object";
  return isGroup ? Object.entries(value ?? {}).map(([inner, item]) => [`${key}.${inner}`, item]) : [[key, value]];
}

/**
 * Shows a DSN without what is confidential: the password, the user of any but a Postgres address, the fragment, and all
 * parameters but a few. Of a text that is no DSN, or that may have been cut inside a password, at most the scheme is
 * left. Never throws.
 */
export function redactDsn(dsn: string): string {
  const text = typeof dsn === "string" ? dsn.trim() : "";
  if (text === ":memory:") return text;
  const [, scheme, slashes, authority = "", path = "", query = "", fragment = ""] = DSN_PARTS.exec(text) ?? [];
  if (scheme === undefined) return (/^[a-z][\w+.-]{0,19}:(?=\/\/)/i.exec(text)?.[0] ?? "") + "***";
  const isLocal = scheme === "sqlite" || scheme === "file";
  const hosts = redactHosts(authority, scheme.startsWith("postgres"));
  const rest = path + query + fragment;
  // A password with a bare "/", "?" or "#" goes on behind what looks like the end of the host.
  const isCut = rest.includes("@") && (!isLocal || authority !== "" || /:.*@/s.test(rest));
  if (hosts === undefined || isCut || path.includes("=") || !(isLocal || slashes)) return `${scheme}:***`;
  const parameters = query && `?${query.slice(1).split("&").map(redactParameter).join("&")}`;
  return `${scheme}:${slashes ?? ""}${hosts}${path}${parameters}${fragment && "#***"}`;
}

/** Gives `undefined` for what cannot be a host, and so may be a password with its host missing. */
function redactHosts(authority: string, hasUser: boolean): string | undefined {
  const [, user, password = "", hosts = ""] = /^(?:([^:]*?)(:.*)?@)?([^@]*)$/s.exec(authority) ?? [];
  if (!hosts.split(",").every((host) => /^(\[[\da-f:.]*\]|[\w.%-]*)(:\d{0,5})?$/i.test(host))) return undefined;
  if (user === undefined) return hosts;
  return hasUser && /^[\w.-]*$/.test(user) ? `${user}${password && ":***"}@${hosts}` : `***@${hosts}`;
}

function redactParameter(parameter: string): string {
  const [, name, value] = /^([\w.-]{1,40})=(.*)$/s.exec(parameter) ?? [];
  if (name === undefined || value === undefined) return "***";
  return PLAIN_PARAMETERS.test(name) && /^[\w.-]{0,40}$/.test(value) ? parameter : `${name}=***`;
}
