/** What a worker promises of how much it does at once: no more than it may, every queue in turn, few statements. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { job, RetryError } from "../../mod.ts";
import { gate, startWorker, until } from "../support/running_worker.ts";
import { openWatched } from "../support/watched_store.ts";
import { type Context, inStore, inTime } from "./context.ts";

const ONCE = { maxAttempts: 1 };

/** Defines the tests for one backend. */
export function workerLimitsContract(context: Context): void {
  describe(`limits of a worker on ${context.name}`, () => {
    limits(context);
    batches(context);
    statements(context);
  });
}

/** Counts how many are inside at once. */
class Crowd {
  now = 0;
  most = 0;

  async visit(): Promise<void> {
    this.most = Math.max(this.most, ++this.now);
    for (let i = 0; i < 3; i++) await new Promise((resolve) => setTimeout(resolve, 0));
    this.now--;
  }
}

function limits(context: Context): void {
  test(
    "concurrency is never exceeded, neither that of a job nor that of the worker, and is made use of",
    inStore(context, async ({ store, producer }) => {
      await store.admin.createQueue("other");
      await producer.enqueueMany(Array.from({ length: 150 }, (_, n) => n));
      await store.producer("other").enqueueMany(Array.from({ length: 150 }, (_, n) => n));
      const [all, tasks, other] = [new Crowd(), new Crowd(), new Crowd()];
      const visit = (own: Crowd) => () => Promise.all([all.visit(), own.visit()]).then(() => {});
      const jobs = [job("tasks", visit(tasks), { concurrency: 4 }), job("other", visit(other), { concurrency: 7 })];
      assertEquals((await store.worker(jobs, { concurrency: 6 }).drain()).completed, 300);
      assert(tasks.most <= 4 && other.most <= 6 && all.most <= 6, `${tasks.most} ${other.most} ${all.most}`);
      assert(tasks.most >= 2 && all.most >= 5, `${tasks.most} ${all.most}`);
    }),
  );

  for (const isSync of [true, false]) {
    test(
      `a backlog of ${isSync ? "synchronous" : "asynchronous"} jobs does not keep another queue from the only place`,
      inStore(context, async ({ store, producer }) => {
        await store.admin.createQueue("other");
        await producer.enqueueMany(Array.from({ length: 150 }, (_, n) => n));
        const order: string[] = [];
        const handle = ({ queue }: { queue: string }): unknown => {
          order.push(queue);
          if (order.length === 30) return store.producer("other").enqueueMany([1, 2, 3]).then(() => {});
          return isSync ? undefined : new Promise((resolve) => setTimeout(resolve, 0));
        };
        const options = { concurrency: 50, prefetch: 10 };
        const jobs = [job("tasks", handle, options), job("other", handle, options)];
        const { completed } = await store.worker(jobs, { concurrency: 1 }).drain();
        assertEquals(completed, 153);
        assert(order.lastIndexOf("other") < 153 - 20, `the last came as number ${order.lastIndexOf("other")}`);
      }),
    );
  }

  test(
    "slow jobs are not claimed ahead: what a worker cannot begin is there for others",
    inStore(context, async ({ store, producer, consumer }) => {
      await store.admin.createQueue("other");
      const other = store.producer("other");
      await producer.enqueueMany(Array.from({ length: 20 }, (_, n) => n));
      await other.enqueueMany(Array.from({ length: 20 }, (_, n) => n));
      const slow = gate();
      const handle = () => slow.passed;
      const jobs = [job("tasks", handle), job("other", handle)];
      await using running = startWorker(store, jobs, { concurrency: 3 });
      await until(() => running.worker.health().running === 3);
      // What it may have asked for in vain has come by then.
      for (let i = 0; i < 3; i++) await store.ping();
      const rest = await consumer.dequeue({ limit: 100, leaseMs: 60_000 });
      const others = await store.consumer("other").dequeue({ limit: 100, leaseMs: 60_000 });
      assertEquals([rest.length + others.length, running.worker.health().waiting], [37, 0]);
      slow.open();
    }),
  );
}

function batches(context: Context): void {
  test(
    "a batch job gets up to `batch` messages and settles each: done, done with a result, failed",
    inStore(context, async ({ store, producer }) => {
      const sent = await producer.enqueueMany(Array.from({ length: 25 }, (_, n) => n));
      const sizes: number[] = [];
      const tasks = job<number>("tasks", async (messages, { archive, fail, message, worker, signal }) => {
        sizes.push(messages.length);
        assertEquals([message.id, worker, signal.aborted], [messages[0]?.id, "worker", false]);
        await Promise.resolve();
        for (const one of messages) {
          if (one.payload % 5 === 1) archive(one, { n: one.payload });
          if (one.payload % 5 === 2) fail(one, new Error(`no ${one.payload}`));
          if (one.payload % 5 === 3) archive(one, 1n);
        }
        assertThrows(() => archive(sent[0] as never), TypeError, "does not belong to this batch");
      }, { batch: 10, retry: ONCE });
      assertEquals(await store.worker([tasks]).drain(), { completed: 15, failed: 10, dead: 10 });
      assertEquals(sizes.reduce((a, b) => a + b), 25);
      assert(Math.max(...sizes) === 10, `${sizes}`);
      for (const [n, { id }] of sent.entries()) {
        const ended = await store.admin.archive.get(id);
        assertEquals([ended?.outcome, ended?.result], [
          n % 5 === 2 || n % 5 === 3 ? "failed" : "succeeded",
          n % 5 === 1 ? { n } : null,
        ]);
        if (n % 5 === 2) assertEquals(ended?.error?.message, `no ${n}`);
      }
    }),
  );

  test(
    "a batch job that throws fails those of which nothing was said",
    inTime(context, async ({ store, producer, clock }) => {
      const sent = await producer.enqueueMany([1, 2, 3, 4]);
      const calls: number[][] = [];
      const tasks = job<number>("tasks", (messages, context) => {
        calls.push(messages.map(({ payload }) => payload));
        if (calls.length > 1) return;
        context.archive(messages[0] as never, "first");
        context.fail(messages[1] as never, new RetryError("busy", { afterMs: 500 }));
        throw new Error("all the others");
      }, { batch: 10, concurrency: 1, retry: { backoff: { kind: "fixed", baseMs: 100, jitter: 0 } } });
      const worker = store.worker([tasks]);
      assertEquals(await worker.drain(), { completed: 1, failed: 3, dead: 0 });
      const due = await Promise.all(sent.slice(1).map(({ id }) => store.admin.messages.get(id)));
      assertEquals(due.map((one) => (one?.visibleAt.getTime() ?? 0) - clock.now), [500, 100, 100]);
      assertEquals(due.map((one) => one?.error?.message), ["busy", "all the others", "all the others"]);
      clock.advance(500);
      assertEquals(await worker.drain(), { completed: 3, failed: 0, dead: 0 });
      assertEquals(calls.map((one) => one.length), [4, 3]);
    }),
  );

  test(
    "a batch that hangs has all its messages counted, and one place free again",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany([1, 2, 3]);
      const hanging = gate();
      let calls = 0;
      const tasks = job("tasks", async () => {
        if (++calls === 1) await hanging.passed;
      }, { batch: 3, concurrency: 1, timeoutMs: 40, retry: ONCE });
      await using running = startWorker(store, [tasks]);
      await until(() => running.worker.health().dead === 3);
      assertEquals(running.worker.health().overdue, 3);
      await producer.enqueue(4);
      await until(() => running.worker.health().completed === 1);
      hanging.open();
      await until(() => running.worker.health().overdue === 0);
      assertEquals(running.worker.health().completed, 1);
    }),
  );

  test(
    "what the handler of a batch has said counts, although it hangs afterwards or the worker stops",
    inStore(context, async ({ store, producer }) => {
      const stop = new AbortController();
      const hanging = gate();
      const say = (isStopping: boolean) =>
        job<string>("tasks", async (messages, { archive, fail }) => {
          for (const one of messages) {
            if (one.payload === "good") archive(one, "done");
            if (one.payload === "bad") fail(one, new Error("no"));
          }
          if (isStopping) stop.abort();
          await hanging.passed;
        }, { batch: 3, ...(isStopping ? {} : { timeoutMs: 40 }), retry: ONCE });
      const hung = await producer.enqueueMany(["good", "bad", "unsaid"]);
      const first = store.worker([say(false)]);
      assertEquals(await first.drain(), { completed: 1, failed: 2, dead: 2 });
      const ended = await Promise.all(hung.map(({ id }) => store.admin.archive.get(id)));
      assertEquals(ended.map((one) => one?.result ?? one?.error?.name), ["done", "Error", "TimeoutError"]);
      const stopped = await producer.enqueueMany(["good", "bad", "unsaid"]);
      const second = store.worker([say(true)], { stopTimeoutMs: 20 });
      await second.run({ signal: stop.signal });
      const after = await Promise.all(stopped.map(({ id }) => store.admin.archive.get(id)));
      assertEquals(after.map((one) => one?.result ?? one?.error?.name), ["done", "Error", undefined]);
      assertEquals((await store.admin.messages.list({ state: "ready" })).items.map(({ attempts }) => attempts), [0]);
      assertEquals([first, second].map((worker) => worker.health().overdue), [3, 3]);
      hanging.open();
      await until(() => [first, second].every((worker) => worker.health().overdue === 0));
    }),
  );
}

function statements(context: Context): void {
  test("a lease that is shorter than the round trip keeps no message from being handled", async () => {
    const place = await context.place();
    try {
      let delayMs = 0;
      await using store = await openWatched(place.dsn, place.schema, (driver) => ({
        async query(rendered, options) {
          const rows = await driver.query(rendered, options);
          await new Promise((resolve) => setTimeout(resolve, delayMs));
          return rows;
        },
        transaction: (run, limits) => driver.transaction(run, limits),
      }));
      await store.admin.install();
      await store.admin.createQueue("tasks");
      await store.producer("tasks").enqueueMany([1, 2, 3]);
      delayMs = 120;
      await using running = startWorker(store, [job("tasks", () => {}, { leaseMs: 100 })]);
      await until(() => running.worker.health().completed === 3);
    } finally {
      await place.close();
    }
  });

  test("a busy worker settles and claims in one statement, for many messages at once", async () => {
    const place = await context.place();
    try {
      const names: string[] = [];
      await using store = await openWatched(place.dsn, place.schema, (driver) => ({
        query(rendered, options) {
          names.push(rendered.name);
          return driver.query(rendered, options);
        },
        transaction: (run, limits) => driver.transaction(run, limits),
      }));
      await store.admin.install();
      await store.admin.createQueue("tasks");
      await store.producer("tasks").enqueueMany(Array.from({ length: 2_000 }, (_, n) => n));
      names.length = 0;
      const tasks = job("tasks", () => {}, { concurrency: 20 });
      assertEquals((await store.worker([tasks], { maintenance: false }).drain()).completed, 2_000);
      const count = (name: string) => names.filter((one) => one === name).length;
      assertEquals([count("findQueue"), count("registerWorker"), count("removeWorker")], [1, 1, 1]);
      // What depends on how long it all takes.
      const timely = ["archiveLeased", "beat", "lookForWork"];
      assertEquals([...new Set(names)].filter((name) => !timely.includes(name)).toSorted(), [
        "claimMessages",
        "findQueue",
        "registerWorker",
        "removeWorker",
        "settleAndClaim",
      ]);
      const settlings = count("settleAndClaim") + count("archiveLeased");
      assert(settlings <= 105 && count("claimMessages") <= 20, `${settlings} and ${count("claimMessages")}`);
      assert(count("settleAndClaim") >= count("archiveLeased"), `${count("archiveLeased")} without a claim`);
    } finally {
      await place.close();
    }
  });
}
