/** What settling promises: it holds for whoever has the lease, and changes nothing for everybody else. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import type { Consumer, Message } from "../../mod.ts";
import { type Context, inStore, inTime, takeOne } from "./context.ts";

/** Every settling, by a name for the messages of the tests. */
const SETTLINGS: Readonly<Record<string, (consumer: Consumer, messages: (Message | number)[]) => Promise<boolean[]>>> =
  {
    archiveMany: (consumer, messages) => consumer.archiveMany(messages),
    deleteMany: (consumer, messages) => consumer.deleteMany(messages),
    releaseMany: (consumer, messages) => consumer.releaseMany(messages),
    failMany: (consumer, messages) => consumer.failMany(messages, new Error("no")),
    extendMany: (consumer, messages) => consumer.extendMany(messages, 60_000),
  };

/** Defines the tests for one backend. */
export function settleContract(context: Context): void {
  describe(`settling on ${context.name}`, () => {
    fences(context);
    archiving(context);
    releasing(context);
    extending(context);
    operators(context);
  });
}

function fences(context: Context): void {
  for (const [name, settle] of Object.entries(SETTLINGS)) {
    test(
      `${name}() tells of held, lost, foreign, settled and unknown messages in the order of the list`,
      inTime(context, async ({ store, producer, consumer, clock }) => {
        await producer.enqueue("lost");
        const bob = store.consumer("tasks", { name: "bob" });
        const [lost] = await consumer.dequeue({ leaseMs: 10 });
        clock.advance(10);
        const taken = await takeOne(bob, { leaseMs: 60_000 });
        await producer.enqueueMany([1, 2, 3, 4, 5]);
        assertEquals(taken.id, lost?.id);
        const foreign = await takeOne(bob, { leaseMs: 60_000 });
        const [settled, held, byId, last] = await consumer.dequeue({ limit: 4, leaseMs: 60_000 });
        assert(await consumer.delete(settled as Message));
        const before = await store.admin.messages.get(taken.id);
        const list = [held, lost, 999_999, byId?.id, foreign.id, settled, last, lost?.id] as (Message | number)[];
        assertEquals(await settle(consumer, list), [true, false, false, true, false, false, true, false]);
        assertEquals(await store.admin.messages.get(taken.id), before);
        assertEquals((await store.admin.messages.get(foreign.id))?.worker, "bob");
        // A message that was handed out to another consumer object is settled under its own lease.
        assertEquals(await settle(consumer, [taken, foreign]), [true, true]);
        assertEquals(await settle(consumer, []), []);
      }),
    );

    test(
      `${name}() by id alone is refused to another consumer of the same name`,
      inStore(context, async ({ store, producer, consumer }) => {
        await producer.enqueue(1);
        const message = await takeOne(consumer, { leaseMs: 60_000 });
        const id = message.id;
        const twin = store.consumer("tasks", { name: consumer.name });
        assertEquals(await settle(twin, [id]), [false]);
        assertEquals(await settle(consumer, [id]), [true]);
      }),
    );

    test(
      `${name}() of a message twice in one list, or of two deliveries of it, settles it once`,
      inTime(context, async ({ store, producer, consumer, clock }) => {
        const { id } = await producer.enqueue(1);
        const [old] = await consumer.dequeue({ leaseMs: 10 });
        clock.advance(10);
        const [message] = await consumer.dequeue({ leaseMs: 60_000 });
        const list = [old, message, message] as Message[];
        assertEquals(await settle(consumer, list), [false, true, true]);
        const live = await store.admin.messages.get(id);
        const ended = await store.admin.archive.get(id);
        assertEquals((live === null ? 0 : 1) + (ended === null ? 0 : 1), name === "deleteMany" ? 0 : 1);
        if (name === "failMany") assertEquals(live?.attempts, 1);
      }),
    );

    test(
      `${name}() of an expired lease that nobody took is accepted`,
      inTime(context, async ({ producer, consumer, clock }) => {
        await producer.enqueue(1);
        const message = await takeOne(consumer, { leaseMs: 10 });
        clock.advance(3_600_000);
        assertEquals(await settle(consumer, [message]), [true]);
      }),
    );

    test(
      `${name}() refuses what is no message, before anything is sent`,
      inStore(context, async ({ store, consumer }) => {
        await store.close();
        for (const bad of [0, -1, 1.5, NaN, null, undefined, "1", {}, { id: 0 }, 2 ** 53]) {
          await assertRejects(() => settle(consumer, [bad as never]), TypeError, "id of a message");
        }
      }),
    );
  }

  test(
    "archiveMany() takes lists of thousands",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueueMany(Array.from({ length: 4_500 }, (_, n) => n));
      const messages = await consumer.dequeue({ limit: 4_500, leaseMs: 60_000 });
      const half = messages.filter((_, i) => i % 2 === 0);
      assertEquals((await consumer.releaseMany(half)).every(Boolean), true);
      const held = await consumer.archiveMany(messages);
      assertEquals(held.filter(Boolean).length, 2_250);
      assertEquals(held.slice(0, 4), [false, true, false, true]);
      assertEquals(await store.admin.archive.count(), 2_250);
    }),
  );
}

function archiving(context: Context): void {
  test(
    "archive() keeps who, why, what came of it and how long it took",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const sent = await producer.enqueue({ n: 1 }, { key: "k", headers: { type: "t" }, priority: 2 });
      clock.advance(500);
      const message = await takeOne(consumer);
      clock.advance(1_234);
      assert(await consumer.archive(message, { reason: "completed", result: { ok: [1] } }));
      assertEquals(await store.admin.messages.get(sent.id), null);
      assertEquals(await store.admin.archive.get(sent.id), {
        ...sent,
        state: "succeeded",
        outcome: "succeeded",
        reason: "completed",
        result: { ok: [1] },
        archivedAt: new Date(clock.now),
        archivedBy: "ann",
        processingMs: 1_234,
      });
    }),
  );

  test(
    "archive() without reason or result keeps null, and with a null result keeps that",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueueMany([1, 2]);
      const [first, second] = await consumer.dequeue({ limit: 2 });
      assert(await consumer.archive(first as Message));
      assert(await consumer.archive((second as Message).id, { result: null, reason: "r" }));
      const archived = await store.admin.archive.get((first as Message).id);
      assertEquals([archived?.reason, archived?.result, archived?.error], [null, null, null]);
      assertEquals((await store.admin.archive.get((second as Message).id))?.archivedBy, "ann");
    }),
  );

  test(
    "archive() refuses reasons and options that it cannot keep",
    inStore(context, async ({ producer, consumer }) => {
      await producer.enqueue(1);
      const message = await takeOne(consumer);
      for (const reason of ["", "x".repeat(1_001), "\0", "\ud800", 1 as never]) {
        await assertRejects(() => consumer.archive(message, { reason }), Error, "reason");
      }
      const wrong = { reasn: "x" } as never;
      await assertRejects(() => consumer.archive(message, wrong), TypeError, 'did you mean "reason"?');
      await assertRejects(() => consumer.release(message, { delay: 1 } as never), TypeError, '"delayMs"');
      await assertRejects(() => consumer.fail(message, 0, { retries: 1 } as never), TypeError, '"retry"');
      assert(await consumer.archive(message, { reason: "'; drop table x; -- 世界" }));
    }),
  );

  test(
    "delete() leaves nothing behind",
    inStore(context, async ({ store, producer, consumer }) => {
      const { id } = await producer.enqueue(1);
      const message = await takeOne(consumer);
      assertEquals([await consumer.delete(message), await consumer.delete(message)], [
        true,
        false,
      ]);
      assertEquals([await store.admin.messages.get(id), await store.admin.archive.get(id)], [null, null]);
    }),
  );
}

function releasing(context: Context): void {
  test(
    "release() gives a message back at once or after a while, and counts nothing",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const { id } = await producer.enqueue(1);
      const first = await takeOne(consumer);
      assert(await consumer.release(first));
      const second = await takeOne(consumer);
      assertEquals([second.id, second.attempts, second.crashes], [id, 0, 0]);
      assert(await consumer.release(second, { delayMs: 1_000 }));
      const waiting = await store.admin.messages.get(id);
      assertEquals([waiting?.state, waiting?.visibleAt], ["delayed", new Date(clock.now + 1_000)]);
      assertEquals([waiting?.worker, waiting?.leaseUntil], [null, null]);
      clock.advance(999);
      assertEquals(await consumer.dequeue(), []);
      clock.advance(1);
      assertEquals((await consumer.dequeue()).length, 1);
      for (const delayMs of [-1, NaN, 0.5]) {
        await assertRejects(() => consumer.release(id, { delayMs }), RangeError, "delayMs");
      }
    }),
  );
}

function extending(context: Context): void {
  test(
    "extend() counts from now and never shortens a lease",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const { id } = await producer.enqueue(1);
      const message = await takeOne(consumer, { leaseMs: 10_000 });
      const until = async () => ((await store.admin.messages.get(id))?.leaseUntil?.getTime() ?? 0) - clock.now;
      clock.advance(4_000);
      assert(await consumer.extend(message, 8_000));
      assertEquals(await until(), 8_000);
      assert(await consumer.extend(message, 3_000));
      assertEquals(await until(), 8_000);
      // A lease that has run out and that nobody took counts again.
      clock.advance(9_000);
      assert(await consumer.extend(message, 1_000));
      assertEquals(await until(), 1_000);
      assertEquals(await consumer.dequeue(), []);
      assertEquals((await store.admin.messages.get(id))?.crashes, 0);
      for (const leaseMs of [0, -1, NaN, Infinity]) {
        await assertRejects(() => consumer.extend(message, leaseMs), RangeError, "leaseMs");
      }
    }),
  );
}

function operators(context: Context): void {
  test(
    "settling a message that an operator took away is refused, and leaves it as the operator wants it",
    inStore(context, async ({ store, producer, consumer }) => {
      const { messages, archive } = store.admin;
      const takings: ((id: number) => Promise<unknown>)[] = [
        (id) => messages.archive(id),
        (id) => messages.cancel(id),
        (id) => messages.delete(id),
        (id) => messages.release(id),
        (id) => messages.update(id, { priority: 3 }),
        () => store.admin.workers.release("ann"),
        () => store.admin.queues.purge("tasks", { force: true }),
      ];
      for (const take of takings) {
        await producer.enqueueMany(Object.keys(SETTLINGS));
        const leased = await consumer.dequeue({ limit: 9, leaseMs: 60_000 });
        for (const { id } of leased) await take(id);
        const before = [await messages.list(), await archive.list()];
        for (const [i, settle] of Object.values(SETTLINGS).entries()) {
          const message = leased[i] as Message;
          assertEquals(await settle(consumer, [message, message.id]), [false, false]);
        }
        assertEquals([await messages.list(), await archive.list()], before);
        await store.admin.queues.purge("tasks", { force: true });
      }
    }),
  );
}
