/** PgBouncer in transaction mode: how the bare client fails behind it, and that ours works and leaves nothing there. */
import { assert, assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import postgres from "postgres";
import { connect, type ConnectOptions } from "../mod.ts";
import { freshPostgres, type TestDatabase } from "./support/databases.ts";
import { NO_PGBOUNCER, type PgBouncer, pgBouncerVersion, startPgBouncer } from "./support/pgbouncer.ts";

describe("behind PgBouncer", { skip: pgBouncerVersion() === undefined ? NO_PGBOUNCER : false }, () => {
  let database: TestDatabase;
  let pooler: PgBouncer;
  let direct: postgres.Sql;

  before(async () => {
    database = await freshPostgres();
    // Prepared statements of the protocol are off, as they were in every release before 1.21.
    const [major = 0, minor = 0] = pgBouncerVersion()?.split(".").map(Number) ?? [];
    const settings: Record<string, number> = major > 1 || minor >= 21 ? { max_prepared_statements: 0 } : {};
    pooler = await startPgBouncer(database.dsn, settings) as PgBouncer;
    direct = postgres(database.dsn, { max: 1, onnotice() {} });
  });

  after(async () => {
    await direct?.end({ timeout: 5 });
    await pooler?.close();
    await database?.close();
  });

  /** What stays behind in the sessions of the server. */
  async function leftovers(): Promise<unknown> {
    const [row] = await direct`select
      (select count(*)::int from pg_locks where locktype = 'advisory'
        and database = (select oid from pg_database where datname = current_database())) as locks,
      (select count(*)::int from pg_stat_activity where datname = current_database()
        and state like 'idle in transaction%') as transactions`;
    return { ...row };
  }

  test("60 concurrent queries of the bare client with its defaults hang or fail", async () => {
    const sql = postgres(pooler.dsn, { max: 20, onnotice() {}, connect_timeout: 5 });
    const queries = Array.from({ length: 60 }, (_, i) =>
      Promise.race([
        sql`select ${i}::int as n`.then(([row]) => row?.n === i, () => false),
        new Promise<false>((resolve) => setTimeout(() => resolve(false), 3_000)),
      ]));
    const isRight = (await Promise.all(queries)).every((isRight) => isRight);
    assert(!isRight, "the bare client works behind a transaction pooler now");
    sql.end({ timeout: 0 }).catch(() => {});
  });

  const ways: [how: string, suffix: string, options: ConnectOptions][] = [
    ["found out", "", {}],
    ["declared by ?pgbouncer=true", "?pgbouncer=true", {}],
    ["declared by pooler: true", "", { pooler: true }],
  ];
  for (const [how, suffix, options] of ways) {
    test(`200 concurrent operations of two stores work when the pooler is ${how}`, async () => {
      const schema = `way_${ways.findIndex(([other]) => other === how)}`;
      await using first = await connect(pooler.dsn + suffix, { schema, ...options });
      await using second = await connect(pooler.dsn + suffix, { schema, ...options });
      await Promise.all([first.admin.install(), second.admin.install()]);
      await first.admin.createQueue("tasks");
      const producers = [first.producer("tasks"), second.producer("tasks")];
      const consumers = [first.consumer("tasks"), second.consumer("tasks")];
      let enqueued = 0;
      let archived = 0;
      async function operate(i: number): Promise<void> {
        const producer = producers[i % 2] as typeof producers[number];
        const consumer = consumers[i % 2] as typeof consumers[number];
        const store = i % 2 === 0 ? first : second;
        // Each result is waited for before it is added: `sum += await …` reads the sum too early.
        if (i % 5 === 0) {
          const messages = await consumer.dequeue({ limit: 3 });
          const held = await consumer.archiveMany(messages);
          archived += held.filter(Boolean).length;
        } else if (i % 5 === 1) {
          const list = await producer.enqueueMany(Array.from({ length: i % 10 === 1 ? 600 : 3 }, () => ({})));
          enqueued += list.length;
        } else if (i % 5 === 2) {
          const one = await store.transaction(async (tx) => {
            await producer.enqueue({ i }, { tx });
            return (await tx.query<{ one: number }>("select 1 as one"))[0]?.one ?? 0;
          });
          enqueued += one;
        } else if (i % 5 === 3) {
          await producer.enqueue({ i }, { key: `key-${i}` });
          enqueued++;
        } else {
          await store.admin.metrics("tasks");
        }
      }
      await Promise.all(Array.from({ length: 200 }, (_, i) => operate(i)));
      assertEquals(await first.admin.messages.count({ queue: "tasks" }), enqueued - archived);
      assertEquals(await second.admin.archive.count({ queue: "tasks" }), archived);
      assertEquals(await leftovers(), { locks: 0, transactions: 0 });
    });
  }

  test("a client of the caller without prepared statements works as well", async () => {
    const sql = postgres(pooler.dsn, { max: 5, prepare: false, fetch_types: false, onnotice() {} });
    await using store = await connect(sql, { schema: "adopted" });
    await store.admin.install();
    await store.admin.createQueue("tasks");
    const producer = store.producer("tasks");
    await Promise.all(
      Array.from(
        { length: 60 },
        (_, n) => n % 10 === 0 ? store.transaction((tx) => producer.enqueue({ n }, { tx })) : producer.enqueue({ n }),
      ),
    );
    assertEquals(await store.admin.messages.count({ queue: "tasks" }), 60);
    await store.close();
    assertEquals((await sql`select 1 as one`)[0]?.one, 1);
    await sql.end({ timeout: 5 });
    assertEquals(await leftovers(), { locks: 0, transactions: 0 });
  });
});
