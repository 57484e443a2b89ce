/** What a message says of its own: how long it is of use, how often and after which pauses it is tried again. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { job, type Message } from "../../mod.ts";
import { until } from "../support/until.ts";
import { type Context, inStore, inTime, type Scene, takeOne } from "./context.ts";

/** Defines the tests for one backend. */
export function lifetimeContract(context: Context): void {
  describe(`lifetime on ${context.name}`, () => {
    timeToLive(context);
    lateForWorkers(context);
    retries(context);
  });
}

function idsOf(messages: readonly Message[]): number[] {
  return messages.map(({ id }) => id);
}

function timeToLive(context: Context): void {
  test(
    "ttlMs: what was not begun in time ends as cancelled because it expired",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const message = await producer.enqueue(1, { ttlMs: 1_000 });
      const inTime = await producer.enqueue(2, { ttlMs: 1_001 });
      assertEquals(message.expiresAt, new Date(clock.now + 1_000));
      assertEquals((await store.admin.messages.get(message.id))?.expiresAt, message.expiresAt);
      clock.advance(1_000);
      const [taken] = await consumer.dequeue({ limit: 9 });
      assertEquals([taken?.id, taken?.expiresAt], [inTime.id, inTime.expiresAt]);
      const ended = await store.admin.archive.get(message.id);
      assertEquals([ended?.outcome, ended?.reason, ended?.archivedBy], ["cancelled", "expired", "ann"]);
      assertEquals([ended?.expiresAt, ended?.processingMs, ended?.archivedAt], [
        message.expiresAt,
        null,
        new Date(clock.now),
      ]);
      // What was begun in time may take as long as it needs.
      clock.advance(2_000);
      assert(await consumer.archive(taken as Message));
      assertEquals((await store.admin.metrics("tasks")).cancelled, 1);
    }),
  );

  test(
    "ttlMs counts from when the message is due for the first time",
    inTime(context, async ({ producer, consumer, clock }) => {
      const { id, expiresAt } = await producer.enqueue(1, { delayMs: 60_000, ttlMs: 1_000 });
      assertEquals(expiresAt, new Date(clock.now + 61_000));
      const later = await producer.enqueue(2, { at: new Date(clock.now + 62_000), ttlMs: 1_000 });
      assertEquals(later.expiresAt, new Date(clock.now + 63_000));
      clock.advance(60_999);
      assertEquals(idsOf(await consumer.dequeue({ limit: 9 })), [id]);
    }),
  );

  test(
    "ttlMs holds for every delivery: another attempt that comes too late is dropped with the error of the last",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      const failed = await producer.enqueue(1, { ttlMs: 1_000 });
      await consumer.fail(await takeOne(consumer), new Error("not yet"), { delayMs: 999 });
      const crashed = await producer.enqueue(2, { ttlMs: 1_000 });
      await takeOne(consumer, { leaseMs: 500 });
      const released = await producer.enqueue(3, { ttlMs: 1_000 });
      await consumer.release(await takeOne(consumer), { delayMs: 1_500 });
      clock.advance(999);
      // One millisecond before the end another attempt of the first two is as good as the first.
      assertEquals(idsOf(await consumer.dequeue({ limit: 9, leaseMs: 1 })), [crashed.id, failed.id]);
      clock.advance(1);
      await consumer.dequeue({ limit: 9 });
      clock.advance(600);
      assertEquals(await consumer.dequeue({ limit: 9 }), []);
      const ended = await Promise.all([failed, crashed, released].map(({ id }) => store.admin.archive.get(id)));
      assertEquals(ended.map((one) => [one?.reason, one?.attempts, one?.crashes, one?.error?.message]), [
        ["expired", 1, 1, "not yet"],
        ["expired", 0, 2, undefined],
        ["expired", 0, 0, undefined],
      ]);
    }),
  );

  test(
    "ttlMs: what has expired and is replayed lives for ever",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const { id } = await producer.enqueue(1, { ttlMs: 1 });
      clock.advance(1);
      assertEquals(await consumer.dequeue(), []);
      assert(await store.admin.archive.replay(id));
      clock.advance(10_000_000);
      const message = await takeOne(consumer);
      assertEquals([message.id, message.expiresAt], [id, null]);
    }),
  );

  test(
    "ttlMs: any number that has expired does not keep others from being delivered",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const each = (_: unknown, n: number) => ({ ttlMs: n < 450 ? 1 : 60_000, priority: n % 2 });
      const messages = await producer.enqueueMany(Array.from({ length: 451 }, (_, n) => n), { each });
      clock.advance(1);
      assertEquals((await takeOne(consumer)).id, messages[450]?.id);
      // A claim drops no more than some: it takes as long with a million of them.
      await consumer.dequeue({ limit: 1 });
      assertEquals((await store.admin.metrics("tasks")).cancelled, 450);
    }),
  );

  test(
    "a message of a paused queue expires when deliveries go on, not before",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const { id } = await producer.enqueue(1, { ttlMs: 1 });
      await store.admin.queues.pause("tasks");
      clock.advance(1);
      await consumer.dequeue();
      assertEquals((await store.admin.messages.get(id))?.state, "ready");
      await store.admin.queues.resume("tasks");
      await consumer.dequeue();
      assertEquals((await store.admin.archive.get(id))?.reason, "expired");
    }),
  );

  test(
    "ttlMs of a key: replace sets it anew, the existing message keeps its own",
    inTime(context, async ({ producer, clock }) => {
      const first = await producer.enqueue(1, { key: "k", ttlMs: 1_000 });
      clock.advance(10);
      assertEquals((await producer.enqueue(1, { key: "k", ttlMs: 9_000 })).expiresAt, first.expiresAt);
      const replace = { value: "k", onConflict: "replace" } as const;
      assertEquals((await producer.enqueue(2, { key: replace, ttlMs: 9_000 })).expiresAt, new Date(clock.now + 9_000));
      assertEquals((await producer.enqueue(3, { key: replace })).expiresAt, null);
      for (const ttlMs of [0, -1, 0.5, Number.POSITIVE_INFINITY, "5" as never]) {
        await assertRejects(() => producer.enqueue(1, { ttlMs }), RangeError, "ttlMs");
      }
    }),
  );
}

function lateForWorkers(context: Context): void {
  test(
    "a worker begins nothing that has expired while it waited for its turn, and tells of it",
    inStore(context, async ({ store, producer }) => {
      // Claimed together, because the handler of the first ends at once; then the second keeps the third waiting.
      const messages = await producer.enqueueMany([1, 2, 3], {
        each: (n) => n === 3 ? { ttlMs: 300 } : {},
      });
      const expired: number[] = [];
      store.on("expired", ({ message }) => expired.push(message.id));
      const begun: number[] = [];
      const handle = job<number>("tasks", async ({ payload }) => {
        begun.push(payload);
        if (payload === 2) await new Promise((resolve) => setTimeout(resolve, 400));
      }, { concurrency: 1 });
      const drained = await store.worker([handle]).drain();
      assertEquals([begun, drained.completed], [[1, 2], 2]);
      assertEquals(expired, [messages[2]?.id as number]);
      assertEquals((await store.admin.archive.get(messages[2]?.id as number))?.reason, "expired");
    }),
  );

  test(
    "drain() goes on behind any number that has expired",
    inStore(context, async ({ store, producer }) => {
      const sent = await producer.enqueueMany(Array.from({ length: 700 }, (_, n) => n), { ttlMs: 1 });
      await until("they have expired", async () => (await store.ping()).now > (sent[0]?.expiresAt as Date));
      const last = await producer.enqueue(1);
      let count = 0;
      store.on("expired", () => count++);
      const handled: number[] = [];
      await store.worker([job<number>("tasks", ({ id }) => void handled.push(id), { prefetch: 0 })]).drain();
      assertEquals([handled, count], [[last.id], 700]);
    }),
  );
}

function retries(context: Context): void {
  const pauseOf = async ({ store, clock }: Scene, id: number): Promise<number> =>
    ((await store.admin.messages.get(id))?.visibleAt.getTime() ?? 0) - clock.now;

  test(
    "fail() waits as the message says, and only else as the queue does",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      await store.admin.queues.update("tasks", { backoff: { kind: "fixed", baseMs: 900, jitter: 0 } });
      const backoff = { baseMs: 100, maxMs: 350, jitter: 0 };
      const { id } = await producer.enqueue(1, { backoff, maxAttempts: 9 });
      const plain = await producer.enqueue(2, { delayMs: 60_000 });
      // Also by the id alone, and by a copy that has lost its lease: then what is stored is asked for.
      const forms = [(m: Message) => m, (m: Message) => m.id, (m: Message) => ({ ...m }), (m: Message) => m];
      for (const [i, pauseMs] of [100, 200, 350, 350].entries()) {
        const message = await takeOne(consumer);
        assert(await consumer.fail((forms[i] as (m: Message) => Message | number)(message), new Error("no")));
        assertEquals(await pauseOf(scene, id), pauseMs);
        clock.advance(pauseMs);
      }
      await store.admin.messages.delete(id);
      clock.advance(60_000);
      await consumer.fail(await takeOne(consumer), new Error("no"));
      assertEquals(await pauseOf(scene, plain.id), 900);
    }),
  );

  test(
    "maxAttempts and backoff of a message outlive claims, other settings of its queue, its death and its replay",
    inTime(context, async (scene) => {
      const { store, producer, consumer, clock } = scene;
      const own = { maxAttempts: 2, backoff: { kind: "fixed", baseMs: 70, jitter: 0 } } as const;
      const { id, maxAttempts } = await producer.enqueue(1, own);
      assertEquals(maxAttempts, 2);
      await store.admin.queues.update("tasks", { maxAttempts: 7, backoff: { kind: "fixed", baseMs: 5, jitter: 0 } });
      for (let round = 0; round < 2; round++) {
        const message = await takeOne(consumer);
        assertEquals([message.id, message.maxAttempts, message.attempts], [id, 2, 0]);
        await consumer.fail(message, new Error("no"));
        assertEquals(await pauseOf(scene, id), 70);
        clock.advance(70);
        await consumer.fail(await takeOne(consumer), new Error("no"));
        const dead = await store.admin.archive.get(id);
        assertEquals([dead?.outcome, dead?.reason, dead?.maxAttempts], ["failed", "attempts", 2]);
        assert(await store.admin.archive.replay(id));
      }
    }),
  );

  test(
    "maxAttempts of a queue holds from the next delivery on, for messages that have none of their own",
    inTime(context, async ({ store, producer, consumer }) => {
      await producer.enqueue(1);
      await store.admin.queues.update("tasks", { maxAttempts: 1 });
      const message = await takeOne(consumer);
      assertEquals(message.maxAttempts, 1);
      await consumer.fail(message, new Error("no"));
      assertEquals((await store.admin.archive.get(message.id))?.reason, "attempts");
    }),
  );

  test(
    "a key that replaces its message replaces what that says of its attempts",
    inTime(context, async (scene) => {
      const { producer, consumer } = scene;
      const replace = { value: "k", onConflict: "replace" } as const;
      await producer.enqueue(1, { key: replace, maxAttempts: 2, backoff: { kind: "fixed", baseMs: 70, jitter: 0 } });
      const backoff = { kind: "fixed", baseMs: 80, jitter: 0 } as const;
      const { id } = await producer.enqueue(2, { key: replace, maxAttempts: 3, backoff });
      const message = await takeOne(consumer);
      assertEquals([message.id, message.maxAttempts], [id, 3]);
      await consumer.fail(message, new Error("no"));
      assertEquals(await pauseOf(scene, id), 80);
      assertEquals((await producer.enqueue(3, { key: replace })).maxAttempts, 5);
    }),
  );

  test(
    "enqueueMany() gives each message its own attempts, back-off and time to live",
    inTime(context, async (scene) => {
      const { producer, consumer, clock } = scene;
      const each = (_: unknown, i: number) => ({
        maxAttempts: i + 3,
        ttlMs: (i + 1) * 1_000,
        backoff: { baseMs: (i + 1) * 10, jitter: 0 },
      });
      const sent = await producer.enqueueMany([1, 2, 3], { each });
      const now = clock.now;
      assertEquals(sent.map(({ expiresAt }) => Number(expiresAt) - now), [1_000, 2_000, 3_000]);
      const taken = await consumer.dequeue({ limit: 9 });
      assertEquals(taken.map(({ maxAttempts }) => maxAttempts), [3, 4, 5]);
      await consumer.failMany(taken, new Error("no"));
      assertEquals(await Promise.all(taken.map(({ id }) => pauseOf(scene, id))), [10, 20, 30]);
      const [alike] = await producer.enqueueMany([4], { ttlMs: 5, backoff: { baseMs: 40, jitter: 0 } });
      assertEquals(Number(alike?.expiresAt) - now, 5);
      await consumer.fail(await takeOne(consumer), new Error("no"));
      assertEquals(await pauseOf(scene, alike?.id as number), 40);
      for (const backoff of [{ base: 1 }, { kind: "linear" }, { baseMs: -1 }, { jitter: 2 }]) {
        await assertRejects(async () => await producer.enqueue(1, { backoff: backoff as never }));
      }
    }),
  );

  test(
    "a worker waits as the message says, before what its job says",
    inTime(context, async (scene) => {
      const { store, producer } = scene;
      const own = await producer.enqueue(1, { backoff: { kind: "fixed", baseMs: 70, jitter: 0 }, maxAttempts: 2 });
      const other = await producer.enqueue(2);
      const retry = { maxAttempts: 3, backoff: { kind: "fixed", baseMs: 500, jitter: 0 } } as const;
      const failed: (number | null)[] = [];
      store.on("failed", ({ message, retryAfterMs }) => failed.push(message.maxAttempts, retryAfterMs));
      const handle = job<number>("tasks", () => Promise.reject(new Error("no")), { retry, concurrency: 1 });
      await store.worker([handle]).drain();
      assertEquals(failed, [2, 70, 3, 500]);
      assertEquals([await pauseOf(scene, own.id), await pauseOf(scene, other.id)], [70, 500]);
    }),
  );
}
