/** Transactions among many pipelined statements: how the bare client loses writes, and that ours does not. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { after, before, describe, test } from "node:test";
import postgres from "postgres";
import { connect, type Store } from "../mod.ts";
import { freshPostgres, type TestDatabase } from "./support/databases.ts";
import { startProcess } from "./support/processes.ts";

interface BareResult {
  readonly failedBegins: number;
  readonly acknowledged: number;
  readonly durable: number;
}

async function runBare(dsn: string, load: "exactly_101" | "max_pipeline"): Promise<BareResult> {
  const file = new URL("./support/bare_begin_process.ts", import.meta.url);
  await using child = startProcess(file, { args: [dsn, load] });
  return JSON.parse((await child.waitFor("result ")).slice("result ".length));
}

describe("transactions under saturation", () => {
  let database: TestDatabase;
  let observer: postgres.Sql;

  before(async () => {
    database = await freshPostgres();
    observer = postgres(database.dsn, { max: 1, onnotice() {} });
  });

  after(async () => {
    await observer.end({ timeout: 5 });
    await database.close();
  });

  async function openStore(schema: string, maxConnections: number): Promise<Store> {
    const store = await connect(database.dsn, { schema, maxConnections });
    await store.admin.install();
    await store.admin.createQueue("tasks");
    return store;
  }

  /** How many messages another connection sees, and how many sessions were left in a transaction. */
  async function durable(schema: string): Promise<{ messages: number; openTransactions: number }> {
    const [row] = await observer`
      select (select count(*)::int from ${observer(schema)}.pgqrs_messages) as messages,
        (select count(*)::int from pg_stat_activity
          where datname = current_database() and state like 'idle in transaction%') as "openTransactions"`;
    return row as { messages: number; openTransactions: number };
  }

  test("begin() behind exactly 101 statements loses acknowledged writes of the bare client", async () => {
    const { failedBegins, acknowledged, durable } = await runBare(database.dsn, "exactly_101");
    assert(failedBegins > 0, "begin works now");
    assert(durable < acknowledged, `${acknowledged} acknowledged, ${durable} durable`);
  });

  test("transaction() behind exactly 101 calls loses nothing, also on a single connection", async () => {
    for (const maxConnections of [1, 2, 16]) {
      const schema = `exactly_${maxConnections}`;
      await using store = await openStore(schema, maxConnections);
      const producer = store.producer("tasks");
      const enqueue = () => producer.enqueue({});
      const work = [
        ...Array.from({ length: 101 }, enqueue),
        store.transaction((tx) => producer.enqueue({}, { tx })),
        ...Array.from({ length: 101 }, enqueue),
      ];
      await Promise.all(work);
      assertEquals(await durable(schema), { messages: 203, openTransactions: 0 });
    }
  });

  test("transaction() that is rolled back takes no other call with it, also on a single connection", async () => {
    for (const maxConnections of [1, 2]) {
      const schema = `rolled_back_${maxConnections}`;
      await using store = await openStore(schema, maxConnections);
      const producer = store.producer("tasks");
      let acknowledged = 0;
      let rolledBack = 0;
      const until = performance.now() + 400;
      const loops = Array.from({ length: 32 }, async (_, i) => {
        while (performance.now() < until) {
          if (i >= 2) {
            await producer.enqueue({});
            acknowledged++;
            continue;
          }
          const transaction = store.transaction(async (tx) => {
            await producer.enqueue({}, { tx });
            throw new RangeError("rolled back");
          });
          await assertRejects(() => transaction, RangeError);
          rolledBack++;
        }
      });
      await Promise.all(loops);
      assert(acknowledged > 0 && rolledBack > 0);
      assertEquals(await durable(schema), { messages: acknowledged, openTransactions: 0 });
    }
  });

  test("begin() with max_pipeline 1 fails on the bare client", async () => {
    const { failedBegins } = await runBare(database.dsn, "max_pipeline");
    assert(failedBegins > 0, "begin works now");
  });

  test("transaction() among sustained calls neither fails nor loses anything", async () => {
    await using store = await openStore("sustained", 10);
    const producer = store.producer("tasks");
    let acknowledged = 0;
    const until = performance.now() + 1_500;
    async function load(): Promise<void> {
      for (let i = 0; performance.now() < until; i++) {
        if (i % 10 === 0) await store.transaction((tx) => producer.enqueue({}, { tx }));
        else await producer.enqueue({});
        acknowledged++;
      }
    }
    await Promise.all(Array.from({ length: 50 }, load));
    assertEquals(await durable("sustained"), { messages: acknowledged, openTransactions: 0 });
  });

  test("3000 calls at once share the connections within their bounds", async () => {
    await using store = await openStore("burst", 4);
    const producer = store.producer("tasks");
    const calls = Array.from(
      { length: 3_000 },
      (_, n) => n % 50 === 0 ? store.transaction((tx) => producer.enqueue({ n }, { tx })) : producer.enqueue({ n }),
    );
    await Promise.all(calls);
    assertEquals(await durable("burst"), { messages: 3_000, openTransactions: 0 });
    const [row] = await observer`select count(*)::int as n from pg_stat_activity
      where datname = current_database() and application_name = 'pgqrs'`;
    assert(row?.n <= 4, `${row?.n} connections instead of at most 4`);
  });
});
