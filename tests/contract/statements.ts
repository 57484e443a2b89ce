/** The budget: how many statements an operation sends, whatever the number of messages. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { type Message, StateError, type Store } from "../../mod.ts";
import type { Rendered } from "../../src/sql/sql.ts";
import { openWatched } from "../support/watched_store.ts";
import type { Context } from "./context.ts";

/** A store whose driver notes what it is asked for. */
interface Watched {
  readonly store: Store;
  readonly producer: ReturnType<Store["producer"]>;
  readonly consumer: ReturnType<Store["consumer"]>;
  /** What was sent since the last look: the names of statements, and "transaction" for the begin of one. */
  look(): string[];
  /** The last statement as it was rendered. */
  last(): Rendered;
}

/** Defines the tests for one backend. */
export function statementsContract(context: Context): void {
  describe(`statements on ${context.name}`, () => {
    hot(context);
    texts(context);
    operators(context);
  });
}

function watch(context: Context, work: (watched: Watched) => Promise<void>): () => Promise<void> {
  return async () => {
    const place = await context.place();
    try {
      const sent: Rendered[] = [];
      const names: string[] = [];
      await using store = await openWatched(place.dsn, place.schema, (driver) => ({
        query(rendered, options) {
          sent.push(rendered);
          names.push(rendered.name);
          return driver.query(rendered, options);
        },
        transaction(run, limits) {
          names.push("transaction");
          return driver.transaction(run, limits);
        },
      }));
      await store.admin.install();
      await store.admin.createQueue("tasks");
      names.length = 0;
      const producer = store.producer("tasks");
      const consumer = store.consumer("tasks");
      await work({ store, producer, consumer, look: () => names.splice(0), last: () => sent.at(-1) as Rendered });
    } finally {
      await place.close();
    }
  };
}

function hot(context: Context): void {
  test(
    "enqueue() and enqueueMany() send one statement, with keys or without",
    watch(context, async ({ producer, look }) => {
      await producer.enqueue(1);
      assertEquals(look(), ["enqueueMessages"]);
      await producer.enqueue(1, { key: "k", delayMs: 1, priority: 3, headers: { type: "t" } });
      assertEquals(look(), ["enqueueMessages"]);
      await producer.enqueue(1, { key: "k" });
      assertEquals(look(), ["enqueueMessages"]);
      const list = Array.from({ length: 1_000 }, (_, n) => n);
      await producer.enqueueMany(list);
      assertEquals(look(), ["enqueueMessages"]);
      await producer.enqueueMany(list, { each: (n) => ({ key: `${n}` }) });
      assertEquals(look(), ["enqueueMessages"]);
      await producer.enqueueMany([]);
      assertEquals(look(), []);
    }),
  );

  test(
    "enqueue() under a refused key learns why at once, enqueueMany() on SQLite with one statement more",
    watch(context, async ({ producer, look }) => {
      await producer.enqueue(1, { key: "k" });
      look();
      await assertRejects(() => producer.enqueue(2, { key: "k" }), StateError);
      assertEquals(look(), ["enqueueMessages"]);
      await assertRejects(() => producer.enqueueMany([2], { each: () => ({ key: "k" }) }), StateError);
      assertEquals(look(), context.dialect === "postgres" ? ["enqueueMessages"] : ["enqueueMessages", "findRefusal"]);
    }),
  );

  test(
    "dequeue() sends one statement, and one more only before it ever got a message",
    watch(context, async ({ producer, consumer, look }) => {
      assertEquals(await consumer.dequeue(), []);
      assertEquals(look(), ["claimMessages", "findQueue"]);
      assertEquals(await consumer.dequeue(), []);
      assertEquals(look(), ["claimMessages"]);
      await producer.enqueueMany(Array.from({ length: 50 }, (_, n) => n));
      look();
      assertEquals((await consumer.dequeue({ limit: 50 })).length, 50);
      assertEquals(look(), ["claimMessages"]);
    }),
  );

  test(
    "settling sends one statement for any number of messages",
    watch(context, async ({ producer, consumer, look }) => {
      await producer.enqueueMany(Array.from({ length: 501 }, (_, n) => n));
      const messages = await consumer.dequeue({ limit: 501, leaseMs: 60_000 });
      const single = messages.pop() as Message;
      const take = (): Message[] => messages.splice(0, 100);
      look();
      assertEquals((await consumer.extendMany(messages, 60_000)).every(Boolean), true);
      assertEquals(look(), ["extendLeased"]);
      await consumer.archiveMany(take(), { result: { ok: true }, reason: "r" });
      assertEquals(look(), ["archiveLeased"]);
      await consumer.deleteMany(take());
      assertEquals(look(), ["deleteLeased"]);
      await consumer.releaseMany(take());
      assertEquals(look(), ["releaseLeased"]);
      // The back-off of the queue is read once and kept for a while.
      await consumer.failMany(take(), new Error("no"));
      assertEquals(look(), ["findQueue", "failLeased"]);
      await consumer.failMany(take(), new Error("no"));
      assertEquals(look(), ["failLeased"]);
      await consumer.fail(single, new Error("no"), { retry: false });
      assertEquals(look(), ["failLeased"]);
      assertEquals(messages.length, 0);
    }),
  );
}

function texts(context: Context): void {
  test(
    "the text of a statement does not depend on the number of messages, so that it is prepared once",
    watch(context, async ({ producer, consumer, last }) => {
      const textsOf = (): string[] => last().parts.map(({ text }) => text);
      const text: string[][] = [];
      for (const length of [1, 2, 999]) {
        await producer.enqueueMany(Array.from({ length }, (_, n) => ({ n })));
        const enqueued = textsOf();
        const messages = await consumer.dequeue({ limit: length, leaseMs: 60_000 });
        const claimed = textsOf();
        await consumer.extendMany(messages, 60_000);
        const extended = textsOf();
        await consumer.archiveMany(messages);
        text.push([...enqueued, ...claimed, ...extended, ...textsOf()]);
      }
      assertEquals(text[1], text[0]);
      assertEquals(text[2], text[0]);
    }),
  );

  test(
    "no value is ever part of a text",
    watch(context, async ({ producer, consumer, store, last }) => {
      const canary = "canary31415";
      const calls: (() => Promise<unknown>)[] = [
        () => producer.enqueue({ canary }, { key: canary, headers: { type: canary } }),
        () => producer.enqueueMany([canary, canary]),
        () => consumer.dequeue({ type: canary }),
        () => consumer.archive(1, { reason: canary, result: canary }),
        () => consumer.fail(2, new Error(canary), { delayMs: 31_415 }),
        () => store.admin.messages.list({ key: canary, type: canary, queue: canary }),
        () => store.admin.archive.list({ key: canary, worker: canary, reason: canary, type: canary }),
        () => store.admin.createQueue(canary),
      ];
      for (const call of calls) {
        await call();
        assert(!/canary|31.?415/.test(last().parts.map(({ text }) => text).join()), String(call));
      }
    }),
  );
}

function operators(context: Context): void {
  test(
    "operators' calls send one statement each",
    watch(context, async ({ store, producer, consumer, look }) => {
      const { admin } = store;
      const ids = (await producer.enqueueMany([1, 2, 3, 4, 5])).map(({ id }) => id);
      await consumer.dequeue({ limit: 2 });
      look();
      const calls: [() => Promise<unknown>, string][] = [
        [() => admin.messages.get(ids[0] as number), "findMessage"],
        [() => admin.messages.list({ state: "ready" }), "listMessages"],
        [() => admin.messages.count(), "countMessages"],
        [() => admin.messages.update(ids[0] as number, { priority: 1 }), "updateMessage"],
        [() => admin.messages.release(ids[1] as number), "updateMessage"],
        [() => admin.messages.archive(ids[0] as number), "endMessages"],
        [() => admin.messages.cancel(ids[1] as number), "endMessages"],
        [() => admin.messages.delete(ids[2] as number), "deleteMessages"],
        [() => admin.archive.get(ids[0] as number), "findArchived"],
        [() => admin.archive.list(), "listArchived"],
        [() => admin.archive.count(), "countArchived"],
        [() => admin.archive.replay(ids[0] as number), "replayArchived"],
        [() => admin.archive.purge({ queue: "tasks" }), "purgeArchived"],
        [() => admin.metrics(), "reportMetrics"],
        [() => admin.metrics("tasks"), "reportMetrics"],
        [() => admin.workers.list(), "listWorkers"],
        [() => admin.workers.stats(), "listWorkers"],
        [() => admin.workers.purge(), "forgetWorkers"],
        [() => admin.workers.release("consumer"), "releaseHeld"],
        [() => admin.queues.list(), "listQueues"],
        [() => admin.queues.update("tasks", { maxAttempts: 2 }), "updateQueue"],
        [() => store.ping(), "ping"],
      ];
      for (const [call, name] of calls) {
        await call();
        assertEquals(look(), [name], String(call));
      }
    }),
  );
}
