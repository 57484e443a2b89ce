/** What idempotency keys promise: any number of attempts make one message. */
import {
  assert,
  assertEquals,
  assertNotEquals,
  assertNotMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { describe, test } from "node:test";
import { type Key, type Message, StateError } from "../../mod.ts";
import { type Context, inStore, inTime, takeOne } from "./context.ts";

const DAY_MS = 86_400_000;

/** Defines the tests for one backend. */
export function keysContract(context: Context): void {
  describe(`keys on ${context.name}`, () => {
    sameKey(context);
    conflicts(context);
    windows(context);
    lists(context);
    storms(context);
  });
}

function sameKey(context: Context): void {
  test(
    "enqueue() under one key makes one message, and every caller gets its id",
    inStore(context, async ({ store, producer }) => {
      const calls = Array.from({ length: 100 }, () => producer.enqueue({ n: 1 }, { key: "k" }));
      const ids = new Set((await Promise.all(calls)).map(({ id }) => id));
      assertEquals(ids.size, 1);
      assertEquals(await store.admin.messages.count(), 1);
      const [stored] = (await store.admin.messages.list({ key: "k" })).items;
      assertEquals([stored?.id, stored?.key], [[...ids][0], "k"]);
    }),
  );

  test(
    "enqueue() under a taken key tells how the message that has it is doing",
    inStore(context, async ({ store, producer, consumer }) => {
      const again = () => producer.enqueue(1, { key: "k" });
      const first = await producer.enqueue(1, { key: "k", priority: 4, delayMs: 3_600_000, maxAttempts: 2 });
      assertEquals(await again(), await store.admin.messages.get(first.id) as Message);
      assertEquals((await again()).state, "delayed");
      await store.admin.messages.release(first.id);
      assertEquals((await again()).state, "ready");
      const message = await takeOne(consumer);
      assertEquals([(await again()).state, (await again()).id], ["leased", first.id]);
      await consumer.archive(message);
      assertEquals([(await again()).state, (await again()).id], ["succeeded", first.id]);
      await store.admin.archive.purge();
      assertEquals([(await again()).state, (await again()).id], ["deleted", first.id]);
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );

  test(
    "enqueue() of another payload under a taken key is a StateError that does not tell the payload",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue({ pin: "s3cret-1" }, { key: "k" });
      const error = await assertRejects(() => producer.enqueue({ pin: "s3cret-2" }, { key: "k" }), StateError);
      assertStringIncludes(error.message, `the key of item 0 belongs to message ${id} with another payload`);
      assertNotMatch(`${error.message} ${error.stack} ${String(error.cause)}`, /s3cret/);
      assertEquals((await store.admin.messages.get(id))?.payload, { pin: "s3cret-1" });
      assertEquals(await store.admin.messages.count(), 1);
    }),
  );

  test(
    "enqueue() takes payloads as equal whatever the order of their keys",
    inStore(context, async ({ producer }) => {
      const { id } = await producer.enqueue({ a: 1, b: { c: [1, 2], d: null } }, { key: "k" });
      assertEquals((await producer.enqueue({ b: { d: null, c: [1, 2] }, a: 1 }, { key: "k" })).id, id);
      await assertRejects(() => producer.enqueue({ a: 1, b: { c: [2, 1], d: null } }, { key: "k" }), StateError);
    }),
  );

  test(
    "enqueue() under one key in two queues makes two messages",
    inStore(context, async ({ store, producer }) => {
      await store.admin.createQueue("other");
      const { id } = await producer.enqueue(1, { key: "k" });
      assertNotEquals((await store.producer("other").enqueue(1, { key: "k" })).id, id);
    }),
  );

  test(
    "enqueue() takes every key of 1 to 255 bytes, and no other",
    inStore(context, async ({ store, producer }) => {
      const keys = ["'; drop table x; --", '"', "\\", "\n", "__proto__", "null", " k", "k ", "K", "k", "ß".repeat(127)];
      const ids = await Promise.all(keys.map(async (key) => (await producer.enqueue(1, { key })).id));
      assertEquals(new Set(ids).size, keys.length);
      const again = await producer.enqueueMany(keys.map(() => 1), { each: (_, i) => ({ key: keys[i] as string }) });
      assertEquals(again.map(({ id }) => id), ids);
      for (const key of ["", "ß".repeat(128), "a\0", "\udc00", 1 as never, null as never, {} as never]) {
        await assertRejects(() => producer.enqueue(1, { key }), Error, "Cannot use");
      }
      assertEquals(await store.admin.messages.count(), keys.length);
    }),
  );

  test(
    "enqueue() refuses options of a key that mean nothing",
    inStore(context, async ({ store, producer }) => {
      const bad: [unknown, string][] = [
        [{ value: "k", onConflict: "ignore" }, "key.onConflict"],
        [{ value: "k", until: "ended" }, "key.until"],
        [{ value: "k", until: 0 }, "key.until"],
        [{ value: "k", until: 1.5 }, "key.until"],
        [{ value: "k", until: null }, "key.until"],
        [{ value: "k", conflict: "reject" }, 'did you mean "onConflict"?'],
        [{ onConflict: "reject" }, "Cannot use key"],
      ];
      for (const [key, text] of bad) {
        await assertRejects(() => producer.enqueue(1, { key: key as Key }), Error, text);
      }
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );
}

function conflicts(context: Context): void {
  test(
    'enqueue() with onConflict "reject" is a StateError that names the message',
    inStore(context, async ({ store, producer }) => {
      const key: Key = { value: "k", onConflict: "reject" };
      const { id } = await producer.enqueue(1, { key });
      const error = await assertRejects(() => producer.enqueue(1, { key }), StateError);
      assertStringIncludes(error.message, `the key of item 0 belongs to message ${id}`);
      assertEquals([error.from, error.to], ["taken", "enqueued"]);
      assertEquals(await store.admin.messages.count(), 1);
    }),
  );

  test(
    'enqueue() with onConflict "replace" changes a waiting message and keeps its id',
    inStore(context, async ({ store, producer, consumer }) => {
      const key: Key = { value: "k", onConflict: "replace" };
      const first = await producer.enqueue({ n: 1 }, { key, headers: { type: "a" }, priority: 2, delayMs: 3_600_000 });
      const second = await producer.enqueue({ n: 2 }, { key, headers: { type: "b" }, priority: 7, maxAttempts: 1 });
      assertEquals([second.id, second.state, second.enqueuedAt], [first.id, "ready", first.enqueuedAt]);
      assertEquals(second, await store.admin.messages.get(first.id) as Message);
      const third = await producer.enqueue({ n: 3 }, { key, delayMs: 60_000 });
      assertEquals([third.id, third.state, third.priority, third.maxAttempts], [first.id, "delayed", 0, 5]);
      assertEquals(third, await store.admin.messages.get(first.id) as Message);
      const fourth = await producer.enqueue({ n: 4 }, { key });
      assertEquals(await store.admin.messages.count(), 1);
      // The key is that of the new payload now.
      assertEquals((await producer.enqueue({ n: 4 }, { key: "k" })).id, fourth.id);
      await assertRejects(() => producer.enqueue({ n: 1 }, { key: "k" }), StateError);
      assertEquals((await consumer.dequeue({ limit: 9 })).map(({ payload }) => payload), [{ n: 4 }]);
    }),
  );

  test(
    'enqueue() with onConflict "replace" leaves a delivered or ended message alone',
    inStore(context, async ({ store, producer, consumer }) => {
      const key: Key = { value: "k", onConflict: "replace" };
      const { id } = await producer.enqueue({ n: 1 }, { key });
      const message = await takeOne(consumer);
      await assertRejects(() => producer.enqueue({ n: 2 }, { key, priority: 9 }), StateError, "another payload");
      const same = await producer.enqueue({ n: 1 }, { key, priority: 9 });
      assertEquals([same.id, same.state, same.priority], [id, "leased", 0]);
      assert(await consumer.archive(message));
      await assertRejects(() => producer.enqueue({ n: 2 }, { key }), StateError, "another payload");
      assertEquals((await producer.enqueue({ n: 1 }, { key })).id, id);
      assertEquals((await store.admin.archive.get(id))?.payload, { n: 1 });
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );
}

function windows(context: Context): void {
  const enqueue = (
    scene: { producer: { enqueue(payload: unknown, options: { key: string | Key }): Promise<Message> } },
    until?: Key["until"],
  ) => scene.producer.enqueue(1, { key: until === undefined ? "k" : { value: "k", until } });

  test(
    "a key holds for 24 hours when its message ends at once",
    inTime(context, async (scene) => {
      const { id } = await enqueue(scene);
      const message = await takeOne(scene.consumer);
      await scene.consumer.archive(message);
      scene.clock.advance(DAY_MS - 1);
      assertEquals((await enqueue(scene)).id, id);
      scene.clock.advance(1);
      const next = await enqueue(scene);
      assertNotEquals(next.id, id);
      // From here the key is that of the new message, for another day.
      scene.clock.advance(DAY_MS - 1);
      assertEquals((await enqueue(scene)).id, next.id);
    }),
  );

  test(
    "a key holds beyond 24 hours for as long as its message has not ended",
    inTime(context, async (scene) => {
      const { id } = await enqueue(scene);
      scene.clock.advance(3 * DAY_MS);
      assertEquals((await enqueue(scene)).id, id);
      const message = await takeOne(scene.consumer, { leaseMs: DAY_MS });
      assertEquals((await enqueue(scene)).id, id);
      await scene.consumer.archive(message);
      assertNotEquals((await enqueue(scene)).id, id);
    }),
  );

  test(
    'a key until "started" is free from the first delivery on',
    inTime(context, async (scene) => {
      const { id } = await enqueue(scene, "started");
      scene.clock.advance(3 * DAY_MS);
      assertEquals((await enqueue(scene, "started")).id, id);
      const first = await takeOne(scene.consumer);
      const next = await enqueue(scene, "started");
      assertNotEquals(next.id, id);
      // Giving the first one back does not give it the key back.
      await scene.consumer.release(first);
      assertEquals((await enqueue(scene, "started")).id, next.id);
      assertEquals(await scene.store.admin.messages.count(), 2);
    }),
  );

  test(
    'a key until "finished" is free as soon as its message has ended',
    inTime(context, async (scene) => {
      const { id } = await enqueue(scene, "finished");
      const message = await takeOne(scene.consumer, { leaseMs: 9 * DAY_MS });
      scene.clock.advance(3 * DAY_MS);
      assertEquals((await enqueue(scene, "finished")).id, id);
      await scene.consumer.delete(message);
      assertNotEquals((await enqueue(scene, "finished")).id, id);
    }),
  );

  test(
    "a key until a number of milliseconds is free after them, whatever became of its message",
    inTime(context, async (scene) => {
      const { id } = await enqueue(scene, 1_000);
      scene.clock.advance(999);
      assertEquals((await enqueue(scene, 1_000)).id, id);
      scene.clock.advance(1);
      const next = await scene.producer.enqueue("another payload", { key: { value: "k", until: 1_000 } });
      assertNotEquals(next.id, id);
      assertEquals(await scene.store.admin.messages.count(), 2);
    }),
  );

  test(
    "a key goes with its queue",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue(1, { key: "k" });
      await store.admin.queues.delete("tasks", { force: true });
      await store.admin.createQueue("tasks");
      assertNotEquals((await producer.enqueue(2, { key: "k" })).id, id);
    }),
  );
}

function lists(context: Context): void {
  const keyOf = (payload: unknown) => ({ key: (payload as { id: string }).id });

  test(
    "enqueueMany() with keys stores what is new and gives the ids of what is there",
    inStore(context, async ({ store, producer }) => {
      const old = await producer.enqueue({ id: "b" }, { key: "b", priority: 3 });
      const list = ["a", "b", "c"].map((id) => ({ id }));
      const messages = await producer.enqueueMany(list, { each: keyOf });
      assertEquals(messages.map(({ key }) => key), ["a", "b", "c"]);
      assertEquals([messages[1]?.id, messages[1]?.priority], [old.id, 3]);
      assert((messages[0] as Message).id < (messages[2] as Message).id);
      const stored = await Promise.all(messages.map(({ id }) => store.admin.messages.get(id)));
      assertEquals(stored as Message[], messages);
      assertEquals(
        (await producer.enqueueMany(list, { each: keyOf })).map(({ id }) => id),
        messages.map(({ id }) => id),
      );
      assertEquals(await store.admin.messages.count(), 3);
    }),
  );

  test(
    "enqueueMany() makes one message of equal keys in the list, and refuses those with different payloads",
    inStore(context, async ({ store, producer }) => {
      const list = ["b", "a", "b", "a", "b"].map((id) => ({ id }));
      const messages = await producer.enqueueMany(list, { each: keyOf });
      const [b, a] = messages.map(({ id }) => id);
      assertEquals(messages.map(({ id }) => id), [b, a, b, a, b] as number[]);
      assert((b as number) < (a as number));
      const mixed = [{ id: "x", n: 1 }, { id: "y", n: 1 }, { id: "x", n: 2 }];
      await assertRejects(() => producer.enqueueMany(mixed, { each: keyOf }), StateError, "payloads[2]");
      assertEquals(await store.admin.messages.count(), 2);
    }),
  );

  test(
    "enqueueMany() mixes messages with and without a key, in the order of the list",
    inStore(context, async ({ store, producer, consumer }) => {
      const list = Array.from({ length: 40 }, (_, n) => n);
      // Keys in the opposite order of the list, so that the order of the keys cannot pass for that of the list.
      const each = (n: unknown) => (n as number) % 3 === 0 ? { key: `k${99 - (n as number)}` } : {};
      const messages = await producer.enqueueMany(list, { each });
      const ids = messages.map(({ id }) => id);
      assertEquals(ids, ids.toSorted((a, b) => a - b));
      assertEquals(messages, [...(await store.admin.messages.list()).items]);
      assertEquals((await consumer.dequeue({ limit: 40 })).map(({ payload }) => payload), list);
    }),
  );

  test(
    "enqueueMany() replaces, rejects and keeps per message",
    inStore(context, async ({ store, producer }) => {
      const [a, b] = await producer.enqueueMany([1, 1], { each: (_, i) => ({ key: "ab"[i] as string }) });
      const onConflict = ["replace", "existing", "reject"] as const;
      const each = (_: unknown, i: number): { key: Key } => ({
        key: { value: "abc"[i] as string, onConflict: onConflict[i] ?? "existing" },
      });
      const messages = await producer.enqueueMany([2, 1, 3], { each });
      assertEquals(messages.slice(0, 2).map(({ id }) => id), [a?.id, b?.id] as number[]);
      assertEquals((await store.admin.messages.get(a?.id ?? 0))?.payload, 2);
      // The third is taken now: nothing of the list is applied, the replacement neither.
      await assertRejects(() => producer.enqueueMany([9, 1, 3], { each }), StateError, "item 2");
      assertEquals((await store.admin.messages.get(a?.id ?? 0))?.payload, 2);
      assertEquals(await store.admin.messages.count(), 3);
    }),
  );
}

function storms(context: Context): void {
  test(
    "enqueueMany() of the same keys in any order by many callers makes each message once",
    inStore(context, async ({ place, store, producer }) => {
      await using other = context.isAlone ? null : await place.connect();
      const producers = [producer, other?.producer("tasks") ?? producer];
      const keys = Array.from({ length: 30 }, (_, n) => `k${n}`);
      const lists = Array.from({ length: 16 }, (_, n) => n % 2 === 0 ? keys.slice(n) : keys.toReversed());
      const calls = lists.map((list, n) =>
        producers[n % 2]?.enqueueMany(list, { each: (key) => ({ key: key as string }) }) as Promise<Message[]>
      );
      const idByKey = new Map<string, number>();
      for (const messages of await Promise.all(calls)) {
        for (const { key, id } of messages) {
          assertEquals(idByKey.get(key as string) ?? id, id);
          idByKey.set(key as string, id);
        }
      }
      assertEquals(idByKey.size, 30);
      assertEquals(await store.admin.messages.count(), 30);
    }),
  );
}
