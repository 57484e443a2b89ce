/** What administering live messages promises: by id, whoever has them. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import type { Message } from "../../mod.ts";
import { type Context, idsOf, inStore, inTime, type Scene } from "./context.ts";

/** Defines the tests for one backend. */
export function adminMessagesContract(context: Context): void {
  describe(`admin.messages on ${context.name}`, () => {
    reading(context);
    ending(context);
    changing(context);
  });
}

/** A ready, a delayed and a leased message on `tasks`, of types a, b and a, and one on another queue. */
async function fill({ store, producer, consumer }: Scene): Promise<number[]> {
  await store.admin.createQueue("other");
  const leased = await producer.enqueue("leased", { headers: { type: "a" }, key: "one" });
  await consumer.dequeue({ leaseMs: 60_000 });
  const delayed = await producer.enqueue("delayed", { headers: { type: "b" }, delayMs: 60_000 });
  const ready = await producer.enqueue("ready", { headers: { type: "a" } });
  const other = await store.producer("other").enqueue("other", { key: "one" });
  return [leased.id, delayed.id, ready.id, other.id];
}

function reading(context: Context): void {
  test(
    "messages.list() and count() take queue, state, type and key, alone and together",
    inTime(context, async (scene) => {
      const { messages } = scene.store.admin;
      const [leased, delayed, ready, other] = await fill(scene);
      const cases: [Parameters<typeof messages.list>[0], (number | undefined)[]][] = [
        [{}, [leased, delayed, ready, other]],
        [{ queue: "tasks" }, [leased, delayed, ready]],
        [{ state: "ready" }, [ready, other]],
        [{ state: "delayed" }, [delayed]],
        [{ state: "leased" }, [leased]],
        [{ type: "a" }, [leased, ready]],
        [{ key: "one" }, [leased, other]],
        [{ key: "one", queue: "other" }, [other]],
        [{ queue: "tasks", state: "ready", type: "a" }, [ready]],
        [{ queue: "tasks", state: "ready", type: "b" }, []],
        [{ queue: "no such queue" }, []],
      ];
      for (const [query = {}, expected] of cases) {
        assertEquals(idsOf(await messages.list(query)), expected as number[], JSON.stringify(query));
        assertEquals(await messages.count(query), expected.length, JSON.stringify(query));
      }
      scene.clock.advance(60_000);
      assertEquals(await messages.count({ state: "delayed" }), 0);
      assertEquals(await messages.count({ state: "ready" }), 3);
    }),
  );

  test(
    "messages.list() gives pages by a cursor, each message once",
    inStore(context, async ({ store, producer }) => {
      const { messages } = store.admin;
      const all = (await producer.enqueueMany(Array.from({ length: 7 }, (_, n) => n))).map(({ id }) => id);
      const seen: number[] = [];
      let cursor: string | null | undefined;
      do {
        const page = await messages.list({ limit: 3, ...(cursor && { cursor }) });
        seen.push(...idsOf(page));
        cursor = page.cursor;
        // What has been seen may go without a gap in what follows.
        await messages.delete(seen.at(-1) as number);
      } while (cursor !== null);
      assertEquals(seen, all);
      assertEquals((await messages.list({ limit: 4 })).cursor, null);
      for (const limit of [0, -1, 1.5, 10_001]) {
        await assertRejects(() => messages.list({ limit }), RangeError, "limit");
      }
      for (const cursor of ["x", "1.2", "1.5e0.1", ""]) {
        await assertRejects(() => messages.list({ cursor }), TypeError, "cursor", cursor);
      }
    }),
  );

  test(
    "messages.list() gives the 100 first unless told how many",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany(Array.from({ length: 101 }, (_, n) => n));
      const page = await store.admin.messages.list();
      assertEquals([page.items.length, page.cursor === null], [100, false]);
    }),
  );

  test(
    "messages refuses queries and ids that mean nothing",
    inStore(context, async ({ store }) => {
      const { messages } = store.admin;
      await assertRejects(() => messages.list({ state: "archived" as never }), TypeError, "state");
      await assertRejects(() => messages.count({ stat: "ready" } as never), TypeError, 'did you mean "state"?');
      const calls = [
        (id: number) => messages.get(id),
        (id: number) => messages.archive(id),
        (id: number) => messages.cancel(id),
        (id: number) => messages.delete(id),
        (id: number) => messages.release(id),
        (id: number) => messages.update(id, {}),
        (id: number) => store.admin.archive.get(id),
        (id: number) => store.admin.archive.replay(id),
      ];
      for (const call of calls) {
        for (const id of [0, -1, 1.5, NaN, 2 ** 53, "1" as never, null as never]) {
          await assertRejects(() => call(id) as Promise<unknown>, TypeError, "id of a message");
        }
      }
      assertEquals(await Promise.all(calls.map((call) => call(999))), [
        null,
        false,
        false,
        false,
        null,
        null,
        null,
        false,
      ]);
    }),
  );
}

function ending(context: Context): void {
  test(
    "messages.archive() and cancel() end a message in any state, and keep who and why",
    inTime(context, async (scene) => {
      const { messages, archive } = scene.store.admin;
      const ids = await fill(scene);
      scene.clock.advance(2_000);
      for (const [i, id] of ids.entries()) {
        const isEven = i % 2 === 0;
        const options = i < 2 ? {} : { reason: "because", by: "ops@example.com" };
        assertEquals(await (isEven ? messages.archive(id, options) : messages.cancel(id, options)), true);
        assertEquals(await messages.archive(id), false);
        const ended = await archive.get(id);
        const outcome = isEven ? "succeeded" : "cancelled";
        assertEquals([ended?.outcome, ended?.state], [outcome, outcome]);
        const told = i < 2 ? [isEven ? "archived" : "cancelled", "operator"] : ["because", "ops@example.com"];
        assertEquals([ended?.reason, ended?.archivedBy], told);
        assertEquals(ended?.processingMs, i === 0 ? 2_000 : null);
        assertEquals(ended?.archivedAt, new Date(scene.clock.now));
      }
      assertEquals(await messages.count(), 0);
      await assertRejects(() => messages.cancel(1, { reason: "" }), RangeError, "reason");
      await assertRejects(() => messages.cancel(1, { by: "\0" }), TypeError, "by");
    }),
  );

  test(
    "messages.delete() removes a message in any state without a trace",
    inTime(context, async (scene) => {
      const { messages, archive } = scene.store.admin;
      for (const id of await fill(scene)) {
        assertEquals([await messages.delete(id), await messages.delete(id)], [true, false]);
        assertEquals(await archive.get(id), null);
      }
      assertEquals(await messages.count(), 0);
    }),
  );
}

function changing(context: Context): void {
  test(
    "messages.release() makes a message ready, or ready after a while, and counts nothing",
    inTime(context, async (scene) => {
      const { messages } = scene.store.admin;
      const [leased = 0, delayed = 0] = await fill(scene);
      const released = await messages.release(leased);
      assertEquals([released?.state, released?.worker, released?.leaseUntil], ["ready", null, null]);
      assertEquals([released?.attempts, released?.crashes], [0, 0]);
      assertEquals((await messages.release(delayed))?.state, "ready");
      const later = await messages.release(leased, { delayMs: 5_000 });
      assertEquals([later?.state, later?.visibleAt], ["delayed", new Date(scene.clock.now + 5_000)]);
    }),
  );

  test(
    "messages.update() changes due time and priority, and nothing else",
    inTime(context, async (scene) => {
      const { store, consumer, clock } = scene;
      const { messages } = store.admin;
      const [, delayed = 0, ready = 0] = await fill(scene);
      const before = await messages.get(ready);
      assertEquals(await messages.update(ready, { priority: 8 }), { ...before, priority: 8 } as Message);
      const at = new Date(Date.UTC(9999, 11, 31, 23, 59, 59, 999));
      assertEquals((await messages.update(ready, { at }))?.visibleAt, at);
      assertEquals((await messages.get(ready))?.visibleAt, at);
      const moved = await messages.update(delayed, { delayMs: 10, priority: 1 });
      assertEquals([moved?.visibleAt, moved?.priority], [new Date(clock.now + 10), 1]);
      assertEquals((await messages.update(delayed, { at: new Date(clock.now) }))?.state, "ready");
      assertEquals((await consumer.dequeue({ limit: 9 })).map(({ id }) => id), [delayed]);
      const { messages: m } = store.admin;
      await assertRejects(() => m.update(ready, { priority: 10 }), RangeError, "priority");
      await assertRejects(() => m.update(ready, { delayMs: -1 }), RangeError, "delayMs");
      await assertRejects(() => m.update(ready, { at: new Date(NaN) }), TypeError, "Date");
      await assertRejects(() => m.update(ready, { at, delayMs: 1 }), TypeError, "together");
      await assertRejects(() => m.update(ready, { payload: 1 } as never), TypeError, "unknown option");
    }),
  );

  test(
    "messages.update() of a leased message takes the lease away and makes it due at once",
    inTime(context, async (scene) => {
      const { store, clock } = scene;
      const [leased = 0] = await fill(scene);
      clock.advance(1_000);
      const updated = await store.admin.messages.update(leased, { priority: 5 });
      assertEquals([updated?.state, updated?.worker, updated?.priority], ["ready", null, 5]);
      assertEquals(updated?.visibleAt, new Date(clock.now));
      const [message] = await store.consumer("tasks", { name: "bob" }).dequeue();
      assertEquals(message?.id, leased);
      assert(message?.worker === "bob");
    }),
  );
}
