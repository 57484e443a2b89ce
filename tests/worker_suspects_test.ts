/** Messages that have crashed so often that they may be the reason: workers keep them apart from each other. */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import { type BatchContext, job, type Message } from "../mod.ts";
import { claimMessages, decodeExchange } from "../src/sql/leases.ts";
import { type Context, inStore, postgresContext, type Scene, sqliteFileContext } from "./contract/context.ts";
import { startWorker, until } from "./support/running_worker.ts";
import { openWatchedDatabase } from "./support/watched_store.ts";

const SUSPECTS = 4;
const OTHERS = 6;

/** Watches which messages are handled at the same time. */
class Watch {
  mostSuspects = 0;
  /** How many others were handled beside a suspect at most. */
  mostBeside = 0;
  #suspects = 0;
  #others = 0;

  async handle(messages: readonly Message[]): Promise<void> {
    const suspects = messages.filter(({ crashes }) => crashes > 0).length;
    this.#suspects += suspects;
    this.#others += messages.length - suspects;
    this.mostSuspects = Math.max(this.mostSuspects, this.#suspects);
    if (this.#suspects > 0) this.mostBeside = Math.max(this.mostBeside, this.#others);
    await new Promise((resolve) => setTimeout(resolve, 5));
    this.#suspects -= suspects;
    this.#others -= messages.length - suspects;
  }
}

/** Makes messages of which one more crash is the last one allowed, and others that have had none. */
async function makeSuspects({ store }: Scene, ...queues: readonly string[]): Promise<void> {
  for (const name of queues) {
    if (name === "tasks") await store.admin.queues.update(name, { maxCrashes: 2 });
    else await store.admin.createQueue(name, { maxCrashes: 2 });
    await store.producer(name).enqueueMany(Array(SUSPECTS).fill(null));
    await store.consumer(name).dequeue({ limit: SUSPECTS, leaseMs: 1 });
    await store.producer(name).enqueueMany(Array(OTHERS).fill(null));
  }
  const isOver = ({ leaseUntil }: Message): boolean => isPast(leaseUntil);
  await until(async () => (await store.admin.messages.list()).items.every(isOver), "the leases are over");
}

function isPast(instant: Date | null): boolean {
  return instant === null || instant.getTime() < Date.now();
}

function suspectsContract(context: Context): void {
  test(
    "drain() handles one at a time, over all jobs of the worker, and others beside it",
    inStore(context, async (scene) => {
      await makeSuspects(scene, "tasks", "more");
      const watch = new Watch();
      const jobs = ["tasks", "more"].map((name) => job(name, async (message) => await watch.handle([message])));
      assertEquals((await scene.store.worker(jobs).drain()).completed, 2 * (SUSPECTS + OTHERS));
      assertEquals(watch.mostSuspects, 1);
      assert(watch.mostBeside > 0);
    }),
  );

  test(
    "run() handles one at a time and gives the others back, which are handled by itself or by others later",
    inStore(context, async (scene) => {
      await makeSuspects(scene, "tasks");
      const watch = new Watch();
      const tasks = job("tasks", async (message) => await watch.handle([message]));
      await using _running = startWorker(scene.store, [tasks]);
      await until(async () => await scene.store.admin.archive.count() === SUSPECTS + OTHERS);
      assertEquals(watch.mostSuspects, 1);
      const { items } = await scene.store.admin.archive.list();
      assertEquals([...new Set(items.map(({ attempts }) => attempts))], [0]);
      assertEquals(items.filter(({ crashes }) => crashes === 1).length, SUSPECTS);
    }),
  );

  test(
    "run() does not begin one together with others that have crashed, with which it may have",
    inStore(context, async (scene) => {
      const { store, producer, consumer } = scene;
      await store.admin.queues.update("tasks", { maxCrashes: 4 });
      const { id } = await producer.enqueue("suspect");
      await consumer.dequeue({ leaseMs: 1 });
      await producer.enqueue("crashed");
      for (let taken = 0; taken < 2;) taken = (await consumer.dequeue({ limit: 2, leaseMs: 1 })).length;
      await until(async () => (await store.admin.messages.list()).items.every(({ leaseUntil }) => isPast(leaseUntil)));
      const seen: unknown[] = [];
      const tasks = job("tasks", async ({ payload, crashes }) => {
        seen.push(payload, crashes);
        if (payload === "suspect") return;
        let state: string | undefined;
        await until(async () => (state = (await store.admin.messages.get(id))?.state) !== "leased");
        seen.push(state);
      });
      await using _running = startWorker(store, [tasks]);
      await until(() => seen.length === 5);
      assertEquals(seen, ["crashed", 1, "delayed", "suspect", 2]);
    }),
  );

  test(
    "a handler of batches gets one by itself",
    inStore(context, async (scene) => {
      await makeSuspects(scene, "tasks");
      const watch = new Watch();
      const sizes: number[] = [];
      const handle = async (messages: readonly Message[], _context: BatchContext): Promise<void> => {
        if (messages.some(({ crashes }) => crashes > 0)) sizes.push(messages.length);
        await watch.handle(messages);
      };
      assertEquals((await scene.store.worker([job("tasks", handle, { batch: 5 })]).drain()).completed, 10);
      assertEquals(sizes, Array(SUSPECTS).fill(1));
      assertEquals(watch.mostSuspects, 1);
    }),
  );

  test(
    "a crash in the second half counts only for a message that was begun",
    inStore(context, async ({ store, place }) => {
      await store.admin.queues.update("tasks", { maxCrashes: 4 });
      const { id } = await store.producer("tasks").enqueue(null);
      const database = await openWatchedDatabase(place.dsn, place.schema, (driver) => ({
        query: (rendered, options) => driver.query(rendered, options),
        transaction: (work, limits) => driver.transaction(work, limits),
      }));
      try {
        const claim = { queue: "tasks", limit: 1, leaseMs: 1, defaultLeaseMs: 1, type: undefined, isAhead: true };
        const crashes: number[] = [];
        while (crashes.length < 5) {
          const rows = await database.query(claimMessages({ ...claim, holder: "dying#12345678" }));
          for (const record of decodeExchange(rows).claimed) crashes.push(record.crashes);
        }
        assertEquals(crashes, [0, 1, 2, 2, 2]);
        // A consumer begins what it takes.
        const consumer = store.consumer("tasks");
        while (crashes.length < 7) {
          for (const message of await consumer.dequeue({ leaseMs: 1 })) crashes.push(message.crashes);
        }
        await until(async () => (await consumer.dequeue()).length === 0 && await store.admin.archive.get(id) !== null);
        assertEquals(crashes.slice(5), [2, 3]);
        assertEquals((await store.admin.archive.get(id))?.crashes, 4);
      } finally {
        await database.close();
      }
    }),
  );
}

describe("suspects on Postgres", () => suspectsContract(postgresContext()));
// Not in memory, which the last of them opens twice.
describe("suspects on a SQLite file", () => suspectsContract(sqliteFileContext()));
