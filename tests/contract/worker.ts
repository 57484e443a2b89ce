/** What a worker promises: it handles every message once, whatever handlers do. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { AsyncLocalStorage } from "node:async_hooks";
import { describe, test } from "node:test";
import { DatabaseError, job, type JobContext, RetryError, SchemaError, StateError } from "../../mod.ts";
import { gate, startWorker, unheard, until } from "../support/running_worker.ts";
import { type Context, inStore } from "./context.ts";

const ONCE = { maxAttempts: 1 };

/** Defines the tests for one backend. */
export function workerContract(context: Context): void {
  describe(`worker on ${context.name}`, () => {
    handling(context);
    misbehaving(context);
    timing(context);
    refusals(context);
  });
}

function handling(context: Context): void {
  test(
    "drain() handles every message once and archives it with its result",
    inStore(context, async ({ store, producer }) => {
      const sent = await producer.enqueueMany(Array.from({ length: 300 }, (_, n) => ({ n })), {
        headers: { type: "t" },
      });
      const seen: number[] = [];
      const tasks = job<{ n: number }>("tasks", ({ payload, state, worker }, context) => {
        seen.push(payload.n);
        assertEquals([state, worker, context.worker, context.attempt], ["leased", "host-1", "host-1", 1]);
        return payload.n % 3 === 0 ? undefined : payload.n % 3 === 1 ? null : Promise.resolve({ twice: payload.n * 2 });
      });
      const drained = await store.worker([tasks], { name: "host-1" }).drain();
      assertEquals(drained, { completed: 300, failed: 0, dead: 0 });
      assertEquals(seen.toSorted((a, b) => a - b), sent.map((_, n) => n));
      const { items } = await store.admin.archive.list({ limit: 1_000 });
      assertEquals(items.length, 300);
      for (const { id, outcome, result, archivedBy, attempts, crashes } of items) {
        const n = sent.findIndex((message) => message.id === id);
        assertEquals([outcome, archivedBy, attempts, crashes], ["succeeded", "host-1", 0, 0]);
        assertEquals(result, n % 3 === 2 ? { twice: n * 2 } : null);
      }
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );

  test(
    "drain() handles by priority, also what handlers enqueue meanwhile, and leaves what is delayed",
    inStore(context, async ({ store, producer }) => {
      for (const priority of [0, 9, 5]) await producer.enqueue(priority, { priority });
      await producer.enqueue("later", { delayMs: 60_000 });
      const seen: unknown[] = [];
      const tasks = job("tasks", async ({ payload }) => {
        seen.push(payload);
        // Nobody hears of this one: a last look finds it.
        if (payload === 0) await producer.enqueue("from a handler", { notify: false });
      }, { concurrency: 1 });
      await store.worker([tasks]).drain();
      assertEquals(seen.slice(0, 3), [9, 5, 0]);
      assertEquals(seen.slice(3), ["from a handler"]);
      assertEquals(await store.admin.messages.count({ state: "delayed" }), 1);
    }),
  );

  test(
    "run() creates a queue that is missing, with the retry policy of its job, and takes one that is there as it is",
    inStore(context, async ({ store }) => {
      await store.admin.createQueue("old", { maxAttempts: 7 });
      const retry = { maxAttempts: 3, backoff: { kind: "fixed", baseMs: 70 } } as const;
      await store.worker([job("new", () => {}, { retry }), job("old", () => {}, { retry }), job("bare", () => {})])
        .drain();
      const of = (name: string) => store.admin.queues.get(name);
      assertEquals((await of("new"))?.maxAttempts, 3);
      assertEquals((await of("new"))?.backoff, { kind: "fixed", baseMs: 70, maxMs: 60_000, jitter: 0.25 });
      assertEquals([(await of("old"))?.maxAttempts, (await of("bare"))?.maxAttempts], [7, 5]);
    }),
  );

  test(
    "run() handles messages of several queues that come while it runs, and those that become due",
    inStore(context, async ({ store, producer }) => {
      await store.admin.createQueue("other");
      const seen = new Set<unknown>();
      const note = ({ payload }: { payload: unknown }) => void seen.add(payload);
      await using _running = startWorker(store, [job("tasks", note), job("other", note)]);
      await producer.enqueue("a");
      await store.producer("other").enqueue("b");
      await producer.enqueue("c", { delayMs: 30 });
      await until(() => seen.size === 3);
    }),
  );

  test(
    "a handler runs in the context in which the worker was started, not in that of whoever enqueued",
    inStore(context, async ({ store, producer }) => {
      const storage = new AsyncLocalStorage<string>();
      const seen: unknown[] = [];
      const tasks = job("tasks", async ({ payload }) => {
        seen.push(storage.getStore());
        // Inside somebody's transaction this would be refused.
        if (payload === "in a transaction") await producer.enqueue("from the handler");
      });
      await using _running = storage.run("the worker's", () => startWorker(store, [tasks]));
      await storage.run("the producer's", () => producer.enqueue(1));
      await until(() => seen.length === 1);
      await storage.run("the producer's", () =>
        store.transaction(async (tx) => {
          await producer.enqueue("in a transaction", { tx });
        }));
      await until(() => seen.length === 3);
      assertEquals(seen, ["the worker's", "the worker's", "the worker's"]);
    }),
  );

  test(
    "a context may be taken apart",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue(1);
      const tasks = job("tasks", async (_message, { progress, transaction, signal, message, attempt }) => {
        assertEquals([signal.aborted, message.id, attempt], [false, id, 1]);
        assert(await progress(50));
        await transaction(() => Promise.resolve("done"));
      });
      assertEquals(await store.worker([tasks]).drain(), { completed: 1, failed: 0, dead: 0 });
      assertEquals((await store.admin.archive.get(id))?.result, "done");
    }),
  );
}

/** Handlers that do what they should not, and a part of the error that is kept. */
const WRONG: Readonly<Record<string, readonly [handler: (context: JobContext) => unknown, message: string]>> = {
  "rejects": [() => Promise.reject(new Error("rejected")), "rejected"],
  "throws at once": [
    () => {
      throw new Error("thrown");
    },
    "thrown",
  ],
  "throws undefined": [
    () => {
      // deno-lint-ignore no-throw-literal
      throw undefined;
    },
    "undefined",
  ],
  "rejects with undefined": [() => Promise.reject(), "undefined"],
  "throws a text": [() => Promise.reject("just a text"), "just a text"],
  "throws what cannot be asked for its class": [() => Promise.reject(revoked()), ""],
  "returns a BigInt": [() => 1n, "result"],
  "returns a function deep inside": [() => ({ list: [1, { there: () => 1 }] }), "result.list[1].there"],
  "returns what contains itself": [
    () => {
      const list: unknown[] = [];
      list.push(list);
      return list;
    },
    "result",
  ],
  "returns too much": [() => "x".repeat(2_000_000), "the limit is"],
  "returns what cannot be read": [revoked, ""],
  "returns a thenable that settles twice and throws": [
    () => ({
      then(resolve: (value: unknown) => void, reject: (error: unknown) => void) {
        reject(new Error("first"));
        resolve("second");
        throw new Error("third");
      },
    }),
    "first",
  ],
  "returns what has a `then` that throws": [
    () => ({
      get then() {
        throw new Error("a getter");
      },
    }),
    "a getter",
  ],
};

function revoked(): unknown {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

function misbehaving(context: Context): void {
  test(
    "a handler that does wrong costs its message an attempt and nothing else: the loop goes on, nothing is unheard",
    inStore(context, async ({ store, producer }) => {
      const names = Object.keys(WRONG);
      const ids = new Map<string, number>();
      for (const name of names) {
        ids.set(name, (await producer.enqueue(name)).id);
        await producer.enqueue("good");
      }
      const tasks = job<string>("tasks", ({ payload }, context) => WRONG[payload]?.[0](context), { retry: ONCE });
      const reasons = await unheard(async () => {
        const drained = await store.worker([tasks]).drain();
        assertEquals(drained, { completed: names.length, failed: names.length, dead: names.length });
      });
      assertEquals(reasons, []);
      for (const [name, id] of ids) {
        const dead = await store.admin.archive.get(id);
        assertEquals([dead?.outcome, dead?.reason, dead?.attempts], ["failed", "attempts", 1], name);
        assert(dead?.error?.message.includes(WRONG[name]?.[1] as string), `${name}: ${dead?.error?.message}`);
      }
    }),
  );

  test(
    "progress() that fails is not unheard when the handler does not wait for it",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue(1);
      const tasks = job("tasks", (_message, { progress }) => void progress(1n));
      const reasons = await unheard(async () => {
        assertEquals(await store.worker([tasks]).drain(), { completed: 1, failed: 0, dead: 0 });
      });
      assertEquals(reasons, []);
    }),
  );

  test(
    "what listeners and onDead throw or reject with is told of and ends nothing",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany([1, 2, 3]);
      const errors: unknown[] = [];
      store.on("error", ({ error }) => void errors.push(error));
      for (const name of ["started", "failed", "dead", "workerStarted", "workerStopped"] as const) {
        store.on(name, () => {
          throw new Error(`a listener of ${name}`);
        });
      }
      const onDead = ({ payload }: { payload: number }) => {
        // deno-lint-ignore no-throw-literal
        if (payload === 1) throw "at once";
        return Promise.reject("later");
      };
      const tasks = job<number>("tasks", () => Promise.reject(new Error("no")), { retry: ONCE, onDead });
      const reasons = await unheard(async () => {
        assertEquals(await store.worker([tasks]).drain(), { completed: 0, failed: 3, dead: 3 });
      });
      assertEquals(reasons, []);
      assertEquals(errors.toSorted(), ["at once", "later", "later"]);
    }),
  );
}

function timing(context: Context): void {
  test(
    "a handler that hangs is aborted after timeoutMs, costs an attempt and frees its place; its late result is dropped",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue("hangs");
      await producer.enqueue("next");
      const hanging = gate<string>();
      const seen: unknown[] = [];
      let signal: AbortSignal | undefined;
      const tasks = job("tasks", async ({ payload }, context) => {
        seen.push(payload);
        if (payload !== "hangs") return "fine";
        signal = context.signal;
        return await hanging.passed;
      }, { concurrency: 1, timeoutMs: 50, retry: ONCE });
      await using running = startWorker(store, [tasks]);
      await until(() => seen.length === 2);
      await until(async () => await store.admin.archive.count() === 2);
      assertEquals(signal?.reason.name, "TimeoutError");
      assertEquals(running.worker.health().overdue, 1);
      hanging.open("late");
      await until(() => running.worker.health().overdue === 0);
      const ended = await store.admin.archive.get(id);
      assertEquals([ended?.outcome, ended?.attempts, ended?.result], ["failed", 1, null]);
      assertEquals(ended?.error?.name, "TimeoutError");
      const { completed, failed, dead } = running.worker.health();
      assertEquals([completed, failed, dead], [1, 1, 1]);
    }),
  );

  test(
    "a handler that rejects after it was given up is heard, and a signal that is first looked at then is aborted",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany([1, 2]);
      const hanging = gate<never>();
      const contexts: JobContext[] = [];
      const tasks = job("tasks", async (_message, context) => {
        contexts.push(context);
        await hanging.passed;
      }, { timeoutMs: 20, retry: ONCE });
      const reasons = await unheard(async () => {
        await using running = startWorker(store, [tasks]);
        await until(() => running.worker.health().dead === 2);
        assertEquals(contexts.map(({ signal }) => signal.reason?.name), ["TimeoutError", "TimeoutError"]);
        assertEquals(await contexts[0]?.progress(1), false);
        hanging.refuse(new Error("late"));
        await until(() => running.worker.health().overdue === 0);
      });
      assertEquals(reasons, []);
    }),
  );

  test(
    "timeoutMs of null never aborts, and neither does a longer one",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany([1, 2]);
      const signals: AbortSignal[] = [];
      const pause = () => new Promise((resolve) => setTimeout(resolve, 30));
      const keep = async (_message: unknown, { signal }: JobContext) => {
        signals.push(signal);
        await pause();
      };
      await store.worker([job("tasks", keep, { timeoutMs: null })]).drain();
      await producer.enqueue(3);
      await store.worker([job("tasks", keep, { timeoutMs: 60_000 })]).drain();
      assertEquals(signals.map(({ aborted }) => aborted), [false, false, false]);
    }),
  );
}

function refusals(context: Context): void {
  test(
    "wrong jobs and options are refused before anything is sent",
    inStore(context, async ({ store }) => {
      const tasks = job("tasks", () => {});
      const wrong: [() => unknown, typeof RangeError | typeof TypeError, string][] = [
        [() => job("", () => {}), RangeError, "name"],
        [() => job("tasks", "no" as never), TypeError, "handler"],
        [() => job("tasks", () => {}, { concurency: 1 } as never), TypeError, 'did you mean "concurrency"?'],
        [() => job("tasks", () => {}, { concurrency: 0 }), RangeError, "concurrency"],
        [() => job("tasks", () => {}, { prefetch: -1 }), RangeError, "prefetch"],
        [() => job("tasks", () => {}, { leaseMs: 99 }), RangeError, "leaseMs"],
        [() => job("tasks", () => {}, { timeoutMs: 0 }), RangeError, "timeoutMs"],
        [() => job("tasks", () => {}, { batch: 0 }), RangeError, "batch"],
        [() => job("tasks", () => {}, { onDead: 1 as never }), TypeError, "onDead"],
        [() => job("tasks", () => {}, { retry: { attempts: 1 } as never }), TypeError, "retry"],
        [() => job("tasks", () => {}, { retry: { maxAttempts: 0 } }), RangeError, "maxAttempts"],
        [() => job("tasks", () => {}, { retry: { backoff: { jitter: 2 } } }), RangeError, "jitter"],
        [() => store.worker([]), TypeError, "list of jobs"],
        [() => store.worker("tasks" as never), TypeError, "list of jobs"],
        [() => store.worker([() => {}] as never), TypeError, "job()"],
        [() => store.worker([null] as never), TypeError, "job()"],
        [() => store.worker([tasks, job("tasks", () => {})]), TypeError, 'two jobs serve the queue "tasks"'],
        [() => store.worker([tasks], { concurrency: 0 }), RangeError, "concurrency"],
        [() => store.worker([tasks], { name: "" }), RangeError, "name of a worker"],
        [() => store.worker([tasks], { pollIntervalMs: 0 }), RangeError, "pollIntervalMs"],
        [() => store.worker([tasks], { stopTimeoutMs: -1 }), RangeError, "stopTimeoutMs"],
        [() => store.worker([tasks], { maintenance: "no" as never }), TypeError, "maintenance"],
        [() => store.worker([tasks], { signal: null } as never), TypeError, "unknown option"],
        [() => new RetryError("no", { afterMs: -1 }), RangeError, "afterMs"],
      ];
      for (const [make, kind, text] of wrong) assertThrows(make, kind, text, String(make));
      const worker = store.worker([tasks]);
      await store.close();
      for (const signal of [1, "abort", {}]) {
        await assertRejects(() => worker.run({ signal } as never), TypeError, "AbortSignal");
        await assertRejects(() => worker.drain({ signal } as never), TypeError, "AbortSignal");
      }
      await assertRejects(() => worker.run({ timeoutMs: 1 } as never), TypeError, "timeoutMs");
      const closed = await assertRejects(() => worker.run(), DatabaseError, "closed");
      assertEquals(closed.outcome, "not_applied");
      await assertRejects(() => worker.drain(), DatabaseError, "closed");
    }),
  );

  test("run() and drain() without install() reject with SchemaError", async () => {
    const place = await context.place();
    try {
      await using store = await place.connect();
      const worker = store.worker([job("tasks", () => {})]);
      await assertRejects(() => worker.run(), SchemaError, "install");
      await assertRejects(() => worker.drain(), SchemaError, "install");
      assertEquals(worker.health().state, "stopped");
    } finally {
      await place.close();
    }
  });

  test(
    "run() of a worker that runs is refused, and one that has stopped may run again",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue(1);
      const running = startWorker(store, [job("tasks", () => {})]);
      await assertRejects(() => running.worker.run(), StateError, "running already");
      await assertRejects(() => running.worker.drain(), StateError, "running already");
      await until(() => running.worker.health().completed === 1);
      await running.stop();
      await producer.enqueue(2);
      assertEquals((await running.worker.drain()).completed, 1);
    }),
  );
}
