/**
 * What the pages of the original pgqrs have their readers type, line by line and in their order, with what they promise.
 *
 * The lines stand here as they stand there, but for ids: 12345 stands there for some message. The pages 0.6 and 0.11 have
 * code of libraries only; of the page 0.15.3 the file `pgqrs.yaml` and the schema are left, which other pages have as well.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { connect } from "@pgqrs/pgqrs";
import { parse } from "../src/cli/parse.ts";
import { type Answer, run } from "./support/cli.ts";
import { bareClient, freshPostgres, freshSqliteFile, type TestDatabase } from "./support/databases.ts";
import { startProcess } from "./support/processes.ts";

const CLI = new URL("../cli.ts", import.meta.url);
const BACKENDS: readonly (readonly [name: string, open: () => Promise<TestDatabase>])[] = [
  ["Postgres", () => freshPostgres()],
  ["SQLite", () => Promise.resolve(freshSqliteFile())],
];
/** Variable, key in the file, name here; a value of each, and what it is here. */
const SETTINGS = [
  ["PGQRS_MAX_CONNECTIONS", "max_connections", "maxConnections", 32, 32],
  ["PGQRS_CONNECTION_TIMEOUT", "connection_timeout_seconds", "connectTimeoutMs", 60, 60_000],
  ["PGQRS_DEFAULT_LOCK_TIME", "default_lock_time_seconds", "leaseMs", 10, 10_000],
  ["PGQRS_DEFAULT_BATCH_SIZE", "default_max_batch_size", "maxBatchSize", 200, 200],
  ["PGQRS_SCHEMA", "schema", "schema", "pgqrs", "pgqrs"],
  ["PGQRS_MAX_READ_CT", "max_read_ct", "maxAttempts", 7, 7],
  ["PGQRS_HEARTBEAT_INTERVAL", "heartbeat_interval", "heartbeatIntervalMs", 3, 3_000],
  ["PGQRS_POLL_INTERVAL_MS", "poll_interval_ms", "pollIntervalMs", 50, 50],
] as const;
const VARIABLES = [...SETTINGS.map(([name]) => name), "PGQRS_CONFIG_FILE", "PGQRS_DSN", "PGQRS_SQLITE_USE_WAL"];
const NO_MESSAGE = 12345;

type Row = Readonly<Record<string, unknown>>;

/** Somebody who types lines, and says yes when asked. */
interface Typist {
  readonly dsn: string;
  /** Types a line that may end in any way. */
  type(line: string): Promise<Answer>;
  /** Types a line that has to succeed. */
  done(line: string): Promise<Answer>;
  /** The same, as rows. */
  rows(line: string): Promise<Row[]>;
}

/** The words of a line as a shell parts them. */
function wordsOf(line: string): string[] {
  const [program, ...words] = [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)]
    .map(([, single, double, bare]) => single ?? double ?? bare ?? "");
  assertEquals(program, "pgqrs");
  return words;
}

function typistAt(dsn: string): Typist {
  const type = (line: string): Promise<Answer> => run(["--dsn", dsn, ...wordsOf(line)], { answer: "y" });
  const done = async (line: string): Promise<Answer> => {
    const answer = await type(line);
    assertEquals(answer.code, 0, `${line}\n${answer.err}`);
    return answer;
  };
  const rows = async (line: string): Promise<Row[]> => [JSON.parse((await done(`${line} --format json`)).out)].flat();
  return { dsn, type, done, rows };
}

/** Tests the lines of a page on a new database of each backend. */
function onEach(name: string, work: (typist: Typist) => Promise<void>): void {
  for (const [backend, open] of BACKENDS) {
    test(`${name}, on ${backend}`, async () => {
      const { dsn, close } = await open();
      try {
        await work(typistAt(dsn));
      } finally {
        await close();
      }
    });
  }
}

/** Runs work with a folder of its own. */
async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-seeds-"));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Types a line in a folder and an environment, where only a process of its own can be. */
async function typeIn(cwd: string, line: string, env: Readonly<Record<string, string>> = {}): Promise<Answer> {
  const none = Object.fromEntries(VARIABLES.map((name) => [name, undefined]));
  await using child = startProcess(CLI, { args: wordsOf(line), cwd, env: { ...none, ...env } });
  const { code } = await child.exited;
  return { code: code ?? -1, out: child.stdout, err: child.stderr };
}

async function rowsIn(cwd: string, line: string, env?: Readonly<Record<string, string>>): Promise<Row[]> {
  const { code, out, err } = await typeIn(cwd, `${line} --format json`, env);
  assertEquals(code, 0, `${line}\n${err}`);
  return [JSON.parse(out)].flat();
}

function instant(value: unknown): number {
  assertMatch(String(value), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  return Date.parse(String(value));
}

/** "Test queue commands from the CLI", the same on two pages but for what is sent first. */
async function testQueueCommands({ type, done, rows }: Typist, payload: string): Promise<void> {
  await done("pgqrs queue create test_queue");
  const [hello] = await rows(`pgqrs message send test_queue '${payload}'`);
  assertEquals([hello?.state, hello?.payload], ["ready", JSON.parse(payload)]);
  const [delayed] = await rows(`pgqrs message send test_queue '{"task": "delayed_task"}' --delay 30`);
  assertEquals(delayed?.state, "delayed");
  assertEquals(instant(delayed?.visibleAt) - instant(delayed?.enqueuedAt), 30_000);

  const [taken] = await rows("pgqrs message dequeue test_queue");
  assertEquals([taken?.id, taken?.payload], [hello?.id, hello?.payload]);
  // Consumed, and the delayed one is not available yet.
  assertEquals(await rows("pgqrs message count test_queue"), [{ queue: "test_queue", count: 1 }]);
  const nothing = await done("pgqrs message dequeue test_queue");
  assertEquals(nothing.out, "");
  assertStringIncludes(nothing.err, "There is no message\n");

  const unknown = await type(`pgqrs message delete test_queue ${NO_MESSAGE}`);
  assertEquals([unknown.code, unknown.out], [3, ""]);
  assertStringIncludes(unknown.err, `Message ${NO_MESSAGE} is not in queue "test_queue"`);
  await done(`pgqrs message delete test_queue ${delayed?.id}`);
  assertEquals(await rows("pgqrs message count test_queue"), [{ queue: "test_queue", count: 0 }]);
  assertEquals((await type(`pgqrs message show test_queue ${delayed?.id}`)).code, 3);
}

describe("readme-0.2", () => {
  onEach("installs, verifies, sends, dequeues and deletes", async (typist) => {
    // On SQLite there is not even a file.
    assertEquals((await typist.type("pgqrs verify")).code, typist.dsn.startsWith("sqlite:") ? 4 : 1);
    await typist.done("pgqrs install");
    assertStringIncludes((await typist.done("pgqrs verify")).err, "The schema is as it was installed\n");
    await testQueueCommands(typist, '{"message": "Hello, World!", "priority": 1}');
    // "Method 1" of the page gives a database and no command.
    assertStringIncludes((await run(["--dsn", typist.dsn])).out, "pgqrs install");
  });

  onEach("has the commands of its list", async ({ type, done, rows }) => {
    await done("pgqrs install");
    await done("pgqrs queue create mails");
    await done("pgqrs queue create other");
    assertEquals((await rows("pgqrs queue list")).map(({ name }) => name), ["mails", "other"]);
    const begin = performance.now();
    const [first] = await rows(`pgqrs message send mails '{"n": 1}'`);
    for (const line of [`'{"n": 2}'`, `'{"n": 3}' --message-type late`, `'{"n": 4}' --delay 600`]) {
      await done(`pgqrs message send mails ${line}`);
    }
    assertEquals(await rows("pgqrs message count mails"), [{ queue: "mails", count: 4 }]);

    const [read, ...more] = await rows("pgqrs message read mails");
    assertEquals([read?.id, read?.state, more.length], [first?.id, "leased", 0]);
    // 5 seconds from when it was read, and it was sent since `begin`.
    const heldMs = instant(read?.leaseUntil) - instant(first?.enqueuedAt);
    assert(heldMs >= 5_000 && heldMs <= 5_002 + performance.now() - begin, `${heldMs} ms`);
    const [late] = await rows("pgqrs message read mails --count 5 --lock-time 900 --message-type late");
    assertEquals(late?.payload, { n: 3 });
    assert(instant(late?.leaseUntil) - instant(late?.enqueuedAt) >= 900_000);
    const [metrics] = await rows("pgqrs queue metrics mails");
    assertEquals([metrics?.ready, metrics?.delayed, metrics?.leased], [1, 1, 2]);
    assertEquals((await rows("pgqrs queue metrics")).map(({ queue }) => queue), ["mails", "other"]);

    const [shown] = await rows(`pgqrs message show mails ${first?.id}`);
    assertEquals([shown?.id, shown?.payload], [first?.id, { n: 1 }]);
    assertEquals((await type(`pgqrs message show mails ${first?.id} --archive`)).code, 3);
    for (const id of [first?.id, late?.id]) await done(`pgqrs archive mails ${id}`);
    const [ended] = await rows(`pgqrs message show mails ${first?.id} --archive`);
    assertEquals([ended?.id, ended?.outcome], [first?.id, "succeeded"]);

    assertStringIncludes(
      (await done("pgqrs queue purge mails")).err,
      "This will delete 2 messages of queue mails. Go on?",
    );
    assertEquals(await rows("pgqrs message count mails"), [{ queue: "mails", count: 0 }]);
    await done("pgqrs queue delete mails");
    assertEquals((await rows("pgqrs queue list")).map(({ name }) => name), ["other"]);
    assertEquals((await type("pgqrs queue metrics mails")).code, 3);
    assertStringIncludes((await done("pgqrs uninstall")).err, "This will remove 1 queue with 0 live messages");
    assertEquals((await type("pgqrs verify")).code, 1);
  });

  onEach("archives, lists page by page, shows, counts and purges", async ({ dsn, type, done, rows }) => {
    await done("pgqrs install");
    await done("pgqrs queue create email_queue");
    await done(`pgqrs message send email_queue '{"to": "user@example.com", "subject": "Welcome!"}'`);
    const [read] = await rows("pgqrs message read email_queue --lock-time 600");
    await done(`pgqrs archive email_queue ${read?.id}`);
    assertEquals((await type(`pgqrs archive email_queue ${NO_MESSAGE}`)).code, 3);
    {
      await using store = await connect(dsn);
      await store.producer("email_queue").enqueueMany(Array.from({ length: 124 }, (_, n) => ({ n })));
      const consumer = store.consumer("email_queue", { name: "worker-01" });
      const messages = await consumer.dequeue({ limit: 124 });
      assertEquals(await consumer.archiveMany(messages), messages.map(() => true));
    }
    const all = await rows("pgqrs archive list email_queue --limit 200");
    const ids = all.map(({ id }) => id);
    assertEquals([ids.length, ids.at(-1)], [125, read?.id]);
    const recent = await rows("pgqrs archive list email_queue --limit 10");
    assertEquals(recent.map(({ id, archivedBy }) => [id, archivedBy]), ids.slice(0, 10).map((id) => [id, "worker-01"]));
    const page = await rows("pgqrs archive list email_queue --limit 20 --offset 100");
    assertEquals(page.map(({ id }) => id), ids.slice(100, 120));

    // `archived_at`, `archived_by` and `processing_duration` of the page.
    const [shown] = await rows(`pgqrs message show email_queue ${read?.id} --archive`);
    assertEquals([shown?.payload, shown?.archivedBy], [read?.payload, "pgqrs-cli"]);
    const sinceMs = instant(shown?.archivedAt) - instant(shown?.enqueuedAt);
    assert(typeof shown?.processingMs === "number" && shown.processingMs >= 0, `${shown?.processingMs}`);
    assert(shown.processingMs <= sinceMs + 1, `${shown.processingMs} of ${sinceMs} ms`);

    assertEquals(await rows("pgqrs message count email_queue --archive"), [{ queue: "email_queue", count: 125 }]);
    const purged = await done("pgqrs archive purge email_queue");
    assertStringIncludes(purged.err, "This will delete 125 ended messages of queue email_queue. Go on?");
    assertEquals(await rows("pgqrs message count email_queue --archive"), [{ queue: "email_queue", count: 0 }]);
    assertEquals(await rows("pgqrs archive list email_queue --limit 10"), []);
  });

  onEach("has its options of output and logging", async ({ dsn, done }) => {
    await done("pgqrs install");
    await done("pgqrs queue create mails");
    await inFolder(async (folder) => {
      const [config, data, log] = ["c.yaml", "data.json", "pgqrs.log"].map((name) => join(folder, name));
      writeFileSync(config as string, `dsn: ${JSON.stringify(dsn)}\n`);
      for (const from of [["-d", dsn], ["--dsn", dsn], ["-c", `${config}`], ["--config", `${config}`]]) {
        const { code, out } = await run([...from, ...wordsOf("pgqrs queue list --format json")]);
        assertEquals([code, JSON.parse(out)[0].name], [0, "mails"]);
      }
      assertMatch((await done("pgqrs queue list --format table")).out, /^name +pausedAt .*\nmails +-/);
      assertMatch((await done("pgqrs queue list --out stdout")).out, /^name /);
      assertEquals((await done(`pgqrs queue list --format json --out ${data}`)).out, "");
      assertEquals(JSON.parse(readFileSync(data as string, "utf8"))[0].name, "mails");
      assertStringIncludes((await done("pgqrs verify --log-dest stderr")).err, "The schema is as it was installed\n");
      assertEquals((await done(`pgqrs verify --log-dest ${log}`)).err, "");
      assertMatch(readFileSync(log as string, "utf8"), /^\S+Z INFO The schema is as it was installed$/m);
    });
    const levels = { error: [], warn: [], info: ["The schema"], debug: ["The schema", "debug: "], trace: ["trace: "] };
    for (const [level, told] of Object.entries(levels)) {
      const { err } = await done(`pgqrs verify --log-level ${level}`);
      for (const text of told) assertStringIncludes(err, text);
      assertEquals(err.includes("The schema"), level !== "error" && level !== "warn", level);
    }
  });

  test("takes the database from the argument, the environment or the file, in this order", async () => {
    const postgres = await freshPostgres();
    try {
      await inFolder(async (folder) => {
        mkdirSync(join(folder, "path"));
        const dsns = ["file", "yml", "custom", "named", "env"].map((name) => [name, `sqlite:${join(folder, name)}.db`]);
        for (const [name, dsn] of [...dsns, ["argument", postgres.dsn]]) {
          const { done } = typistAt(dsn as string);
          await done("pgqrs install");
          await done(`pgqrs queue create by_${name}`);
        }
        const of = Object.fromEntries(dsns) as Readonly<Record<string, string>>;
        const found = async (line = "pgqrs queue list", env = {}) => (await rowsIn(folder, line, env))[0]?.name;
        const write = (name: string, dsn = "") => writeFileSync(join(folder, name), `dsn: "${dsn}"\n`);
        const none = await typeIn(folder, "pgqrs queue list");
        assertEquals([none.code, none.out], [2, ""]);
        assertStringIncludes(none.err, "no database is given");

        write("pgqrs.yml", of.yml);
        assertEquals(await found(), "by_yml");
        write("pgqrs.yaml", of.file);
        assertEquals(await found(), "by_file");
        write("custom-config.yaml", of.custom);
        assertEquals(await found(`pgqrs --config "custom-config.yaml" queue list`), "by_custom");
        write("path/config.yaml", of.named);
        const file = { PGQRS_CONFIG_FILE: "path/config.yaml" };
        assertEquals(await found("pgqrs queue list", file), "by_named");
        assertEquals(await found(`pgqrs --config "custom-config.yaml" queue list`, file), "by_custom");
        const env = { ...file, PGQRS_DSN: of.env };
        assertEquals(await found("pgqrs queue list", env), "by_env");
        assertEquals(await found(`pgqrs --dsn "${postgres.dsn}" queue list`, env), "by_argument");
      });
    } finally {
      await postgres.close();
    }
  });
});

describe("the settings of all pages", () => {
  const presets = {
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
  const shown = async (folder: string, env?: Readonly<Record<string, string>>) =>
    Object.fromEntries((await rowsIn(folder, "pgqrs config", env)).map(({ setting, value }) => [setting, value]));

  test("have the names and defaults of the pages, as variables and in the file", async () => {
    await inFolder(async (folder) => {
      const dsn = `sqlite:${join(folder, "jobs.db")}`;
      const variables = Object.fromEntries(SETTINGS.map(([name, , , value]) => [name, String(value)]));
      const expected = {
        ...Object.fromEntries(SETTINGS.map(([, , name, , value]) => [name, value])),
        timeoutMs: 30_000,
      };
      const env = { ...variables, PGQRS_DSN: dsn, PGQRS_SQLITE_USE_WAL: "false" };
      // Somebody waits for a command, so that it tries to connect for a shorter time unless a setting says otherwise.
      const own = { connectTimeoutMs: 10_000, timeoutMs: 30_000 };
      assertEquals(await shown(folder, { PGQRS_DSN: dsn }), { dsn, ...presets, ...own });
      assertEquals(await shown(folder, env), { dsn, ...expected, useWal: false });
      const lines = SETTINGS.map(([, key, , value]) => `${key}: ${value}`);
      writeFileSync(join(folder, "pgqrs.yaml"), [`dsn: "${dsn}"`, ...lines, "sqlite:", "  use_wal: false"].join("\n"));
      assertEquals(await shown(folder), { dsn, ...expected, useWal: false });
    });
  });

  test("do what they say", async () => {
    await inFolder(async (folder) => {
      const env = { PGQRS_DSN: `sqlite:${join(folder, "jobs.db")}`, PGQRS_DEFAULT_LOCK_TIME: "700" };
      await typeIn(folder, "pgqrs install", env);
      const [made] = await rowsIn(folder, "pgqrs queue create mails", { ...env, PGQRS_MAX_READ_CT: "7" });
      assertEquals(made?.maxAttempts, 7);
      await typeIn(folder, "pgqrs message send mails 1", env);
      const [read] = await rowsIn(folder, "pgqrs message read mails", env);
      assert(instant(read?.leaseUntil) - instant(read?.enqueuedAt) >= 700_000);
      const nobody = { PGQRS_DSN: "postgresql://user:pass@127.0.0.1:1/db", PGQRS_CONNECTION_TIMEOUT: "0.05" };
      const refused = await typeIn(folder, "pgqrs verify", nobody);
      assertEquals([refused.code, refused.out], [4, ""]);
      assert(!refused.err.includes("pass"), refused.err);
    });
  });
});

describe("readme-0.14", () => {
  const PAYLOAD = '{"message": "Hello, World!", "timestamp": "2023-01-01T00:00:00Z"}';

  test("installs in public and in a schema of its own, on Postgres", async () => {
    const { dsn, close } = await freshPostgres();
    const { type, done, rows } = typistAt(dsn);
    try {
      const sql = bareClient(dsn);
      await sql.unsafe("CREATE SCHEMA IF NOT EXISTS pgqrs;");
      const schemas = async () =>
        (await sql.unsafe("select schemaname from pg_tables where tablename = 'pgqrs_messages' order by 1"))
          .map(({ schemaname }) => schemaname);
      try {
        await done("pgqrs install");
        assertEquals(await schemas(), ["public"]);
        assertEquals((await type("pgqrs --schema pgqrs verify")).code, 1);
        await done("pgqrs --schema pgqrs install");
        assertEquals(await schemas(), ["pgqrs", "public"]);
      } finally {
        await sql.end({ timeout: 5 });
      }
      await done("pgqrs verify");
      await done("pgqrs --schema pgqrs verify");
      await done("pgqrs -s pgqrs queue create there");
      assertEquals([await rows("pgqrs queue list"), (await rows("pgqrs -s pgqrs queue list")).length], [[], 1]);
      await testQueueCommands(typistAt(dsn), PAYLOAD);
    } finally {
      await close();
    }
  });

  test("installs, sends and dequeues, on SQLite", async () => {
    const { dsn, close } = freshSqliteFile();
    try {
      await typistAt(dsn).done("pgqrs install");
      await typistAt(dsn).done("pgqrs verify");
      await testQueueCommands(typistAt(dsn), PAYLOAD);
    } finally {
      await close();
    }
  });
});

test("the words of later versions that docs/from_pgqrs.md says to work do so", () => {
  const pairs = {
    "admin install": "install",
    "admin verify": "verify",
    "admin stats": "stats",
    "archive delete": "archive purge",
    "message enqueue": "message send",
    "message get": "message show",
    "queue messages": "message list",
    "worker release-messages": "worker release",
    "worker suspend": "worker pause",
  };
  const page = readFileSync(new URL("../docs/from_pgqrs.md", import.meta.url), "utf8");
  for (const [theirs, ours] of Object.entries(pairs)) {
    assertMatch(page, new RegExp(`^\\|.*\`${theirs}\\b.*\\|.*\`${ours}\\b.*\\| the old words work`, "m"));
    assertEquals(parse([...theirs.split(" "), "--help"]), parse([...ours.split(" "), "--help"]));
    assertEquals(parse([...ours.split(" "), "--help"]).kind, "help");
  }
});
