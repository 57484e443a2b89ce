/** What administering queues promises. */
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { NotFoundError, queue, StateError } from "../../mod.ts";
import { type Context, inStore, inTime, takeOne } from "./context.ts";

const BACKOFF = { kind: "exponential", baseMs: 1_000, maxMs: 60_000, jitter: 0.25 } as const;

/** Defines the tests for one backend. */
export function adminQueuesContract(context: Context): void {
  describe(`admin.queues on ${context.name}`, () => {
    creating(context);
    changing(context);
    emptying(context);
  });
}

function creating(context: Context): void {
  test(
    "queues.create() makes a queue with the settings that it is given, or the usual ones",
    inTime(context, async ({ store, clock }) => {
      const { queues } = store.admin;
      const now = new Date(clock.now);
      const kept = { retentionMs: 2_592_000_000, deadRetentionMs: 2_592_000_000 };
      const usual = { leaseMs: null, maxAttempts: 5, maxCrashes: 10, ...kept, concurrency: null };
      const times = { createdAt: now, updatedAt: now, pausedAt: null };
      assertEquals(await queues.create("a"), {
        name: "a",
        ...times,
        ...usual,
        backoff: BACKOFF,
        isWorkflow: false,
      });
      const limits = { maxAttempts: 1, maxCrashes: 2, concurrency: 3 };
      const settings = { leaseMs: 70_000, ...limits, retentionMs: null, deadRetentionMs: 5 };
      const backoff = { kind: "fixed", baseMs: 5, maxMs: 50, jitter: 0 } as const;
      const made = await store.admin.createQueue(queue("b"), { ...settings, backoff, paused: true });
      assertEquals(made, { name: "b", ...times, pausedAt: now, ...settings, backoff, isWorkflow: false });
      assertEquals(await queues.get("b"), made);
    }),
  );

  test(
    "queues.create() fills in what a back-off leaves open",
    inStore(context, async ({ store }) => {
      assertEquals((await store.admin.createQueue("a", { backoff: { baseMs: 7 } })).backoff, { ...BACKOFF, baseMs: 7 });
    }),
  );

  test(
    "queues.create() of a queue that is there is a StateError, or with ifMissing gives it as it is",
    inStore(context, async ({ store }) => {
      const { queues } = store.admin;
      const made = await queues.create("a", { maxAttempts: 2 });
      await assertRejects(() => queues.create("a"), StateError, 'Cannot create queue "a": it exists');
      assertEquals(await queues.create("a", { ifMissing: true, maxAttempts: 9 }), made);
      assertEquals((await queues.create("b", { ifMissing: true, maxAttempts: 9 })).maxAttempts, 9);
    }),
  );

  test(
    "queues.create() by many at once makes one queue",
    inStore(context, async ({ store }) => {
      const calls = Array.from({ length: 20 }, () => store.admin.createQueue("a", { ifMissing: true }));
      const made = await Promise.all(calls);
      assertEquals(new Set(made.map(({ createdAt }) => createdAt.getTime())).size, 1);
      const refused = await Promise.allSettled(Array.from({ length: 9 }, () => store.admin.createQueue("b")));
      assertEquals(refused.filter(({ status }) => status === "fulfilled").length, 1);
    }),
  );

  test(
    "queues.create() refuses settings that mean nothing",
    inStore(context, async ({ store }) => {
      const bad: [unknown, string][] = [
        [{ leaseMs: 0 }, "leaseMs"],
        [{ leaseMs: "1" }, "leaseMs"],
        [{ maxAttempts: 0 }, "maxAttempts"],
        [{ maxAttempts: null }, "maxAttempts"],
        [{ maxCrashes: 1.5 }, "maxCrashes"],
        [{ retentionMs: -1 }, "retentionMs"],
        [{ paused: 1 }, "paused"],
        [{ backoff: { kind: "linear" } }, "backoff.kind"],
        [{ backoff: { jitter: 2 } }, "backoff.jitter"],
        [{ backoff: { baseMs: -1 } }, "backoff.baseMs"],
        [{ backoff: { base_ms: 1 } }, 'did you mean "baseMs"?'],
        [{ retention: 1 }, 'did you mean "retentionMs"?'],
      ];
      for (const [options, text] of bad) {
        await assertRejects(() => store.admin.createQueue("a", options as never), Error, text);
        if (!("retention" in (options as object))) {
          await assertRejects(() => store.admin.queues.update("tasks", options as never), Error, text);
        }
      }
      assertEquals((await store.admin.queues.list()).map(({ name }) => name), ["tasks"]);
    }),
  );

  test(
    "queues.list() gives all queues by name, and get() of an unknown one is a NotFoundError",
    inStore(context, async ({ store }) => {
      for (const name of ["b", "a", "Z"]) await store.admin.createQueue(name);
      const names = (await store.admin.queues.list()).map(({ name }) => name);
      assertEquals(names.toSorted(), ["Z", "a", "b", "tasks"]);
      const line = 'store.admin.createQueue("no")';
      const calls: (() => Promise<unknown>)[] = [
        () => store.admin.queues.get("no"),
        () => store.admin.queues.update("no", { maxAttempts: 1 }),
        () => store.admin.queues.pause("no"),
        () => store.admin.queues.resume("no"),
        () => store.admin.queues.delete("no"),
        () => store.admin.queues.delete("no", { force: true }),
        () => store.admin.queues.purge("no"),
        () => store.admin.metrics("no"),
      ];
      for (const call of calls) await assertRejects(call, NotFoundError, line);
    }),
  );
}

function changing(context: Context): void {
  test(
    "queues.update() changes what it names and nothing else",
    inTime(context, async ({ store, clock }) => {
      const { queues } = store.admin;
      const before = await queues.get("tasks");
      clock.advance(1_000);
      const after = await queues.update("tasks", { maxAttempts: 9, leaseMs: 60_000, retentionMs: null });
      const kept = { retentionMs: null, deadRetentionMs: null };
      const changes = { maxAttempts: 9, leaseMs: 60_000, ...kept, updatedAt: new Date(clock.now) };
      assertEquals(after, { ...before, ...changes });
      assertEquals(await queues.update("tasks", { leaseMs: null }), { ...after, leaseMs: null });
      assertEquals(await queues.get("tasks"), { ...after, leaseMs: null });
    }),
  );

  test(
    "queues.update() leaves the limits of messages that are on the queue",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue(1);
      await store.admin.queues.update("tasks", { maxAttempts: 1 });
      assertEquals((await store.admin.messages.get(id))?.maxAttempts, 5);
      assertEquals((await producer.enqueue(2)).maxAttempts, 1);
    }),
  );

  test(
    "queues.pause() keeps the time at which it was first paused, and resume() ends it",
    inTime(context, async ({ store, clock }) => {
      const { queues } = store.admin;
      const paused = await queues.pause("tasks");
      assertEquals(paused.pausedAt, new Date(clock.now));
      clock.advance(1_000);
      assertEquals((await queues.pause("tasks")).pausedAt, paused.pausedAt);
      assertEquals((await queues.update("tasks", { paused: true })).pausedAt, paused.pausedAt);
      assertEquals((await queues.resume("tasks")).pausedAt, null);
      assertNotEquals((await queues.update("tasks", { paused: true })).pausedAt, null);
      assertEquals((await queues.update("tasks", { paused: false })).pausedAt, null);
    }),
  );
}

function emptying(context: Context): void {
  test(
    "queues.delete() is refused while the queue has live messages, unless it is forced",
    inStore(context, async ({ store, producer, consumer }) => {
      const { queues } = store.admin;
      await store.admin.createQueue("other");
      const other = await store.producer("other").enqueue("stays", { key: "k" });
      const [first] = await producer.enqueueMany([1, 2, 3], {
        each: (n) => ({ key: `${n}`, delayMs: n === 3 ? 1e6 : 0 }),
      });
      const leased = await takeOne(consumer);
      await assertRejects(() => queues.delete("tasks"), StateError, "use { force: true }");
      assertEquals(await store.admin.messages.count({ queue: "tasks" }), 3);
      assert(await consumer.archive(leased));
      await queues.delete("tasks", { force: true });
      await assertRejects(() => queues.get("tasks"), NotFoundError);
      await assertRejects(() => producer.enqueue(1), NotFoundError);
      assertEquals([await store.admin.messages.count(), await store.admin.archive.count()], [1, 0]);
      assertEquals(await store.admin.archive.get(first?.id ?? 0), null);
      assertEquals((await store.producer("other").enqueue("stays", { key: "k" })).id, other.id);
    }),
  );

  test(
    "queues.delete() of an unused queue takes its archive along",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueue(1);
      await consumer.archiveMany(await consumer.dequeue());
      await store.admin.queues.delete("tasks");
      assertEquals(await store.admin.archive.count(), 0);
      await store.admin.createQueue("tasks");
      assertEquals((await store.admin.metrics("tasks")).succeeded, 0);
    }),
  );

  test(
    "queues.purge() deletes what nobody has leased, and with force that too",
    inStore(context, async ({ store, producer, consumer }) => {
      const { queues, messages } = store.admin;
      await store.admin.createQueue("other");
      await store.producer("other").enqueue("stays");
      await producer.enqueueMany([1, 2, 3, 4]);
      await producer.enqueue(5, { delayMs: 1e6 });
      const leased = await takeOne(consumer);
      await consumer.archiveMany(await consumer.dequeue());
      assertEquals(await queues.purge("tasks"), 3);
      assertEquals((await messages.list({ queue: "tasks" })).items.map(({ id }) => id), [leased.id as number]);
      assertEquals(await queues.purge("tasks", { force: true }), 1);
      assertEquals(await queues.purge("tasks", { force: true }), 0);
      assertEquals([await messages.count(), await store.admin.archive.count()], [1, 1]);
      assertEquals(await consumer.archive(leased), false);
    }),
  );
}
