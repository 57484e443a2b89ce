/** Hints between processes on Postgres: what carries them, what swallows them, and that nothing depends on them. */
import { assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import createClient from "postgres";
import { connect, Store } from "../mod.ts";
import { Database } from "../src/database.ts";
import { openPostgres } from "../src/drivers/postgres.ts";
import { adoptPostgres } from "../src/drivers/postgres_client.ts";
import { channelOf } from "../src/sql/channel.ts";
import { bareClient, freshPostgres, type TestDatabase } from "./support/databases.ts";
import { ENQUEUE, NEVER_MS, open, OPTIONS, start, until } from "./support/hints.ts";
import { NO_PGBOUNCER, type PgBouncer, pgBouncerVersion, startPgBouncer } from "./support/pgbouncer.ts";
import { startProcess } from "./support/processes.ts";
import { startProxy } from "./support/tcp_proxy.ts";

describe("hints on Postgres", () => {
  let database: TestDatabase;
  let observer: createClient.Sql;

  before(async () => {
    database = await freshPostgres();
    observer = bareClient(database.dsn);
  });

  after(async () => {
    await observer.end({ timeout: 5 });
    await database.close();
  });

  /** Everything that is sent on the channel of a schema, in order. */
  async function record(schema: string): Promise<{ texts: string[]; flush(): Promise<string[]> }> {
    const texts: string[] = [];
    const listener = bareClient(database.dsn);
    const channel = channelOf(schema);
    await listener.listen(channel, (text) => texts.push(text.replace(/^[0-9a-f]{8}\//, "")));
    after(() => listener.end({ timeout: 5 }));
    return {
      texts,
      // What was committed before arrives before.
      async flush() {
        await observer`select pg_notify(${channel}, 'end')`;
        await until(() => texts.includes("end"), "the end arrives");
        return texts.splice(0).filter((text) => text !== "end" && !text.startsWith("probe:"));
      },
    };
  }

  test("a worker handles at once what another process has enqueued", async () => {
    await using store = await open(database.dsn, { schema: "processes" });
    await using running = start(store);
    await running.ready();
    await using child = startProcess(ENQUEUE, { args: [database.dsn, "processes", "3"] });
    await until(() => running.handled.length === 3, "all three are handled");
    assertEquals((await child.exited).code, 0, child.stderr);
  });

  test("dequeue({ waitMs }) ends with what another store or SQL alone has enqueued", async () => {
    // The channel is named after the schema, in a text literal and in LISTEN.
    const schema = `it's "odd" \\ $1`;
    await using store = await open(database.dsn, { schema });
    await using other = await open(database.dsn, { schema });
    const ways: (() => Promise<unknown>)[] = [
      () => other.producer("tasks").enqueue("one"),
      () => observer`select ${observer(schema)}.pgqrs_enqueue('tasks', '"two"')`,
      () => observer.begin((sql) => other.producer("tasks").enqueue("three", { tx: sql })),
      () => observer.begin((sql) => store.producer("tasks").enqueue("four", { tx: sql })),
    ];
    // With somebody who listens all the time, the hint that follows is the only one that can end the wait.
    await using running = start(store, ["others"]);
    await running.ready();
    for (const [i, way] of ways.entries()) {
      const signal = AbortSignal.timeout(20_000);
      const waiting = store.consumer("tasks").dequeue({ waitMs: NEVER_MS, leaseMs: 60_000, signal });
      for (let i = 0; i < 3; i++) await store.ping();
      await way();
      assertEquals((await waiting).map(({ payload }) => payload), [["one", "two", "three", "four"][i]]);
    }
  });

  test("enqueue() sends one hint at the commit, and none with notify: false or after a rollback", async () => {
    await using store = await open(database.dsn, { schema: "sent" });
    const { flush } = await record("sent");
    const producer = store.producer("tasks");
    await producer.enqueue(1);
    assertEquals(await flush(), ["queue:tasks"]);
    await producer.enqueueMany(Array.from({ length: 700 }, (_, n) => n));
    assertEquals(await flush(), ["queue:tasks"]);
    await producer.enqueueMany([1, 2], { each: (n) => ({ key: `k${n}` }) });
    assertEquals(await flush(), ["queue:tasks"]);
    await producer.enqueue(1, { notify: false });
    await producer.enqueueMany([1], { notify: false });
    await observer`select sent.pgqrs_enqueue('tasks', '1', '{"notify": false}')`;
    assertEquals(await flush(), []);
    await observer`select sent.pgqrs_enqueue('tasks', '1')`;
    assertEquals(await flush(), ["queue:tasks"]);
    await store.transaction(async (tx) => {
      await producer.enqueue(1, { tx });
      await producer.enqueueMany([1], { tx });
      assertEquals(await flush(), []);
    });
    assertEquals(await flush(), ["queue:tasks"]);
    await store.transaction(async (tx) => {
      await producer.enqueue(1, { tx });
      throw new RangeError("rolled back");
    }).catch(() => {});
    await producer.enqueue(1, { key: "k1" }).catch(() => {});
    await producer.enqueue(9, { key: "k1" }).catch(() => {});
    assertEquals((await flush()).filter((text) => text !== "queue:tasks"), []);
  });

  test("operators' calls tell whoever has to know", async () => {
    await using store = await open(database.dsn, { schema: "told" });
    const { flush } = await record("told");
    const { admin } = store;
    const consumer = store.consumer("tasks", { name: "ann" });
    const producer = store.producer("tasks");
    const take = async (): Promise<number> => {
      await producer.enqueue(1);
      const [message] = await consumer.dequeue({ leaseMs: 600_000 });
      await flush();
      return message?.id ?? 0;
    };
    const lay = async (): Promise<number> => {
      const { id } = await producer.enqueue(1, { delayMs: 600_000 });
      await flush();
      return id;
    };
    const cases: [make: () => Promise<number>, call: (id: number) => Promise<unknown>, expected: string[]][] = [
      [take, (id) => admin.messages.cancel(id), ["control"]],
      [lay, (id) => admin.messages.cancel(id), []],
      [take, (id) => admin.messages.archive(id), ["control"]],
      [take, (id) => admin.messages.delete(id), ["control"]],
      [lay, (id) => admin.messages.delete(id), []],
      [take, (id) => admin.messages.release(id), ["control", "queue:tasks"]],
      [lay, (id) => admin.messages.release(id), ["queue:tasks"]],
      [lay, (id) => admin.messages.update(id, { priority: 9 }), ["queue:tasks"]],
      [take, () => admin.workers.release("ann"), ["control", "queue:tasks"]],
      [take, (id) => consumer.release(id), ["queue:tasks"]],
      [take, (id) => consumer.release(id, { delayMs: 600_000 }), ["queue:tasks"]],
      [take, (id) => consumer.fail(id, new Error("no"), { delayMs: 0 }), ["queue:tasks"]],
      [take, (id) => consumer.fail(id, new Error("no"), { delayMs: 600_000 }), ["queue:tasks"]],
      [take, (id) => consumer.fail(id, new Error("no"), { retry: false }), []],
      [lay, () => admin.dead.replay({ queue: "tasks" }), ["queue:tasks"]],
      [lay, () => admin.queues.pause("tasks"), []],
      [lay, () => admin.queues.resume("tasks"), ["queue:tasks"]],
      [take, () => admin.queues.purge("tasks"), []],
      [take, () => admin.queues.purge("tasks", { force: true }), ["control"]],
      [lay, () => admin.queues.delete("tasks", { force: true }), ["control"]],
    ];
    for (const [make, call, expected] of cases) {
      const id = await make();
      await call(id);
      // Results that somebody waits for are told of as well, which is another matter.
      const told = (await flush()).filter((text) => text !== "ended");
      assertEquals([...new Set(told)].sort(), expected, String(call));
    }
  });

  test("a connection that listens is replaced when it is gone", async () => {
    await using store = await open(`${database.dsn}?application_name=replaced`, { schema: "replaced" });
    await using other = await open(database.dsn, { schema: "replaced" });
    await using running = start(store);
    await running.ready();
    for (let n = 1; n <= 3; n++) {
      await observer`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'replaced'`;
      await until(() => !running.worker.health().isListening, "the worker knows that it hears nothing");
      await running.ready();
      await other.producer("tasks").enqueue(n);
      await until(() => running.handled.length === n, "a hint arrives again");
    }
  });

  test("what was enqueued while nobody listened is found when somebody does again", async () => {
    await using proxy = await startProxy(database.dsn);
    await using store = await open(proxy.through(database.dsn), { schema: "interrupted" });
    await using other = await open(database.dsn, { schema: "interrupted" });
    await using running = start(store);
    await running.ready();
    proxy.refuse();
    await until(() => !running.worker.health().isListening, "the worker knows that it hears nothing");
    await other.producer("tasks").enqueue(1);
    proxy.pass();
    await until(() => running.handled.length === 1, "it is handled");
  });

  test("a connection that is silent for ever is given up", async () => {
    await using proxy = await startProxy(database.dsn);
    const options = { ...OPTIONS, keepAliveMs: 50, timeoutMs: 400, connectTimeoutMs: 400 };
    const driver = openPostgres(proxy.through(database.dsn), options);
    const changes: boolean[] = [];
    const stop = driver.listen?.("half_open", { onHint() {}, onChange: (isHeard) => changes.push(isHeard) });
    await until(() => changes.length === 1, "it is heard");
    proxy.freeze();
    await until(() => changes.length === 2, "it is known to be gone");
    proxy.pass();
    await until(() => changes.length === 3, "it is heard again");
    assertEquals(changes, [true, false, true]);
    stop?.();
    await driver.close();
  });

  test("with listen: false nothing listens, and everything works by looking", async () => {
    const dsn = `${database.dsn}?application_name=deaf`;
    await using store = await open(dsn, { schema: "deaf", listen: false, pollIntervalMs: 20 });
    await using other = await open(database.dsn, { schema: "deaf" });
    await using running = start(store);
    await other.producer("tasks").enqueue(1);
    await until(() => running.handled.length === 1, "it is handled");
    assertEquals(running.worker.health().isListening, false);
    await record("deaf");
    const waits = await observer`select 1 from pg_stat_activity
      where application_name = 'deaf' and (query ilike 'listen%' or query ilike '%pg_notify($1%')`;
    assertEquals(waits.length, 0);
  });

  test("an attempt that another process has failed is made again when it is due, without a look", async () => {
    await using store = await open(database.dsn, { schema: "again" });
    await using other = await open(database.dsn, { schema: "again" });
    await other.producer("tasks").enqueue(1, { notify: false });
    const consumer = other.consumer("tasks");
    const [message] = await consumer.dequeue({ leaseMs: 600_000 });
    await using running = start(store);
    await running.ready();
    assertEquals(await consumer.fail(message?.id ?? 0, new Error("no"), { delayMs: 100 }), true);
    await until(() => running.handled.length === 1, "it is handled");
  });

  test("when every hint is lost only latency suffers", async () => {
    const driver = openPostgres(database.dsn, OPTIONS);
    // It says that it listens, and never hears anything.
    driver.listen = (_, { onChange }) => {
      onChange(true);
      return () => {};
    };
    const settings = { leaseMs: 5_000, maxAttempts: 5, maxBatchSize: 100, pollIntervalMs: 20, timeoutMs: 30_000 };
    await using other = await open(database.dsn, { schema: "lost" });
    await using store = new Store(new Database(driver, { dialect: driver.dialect, schema: "lost" }, settings));
    await other.admin.createQueue("others");
    await using running = start(store);
    await running.ready();
    await other.producer("tasks").enqueueMany([1, 2, 3]);
    await other.producer("tasks").enqueue(4, { delayMs: 50 });
    await until(() => running.handled.length === 4, "all are handled");
    const waiting = store.consumer("others").dequeue({ waitMs: 20_000 });
    await other.producer("others").enqueue(5);
    assertEquals((await waiting).length, 1);
  });

  test("a client of the caller is listened with, and stays open", async () => {
    const client = createClient(database.dsn, { max: 3, onnotice() {} });
    const store = await connect(client, { schema: "adopted" });
    await store.admin.install();
    await using other = await open(database.dsn, { schema: "adopted" });
    {
      await using running = start(store);
      await running.ready();
      await other.producer("tasks").enqueue(1);
      await until(() => running.handled.length === 1, "it is handled");
    }
    await store.close();
    assertEquals((await client`select 1 as one`)[0]?.one, 1);
    await until(async () => {
      const rows = await observer`select 1 from pg_stat_activity
        where datname = current_database() and query like ${`unlisten "${channelOf("adopted")}"%`}`;
      return rows.length === 1;
    }, "the client listens no more");
    await client.end({ timeout: 5 });
  });
});

describe("hints behind PgBouncer", { skip: pgBouncerVersion() === undefined ? NO_PGBOUNCER : false }, () => {
  let database: TestDatabase;
  let pooler: PgBouncer;

  before(async () => {
    database = await freshPostgres();
    // Whoever listens does it in the session that everybody else gets.
    pooler = await startPgBouncer(database.dsn, { default_pool_size: 1 }) as PgBouncer;
  });

  after(async () => {
    await pooler?.close();
    await database?.close();
  });

  test("a worker behind a pooler finds everything by looking", async () => {
    await using store = await open(pooler.dsn, { pollIntervalMs: 20 });
    await using other = await open(database.dsn);
    await using running = start(store);
    await other.producer("tasks").enqueueMany([1, 2, 3]);
    await until(() => running.handled.length === 3, "all are handled");
    assertEquals(running.worker.health().isListening, false);
  });

  const ways: [how: string, isPooled: true | "auto"][] = [["found out", "auto"], ["declared", true]];
  for (const [how, isPooled] of ways) {
    test(`a pooler that is ${how} gets no LISTEN`, async () => {
      const driver = openPostgres(pooler.dsn, { ...OPTIONS, pooler: isPooled });
      const changes: boolean[] = [];
      const stop = driver.listen?.(how, { onHint() {}, onChange: (isHeard) => changes.push(isHeard) });
      const ask = (text: string) => driver.query({ name: "probe", parts: [{ text, values: [] }] }, { isControl: true });
      // It waits behind what was sent before on the same connection.
      await ask("select 1");
      assertEquals((await ask("select channel from pg_listening_channels() channel")).length, 0);
      assertEquals(changes, []);
      stop?.();
      await driver.close();
    });
  }

  test("a pooler that a client of the caller does not tell of is found out, and the channel given up", async () => {
    const client = createClient(pooler.dsn, { max: 2, prepare: false, fetch_types: false, onnotice() {} });
    const driver = adoptPostgres(client, OPTIONS);
    const changes: boolean[] = [];
    const stop = driver.listen?.("swallowed", { onHint() {}, onChange: (isHeard) => changes.push(isHeard) });
    const channels = async () => (await client`select channel from pg_listening_channels() channel`).length;
    await until(async () => await channels() === 1, "it listens");
    await until(async () => await channels() === 0, "it has given up");
    assertEquals(changes, []);
    stop?.();
    await driver.close();
    await client.end({ timeout: 5 });
  });
});
