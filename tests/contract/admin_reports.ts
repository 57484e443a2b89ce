/** What reports promise: they equal a full count, and reading never writes. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { job, type Message, type QueueMetrics, type Store, type WorkerInfo } from "../../mod.ts";
import { until } from "../support/until.ts";
import { type Context, inStore, inTime, type Place, type Scene } from "./context.ts";
import { bareClient } from "../support/databases.ts";

/** Defines the tests for one backend. */
export function adminReportsContract(context: Context): void {
  describe(`reports on ${context.name}`, () => {
    metrics(context);
    workers(context);
    pings(context);
    reads(context);
  });
}

const NOTHING: Omit<QueueMetrics, "queue"> = {
  isPaused: false,
  ready: 0,
  delayed: 0,
  stopped: 0,
  leased: 0,
  expired: 0,
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  oldestReadyMs: null,
  oldestLeaseMs: null,
  lastEnqueuedAt: null,
};

/** Messages of every state on `tasks`, made at different times. */
async function fill({ store, producer, consumer, clock }: Scene): Promise<void> {
  await producer.enqueueMany(Array.from({ length: 11 }, (_, n) => n));
  clock.advance(1_000);
  await producer.enqueueMany([1, 2], { delayMs: 600_000 });
  const messages = await consumer.dequeue({ limit: 6, leaseMs: 500_000 });
  clock.advance(200);
  await consumer.archiveMany(messages.slice(0, 2));
  await consumer.fail(messages[2] as Message, new Error("no"), { retry: false });
  await store.admin.messages.cancel((messages[3] as Message).id);
  clock.advance(50);
}

function metrics(context: Context): void {
  test(
    "metrics() counts by state and tells the oldest ages, for one queue and for all",
    inTime(context, async (scene) => {
      const { store, clock } = scene;
      await store.admin.createQueue("empty", { paused: true });
      await fill(scene);
      const expected: QueueMetrics = {
        queue: "tasks",
        isPaused: false,
        ready: 5,
        delayed: 2,
        stopped: 0,
        leased: 2,
        expired: 0,
        succeeded: 2,
        failed: 1,
        cancelled: 1,
        oldestReadyMs: 1_250,
        oldestLeaseMs: 250,
        lastEnqueuedAt: new Date(clock.now - 250),
      };
      assertEquals(await store.admin.metrics("tasks"), expected);
      assertEquals(await store.admin.metrics("empty"), { ...NOTHING, queue: "empty", isPaused: true });
      assertEquals(await store.admin.metrics(), [{ ...NOTHING, queue: "empty", isPaused: true }, expected]);
      clock.advance(600_000);
      const later = await store.admin.metrics("tasks");
      assertEquals([later.ready, later.delayed, later.leased, later.expired], [7, 0, 2, 2]);
    }),
  );

  test(
    "metrics() equal a full count after a storm of everything, and are never negative",
    inStore(context, async ({ store, producer, consumer }) => {
      const { messages, archive } = store.admin;
      const work = Array.from({ length: 6 }, async (_, n) => {
        await producer.enqueueMany(Array.from({ length: 30 }, (_, i) => i), { delayMs: n === 0 ? 600_000 : 0 });
        const taken = await consumer.dequeue({ limit: 20, leaseMs: 60_000 });
        await consumer.archiveMany(taken.slice(0, 5));
        await consumer.failMany(taken.slice(5, 8), new Error("no"), { retry: false });
        await consumer.releaseMany(taken.slice(8, 12));
        await consumer.deleteMany(taken.slice(12, 14));
        if (taken[14] !== undefined) await messages.cancel(taken[14].id);
        const seen = await store.admin.metrics("tasks");
        for (const count of Object.values(seen)) assert(typeof count !== "number" || count >= 0);
      });
      await Promise.all(work);
      const counted = await store.admin.metrics("tasks");
      for (const state of ["ready", "delayed", "leased"] as const) {
        assertEquals(counted[state], await messages.count({ state }), state);
      }
      for (const outcome of ["succeeded", "failed", "cancelled"] as const) {
        assertEquals(counted[outcome], await archive.count({ outcome }), outcome);
      }
    }),
  );
}

function workers(context: Context): void {
  test(
    "workers.list() tells who holds leases, and which of them have run out",
    inTime(context, async ({ store, producer, clock }) => {
      await store.admin.createQueue("other");
      await producer.enqueueMany([1, 2, 3]);
      await store.producer("other").enqueue(4);
      const begin = clock.now;
      const ann = store.consumer("tasks", { name: "ann" });
      await ann.dequeue({ leaseMs: 1_000 });
      clock.advance(100);
      await ann.dequeue({ leaseMs: 5_000 });
      await store.consumer("tasks", { name: "ann" }).dequeue({ leaseMs: 9_000 });
      await store.consumer("other", { name: "bob#1" }).dequeue({ leaseMs: 10_000 });
      clock.advance(1_000);
      const list = await store.admin.workers.list();
      const told = list.map(({ name, queues, leased, expired }) => [name, ...queues, leased, expired]);
      const sorted = told.toSorted((a, b) => `${a}` < `${b}` ? -1 : 1);
      assertEquals(sorted, [["ann", "tasks", 1, 0], ["ann", "tasks", 2, 1], ["bob#1", "other", 1, 0]]);
      const { name: _, ...two } = list.find(({ leased }) => leased === 2) as WorkerInfo;
      assertEquals(two, {
        kind: "consumer",
        queues: ["tasks"],
        startedAt: null,
        seenAt: null,
        pausedAt: null,
        leased: 2,
        expired: 1,
        leasedSince: new Date(begin),
        leaseUntil: new Date(begin + 5_100),
      });
      assertEquals((await store.admin.workers.get("ann")).length, 2);
      assertEquals(await store.admin.workers.stats(), {
        workers: 0,
        paused: 0,
        unseen: 0,
        consumers: 3,
        leased: 4,
        expired: 1,
      });
    }),
  );

  test(
    "workers.list() tells of workers from their start to their stop, also of those that hold nothing",
    inTime(context, async ({ store, producer, clock }) => {
      const { workers } = store.admin;
      const stop = new AbortController();
      const isBegun = Promise.withResolvers<void>();
      const isOver = Promise.withResolvers<void>();
      const handle = job("zoo", async () => {
        isBegun.resolve();
        await isOver.promise;
      });
      const worker = store.worker([handle, job("tasks", () => {})], { name: "ann", maintenance: false });
      const running = worker.run({ signal: stop.signal });
      await until("it is there", async () => (await workers.list()).length === 1);
      const expected: WorkerInfo = {
        name: "ann",
        kind: "worker",
        queues: ["tasks", "zoo"],
        startedAt: new Date(clock.now),
        seenAt: new Date(clock.now),
        pausedAt: null,
        leased: 0,
        expired: 0,
        leasedSince: null,
        leaseUntil: null,
      };
      assertEquals(await workers.get("ann"), [expected]);
      await producer.enqueue(1);
      await store.producer("zoo").enqueue(1);
      await isBegun.promise;
      await until("only one is held", () => worker.health().completed === 1);
      const leaseUntil = new Date(clock.now + 30_000);
      assertEquals(await workers.get("ann"), [{
        ...expected,
        leased: 1,
        leasedSince: new Date(clock.now),
        leaseUntil,
      }]);
      clock.advance(200_000);
      const stats = { workers: 1, paused: 0, unseen: 1, consumers: 0, leased: 1, expired: 1 };
      assertEquals(await workers.stats(), stats);
      await workers.pause("ann");
      assertEquals((await workers.stats()).paused, 1);
      isOver.resolve();
      stop.abort();
      await running;
      assertEquals(await workers.list(), []);
    }),
  );

  test(
    "workers.purge() forgets workers that were not heard of for so long and hold nothing",
    inTime(context, async ({ store, place, clock }) => {
      const { workers } = store.admin;
      const isPostgres = context.dialect === "postgres";
      const table = isPostgres ? `"${place.schema}".pgqrs_workers` : "pgqrs_workers";
      const at = isPostgres ? `to_timestamp(${clock.now / 1_000})` : String(clock.now);
      const values = ["ann", "bob"].map((name) => `('${name}#12345678', '${name}', '["tasks"]', ${at}, ${at})`);
      await store.transaction((tx) =>
        tx.query(`insert into ${table} (holder, name, queues, started_at, seen_at) values ${values.join(", ")}`)
      );
      const info = await workers.get("ann");
      assertEquals(info.map(({ kind, seenAt, leased }) => [kind, seenAt, leased]), [[
        "worker",
        new Date(clock.now),
        0,
      ]]);
      clock.advance(180_000);
      assertEquals(await workers.purge(), 0);
      clock.advance(1);
      assertEquals(await workers.purge(), 2);
    }),
  );

  test(
    "workers.release() takes all leases of a name away, and no other",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      await store.admin.createQueue("other");
      const ids = (await producer.enqueueMany([1, 2, 3, 4])).map(({ id }) => id);
      await store.producer("other").enqueue(5);
      const mine = await consumer.dequeue({ limit: 2, leaseMs: 60_000 });
      await store.consumer("tasks", { name: "ann" }).dequeue({ leaseMs: 60_000 });
      const [foreign] = await store.consumer("tasks", { name: "ann#1" }).dequeue({ leaseMs: 60_000 });
      await store.consumer("other", { name: "%nn" }).dequeue({ leaseMs: 60_000 });
      assertEquals(await store.admin.workers.release("%nn"), [(foreign?.id as number) + 1]);
      clock.advance(10);
      assertEquals(await store.admin.workers.release("ann"), ids.slice(0, 3));
      assertEquals(await store.admin.workers.release("ann"), []);
      assertEquals(await consumer.archiveMany(mine), [false, false]);
      const again = await consumer.dequeue({ limit: 9 });
      assertEquals(
        again.map(({ id, crashes, attempts }) => [id, crashes, attempts]),
        ids.slice(0, 3).map((id) => [id, 0, 0]),
      );
      assertEquals((await store.admin.workers.list()).map(({ name }) => name), ["ann", "ann#1"]);
      await assertRejects(() => store.admin.workers.release(""), RangeError, "name");
    }),
  );
}

function pings(context: Context): void {
  test(
    "ping() tells the database's clock, or that of a test, and needs no schema",
    inTime(context, async ({ place, store, clock }) => {
      assertEquals((await store.ping()).now, new Date(clock.now));
      await using other = await place.connect();
      const { roundTripMs, now } = await other.ping();
      assert(roundTripMs >= 0 && Math.abs(now.getTime() - Date.now()) < 60_000);
      const signal = AbortSignal.abort(new RangeError("enough"));
      await assertRejects(() => other.ping({ signal }), RangeError, "enough");
    }),
  );
}

/** Something that changes when and only when anything is written, by a way of its own. */
function openWitness(
  context: Context,
  place: Place,
  store: Store,
): { look(): Promise<unknown>; close(): Promise<void> } {
  if (context.dialect === "postgres") {
    const sql = bareClient(place.dsn);
    // Where a row lies and who wrote or locked it changes with every write, even with one of the same values.
    const tables = ["queues", "messages", "archive", "keys", "migrations"];
    const look = async () => {
      const parts = tables.map((name) =>
        `select '${name}', ctid::text, xmin::text, xmax::text from "${place.schema}".pgqrs_${name}`
      );
      return [...await sql.unsafe(`${parts.join(" union all ")} order by 1, 2`).values()];
    };
    return { look, close: () => sql.end({ timeout: 5 }) };
  }
  if (place.file !== undefined) {
    const database = new DatabaseSync(place.file);
    const look = () => Promise.resolve(database.prepare("pragma data_version").get());
    return { look, close: () => Promise.resolve(database.close()) };
  }
  const look = () => store.transaction((tx) => tx.query("select total_changes() as n"));
  return { look, close: () => Promise.resolve() };
}

function reads(context: Context): void {
  test(
    "reading never writes",
    inStore(context, async (scene) => {
      const { place, store, producer, consumer } = scene;
      await fill(scene);
      const { admin } = store;
      const { items } = await admin.messages.list();
      const calls: (() => Promise<unknown>)[] = [
        () => admin.metrics(),
        () => admin.metrics("tasks"),
        () => admin.queues.list(),
        () => admin.queues.get("tasks"),
        () => admin.messages.list({ state: "leased" }),
        () => admin.messages.count(),
        () => admin.messages.get(items[0]?.id ?? 0),
        () => admin.archive.list({ queue: "tasks" }),
        () => admin.archive.count(),
        () => admin.archive.get(1),
        () => admin.dead.list(),
        () => admin.dead.count(),
        () => admin.workers.list(),
        () => admin.workers.get("ann"),
        () => admin.workers.stats(),
        () => admin.verify(),
        () => admin.migrate({ print: true }),
        () => admin.install(),
        () => store.ping(),
      ];
      const witness = openWitness(context, place, store);
      try {
        const before = await witness.look();
        for (const call of calls) {
          await call();
          assertEquals(await witness.look(), before, String(call));
        }
        // An idle consumer writes nothing either.
        await admin.createQueue("idle");
        const idle = await witness.look();
        await store.consumer("idle").dequeue({ limit: 9 });
        assertEquals(await witness.look(), idle, "dequeue() of an empty queue");
        // The witness can see: the same by any writing is another picture.
        await consumer.extendMany((await consumer.dequeue()) as Message[], 1);
        assert(JSON.stringify(await witness.look()) !== JSON.stringify(idle));
        await producer.enqueue(1);
      } finally {
        await witness.close();
      }
    }),
  );
}
