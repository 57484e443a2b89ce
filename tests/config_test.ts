/** Where settings come from, and that no password gets out: `src/config.ts`. */
import { assert, assertEquals, assertInstanceOf, assertMatch, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { inspect, promisify } from "node:util";
import { Config, type ConfigValues, type LoadConfigOptions, redactDsn } from "../src/config.ts";
import { ConfigError } from "../src/errors.ts";
import { runtimeCommand } from "./support/processes.ts";

const IS_DENO = Reflect.has(globalThis, "Deno");
const PASSWORD = "canary-2718281828";
const SECRET_DSN = `postgresql://me:${PASSWORD}@localhost/db`;
const DEFAULTS: ConfigValues = {
  schema: "public",
  maxConnections: 16,
  connectTimeoutMs: 30_000,
  leaseMs: 5_000,
  maxBatchSize: 100,
  maxAttempts: 5,
  heartbeatIntervalMs: 5_000,
  pollIntervalMs: 250,
  useWal: true,
};
/** Each setting: as argument, variable, key, text of variable and file, and the value that this gives. */
const CASES: readonly [keyof ConfigValues, string, string, string, unknown][] = [
  ["schema", "PGQRS_SCHEMA", "schema", "jobs", "jobs"],
  ["maxConnections", "PGQRS_MAX_CONNECTIONS", "max_connections", "32", 32],
  ["connectTimeoutMs", "PGQRS_CONNECTION_TIMEOUT", "connection_timeout_seconds", "0.25", 250],
  ["leaseMs", "PGQRS_DEFAULT_LOCK_TIME", "default_lock_time_seconds", "10", 10_000],
  ["maxBatchSize", "PGQRS_DEFAULT_BATCH_SIZE", "default_max_batch_size", "200", 200],
  ["maxAttempts", "PGQRS_MAX_READ_CT", "max_read_ct", "7", 7],
  ["heartbeatIntervalMs", "PGQRS_HEARTBEAT_INTERVAL", "heartbeat_interval_seconds", "1.0005", 1_001],
  ["pollIntervalMs", "PGQRS_POLL_INTERVAL_MS", "poll_interval_ms", "50", 50],
  ["useWal", "PGQRS_SQLITE_USE_WAL", "sqlite.use_wal", "false", false],
];
const VARIABLES = ["PGQRS_DSN", "PGQRS_CONFIG_FILE", ...CASES.map(([, variable]) => variable)];

/** Runs `work` while the environment has these `PGQRS_*` variables and no others. */
async function withEnv<T>(variables: Readonly<Record<string, string>>, work: () => T | Promise<T>): Promise<T> {
  const deno: { env: { get(name: string): string | undefined } } | undefined = Reflect.get(globalThis, "Deno");
  if (deno !== undefined) {
    // Test files on Deno are threads of one process, so its environment has to be left alone.
    const { get } = deno.env;
    deno.env.get = (name) => name.startsWith("PGQRS_") ? variables[name] : get(name);
    try {
      return await work();
    } finally {
      deno.env.get = get;
    }
  }
  const before = VARIABLES.map((name) => [name, process.env[name]] as const);
  for (const name of VARIABLES) delete process.env[name];
  Object.assign(process.env, variables);
  try {
    return await work();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

interface Folder extends AsyncDisposable {
  readonly path: string;
  /** Writes a file and resolves to its path. */
  write(name: string, text: string): Promise<string>;
}

async function makeFolder(): Promise<Folder> {
  const path = await mkdtemp(join(tmpdir(), "pgqrs-config-"));
  return {
    path,
    async write(name, text) {
      await writeFile(join(path, name), text);
      return join(path, name);
    },
    [Symbol.asyncDispose]: () => rm(path, { recursive: true }),
  };
}

/** Loads a configuration in a process of its own, in a folder, and resolves to its JSON or to the error's text. */
async function loadIn(cwd: string, env: Record<string, string>, flags: readonly string[] = []) {
  const script = join(cwd, "load.ts");
  await writeFile(
    script,
    `import { Config } from ${JSON.stringify(new URL("../src/config.ts", import.meta.url).href)};
try {
  console.log(JSON.stringify(await Config.load()));
} catch (error) {
  console.log(JSON.stringify({ error: error.name + ": " + error.message }));
}`,
  );
  const [program = "", ...args] = runtimeCommand();
  // The script is outside the project, so that Deno has to be told where the import map is.
  if (IS_DENO) args.push(...flags, "--config", fileURLToPath(new URL("../deno.json", import.meta.url)));
  const { PATH, HOME, DENO_DIR } = process.env;
  const inherited = Object.fromEntries(Object.entries({ PATH, HOME, DENO_DIR }).filter(([, value]) => value));
  const { stdout } = await promisify(execFile)(program, [...args, script], { cwd, env: { ...inherited, ...env } });
  const loaded: Record<string, unknown> = JSON.parse(stdout);
  return loaded;
}

async function caught(work: () => unknown): Promise<ConfigError> {
  try {
    await work();
  } catch (error) {
    assertInstanceOf(error, ConfigError, inspect(error));
    return error;
  }
  throw new Error("Nothing was thrown");
}

/** Writes `key: text`, with `sqlite.use_wal` as it stands in a file. */
function yamlLine(key: string, text: string): string {
  return key.includes(".") ? `${key.replace(".", ":\n  ")}: ${text}\n` : `${key}: ${text}\n`;
}

test("Config.fromDsn() has the defaults of the table and takes overrides", () => {
  assertEquals(Config.fromDsn(":memory:").values, DEFAULTS);
  assertEquals(Config.fromDsn(":memory:", { leaseMs: undefined }).values, DEFAULTS);
  assertEquals(Config.fromDsn(SECRET_DSN).dsn, SECRET_DSN);
  const overrides: ConfigValues = {
    schema: "Überschrift 1",
    maxConnections: 1,
    connectTimeoutMs: 1,
    leaseMs: 2 ** 31 - 1,
    maxBatchSize: 10_000,
    maxAttempts: 10_000,
    heartbeatIntervalMs: 2,
    pollIntervalMs: 3,
    useWal: false,
  };
  const config = Config.fromDsn("file:jobs.db", overrides);
  assertEquals(config.values, overrides);
  assertEquals({ ...config }, overrides);
  assertEquals(Config.fromDsn("file:jobs.db", config.values).values, overrides);
  assert(Object.isFrozen(config));
});

test("sources tells where each setting comes from", async () => {
  await withEnv({ PGQRS_DSN: "sqlite::memory:", PGQRS_MAX_CONNECTIONS: "3" }, async () => {
    const { sources } = await Config.load({ leaseMs: 7 });
    const expected = {
      ...Object.fromEntries(["dsn", ...Object.keys(DEFAULTS)].map((name) => [name, "default"])),
      dsn: "PGQRS_DSN",
      maxConnections: "PGQRS_MAX_CONNECTIONS",
      leaseMs: "argument",
    };
    assertEquals({ ...sources }, expected as typeof sources);
  });
  const file = join(tmpdir(), `pgqrs-sources-${crypto.randomUUID()}.yaml`);
  await writeFile(file, "dsn: 'sqlite::memory:'\npoll_interval_ms: 5\n");
  try {
    const { sources } = await Config.fromFile(file);
    assertEquals([sources.dsn, sources.pollIntervalMs, sources.useWal], [file, file, "default"]);
  } finally {
    await rm(file);
  }
});

test("Config.fromDsn() reads neither the environment nor a file", async () => {
  const variables = Object.fromEntries(CASES.map(([, name, , text]) => [name, text]));
  await withEnv(variables, () => assertEquals(Config.fromDsn(":memory:").values, DEFAULTS));
});

test("Config.fromDsn() accepts just the known schemes", () => {
  const good = ["postgres://h/d", "postgresql://h", "postgres://", "sqlite:a.db", "sqlite::memory:", ":memory:"];
  good.push("file:a.db?mode=memory", "libsql://x.turso.io", "turso:x", "http://127.0.0.1:8080", "https://x");
  for (const dsn of good) assertEquals(Config.fromDsn(` ${dsn}\n`).dsn, dsn);
  const bad: unknown[] = ["", " ", "pg://h", "mysql://h", "sqlite:", "postgres:", "a.db", ":memory:x", "xsqlite:a"];
  bad.push("sqlite:a\0b", "sqlite:a\nb", "Postgres://h", `host=h password=${PASSWORD}`, 5, {}, [":memory:"], null);
  for (const dsn of bad) {
    const error = assertThrows(
      () => Reflect.apply(Config.fromDsn, Config, [dsn]),
      ConfigError,
      "argument dsn: it must",
    );
    assert(!error.message.includes(PASSWORD));
  }
  assertThrows(() => Reflect.apply(Config.fromDsn, Config, []), ConfigError, "Cannot find a DSN");
});

test("Config.fromDsn() names the argument and the value that it refuses", () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ maxConnections: 0 }, "argument maxConnections: it must be a whole number from 1 to 1000, not 0"],
    [{ maxConnections: 1_001 }, "argument maxConnections: it must be a whole number from 1 to 1000, not 1001"],
    [{ maxConnections: "32" }, 'argument maxConnections: it must be a whole number from 1 to 1000, not "32"'],
    [{ leaseMs: 0.5 }, "argument leaseMs: it must be a whole number from 1 to 2147483647, not 0.5"],
    [{ leaseMs: NaN }, "argument leaseMs: it must be a whole number from 1 to 2147483647, not NaN"],
    [{ pollIntervalMs: 2 ** 31 }, "argument pollIntervalMs"],
    [{ maxAttempts: null }, "argument maxAttempts: it must be a whole number from 1 to 10000, not null"],
    [{ maxBatchSize: [1] }, "argument maxBatchSize: it must be a whole number from 1 to 10000, not a list"],
    [{ useWal: "true" }, 'argument useWal: it must be true or false, not "true"'],
    [{ schema: "" }, 'argument schema: it must be a name of 1 to 63 bytes without U+0000, not ""'],
    [{ schema: "a\0" }, "not a text of 2 characters"],
    [{ schema: "\ud800" }, "argument schema"],
    [{ schema: "é".repeat(32) }, "not a text of 32 characters"],
    [{ schema: `${SECRET_DSN}?application_name=jobs` }, "argument schema: it must be a name"],
    [{ maxConections: 1 }, 'argument "maxConections": there is no such setting; did you mean "maxConnections"?'],
    [{ dsn: SECRET_DSN }, 'argument "dsn": there is no such setting'],
    [{ configFile: "a" }, 'argument "configFile": there is no such setting'],
  ];
  for (const [overrides, expected] of cases) {
    const error = assertThrows(() => Config.fromDsn(SECRET_DSN, overrides), ConfigError, expected);
    assert(!error.message.includes(PASSWORD));
  }
  assertEquals(Config.fromDsn(":memory:", { schema: "é".repeat(31) }).schema, "é".repeat(31));
  for (const overrides of [null, [], "leaseMs"]) {
    assertThrows(
      () => Reflect.apply(Config.fromDsn, Config, [":memory:", overrides]),
      ConfigError,
      "must be an object",
    );
  }
});

test("Config.fromEnv() reads every variable", async () => {
  for (const [name, variable, , text, value] of CASES) {
    const config = await withEnv({ PGQRS_DSN: ":memory:", [variable]: ` ${text}\n` }, () => Config.fromEnv());
    assertEquals<unknown>(config.values, { ...DEFAULTS, [name]: value });
  }
  const empty = Object.fromEntries(VARIABLES.map((name) => [name, " "]));
  const config = await withEnv({ ...empty, PGQRS_DSN: "sqlite:a.db" }, () => Config.fromEnv());
  assertEquals([config.dsn, config.values], ["sqlite:a.db", DEFAULTS]);
});

test("Config.fromEnv() names the variable and the value that it refuses", async () => {
  const error = await caught(() => withEnv({}, () => Config.fromEnv()));
  assertEquals(error.message, 'Cannot find a DSN: pass it, set PGQRS_DSN, or write "dsn" into pgqrs.yaml');
  const texts = ["abc", "-1", "0", "1e3", "0x10", "1_000", "12abc", "1,5", "NaN", "Infinity", "99999999999", "1.5.2"];
  for (const [, variable] of CASES.filter(([name]) => name !== "schema")) {
    for (const text of texts.filter((text) => text !== "0" || variable !== "PGQRS_SQLITE_USE_WAL")) {
      const { message } = await caught(() => withEnv({ PGQRS_DSN: ":memory:", [variable]: text }, Config.fromEnv));
      assert(message.startsWith(`Cannot use ${variable}: it must be `) && message.endsWith(`, not "${text}"`), message);
    }
  }
  const lock = await caught(() =>
    withEnv({ PGQRS_DSN: ":memory:", PGQRS_DEFAULT_LOCK_TIME: "0.0004" }, Config.fromEnv)
  );
  assertMatch(lock.message, /it must be seconds from 0\.001 to 2147483\.647, not "0\.0004"$/);
  const dsn = await caught(() => withEnv({ PGQRS_DSN: `redis://me:${PASSWORD}@h` }, () => Config.fromEnv()));
  assert(dsn.message.startsWith("Cannot use PGQRS_DSN: ") && !dsn.message.includes(PASSWORD));
  const swapped = { PGQRS_DSN: ":memory:", PGQRS_MAX_CONNECTIONS: SECRET_DSN };
  const { message } = await caught(() => withEnv(swapped, () => Config.fromEnv()));
  assertMatch(message, /^Cannot use PGQRS_MAX_CONNECTIONS: .*, not a text of 46 characters$/);
});

test("Config.fromFile() reads every key, quoted or not", async () => {
  await using folder = await makeFolder();
  for (const [name, , key, text, value] of CASES) {
    for (const written of [text, `"${text}"`]) {
      const path = await folder.write("one.yaml", `dsn: "sqlite::memory:"\n${yamlLine(key, written)}`);
      assertEquals<unknown>((await Config.fromFile(path)).values, { ...DEFAULTS, [name]: value });
    }
  }
  const old = await folder.write("old.yaml", "\uFEFFdsn: file:a.db\nheartbeat_interval: 2.5\nschema:\nsqlite:\n");
  const config = await withEnv({ PGQRS_SCHEMA: "not read" }, () => Config.fromFile(old));
  assertEquals([config.dsn, config.values], ["file:a.db", { ...DEFAULTS, heartbeatIntervalMs: 2_500 }]);
});

test("Config.fromFile() says what is wrong with the file, and quotes no DSN", async () => {
  await using folder = await makeFolder();
  const dsn = `dsn: ${SECRET_DSN}\n`;
  const cases: [string, string][] = [
    ["", "Cannot find a DSN: pass it, set PGQRS_DSN"],
    ["dsn:\n", "Cannot find a DSN"],
    [`${dsn}max_conections: 3\n`, 'Cannot use FILE: key "max_conections": there is no such setting; did you mean "max'],
    [`${dsn}volume: 3\n`, "there is no such setting; known are dsn, schema, "],
    [`${SECRET_DSN}: 3\n`, "there is no such setting"],
    [`${dsn}sqlite:\n  wal: true\n`, 'key "sqlite.wal": there is no such setting; did you mean "sqlite.use_wal"?'],
    [`${dsn}sqlite: 3\n`, 'key "sqlite": there is no such setting'],
    [
      `${dsn}max_connections: many\n`,
      'Cannot use FILE: max_connections: it must be a whole number from 1 to 1000, not "',
    ],
    [`${dsn}max_connections: [1]\n`, "max_connections: it must be a whole number from 1 to 1000, not a list"],
    [`${dsn}max_connections: {toString: 1}\n`, "not a value of type object"],
    [
      `${dsn}sqlite: {use_wal: {toString: 1}}\n`,
      "sqlite.use_wal: it must be true or false, not a value of type object",
    ],
    [`${dsn}schema: 5\n`, "schema: it must be a name of 1 to 63 bytes without U+0000, not 5"],
    [`${dsn}default_lock_time_seconds: 0\n`, "default_lock_time_seconds: it must be seconds from 0.001 to 2147483.647"],
    [`dsn: [${SECRET_DSN}]\n`, "Cannot use FILE: dsn: it must be a DSN"],
    [`dsn: mysql://me:${PASSWORD}@h\n`, "Cannot use FILE: dsn: it must be a DSN"],
    [`${dsn}heartbeat_interval: 1\nheartbeat_interval_seconds: 1\n`, "heartbeat_interval_seconds is given twice"],
    [`${dsn}schema: [${PASSWORD}\n`, "Cannot read FILE: it is not valid YAML (line "],
    [`${dsn}${dsn}`, "Cannot read FILE: it is not valid YAML"],
    [`dsn:${SECRET_DSN}\n`, "Cannot use FILE: it is no mapping"],
    [`- ${SECRET_DSN}\n`, "Cannot use FILE: it is no mapping"],
    ["2001-01-01\n", "Cannot use FILE: it is no mapping"],
    [`__proto__: 1\n${dsn}`, "there is no such setting"],
  ];
  for (const [text, expected] of cases) {
    const path = await folder.write("bad.yaml", text);
    const error = await caught(() => Config.fromFile(path));
    assert(error.message.includes(expected.replace("FILE", path)), `${error.message} is not ${expected}`);
    assert(!inspect(error).includes(PASSWORD), inspect(error));
  }
  const missing = join(folder.path, "missing.yaml");
  const reason = (await caught(() => Config.fromFile(missing))).message;
  assertEquals(reason, `Cannot read ${missing} (argument path): no such file`);
  await mkdir(join(folder.path, "folder.yaml"));
  await assertRejects(() => Config.fromFile(join(folder.path, "folder.yaml")), ConfigError, "EISDIR");
  await assertRejects(() => Config.fromFile("a\0b"), ConfigError, "Cannot read ");
  assert(!(await caught(() => Config.fromFile(SECRET_DSN))).message.includes(PASSWORD));
  for (const path of ["", undefined, 5]) {
    await assertRejects(() => Reflect.apply(Config.fromFile, Config, [path]), ConfigError, "argument path");
  }
});

test("Config.load() takes each setting from the first source that has it", async () => {
  await using folder = await makeFolder();
  const lines = CASES.map(([, , key, text]) => yamlLine(key, text)).join("");
  const configFile = await folder.write("all.yaml", `dsn: "sqlite:file.db"\n${lines}`);
  const fromFile = Object.fromEntries(CASES.map(([name, , , , value]) => [name, value]));
  const byFile = await withEnv({}, () => Config.load({ configFile }));
  assertEquals<unknown>([byFile.dsn, byFile.values], ["sqlite:file.db", fromFile]);

  const second: Record<string, [string, unknown]> = {
    schema: ["env", "env"],
    useWal: ["true", true],
    connectTimeoutMs: ["2", 2_000],
    leaseMs: ["2", 2_000],
    heartbeatIntervalMs: ["2", 2_000],
  };
  for (const [name, variable] of CASES) {
    const [text, value] = second[name] ?? ["2", 2];
    const variables = { PGQRS_DSN: "sqlite:env.db", PGQRS_CONFIG_FILE: configFile, [variable]: text };
    const byEnv = await withEnv(variables, () => Config.load());
    assertEquals<unknown>([byEnv.dsn, byEnv.values], ["sqlite:env.db", { ...fromFile, [name]: value }]);
    const argument = name === "schema" ? "argument" : name === "useWal" ? false : 3;
    const overrides: LoadConfigOptions = { dsn: "sqlite:argument.db", [name]: argument };
    const byArgument = await withEnv(variables, () => Config.load(overrides));
    assertEquals<unknown>([byArgument.dsn, byArgument.values], [
      "sqlite:argument.db",
      { ...fromFile, [name]: argument },
    ]);
  }
});

test("Config.load() does not mind a bad value that another source overrides", async () => {
  const variables = { PGQRS_DSN: "nonsense", PGQRS_MAX_CONNECTIONS: "many" };
  const config = await withEnv(variables, () => Config.load({ dsn: ":memory:", maxConnections: 2 }));
  assertEquals(config.maxConnections, 2);
  const error = await caught(() => withEnv(variables, () => Config.load({ dsn: ":memory:" })));
  assertMatch(error.message, /^Cannot use PGQRS_MAX_CONNECTIONS: /);
});

test("Config.load() wants a file that was named to exist", async () => {
  const variables = { PGQRS_DSN: ":memory:", PGQRS_CONFIG_FILE: "/nowhere/b.yaml" };
  const byEnv = await caught(() => withEnv(variables, () => Config.load()));
  assertEquals(byEnv.message, "Cannot read /nowhere/b.yaml (PGQRS_CONFIG_FILE): no such file");
  const byArgument = await caught(() => withEnv(variables, () => Config.load({ configFile: "/nowhere/a.yaml" })));
  assertEquals(byArgument.message, "Cannot read /nowhere/a.yaml (argument configFile): no such file");
  for (const overrides of [{ configFile: "" }, { configFile: 5 }]) {
    const error = await caught(() => withEnv({}, () => Reflect.apply(Config.load, Config, [overrides])));
    assertEquals(error.message, "Cannot use argument configFile: it must be a path");
  }
  await assertRejects(() => Reflect.apply(Config.load, Config, [{ confgFile: "a" }]), ConfigError, '"configFile"?');
});

test("Config.load() finds ./pgqrs.yaml before ./pgqrs.yml, and a named file before both", async () => {
  await using folder = await makeFolder();
  const { error } = await loadIn(folder.path, {});
  assertEquals(error, 'ConfigError: Cannot find a DSN: pass it, set PGQRS_DSN, or write "dsn" into pgqrs.yaml');
  await folder.write("pgqrs.yml", "dsn: sqlite:yml.db\n");
  assertEquals((await loadIn(folder.path, {})).dsn, "sqlite:yml.db");
  await folder.write("pgqrs.yaml", "dsn: sqlite:yaml.db\nmax_read_ct: 3\n");
  assertEquals(await loadIn(folder.path, { PGQRS_MAX_READ_CT: "4", PGQRS_SCHEMA: "s" }), {
    dsn: "sqlite:yaml.db",
    ...DEFAULTS,
    maxAttempts: 4,
    schema: "s",
  });
  await folder.write("named.yaml", "dsn: sqlite:named.db\n");
  assertEquals((await loadIn(folder.path, { PGQRS_CONFIG_FILE: "named.yaml" })).maxAttempts, 5);
  await folder.write("pgqrs.yaml", "max_conections: 3\n");
  assertMatch(
    String((await loadIn(folder.path, { PGQRS_DSN: ":memory:" })).error),
    /pgqrs\.yaml: key "max_conections"/,
  );
});

test("Config on Deno says which permission is missing", async () => {
  if (!IS_DENO) return;
  await using folder = await makeFolder();
  await folder.write("pgqrs.yaml", "dsn: sqlite:yaml.db\n");
  const { error } = await loadIn(folder.path, { PGQRS_DSN: ":memory:" }, ["--deny-env", "--deny-read"]);
  assertMatch(
    String(error),
    /Cannot find a DSN: .*; the environment and pgqrs\.yaml and pgqrs\.yml could not be read for lack of permission$/,
  );
  const { dsn } = await loadIn(folder.path, { PGQRS_DSN: ":memory:" }, ["--deny-read"]);
  assertEquals(dsn, ":memory:");
  const named = await loadIn(folder.path, { PGQRS_CONFIG_FILE: "pgqrs.yaml" }, ["--deny-read"]);
  assertMatch(String(named.error), /Cannot read pgqrs\.yaml \(PGQRS_CONFIG_FILE\): no permission; .*--allow-read$/);
});

test("Config.fromEnv() throws a ConfigError when it may not read", async () => {
  const deno: { env: { get(name: string): string | undefined } } | undefined = Reflect.get(globalThis, "Deno");
  if (deno === undefined) return;
  const { get } = deno.env;
  deno.env.get = () => {
    throw Object.assign(new Error("Requires env access"), { name: "NotCapable" });
  };
  try {
    assertThrows(() => Config.fromEnv(), ConfigError, "Cannot read PGQRS_DSN: no permission; on Deno give --allow-env");
    assertEquals((await Config.load({ dsn: ":memory:" })).dsn, ":memory:");
  } finally {
    deno.env.get = get;
  }
});

test("Config shows no password, however it is printed or copied", () => {
  const config = Config.fromDsn(`${SECRET_DSN}?sslpassword=${PASSWORD}`);
  const deno: { inspect(value: unknown): string } | undefined = Reflect.get(globalThis, "Deno");
  const shown = [
    JSON.stringify(config),
    JSON.stringify({ ...config }),
    JSON.stringify(structuredClone({ ...config })),
    JSON.stringify(Object.entries(Object.getOwnPropertyDescriptors(config))),
    inspect(config),
    inspect({ config }, { showHidden: true, depth: 9, getters: false }),
    deno?.inspect(config) ?? "",
    String(config),
  ];
  for (const text of shown) assert(!text.includes(PASSWORD), text);
  assertEquals(JSON.parse(JSON.stringify(config)), {
    dsn: "postgresql://me:***@localhost/db?sslpassword=***",
    ...DEFAULTS,
  });
  const printed = deno === undefined ? inspect(config) : deno.inspect(config) + inspect(config);
  assertEquals(printed.match(/Config \{"dsn":"postgresql:\/\/me:\*\*\*@/g)?.length, deno === undefined ? 1 : 2);
});

test("redactDsn() keeps what helps and hides what is confidential", () => {
  const cases: [string, string][] = [
    [":memory:", ":memory:"],
    ["sqlite::memory:", "sqlite::memory:"],
    ["sqlite:/home/a@b/x.db", "sqlite:/home/a@b/x.db"],
    ["file:///data/x.db?mode=ro&key=abc", "file:///data/x.db?mode=ro&key=***"],
    ["sqlite://me:pw@x/y", "sqlite://***@x/y"],
    ["sqlite:me:pw@x", "sqlite:***"],
    ["sqlite:Data Source=x;Password=y", "sqlite:***"],
    ["postgres://localhost/db", "postgres://localhost/db"],
    ["postgres://me@localhost:5432/db", "postgres://me@localhost:5432/db"],
    ["postgres://me:pw@localhost/db?sslmode=require", "postgres://me:***@localhost/db?sslmode=require"],
    ["postgres://me:@localhost", "postgres://me:***@localhost"],
    ["postgres://me:p@w@h1:1,[::1]:2/db", "postgres://me:***@h1:1,[::1]:2/db"],
    [
      "postgres://h/db?password=pw&options=-cx%3Dpw&sslmode=a:b",
      "postgres://h/db?password=***&options=***&sslmode=***",
    ],
    ["postgres://h/db?token#frag", "postgres://h/db?***#***"],
    ["postgres://me:p/w@h/db", "postgres:***"],
    ["postgres://me:1?w@h/db", "postgres:***"],
    ["postgres://me:1#w@h/db", "postgres:***"],
    ["postgres://me:pw", "postgres:***"],
    ["postgres://me%3Apw@h/db", "postgres://***@h/db"],
    ["postgres:me:pw@h", "postgres:***"],
    ["postgres:pw", "postgres:***"],
    ["libsql://token@x.turso.io", "libsql://***@x.turso.io"],
    ["https://x.turso.io?authToken=eyJh&tls=1", "https://x.turso.io?authToken=***&tls=1"],
    ["mysql://me:pw@h", "mysql:***"],
    ["host=h password=pw", "***"],
    ["pw", "***"],
    ["", "***"],
  ];
  for (const [dsn, expected] of cases) assertEquals(redactDsn(dsn), expected);
  for (const value of [undefined, null, 5, {}, Symbol("s")]) {
    assertEquals(Reflect.apply(redactDsn, null, [value]), "***");
  }
});

test("redactDsn() never leaks a password and never throws", () => {
  const scheme = fc.constantFrom("postgres", "postgresql", "libsql", "turso", "http", "https", "sqlite", "file", "x");
  const host = fc.constantFrom("localhost", "h:5432", "h1:1,h2", "[::1]:5432", "");
  const tail = fc.constantFrom("", "/", "/db", "/db?sslmode=require", "?a=b&mode=c", "/db#x");
  const user = fc.oneof(fc.constantFrom("", "me", "a%20b"), fc.string({ maxLength: 5 }));
  const noise = fc.oneof(fc.constantFrom("@", "/", "?", "#", ":", "&", "=", "%", " ", "\\", "[", "\n"), fc.string());
  const password = fc.tuple(noise, noise, noise).map(([a, b, c]) => `${a}s3cr3t${b}s3cr3t${c}`);
  fc.assert(
    fc.property(scheme, user, password, host, tail, (scheme, user, password, host, tail) => {
      for (const written of [password, encodeURIComponent(password.toWellFormed())]) {
        const dsn = `${scheme}://${user}:${written}@${host}${tail}`;
        assert(!redactDsn(dsn).includes("s3cr3t"), `${dsn} becomes ${redactDsn(dsn)}`);
      }
      const parameter = `${scheme}://h/db?mode=a&authToken=${encodeURIComponent(password.toWellFormed())}`;
      assert(!redactDsn(parameter).includes("s3cr3t"), redactDsn(parameter));
    }),
    { numRuns: 2_000 },
  );
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => assertEquals(typeof redactDsn(text), "string")));
});

test("Config.fromEnv() throws nothing but ConfigError, whatever the environment", async () => {
  const text = fc.oneof(fc.constantFrom("1", "0.5", "true", ":memory:", "a", SECRET_DSN), fc.string());
  const variables = fc.dictionary(fc.constantFrom(...VARIABLES), text, { maxKeys: 3, noNullPrototype: true });
  let made = 0;
  await fc.assert(
    fc.asyncProperty(variables, async (variables) => {
      const storable = Object.entries(variables).filter(([, value]) => !value.includes("\0"));
      await withEnv({ PGQRS_DSN: ":memory:", ...Object.fromEntries(storable) }, () => {
        try {
          assertEquals(Object.keys(Config.fromEnv().values), Object.keys(DEFAULTS));
          made++;
        } catch (error) {
          assertInstanceOf(error, ConfigError);
          assert(!error.message.includes(PASSWORD), error.message);
        }
      });
    }),
    { numRuns: 500 },
  );
  assert(made > 20, "The values are too wild");
});

test("Config.fromFile() throws nothing but ConfigError, whatever the file", async () => {
  await using folder = await makeFolder();
  const keys = ["dsn", "sqlite", "heartbeat_interval", ...CASES.map(([, , key]) => key)];
  const value = fc.oneof(fc.jsonValue(), fc.constantFrom<unknown>(1, 0.5, true, ":memory:", SECRET_DSN, null));
  const key = fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...keys) }, { weight: 1, arbitrary: fc.string() });
  const mapping = fc.dictionary(key, value, { maxKeys: 3 });
  const good = mapping.map((values) => ({ ...values, dsn: ":memory:" }));
  const file = fc.oneof(
    fc.oneof(mapping, good).map((values) => JSON.stringify(values)),
    mapping.map((values) => Object.entries(values).map(([key, item]) => `${key}: ${String(item)}\n`).join("")),
    fc.string({
      unit: fc.constantFrom("a", ":", " ", "\n", "-", "[", "{", "&a", "*a", "|", "!!", "'", '"', "#", "\t"),
    }),
    fc.string({ unit: "binary" }),
  );
  let made = 0;
  await fc.assert(
    fc.asyncProperty(file, async (text) => {
      const path = await folder.write("random.yaml", text);
      assertEquals(typeof await readFile(path, "utf8"), "string");
      try {
        assertEquals(Object.keys((await Config.fromFile(path)).values), Object.keys(DEFAULTS));
        made++;
      } catch (error) {
        assertInstanceOf(error, ConfigError, inspect(error));
        assert(!inspect(error).includes(PASSWORD), error.message);
      }
    }),
    { numRuns: 500 },
  );
  assert(made > 5, "The files are too wild");
});
