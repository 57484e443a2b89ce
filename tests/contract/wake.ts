/** Hints in one process: whoever waits for a message gets it without having to look for it. */
import { assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { Config, connect, type Consumer, type Message, type Producer, type Store } from "../../mod.ts";
import { type Context, takeOne } from "./context.ts";

/** A store that hardly ever looks without a hint, and hears none of other processes. */
interface Quiet {
  readonly store: Store;
  readonly producer: Producer;
  readonly consumer: Consumer;
  /** Begins to wait for a message, does something, and resolves to what came. Rejects when nothing comes for long. */
  during(work: () => Promise<unknown>): Promise<Message[]>;
}

/** Defines the tests for one backend. */
export function wakeContract(context: Context): void {
  describe(`hints in one process on ${context.name}`, () => {
    enqueuing(context);
    givingBack(context);
    silence(context);
  });
}

function inQuiet(
  context: Context,
  work: (quiet: Quiet) => Promise<void>,
  patienceMs = 20_000,
): () => Promise<void> {
  return async () => {
    const place = await context.place();
    try {
      const config = Config.fromDsn(place.dsn, { schema: place.schema, pollIntervalMs: 600_000 });
      await using store = await connect(config, { listen: false });
      await store.admin.install();
      await store.admin.createQueue("tasks");
      const waiter = store.consumer("tasks");
      await work({
        store,
        producer: store.producer("tasks"),
        consumer: store.consumer("tasks"),
        during: async (work) => {
          const signal = AbortSignal.timeout(patienceMs);
          const waiting = waiter.dequeue({ waitMs: 600_000, leaseMs: 60_000, signal });
          waiting.catch(() => {});
          // By then the first claim has found nothing.
          for (let i = 0; i < 3; i++) await store.ping();
          await work();
          return await waiting;
        },
      });
    } finally {
      await place.close();
    }
  };
}

function enqueuing(context: Context): void {
  test(
    "enqueue() and enqueueMany() end a dequeue() that waits",
    inQuiet(context, async ({ producer, during }) => {
      assertEquals((await during(() => producer.enqueue(1))).map(({ payload }) => payload), [1]);
      assertEquals((await during(() => producer.enqueueMany([2]))).map(({ payload }) => payload), [2]);
      assertEquals((await during(() => producer.enqueue(3, { key: "k" }))).map(({ payload }) => payload), [3]);
    }),
  );

  test(
    "enqueue() in store.transaction() ends a dequeue() that waits at the commit",
    inQuiet(context, async ({ store, producer, during }) => {
      const came = await during(() =>
        store.transaction(async (tx) => {
          await producer.enqueue(1, { tx });
          await producer.enqueueMany([2, 3], { tx });
        })
      );
      assertEquals(came.map(({ payload }) => payload), [1]);
    }),
  );
}

function givingBack(context: Context): void {
  test(
    "whatever makes a message claimable ends a dequeue() that waits",
    inQuiet(context, async ({ store, producer, consumer, during }) => {
      const { admin } = store;
      const { id } = await producer.enqueue(1);
      let held = await takeOne(consumer, { leaseMs: 60_000 });
      const ways: (() => Promise<unknown>)[] = [
        () => consumer.release(held),
        () => consumer.fail(held, new Error("no"), { delayMs: 0 }),
        () => admin.messages.release(id),
        () => admin.messages.update(id, { priority: 9 }),
        () => admin.workers.release("consumer"),
        async () => {
          await consumer.fail(held, new Error("no"), { retry: false });
          await admin.dead.replay(id);
        },
        async () => {
          await consumer.archive(held);
          await admin.archive.replay(id);
        },
        async () => {
          await admin.queues.pause("tasks");
          await consumer.release(held);
          await admin.queues.resume("tasks");
        },
      ];
      for (const way of ways) {
        const [message] = await during(way);
        assertEquals(message?.id, id, String(way));
        held = message as Message;
      }
    }),
  );
}

function silence(context: Context): void {
  test(
    "what is rolled back, for another queue, or enqueued with notify: false gives no hint",
    inQuiet(context, async ({ store, producer, during }) => {
      await store.admin.createQueue("others");
      const nothing = during(async () => {
        await assertRejects(() =>
          store.transaction(async (tx) => {
            await producer.enqueue(1, { tx });
            throw new RangeError("rolled back");
          }), RangeError);
        await store.producer("others").enqueue(2);
        await producer.enqueue(3, { notify: false });
        await producer.enqueueMany([4], { notify: false });
      });
      await assertRejects(() => nothing, DOMException);
      assertEquals(await store.admin.messages.count({ queue: "tasks", state: "ready" }), 2);
    }, 300),
  );

  test(
    "notify has to be a boolean",
    inQuiet(context, async ({ producer }) => {
      await assertRejects(() => producer.enqueue(1, { notify: 1 as never }), TypeError, "notify");
      await assertRejects(() => producer.enqueueMany([1], { notify: "no" as never }), TypeError, "notify");
    }),
  );
}
