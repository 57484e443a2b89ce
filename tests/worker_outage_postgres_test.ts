/** A worker whose database cannot be reached, at its start or later: it goes on by itself, and nothing is lost. */
import { assert, assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { connect, DatabaseError, job, type Store } from "../mod.ts";
import { freshPostgres, type TestDatabase } from "./support/databases.ts";
import { startWorker, unheard, until } from "./support/running_worker.ts";
import { startProxy, type TcpProxy } from "./support/tcp_proxy.ts";

describe("a worker without its database", () => {
  let database: TestDatabase;

  before(async () => {
    database = await freshPostgres();
  });

  after(async () => {
    await database.close();
  });

  /** A store by way of a proxy, and one that goes straight to the server. */
  async function withProxy(schema: string, work: (store: Store, proxy: TcpProxy, direct: Store) => Promise<void>) {
    await using proxy = await startProxy(database.dsn);
    await using direct = await connect(database.dsn, { schema });
    await direct.admin.install();
    await direct.admin.createQueue("tasks");
    const options = { schema, connectTimeoutMs: 300, timeoutMs: 600 };
    const reasons = await unheard(async () => {
      await using store = await connect(proxy.through(database.dsn), options);
      await work(store, proxy, direct);
    });
    assertEquals(reasons, []);
  }

  test("waits at its start until the database is there, or until it is told to stop", async () => {
    await withProxy("at_start", async (store, proxy, direct) => {
      proxy.refuse();
      await direct.producer("tasks").enqueue(1);
      const errors: unknown[] = [];
      store.on("error", ({ error, retryAfterMs }) => void errors.push(error, retryAfterMs > 0));
      const tasks = job("tasks", () => "done");
      await store.worker([tasks]).run({ signal: AbortSignal.timeout(50) });
      await using running = startWorker(store, [tasks, job("made when it is there", () => {})]);
      await until(() => errors.length >= 6);
      assert(errors.every((one) => one instanceof DatabaseError || one === true));
      assert(running.worker.health().failingSince !== null);
      proxy.pass();
      await until(async () => await direct.admin.archive.count() === 1);
      assertEquals(running.worker.health().failingSince, null);
      assertEquals((await direct.admin.queues.list()).length, 2);
    });
  });

  for (
    const [name, harm] of Object.entries({
      "cuts its connections": (proxy: TcpProxy) => proxy.cut(),
      "refuses connections": (proxy: TcpProxy) => proxy.refuse(),
      "swallows everything": (proxy: TcpProxy) => proxy.freeze(),
      "tears an answer apart": (proxy: TcpProxy) => proxy.truncate(20),
    })
  ) {
    test(`goes on after the way to it ${name}: every message ends once, none waits for its lease`, async () => {
      await withProxy(name.replaceAll(" ", "_"), async (store, proxy, direct) => {
        const count = 1_500;
        const calls = new Map<number, number>();
        const outcomes: string[] = [];
        for (const event of ["completed", "dead", "lost"] as const) store.on(event, () => void outcomes.push(event));
        const tasks = job<number>("tasks", async ({ payload }) => {
          await new Promise((resolve) => setTimeout(resolve, 0));
          calls.set(payload, (calls.get(payload) ?? 0) + 1);
          if (payload % 10 === 0 && calls.get(payload) === 1) throw new Error("once");
        }, { leaseMs: 600_000, concurrency: 20, retry: { backoff: { kind: "fixed", baseMs: 1 } } });
        await direct.producer("tasks").enqueueMany(Array.from({ length: count }, (_, n) => n));
        await using running = startWorker(store, [tasks]);
        for (const share of [0.2, 0.4, 0.6]) {
          await until(async () => await direct.admin.archive.count() > count * share);
          harm(proxy);
          await new Promise((resolve) => setTimeout(resolve, 150));
          proxy.pass();
        }
        await until(async () => await direct.admin.archive.count() === count);
        assertEquals(await direct.admin.archive.count({ outcome: "succeeded" }), count);
        const { items } = await direct.admin.archive.list({ limit: 1_000 });
        assertEquals(items.filter(({ payload, attempts }) => attempts !== (Number(payload) % 10 === 0 ? 1 : 0)), []);
        assertEquals([calls.size, await direct.admin.messages.count()], [count, 0]);
        await until(() => running.worker.health().completed === count);
        assertEquals([...new Set(outcomes)], ["completed"]);
        assertEquals(items.filter(({ crashes }) => crashes > 0), []);
      });
    });
  }
});
