/** Every call on Postgres ends in time, says what became of it, and leaves nothing behind. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import postgres from "postgres";
import { type CallLimits, connect, DatabaseError, type Store } from "../mod.ts";
import { freshPostgres, type TestDatabase } from "./support/databases.ts";
import { startPostgres } from "./support/postgres_server.ts";

/** What a call takes at most beyond its deadline, by the bar of the project. */
const GRACE_MS = 1_000;

describe("deadlines on Postgres", () => {
  let database: TestDatabase;
  let other: postgres.Sql;

  before(async () => {
    database = await freshPostgres();
    other = postgres(database.dsn, { max: 2, onnotice() {} });
  });

  after(async () => {
    await other.end({ timeout: 5 });
    await database.close();
  });

  async function openStore(schema: string, maxConnections = 4): Promise<Store> {
    const store = await connect(database.dsn, { schema, maxConnections });
    await store.admin.install();
    await store.admin.createQueue("tasks");
    return store;
  }

  /** Every kind of call, each by itself. */
  async function callsOf(store: Store): Promise<Record<string, (limits: CallLimits) => Promise<unknown>>> {
    const producer = store.producer("tasks");
    const consumer = store.consumer("tasks");
    await producer.enqueueMany([{}, {}, {}, {}, {}, {}]);
    const [first, second, third, fourth, fifth] = await consumer.dequeue({ limit: 5, leaseMs: 60_000 });
    assert(first && second && third && fourth && fifth);
    const many = Array.from({ length: 600 }, () => ({}));
    return {
      enqueue: (limits) => producer.enqueue({}, limits),
      enqueueWithKey: (limits) => producer.enqueue({}, { ...limits, key: "k" }),
      enqueueMany: (limits) => producer.enqueueMany(many, limits),
      dequeue: (limits) => consumer.dequeue(limits),
      archive: (limits) => consumer.archive(first, limits),
      delete: (limits) => consumer.delete(second, limits),
      release: (limits) => consumer.release(third, limits),
      fail: (limits) => consumer.fail(fourth, new Error("x"), { ...limits, delayMs: 1 }),
      extend: (limits) => consumer.extend(fifth, 1_000, limits),
      list: (limits) => store.admin.messages.list(limits),
      cancel: (limits) => store.admin.messages.cancel(first.id, limits),
      transaction: ({ timeoutMs = 30_000, signal }) =>
        store.transaction((tx) => producer.enqueue({}, { tx }), { timeoutMs, ...(signal && { signal }) }),
    };
  }

  /** Holds a lock that everything has to wait for, while `work` runs. */
  async function whileLocked(schema: string, work: () => Promise<void>): Promise<void> {
    const session = await other.reserve();
    await session`begin`;
    await session`lock table ${session(schema)}.pgqrs_messages in access exclusive mode`;
    try {
      await work();
    } finally {
      await session`rollback`;
      session.release();
    }
  }

  /** Waits until the server works on nothing of ours any more, and tells how many connections we have. */
  async function settle(): Promise<number> {
    for (let i = 0;; i++) {
      const [row] = await other`select count(*)::int as all, count(*) filter (where state <> 'idle')::int as busy
        from pg_stat_activity where application_name = 'pgqrs' and datname = current_database()`;
      if (row?.busy === 0) return row.all;
      assert(i < 200, `${row?.busy} statements are still under way`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  test("timeoutMs ends every kind of call behind a lock, with an outcome", async () => {
    await using store = await openStore("timeouts");
    const calls = await callsOf(store);
    await whileLocked("timeouts", async () => {
      await Promise.all(
        Object.entries(calls).map(async ([name, call]) => {
          const begin = performance.now();
          const error = await assertRejects(() => call({ timeoutMs: 300 }), DatabaseError, undefined, name);
          const took = performance.now() - begin;
          assert(took >= 290 && took < 300 + GRACE_MS, `${name} took ${took} ms`);
          assert(error.outcome === "unknown" || error.outcome === "not_applied", name);
          if (name === "transaction") assertEquals(error.outcome, "not_applied");
        }),
      );
      await settle();
    });
    assertEquals(await store.admin.messages.count({ queue: "tasks" }), 6);
    await store.producer("tasks").enqueue({});
    assert(await settle() <= 4);
  });

  test("signal ends every kind of call behind a lock, with an outcome", async () => {
    await using store = await openStore("signals", 16);
    const calls = await callsOf(store);
    await whileLocked("signals", async () => {
      const controller = new AbortController();
      const ended = Object.entries(calls).map(async ([name, call]) => {
        const error = await assertRejects(() => call({ signal: controller.signal }), DatabaseError, undefined, name);
        assertEquals(error.reason, "aborted", name);
      });
      for (let waiting = 0; waiting < 2;) {
        const [row] = await other`select count(*)::int as n from pg_stat_activity
          where application_name = 'pgqrs' and datname = current_database() and wait_event_type = 'Lock'`;
        waiting = row?.n;
      }
      const begin = performance.now();
      controller.abort();
      await Promise.all(ended);
      assert(performance.now() - begin < GRACE_MS);
      // Whatever nobody waits for any more is stopped, so that the next call does not stand behind it.
      await settle();
    });
    await store.producer("tasks").enqueue({});
    assert(await settle() <= 16);
  });

  test("a call that ends behind a row lock is stopped on the server as well", async () => {
    await using store = await openStore("rows");
    const producer = store.producer("tasks");
    const message = await producer.enqueue({});
    const session = await other.reserve();
    await session`begin`;
    await session`select from rows.pgqrs_messages where id = ${message.id} for update`;
    const error = await assertRejects(
      () => store.admin.messages.delete(message.id, { timeoutMs: 300 }),
      DatabaseError,
    );
    assertEquals(error.outcome, "unknown");
    // Otherwise it would be applied as soon as the lock is gone, long after its caller was told.
    await settle();
    await session`rollback`;
    session.release();
    assertEquals(await store.admin.messages.count({ queue: "tasks" }), 1);
  });

  test("close() lets every kind of call behind a lock end by its own deadline, and leaves no connection", async () => {
    const store = await openStore("closing");
    const calls = await callsOf(store);
    await whileLocked("closing", async () => {
      let open = 0;
      const ended = Object.entries(calls).map(async ([name, call]) => {
        open++;
        const error = await assertRejects(() => call({ timeoutMs: 500 }), DatabaseError, undefined, name);
        assert(error.reason === "timeout" || error.reason === "connection", `${name}: ${error.reason}`);
        open--;
      });
      const begin = performance.now();
      await store.close();
      await Promise.all(ended);
      const took = performance.now() - begin;
      assert(open === 0 && took >= 490 && took < 500 + GRACE_MS, `${open} left after ${took} ms`);
      await settle();
    });
    await assertRejects(() => store.ping(), DatabaseError, "closed");
    for (let i = 0; await settle() > 0; i++) assert(i < 200, "connections are left");
  });

  test("close() lets what waits for a lock that is given up in time be applied", async () => {
    const store = await openStore("patient");
    const calls = await callsOf(store);
    let ended: Promise<unknown[]> = Promise.resolve([]);
    let closed: Promise<void> = Promise.resolve();
    await whileLocked("patient", () => {
      ended = Promise.all(Object.values(calls).map((call) => call({ timeoutMs: 30_000 })));
      closed = store.close();
      return Promise.resolve();
    });
    await closed;
    assertEquals((await ended).length, Object.keys(calls).length);
    await using later = await connect(database.dsn, { schema: "patient" });
    // Six before, one by one, with a key, a list and in a transaction; an archive, a delete and a cancel of the archived.
    assertEquals(await later.admin.messages.count({ queue: "tasks" }), 6 + 603 - 2);
  });

  test("close() waits for a call that waits for a server that is down no longer than its deadline", async () => {
    const store = await connect("postgres://nobody@127.0.0.1:1/none", { connectTimeoutMs: 30_000 });
    const ended = assertRejects(() => store.ping({ timeoutMs: 300 }), DatabaseError, "no connection");
    const begin = performance.now();
    await store.close();
    assertEquals((await ended).outcome, "not_applied");
    assert(performance.now() - begin < 300 + GRACE_MS);
  });

  test("a swallowed error does not make transaction() report a commit that was none", async () => {
    await using store = await openStore("swallowed");
    const error = await assertRejects(() =>
      store.transaction(async (tx) => {
        await store.producer("tasks").enqueue({}, { tx });
        await tx.query("select 1 / 0").catch(() => {});
      }), DatabaseError);
    assertEquals(error.outcome, "not_applied");
    assertEquals(await store.admin.messages.count({ queue: "tasks" }), 0);
  });
});

test("outcomes are true when the server crashes during keyed enqueues, and no rejection goes astray", async () => {
  const unhandled: unknown[] = [];
  const keep = (error: unknown): void => void unhandled.push(error);
  process.on("unhandledRejection", keep);
  await using server = await startPostgres();
  await using store = await connect(server.dsn(), { connectTimeoutMs: 10_000, timeoutMs: 10_000 });
  await store.admin.install();
  await store.admin.createQueue("tasks");
  const producer = store.producer("tasks");
  const outcomes = new Map<string, "applied" | "not_applied" | "unknown">();
  let isOver = false;
  async function produce(name: string): Promise<void> {
    for (let i = 0; !isOver; i++) {
      const key = `${name}-${i}`;
      try {
        await producer.enqueue({ key }, { key });
        outcomes.set(key, "applied");
      } catch (error) {
        assert(error instanceof DatabaseError, String(error));
        outcomes.set(key, error.outcome);
      }
    }
  }
  const producers = Array.from({ length: 16 }, (_, i) => produce(`p${i}`));
  for (let i = 0; i < 3; i++) {
    const reached = outcomes.size + 300;
    while (outcomes.size < reached) await new Promise((resolve) => setTimeout(resolve, 5));
    await server.restart("immediate");
  }
  isOver = true;
  await Promise.all(producers);
  const stored = new Set<string>();
  const { items, cursor } = await store.admin.messages.list({ limit: 10_000 });
  for (const message of items) stored.add(String(message.key));
  assertEquals(cursor, null);
  for (const [key, outcome] of outcomes) {
    if (outcome === "applied") assert(stored.has(key), `${key} was acknowledged and is lost`);
    if (outcome === "not_applied") assert(!stored.has(key), `${key} is stored and was said not to be`);
  }
  assert([...outcomes.values()].includes("applied"));
  assertEquals(unhandled, []);
  process.off("unhandledRejection", keep);
});
