/** What limits and steers the flow of messages: the places of a queue, pause, resume and cancel. */
import { assert, assertEquals, assertInstanceOf, assertLessOrEqual, assertRejects, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import {
  CancelledError,
  type Job,
  job,
  type Message,
  NotFoundError,
  type Store,
  type Worker,
  type WorkerOptions,
} from "../../mod.ts";
import { until } from "../support/until.ts";
import { openWatched } from "../support/watched_store.ts";
import { type Context, inStore, inTime, takeOne } from "./context.ts";

/** Defines the tests for one backend. */
export function flowContract(context: Context): void {
  describe(`flow on ${context.name}`, () => {
    places(context);
    limitedWorkers(context);
    cancelling(context);
    pausing(context);
  });
}

/** For tests that must not be helped by a look that comes in time. */
const NEVER = 1_000_000_000;

/** Runs a worker while the callback does its work. */
async function withWorker(
  store: Store,
  jobs: readonly Job<number>[],
  options: WorkerOptions,
  work: (worker: Worker) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const worker = store.worker(jobs, { maintenance: false, ...options });
  const running = worker.run({ signal: stop.signal });
  try {
    await work(worker);
  } finally {
    stop.abort();
    await running;
  }
}

function places(context: Context): void {
  test(
    "dequeue() leases no more messages of a queue than its concurrency, over all consumers",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      await store.admin.queues.update("tasks", { concurrency: 3 });
      await producer.enqueueMany(Array.from({ length: 10 }, (_, n) => n));
      const other = store.consumer("tasks", { name: "bob" });
      const mine = await consumer.dequeue({ limit: 2, leaseMs: 1_000 });
      const theirs = await other.dequeue({ limit: 10, leaseMs: 5_000 });
      assertEquals([mine.length, theirs.length], [2, 1]);
      assertEquals(await consumer.dequeue({ limit: 10 }), []);
      // A place comes back with whatever ends a lease: settling it, and its running out.
      await consumer.archive(mine[0] as Message);
      assertEquals((await other.dequeue({ limit: 10, leaseMs: 5_000 })).length, 1);
      await other.fail(theirs[0] as Message, new Error("no"), { delayMs: 60_000 });
      assertEquals((await other.dequeue({ limit: 10, leaseMs: 5_000 })).length, 1);
      assertEquals(await other.dequeue({ limit: 10 }), []);
      clock.advance(1_000);
      assertEquals((await other.dequeue({ limit: 10 })).length, 1);
      assertEquals((await store.admin.metrics("tasks")).leased, 3);
    }),
  );

  test(
    "concurrency holds for claims that come at once, and lets all through in the end",
    inStore(context, async ({ store, place, producer }) => {
      await store.admin.queues.update("tasks", { concurrency: 4 });
      await producer.enqueueMany(Array.from({ length: 30 }, (_, n) => n));
      await using second = context.isAlone ? undefined : await place.connect();
      const done = new Set<number>();
      let held = 0;
      await Promise.all(Array.from({ length: 6 }, async (_, i) => {
        const consumer = (i % 2 === 0 ? store : second ?? store).consumer("tasks");
        while (done.size < 30) {
          const messages = await consumer.dequeue({ limit: 3, leaseMs: 60_000 });
          held += messages.length;
          // Places are given up only after they are counted here as free, so that this count is never too high.
          assertLessOrEqual(held, 4);
          for (const { id } of messages) done.add(id);
          held -= messages.length;
          await consumer.archiveMany(messages);
        }
      }));
      assertEquals(await store.admin.archive.count({ queue: "tasks", outcome: "succeeded" }), 30);
    }),
  );

  test(
    "queues.create() and queues.update() set concurrency and take it away",
    inStore(context, async ({ store }) => {
      const { queues } = store.admin;
      assertEquals((await queues.get("tasks")).concurrency, null);
      assertEquals((await queues.create("few", { concurrency: 2 })).concurrency, 2);
      assertEquals((await queues.update("few", { maxAttempts: 3 })).concurrency, 2);
      assertEquals((await queues.update("few", { concurrency: null })).concurrency, null);
      await store.producer("few").enqueueMany([1, 2, 3]);
      assertEquals((await store.consumer("few").dequeue({ limit: 9 })).length, 3);
      for (const concurrency of [0, -1, 1.5, "2" as never]) {
        await assertRejects(() => queues.update("few", { concurrency }), RangeError, "concurrency");
      }
    }),
  );
}

function limitedWorkers(context: Context): void {
  test(
    "a worker of a limited queue looks again when it has ended something, however it ended",
    inStore(context, async ({ store, producer }) => {
      await store.admin.queues.update("tasks", { concurrency: 2, backoff: { baseMs: 0, maxMs: 0 } });
      await producer.enqueueMany(Array.from({ length: 24 }, (_, n) => n), { maxAttempts: 2 });
      let running = 0;
      let most = 0;
      const handle = job<number>("tasks", async ({ payload }, context) => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 1));
        running--;
        if (payload % 3 === 1) throw new Error("no");
        if (payload % 3 === 2) await context.transaction(() => Promise.resolve("by a transaction"));
      });
      // No look helps: what is not asked for at the end of another stays where it is.
      await withWorker(store, [handle], { pollIntervalMs: NEVER }, async (worker) => {
        await until("all have ended", () => worker.health().completed + worker.health().dead === 24);
      });
      assertEquals(most, 2);
      assertEquals(await store.admin.dead.count({ queue: "tasks" }), 8);
    }),
  );

  test(
    "a worker of a limited queue holds nothing that it does not handle, and leaves places to others",
    inStore(context, async ({ store, producer }) => {
      await store.admin.queues.update("tasks", { concurrency: 20 });
      await producer.enqueueMany(Array.from({ length: 150 }, (_, n) => n));
      let most = 0;
      const handle = job<number>("tasks", async () => {
        most = Math.max(most, (await store.admin.metrics("tasks")).leased);
      }, { concurrency: 2 });
      assertEquals((await store.worker([handle]).drain()).completed, 150);
      // Two that are handled, and what has been handled while it waits to be archived.
      assertLessOrEqual(most, 8);
    }),
  );
}

function cancelling(context: Context): void {
  test(
    "messages.cancel() of a message that waits keeps it from being delivered",
    inStore(context, async ({ store, producer, consumer }) => {
      const { id } = await producer.enqueue(1);
      assert(await store.admin.messages.cancel(id, { reason: "changed my mind", by: "ada" }));
      assertEquals(await consumer.dequeue(), []);
      const ended = await store.admin.archive.get(id);
      assertEquals([ended?.outcome, ended?.reason, ended?.archivedBy], ["cancelled", "changed my mind", "ada"]);
      assertEquals(await store.admin.messages.cancel(id), false);
    }),
  );

  test(
    "messages.cancel() of a message that a consumer has makes its settling false",
    inStore(context, async ({ store, producer, consumer }) => {
      const { id } = await producer.enqueue(1);
      const message = await takeOne(consumer);
      assert(await store.admin.messages.cancel(id));
      assertEquals(await consumer.extend(message, 1_000), false);
      assertEquals(await consumer.archive(message, { result: "late" }), false);
      const ended = await store.admin.archive.get(id);
      assertEquals([ended?.outcome, ended?.result], ["cancelled", null]);
    }),
  );

  test(
    "messages.cancel() aborts the handler at once, and its late result is dropped",
    inStore(context, async ({ store, producer }) => {
      const cancelled: number[] = [];
      store.on("cancelled", ({ message }) => cancelled.push(message.id));
      store.on("completed", ({ message }) => cancelled.push(-message.id));
      let reason: unknown;
      const isBegun = Promise.withResolvers<void>();
      const handle = job<number>("tasks", async (_, { signal }) => {
        isBegun.resolve();
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
        reason = signal.reason;
        return "late";
      }, { leaseMs: 600_000 });
      const { id } = await producer.enqueue(1);
      // The next heartbeat by itself is minutes away.
      await withWorker(store, [handle], { pollIntervalMs: NEVER }, async (worker) => {
        await isBegun.promise;
        assert(await store.admin.messages.cancel(id));
        await until("the handler has ended", () => reason !== undefined && worker.health().overdue === 0);
        assertInstanceOf(reason, CancelledError);
        assertEquals(worker.health().running, 0);
      });
      assertEquals(cancelled, [id]);
      const ended = await store.admin.archive.get(id);
      assertEquals([ended?.outcome, ended?.reason, ended?.result], ["cancelled", "cancelled", null]);
    }),
  );

  test("a message that is cancelled just before its result or failure is stored is told of as cancelled", async () => {
    const place = await context.place();
    try {
      await using store = await openWatched(place.dsn, place.schema, (driver) => ({
        // It is not the heartbeat that finds it out.
        query: (rendered, options) => rendered.name === "beat" ? Promise.resolve([]) : driver.query(rendered, options),
        transaction: (run, limits) => driver.transaction(run, limits),
      }));
      await store.admin.install();
      await store.admin.createQueue("tasks");
      const sent = await store.producer("tasks").enqueueMany(["resolves", "throws"]);
      const told: unknown[] = [];
      for (const name of ["cancelled", "lost"] as const) {
        store.on(name, ({ message }) => void told.push(`${name} ${message.id}`));
      }
      const handle = job("tasks", async ({ id, payload }) => {
        assert(await store.admin.messages.cancel(id));
        if (payload === "throws") throw new Error("no");
      }, { concurrency: 1 });
      assertEquals(await store.worker([handle]).drain(), { completed: 0, failed: 0, dead: 0 });
      assertEquals(told, sent.map(({ id }) => `cancelled ${id}`));
    } finally {
      await place.close();
    }
  });
}

function pausing(context: Context): void {
  test(
    "queues.pause() keeps a worker from taking more, queues.resume() lets it go on at once",
    inStore(context, async ({ store, producer }) => {
      const handled: number[] = [];
      const handle = job<number>("tasks", ({ payload }) => void handled.push(payload));
      await withWorker(store, [handle], { pollIntervalMs: NEVER }, async () => {
        await producer.enqueue(1);
        await until("the first is handled", () => handled.length === 1);
        await store.admin.queues.pause("tasks");
        await producer.enqueue(2);
        const drained = await store.worker([handle], { name: "other", maintenance: false }).drain();
        assertEquals([handled, drained.completed], [[1], 0]);
        await store.admin.queues.resume("tasks");
        await until("the second is handled", () => handled.length === 2);
      });
    }),
  );

  test(
    "workers.pause() lets handlers end, gives the rest back, and begins nothing before workers.resume()",
    inStore(context, async ({ store, producer }) => {
      const ends = new Map<number, () => void>();
      const handled: number[] = [];
      const handle = job<number>("tasks", async ({ payload }) => {
        if (payload > 1) await new Promise<void>((resolve) => ends.set(payload, resolve));
        handled.push(payload);
      }, { concurrency: 2, leaseMs: 600_000 });
      await producer.enqueueMany([0, 1, 2, 3, 4, 5]);
      await withWorker(store, [handle], { name: "ann", pollIntervalMs: NEVER }, async (worker) => {
        await until("two are handled", () => ends.size === 2);
        const [info] = await store.admin.workers.pause("ann");
        assertInstanceOf(info?.pausedAt, Date);
        await until("it is paused", () => worker.health().state === "paused");
        // What it held beyond the two is for others now; these two go on, and what they did counts.
        await until("the rest is given back", async () => (await store.admin.metrics("tasks")).leased === 2);
        for (const end of ends.values()) end();
        await until("they have ended", () => worker.health().completed === 4);
        await producer.enqueue(6);
        assertEquals((await store.admin.metrics("tasks")).ready, 3);
        const again = await store.admin.workers.pause("ann");
        assertEquals(again.map(({ pausedAt }) => pausedAt), [info?.pausedAt]);
        const taken = await store.consumer("tasks").dequeue({ limit: 9 });
        const told = taken.map(({ payload, crashes, attempts }) => [payload as number, crashes, attempts]);
        assertEquals(told.sort(([a = 0], [b = 0]) => a - b), [[4, 0, 0], [5, 0, 0], [6, 0, 0]]);
        await store.consumer("tasks").releaseMany(taken);
        assertEquals(handled.toSorted(), [0, 1, 2, 3]);
        const [resumed] = await store.admin.workers.resume("ann");
        assertEquals(resumed?.pausedAt, null);
        await until("it goes on", () => ends.has(4) && ends.has(5));
        for (const end of ends.values()) end();
        await until("the last has begun", () => ends.has(6));
        ends.get(6)?.();
        await until("all are handled", () => worker.health().completed === 7);
      });
    }),
  );

  test(
    "a worker that is idle and one that is busy learn by themselves that they are paused",
    { skip: context.isAlone },
    inStore(context, async ({ store, place, producer }) => {
      // No hint arrives: the other store is one of another process, and this one does not listen.
      await using operator = await place.connect({ listen: false });
      const isBegun = Promise.withResolvers<void>();
      const isOver = Promise.withResolvers<void>();
      const handle = job<number>("tasks", async () => {
        isBegun.resolve();
        await isOver.promise;
      }, { leaseMs: 150 });
      await store.admin.createQueue("other");
      await withWorker(store, [handle], { name: "busy", pollIntervalMs: 20 }, async (busy) => {
        const idler = job<number>("other", () => {});
        await withWorker(store, [idler], { name: "idle", pollIntervalMs: 20 }, async (idle) => {
          await producer.enqueue(1);
          await isBegun.promise;
          for (const name of ["busy", "idle"]) await operator.admin.workers.pause(name);
          await until("both are paused", () => [busy, idle].every((one) => one.health().state === "paused"));
          for (const name of ["busy", "idle"]) await operator.admin.workers.resume(name);
          await until("both go on", () => [busy, idle].every((one) => one.health().state !== "paused"));
          isOver.resolve();
          await until("the handler has ended", () => busy.health().completed === 1);
        });
      });
    }, { listen: false }),
  );

  test(
    "workers of another name are not paused, and one that is not there is an error",
    inStore(context, async ({ store, producer }) => {
      const { workers } = store.admin;
      await assertRejects(() => workers.pause("ann"), NotFoundError, "ann");
      await assertRejects(() => workers.resume("ann"), NotFoundError, "ann");
      await assertRejects(() => workers.get("ann"), NotFoundError, "ann");
      const handle = job<number>("tasks", () => {});
      await withWorker(store, [handle], { name: "ann" }, async (ann) => {
        await withWorker(store, [handle], { name: "bob" }, async (bob) => {
          await until("both are there", async () => (await workers.list()).length === 2);
          await workers.pause("ann");
          await until("ann is paused", () => ann.health().state === "paused");
          await producer.enqueueMany([1, 2, 3]);
          await until("all are handled by the other", () => bob.health().completed === 3);
        });
      });
      assertEquals(await workers.list(), []);
      assertThrows(() => store.worker([handle], { name: "" }), RangeError);
    }),
  );
}
