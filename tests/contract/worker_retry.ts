/** What a worker promises of attempts that fail: how often, after which pauses, and what is left of them. */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import {
  type EnqueueOptions,
  job,
  type Message,
  NonRetryableError,
  RetryError,
  type RetryPolicy,
  type StoreEvents,
} from "../../mod.ts";
import { startWorker, unheard, until } from "../support/running_worker.ts";
import { type Context, inStore, inTime, type Scene } from "./context.ts";

const AT_ONCE = { kind: "fixed", baseMs: 0 } as const;

/** Defines the tests for one backend. */
export function workerRetryContract(context: Context): void {
  describe(`retry on ${context.name}`, () => {
    attempts(context);
    pauses(context);
    dead(context);
    replay(context);
  });
}

/** Lets a message fail until it is dead, and tells how often its handler was called. */
async function callsUntilDead(
  { store, clock }: Scene,
  queue: string,
  options: EnqueueOptions,
  retry?: RetryPolicy,
): Promise<number> {
  const message = await store.producer(queue).enqueue(1, options);
  const numbers: number[] = [];
  const tasks = job(queue, ({ attempts, maxAttempts }, { attempt }) => {
    assert(attempts < maxAttempts, `attempt ${attempts + 1} of ${maxAttempts}`);
    numbers.push(attempt);
    throw new Error(`attempt ${attempt}`);
  }, retry === undefined ? {} : { retry });
  const worker = store.worker([tasks], { name: "host-1" });
  while (await store.admin.messages.get(message.id) !== null) {
    await worker.drain();
    clock.advance(60_000);
  }
  const ended = await store.admin.archive.get(message.id);
  assertEquals(numbers, numbers.map((_, i) => i + 1));
  assertEquals([ended?.outcome, ended?.reason, ended?.archivedBy], ["failed", "attempts", "host-1"]);
  assertEquals([ended?.attempts, ended?.maxAttempts], [numbers.length, numbers.length]);
  assertEquals(ended?.error?.message, `attempt ${numbers.length}`);
  return numbers.length;
}

function attempts(context: Context): void {
  test(
    "a message has exactly maxAttempts attempts: its own, else those of the job, else those of the queue",
    inTime(context, async (scene) => {
      await scene.store.admin.createQueue("four", { maxAttempts: 4 });
      assertEquals(await callsUntilDead(scene, "tasks", {}), 5);
      assertEquals(await callsUntilDead(scene, "four", {}), 4);
      assertEquals(await callsUntilDead(scene, "four", {}, { maxAttempts: 3 }), 3);
      assertEquals(await callsUntilDead(scene, "four", {}, { maxAttempts: 6 }), 6);
      assertEquals(await callsUntilDead(scene, "four", { maxAttempts: 2 }, { maxAttempts: 3 }), 2);
      assertEquals(await callsUntilDead(scene, "four", { maxAttempts: 7 }), 7);
      assertEquals(await callsUntilDead(scene, "four", { maxAttempts: 1 }), 1);
    }),
  );

  test(
    "drain() makes all attempts that are due at once",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany([1, 2, 3]);
      let calls = 0;
      const tasks = job("tasks", () => {
        calls++;
        throw new Error("no");
      }, { retry: { maxAttempts: 4, backoff: AT_ONCE } });
      assertEquals(await store.worker([tasks]).drain(), { completed: 0, failed: 12, dead: 3 });
      assertEquals(calls, 12);
    }),
  );

  test(
    "a handler that succeeds at last ends its message, which tells of the attempts before and of the last error",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue(1);
      const told: (number | null)[] = [];
      store.on("failed", ({ retryAfterMs }) => void told.push(retryAfterMs));
      const tasks = job("tasks", (message, { attempt }) => {
        assertEquals(message.error?.message, attempt === 1 ? undefined : `attempt ${attempt - 1}`);
        if (attempt < 3) throw new Error(`attempt ${attempt}`);
        return "at last";
      }, { retry: { backoff: AT_ONCE } });
      assertEquals(await store.worker([tasks]).drain(), { completed: 1, failed: 2, dead: 0 });
      const ended = await store.admin.archive.get(id);
      assertEquals([ended?.outcome, ended?.result, ended?.attempts], ["succeeded", "at last", 2]);
      assertEquals([ended?.error?.message, told], ["attempt 2", [0, 0]]);
    }),
  );
}

/** Lets a message fail some times, and tells after which pauses it was due again. */
async function pausesOf(
  { store, clock }: Scene,
  count: number,
  { error = new Error("no"), retry, ...options }: EnqueueOptions & { error?: unknown; retry?: RetryPolicy },
): Promise<number[]> {
  const { id } = await store.producer("tasks").enqueue(1, { maxAttempts: count + 1, ...options });
  const worker = store.worker([job("tasks", () => Promise.reject(error), retry === undefined ? {} : { retry })]);
  const found: number[] = [];
  for (let i = 0; i < count; i++) {
    assertEquals((await worker.drain()).failed, 1);
    const message = await store.admin.messages.get(id);
    const pauseMs = (message?.visibleAt.getTime() ?? NaN) - clock.now;
    found.push(pauseMs);
    // Not a millisecond sooner.
    clock.advance(pauseMs - 1);
    assertEquals((await worker.drain()).failed, 0);
    clock.advance(1);
  }
  await store.admin.messages.delete(id);
  return found;
}

function pauses(context: Context): void {
  test(
    "the pause is exact by the database's clock: fixed, exponential and capped, of the message, the job or the queue",
    inTime(context, async (scene) => {
      const fixed = { kind: "fixed", baseMs: 700, jitter: 0 } as const;
      const growing = { baseMs: 100, maxMs: 500, jitter: 0 } as const;
      await scene.store.admin.queues.update("tasks", { backoff: { kind: "fixed", baseMs: 20, jitter: 0 } });
      assertEquals(await pausesOf(scene, 2, {}), [20, 20]);
      assertEquals(await pausesOf(scene, 2, { retry: { maxAttempts: 9 } }), [20, 20]);
      assertEquals(await pausesOf(scene, 3, { retry: { backoff: fixed } }), [700, 700, 700]);
      assertEquals(await pausesOf(scene, 5, { retry: { backoff: growing } }), [100, 200, 400, 500, 500]);
      assertEquals(await pausesOf(scene, 3, { backoff: growing, retry: { backoff: fixed } }), [100, 200, 400]);
    }),
  );

  test(
    "the pause stays within the jitter, and is not always the same",
    inTime(context, async (scene) => {
      const backoff = { kind: "fixed", baseMs: 10_000, jitter: 0.5 } as const;
      const found = await pausesOf(scene, 12, { backoff });
      assert(found.every((ms) => ms >= 5_000 && ms <= 15_000) && new Set(found).size > 1, String(found));
    }),
  );

  test(
    "the pause may be a function of the error and the attempt; one that fails or returns no duration is not heard",
    inTime(context, async (scene) => {
      const seen: unknown[] = [];
      const error = new TypeError("no");
      const backoff = (reason: unknown, attempt: number): number => {
        seen.push(reason);
        return attempt * 11 + 0.4;
      };
      assertEquals(await pausesOf(scene, 3, { error, retry: { backoff } }), [11, 22, 33]);
      assertEquals(seen, [error, error, error]);
      const wrong: ((error: unknown) => number)[] = [
        () => NaN,
        () => -1,
        () => Infinity,
        () => "5" as never,
        (reason) => {
          throw reason;
        },
        (reason) => Promise.reject(reason) as never,
      ];
      const reasons = await unheard(async () => {
        for (const one of wrong) {
          const [ms = 0] = await pausesOf(scene, 1, { retry: { backoff: one } });
          assert(ms === 5 || ms >= 750 && ms <= 1_250, `${one} ${ms}`);
        }
      });
      assertEquals(reasons, []);
    }),
  );

  test(
    "RetryError says after how long, or leaves that to the policy; its attempt counts",
    inTime(context, async (scene) => {
      const retry = { backoff: { kind: "fixed", baseMs: 5_000, jitter: 0 } } as const;
      assertEquals(await pausesOf(scene, 2, { error: new RetryError("slow", { afterMs: 42 }), retry }), [42, 42]);
      assertEquals(await pausesOf(scene, 1, { error: new RetryError("slow"), retry }), [5_000]);
      const error = new RetryError("slow", { afterMs: 86_400_000, cause: new Error("429") });
      assertEquals(await pausesOf(scene, 1, { error, backoff: { baseMs: 1 } }), [86_400_000]);
    }),
  );

  test(
    "an operator's change of the queue's policy holds for a worker that runs",
    inStore(context, async ({ store, producer }) => {
      await store.admin.queues.update("tasks", { maxAttempts: 9, backoff: { kind: "fixed", baseMs: 600_000 } });
      const tasks = job("tasks", () => Promise.reject(new Error("no")));
      await using running = startWorker(store, [tasks]);
      const slow = await producer.enqueue(1);
      await until(() => running.worker.health().failed === 1);
      await store.admin.queues.update("tasks", { maxAttempts: 3, backoff: { kind: "fixed", baseMs: 1 } });
      const { id } = await producer.enqueue(2);
      await until(() => running.worker.health().dead === 1);
      assertEquals((await store.admin.archive.get(id))?.attempts, 3);
      assertEquals((await store.admin.messages.get(slow.id))?.state, "delayed");
    }),
  );

  test(
    "an attempt that is due is made without a hint and without waiting for the next look",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue(1);
      const tasks = job("tasks", (_message, { attempt }) => {
        if (attempt < 4) throw new Error("no");
      }, { retry: { backoff: { kind: "fixed", baseMs: 20, jitter: 0 } } });
      const stop = new AbortController();
      store.on("completed", () => stop.abort());
      await store.worker([tasks], { pollIntervalMs: 600_000 }).run({ signal: stop.signal });
      assertEquals(await store.admin.archive.count(), 1);
    }),
  );
}

function dead(context: Context): void {
  test(
    "a dead letter keeps the chain of errors within bounds, its attempts, the last worker; onDead and the event tell",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue({ n: 1 });
      const root = Object.assign(new RangeError("the root"), { code: "E_ROOT" });
      const error = new TypeError("x".repeat(100_000), { cause: new Error("between", { cause: root }) });
      const events: StoreEvents["dead"][] = [];
      const hooks: [Message, unknown, boolean][] = [];
      store.on("dead", (event) => void events.push(event));
      const onDead = async (message: Message, reason: unknown) => {
        // Called after the commit: the dead letter is there.
        hooks.push([message, reason, await store.admin.archive.get(message.id) !== null]);
      };
      const tasks = job("tasks", () => Promise.reject(error), { retry: { maxAttempts: 2, backoff: AT_ONCE }, onDead });
      assertEquals(await store.worker([tasks], { name: "host-2" }).drain(), { completed: 0, failed: 2, dead: 1 });
      const [letter] = (await store.admin.dead.list()).items;
      assertEquals([letter?.id, letter?.payload, letter?.attempts], [id, { n: 1 }, 2]);
      assertEquals([letter?.reason, letter?.archivedBy, letter?.result], ["attempts", "host-2", null]);
      const kept = letter?.error;
      assertEquals([kept?.name, kept?.cause?.message, kept?.cause?.cause?.name], [
        "TypeError",
        "between",
        "RangeError",
      ]);
      assertEquals([kept?.cause?.cause?.message, kept?.cause?.cause?.code], ["the root", "E_ROOT"]);
      assert(kept?.cause?.cause?.stack?.includes("the root"));
      assert(JSON.stringify(kept).length <= 16_384 && (kept?.message.length ?? 0) > 1_000);
      assertEquals(events.map(({ message, reason }) => [message.id, reason]), [[id, "attempts"]]);
      assertEquals(hooks.map(([message, reason, isThere]) => [message.id, reason, isThere]), [[id, error, true]]);
    }),
  );

  test(
    "NonRetryableError makes a dead letter at once, with a reason of its own",
    inStore(context, async ({ store, producer }) => {
      const messages = await producer.enqueueMany([1, 2]);
      const reasons: unknown[] = [];
      store.on("dead", ({ reason }) => void reasons.push(reason));
      store.on("failed", ({ retryAfterMs }) => void reasons.push(retryAfterMs));
      const error = new NonRetryableError("it is no address", { cause: new Error("no @") });
      assertEquals(await store.worker([job("tasks", () => Promise.reject(error))]).drain(), {
        completed: 0,
        failed: 2,
        dead: 2,
      });
      for (const { id } of messages) {
        const ended = await store.admin.archive.get(id);
        assertEquals([ended?.outcome, ended?.reason, ended?.attempts], ["failed", "not_retryable", 1]);
        assertEquals([ended?.error?.name, ended?.error?.cause?.message], ["NonRetryableError", "no @"]);
      }
      assertEquals(reasons, [null, "not_retryable", null, "not_retryable"]);
    }),
  );
}

function replay(context: Context): void {
  test(
    "dead letters that are replayed run again with all their attempts: one, several, or those of a filter",
    inStore(context, async ({ store, producer }) => {
      const ids = (await producer.enqueueMany([0, 1, 2, 3, 4, 5])).map(({ id }) => id);
      let isBroken = true;
      const seen: number[] = [];
      const tasks = job<number>("tasks", ({ payload, attempts }) => {
        if (isBroken && payload === 5) throw new NonRetryableError("never");
        if (isBroken) throw new Error("broken");
        assertEquals(attempts, 0);
        seen.push(payload);
      }, { retry: { maxAttempts: 2, backoff: AT_ONCE }, concurrency: 1 });
      const worker = store.worker([tasks]);
      assertEquals(await worker.drain(), { completed: 0, failed: 11, dead: 6 });
      isBroken = false;
      assertEquals(await worker.drain(), { completed: 0, failed: 0, dead: 0 });
      const { dead } = store.admin;
      assertEquals(await dead.replay(ids[0] as number), [ids[0]]);
      assertEquals((await worker.drain()).completed, 1);
      assertEquals(await dead.replay([ids[1], ids[2]] as number[]), [ids[1], ids[2]]);
      assertEquals((await worker.drain()).completed, 2);
      assertEquals(await dead.replay({ reason: "not_retryable" }), [ids[5]]);
      assertEquals((await worker.drain()).completed, 1);
      assertEquals((await dead.replay({ queue: "tasks" })).toSorted(), [ids[3], ids[4]]);
      assertEquals((await worker.drain()).completed, 2);
      assertEquals([seen, await dead.count()], [[0, 1, 2, 5, 3, 4], 0]);
      isBroken = true;
      await producer.enqueue(9);
      assertEquals((await worker.drain()).dead, 1);
    }),
  );
}
