/** What `dequeue` promises: which messages, in which order, for how long. */
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { DatabaseError, type Message, NotFoundError } from "../../mod.ts";
import { type Context, inStore, inTime, takeOne } from "./context.ts";

/** Defines the tests for one backend. */
export function consumerContract(context: Context): void {
  describe(`consumer on ${context.name}`, () => {
    order(context);
    leases(context);
    waiting(context);
    filters(context);
    races(context);
  });
}

const payloadsOf = (messages: readonly Message[]): unknown[] => messages.map(({ payload }) => payload);

function order(context: Context): void {
  test(
    "dequeue() takes by priority, then by due time, then by id",
    inTime(context, async ({ producer, consumer, clock }) => {
      await producer.enqueue("late", { delayMs: 30 });
      await producer.enqueue("early", { delayMs: 10 });
      await producer.enqueueMany(["first", "second"]);
      await producer.enqueue("urgent but late", { priority: 9, delayMs: 50 });
      await producer.enqueue("urgent", { priority: 9, delayMs: 20 });
      clock.advance(100);
      const expected = ["urgent", "urgent but late", "first", "second", "early", "late"];
      assertEquals(payloadsOf(await consumer.dequeue({ limit: 4 })), expected.slice(0, 4));
      assertEquals(payloadsOf(await consumer.dequeue({ limit: 4 })), expected.slice(4));
    }),
  );

  test(
    "dequeue() takes one message unless told how many, and never more",
    inStore(context, async ({ producer, consumer }) => {
      await producer.enqueueMany(Array.from({ length: 25 }, (_, n) => n));
      assertEquals(payloadsOf(await consumer.dequeue()), [0]);
      assertEquals(payloadsOf(await consumer.dequeue({ limit: 10 })), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
      assertEquals((await consumer.dequeue({ limit: 100 })).length, 14);
      assertEquals(await consumer.dequeue({ limit: 100 }), []);
      for (const limit of [0, -1, 1.5, NaN, 10_001, "1" as never]) {
        await assertRejects(() => consumer.dequeue({ limit }), RangeError, "limit");
      }
    }),
  );

  test(
    "dequeue() fills its limit over several priorities and passes over those that are not due",
    inTime(context, async ({ producer, consumer }) => {
      const list = Array.from({ length: 20 }, (_, n) => n);
      const each = (n: unknown) => ({ priority: (n as number) % 10, delayMs: (n as number) < 10 ? 1_000 : 0 });
      await producer.enqueueMany(list, { each });
      assertEquals(payloadsOf(await consumer.dequeue({ limit: 7 })), [19, 18, 17, 16, 15, 14, 13]);
      assertEquals(payloadsOf(await consumer.dequeue({ limit: 7 })), [12, 11, 10]);
    }),
  );

  test(
    "dequeue() hands out a message with all that is known of it",
    inTime(context, async ({ store, producer, clock }) => {
      const sent = await producer.enqueue({ n: 1 }, { key: "k", headers: { type: "t" }, priority: 3, maxAttempts: 7 });
      clock.advance(1_000);
      const message = await takeOne(store.consumer("tasks", { name: "host#1" }), { leaseMs: 60_000 });
      assertEquals(message, {
        ...sent,
        state: "leased",
        leaseUntil: new Date(clock.now + 60_000),
        worker: "host#1",
      });
      assertEquals(await store.admin.messages.get(sent.id), message);
      // Nobody can log or forge a lease that is not a property.
      assertEquals(Object.keys(message).toSorted(), Object.keys(sent).toSorted());
    }),
  );
}

function leases(context: Context): void {
  const leaseOf = (message: Message | undefined, now: number): number => (message?.leaseUntil?.getTime() ?? 0) - now;

  test(
    "dequeue() leases for as long as the call says, else the queue, else the store",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      await producer.enqueueMany([1, 2, 3, 4]);
      assertEquals(leaseOf((await consumer.dequeue())[0], clock.now), 5_000);
      assertEquals(leaseOf((await consumer.dequeue({ leaseMs: 1 }))[0], clock.now), 1);
      await store.admin.queues.update("tasks", { leaseMs: 70_000 });
      assertEquals(leaseOf((await consumer.dequeue())[0], clock.now), 70_000);
      assertEquals(leaseOf((await consumer.dequeue({ leaseMs: 80_000 }))[0], clock.now), 80_000);
      for (const leaseMs of [0, -1, 1.5, NaN, Infinity]) {
        await assertRejects(() => consumer.dequeue({ leaseMs }), RangeError, "leaseMs");
      }
    }),
  );

  test(
    "dequeue() takes what an expired lease held, due from the end of the lease, and counts the crash",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      await producer.enqueueMany(["a", "b"]);
      const [first] = await consumer.dequeue({ leaseMs: 1_000 });
      clock.advance(999);
      assertEquals(payloadsOf(await consumer.dequeue({ limit: 9, leaseMs: 1_000 })), ["b"]);
      assertEquals(await consumer.dequeue(), []);
      clock.advance(1);
      const [again] = await store.consumer("tasks", { name: "bob" }).dequeue();
      assertEquals([again?.id, again?.crashes, again?.attempts, again?.worker], [first?.id, 1, 0, "bob"]);
      assertEquals([again?.payload, again?.visibleAt], ["a", first?.leaseUntil as Date]);
    }),
  );

  test(
    "dequeue() takes back the expired leases of its queue, and leaves those of others to theirs",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      await store.admin.createQueue("other");
      const { id } = await producer.enqueue(1);
      await consumer.dequeue({ leaseMs: 1_000 });
      clock.advance(1_000);
      const read = async () => {
        const message = await store.admin.messages.get(id);
        return [message?.state, message?.crashes, message?.worker];
      };
      assertEquals(await store.consumer("other").dequeue(), []);
      assertEquals(await read(), ["leased", 0, "ann"]);
      // Also by a claim that does not want the message.
      assertEquals(await store.consumer("tasks").dequeue({ type: "none" }), []);
      assertEquals(await read(), ["ready", 1, null]);
    }),
  );
}

function waiting(context: Context): void {
  test(
    "dequeue() with waitMs ends when a message comes",
    inStore(context, async ({ producer, consumer }) => {
      const begin = performance.now();
      const waiting = consumer.dequeue({ waitMs: 30_000 });
      await producer.enqueue("here");
      assertEquals(payloadsOf(await waiting), ["here"]);
      assert(performance.now() - begin < 30_000);
    }),
  );

  test(
    "dequeue() with waitMs ends when a delayed message is due",
    inStore(context, async ({ producer, consumer }) => {
      const { visibleAt } = await producer.enqueue("later", { delayMs: 300 });
      const [message] = await consumer.dequeue({ waitMs: 30_000, leaseMs: 10_000 });
      assertEquals(message?.payload, "later");
      assert((message?.leaseUntil?.getTime() ?? 0) - 10_000 >= visibleAt.getTime());
    }),
  );

  test(
    "dequeue() with waitMs ends with nothing when the time is up, and not before",
    inStore(context, async ({ consumer }) => {
      const begin = performance.now();
      assertEquals(await consumer.dequeue({ waitMs: 120 }), []);
      assert(performance.now() - begin >= 119);
      for (const waitMs of [-1, NaN, Infinity, 0.5]) {
        await assertRejects(() => consumer.dequeue({ waitMs }), RangeError, "waitMs");
      }
    }),
  );

  test(
    "dequeue() with waitMs ends with the reason of its signal, and takes nothing after",
    inStore(context, async ({ store, producer, consumer }) => {
      const aborted = { signal: AbortSignal.abort(new RangeError("before")) };
      await assertRejects(() => consumer.dequeue(aborted), RangeError, "before");
      const controller = new AbortController();
      const ended = assertRejects(() => consumer.dequeue({ waitMs: 30_000, signal: controller.signal }));
      // Between two claims, as a rule; one that is under way when it is aborted ends as unknown.
      await new Promise((resolve) => setTimeout(resolve, 60));
      controller.abort(new RangeError("enough"));
      const error = await ended;
      if (error instanceof DatabaseError) return assertEquals([error.reason, error.outcome], ["aborted", "unknown"]);
      assertEquals(error, new RangeError("enough"));
      const { id } = await producer.enqueue(1);
      assertEquals((await store.admin.messages.get(id))?.state, "ready");
    }),
  );

  test(
    "dequeue() of a paused queue takes nothing; what is leased goes on",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueueMany([1, 2]);
      const message = await takeOne(consumer);
      await store.admin.queues.pause("tasks");
      assertEquals(await consumer.dequeue({ limit: 9 }), []);
      assert(await consumer.extend(message, 60_000));
      assert(await consumer.archive(message));
      await store.admin.queues.resume("tasks");
      assertEquals(payloadsOf(await consumer.dequeue({ limit: 9 })), [2]);
    }),
  );

  test(
    "dequeue() of an unknown queue is a NotFoundError with the line to write",
    inStore(context, async ({ store }) => {
      const line = 'store.admin.createQueue("nowhere")';
      await assertRejects(() => store.consumer("nowhere").dequeue(), NotFoundError, line);
      await assertRejects(() => store.consumer("nowhere").dequeue({ waitMs: 30_000 }), NotFoundError, line);
    }),
  );
}

function filters(context: Context): void {
  test(
    "dequeue() with a type takes only messages of that type, in the same order",
    inStore(context, async ({ producer, consumer }) => {
      const types = ["a", "b", "", "a", "b", "a"];
      await producer.enqueueMany(types.map((_, n) => n), {
        each: (_, i) => ({ priority: i === 5 ? 9 : 0, headers: { type: types[i] as string } }),
      });
      assertEquals(payloadsOf(await consumer.dequeue({ type: "a", limit: 2 })), [5, 0]);
      assertEquals(payloadsOf(await consumer.dequeue({ type: "none", limit: 9 })), []);
      assertEquals(payloadsOf(await consumer.dequeue({ type: "b", limit: 9 })), [1, 4]);
      assertEquals(payloadsOf(await consumer.dequeue({ limit: 9 })), [2, 3]);
      for (const type of ["", "a\0", 1 as never, null as never]) {
        await assertRejects(() => consumer.dequeue({ type }), Error, "type");
      }
    }),
  );

  test(
    "dequeue() names the option that was probably meant",
    inStore(context, async ({ consumer }) => {
      await assertRejects(() => consumer.dequeue({ lease: 1 } as never), TypeError, 'did you mean "leaseMs"?');
      await assertRejects(() => consumer.dequeue({ limt: 1 } as never), TypeError, 'did you mean "limit"?');
      await assertRejects(() => consumer.dequeue(5 as never), TypeError, "must be an object");
    }),
  );

  test(
    "consumer() takes a name of 1 to 200 bytes",
    inStore(context, async ({ store }) => {
      assertEquals(store.consumer("tasks").name, "consumer");
      assertEquals(store.consumer("tasks", { name: "é".repeat(100) }).queue, "tasks");
      for (const name of ["", "é".repeat(101), "a\0", 1 as never]) {
        await assertRejects(() => Promise.resolve().then(() => store.consumer("tasks", { name })), Error, "name");
      }
    }),
  );
}

function races(context: Context): void {
  test(
    "dequeue() by many consumers at once gives each message to one of them",
    inStore(context, async ({ place, store, producer }) => {
      await using second = context.isAlone ? null : await place.connect();
      await producer.enqueueMany(Array.from({ length: 400 }, (_, n) => n));
      const stores = [store, second ?? store];
      const claims = Array.from({ length: 8 }, async (_, i) => {
        const consumer = stores[i % 2]!.consumer("tasks", { name: "same" });
        const taken: number[] = [];
        for (;;) {
          const messages = await consumer.dequeue({ limit: 7, leaseMs: 60_000 });
          if (messages.length === 0) return taken;
          taken.push(...messages.map(({ id }) => id));
          assertEquals((await consumer.archiveMany(messages)).includes(false), false);
        }
      });
      const taken = (await Promise.all(claims)).flat();
      assertEquals([taken.length, new Set(taken).size], [400, 400]);
      assertEquals(await store.admin.archive.count(), 400);
    }),
  );

  test(
    "dequeue() never gives two deliveries of a message one lease",
    inTime(context, async ({ producer, consumer, clock }) => {
      await producer.enqueue(1);
      const deliveries: Message[] = [];
      for (let i = 0; i < 3; i++) {
        deliveries.push(...await consumer.dequeue({ leaseMs: 10 }));
        clock.advance(10);
      }
      const [last, ...lost] = deliveries.toReversed();
      assertNotEquals(last, undefined);
      // The same consumer, the same message: only the last delivery counts.
      for (const message of lost) assertEquals(await consumer.archive(message), false);
      assertEquals(await consumer.archive(last as Message), true);
    }),
  );
}
