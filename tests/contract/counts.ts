/** What is counted of a message, and when it becomes a dead letter. */
import { assert, assertEquals, assertGreaterOrEqual, assertLessOrEqual, assertNotMatch } from "@std/assert";
import { describe, test } from "node:test";
import type { Message } from "../../mod.ts";
import { type Context, inTime, type Scene, takeOne } from "./context.ts";

/** Defines the tests for one backend. */
export function countsContract(context: Context): void {
  describe(`counts on ${context.name}`, () => {
    counting(context);
    deadLetters(context);
    pauses(context);
    errors(context);
  });
}

function claim({ consumer }: Scene, leaseMs = 1_000): Promise<Message> {
  return takeOne(consumer, { leaseMs });
}

function counting(context: Context): void {
  test(
    "attempts count reported failures, crashes expired leases, and a release neither",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      const { id } = await producer.enqueue(1);
      const counts = async () => {
        const message = await store.admin.messages.get(id);
        return [message?.attempts, message?.crashes];
      };
      await consumer.fail(await claim(scene), new Error("one"), { delayMs: 0 });
      assertEquals(await counts(), [1, 0]);
      await consumer.release(await claim(scene));
      assertEquals(await counts(), [1, 0]);
      await claim(scene);
      clock.advance(1_000);
      const again = await claim(scene);
      assertEquals([again.attempts, again.crashes], [1, 1]);
      await consumer.fail(again, new Error("two"), { delayMs: 0 });
      assertEquals(await counts(), [2, 1]);
      const last = await claim(scene);
      assertEquals([last.attempts, last.crashes, last.error?.message], [2, 1, "two"]);
      assert(await consumer.archive(last));
      const archived = await store.admin.archive.get(id);
      assertEquals([archived?.attempts, archived?.crashes, archived?.error?.message], [2, 1, "two"]);
    }),
  );

  test(
    "a crash counts for the message that was leased, once for each lease",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      await producer.enqueueMany([1, 2, 3]);
      const messages = await consumer.dequeue({ limit: 3, leaseMs: 1_000 });
      await consumer.archive(messages[0] as Message);
      clock.advance(1_000);
      for (let i = 0; i < 3; i++) assertEquals(await store.consumer("tasks").dequeue({ type: "none" }), []);
      const list = (await store.admin.messages.list()).items;
      assertEquals(list.map(({ crashes, attempts }) => [crashes, attempts]), [[1, 0], [1, 0]]);
    }),
  );
}

function deadLetters(context: Context): void {
  test(
    "fail() at maxAttempts makes a dead letter with its reason, error and counts",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      const { id } = await producer.enqueue({ n: 1 }, { maxAttempts: 3 });
      for (const text of ["one", "two", "three"]) {
        assert(await consumer.fail(await claim(scene), new RangeError(text), { delayMs: 0 }));
        clock.advance(1);
      }
      assertEquals(await store.admin.messages.get(id), null);
      const dead = await store.admin.archive.get(id);
      assertEquals([dead?.outcome, dead?.reason, dead?.attempts, dead?.crashes], ["failed", "attempts", 3, 0]);
      assertEquals([dead?.error?.name, dead?.error?.message], ["RangeError", "three"]);
      assertEquals([dead?.archivedBy, dead?.processingMs, dead?.payload], ["ann", 0, { n: 1 }]);
      assertEquals((await store.admin.dead.list()).items, [dead as never]);
    }),
  );

  test(
    "fail() without retry makes a dead letter at once",
    inTime(context, async (scene) => {
      const { store, producer, consumer } = scene;
      const { id } = await producer.enqueue(1);
      assert(await consumer.fail(await claim(scene), "gone", { retry: false }));
      const dead = await store.admin.archive.get(id);
      assertEquals([dead?.outcome, dead?.reason, dead?.attempts], ["failed", "not_retryable", 1]);
      assertEquals(dead?.error, { name: "Error", message: "gone" });
    }),
  );

  test(
    "an expired lease at maxCrashes makes a dead letter by itself, with the last error",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      await store.admin.queues.update("tasks", { maxCrashes: 2 });
      const { id } = await producer.enqueue(1);
      await consumer.fail(await claim(scene), new Error("reported"), { delayMs: 0 });
      await claim(scene);
      clock.advance(1_000);
      await claim(scene, 700);
      clock.advance(5_000);
      // Whoever claims next, of whatever, puts it away.
      assertEquals(await store.consumer("tasks", { name: "bob" }).dequeue(), []);
      const dead = await store.admin.archive.get(id);
      assertEquals([dead?.outcome, dead?.reason, dead?.attempts, dead?.crashes], ["failed", "crashes", 1, 2]);
      assertEquals([dead?.error?.message, dead?.archivedBy, dead?.processingMs], ["reported", "ann", 5_000]);
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );

  test(
    "every message ends after at most maxAttempts + maxCrashes deliveries",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      await store.admin.queues.update("tasks", { maxCrashes: 3, maxAttempts: 2 });
      const { id } = await producer.enqueue(1);
      let deliveries = 0;
      for (let i = 0; i < 20; i++) {
        const [message] = await consumer.dequeue({ leaseMs: 10 });
        if (message === undefined) break;
        deliveries++;
        if (i % 3 === 0) await consumer.fail(message, new Error("no"), { delayMs: 0 });
        clock.advance(10);
      }
      assertLessOrEqual(deliveries, 5);
      assertEquals((await store.admin.archive.get(id))?.outcome, "failed");
    }),
  );

  test(
    "failMany() ends those at their limit and gives the others back",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const messages = await producer.enqueueMany([1, 2, 3, 4], { each: (_, i) => ({ maxAttempts: 1 + i % 2 }) });
      const leased = await consumer.dequeue({ limit: 4 });
      assertEquals(await consumer.failMany(leased, new Error("no"), { delayMs: 1_000 }), [true, true, true, true]);
      const ids = messages.map(({ id }) => id);
      assertEquals((await store.admin.dead.list()).items.map(({ id }) => id), [ids[2], ids[0]] as number[]);
      clock.advance(1_000);
      const again = await consumer.dequeue({ limit: 4 });
      assertEquals(again.map(({ id }) => id), [ids[1], ids[3]] as number[]);
      assertEquals(again.map(({ attempts, maxAttempts }) => [attempts, maxAttempts]), [[1, 2], [1, 2]]);
    }),
  );
}

function pauses(context: Context): void {
  const waited = async ({ store, clock }: Scene, id: number) =>
    ((await store.admin.messages.get(id))?.visibleAt.getTime() ?? 0) - clock.now;

  test(
    "fail() waits as the queue says: doubling, capped, and with its part left to chance",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      const backoff = { baseMs: 1_000, maxMs: 6_000, jitter: 0.5 };
      await store.admin.queues.update("tasks", { backoff });
      const { id } = await producer.enqueue(1, { maxAttempts: 9 });
      for (const pause of [1_000, 2_000, 4_000, 6_000, 6_000]) {
        assert(await consumer.fail(await claim(scene), new Error("no")));
        const ms = await waited(scene, id);
        assertGreaterOrEqual(ms, pause * 0.5);
        assertLessOrEqual(ms, Math.min(pause * 1.5, 6_000));
        clock.advance(ms);
      }
    }),
  );

  test(
    "fail() waits exactly as the queue says when nothing is left to chance",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      await store.admin.queues.update("tasks", { backoff: { baseMs: 100, maxMs: 350, jitter: 0 } });
      const { id } = await producer.enqueue(1, { maxAttempts: 9 });
      for (const pause of [100, 200, 350, 350]) {
        const message = await claim(scene);
        // By id alone it is the same.
        assert(await consumer.fail(pause === 200 ? message.id : message, new Error("no")));
        assertEquals(await waited(scene, id), pause);
        clock.advance(pause - 1);
        assertEquals(await consumer.dequeue(), []);
        clock.advance(1);
      }
      await store.admin.queues.update("tasks", { backoff: { kind: "fixed", baseMs: 70, jitter: 0 } });
      await consumer.fail(await claim(scene), new Error("no"));
      assertEquals(await waited(scene, id), 70);
    }),
  );

  test(
    "fail() with delayMs waits for just that",
    inTime(context, async (scene) => {
      const { id } = await scene.producer.enqueue(1);
      assert(await scene.consumer.fail(await claim(scene), new Error("no"), { delayMs: 12_345 }));
      assertEquals(await waited(scene, id), 12_345);
    }),
  );
}

function errors(context: Context): void {
  test(
    "fail() keeps the name, message, code and causes of whatever was thrown, within bounds",
    inTime(context, async (scene) => {
      const { store, producer, consumer } = scene;
      const cause = Object.assign(new TypeError("inner \0 \ud800"), { code: "E42", secret: "s3cret" });
      const thrown: [unknown, Record<string, unknown>][] = [
        [new RangeError("outer", { cause }), { name: "RangeError", message: "outer" }],
        ["text", { name: "Error", message: "text" }],
        [undefined, { name: "Error", message: "undefined" }],
        [{ message: "like an error" }, { name: "Error", message: "like an error" }],
        [new Error("x".repeat(100_000)), { name: "Error" }],
      ];
      const { id } = await producer.enqueue(1, { maxAttempts: 99 });
      for (const [error, expected] of thrown) {
        assert(await consumer.fail(await claim(scene), error, { delayMs: 0 }));
        const stored = (await store.admin.messages.get(id))?.error;
        for (const [name, value] of Object.entries(expected)) assertEquals(stored?.[name as "name"], value as string);
        assert(JSON.stringify(stored).length <= 16_384);
        assertNotMatch(JSON.stringify(stored), /s3cret/);
      }
      await consumer.fail(await claim(scene), new RangeError("outer", { cause }), { retry: false });
      const dead = await store.admin.archive.get(id);
      assertEquals([dead?.error?.cause?.name, dead?.error?.cause?.code], ["TypeError", "E42"]);
      assertEquals(dead?.error?.cause?.message, "inner \ufffd \ufffd");
    }),
  );
}
