/** What `close` promises: nothing new is begun, what is under way ends by itself, and then everything is closed. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { DatabaseError, type Message, type Store } from "../../mod.ts";
import { type Context, inStore, type Place } from "./context.ts";

/** Defines the tests for one backend. */
export function closingContract(context: Context): void {
  describe(`close() on ${context.name}`, () => {
    refusing(context);
    finishing(context);
    waiting(context);
  });
}

/** Counts the live messages by another store, where there can be one. */
async function liveIn(context: Context, place: Place): Promise<number | undefined> {
  if (context.isAlone) return undefined;
  await using other = await place.connect();
  return await other.admin.messages.count();
}

async function assertClosed(...calls: (() => Promise<unknown>)[]): Promise<void> {
  for (const call of calls) {
    const error = await assertRejects(call, DatabaseError, "closed", String(call));
    assertEquals([error.reason, error.outcome], ["closed", "not_applied"], String(call));
  }
}

function everyCall(store: Store): (() => Promise<unknown>)[] {
  const [producer, consumer] = [store.producer("tasks"), store.consumer("tasks")];
  return [
    () => store.ping(),
    () => store.transaction((tx) => tx.query("select 1")),
    () => producer.enqueue(1),
    () => producer.enqueue(1, { key: "k" }),
    () => producer.enqueueMany([1, 2], { each: (n) => ({ key: `k${n}` }) }),
    () => producer.enqueue(1, { tx: () => Promise.resolve([]) }),
    () => consumer.dequeue(),
    () => consumer.dequeue({ waitMs: 60_000 }),
    () => consumer.archive(1),
    () => consumer.fail(1, new Error("no")),
    () => store.admin.install(),
    () => store.admin.verify(),
    () => store.admin.uninstall(),
    () => store.admin.metrics(),
    () => store.admin.messages.list(),
    () => store.admin.queues.purge("tasks"),
    () => store.admin.archive.purge(),
    () => store.admin.dead.replay({}),
  ];
}

function refusing(context: Context): void {
  test(
    "every call after close() is refused as not applied, and so is one that is made while others end",
    inStore(context, async ({ store }) => {
      let end = (): void => {};
      let enter = (): void => {};
      const mayEnd = new Promise<void>((resolve) => end = resolve);
      const hasEntered = new Promise<void>((resolve) => enter = resolve);
      const transaction = store.transaction(async () => {
        enter();
        await mayEnd;
      });
      await hasEntered;
      const closed = store.close();
      await assertClosed(...everyCall(store));
      end();
      await transaction;
      await closed;
      await assertClosed(...everyCall(store));
    }),
  );

  test(
    "close() may be called again, and at once: all of them end when the store is closed",
    inStore(context, async ({ place, store, producer }) => {
      const call = producer.enqueue(1);
      await Promise.all([store.close(), store.close()]);
      await call;
      await store.close();
      await assertClosed(() => store.ping());
      assertEquals(await liveIn(context, place) ?? 1, 1);
    }),
  );
}

function finishing(context: Context): void {
  test(
    "close() lets calls under way end by themselves: all that was made before is applied",
    inStore(context, async ({ place, store, producer, consumer }) => {
      await producer.enqueueMany(["a", "b", "c", "d"]);
      const [a, b, c, d] = await consumer.dequeue({ limit: 4 }) as [Message, Message, Message, Message];
      const calls = [
        producer.enqueue("one"),
        producer.enqueue("keyed", { key: "k" }),
        producer.enqueueMany(Array.from({ length: 2_500 }, (_, n) => n), { each: (n) => ({ key: `each ${n}` }) }),
        consumer.archive(a),
        consumer.fail(b.id, new Error("again")),
        consumer.releaseMany([c, d]),
        store.admin.createQueue("other"),
        store.admin.archive.purge({ queue: "other" }),
        store.admin.verify(),
        store.transaction(async (tx) => {
          await producer.enqueue("in a transaction", { tx });
          await new Promise((resolve) => setTimeout(resolve, 10));
          await producer.enqueue("after a while", { tx, key: "late" });
        }),
      ];
      await store.close();
      const results = await Promise.allSettled(calls);
      assertEquals(results.map((one) => one.status === "rejected" ? String(one.reason) : ""), calls.map(() => ""));
      assertEquals(await liveIn(context, place) ?? 2_507, 2_507);
    }),
  );

  test(
    "close() ends no sooner than a transaction, which is committed or rolled back as its promise says",
    inStore(context, async ({ place, store, producer }) => {
      let enter = (): void => {};
      const hasEntered = new Promise<void>((resolve) => enter = resolve);
      let isOver = false;
      const transaction = store.transaction(async (tx) => {
        await producer.enqueue("before", { tx });
        enter();
        await new Promise((resolve) => setTimeout(resolve, 10));
        await producer.enqueue("after", { tx });
        isOver = true;
      });
      await hasEntered;
      await store.close();
      assert(isOver);
      await transaction;
      assertEquals(await liveIn(context, place) ?? 2, 2);
    }),
  );

  test(
    "close() waits for a transaction that does not end no longer than its deadline",
    inStore(context, async ({ place, store, producer }) => {
      let enter = (): void => {};
      const hasEntered = new Promise<void>((resolve) => enter = resolve);
      const stuck = store.transaction(async (tx) => {
        await producer.enqueue("lost", { tx });
        enter();
        await new Promise(() => {});
      }, { timeoutMs: 300 });
      const ended = assertRejects(() => stuck, DatabaseError);
      await hasEntered;
      await store.close();
      assertEquals([(await ended).outcome, (await ended).reason], ["not_applied", "timeout"]);
      assertEquals(await liveIn(context, place) ?? 0, 0);
    }),
  );
}

function waiting(context: Context): void {
  test(
    "close() ends a dequeue() that waits, at once and without messages",
    inStore(context, async ({ store, consumer }) => {
      await consumer.dequeue();
      const resting = [60_000, 120_000].map((waitMs) => consumer.dequeue({ waitMs }));
      // A call that was made after them has been answered, so that these rest between two claims, or soon will.
      await store.ping();
      const signal = new AbortController().signal;
      resting.push(consumer.dequeue({ waitMs: 60_000, signal }));
      await store.close();
      assertEquals(await Promise.all(resting), [[], [], []]);
      await assertClosed(() => consumer.dequeue({ waitMs: 60_000 }));
    }),
  );

  test(
    "close() does not take messages away from a dequeue() that gets them",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueueMany([1, 2]);
      const messages = consumer.dequeue({ limit: 5, waitMs: 60_000 });
      await store.close();
      assertEquals((await messages).map(({ payload }) => payload), [1, 2]);
    }),
  );
}
