/** The connection for control on Postgres: what must not wait gets through, within the limit on connections. */
import { assert, assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { job } from "../mod.ts";
import { openPostgres } from "../src/drivers/postgres.ts";
import { bareClient, freshPostgres, type TestDatabase } from "./support/databases.ts";
import { open, OPTIONS, start, until } from "./support/hints.ts";

describe("control on Postgres", () => {
  let database: TestDatabase;

  before(async () => {
    database = await freshPostgres();
  });

  after(() => database.close());

  const statement = (text: string) => ({ name: "probe", parts: [{ text, values: [] }] });

  test("control statements get through while every other connection is busy", async () => {
    for (const maxConnections of [2, 3, 8]) {
      const driver = openPostgres(database.dsn, { ...OPTIONS, maxConnections });
      const stop = new AbortController();
      const { signal } = stop;
      // The pipelines are full, and others wait for a place; what goes on at the server is an answer a time.
      const sleep = maxConnections === 2 ? "select pg_sleep(0.01)" : "select pg_sleep(60)";
      const busy = Array.from({ length: 130 }, () => driver.query(statement(sleep), { signal }));
      const long = Array.from(
        { length: maxConnections },
        () => driver.query(statement("select pg_sleep(60)"), { signal, isLong: true }),
      );
      const all = Promise.allSettled([...busy, ...long]);
      let isLast = false;
      void Promise.allSettled(busy).then(() => isLast = true);
      assertEquals((await driver.query(statement("select 1"), { isControl: true })).length, 1);
      assertEquals(isLast, false);
      stop.abort();
      await all;
      await driver.close();
    }
  });

  test("no more connections are opened than maxConnections, listening included", async () => {
    const observer = bareClient(database.dsn);
    for (const maxConnections of [1, 2, 3, 5]) {
      const schema = `bounded_${maxConnections}`;
      await using store = await open(`${database.dsn}?application_name=${schema}`, { schema, maxConnections });
      await using running = start(store);
      const producer = store.producer("tasks");
      await running.ready();
      await Promise.all(Array.from({ length: 60 }, (_, n) => {
        if (n % 10 === 0) return store.transaction((tx) => producer.enqueue(n, { tx }));
        return n % 10 === 1 ? store.admin.metrics() : producer.enqueue(n);
      }));
      await until(() => running.handled.length === 54, "all are handled");
      const [row] = await observer`select count(*)::int as n from pg_stat_activity
        where datname = current_database() and application_name = ${schema}`;
      assert(row?.n <= maxConnections, `${row?.n} connections instead of at most ${maxConnections}`);
    }
    await observer.end({ timeout: 5 });
  });

  test("a worker with a single connection hears hints, renews leases and runs transactions", async () => {
    await using store = await open(database.dsn, { schema: "single", maxConnections: 1 });
    await using other = await open(database.dsn, { schema: "single" });
    const stop = new AbortController();
    let attempts = 0;
    let ended = 0;
    store.on("completed", () => ended++);
    const worker = store.worker([
      job("tasks", async (_, context) => {
        attempts++;
        await context.transaction(async (tx) => {
          // Longer than the lease: it holds because the row is renewed before and settled by this transaction.
          await tx.query("select pg_sleep(0.4)");
        });
      }, { leaseMs: 300, concurrency: 3 }),
    ]);
    const run = worker.run({ signal: stop.signal });
    await until(() => worker.health().isListening, "it hears");
    await other.producer("tasks").enqueueMany([1, 2, 3]);
    await until(() => ended === 3, "all three have ended");
    assert(attempts >= 3);
    stop.abort();
    await run;
  });
});
