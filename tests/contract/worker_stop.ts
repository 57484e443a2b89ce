/**
 * What a worker promises of its end: nothing new, nothing lost, nothing counted, and everything that was done is
 * stored.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import { type Job, job, type Store } from "../../mod.ts";
import { type Gate, gate, startWorker, until } from "../support/running_worker.ts";
import { openWatched } from "../support/watched_store.ts";
import { type Context, inStore } from "./context.ts";

/** Defines the tests for one backend. */
export function workerStopContract(context: Context): void {
  describe(`stop of a worker on ${context.name}`, () => {
    stopping(context);
    givingBack(context);
    closing(context);
  });
}

function stopping(context: Context): void {
  test(
    "run() ends when its signal is aborted: nothing new is begun, handlers finish, and what they have done is stored",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany(Array.from({ length: 10 }, (_, n) => n));
      const end = gate();
      const begun: unknown[] = [];
      const events: string[] = [];
      for (const name of ["workerStarted", "workerStopped"] as const) store.on(name, () => void events.push(name));
      const tasks = job("tasks", async ({ payload }, { signal }) => {
        begun.push(payload);
        await end.passed;
        if (signal.aborted) return "aborted";
        if (payload === 1) throw new Error("no");
        return "done";
      }, { concurrency: 3 });
      const running = startWorker(store, [tasks], { stopTimeoutMs: 60_000 });
      await until(() => begun.length === 3);
      const stopped = running.stop();
      await until(() => running.worker.health().state === "stopping");
      await producer.enqueue("after");
      end.open();
      await stopped;
      assertEquals([begun, events], [[0, 1, 2], ["workerStarted", "workerStopped"]]);
      assertEquals(await store.admin.messages.count({ state: "leased" }), 0);
      assertEquals((await store.admin.archive.list()).items.map(({ result }) => result), ["done", "done"]);
      const { items } = await store.admin.messages.list({ state: "delayed" });
      assertEquals(items.map(({ payload, attempts, crashes }) => [payload, attempts, crashes]), [[1, 1, 0]]);
      assertEquals(await store.admin.messages.count({ state: "ready" }), 8);
      assertEquals(running.worker.health().state, "stopped");
      assertEquals((await store.admin.workers.list()).length, 0);
    }),
  );

  test(
    "after stopTimeoutMs handlers are aborted and their messages are there for others at once, uncounted",
    inStore(context, async ({ store, producer, consumer }) => {
      const { id } = await producer.enqueue(1);
      const signals: AbortSignal[] = [];
      const end = gate<string>();
      const tasks = job("tasks", (_message, { signal }) => {
        signals.push(signal);
        return end.passed;
      });
      const running = startWorker(store, [tasks], { stopTimeoutMs: 30 });
      await until(() => signals.length === 1);
      await running.stop();
      assertEquals((signals[0]?.reason as Error).name, "AbortError");
      const [message] = await consumer.dequeue({ leaseMs: 60_000 });
      assertEquals([message?.id, message?.attempts, message?.crashes], [id, 0, 0]);
      end.open("too late");
      await until(() => running.worker.health().overdue === 0);
      assert(message !== undefined && await consumer.archive(message, { result: "elsewhere" }));
      assertEquals((await store.admin.archive.get(id))?.result, "elsewhere");
    }),
  );

  test(
    "the longest stopTimeoutMs that may be given lets handlers finish",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue(1);
      const end = gate();
      const tasks = job("tasks", () => end.passed);
      const running = startWorker(store, [tasks], { stopTimeoutMs: 2 ** 31 - 1 });
      await until(() => running.worker.health().running === 1);
      let hasStopped = false;
      const stopped = running.stop().then(() => hasStopped = true);
      // A timer that is set to more than it can hold fires after a millisecond.
      await new Promise((resolve) => setTimeout(resolve, 50));
      assertEquals(hasStopped, false);
      end.open();
      await stopped;
      assertEquals(await store.admin.archive.count({ outcome: "succeeded" }), 1);
    }),
  );

  test(
    "run() and drain() with a signal that is aborted already do nothing",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue(1);
      let calls = 0;
      const worker = store.worker([job("tasks", () => void calls++), job("never made", () => {})]);
      await worker.run({ signal: AbortSignal.abort() });
      assertEquals(await worker.drain({ signal: AbortSignal.abort() }), { completed: 0, failed: 0, dead: 0 });
      assertEquals([calls, (await store.admin.queues.list()).map(({ name }) => name)], [0, ["tasks"]]);
    }),
  );

  test(
    "drain() ends early when its signal is aborted, and tells what it has done",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany(Array.from({ length: 50 }, (_, n) => n));
      const stop = new AbortController();
      let calls = 0;
      const tasks = job("tasks", () => {
        if (++calls === 5) stop.abort();
      }, { concurrency: 1 });
      const { completed } = await store.worker([tasks]).drain({ signal: stop.signal });
      assertEquals([completed, calls], [5, 5]);
      assertEquals(await store.admin.messages.count({ state: "ready" }), 45);
    }),
  );
}

/** A store whose claims are answered only when the test says so. */
async function inSlowStore(
  context: Context,
  work: (store: Store, asked: () => number, answer: Gate) => Promise<void>,
): Promise<void> {
  const place = await context.place();
  try {
    let asked = 0;
    const answer = gate();
    await using store = await openWatched(place.dsn, place.schema, (driver) => ({
      async query(rendered, options) {
        const rows = await driver.query(rendered, options);
        if (!/claim/i.test(rendered.name)) return rows;
        asked++;
        await answer.passed;
        return rows;
      },
      transaction: (run, limits) => driver.transaction(run, limits),
    }));
    await store.admin.install();
    await store.admin.createQueue("tasks");
    await work(store, () => asked, answer);
  } finally {
    await place.close();
  }
}

function givingBack(context: Context): void {
  test("what a claim brings after the worker was told to stop is not begun, and given back uncounted", async () => {
    await inSlowStore(context, async (store, asked, answer) => {
      await store.producer("tasks").enqueueMany([1, 2, 3]);
      let calls = 0;
      const running = startWorker(store, [job("tasks", () => void calls++)], { stopTimeoutMs: 60_000 });
      await until(() => asked() === 1);
      const stopped = running.stop();
      await until(() => running.worker.health().state === "stopping");
      answer.open();
      await stopped;
      const { items } = await store.admin.messages.list();
      assertEquals(items.map(({ state, attempts, crashes }) => [state, attempts, crashes]), [
        ["ready", 0, 0],
        ["ready", 0, 0],
        ["ready", 0, 0],
      ]);
      assertEquals(calls, 0);
    });
  });

  test(
    "what was claimed ahead and not begun is given back when the worker stops",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany(Array.from({ length: 3_000 }, (_, n) => n));
      const end = gate();
      let calls = 0;
      // Fast at first, so that many are held; then all hang.
      const tasks = job("tasks", () => ++calls > 1_000 ? end.passed : undefined, { concurrency: 5, prefetch: 400 });
      const running = startWorker(store, [tasks], { stopTimeoutMs: 60_000 });
      await until(() => running.worker.health().running === 5);
      const stopped = running.stop();
      end.open();
      await stopped;
      assertEquals(await store.admin.archive.count(), calls);
      const { items } = await store.admin.messages.list({ limit: 1_000 });
      assertEquals(items.filter(({ state, crashes, attempts }) => state !== "ready" || crashes + attempts > 0), []);
      assertEquals(await store.admin.messages.count(), 3_000 - calls);
      assertEquals(running.worker.health().waiting, 0);
    }),
  );
}

function closing(context: Context): void {
  test("close() ends a worker that runs, and stores first what its handlers have done", async () => {
    const place = await context.place();
    try {
      const store = await place.connect();
      await store.admin.install();
      await store.admin.createQueue("tasks");
      await store.producer("tasks").enqueueMany([1, 2, 3, 4]);
      const end = gate();
      const begun: unknown[] = [];
      const completed: unknown[] = [];
      store.on("completed", ({ message }) => void completed.push(message.payload));
      store.on("error", ({ error }) => void completed.push(error));
      const tasks = job("tasks", async ({ payload }, { transaction, progress }) => {
        begun.push(payload);
        await end.passed;
        assert(await progress(99));
        return payload === 1 ? await transaction((tx) => tx.query("select 1").then(() => 1)) : payload;
      }, { concurrency: 2 });
      const worker = store.worker([tasks], { stopTimeoutMs: 60_000 });
      const ended = worker.run();
      await until(() => begun.length === 2);
      const closed = store.close();
      end.open();
      await Promise.all([ended, closed]);
      assertEquals([begun, completed.toSorted()], [[1, 2], [1, 2]]);
      if (!context.isAlone) {
        await using other = await place.connect();
        assertEquals(await other.admin.messages.count({ state: "leased" }), 0);
        assertEquals([await other.admin.archive.count(), await other.admin.messages.count()], [2, 2]);
      }
    } finally {
      await place.close();
    }
  });

  test(
    "several workers share a queue: every message is handled once",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany(Array.from({ length: 400 }, (_, n) => n));
      const seen: unknown[] = [];
      const by = new Set<string>();
      const tasks: Job<number> = job<number>("tasks", async ({ payload, worker }) => {
        await new Promise((resolve) => setTimeout(resolve, 1));
        seen.push(payload);
        by.add(worker as string);
      }, { concurrency: 5 });
      const drained = await Promise.all(["a", "b", "c"].map((name) => store.worker([tasks], { name }).drain()));
      assertEquals(drained.reduce((sum, { completed }) => sum + completed, 0), 400);
      assertEquals([seen.length, new Set(seen).size], [400, 400]);
      assertEquals([...by].toSorted(), ["a", "b", "c"]);
    }),
  );
}
