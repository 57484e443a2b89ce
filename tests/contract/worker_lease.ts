/**
 * What a worker promises of its leases: kept while a handler runs, never used when they are lost, and counted right.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import {
  CancelledError,
  DatabaseError,
  type Job,
  job,
  type JobContext,
  LeaseLostError,
  type Message,
  type Store,
} from "../../mod.ts";
import type { Database } from "../../src/database.ts";
import { type Claim, claimMessages, decodeExchange, startLeased } from "../../src/sql/leases.ts";
import type { LiveRecord } from "../../src/sql/record.ts";
import { Store as OwnStore } from "../../src/store.ts";
import { type Gate, gate, type RunningWorker, startWorker, until } from "../support/running_worker.ts";
import { openWatchedDatabase } from "../support/watched_store.ts";
import { type Context, inStore, inTime, type Scene, TestClock } from "./context.ts";

const LEASE_MS = 300;

/** Defines the tests for one backend. */
export function workerLeaseContract(context: Context): void {
  describe(`leases of a worker on ${context.name}`, () => {
    keeping(context);
    losing(context);
    blocking(context);
    crashes(context);
  });
}

/** A handler that is under way, with one message. */
interface UnderWay {
  readonly message: Message;
  readonly context: JobContext;
  readonly running: RunningWorker;
  /** Ends the handler. */
  readonly end: Gate<unknown>;
}

/** Runs a test while a handler hangs; later deliveries succeed at once with "again". */
function underWay(
  context: Context,
  work: (underWay: Scene & UnderWay) => Promise<void>,
): () => Promise<void> {
  return inTime(context, async (scene) => {
    await scene.producer.enqueue("work");
    const begun = gate<[Message, JobContext]>();
    const end = gate<unknown>();
    let calls = 0;
    const tasks = job("tasks", (message, context) => {
      if (++calls > 1) return "again";
      begun.open([message, context]);
      return end.passed;
      // One at a time, so that the worker itself does not take the message while this hangs.
    }, { leaseMs: LEASE_MS, concurrency: 1 });
    await using running = startWorker(scene.store, [tasks], { name: "host-1" });
    const [message, jobContext] = await begun.passed;
    await work({ ...scene, message, context: jobContext, running, end });
    end.open(undefined);
  });
}

function keeping(context: Context): void {
  test(
    "heartbeats keep the lease of a handler that takes longer: nobody else gets the message, and nothing is counted",
    underWay(context, async ({ store, consumer, clock, message, end }) => {
      for (let i = 0; i < 5; i++) {
        clock.advance(LEASE_MS - 50);
        const until_ = clock.now + LEASE_MS;
        await until(async () => (await store.admin.messages.get(message.id))?.leaseUntil?.getTime() === until_);
        assertEquals(await consumer.dequeue(), []);
      }
      end.open("after a long time");
      await until(async () => await store.admin.archive.count() === 1);
      const ended = await store.admin.archive.get(message.id);
      assertEquals([ended?.result, ended?.attempts, ended?.crashes], ["after a long time", 0, 0]);
      assertEquals(ended?.processingMs, 5 * (LEASE_MS - 50));
    }),
  );

  test(
    "a lease of a year does no harm: its heartbeats are as rare as a timer can be",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue(1);
      const errors: unknown[] = [];
      store.on("error", ({ error }) => void errors.push(error));
      const end = gate();
      const tasks = job("tasks", () => end.passed, { leaseMs: 31_536_000_000 });
      await using running = startWorker(store, [tasks], { stopTimeoutMs: 60_000 });
      await until(() => running.worker.health().running === 1);
      // A timer that is set to more than it can hold fires every millisecond.
      await new Promise((resolve) => setTimeout(resolve, 20));
      end.open();
      await until(() => running.worker.health().completed === 1);
      assertEquals(errors, []);
    }),
  );

  test(
    "progress() is stored while the lease holds",
    underWay(context, async ({ store, message, context }) => {
      assert(await context.progress({ done: 3 }));
      assertEquals(await store.progress(message.id), { done: 3 });
    }),
  );
}

function losing(context: Context): void {
  const takings: Readonly<Record<string, (scene: Scene & UnderWay) => Promise<unknown>>> = {
    "an operator releases it": ({ store, message }) => store.admin.messages.release(message.id),
    "an operator changes it": ({ store, message }) => store.admin.messages.update(message.id, { priority: 9 }),
    "an operator deletes it": ({ store, message }) => store.admin.messages.delete(message.id),
    "an operator archives it": ({ store, message }) => store.admin.messages.archive(message.id),
    "all leases of the worker are released": ({ store }) => store.admin.workers.release("host-1"),
    "another consumer gets it after it has run out": async ({ consumer, clock }) => {
      // A heartbeat may come in between and renew the lease.
      await until(async () => {
        clock.advance(LEASE_MS + 1);
        return (await consumer.dequeue({ leaseMs: 3_600_000 })).length > 0;
      });
    },
  };
  for (const [name, take] of Object.entries(takings)) {
    test(
      `a lease is lost when ${name}: the signal aborts with LeaseLostError, the result is dropped`,
      underWay(context, async (scene) => {
        const { store, message, context, running, end } = scene;
        const lost: number[] = [];
        store.on("lost", (event) => void lost.push(event.message.id));
        let reason: unknown;
        context.signal.addEventListener("abort", () => reason = context.signal.reason);
        await take(scene);
        await until(() => context.signal.aborted);
        assert(reason instanceof LeaseLostError && reason.message.includes(`message ${message.id}`));
        assertEquals([lost, running.worker.health().overdue], [[message.id], 1]);
        assertEquals(await context.progress(1), false);
        end.open("too late");
        await until(() => running.worker.health().overdue === 0);
        await until(async () => {
          const live = await store.admin.messages.get(message.id);
          return live === null || live.worker === "ann";
        });
        const ended = await store.admin.archive.get(message.id);
        assert(ended?.result !== "too late" && ended?.attempts !== 1);
        const { completed, failed, dead } = running.worker.health();
        assertEquals([completed, failed, dead], [ended?.result === "again" ? 1 : 0, 0, 0]);
      }),
    );
  }

  test(
    "cancel() of a message that is handled aborts with CancelledError, and what the handler does is dropped",
    underWay(context, async ({ store, message, context, running, end }) => {
      const events: string[] = [];
      for (const name of ["cancelled", "lost", "failed", "completed"] as const) {
        store.on(name, () => void events.push(name));
      }
      await store.admin.messages.cancel(message.id);
      await until(() => context.signal.aborted);
      assert(context.signal.reason instanceof CancelledError);
      end.refuse(new Error("because it was aborted"));
      await until(() => running.worker.health().overdue === 0);
      const ended = await store.admin.archive.get(message.id);
      assertEquals([ended?.outcome, ended?.attempts, ended?.error], ["cancelled", 0, null]);
      assertEquals([events, running.worker.health().failed], [["cancelled"], 0]);
    }),
  );

  test(
    "a lease that is lost unnoticed: what the handler reports is fenced, and tells of the loss",
    inStore(context, async ({ store, producer }) => {
      for (const fails of [false, true]) {
        const { id } = await producer.enqueue(1);
        const lost: number[] = [];
        const forget = store.on("lost", (event) => void lost.push(event.message.id));
        const tasks = job("tasks", async ({ attempts, crashes }) => {
          assertEquals([attempts, crashes], [0, 0]);
          assert(await store.admin.messages.release(id, { delayMs: 3_600_000 }));
          if (fails) throw new Error("too late");
          return "too late";
        });
        assertEquals(await store.worker([tasks]).drain(), { completed: 0, failed: 0, dead: 0 });
        const live = await store.admin.messages.get(id);
        assertEquals([lost, live?.state, live?.attempts, live?.error], [[id], "delayed", 0, null]);
        await store.admin.messages.delete(id);
        forget();
      }
    }),
  );
}

/** Holds the event loop. */
function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

function blocking(context: Context): void {
  for (const kind of ["synchronous", "asynchronous"] as const) {
    test(
      `a handler that blocks the event loop (${kind}) for longer than its lease: its late result changes nothing`,
      inStore(context, async ({ store, producer }) => {
        const { id } = await producer.enqueue(1);
        const heard: string[] = [];
        store.on("lag", ({ lagMs }) => void heard.push(`lag ${lagMs > 100}`));
        store.on("lost", ({ message }) => void heard.push(`lost ${message.id}`));
        let calls = 0;
        const tasks = job("tasks", (_message, { transaction }) => {
          if (++calls > 1) return "in time";
          const wait = new Promise((resolve) => setTimeout(resolve, 10));
          if (kind === "synchronous") return block(600) ?? "too late";
          return wait.then(() => block(600)).then(() => transaction(() => Promise.resolve("too late")));
        }, { leaseMs: 300 });
        await using _running = startWorker(store, [tasks]);
        await until(async () => await store.admin.archive.count() === 1);
        const ended = await store.admin.archive.get(id);
        assertEquals([ended?.result, ended?.attempts], ["in time", 0]);
        assertEquals(ended?.crashes, calls - 1);
        assertEquals(heard.slice(0, 2), ["lag true", `lost ${id}`]);
      }),
    );
  }
}

/** A store together with the database behind it, by a clock that the test moves. */
interface Bare {
  readonly store: Store;
  readonly database: Database;
  readonly clock: TestClock;
  /** The names of the statements that were sent. */
  readonly names: string[];
  /** Does something before the next statement of a name is sent; what it throws is the answer. */
  before(name: string, work: () => Promise<unknown>): void;
  /** Claims as a worker does that dies before it begins anything. */
  claimAhead(): Promise<readonly LiveRecord[]>;
}

function inBare(context: Context, work: (bare: Bare) => Promise<void>): () => Promise<void> {
  return async () => {
    const place = await context.place();
    const clock = new TestClock();
    const names: string[] = [];
    const before = new Map<string, () => Promise<unknown>>();
    try {
      const database = await openWatchedDatabase(place.dsn, place.schema, (driver) => ({
        async query(rendered, options) {
          names.push(rendered.name);
          const work = before.get(rendered.name);
          before.delete(rendered.name);
          await work?.();
          return await driver.query(rendered, options);
        },
        transaction: (run, limits) => driver.transaction(run, limits),
      }), () => clock.now);
      await using store = new OwnStore(database);
      await store.admin.install();
      await store.admin.createQueue("tasks", { maxCrashes: 3, maxAttempts: 2 });
      const claim: Claim = {
        queue: "tasks",
        limit: 10,
        leaseMs: 1_000,
        defaultLeaseMs: 1_000,
        holder: "dying#12345678",
        type: undefined,
        isAhead: true,
      };
      const claimAhead = async () => decodeExchange(await database.query(claimMessages(claim))).claimed;
      await work({ store, database, clock, names, before: (name, work) => void before.set(name, work), claimAhead });
    } finally {
      await place.close();
    }
  };
}

function crashes(context: Context): void {
  test(
    "a lease that runs out unreported counts as a crash, and as no attempt",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      const { id } = await producer.enqueue(1);
      for (let i = 0; i < 3; i++) {
        assertEquals((await consumer.dequeue({ leaseMs: 10 })).length, 1);
        clock.advance(10);
      }
      const seen: number[][] = [];
      const tasks = job("tasks", ({ attempts, crashes }) => void seen.push([attempts, crashes]));
      assertEquals((await store.worker([tasks]).drain()).completed, 1);
      const ended = await store.admin.archive.get(id);
      assertEquals([seen, ended?.attempts, ended?.crashes], [[[0, 3]], 0, 3]);
    }),
  );

  test(
    "a message that was claimed ahead and not begun is never dead because of crashes",
    inBare(context, async ({ store, clock, names, claimAhead }) => {
      const { id } = await store.producer("tasks").enqueue(1);
      for (let i = 0; i < 8; i++) {
        assertEquals((await claimAhead()).length, 1);
        clock.advance(1_000);
      }
      names.length = 0;
      const seen: number[] = [];
      const tasks = job("tasks", ({ crashes }) => {
        // Whoever begins it now has noted that before: another crash would be the last.
        assert(names.includes("startLeased"));
        seen.push(crashes);
      });
      assertEquals(await store.worker([tasks]).drain(), { completed: 1, failed: 0, dead: 0 });
      assertEquals([seen, (await store.admin.archive.get(id))?.outcome], [[2], "succeeded"]);
    }),
  );

  test(
    "a message whose handler has killed its worker once too often is a dead letter; those beside it live",
    inBare(context, async ({ store, database, clock, claimAhead }) => {
      const [killer, beside] = await store.producer("tasks").enqueueMany(["killer", "beside"]) as [Message, Message];
      for (let i = 0; i < 3; i++) {
        const claimed = await claimAhead();
        assertEquals(claimed.length, 2);
        const { id, token } = claimed.find((one) => one.id === killer.id) as LiveRecord;
        // Only the last one is noted: before it there is no need.
        if (i === 2) await database.query(startLeased([{ id, token }], "dying#12345678"));
        clock.advance(1_000);
      }
      const told: unknown[] = [];
      store.on("dead", ({ message, reason }) => void told.push(message.id, reason));
      const onDead = ({ payload, crashes }: Message, error: unknown) => void told.push(payload, crashes, error);
      const seen: unknown[] = [];
      const tasks = job("tasks", ({ payload }) => void seen.push(payload), { onDead });
      assertEquals(await store.worker([tasks], { name: "host-1" }).drain(), { completed: 1, failed: 0, dead: 1 });
      const ended = await store.admin.archive.get(killer.id);
      assertEquals([ended?.outcome, ended?.reason, ended?.crashes], ["failed", "crashes", 3]);
      assertEquals([ended?.archivedBy, ended?.attempts], ["dying", 0]);
      assertEquals([seen, told], [["beside"], [killer.id, "crashes", "killer", 3, null]]);
      assertEquals((await store.admin.archive.get(beside.id))?.outcome, "succeeded");
    }),
  );

  test(
    "a message of its last life is not begun when that cannot be noted: it is given back without being counted",
    inBare(context, async ({ store, clock, before, claimAhead }) => {
      const { id } = await store.producer("tasks").enqueue(1);
      for (let i = 0; i < 2; i++) {
        assertEquals((await claimAhead()).length, 1);
        clock.advance(1_000);
      }
      const heard: string[] = [];
      for (const name of ["error", "lost", "started"] as const) store.on(name, () => void heard.push(name));
      before("startLeased", () => Promise.reject(new DatabaseError("no", { outcome: "not_applied", reason: "busy" })));
      const jobs = [job("tasks", () => {}), job("tasks", () => {}, { batch: 2 })];
      const drain = (i: number) => store.worker([jobs[i] as Job]).drain();
      assertEquals(await drain(0), { completed: 1, failed: 0, dead: 0 });
      assertEquals([heard.splice(0), (await store.admin.archive.get(id))?.crashes], [["error", "started"], 2]);
      await store.admin.archive.replay(id);
      for (let i = 0; i < 2; i++) {
        assertEquals((await claimAhead()).length, 1);
        clock.advance(1_000);
      }
      // Somebody takes it away between the claim and the note.
      before("startLeased", () => store.admin.messages.release(id, { delayMs: 1_000 }));
      assertEquals(await drain(1), { completed: 0, failed: 0, dead: 0 });
      assertEquals([heard.splice(0), (await store.admin.messages.get(id))?.crashes], [["lost"], 2]);
      clock.advance(1_000);
      assertEquals(await drain(1), { completed: 1, failed: 0, dead: 0 });
      assertEquals(heard, ["started"]);
    }),
  );

  test(
    "every message ends after at most maxAttempts + maxCrashes deliveries, whatever becomes of them",
    inBare(context, async ({ store, clock }) => {
      const consumer = store.consumer("tasks");
      for (let pattern = 0; pattern < 16; pattern++) {
        const { id } = await store.producer("tasks").enqueue(pattern);
        let deliveries = 0;
        while (await store.admin.messages.get(id) !== null) {
          const [message] = await consumer.dequeue({ leaseMs: 1_000 });
          const hasCrashed = (pattern >> deliveries) % 2 === 0;
          if (message !== undefined) deliveries++;
          if (message !== undefined && !hasCrashed) await consumer.fail(message, new Error("no"), { delayMs: 0 });
          clock.advance(1_000);
        }
        const ended = await store.admin.archive.get(id);
        assertEquals((ended?.attempts ?? 0) + (ended?.crashes ?? 0), deliveries);
        assert(deliveries <= 5 && (ended?.attempts === 2 || ended?.crashes === 3), `${pattern}: ${deliveries}`);
      }
    }),
  );
}
