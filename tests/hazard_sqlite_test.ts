/** What clients for SQLite files do wrong when the database is busy, and that ours does not. */
import { createClient } from "@libsql/client";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { closeSync, existsSync, openSync, readFileSync, statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { setImmediate } from "node:timers";
import { Config, ConfigError, connect, DatabaseError, type SqliteClient, type Store } from "../mod.ts";
import { freshSqliteFile, type TestDatabase } from "./support/databases.ts";

/** How long the event loop may be held at a stretch while the database is busy, and while a long list is stored. */
const BUSY_STRETCH_MS = 20;
const LIST_STRETCH_MS = 50;
/** A machine that does something else makes a measurement longer, never shorter: the best of so many counts. */
const ATTEMPTS = 40;

async function openStore({ dsn }: TestDatabase): Promise<Store> {
  const store = await connect(dsn);
  await store.admin.install();
  await store.admin.createQueue("tasks");
  return store;
}

/** The largest gap between the ticks of a 5 ms timer while `work` runs. */
async function largestGapMs(work: () => Promise<unknown>): Promise<number> {
  let last = performance.now();
  let largest = 0;
  const tick = (): void => {
    largest = Math.max(largest, performance.now() - last);
    last = performance.now();
  };
  const timer = setInterval(tick, 5);
  await work();
  tick();
  clearInterval(timer);
  return largest;
}

/** The smallest result of several attempts, or the first that is small enough. */
async function bestOf(enough: number, attempt: () => Promise<number>): Promise<number> {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < ATTEMPTS && best > enough; i++) best = Math.min(best, await attempt());
  return best;
}

/**
 * A client that measures the longest stretch in which statements run without the event loop getting its turn. What
 * other processes of a loaded machine do between two turns is not counted.
 */
function measuringClient(client: DatabaseSync): { client: SqliteClient; takeLongest: () => number } {
  let stretch = 0;
  let longest = 0;
  function measured<T>(work: () => T): T {
    if (stretch === 0) setImmediate(() => stretch = 0);
    const begin = performance.now();
    try {
      return work();
    } finally {
      stretch += performance.now() - begin;
      longest = Math.max(longest, stretch);
    }
  }
  return {
    client: {
      exec: (text) => measured(() => client.exec(text)),
      prepare: (text) => {
        const statement = client.prepare(text);
        return {
          all: (...values) => measured(() => statement.all(...values as never[])),
          setReturnArrays: (isOn) => statement.setReturnArrays(isOn),
          setReadBigInts: (isOn) => statement.setReadBigInts(isOn),
        };
      },
      close: () => client.close(),
    },
    takeLongest: () => {
      const taken = longest;
      longest = 0;
      return taken;
    },
  };
}

test("F6: after one SQLITE_BUSY the bare libSQL client reports writes of a file that nobody else sees", async () => {
  const database = freshSqliteFile();
  const options = { url: `file:${database.file}`, timeout: 30 } as never;
  const other = createClient(options);
  const client = createClient(options);
  await other.execute("pragma journal_mode = wal");
  await other.execute("create table t (n integer)");
  const holder = await other.transaction("write");
  await assertRejects(() => client.batch(["insert into t values (0)"], "write"));
  await holder.commit();
  await assertRejects(() => client.batch(["insert into t values (1)"], "write"), Error, "cannot commit");
  assertEquals((await client.execute("insert into t values (2)")).rowsAffected, 1);
  assertEquals((await other.execute("select count(*) as n from t")).rows[0]?.n, 0);
  await assertRejects(() => other.execute("insert into t values (3)"), Error, "SQLITE_BUSY");
  client.close();
  other.close();
  await database.close();
});

test("F7: the bare libSQL client holds the event loop for the whole wait, and loses its settings", async () => {
  const database = freshSqliteFile();
  const client = createClient({ url: `file:${database.file}`, timeout: 300 } as never);
  await client.execute("create table t (n integer)");
  const holder = await client.transaction("write");
  const gap = await largestGapMs(() => assertRejects(() => client.execute("insert into t values (0)")));
  assert(gap >= 250, `the loop was held for ${gap} ms only`);
  await client.execute("pragma synchronous = normal");
  const second = await client.transaction("read");
  const modes = [
    (await client.execute("pragma synchronous")).rows[0]?.synchronous,
    (await second.execute("pragma synchronous")).rows[0]?.synchronous,
  ];
  assert(modes.includes(2), "every connection has the setting now");
  second.close();
  await holder.rollback();
  client.close();
  await database.close();
});

test("a busy file fails a call by its deadline as not applied, and then everything works and is seen", async () => {
  const database = freshSqliteFile();
  const store = await openStore(database);
  const producer = store.producer("tasks");
  const other = new DatabaseSync(database.file);
  other.exec("begin immediate");
  const begin = performance.now();
  const calls: Record<string, () => Promise<unknown>> = {
    enqueue: () => producer.enqueue({}, { timeoutMs: 200 }),
    enqueueMany: () => producer.enqueueMany(Array.from({ length: 3_000 }, () => ({})), { timeoutMs: 200 }),
    dequeue: () => store.consumer("tasks").dequeue({ timeoutMs: 200 }),
    cancel: () => store.admin.messages.cancel(1, { timeoutMs: 200 }),
    transaction: () => store.transaction(() => Promise.resolve(), { timeoutMs: 200 }),
  };
  await Promise.all(
    Object.entries(calls).map(async ([name, call]) => {
      const error = await assertRejects(call, DatabaseError, undefined, name);
      assertEquals(error.outcome, "not_applied", name);
      assert(error.reason === "busy" || error.reason === "timeout", `${name}: ${error.reason}`);
    }),
  );
  assert(performance.now() - begin < 1_200, "a call settled later than its deadline and a second");
  other.exec("commit");
  const { id } = await producer.enqueue({ n: 1 });
  assertEquals(other.prepare("select count(*) as n from pgqrs_messages where id = ?").get(id)?.n, 1);
  other.exec("begin immediate; commit");
  other.close();
  await store.close();
  await database.close();
});

test("signal ends a call that waits for a busy file", async () => {
  const database = freshSqliteFile();
  const store = await openStore(database);
  const other = new DatabaseSync(database.file);
  other.exec("begin immediate");
  const controller = new AbortController();
  const first = assertRejects(() => store.producer("tasks").enqueue({}, { signal: controller.signal }), DatabaseError);
  const second = assertRejects(() => store.producer("tasks").enqueue({}, { signal: controller.signal }), DatabaseError);
  const begin = performance.now();
  setTimeout(() => controller.abort(), 50);
  assertEquals((await first).outcome, "not_applied");
  assertEquals((await second).outcome, "not_applied");
  assert(performance.now() - begin < 1_050);
  other.exec("rollback");
  other.close();
  await store.close();
  await database.close();
});

test("a busy file holds the event loop for less than 20 ms at a stretch", async () => {
  const database = freshSqliteFile();
  const setup = await openStore(database);
  await setup.close();
  const { client, takeLongest } = measuringClient(new DatabaseSync(database.file));
  const store = await connect(client);
  const other = new DatabaseSync(database.file);
  const producer = store.producer("tasks");
  await producer.enqueue({});
  takeLongest();
  const gap = await bestOf(BUSY_STRETCH_MS, () =>
    largestGapMs(async () => {
      other.exec("begin immediate");
      await assertRejects(() => producer.enqueue({}, { timeoutMs: 250 }), DatabaseError);
      other.exec("rollback");
    }));
  assert(gap < BUSY_STRETCH_MS, `a timer of 5 ms stood still for ${gap} ms`);
  const stretch = await bestOf(BUSY_STRETCH_MS, async () => {
    other.exec("begin immediate");
    takeLongest();
    await assertRejects(() => producer.enqueue({}, { timeoutMs: 100 }), DatabaseError);
    other.exec("rollback");
    return takeLongest();
  });
  assert(stretch < BUSY_STRETCH_MS, `statements ran for ${stretch} ms at a stretch`);
  other.close();
  await store.close();
  client.close();
  await database.close();
});

test("enqueueMany() of 50 000 holds the event loop for less than 50 ms at a stretch, alone and in a transaction", async () => {
  const database = freshSqliteFile();
  const store = await openStore(database);
  const payloads = Array.from({ length: 50_000 }, (_, n) => ({ n, text: "some text of a usual length" }));
  const producer = store.producer("tasks");
  const alone = await bestOf(LIST_STRETCH_MS, () => largestGapMs(() => producer.enqueueMany(payloads)));
  assert(alone < LIST_STRETCH_MS, `a timer of 5 ms stood still for ${alone} ms`);
  const inside = await bestOf(
    LIST_STRETCH_MS,
    () =>
      largestGapMs(() =>
        store.transaction((tx) => producer.enqueueMany(payloads.slice(0, 20_000), { tx }), { timeoutMs: 30_000 })
      ),
  );
  assert(inside < LIST_STRETCH_MS, `a timer of 5 ms stood still for ${inside} ms`);
  await store.close();
  await database.close();
});

test("after a large list the log is copied into the database, whether the transaction held or not", async () => {
  const database = freshSqliteFile();
  const store = await openStore(database);
  const producer = store.producer("tasks");
  const autocheckpoint = (): Promise<unknown> =>
    store.transaction(async (tx) => (await tx.query("pragma wal_autocheckpoint"))[0]?.wal_autocheckpoint);
  const payloads = Array.from({ length: 20_000 }, (_, n) => ({ n, text: "some text of a usual length" }));
  const rollback = (): Promise<unknown> =>
    store.transaction(async (tx) => {
      await producer.enqueueMany(payloads, { tx });
      throw new Error("changed my mind");
    }, { timeoutMs: 30_000 });
  await assertRejects(rollback, Error, "changed my mind");
  assertEquals(await autocheckpoint(), 1_000);
  assertEquals(await store.admin.messages.count(), 0);
  await producer.enqueueMany(payloads);
  while (await autocheckpoint() !== 1_000) await new Promise((resolve) => setTimeout(resolve, 5));
  assert(statSync(database.file).size > 1_000_000, "the database has not got what the log holds");
  await store.close();
  await database.close();
});

/** The locks that processes of this machine hold on a file and the index of its log. Linux alone tells. */
function locksOf(file: string): string[] {
  const inodes = [file, `${file}-shm`].map((path) => `:${statSync(path).ino} `);
  const lines = readFileSync("/proc/locks", "utf8").split("\n");
  return lines.filter((line) => inodes.some((inode) => line.includes(inode))).map((line) => line.replace(/^\d+: /, ""));
}

test("a second connect() to a file leaves the first its locks: without them any process may delete its log", {
  skip: !existsSync("/proc/locks"),
}, async () => {
  const database = freshSqliteFile();
  const first = await openStore(database);
  const locks = locksOf(database.file);
  assert(locks.length >= 2);
  const second = await connect(database.dsn);
  assertEquals(locksOf(database.file), locks);
  await second.close();
  assertEquals(locksOf(database.file), locks);
  // What it would do to open the file and close it again.
  closeSync(openSync(database.file, "a"));
  assert(locksOf(database.file).length < locks.length);
  await first.close();
  await database.close();
});

test("a loop of awaited calls lets timers run", async () => {
  const store = await connect("sqlite::memory:");
  await store.admin.install();
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  const until = performance.now() + 150;
  while (performance.now() < until) await store.admin.messages.get(1);
  clearInterval(timer);
  assert(ticks >= 3, `${ticks} ticks in 150 ms`);
  await store.close();
});

test("every connection has the settings of its DSN, and its files are for their owner alone", async () => {
  for (const [query, synchronous] of [["", 2], ["?synchronous=normal", 1]] as const) {
    const database = freshSqliteFile();
    const store = await openStore({ ...database, dsn: database.dsn + query });
    const pragmas = await store.transaction(async (tx) => [
      Object.values((await tx.query("pragma busy_timeout"))[0] ?? {})[0],
      (await tx.query("pragma journal_mode"))[0]?.journal_mode,
      (await tx.query("pragma synchronous"))[0]?.synchronous,
    ]);
    assertEquals(pragmas, [0, "wal", synchronous]);
    for (const suffix of ["", "-wal", "-shm"]) {
      assertEquals((statSync(database.file + suffix).mode & 0o777).toString(8), "600", suffix);
    }
    await store.close();
    await database.close();
  }
});

test("connect() refuses a file: DSN that is not percent-encoded correctly", async () => {
  await assertRejects(() => connect("file:/tmp/100%.db"), ConfigError, "the path is not percent-encoded correctly");
});

test("useWal: false keeps a rollback journal, and a commit waits for a reader without failing", async () => {
  const database = freshSqliteFile();
  const store = await connect(Config.fromDsn(database.dsn, { useWal: false }));
  await store.admin.install();
  await store.admin.createQueue("tasks");
  const mode = await store.transaction(async (tx) => (await tx.query("pragma journal_mode"))[0]?.journal_mode);
  assertEquals(mode, "delete");
  const reader = new DatabaseSync(database.file);
  const { ids, messages } = await (async () => {
    reader.exec("begin; select count(*) from pgqrs_messages");
    setTimeout(() => reader.exec("commit"), 100);
    const list = await store.producer("tasks").enqueueMany(Array.from({ length: 2_500 }, () => ({})));
    reader.exec("begin; select count(*) from pgqrs_messages");
    setTimeout(() => reader.exec("commit"), 100);
    const messages = await store.transaction((tx) => store.producer("tasks").enqueue({}, { tx }));
    return { ids: list, messages };
  })();
  assertEquals(ids.length, 2_500);
  assert(messages.id > 0);
  assertEquals(await store.admin.messages.count({ queue: "tasks" }), 2_501);
  reader.close();
  await store.close();
  await database.close();
});

test("a DatabaseSync of the caller is used as it is and stays open", async () => {
  for (const readBigInts of [false, true]) {
    const client = new DatabaseSync(":memory:", { readBigInts } as never);
    const store = await connect(client as unknown as SqliteClient);
    await store.admin.install();
    await store.admin.createQueue("tasks");
    const { id } = await store.producer("tasks").enqueue({ n: 1 });
    assertEquals(typeof id, "number");
    const consumer = store.consumer("tasks");
    const [message] = await consumer.dequeue();
    assertEquals([message?.id, message?.payload, message?.attempts], [id, { n: 1 }, 0]);
    assertEquals(await consumer.archive(id), true);
    await store.close();
    assertEquals(Number(client.prepare("select count(*) as n from pgqrs_messages").get()?.n), 0);
    client.close();
  }
});
