/** What administering ended messages and dead letters promises. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import type { ArchiveQuery, Message } from "../../mod.ts";
import { type Context, idsOf, inStore, inTime, type Scene, takeOne } from "./context.ts";

/** Defines the tests for one backend. */
export function adminArchiveContract(context: Context): void {
  describe(`admin.archive on ${context.name}`, () => {
    reading(context);
    paging(context);
    purging(context);
    replaying(context);
  });
}

/** Ends six messages, one a second: succeeded, failed and cancelled, twice each, on two queues. */
async function fill({ store, clock }: Scene): Promise<number[]> {
  const ids: number[] = [];
  await store.admin.createQueue("other");
  for (const [i, queue] of ["tasks", "tasks", "tasks", "other", "other", "other"].entries()) {
    const headers = { type: i % 2 === 0 ? "even" : "odd" };
    const { id } = await store.producer(queue).enqueue({ i }, { key: `key ${i}`, headers });
    ids.push(id);
    const consumer = store.consumer(queue, { name: i % 2 === 0 ? "ann" : "bob" });
    const message = await takeOne(consumer);
    if (i % 3 === 0) await consumer.archive(message, { reason: "done" });
    if (i % 3 === 1) await consumer.fail(message, new Error("no"), { retry: false });
    if (i % 3 === 2) await store.admin.messages.cancel(id, { by: "ops" });
    clock.advance(1_000);
  }
  return ids;
}

function reading(context: Context): void {
  test(
    "archive.list() and count() take every filter, alone and together, the last ended first",
    inTime(context, async (scene) => {
      const { archive } = scene.store.admin;
      const begin = scene.clock.now;
      const ids = await fill(scene);
      const cases: [ArchiveQuery, number[]][] = [
        [{}, [5, 4, 3, 2, 1, 0]],
        [{ queue: "tasks" }, [2, 1, 0]],
        [{ outcome: "succeeded" }, [3, 0]],
        [{ outcome: "failed" }, [4, 1]],
        [{ outcome: "cancelled" }, [5, 2]],
        [{ reason: "done" }, [3, 0]],
        [{ reason: "not_retryable", queue: "other" }, [4]],
        [{ type: "even" }, [4, 2, 0]],
        [{ key: "key 3" }, [3]],
        [{ worker: "ann" }, [4, 0]],
        [{ worker: "ops" }, [5, 2]],
        [{ since: new Date(begin + 2_000) }, [5, 4, 3, 2]],
        [{ before: new Date(begin + 2_000) }, [1, 0]],
        [{ since: new Date(begin + 1_000), before: new Date(begin + 4_000), outcome: "failed" }, [1]],
        [{ queue: "no such queue" }, []],
      ];
      for (const [query, expected] of cases) {
        const wanted = expected.map((i) => ids[i] as number);
        assertEquals(idsOf(await archive.list(query)), wanted, JSON.stringify(query));
        assertEquals(await archive.count(query), expected.length, JSON.stringify(query));
      }
      const { dead } = scene.store.admin;
      assertEquals(idsOf(await dead.list()), [ids[4], ids[1]] as number[]);
      assertEquals(idsOf(await dead.list({ queue: "tasks", worker: "bob" })), [ids[1]] as number[]);
      assertEquals(await dead.count({ type: "even" }), 1);
    }),
  );

  test(
    "archive and dead refuse queries that mean nothing",
    inStore(context, async ({ store }) => {
      const { archive, dead } = store.admin;
      await assertRejects(() => archive.list({ outcome: "done" as never }), TypeError, "outcome");
      await assertRejects(() => archive.count({ since: "today" as never }), TypeError, "since");
      await assertRejects(() => archive.purge({ before: new Date(NaN) }), TypeError, "before");
      await assertRejects(() => archive.list({ offset: -1 }), RangeError, "offset");
      await assertRejects(() => archive.list({ limit: 0 }), RangeError, "limit");
      await assertRejects(() => archive.list({ cursor: "7" }), TypeError, "cursor");
      await assertRejects(() => archive.purge({ olderThan: 1 } as never), TypeError, "unknown option");
      await assertRejects(() => dead.list({ outcome: "failed" } as never), TypeError, "unknown option");
      await assertRejects(() => dead.replay({ quee: "tasks" } as never), TypeError, 'did you mean "queue"?');
    }),
  );
}

function paging(context: Context): void {
  test(
    "archive.list() gives pages by a cursor, also where many ended at one instant",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const { archive } = store.admin;
      const all: number[] = [];
      for (let i = 0; i < 3; i++) {
        await producer.enqueueMany([1, 2, 3, 4, 5]);
        const messages = await consumer.dequeue({ limit: 5 });
        await consumer.archiveMany(messages);
        all.unshift(...messages.map(({ id }) => id).toReversed());
        clock.advance(i);
      }
      const seen: number[] = [];
      let cursor: string | null | undefined;
      do {
        const page = await archive.list({ limit: 4, ...(cursor && { cursor }) });
        seen.push(...idsOf(page));
        cursor = page.cursor;
      } while (cursor !== null);
      assertEquals(seen, all);
      const byOffset: number[] = [];
      for (let offset = 0; offset < 15; offset += 4) byOffset.push(...idsOf(await archive.list({ limit: 4, offset })));
      assertEquals(byOffset, all);
      assertEquals(idsOf(await archive.list({ offset: 15 })), []);
    }),
  );
}

function purging(context: Context): void {
  test(
    "archive.purge() deletes all that match and tells how many",
    inTime(context, async (scene) => {
      const { archive, dead, messages } = scene.store.admin;
      const begin = scene.clock.now;
      const ids = await fill(scene);
      await scene.producer.enqueue("stays");
      assertEquals(await archive.purge({ queue: "tasks", outcome: "succeeded" }), 1);
      assertEquals(await archive.purge({ queue: "tasks", outcome: "succeeded" }), 0);
      assertEquals(await archive.purge({ before: new Date(begin + 3_000) }), 2);
      assertEquals(await dead.purge({ queue: "tasks" }), 0);
      assertEquals(await dead.purge(), 1);
      assertEquals(idsOf(await archive.list()), [ids[5], ids[3]] as number[]);
      assertEquals(await archive.purge(), 2);
      assertEquals([await archive.count(), await messages.count()], [0, 1]);
    }),
  );

  test(
    "archive.purge() deletes thousands in batches",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueueMany(Array.from({ length: 2_100 }, (_, n) => n));
      await consumer.archiveMany(await consumer.dequeue({ limit: 5_000, leaseMs: 60_000 }));
      assertEquals(await store.admin.archive.purge({ queue: "tasks" }), 2_100);
      assertEquals(await store.admin.archive.count(), 0);
    }),
  );

  test(
    "archive.purge({ expired }) goes by the retention of each queue",
    inTime(context, async (scene) => {
      const { store, clock } = scene;
      await fill(scene);
      await store.admin.queues.update("other", { retentionMs: 10_000 });
      assertEquals(await store.admin.archive.purge({ expired: true }), 0);
      clock.advance(8_001);
      assertEquals(await store.admin.archive.purge({ expired: true }), 2);
      clock.advance(1_000);
      assertEquals(await store.admin.dead.purge({ expired: true }), 0);
      assertEquals(await store.admin.archive.purge({ expired: true }), 1);
      await store.admin.queues.update("tasks", { retentionMs: null });
      clock.advance(1_000 * 86_400_000);
      assertEquals(await store.admin.archive.purge({ expired: true }), 0);
      assertEquals(await store.admin.archive.count(), 3);
    }),
  );
}

function replaying(context: Context): void {
  test(
    "archive.replay() brings a message back under its id, with all its attempts before it",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const sent = await producer.enqueue({ n: 1 }, { priority: 4, headers: { type: "t" }, maxAttempts: 2, key: "k" });
      for (let i = 0; i < 2; i++) {
        await consumer.fail((await consumer.dequeue())[0] as Message, new Error("no"), { delayMs: 0 });
      }
      clock.advance(1_000);
      assertEquals(await store.admin.archive.replay(sent.id), true);
      assertEquals(await store.admin.archive.replay(sent.id), false);
      assertEquals(await store.admin.archive.get(sent.id), null);
      const back = await store.admin.messages.get(sent.id);
      const error = back?.error;
      assertEquals(back, { ...sent, visibleAt: new Date(clock.now), error } as Message);
      assertEquals(error?.message, "no");
      const message = await takeOne(consumer);
      assertEquals([message.id, message.attempts, message.crashes], [sent.id, 0, 0]);
      assert(await consumer.archive(message));
      assertEquals(await store.admin.archive.replay(sent.id), true);
    }),
  );

  test(
    "a lease from before an end and a replay holds no more",
    inTime(context, async ({ store, producer, consumer }) => {
      const { id } = await producer.enqueue(1);
      const old = await takeOne(consumer);
      await store.admin.messages.archive(id);
      await store.admin.archive.replay(id);
      assertEquals(await consumer.archive(old), false);
      const message = await takeOne(consumer);
      assertEquals([await consumer.archive(old), await consumer.archive(message)], [false, true]);
    }),
  );

  test(
    "dead.replay() brings back one, several or all that match, and only dead letters",
    inTime(context, async (scene) => {
      const { dead, messages, archive } = scene.store.admin;
      const ids = await fill(scene);
      const [succeeded, first, cancelled, , second] = ids as [number, number, number, number, number];
      assertEquals(await dead.replay(succeeded), []);
      assertEquals(await dead.replay([cancelled, 999]), []);
      assertEquals(await dead.replay([]), []);
      assertEquals(await dead.replay(first), [first]);
      assertEquals(await dead.replay({ queue: "tasks" }), []);
      assertEquals(await dead.replay({ type: "even" }), [second]);
      assertEquals(idsOf(await messages.list()), [first, second]);
      for (const queue of ["tasks", "other"]) {
        const consumer = scene.store.consumer(queue);
        await consumer.failMany(await consumer.dequeue({ limit: 9 }), new Error("again"), { retry: false });
      }
      assertEquals(await dead.replay([second, first, first]), [first, second]);
      assertEquals([await dead.count(), await archive.count()], [0, 4]);
    }),
  );

  test(
    "dead.replay() by filter brings back thousands, each once",
    inStore(context, async ({ store, producer, consumer }) => {
      const ids = (await producer.enqueueMany(Array.from({ length: 2_100 }, (_, n) => n))).map(({ id }) => id);
      const messages = await consumer.dequeue({ limit: 3_000, leaseMs: 60_000 });
      await consumer.failMany(messages, new Error("no"), { retry: false });
      assertEquals((await store.admin.dead.replay({ queue: "tasks" })).toSorted((a, b) => a - b), ids);
      assertEquals(await store.admin.messages.count({ state: "ready" }), 2_100);
    }),
  );
}
