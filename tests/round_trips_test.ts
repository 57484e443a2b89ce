/** The budget as the server counts it: one transaction on Postgres, one request on libSQL, for each operation. */
import { assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import { connect, type Message, type Store } from "../mod.ts";
import { freshLibsql, freshPostgres } from "./support/databases.ts";

/** Tells how much the server has done so far, and may count as one itself. */
type Meter = () => Promise<number> | number;

/** Every hot operation by what it is called, on messages that are leased. */
const OPERATIONS: Readonly<Record<string, (store: Store, leased: Message[]) => Promise<unknown>>> = {
  enqueue: (store) => store.producer("tasks").enqueue({ n: 1 }),
  "enqueue with a key": (store) => store.producer("tasks").enqueue({ n: 1 }, { key: "k" }),
  "enqueue with a key that is taken": (store) => store.producer("tasks").enqueue({ n: 1 }, { key: "k" }),
  "enqueueMany of 1000": (store) => store.producer("tasks").enqueueMany(Array.from({ length: 1_000 }, (_, n) => n)),
  "enqueueMany with keys": (store) =>
    store.producer<number>("tasks").enqueueMany([1, 2, 3], { each: (n) => ({ key: `k${n}`, priority: n }) }),
  "dequeue of 50": (store) => store.consumer("tasks").dequeue({ limit: 50 }),
  "extendMany of 10": (store, leased) => store.consumer("tasks").extendMany(leased.slice(0, 10), 60_000),
  archive: (store, leased) => store.consumer("tasks").archive(leased[0] as Message, { result: 1 }),
  "archiveMany of 10": (store, leased) => store.consumer("tasks").archiveMany(leased.slice(1, 11)),
  "deleteMany of 10": (store, leased) => store.consumer("tasks").deleteMany(leased.slice(11, 21)),
  "releaseMany of 10": (store, leased) => store.consumer("tasks").releaseMany(leased.slice(21, 31)),
  "failMany of 10": (store, leased) => store.consumer("tasks").failMany(leased.slice(31, 41), new Error("no")),
  "messages.cancel": (store, leased) => store.admin.messages.cancel((leased[41] as Message).id),
  "messages.delete": (store, leased) => store.admin.messages.delete((leased[42] as Message).id),
};

describe("each operation costs", () => {
  test("one transaction of Postgres", async () => {
    const database = await freshPostgres();
    try {
      await using store = await connect(database.dsn, { maxConnections: 1 });
      // The number of a backend's transactions is in its virtual transaction id, which counts those that only read too.
      const meter = async (): Promise<number> => {
        const [row] = await store.transaction((tx) =>
          tx.query("select virtualtransaction as id from pg_locks where pid = pg_backend_pid() limit 1")
        );
        return Number(String(row?.id).split("/")[1]);
      };
      await assertBudget(store, meter, 1);
    } finally {
      await database.close();
    }
  });

  test("one request to libSQL", async () => {
    const { dsn, server, close } = await freshLibsql();
    try {
      await using store = await connect(dsn);
      await assertBudget(store, () => server.requestCount, 0);
    } finally {
      await close();
    }
  });
});

/** @param own is what the meter adds to the count by being read. */
async function assertBudget(store: Store, meter: Meter, own: number): Promise<void> {
  await store.admin.install();
  await store.admin.createQueue("tasks");
  await store.producer("tasks").enqueueMany(Array.from({ length: 50 }, (_, n) => n));
  const leased = await store.consumer("tasks").dequeue({ limit: 50, leaseMs: 600_000 });
  // Settings of the queue, which failing needs, are read once and kept for a while.
  await store.consumer("tasks").fail(leased[49] as Message, new Error("no"));
  const count = async (work: () => Promise<unknown>): Promise<number> => {
    const before = await meter();
    await work();
    return await meter() - before - own;
  };
  assertEquals(await count(() => Promise.resolve()), 0);
  assertEquals(await count(() => Promise.all([store.ping(), store.ping()])), 2);
  for (const [name, operation] of Object.entries(OPERATIONS)) {
    assertEquals(await count(() => operation(store, leased)), 1, name);
  }
}
