/** No error, whatever its cause, and no line of the log carries a password or a payload. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { inspect } from "node:util";
import postgres from "postgres";
import { connect, type ConnectOptions, queue } from "../mod.ts";
import { freshLibsql, freshPostgres, freshSqliteFile, memory } from "./support/databases.ts";
import { PostgresServer } from "./support/postgres_server.ts";
import { startProxy } from "./support/tcp_proxy.ts";

const PASSWORD = "canary-password-4711";
const SECRET = "canary-payload-0815";

const lines: string[] = [];
const log = (line: string): void => void lines.push(line);
const options: ConnectOptions = { logger: { debug: log, info: log, warn: log, error: log } };

/** Everything that a logger, a debugger or a careless `catch` could see of an error. */
function sightsOf(error: unknown): string {
  const sights: string[] = [];
  for (let seen = error; seen instanceof Error; seen = seen.cause) {
    sights.push(seen.message, seen.name, String(seen.stack), JSON.stringify(seen), String(seen));
    for (const name of Reflect.ownKeys(seen)) sights.push(String((seen as never)[name]));
  }
  sights.push(inspect(error, { showHidden: true, depth: 10 }), String(error));
  return sights.join("\n");
}

function assertSilent(error: unknown): void {
  const sights = sightsOf(error);
  for (const canary of [PASSWORD, encodeURIComponent(PASSWORD), SECRET]) {
    assert(!sights.includes(canary), `the error tells ${canary}: ${sights}`);
  }
}

/** The error of a call that has to fail. */
async function failureOf(call: () => unknown): Promise<unknown> {
  const error = await assertRejects(async () => await call());
  assertSilent(error);
  return error;
}

test("the bare client tells the whole DSN and the whole row", async () => {
  const dsn = `postgres://user:${PASSWORD}@host:port/db`;
  const invalid = await assertRejects(async () => await postgres(dsn)`select 1`);
  assert(sightsOf(invalid).includes(PASSWORD), "the bare client is silent now");
  const database = await freshPostgres();
  const sql = postgres(database.dsn, { max: 1 });
  await sql`create table bare (id integer primary key, payload text check (id > 0))`;
  const refused = await assertRejects(async () => await sql`insert into bare values (0, ${SECRET})`);
  assert(sightsOf(refused).includes(SECRET), "the bare client is silent now");
  await sql.end({ timeout: 5 });
  await database.close();
});

test("connect() keeps the password of a DSN that it cannot use to itself", async () => {
  for (
    const dsn of [
      `postgres://user:${PASSWORD}@host:port/db`,
      `postgres://user:${PASSWORD}@host/db?sslmode=x`,
      `postgres://user:${PASSWORD}@host/db?port=x`,
      `postgres://user:?${PASSWORD}@host/db`,
      `postgres://user:12?sslmode=${PASSWORD}@host/db`,
      `postgres://user:${PASSWORD}%zz@host/db`,
      `postgres://user:${PASSWORD}@ho st/db`,
      `libsql://host?authToken=${PASSWORD}&unknown=1`,
      `http://user:${PASSWORD}@host:port`,
      `https://[?authToken=${PASSWORD}`,
      `mysql://user:${PASSWORD}@host/db`,
      `user:${PASSWORD}@host/db`,
    ]
  ) {
    const error = await failureOf(async () => {
      const store = await connect(dsn, { ...options, connectTimeoutMs: 200, timeoutMs: 500 });
      await store.ping().finally(() => store.close());
    });
    assert(error instanceof Error, dsn);
  }
});

describe("errors of Postgres with a password", () => {
  let server: PostgresServer;

  before(async () => {
    server = await PostgresServer.open({ password: PASSWORD });
  });

  after(async () => await server.close());

  test("a wrong password, a wrong user and an unknown database tell nothing", async () => {
    const here = server.dsn();
    const wrong = [
      here.replace(PASSWORD, `${PASSWORD}-wrong`),
      here.replace("postgres:canary", "nobody:canary"),
      server.dsn("nothing"),
    ];
    for (const dsn of wrong) {
      await using store = await connect(dsn, { ...options, connectTimeoutMs: 2_000 });
      const error = await failureOf(() => store.ping()) as { outcome: string; sqlState: string };
      assertEquals(error.outcome, "not_applied");
      assert(/^(28P01|3D000)$/.test(error.sqlState));
    }
  });

  test("refusals, losses, time-outs and errors in transactions tell nothing", async () => {
    await using proxy = await startProxy(server.dsn());
    await using store = await connect(proxy.through(server.dsn()), options);
    await failureOf(() => store.producer("tasks").enqueue({ SECRET }));
    await store.admin.install();
    await store.admin.createQueue("tasks");
    const producer = store.producer("tasks");
    await producer.enqueue({ SECRET }, { key: SECRET.slice(0, 6) });
    await store.transaction((tx) =>
      tx.query("alter table pgqrs_messages add constraint refused check (payload::text not like '%refuse%')")
    );
    const refused = await failureOf(() => producer.enqueue({ SECRET, refuse: 1 })) as { reason: string };
    assertEquals(refused.reason, "constraint");
    await failureOf(() => store.transaction((tx) => producer.enqueue({ SECRET, refuse: 1 }, { tx })));
    await failureOf(() =>
      store.transaction((tx) => tx.query("insert into pgqrs_messages (payload) values ($1)", [{ SECRET, refuse: 1 }]))
    );
    await failureOf(() => store.transaction((tx) => tx.query("select $1::text::integer", [SECRET])));
    await failureOf(() => store.transaction((tx) => tx.query(`select '${SECRET}' '${SECRET}'`)));
    await failureOf(() =>
      store.transaction((tx) => tx.query("do $$ begin raise exception 'canary-payload-0815'; end $$"))
    );
    proxy.truncate(0);
    const lost = await failureOf(() => producer.enqueue({ SECRET })) as { outcome: string };
    assertEquals(lost.outcome, "unknown");
    proxy.freeze();
    await failureOf(() => producer.enqueue({ SECRET }, { timeoutMs: 100 }));
    proxy.refuse();
  });

  test("NOTICEs go to the logger, and neither to standard output nor with a secret", async () => {
    const written: unknown[] = [];
    const original = console.log;
    console.log = (...values: unknown[]) => void written.push(values);
    try {
      await using store = await connect(server.dsn(), options);
      lines.length = 0;
      await store.transaction((tx) => tx.query("do $$ begin raise notice 'heard'; end $$"));
      assertEquals(lines, ["NOTICE: heard"]);
      assertEquals(written, []);
    } finally {
      console.log = original;
    }
  });
});

test("payloads that are refused on any backend are not told", async () => {
  const libsql = await freshLibsql();
  const file = freshSqliteFile();
  const pg = await freshPostgres();
  try {
    for (const { dsn } of [memory, file, libsql, pg]) {
      await using store = await connect(dsn, options);
      await store.admin.install();
      await store.admin.createQueue("tasks");
      const producer = store.producer(queue<Record<string, unknown>>("tasks", { maxBytes: 1_000 }));
      await failureOf(() => producer.enqueue({ SECRET, long: SECRET.repeat(100) }));
      await failureOf(() => producer.enqueue({ a: SECRET, b: Number.NaN }));
      await failureOf(() => producer.enqueue({ a: SECRET, b: undefined, c: 1n }));
      await producer.enqueue({ SECRET }, { key: "k" });
      await failureOf(() => producer.enqueue({ SECRET, more: SECRET }, { key: "k" }));
      await failureOf(() => producer.enqueue({ SECRET, more: SECRET }, { key: { value: "k", onConflict: "reject" } }));
      await failureOf(() => store.transaction((tx) => tx.query("select nothing from nowhere", [SECRET])));
      const strict = queue<{ SECRET: string }>("tasks", { schema: refuseAll });
      await failureOf(() => store.producer(strict).enqueue({ SECRET }));
    }
  } finally {
    await Promise.all([libsql.close(), file.close(), pg.close()]);
  }
});

test("no line of the log told a canary", () => {
  for (const line of lines) assert(!line.includes(PASSWORD) && !line.includes(SECRET), line);
});

/** A schema that refuses everything and repeats the value, as validators are wont to do. */
const refuseAll = {
  "~standard": {
    version: 1 as const,
    vendor: "test",
    validate: (value: unknown) => ({ issues: [{ message: `Refused: ${JSON.stringify(value)}`, path: ["SECRET"] }] }),
  },
};
