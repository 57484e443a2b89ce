/** What maintenance promises: it deletes what is kept no longer, once and in small batches, and nothing else. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { DatabaseError, job, type Store } from "../../mod.ts";
import type { Context } from "./context.ts";
import { fill, inRound, insertWorker, round, select } from "./maintenance_scene.ts";

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;

/** Defines the tests for one backend. */
export function maintenanceContract(context: Context): void {
  describe(`maintenance on ${context.name}`, () => {
    retaining(context);
    keys(context);
    workers(context);
    turns(context);
    batches(context);
    settings(context);
  });
}

function retaining(context: Context): void {
  test(
    "admin.maintain() deletes what is kept no longer, and not a millisecond sooner",
    inRound(context, async ({ store, clock }) => {
      await store.admin.createQueue("short", { retentionMs: 1_000 });
      await store.admin.createQueue("ever", { retentionMs: null });
      for (const queue of ["tasks", "short", "ever"]) await endThree(store, queue);
      clock.advance(1_000);
      assertEquals(await store.admin.maintain(), { messages: 0, keys: 0, workers: 0, isDone: true });
      clock.advance(1);
      assertEquals(await store.admin.maintain(), { messages: 3, keys: 0, workers: 0, isDone: true });
      clock.advance(30 * DAY_MS - 1_001);
      assertEquals((await store.admin.maintain()).messages, 0);
      clock.advance(1);
      assertEquals((await store.admin.maintain()).messages, 3);
      clock.advance(10_000 * DAY_MS);
      assertEquals((await store.admin.maintain()).messages, 0);
      assertEquals(await store.admin.archive.count({ queue: "ever" }), 3);
    }),
  );

  test(
    "admin.maintain() keeps dead letters by a retention of their own, longer, shorter or for ever",
    inRound(context, async ({ store, clock }) => {
      await store.admin.createQueue("longer", { retentionMs: 1_000, deadRetentionMs: 5_000 });
      await store.admin.createQueue("shorter", { retentionMs: 5_000, deadRetentionMs: 1_000 });
      await store.admin.createQueue("dead for ever", { retentionMs: 1_000, deadRetentionMs: null });
      await store.admin.createQueue("only dead", { retentionMs: null, deadRetentionMs: 1_000 });
      const queues = ["longer", "shorter", "dead for ever", "only dead"];
      for (const queue of queues) await endThree(store, queue);
      const left = () => Promise.all(queues.map((queue) => outcomes(store, queue)));
      clock.advance(1_001);
      assertEquals((await store.admin.maintain()).messages, 2 + 1 + 2 + 1);
      const others = ["cancelled", "succeeded"];
      assertEquals(await left(), [["failed"], others, ["failed"], others]);
      clock.advance(4_000);
      assertEquals((await store.admin.maintain()).messages, 1 + 2);
      assertEquals(await left(), [[], [], ["failed"], others]);
      await store.admin.queues.update("dead for ever", { deadRetentionMs: 5_000 });
      assertEquals((await store.admin.maintain()).messages, 1);
    }),
  );

  test(
    "admin.maintain() leaves live messages alone, however old they are",
    inRound(context, async ({ store, producer, consumer, clock }) => {
      await store.admin.queues.update("tasks", { retentionMs: 0 });
      await producer.enqueue("ready");
      await producer.enqueue("delayed", { delayMs: 300 * DAY_MS });
      await consumer.dequeue({ leaseMs: 1_000 });
      await producer.enqueue("ready too");
      clock.advance(100 * DAY_MS);
      assertEquals((await store.admin.maintain()).messages, 0);
      const { ready, delayed, leased } = await store.admin.metrics("tasks");
      assertEquals({ ready, delayed, leased }, { ready: 1, delayed: 1, leased: 1 });
    }),
  );

  test(
    "archive.purge({ expired }) follows the retention of dead letters too",
    inRound(context, async ({ store, clock }) => {
      await store.admin.queues.update("tasks", { retentionMs: 1_000, deadRetentionMs: null });
      await store.admin.createQueue("only dead", { retentionMs: null, deadRetentionMs: 1_000 });
      for (const queue of ["tasks", "only dead"]) await endThree(store, queue);
      clock.advance(1_001);
      assertEquals(await store.admin.dead.purge({ expired: true, queue: "tasks" }), 0);
      assertEquals(await store.admin.archive.purge({ expired: true }), 3);
      assertEquals(await outcomes(store, "tasks"), ["failed"]);
      assertEquals(await outcomes(store, "only dead"), ["cancelled", "succeeded"]);
    }),
  );
}

function keys(context: Context): void {
  test(
    "admin.maintain() deletes keys that hold no more, and never one in force",
    inRound(context, async ({ store, consumer, clock }) => {
      const producer = store.producer<number>("tasks");
      const windows = [undefined, "started", "finished", 5_000] as const;
      const options = (until: typeof windows[number], name: string) => ({
        key: { value: `${name} ${until}`, ...(until !== undefined && { until }) },
      });
      for (const until of windows) {
        await producer.enqueue(1, options(until, "ended"));
        await consumer.archiveMany(await consumer.dequeue());
        await producer.enqueue(1, { ...options(until, "live"), delayMs: 10 * DAY_MS });
      }
      const ids = async (name: string) =>
        await Promise.all(windows.map(async (until) => (await producer.enqueue(1, options(until, name))).id));
      const live = await ids("live");
      assertEquals((await store.admin.maintain()).keys, 2, "those that held until the start and until the end");
      assertEquals((await store.admin.maintain()).keys, 0);
      clock.advance(5_000);
      assertEquals((await store.admin.maintain()).keys, 2, "both of 5 seconds");
      assertEquals((await ids("live")).slice(0, 3), live.slice(0, 3));
      clock.advance(DAY_MS);
      // The 24 hours of an ended message are over, and so are the 5 seconds of the live one that was made above.
      assertEquals((await store.admin.maintain()).keys, 2);
      assertEquals((await ids("live")).slice(0, 3), live.slice(0, 3));
    }),
  );

  test(
    "a round goes on with the keys where the one before has stopped",
    inRound(context, async (scene) => {
      const { producer, clock } = scene;
      await producer.enqueueMany(Array.from({ length: 2_500 }, (_, n) => n), {
        each: (_, n) => ({ key: { value: `key ${String(n).padStart(5, "0")}`, until: n === 2_499 ? 1 : DAY_MS } }),
      });
      clock.advance(1_000);
      const found: number[] = [];
      while (!found.includes(1) && found.length < 20) {
        const begin = scene.count("purgeKeys");
        const stop = new AbortController();
        scene.before = ({ name }) => {
          if (name === "purgeKeys" && scene.count("purgeKeys") - begin === 3) stop.abort();
        };
        found.push((await round(scene, stop.signal))?.keys ?? 0);
      }
      assert(found.length > 1 && found.length < 20, `${found.length} rounds`);
    }),
  );
}

function workers(context: Context): void {
  test(
    "admin.maintain() forgets workers that have died, unless they hold leases or are paused",
    inRound(context, async (scene) => {
      const { store, producer, clock } = scene;
      await producer.enqueue(1);
      const [message] = await store.consumer("tasks", { name: "holds" }).dequeue({ leaseMs: 1_000 });
      assert(message !== undefined);
      const [holder = ""] = await select(scene, "holder", `messages where id = ${message.id}`);
      const minutesAgo = (minutes: number) => clock.now - minutes * MINUTE_MS;
      await insertWorker(scene, "fresh#00000001", minutesAgo(4));
      await insertWorker(scene, "dead#00000001", minutesAgo(6));
      await insertWorker(scene, "paused#00000001", minutesAgo(6), true);
      await insertWorker(scene, holder, minutesAgo(6));
      assertEquals((await store.admin.maintain()).workers, 1);
      assertEquals(await select(scene, "holder", "workers"), ["fresh#00000001", holder, "paused#00000001"].sort());
      await store.admin.messages.release(message.id);
      assertEquals((await store.admin.maintain()).workers, 1);
      clock.advance(DAY_MS);
      assertEquals((await store.admin.maintain()).workers, 2);
    }),
  );
}

function turns(context: Context): void {
  test(
    "a worker does the maintenance by itself, also of queues that it does not serve",
    inRound(context, async ({ store, clock }) => {
      await store.admin.createQueue("nobody's", { retentionMs: 1_000 });
      await endThree(store, "nobody's");
      clock.advance(1_001);
      const stop = new AbortController();
      const running = store.worker([job("tasks", () => {})]).run({ signal: stop.signal });
      while (await store.admin.archive.count() > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      stop.abort();
      await running;
    }),
  );

  test(
    "a worker with `maintenance: false` leaves it to others",
    inRound(context, async ({ store, count }) => {
      await store.worker([job("tasks", () => {})], { maintenance: false }).drain();
      assertEquals(count("takeTurn"), 0);
      await store.worker([job("tasks", () => {})]).drain();
      assertEquals(count("takeTurn"), 1);
    }),
  );

  test(
    "of workers that look at once one does the round, and the next one comes a minute later",
    inRound(context, async (scene) => {
      const rounds = async (): Promise<number> => {
        const all = await Promise.all(Array.from({ length: 4 }, () => round(scene)));
        return all.filter((done) => done !== undefined).length;
      };
      assertEquals(await rounds(), 1);
      scene.clock.advance(MINUTE_MS - 1);
      assertEquals(await rounds(), 0);
      scene.clock.advance(1_000);
      assertEquals(await rounds(), 1);
      assertEquals([scene.count("takeTurn"), scene.count("findOverdue")], [12, 2]);
    }),
  );

  test(
    "a round that has lost its turn stops before its next batch",
    inRound(context, async (scene) => {
      const { store, clock } = scene;
      await store.admin.queues.update("tasks", { retentionMs: 1_000 });
      await endThree(store, "tasks");
      clock.advance(1_001);
      let lookedBetween = 0;
      scene.before = async ({ name }) => {
        if (name !== "keepTurn") return;
        scene.before = () => {};
        await store.admin.maintain();
        lookedBetween = scene.count("findOverdue");
      };
      const done = await round(scene);
      assertEquals(done, { messages: 0, keys: 0, workers: 0, isDone: false });
      assertEquals([lookedBetween, scene.count("findOverdue"), scene.count("giveTurnBack")], [1, 1, 0]);
      assertEquals(await store.admin.archive.count(), 0);
    }),
  );

  test(
    "a round that is told to stop leaves the rest to the next one, at once",
    inRound(context, async (scene) => {
      await fill(scene, { count: 500, archivedAt: scene.clock.now - 31 * DAY_MS });
      const stop = new AbortController();
      scene.before = ({ name }) => {
        if (name === "purgeEnded") stop.abort();
      };
      const { messages = 0, isDone } = await round(scene, stop.signal) ?? {};
      assert(messages > 0 && messages < 500 && isDone === false, `${messages} messages`);
      assertEquals(await scene.store.admin.archive.count(), 500 - messages);
      assertEquals(await round(scene), { messages: 500 - messages, keys: 0, workers: 0, isDone: true });
    }),
  );

  test(
    "a round that was cut short by a crash is done again when its turn is over",
    inRound(context, async (scene) => {
      await fill(scene, { count: 500, archivedAt: scene.clock.now - 31 * DAY_MS });
      scene.after = ({ name }) => {
        if (name !== "purgeEnded") return;
        throw new DatabaseError("Connection was lost", { outcome: "unknown", reason: "connection" });
      };
      await assertRejects(() => round(scene), DatabaseError);
      scene.after = () => {};
      const left = await scene.store.admin.archive.count();
      assert(left > 0 && left < 500, `${left} are left`);
      assertEquals(await round(scene), undefined);
      scene.clock.advance(MINUTE_MS + 1_000);
      assertEquals((await round(scene))?.messages, left);
    }),
  );
}

function batches(context: Context): void {
  test(
    "a round deletes a large archive in batches of at most 1 000, and reads what it keeps only once",
    inRound(context, async (scene) => {
      const { store, clock, limits } = scene;
      const old = clock.now - 31 * DAY_MS;
      await store.admin.queues.update("tasks", { deadRetentionMs: null });
      await fill(scene, { count: 3_000, archivedAt: old });
      await fill(scene, { count: 1_000, archivedAt: old, outcome: "failed", from: 10_001 });
      await fill(scene, { count: 50, archivedAt: clock.now - 29 * DAY_MS, from: 20_001 });
      // Two hours later: what is an hour older than the last that was looked at is not looked at again.
      await fill(scene, { count: 1, archivedAt: old + 7_200_000, from: 30_001 });
      assertEquals(await store.admin.maintain(), { messages: 3_001, keys: 0, workers: 0, isDone: true });
      const sizes = limits("purgeEnded");
      assert(Math.max(...sizes) <= 1_000 && sizes.reduce((sum, size) => sum + size, 0) >= 4_001, String(sizes));
      assertEquals(await store.admin.archive.count({ outcome: "failed" }), 1_000);
      assertEquals(await store.admin.archive.count(), 1_050);
      assertEquals((await store.admin.maintain()).messages, 0);
      assertEquals(limits("purgeEnded").length, sizes.length, "dead letters that are kept are not read again");
      await store.admin.queues.update("tasks", { deadRetentionMs: DAY_MS });
      assertEquals((await store.admin.maintain()).messages, 1_000);
    }),
  );

  test(
    "a round makes its batches smaller when one takes too long",
    inRound(context, async (scene) => {
      await fill(scene, { count: 200, archivedAt: scene.clock.now - 31 * DAY_MS });
      scene.before = ({ name }) => {
        if (name !== "purgeEnded") return;
        scene.before = () => {};
        throw new DatabaseError("Took too long", { outcome: "unknown", reason: "timeout" });
      };
      assertEquals((await round(scene))?.messages, 200);
      const [first = 0, second = 0] = scene.limits("purgeEnded");
      assert(second > 0 && second < first, `${first}, then ${second}`);
    }),
  );

  test(
    "admin.maintain() ends with what it has done when it is aborted or its time is over",
    inRound(context, async (scene) => {
      const { store, clock } = scene;
      await fill(scene, { count: 500, archivedAt: clock.now - 31 * DAY_MS });
      const stop = new AbortController();
      scene.before = ({ name }) => {
        if (name === "purgeEnded") stop.abort();
      };
      const { messages, isDone } = await store.admin.maintain({ signal: stop.signal });
      assert(messages > 0 && messages < 500 && !isDone, `${messages} messages`);
      assertEquals(await store.admin.archive.count(), 500 - messages);
      await assertRejects(() => store.admin.maintain({ every: 1 } as never), TypeError, "every");
    }),
  );
}

function settings(context: Context): void {
  test(
    "deadRetentionMs is that of the queue unless said, and follows it as long as both are the same",
    inRound(context, async ({ store }) => {
      const { queues } = store.admin;
      const both = async (change: Parameters<typeof queues.update>[1]) => {
        const { retentionMs, deadRetentionMs } = await queues.update("tasks", change);
        return [retentionMs, deadRetentionMs];
      };
      assertEquals((await queues.get("tasks")).deadRetentionMs, 30 * DAY_MS);
      assertEquals((await queues.create("a", { retentionMs: 7 })).deadRetentionMs, 7);
      assertEquals((await queues.create("b", { retentionMs: null })).deadRetentionMs, null);
      assertEquals((await queues.create("c", { deadRetentionMs: null })).deadRetentionMs, null);
      assertEquals(await both({ retentionMs: 5 }), [5, 5]);
      assertEquals(await both({ retentionMs: null }), [null, null]);
      assertEquals(await both({ retentionMs: 6 }), [6, 6]);
      assertEquals(await both({ deadRetentionMs: 8 }), [6, 8]);
      assertEquals(await both({ retentionMs: 9 }), [9, 8]);
      assertEquals(await both({ retentionMs: 1, deadRetentionMs: 2 }), [1, 2]);
      assertEquals(await both({ maxAttempts: 3 }), [1, 2]);
      await assertRejects(() => queues.update("tasks", { deadRetentionMs: -1 }), RangeError, "deadRetentionMs");
    }),
  );
}

/** Ends three messages of a queue, one in each way. */
async function endThree(store: Store, queue: string): Promise<void> {
  await store.producer(queue).enqueueMany([1, 2, 3]);
  const consumer = store.consumer(queue);
  const [first, second, third] = await consumer.dequeue({ limit: 3, leaseMs: 60_000 });
  assert(first && second && third);
  await consumer.archive(first);
  await consumer.fail(second, new Error("no"), { retry: false });
  await store.admin.messages.cancel(third.id);
}

async function outcomes(store: Store, queue: string): Promise<string[]> {
  return (await store.admin.archive.list({ queue })).items.map(({ outcome }) => outcome).sort();
}
