/** What a transaction promises: our writes and the caller's are stored together or not at all. */
import { assert, assertEquals, assertInstanceOf, assertNotEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { DatabaseError, type Message, StateError, type Transaction, type TransactionLike } from "../../mod.ts";
import { type Context, inStore, type Scene, takeOne } from "./context.ts";

/** What the tests throw to have a transaction rolled back. */
export class Undo extends Error {}

/** Every operation that takes `{ tx }`, on a message that the consumer holds, and what it leaves behind. */
export const OPERATIONS: Readonly<
  Record<string, (scene: Scene, message: Message, tx: TransactionLike) => Promise<unknown>>
> = {
  enqueue: ({ producer }, _, tx) => producer.enqueue("new", { tx, key: "new" }),
  "enqueue without a key": ({ producer }, _, tx) => producer.enqueue("new", { tx }),
  enqueueMany: ({ producer }, _, tx) => producer.enqueueMany(["new", "newer"], { tx }),
  "enqueueMany with each": ({ producer }, _, tx) =>
    producer.enqueueMany(["new", "newer"], { tx, each: (_, i) => ({ key: `k${i}`, priority: i }) }),
  archive: ({ consumer }, message, tx) => consumer.archive(message, { tx, result: { ok: true }, reason: "r" }),
  "archive by id": ({ consumer }, message, tx) => consumer.archive(message.id, { tx }),
  delete: ({ consumer }, message, tx) => consumer.delete(message, { tx }),
  release: ({ consumer }, message, tx) => consumer.release(message, { tx, delayMs: 1_000 }),
  fail: ({ consumer }, message, tx) => consumer.fail(message, new Error("no"), { tx }),
  "fail by id": ({ consumer }, message, tx) => consumer.fail(message.id, new Error("no"), { tx }),
  "fail for good": ({ consumer }, message, tx) => consumer.fail(message, new Error("no"), { tx, retry: false }),
  "messages.archive": ({ store }, message, tx) => store.admin.messages.archive(message.id, { tx }),
  "messages.cancel": ({ store }, message, tx) => store.admin.messages.cancel(message.id, { tx }),
  "messages.delete": ({ store }, message, tx) => store.admin.messages.delete(message.id, { tx }),
};

/** Defines the tests for one backend. */
export function transactionContract(context: Context): void {
  describe(`transactions on ${context.name}`, () => {
    outcomes(context);
    operations(context);
    handles(context);
    keys(context);
  });
}

/** All that is stored, without the times, which differ from run to run. */
async function stored({ store }: Scene): Promise<unknown[]> {
  const live = (await store.admin.messages.list()).items;
  const ended = (await store.admin.archive.list()).items;
  return [...live, ...ended].map((
    { id, payload, state, attempts, key, error, leaseUntil },
  ) => [id, payload, state, attempts, key, error?.message, leaseUntil?.getTime()]);
}

/** Checks that an operation is stored if and only if the transaction commits in which `run` runs it. */
export async function checkOperation(
  scene: Scene,
  [name, operation]: [string, (typeof OPERATIONS)[string]],
  run: (work: (tx: TransactionLike) => Promise<void>) => Promise<void>,
): Promise<void> {
  const { producer, consumer } = scene;
  await producer.enqueue("old");
  const message = await takeOne(consumer, { leaseMs: 60_000 });
  const before = await stored(scene);
  await assertRejects(() =>
    run(async (tx) => {
      assert(await operation(scene, message, tx), name);
      throw new Undo();
    }), Undo);
  assertEquals(await stored(scene), before, name);
  await run(async (tx) => assert(await operation(scene, message, tx), name));
  assertNotEquals(await stored(scene), before, name);
}

/** A placeholder in the database's own writing. */
function mark(context: Context, n: number): string {
  return context.dialect === "postgres" ? `$${n}` : "?";
}

function outcomes(context: Context): void {
  const table = `notes_${Math.random().toString(36).slice(2)}`;

  async function notes({ store }: Scene): Promise<unknown[]> {
    return await store.transaction(async (tx) => (await tx.query(`select text from ${table}`)).map(({ text }) => text));
  }

  async function open(scene: Scene): Promise<void> {
    const name = context.dialect === "postgres" ? `create table if not exists ${table}` : `create table ${table}`;
    await scene.store.transaction(async (tx) => {
      await tx.query(`${name} (text varchar(100))`);
      await tx.query(`delete from ${table}`);
    });
  }

  test(
    "transaction() commits the caller's rows and ours together, and resolves to what the callback gives",
    inStore(context, async (scene) => {
      await open(scene);
      const result = await scene.store.transaction(async (tx) => {
        await tx.query(`insert into ${table} values (${mark(context, 1)})`, ["it's ? $1 ?1"]);
        const { id } = await scene.producer.enqueue(1, { tx });
        return { id };
      });
      assertEquals(await notes(scene), ["it's ? $1 ?1"]);
      assertEquals((await scene.store.admin.messages.get(result.id))?.payload, 1);
    }),
  );

  test(
    "transaction() rolls everything back when the callback rejects, with its own error",
    inStore(context, async (scene) => {
      await open(scene);
      await assertRejects(
        () =>
          scene.store.transaction(async (tx) => {
            await tx.query(`insert into ${table} values (${mark(context, 1)})`, ["gone"]);
            await scene.producer.enqueue(1, { tx });
            throw new Undo("mine");
          }),
        Undo,
        "mine",
      );
      assertEquals(await notes(scene), []);
      assertEquals(await scene.store.admin.messages.count(), 0);
    }),
  );

  test(
    "transaction() is rolled back when it takes too long, and says that nothing was applied",
    inStore(context, async (scene) => {
      let goOn = () => {};
      const error = await assertRejects(() =>
        scene.store.transaction(async (tx) => {
          await scene.producer.enqueue(1, { tx });
          await new Promise<void>((resolve) => goOn = resolve);
        }, { timeoutMs: 150 }), DatabaseError);
      assertEquals([error.outcome, error.reason], ["not_applied", "timeout"]);
      goOn();
      assertEquals(await scene.store.admin.messages.count(), 0);
      await scene.producer.enqueue("the store goes on");
    }),
  );

  test(
    "transaction() is rolled back when its signal is aborted",
    inStore(context, async (scene) => {
      const controller = new AbortController();
      const error = await assertRejects(() =>
        scene.store.transaction(async (tx) => {
          await scene.producer.enqueue(1, { tx });
          controller.abort(new RangeError("enough"));
          await new Promise(() => {});
        }, { signal: controller.signal })
      );
      assert(error instanceof DatabaseError && error.outcome === "not_applied" && error.reason === "aborted");
      assertEquals(await scene.store.admin.messages.count(), 0);
      const before = { signal: AbortSignal.abort(new RangeError("before")) };
      await assertRejects(() => scene.store.transaction(() => Promise.resolve(1), before), RangeError, "before");
      await assertRejects(() => scene.store.transaction(() => Promise.resolve(1), { timeoutMs: 0 }), RangeError);
      const wrong = { timeout: 1 } as never;
      await assertRejects(() => scene.store.transaction(() => Promise.resolve(1), wrong), TypeError, '"timeoutMs"');
    }),
  );
}

function operations(context: Context): void {
  for (const operation of Object.entries(OPERATIONS)) {
    test(
      `${operation[0]} in a transaction is stored if and only if it commits`,
      inStore(context, (scene) => checkOperation(scene, operation, (work) => scene.store.transaction(work))),
    );
  }
}

function handles(context: Context): void {
  test(
    "a call without tx inside a transaction of the store is refused, and one outside is not",
    inStore(context, async (scene) => {
      const { store, producer, consumer } = scene;
      await store.transaction(async (tx) => {
        await producer.enqueue(1, { tx });
        const calls: (() => Promise<unknown>)[] = [
          () => producer.enqueue(2),
          () => producer.enqueueMany([2]),
          () => consumer.dequeue(),
          () => consumer.archive(1),
          () => store.admin.messages.count(),
          () => store.ping(),
          () => store.transaction(() => Promise.resolve()),
        ];
        for (const call of calls) await assertRejects(call, StateError, "inside store.transaction");
      });
      assertEquals(await store.admin.messages.count(), 1);
      // Not even something that was begun inside keeps the mark after the end.
      await consumer.dequeue();
    }),
  );

  test(
    "a call of the store from outside waits or goes on while a transaction is open",
    inStore(context, async ({ store, producer }) => {
      let entered = () => {};
      const isOpen = new Promise<void>((resolve) => entered = resolve);
      const transaction = store.transaction(async (tx) => {
        entered();
        await producer.enqueue("inside", { tx });
      });
      await isOpen;
      const outside = producer.enqueue("outside");
      await Promise.all([transaction, outside]);
      assertEquals(await store.admin.messages.count(), 2);
    }),
  );

  test(
    "a transaction cannot be used after its end",
    inStore(context, async ({ store, producer }) => {
      let kept: Transaction | undefined;
      await store.transaction((tx) => Promise.resolve(kept = tx));
      const tx = kept as Transaction;
      await assertRejects(() => producer.enqueue(1, { tx }), StateError, "after it has ended");
      await assertRejects(() => tx.query("select 1"), StateError, "after it has ended");
      await assertRejects(() => store.transaction((tx) => (kept = tx, Promise.reject(new Undo()))), Undo);
      await assertRejects(() => producer.enqueue(1, { tx: kept as Transaction }), StateError, "after it has ended");
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );

  test(
    "a tx that is none is a TypeError",
    inStore(context, async ({ store, producer }) => {
      for (const tx of [{}, 1, "tx", true]) {
        await assertRejects(() => producer.enqueue(1, { tx: tx as never }), TypeError, "Cannot use tx");
      }
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );
}

function keys(context: Context): void {
  test(
    "a key that is refused in a transaction leaves the transaction usable",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue("old", { key: "k" });
      await store.transaction(async (tx) => {
        await producer.enqueue("before", { tx });
        const key = { value: "k", onConflict: "reject" } as const;
        const error = await assertRejects(() => producer.enqueue("old", { tx, key }));
        assertInstanceOf(error, StateError);
        assert(error.message.includes(`belongs to message ${id}`));
        await assertRejects(() => producer.enqueue("other", { tx, key: "k" }), StateError, "another payload");
        const each = (_: unknown, i: number) => ({ key: ["free", "k"][i] as string });
        await assertRejects(() => producer.enqueueMany(["x", "y"], { tx, each }), StateError, "item 1");
        await assertRejects(() => producer.enqueue(NaN, { tx }), TypeError);
        await producer.enqueue("after", { tx, key: "free" });
      });
      const { items } = await store.admin.messages.list();
      assertEquals(items.map(({ payload }) => payload), ["old", "before", "after"]);
    }),
  );

  test(
    "a key that was rolled back is free again",
    inStore(context, async ({ store, producer }) => {
      await assertRejects(() =>
        store.transaction(async (tx) => {
          await producer.enqueue(1, { tx, key: "k" });
          assertEquals((await producer.enqueue(1, { tx, key: "k" })).state, "ready");
          throw new Undo();
        }), Undo);
      await producer.enqueue(2, { key: "k" });
      assertEquals((await store.admin.messages.list()).items.map(({ payload }) => payload), [2]);
    }),
  );
}
