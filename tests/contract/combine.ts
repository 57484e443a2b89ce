/** Calls that are made together leave together, and each has what it would have by itself. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { DatabaseError, type Message, NotFoundError, type PgqrsError, StateError, type Store } from "../../mod.ts";
import type { Rendered } from "../../src/sql/sql.ts";
import { openWatched } from "../support/watched_store.ts";
import { type Context, inStore } from "./context.ts";

/** Defines the tests for one backend. */
export function combineContract(context: Context): void {
  describe(`calls made together on ${context.name}`, () => {
    counting(context);
    enqueuing(context);
    keyed(context);
    settling(context);
    apart(context);
    if (context.dialect === "postgres") locked(context);
  });
}

/** A store whose statements are noted, and can be spoiled. */
interface Watched {
  readonly store: Store;
  /** The names of the statements since the last look. */
  look(): string[];
  /** Throws for a statement that is to fail. */
  spoil: (rendered: Rendered) => void;
}

function watch(context: Context, work: (watched: Watched) => Promise<void>): () => Promise<void> {
  return async () => {
    const place = await context.place();
    try {
      const names: string[] = [];
      await using store = await openWatched(place.dsn, place.schema, (driver) => ({
        query(rendered, options) {
          names.push(rendered.name);
          watched.spoil(rendered);
          return driver.query(rendered, options);
        },
        transaction: (run, limits) => driver.transaction(run, limits),
      }));
      const watched: Watched = { store, look: () => names.splice(0), spoil: () => {} };
      await store.admin.install();
      await store.admin.createQueue("tasks");
      names.length = 0;
      await work(watched);
    } finally {
      await place.close();
    }
  };
}

function times<T>(count: number, make: (n: number) => T): T[] {
  return Array.from({ length: count }, (_, n) => make(n));
}

/** Messages that are leased to a consumer. */
async function lease(store: Store, count: number): Promise<Message[]> {
  await store.producer("tasks").enqueueMany(times(count, (n) => n));
  return await store.consumer("tasks").dequeue({ limit: count, leaseMs: 600_000 });
}

function counting(context: Context): void {
  test(
    "32 calls of enqueue() leave in one statement, alike or with options that differ",
    watch(context, async ({ store, look }) => {
      const producer = store.producer<number>("tasks");
      await Promise.all(times(32, (n) => producer.enqueue(n)));
      assertEquals(look(), ["enqueueMessages"]);
      await Promise.all(times(32, (n) => producer.enqueue(n, { priority: n % 10, maxAttempts: 1 + n })));
      assertEquals(look(), ["enqueueMessages"]);
    }),
  );

  test(
    "callers in a loop share statements, and so do calls with keys, whatever their producer",
    watch(context, async ({ store, look }) => {
      await Promise.all(times(32, async (n) => {
        for (let i = 0; i < 10; i++) await store.producer("tasks").enqueue(n);
      }));
      const plain = look().length;
      assert(plain <= 40, `320 calls made ${plain} statements`);
      await Promise.all(times(32, async (n) => {
        for (let i = 0; i < 10; i++) await store.producer("tasks").enqueue(n, { key: `${n} ${i}` });
      }));
      const withKeys = look().length;
      assert(withKeys <= 120, `320 calls with keys made ${withKeys} statements`);
      assertEquals(await store.admin.messages.count(), 640);
    }),
  );

  test(
    "settling leaves in one statement for each kind, with lists beside single messages",
    watch(context, async ({ store, look }) => {
      const leased = await lease(store, 50);
      const consumer = store.consumer("tasks");
      await consumer.fail(leased.pop() as Message, new Error("no"));
      look();
      const take = (count: number): Message[] => leased.splice(0, count);
      const held = await Promise.all([
        ...take(6).map((message, n) => consumer.archive(message, { result: n })),
        consumer.archiveMany(take(3), { reason: "list" }),
        ...take(6).map((message) => consumer.delete(message)),
        ...take(6).map((message, n) => consumer.release(message, { delayMs: 60_000 + n })),
        ...take(6).map((message, n) => consumer.extend(message, 700_000 + n)),
        ...take(6).map((message, n) => consumer.fail(message, new Error(`no ${n}`), { delayMs: 0 })),
      ]);
      assert(held.flat().every((isHeld) => isHeld), String(held));
      const names = ["archiveLeased", "deleteLeased", "extendLeased", "failLeased", "releaseLeased"];
      assertEquals(look().sort(), names);
    }),
  );
}

function enqueuing(context: Context): void {
  test(
    "enqueue() gives ids in the order of the calls, and each call its own message",
    inStore(context, async ({ store, producer }) => {
      const at = new Date(Date.UTC(2040, 0, 1));
      const messages = await Promise.all(times(40, (n) => {
        if (n % 4 === 1) return producer.enqueue({ n }, { delayMs: 60_000 + n, priority: n % 10 });
        if (n % 4 === 2) return producer.enqueue({ n }, { at, headers: { type: `t${n}` }, maxAttempts: 1 + n });
        return producer.enqueue({ n }, n % 4 === 3 ? { ttlMs: 1_000_000 + n } : {});
      }));
      const ids = messages.map(({ id }) => id);
      assertEquals(ids, [...ids].sort((a, b) => a - b));
      assertEquals(messages.map(({ payload }) => payload), times(40, (n) => ({ n })));
      const stored = await Promise.all(ids.map((id) => store.admin.messages.get(id)));
      assertEquals(messages, stored as Message[]);
    }),
  );

  test(
    "enqueue() of what cannot be stored fails alone and before anything is sent",
    watch(context, async ({ store, look }) => {
      const producer = store.producer("tasks");
      const calls = times(9, (n) => producer.enqueue(n === 4 ? 1n : n, n === 6 ? { priority: 10 } : {}));
      const results = await Promise.allSettled(calls);
      const refused = results.flatMap((one, n) => one.status === "rejected" ? [[n, one.reason.name]] : []);
      assertEquals(refused, [[4, "TypeError"], [6, "RangeError"]]);
      assertEquals(look(), ["enqueueMessages"]);
      assertEquals(await store.admin.messages.count(), 7);
    }),
  );

  test(
    "enqueue() to no queue tells every caller so, and leaves those to other queues alone",
    inStore(context, async ({ store, producer }) => {
      const calls = [...times(3, () => store.producer("none").enqueue(1)), ...times(3, (n) => producer.enqueue(n))];
      const results = await Promise.allSettled(calls);
      assertEquals(results.map((one) => one.status === "rejected" && one.reason instanceof NotFoundError), [
        ...[true, true, true],
        ...[false, false, false],
      ]);
    }),
  );

  test(
    "a message that the database refuses fails alone, and the others are stored once",
    watch(context, async (watched) => {
      const { store } = watched;
      const refused = new DatabaseError("refused", { outcome: "not_applied", reason: "constraint" });
      watched.spoil = ({ parts }) => {
        if (parts.some(({ values }) => values.some((value) => String(value).includes("poison")))) throw refused;
      };
      const producer = store.producer("tasks");
      const results = await Promise.allSettled(times(12, (n) => producer.enqueue(n === 7 ? "poison" : n)));
      assertEquals(results.flatMap((one, n) => one.status === "rejected" ? [[n, one.reason]] : []), [[7, refused]]);
      const { items } = await store.admin.messages.list({ limit: 50 });
      const stored = items.map(({ payload }) => payload as number).sort((a, b) => a - b);
      assertEquals(stored, times(12, (n) => n).filter((n) => n !== 7));
    }),
  );

  test(
    "a lost connection makes every call unknown, and nothing is sent again",
    watch(context, async (watched) => {
      const { store, look } = watched;
      watched.spoil = () => {
        throw new DatabaseError("lost", { outcome: "unknown", reason: "connection" });
      };
      const results = await Promise.allSettled(times(5, (n) => store.producer("tasks").enqueue(n)));
      assertEquals(results.map((one) => one.status === "rejected" && one.reason.outcome), times(5, () => "unknown"));
      assertEquals(look(), ["enqueueMessages"]);
    }),
  );
}

function keyed(context: Context): void {
  test(
    "100 concurrent calls of enqueue() with one key make one message, which all of them get",
    inStore(context, async ({ store, producer }) => {
      const messages = await Promise.all(times(100, () => producer.enqueue({ n: 1 }, { key: "k", priority: 3 })));
      const [stored] = (await store.admin.messages.list()).items;
      for (const message of messages) assertEquals(message, stored);
      assertEquals(await store.admin.messages.count(), 1);
      assertEquals(new Set(messages).size, 100);
    }),
  );

  test(
    "concurrent calls with one key and other payloads or demands are told what they would be told alone",
    inStore(context, async ({ store, producer }) => {
      const before = await producer.enqueue("old", { key: "taken" });
      const results = await Promise.allSettled([
        producer.enqueue(1, { key: "k" }),
        producer.enqueue(2, { key: "k" }),
        producer.enqueue(1, { key: { value: "k", onConflict: "reject" } }),
        producer.enqueue("new", { key: { value: "taken", onConflict: "replace" }, priority: 9 }),
        producer.enqueue(3, { key: "other" }),
        producer.enqueue(1, { key: "k" }),
      ]);
      const told = results.map((one) =>
        one.status === "fulfilled" ? one.value.payload : (one.reason as PgqrsError).code
      );
      const { items } = await store.admin.messages.list();
      // Which of the payloads comes first depends on how fast they were hashed.
      const winner = items.find(({ key }) => key === "k")?.payload;
      const [one, two, isFirst] = winner === 1 ? [1, "state", told[2] === 1] : ["state", 2, false];
      assertEquals(told, [one, two, isFirst ? 1 : "state", "new", 3, one]);
      assertEquals((await store.admin.messages.get(before.id))?.payload, "new");
      for (const one of results) assert(one.status === "fulfilled" || one.reason instanceof StateError);
      assertEquals(await store.admin.messages.count(), 3);
    }),
  );

  test(
    "a key that is refused fails alone",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue("a", { key: "k5" });
      const results = await Promise.allSettled(times(10, (n) => producer.enqueue(n, { key: `k${n}` })));
      const refused = results.flatMap((one, n) => one.status === "rejected" ? [[n, one.reason.message]] : []);
      const why = `Cannot enqueue to "tasks": the key of item 0 belongs to message ${id} with another payload`;
      assertEquals(refused, [[5, why]]);
      assertEquals(await store.admin.messages.count(), 10);
    }),
  );
}

function settling(context: Context): void {
  test(
    "a lease that is lost is told to its own call, and a message that two calls settle to the first of them",
    inStore(context, async ({ store }) => {
      const [one, two, three] = await lease(store, 3) as [Message, Message, Message];
      const consumer = store.consumer("tasks");
      await store.admin.messages.release(two.id);
      const held = await Promise.all([
        consumer.archive(one, { result: "first" }),
        consumer.archive(two),
        consumer.archiveMany([three, one, three]),
        consumer.archive(one, { result: "second" }),
      ]);
      assertEquals(held, [true, false, [true, false, true], false]);
      assertEquals((await store.admin.archive.get(one.id))?.result, "first");
    }),
  );

  test(
    "each call settles with what it was given",
    inStore(context, async ({ store }) => {
      const leased = await lease(store, 12);
      const consumers = [store.consumer("tasks", { name: "ann" }), store.consumer("tasks", { name: "bob" })] as const;
      await Promise.all(leased.map((message, n) => {
        const consumer = consumers[n % 2 as 0 | 1];
        if (n < 6) return consumer.archive(message, { reason: `reason ${n}`, result: { n } });
        return consumer.fail(message, new Error(`error ${n}`), { retry: n < 9, delayMs: 60_000 });
      }));
      const ended = await Promise.all(leased.map(({ id }) => store.admin.archive.get(id)));
      const told = ended.map((one) => one && [one.reason, one.archivedBy, one.result ?? one.error?.message]);
      assertEquals(told.slice(0, 6), times(6, (n) => [`reason ${n}`, n % 2 === 0 ? "ann" : "bob", { n }]));
      assertEquals(told.slice(6, 9), [null, null, null]);
      assertEquals(
        told.slice(9),
        times(3, (n) => ["not_retryable", n % 2 === 0 ? "bob" : "ann", `error ${9 + n}`]),
      );
    }),
  );
}

function apart(context: Context): void {
  test(
    "calls in a transaction are never combined: they are stored if and only if it is committed",
    watch(context, async ({ store, look }) => {
      const producer = store.producer("tasks");
      const consumer = store.consumer("tasks");
      const [message] = await lease(store, 1) as [Message];
      const undone = store.transaction(async (tx) => {
        await Promise.all(times(4, (n) => producer.enqueue(n, n % 2 === 0 ? { tx } : { tx, key: `k${n}` })));
        assert(await consumer.archive(message, { tx }));
        throw new EvalError("undo");
      });
      await assertRejects(() => undone, EvalError);
      assertEquals(await store.admin.messages.count(), 1);
      look();
      await store.transaction((tx) => Promise.all(times(4, (n) => producer.enqueue(n, { tx }))));
      assertEquals(await store.admin.messages.count(), 5);
      assertEquals(look(), ["countMessages"]);
    }),
  );

  test(
    "a call without the transaction is refused inside one, also while others are under way",
    inStore(context, async ({ store, producer }) => {
      await Promise.all([
        ...times(3, (n) => producer.enqueue(n)),
        store.transaction(async () => {
          await assertRejects(() => producer.enqueue("inside"), StateError, "without { tx }");
        }),
      ]);
      assertEquals(await store.admin.messages.count(), 3);
    }),
  );

  test(
    "a call that was aborted before it is made is refused with the reason of its signal, and alone",
    inStore(context, async ({ store, producer }) => {
      const signal = AbortSignal.abort(new EvalError("mine"));
      const calls = times(4, (n) => producer.enqueue(n, n === 2 ? { signal } : {}));
      const results = await Promise.allSettled(calls);
      assertEquals(results.map((one) => one.status === "rejected" && one.reason instanceof EvalError), [
        ...[false, false, true, false],
      ]);
      assertEquals(await store.admin.messages.count(), 3);
    }),
  );
}

/** Where somebody else can have locked what a call needs. */
function locked(context: Context): void {
  test(
    "a key that an open transaction holds keeps neither calls without keys nor those with others from being stored",
    inStore(context, async ({ store, producer }) => {
      let release = (): void => {};
      const released = new Promise<void>((resolve) => release = resolve);
      let hold = (): void => {};
      const isHeld = new Promise<void>((resolve) => hold = resolve);
      const transaction = store.transaction(async (tx) => {
        await producer.enqueue("held", { tx, key: "k3" });
        hold();
        await released;
      }, { timeoutMs: 60_000 });
      await isHeld;
      const calls = times(8, (n) => producer.enqueue("held", { key: `k${n}` }));
      const blocked = calls.splice(3, 1);
      await Promise.all([...calls, producer.enqueue("plain")]);
      // Calls that come later are not held up either, by the one that waits.
      await Promise.all(times(2, (n) => producer.enqueue(n, { key: `later ${n}` })));
      release();
      await transaction;
      const [message] = await Promise.all(blocked);
      assertEquals(message?.key, "k3");
      assertEquals(await store.admin.messages.count(), 11);
    }),
  );

  test(
    "a message that an open transaction has locked does not keep others from being settled",
    inStore(context, async ({ store }) => {
      const leased = await lease(store, 6);
      const consumer = store.consumer("tasks");
      let release = (): void => {};
      const released = new Promise<void>((resolve) => release = resolve);
      let hold = (): void => {};
      const isHeld = new Promise<void>((resolve) => hold = resolve);
      const transaction = store.transaction(async (tx) => {
        await consumer.archive(leased[2] as Message, { tx });
        hold();
        await released;
      }, { timeoutMs: 60_000 });
      await isHeld;
      const calls = leased.map((message) => consumer.extend(message, 900_000));
      const [blocked] = calls.splice(2, 1);
      assertEquals(await Promise.all(calls), times(5, () => true));
      release();
      await transaction;
      assertEquals(await blocked, false);
    }),
  );

  test(
    "the limit on waiting for locks ends with its statement",
    inStore(context, async ({ store, producer }) => {
      await Promise.all(times(8, (n) => producer.enqueue(n, { key: `k${n}` })));
      const [row] = await store.transaction((tx) => tx.query("show lock_timeout"));
      assertEquals(row?.lock_timeout, "0");
    }, { maxConnections: 1 }),
  );
}
