/** What `store.result` and `context.progress` promise. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import {
  CancelledError,
  DatabaseError,
  FailedError,
  job,
  type JobContext,
  type Message,
  NonRetryableError,
  NotFoundError,
  StateError,
  type Store,
  TimeoutError,
} from "../../mod.ts";
import type { Driver } from "../../src/sql/driver.ts";
import { until } from "../support/until.ts";
import { openWatched } from "../support/watched_store.ts";
import { type Context, inStore, inTime, type Place, takeOne } from "./context.ts";

/** Defines the tests for one backend. */
export function resultsContract(context: Context): void {
  describe(`results on ${context.name}`, () => {
    outcomes(context);
    limits(context);
    sharing(context);
    failures(context);
  });
  describe(`progress on ${context.name}`, () => {
    progress(context);
    folding(context);
  });
}

function outcomes(context: Context): void {
  test(
    "result() resolves to what the handler resolved to, as it is stored",
    inStore(context, async ({ store, producer }) => {
      const values = [{ deep: [1, "two", null] }, "text", 0, false, null];
      const messages = await producer.enqueueMany([...values, undefined].map((_, n) => n));
      const waiting = messages.map((message) => store.result(message));
      await store.worker([job<number>("tasks", ({ payload }) => values[payload])]).drain();
      assertEquals(await Promise.all(waiting), [...values, null]);
      // Whoever comes later gets the same, by the id alone.
      assertEquals(await store.result<string>((messages[1] as Message).id), "text");
    }),
  );

  test(
    "result() resolves to what a consumer or an operator has archived",
    inStore(context, async ({ store, producer, consumer }) => {
      const [one, two] = await producer.enqueueMany(["a", "b"]) as [Message, Message];
      const waiting = [store.result(one), store.result(two.id)];
      await consumer.archive(await takeOne(consumer), { result: { by: "hand" } });
      await store.admin.messages.archive(two.id);
      assertEquals(await Promise.all(waiting), [{ by: "hand" }, null]);
    }),
  );

  test(
    "result() resolves when a transaction of the handler has ended the message",
    inStore(context, async ({ store, producer }) => {
      const waiting = store.result(await producer.enqueue(1));
      await store.worker([job("tasks", (_, context) => context.transaction(() => Promise.resolve("both")))]).drain();
      assertEquals(await waiting, "both");
    }),
  );

  test(
    "result() rejects with FailedError, its reason and the stored error when the message is a dead letter",
    inStore(context, async ({ store, producer, consumer }) => {
      const [used, hopeless] = await producer.enqueueMany(["used", "hopeless"], { maxAttempts: 1 }) as [
        Message,
        Message,
      ];
      const waiting = [used, hopeless].map((message) => assertRejects(() => store.result(message), FailedError));
      await store.worker([job("tasks", ({ payload }) => {
        if (payload === "used") throw new RangeError("too far", { cause: new Error("the road") });
        throw new NonRetryableError("never");
      })]).drain();
      const [first, second] = await Promise.all(waiting) as [FailedError, FailedError];
      assertEquals([first.code, first.reason, second.reason], ["failed", "attempts", "attempts"]);
      assertEquals([first.error?.name, first.error?.message], ["RangeError", "too far"]);
      assertEquals(first.error?.cause?.message, "the road");
      assert(!first.message.includes("too far"), first.message);
      const third = await producer.enqueue("by hand");
      await consumer.fail(await takeOne(consumer), "no more", { retry: false });
      const error = await assertRejects(() => store.result(third), FailedError);
      assertEquals([error.reason, error.error?.message], ["not_retryable", "no more"]);
    }),
  );

  test(
    "result() rejects with FailedError of reason crashes when leases ran out too often",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const message = await producer.enqueue(1);
      const waiting = assertRejects(() => store.result(message), FailedError);
      for (let i = 0; i < 10; i++) {
        await takeOne(consumer, { leaseMs: 1_000 });
        clock.advance(1_000);
      }
      assertEquals(await consumer.dequeue(), []);
      const { reason, error } = await waiting;
      assertEquals([reason, error], ["crashes", null]);
    }),
  );

  test(
    "result() rejects with CancelledError and its reason",
    inStore(context, async ({ store, producer }) => {
      const message = await producer.enqueue(1);
      const waiting = assertRejects(() => store.result(message), CancelledError);
      await store.admin.messages.cancel(message.id, { reason: "not needed" });
      const { code, reason } = await waiting;
      assertEquals([code, reason], ["cancelled", "not needed"]);
    }),
  );

  test(
    "result() rejects with NotFoundError when there is no such message, or not any more",
    inStore(context, async ({ store, producer, consumer }) => {
      await assertRejects(() => store.result(4_711), NotFoundError, "4711");
      const [one, two] = await producer.enqueueMany([1, 2]) as [Message, Message];
      const waiting = [one, two].map((message) => assertRejects(() => store.result(message), NotFoundError));
      await consumer.delete(await takeOne(consumer));
      await store.admin.queues.purge("tasks");
      await Promise.all(waiting);
    }),
  );

  test(
    "result() goes on waiting for a message that is tried again, and that is replayed",
    inStore(context, async ({ store, producer, consumer }) => {
      const message = await producer.enqueue(1);
      const waiting = store.result(message);
      await consumer.fail(await takeOne(consumer), new Error("once"), { delayMs: 0 });
      await consumer.release(await takeOne(consumer));
      await consumer.archive(await takeOne(consumer), { result: "at last" });
      assertEquals(await waiting, "at last");
      await store.admin.archive.replay(message.id);
      const again = store.result(message);
      await consumer.archive(await takeOne(consumer), { result: "again" });
      assertEquals(await again, "again");
    }),
  );
}

function limits(context: Context): void {
  test(
    "result() rejects with TimeoutError in time, and the message goes on",
    inStore(context, async ({ store, producer, consumer }) => {
      const message = await producer.enqueue(1);
      const error = await assertRejects(() => store.result(message, { timeoutMs: 30 }), TimeoutError, "30 ms");
      assertEquals([error.code, error.name, error.cause], ["timeout", "TimeoutError", undefined]);
      const waiting = store.result(message, { timeoutMs: 60_000 });
      await consumer.archive(await takeOne(consumer), { result: 7 });
      assertEquals(await waiting, 7);
    }),
  );

  test(
    "result() rejects with the reason of its signal, before and while it waits",
    inStore(context, async ({ store, producer }) => {
      const message = await producer.enqueue(1);
      const before = { signal: AbortSignal.abort(new RangeError("before")) };
      await assertRejects(() => store.result(message, before), RangeError, "before");
      const controller = new AbortController();
      const waiting = store.result(message, { signal: controller.signal });
      await store.ping();
      controller.abort(new RangeError("while"));
      await assertRejects(() => waiting, RangeError, "while");
    }),
  );

  test(
    "result() refuses what is no message and unknown options before anything is sent",
    inStore(context, async ({ store }) => {
      for (const id of [0, -1, 1.5, "1", null, {}]) await assertRejects(() => store.result(id as never), TypeError);
      await assertRejects(() => store.result(1, { timeout: 5 } as never), TypeError, 'did you mean "timeoutMs"');
      await assertRejects(() => store.result(1, { timeoutMs: 0 }), RangeError, "timeoutMs");
      await assertRejects(() => store.transaction(() => store.result(1)), StateError, "wait for a result");
    }),
  );

  test(
    "result() ends as closed when the store is closed, and is refused after it",
    inStore(context, async ({ store, producer }) => {
      const message = await producer.enqueue(1);
      const waiting = [1, 2].map(() => assertRejects(() => store.result(message), DatabaseError));
      await store.ping();
      await store.close();
      for (const { reason, outcome } of await Promise.all(waiting)) {
        assertEquals([reason, outcome], ["closed", "not_applied"]);
      }
      assertEquals((await assertRejects(() => store.result(message), DatabaseError)).reason, "closed");
    }),
  );
}

/** A store of which every statement of one name is told of, with how many messages it is about. */
interface Watched {
  readonly store: Store;
  readonly sent: number[];
  /** While it is set every such statement fails with it. */
  failure: DatabaseError | undefined;
}

async function watch(place: Place, name: string): Promise<Watched> {
  const watched: Watched = { store: undefined as never, sent: [], failure: undefined };
  const store = await openWatched(place.dsn, place.schema, (driver: Driver) => ({
    query: (rendered, options) => {
      if (rendered.name === name) {
        watched.sent.push(JSON.parse(String(rendered.parts[0]?.values[0])).length);
        if (watched.failure !== undefined) return Promise.reject(watched.failure);
      }
      return driver.query(rendered, options);
    },
    transaction: (work, limits) => driver.transaction(work, limits),
  }));
  await store.admin.install();
  await store.admin.createQueue("tasks");
  return Object.assign(watched, { store });
}

function inWatched(context: Context, name: string, work: (watched: Watched) => Promise<void>): () => Promise<void> {
  return async () => {
    const place = await context.place();
    try {
      const watched = await watch(place, name);
      await using _store = watched.store;
      await work(watched);
    } finally {
      await place.close();
    }
  };
}

function sharing(context: Context): void {
  test(
    "result() of a thousand messages costs one statement at the beginning, and about one for each interval",
    inWatched(context, "listEndings", async ({ store, sent }) => {
      const messages = await store.producer("tasks").enqueueMany(Array.from({ length: 1_000 }, (_, n) => n));
      const waiting = messages.map((message) => store.result<string>(message));
      await until("all were asked for twice", () => sent.filter((count) => count === 1_000).length >= 2);
      assertEquals(sent.filter((count) => count < 1_000), []);
      const begin = performance.now();
      const before = sent.length;
      await until("some time has passed", () => performance.now() - begin > 200);
      // The interval is 10 ms at first and grows by half; a busy machine makes them fewer, never more.
      assert(sent.length - before <= 20, `${sent.length - before} statements`);
      const consumer = store.consumer("tasks");
      const asked = sent.length;
      const taken = await consumer.dequeue({ limit: 1_000 });
      await consumer.archiveMany(taken, { result: "done" });
      assertEquals(new Set(await Promise.all(waiting)), new Set(["done"]));
      assert(sent.length - asked <= 60, `${sent.length - asked} statements`);
    }),
  );

  test(
    "result() asks less and less often, and not at all while nobody waits",
    inWatched(context, "listEndings", async ({ store, sent }) => {
      const message = await store.producer("tasks").enqueue(1);
      const controller = new AbortController();
      const begin = performance.now();
      const waiting = assertRejects(() => store.result(message, { signal: controller.signal }));
      await until("it was asked for eight times", () => sent.length >= 8);
      // One at once, then after 10, 15, 22, … ms.
      assert(performance.now() - begin >= 10 + 15 + 22 + 33 + 50 + 75, "eight statements came too soon");
      controller.abort();
      await waiting;
      const count = sent.length;
      const end = performance.now();
      await until("some time has passed", () => performance.now() - end > 300);
      assertEquals(sent.length, count);
    }),
  );

  test(
    "result() looks at once when a worker of the store has ended the message, and for that one alone",
    inWatched(context, "listEndings", async ({ store, sent }) => {
      const producer = store.producer("tasks");
      const other = await producer.enqueue("other", { delayMs: 600_000 });
      const controller = new AbortController();
      const resting = assertRejects(() => store.result(other, { signal: controller.signal }));
      let isAlone = false;
      // On a slow machine a look for all may come just in between; not each time.
      for (let round = 0; round < 5 && !isAlone; round++) {
        const message = await producer.enqueue(round);
        const begin = sent.length;
        const waiting = store.result(message);
        // By now all that happens by itself is a look for both in a quarter of a second.
        await until("looks are rare", () => sent.length >= begin + 9);
        const before = sent.length;
        await store.worker([job("tasks", ({ payload }) => payload)]).drain();
        assertEquals(await waiting, round);
        isAlone = sent.slice(before)[0] === 1;
      }
      assert(isAlone, "it was not looked for");
      controller.abort();
      await resting;
    }),
  );

  test(
    "result() is told by polling of what another process has ended",
    async () => {
      if (context.isAlone) return;
      const place = await context.place();
      try {
        await using store = await place.connect();
        await using other = await place.connect();
        await store.admin.install();
        await store.admin.createQueue("tasks");
        const message = await store.producer("tasks").enqueue(1);
        const waiting = store.result(message, { timeoutMs: 20_000 });
        await other.worker([job("tasks", () => "elsewhere")]).drain();
        assertEquals(await waiting, "elsewhere");
      } finally {
        await place.close();
      }
    },
  );
}

function failures(context: Context): void {
  const down = new DatabaseError("Connection was lost", { outcome: "unknown", reason: "connection" });

  test(
    "result() survives a database that does not answer for a while, and says so when its time is up",
    inWatched(context, "listEndings", async (watched) => {
      const { store } = watched;
      const message = await store.producer("tasks").enqueue(1);
      watched.failure = down;
      const late = await assertRejects(() => store.result(message, { timeoutMs: 40 }), TimeoutError);
      assertEquals(late.cause, down);
      const waiting = store.result(message);
      const count = watched.sent.length;
      await until("it has asked in vain", () => watched.sent.length > count + 2);
      watched.failure = undefined;
      await store.admin.messages.archive(message.id);
      assertEquals(await waiting, null);
    }),
  );

  test(
    "result() rejects at once with what no other attempt would change",
    inWatched(context, "listEndings", async (watched) => {
      const refused = new DatabaseError("Not allowed", { outcome: "not_applied", reason: "permission" });
      watched.failure = refused;
      const error = await assertRejects(() => watched.store.result(1), DatabaseError);
      assertEquals(error, refused);
      assertEquals(watched.sent.length, 1);
    }),
  );
}

/** Runs a handler with one message, and resolves when the worker has nothing more to do. */
async function handle(store: Store, handler: (message: Message, context: JobContext) => unknown): Promise<Message> {
  const message = await store.producer("tasks").enqueue({ n: 1 });
  await store.worker([job("tasks", handler)]).drain();
  return message;
}

function progress(context: Context): void {
  test(
    "progress() of the context is seen on the message and by store.progress(), and ends with the message",
    inStore(context, async ({ store }) => {
      const seen: unknown[] = [];
      const message = await handle(store, async (message, context) => {
        seen.push(message.progress, await store.progress(message));
        assertEquals(await context.progress({ percent: 50, note: "half" }), true);
        seen.push(await store.progress<{ percent: number }>(message.id));
        seen.push((await store.admin.messages.get(message.id))?.progress);
        seen.push((await store.admin.messages.list()).items[0]?.progress);
        assertEquals(await context.progress(null), true);
        seen.push(await store.progress(message));
        return "result";
      });
      const half = { percent: 50, note: "half" };
      assertEquals(seen, [null, null, half, half, half, null]);
      assertEquals(await store.progress(message), null);
      assertEquals((await store.admin.archive.get(message.id))?.progress, null);
      assertEquals(await store.result(message), "result");
      await assertRejects(() => store.progress(0), TypeError);
    }),
  );

  test(
    "progress() of a failed attempt is there for the next one",
    inStore(context, async ({ store, producer }) => {
      const seen: unknown[] = [];
      await producer.enqueue(1);
      const task = job("tasks", async (message, context) => {
        seen.push(message.progress);
        await context.progress(context.attempt);
        if (context.attempt === 1) throw new Error("again");
      }, { retry: { backoff: { kind: "fixed", baseMs: 0 } } });
      const controller = new AbortController();
      const running = store.worker([task], { pollIntervalMs: 20 }).run({ signal: controller.signal });
      await until("both attempts were made", () => seen.length === 2);
      controller.abort();
      await running;
      assertEquals(seen, [null, 1]);
    }),
  );

  test(
    "progress() resolves to false when the lease was lost, and changes nothing",
    inStore(context, async ({ store, producer }) => {
      const message = await producer.enqueue(1);
      const answers: boolean[] = [];
      const task = job("tasks", async ({ id }, context) => {
        answers.push(await context.progress("mine"));
        await store.admin.messages.update(id, { delayMs: 600_000 });
        answers.push(await context.progress("stale"));
      });
      await store.worker([task]).drain();
      assertEquals(answers, [true, false]);
      const now = await store.admin.messages.get(message.id);
      assertEquals([now?.progress, now?.state], ["mine", "delayed"]);
    }),
  );

  test(
    "progress() that comes after the handler has ended is false, and disturbs no settling",
    inStore(context, async ({ store }) => {
      let late: Promise<boolean> | undefined;
      let again: JobContext | undefined;
      const message = await handle(store, (_, context) => {
        late = context.progress("not waited for");
        again = context;
        return "fine";
      });
      assertEquals(typeof await late, "boolean");
      assertEquals(await again?.progress("much too late"), false);
      assertEquals(await store.result(message), "fine");
      assertEquals((await store.admin.archive.get(message.id))?.outcome, "succeeded");
    }),
  );
}

function folding(context: Context): void {
  test(
    "progress() refuses what cannot be stored, and the job goes on",
    inStore(context, async ({ store }) => {
      const cyclic: Record<string, unknown> = {};
      cyclic.self = cyclic;
      const message = await handle(store, async (_, context) => {
        for (const value of [undefined, 1n, NaN, cyclic, () => {}, new Map()]) {
          await assertRejects(() => context.progress(value), TypeError, "progress");
        }
        await assertRejects(() => context.progress("x".repeat(2 ** 21)), RangeError, "progress");
        await assertRejects(() => context.transaction(() => context.progress(1)), StateError, "progress");
        return "unharmed";
      });
      assertEquals(await store.result(message), "unharmed");
    }),
  );

  test(
    "progress() that comes while one is under way is folded: the last one is stored",
    inWatched(context, "progressLeased", async ({ store, sent }) => {
      let last: unknown;
      await handle(store, async (message, context) => {
        const calls = Array.from({ length: 100 }, (_, n) => context.progress(n));
        assertEquals(new Set(await Promise.all(calls)), new Set([true]));
        last = await store.progress(message);
      });
      assertEquals(last, 99);
      assertEquals(sent, [1, 1]);
    }),
  );

  test(
    "progress() of many jobs at once shares statements, and of each its own is stored",
    inWatched(context, "progressLeased", async ({ store, sent }) => {
      await store.producer("tasks").enqueueMany(Array.from({ length: 20 }, (_, n) => n));
      const wrong: unknown[] = [];
      const task = job<number>("tasks", async (message, context) => {
        await context.progress({ of: message.payload });
        const stored = await store.progress<{ of: number }>(message);
        if (stored?.of !== message.payload) wrong.push([message.payload, stored]);
      }, { concurrency: 20 });
      const { completed } = await store.worker([task]).drain();
      assertEquals([completed, wrong], [20, []]);
      assertEquals(sent.reduce((sum, count) => sum + count), 20);
      assert(sent.length < 20, `${sent.length} statements`);
    }),
  );

  test(
    "progress() that the database refuses rejects, and the message is settled all the same",
    inWatched(context, "progressLeased", async (watched) => {
      const refused = new DatabaseError("Not allowed", { outcome: "not_applied", reason: "permission" });
      watched.failure = refused;
      let failure: unknown;
      const message = await handle(watched.store, async (_, context) => {
        failure = await context.progress(1).catch((error) => error);
        return "settled";
      });
      assertEquals(failure, refused);
      assertEquals(await watched.store.result(message), "settled");
    }),
  );
}
