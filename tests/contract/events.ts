/** What a store tells of its workers: events, lines of the log, `health`; and that headers reach the handler. */
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import {
  DatabaseError,
  type EventName,
  job,
  type Logger,
  type Message,
  NonRetryableError,
  type Store,
  type StoreEvents,
  type WorkerHealth,
} from "../../mod.ts";
import type { Driver } from "../../src/sql/driver.ts";
import { until } from "../support/until.ts";
import { openWatched } from "../support/watched_store.ts";
import { type Context, inStore, inTime, takeOne } from "./context.ts";

/** Defines the tests for one backend. */
export function eventsContract(context: Context): void {
  describe(`events on ${context.name}`, () => {
    messages(context);
    losses(context);
    workers(context);
    trouble(context);
    listeners(context);
  });
  describe(`logger on ${context.name}`, () => logging(context));
  describe(`health() on ${context.name}`, () => health(context));
}

const NAMES: readonly EventName[] = [
  "cancelled",
  "completed",
  "dead",
  "error",
  "expired",
  "failed",
  "lag",
  "lost",
  "started",
  "workerPaused",
  "workerResumed",
  "workerStarted",
  "workerStopped",
  "workerStopping",
];

/** Every event of a store, in order; those of messages with the payload instead of the message. */
type Told = readonly [name: EventName, what: Record<string, unknown>];

function listen(store: Store): Told[] {
  const told: Told[] = [];
  for (const name of NAMES) {
    store.on(name, (event) => {
      const { message, ...rest } = event as { message?: Message };
      told.push([name, message === undefined ? rest : { payload: message.payload, ...rest }]);
    });
  }
  return told;
}

function ofMessages(told: readonly Told[]): Told[] {
  return told.filter(([name]) => !name.startsWith("worker"));
}

function messages(context: Context): void {
  test(
    "started and completed tell of every message that succeeds, in this order and after the commit",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue("a");
      const told = listen(store);
      let outcome: Promise<string | undefined> | undefined;
      store.on("completed", ({ message }) => {
        outcome = store.admin.archive.get(message.id).then((archived) => archived?.outcome);
      });
      await store.worker([job("tasks", () => ({ fine: true }))]).drain();
      assertEquals(ofMessages(told), [
        ["started", { payload: "a" }],
        ["completed", { payload: "a", result: { fine: true } }],
      ]);
      assertEquals(await outcome, "succeeded", `message ${id}`);
    }),
  );

  test(
    "failed tells of every failed attempt with the pause before the next one, and dead of the last",
    inTime(context, async ({ store, producer, clock }) => {
      await producer.enqueue("a", { maxAttempts: 2 });
      const told = listen(store);
      const error = new TypeError("no");
      const worker = store.worker([job("tasks", () => {
        throw error;
      }, { retry: { backoff: { kind: "fixed", baseMs: 700, jitter: 0 } } })]);
      await worker.drain();
      assertEquals(ofMessages(told).splice(1), [["failed", { payload: "a", error, retryAfterMs: 700 }]]);
      told.length = 0;
      clock.advance(700);
      await worker.drain();
      assertEquals(ofMessages(told).splice(1), [
        ["failed", { payload: "a", error, retryAfterMs: null }],
        ["dead", { payload: "a", reason: "attempts" }],
      ]);
    }),
  );

  test(
    "dead tells that another attempt makes no sense",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue("a");
      const told = listen(store);
      await store.worker([job("tasks", () => {
        throw new NonRetryableError("never");
      })]).drain();
      assertEquals(ofMessages(told).at(-1), ["dead", { payload: "a", reason: "not_retryable" }]);
    }),
  );

  test(
    "dead tells of a message whose leases ran out too often",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      await producer.enqueue("a");
      for (let i = 0; i < 10; i++) {
        await takeOne(consumer, { leaseMs: 1_000 });
        clock.advance(1_000);
      }
      const told = listen(store);
      assertEquals((await store.worker([job("tasks", () => {})]).drain()).dead, 1);
      assertEquals(ofMessages(told), [["dead", { payload: "a", reason: "crashes" }]]);
    }),
  );

  test(
    "expired tells of a message that was not begun in time",
    inTime(context, async ({ store, producer, clock }) => {
      await producer.enqueue("late", { ttlMs: 1_000 });
      await producer.enqueue("in time", { ttlMs: 60_000 });
      clock.advance(1_000);
      const told = listen(store);
      await store.worker([job("tasks", () => {})]).drain();
      const names = ofMessages(told).map(([name, { payload }]) => `${name} ${payload}`);
      assertEquals(names.sort(), ["completed in time", "expired late", "started in time"]);
    }),
  );

  test(
    "the headers of a message reach the handler and the listeners as they were given",
    inStore(context, async ({ store, producer }) => {
      const headers = {
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate: "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
        baggage: "userId=ämne%20 \u{1f680}",
        type: "mail",
      };
      const seen: unknown[] = [];
      store.on("started", ({ message }) => seen.push(message.headers));
      store.on("completed", ({ message }) => seen.push(message.headers));
      await producer.enqueue(1, { headers });
      await producer.enqueueMany([2], { each: () => ({ headers }) });
      await store.worker([job("tasks", (message, context) => {
        seen.push(message.headers, context.message.headers);
      })]).drain();
      assertEquals(seen, Array(8).fill(headers));
    }),
  );
}

function losses(context: Context): void {
  test(
    "cancelled tells of a message that somebody cancelled while it was handled",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue("a");
      const told = listen(store);
      let reason: unknown;
      await store.worker([job("tasks", async (_, { signal }) => {
        const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve));
        await store.admin.messages.cancel(id);
        await aborted;
        reason = signal.reason;
      }, { leaseMs: 300 })]).drain();
      assertEquals(ofMessages(told), [["started", { payload: "a" }], ["cancelled", { payload: "a" }]]);
      assertEquals((reason as Error).name, "CancelledError");
    }),
  );

  test(
    "lost tells of a lease that was taken away",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue("a");
      const told = listen(store);
      await store.worker([job("tasks", async (_, { signal }) => {
        const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve));
        await store.admin.messages.update(id, { delayMs: 600_000 });
        await aborted;
      }, { leaseMs: 300 })]).drain();
      assertEquals(ofMessages(told), [["started", { payload: "a" }], ["lost", { payload: "a" }]]);
    }),
  );
}

function workers(context: Context): void {
  test(
    "workerStarted, workerStopping and workerStopped tell of the way of a worker",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue("a");
      const told = listen(store);
      const controller = new AbortController();
      const running = store.worker([job("tasks", async (_, { signal }) => {
        controller.abort();
        await until("the worker stops", () => told.some(([name]) => name === "workerStopping"));
        assertEquals(signal.aborted, false);
      })], { name: "host 1" }).run({ signal: controller.signal });
      await running;
      assertEquals(told, [
        ["workerStarted", { worker: "host 1" }],
        ["started", { payload: "a" }],
        ["workerStopping", { worker: "host 1", running: 1 }],
        ["completed", { payload: "a", result: undefined }],
        ["workerStopped", { worker: "host 1" }],
      ]);
    }),
  );

  test(
    "workerPaused and workerResumed tell that somebody has paused a worker and let it go on",
    inStore(context, async ({ store }) => {
      const told = listen(store);
      const controller = new AbortController();
      const worker = store.worker([job("tasks", () => {})], { name: "host 1", pollIntervalMs: 20 });
      const running = worker.run({ signal: controller.signal });
      await until(
        "it is there",
        async () => (await store.admin.workers.list()).some(({ name }) => name === "host 1"),
      );
      await store.admin.workers.pause("host 1");
      await until("it is paused", () => worker.health().state === "paused");
      await store.admin.workers.resume("host 1");
      await until("it goes on", () => worker.health().state === "idle");
      controller.abort();
      await running;
      assertEquals(told.map(([name]) => name), [
        "workerStarted",
        "workerPaused",
        "workerResumed",
        "workerStopping",
        "workerStopped",
      ]);
    }),
  );
}

function trouble(context: Context): void {
  test("error tells of a database that does not answer, and the worker goes on", async () => {
    const place = await context.place();
    const down = new DatabaseError("Connection was lost", { outcome: "not_applied", reason: "connection" });
    let failures = 0;
    try {
      const store = await openWatched(place.dsn, place.schema, (driver: Driver) => ({
        query: (rendered, options) => {
          if (failures === 0 || rendered.name !== "claimMessages") return driver.query(rendered, options);
          failures--;
          return Promise.reject(down);
        },
        transaction: (work, limits) => driver.transaction(work, limits),
      }));
      await using _store = store;
      await store.admin.install();
      await store.admin.createQueue("tasks");
      await store.producer("tasks").enqueue("a");
      const told = listen(store);
      failures = 2;
      const worker = store.worker([job("tasks", () => {})], { name: "host 1" });
      const seen: WorkerHealth[] = [];
      store.on("error", () => seen.push(worker.health()));
      await worker.drain();
      const errors = told.flatMap(([name, event]) => name === "error" ? [event] : []);
      assertEquals(errors.map(({ worker, error }) => [worker, error]), [["host 1", down], ["host 1", down]]);
      for (const { retryAfterMs } of errors) assert(Number(retryAfterMs) > 0, String(retryAfterMs));
      // Since when it is failing is told from the first error on, and not any more when the database answers.
      assertEquals(seen.map(({ failingSince }) => failingSince instanceof Date), [true, true]);
      assertEquals([worker.health().failingSince, worker.health().completed], [null, 1]);
    } finally {
      await place.close();
    }
  });

  test(
    "error tells what a hook of the user has thrown",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue("a", { maxAttempts: 1 });
      const told = listen(store);
      const thrown = new RangeError("in the hook");
      await store.worker([job("tasks", () => {
        throw new Error("no");
      }, {
        onDead: () => {
          throw thrown;
        },
      })]).drain();
      const [, event] = told.find(([name]) => name === "error") ?? [];
      assertEquals([event?.error, event?.retryAfterMs], [thrown, 0]);
    }),
  );

  test(
    "lag tells that the event loop stood still for longer than heartbeats may be late",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue("a");
      const told = listen(store);
      let calls = 0;
      const task = job("tasks", () => {
        const end = performance.now() + 1_200;
        // The lease ends meanwhile, so that the message comes again.
        if (calls++ === 0) { while (performance.now() < end); }
        return until("lag was told of", () => told.some(([name]) => name === "lag"));
      }, { leaseMs: 300 });
      await store.worker([task]).drain();
      const [, event] = told.find(([name]) => name === "lag") ?? [];
      assert(Number(event?.lagMs) >= 1_000, String(event?.lagMs));
    }),
  );
}

function listeners(context: Context): void {
  test(
    "on() refuses names that are no event and listeners that are no function",
    inStore(context, ({ store }) => {
      assertThrows(() => store.on("complete" as never, () => {}), TypeError, 'did you mean "completed"');
      assertThrows(() => store.on("toString" as never, () => {}), TypeError, "known are cancelled, completed");
      assertThrows(() => store.on("completed", 5 as never), TypeError, "must be a function");
      return Promise.resolve();
    }),
  );

  test(
    "on() returns what ends it; the same function may listen twice, and leave while it is told",
    inStore(context, async ({ store, producer }) => {
      const told: string[] = [];
      const listener = (): void => void told.push("twice");
      const stops = [store.on("completed", listener), store.on("completed", listener)];
      const stopSelf: () => void = store.on("completed", () => {
        told.push("once");
        stopSelf();
        // Whoever comes in the middle of an event hears the next one.
        store.on("completed", () => told.push("new"));
      });
      const worker = store.worker([job("tasks", () => {})]);
      await producer.enqueue(1);
      await worker.drain();
      assertEquals(told, ["twice", "twice", "once"]);
      stops[0]?.();
      stops[0]?.();
      await producer.enqueue(2);
      await worker.drain();
      assertEquals(told.slice(3), ["twice", "new"]);
    }),
  );

  test("listeners that throw or reject are logged by name and disturb nothing", async () => {
    const lines: string[] = [];
    const secret = "canary-0815";
    const store = await context.connect({ logger: loggerOf(lines) });
    await using _store = store;
    await store.admin.createQueue("tasks");
    const heard: string[] = [];
    for (const name of NAMES) {
      store.on(name, () => {
        throw new RangeError(secret);
      });
      store.on(name, () => Promise.reject(new TypeError(secret)));
      store.on(name, () => heard.push(name));
    }
    const [good, bad] = await store.producer("tasks").enqueueMany(["good", "bad"], { maxAttempts: 1 });
    const { completed, dead } = await store.worker([job("tasks", ({ payload }) => {
      if (payload === "bad") throw new Error(secret);
    })]).drain();
    assertEquals([completed, dead, good !== undefined, bad !== undefined], [1, 1, true, true]);
    for (const name of ["started", "completed", "failed", "dead", "workerStarted", "workerStopped"]) {
      assert(heard.includes(name), name);
      assert(lines.includes(`error A listener of "${name}" has thrown RangeError`), name);
      assert(lines.includes(`error A listener of "${name}" has thrown TypeError`), name);
    }
    for (const line of lines) assert(!line.includes(secret), line);
  });

  test(
    "events are typed by their names",
    inStore(context, ({ store }) => {
      const stop = store.on("failed", ({ message, error, retryAfterMs }) => {
        const typed: readonly [Message, unknown, number | null] = [message, error, retryAfterMs];
        return typed;
      });
      stop();
      const event: StoreEvents["workerStopping"] = { worker: "w", running: 1 };
      // @ts-expect-error There is no such event.
      assertThrows(() => store.on("ended", () => event), TypeError);
      return Promise.resolve();
    }),
  );
}

/** A logger that writes level and line. */
function loggerOf(lines: string[]): Logger {
  const at = (level: string) => (line: string): void => void lines.push(`${level} ${line}`);
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function logging(context: Context): void {
  test("logger gets what workers do, each on its level, and no payload, result or text of an error", async () => {
    const lines: string[] = [];
    const secret = "canary-4711";
    const store = await context.connect({ logger: loggerOf(lines) });
    await using _store = store;
    await store.admin.createQueue("tasks");
    const producer = store.producer("tasks");
    await producer.enqueueMany([{ secret }, { secret, bad: true }, { secret, gone: true }], {
      each: () => ({ maxAttempts: 2, headers: { secret }, key: secret + Math.random() }),
    });
    lines.length = 0;
    const error = Object.assign(new TypeError(secret), { code: secret, cause: new Error(secret) });
    await store.worker([job<{ bad?: boolean; gone?: boolean }>("tasks", async ({ id, payload }, context) => {
      await context.progress(secret);
      if (payload.bad === true) throw error;
      if (payload.gone === true) {
        const aborted = new Promise((resolve) => context.signal.addEventListener("abort", resolve));
        await store.admin.messages.cancel(id, { reason: secret });
        await aborted;
      }
      return secret;
    }, {
      concurrency: 1,
      leaseMs: 300,
      retry: { backoff: { kind: "fixed", baseMs: 600_000, maxMs: 600_000, jitter: 0 } },
    })], {
      name: `host "1"`,
    }).drain();
    const message = (n: number): string => `Message ${n} of queue "tasks"`;
    const expected = [
      `info Worker "host \\"1\\"" has started`,
      `debug ${message(1)}: attempt 1 begins`,
      `debug ${message(1)} has succeeded`,
      `debug ${message(2)}: attempt 1 begins`,
      `warn ${message(2)}: attempt 1 has failed with TypeError, the next one comes in 600000 ms`,
      `debug ${message(3)}: attempt 1 begins`,
      `info ${message(3)} was cancelled while it was handled`,
      `info Worker "host \\"1\\"" stops`,
      `info Worker "host \\"1\\"" has stopped`,
    ];
    // What is settled in the background is told of when it is stored, which may be after the next one has begun.
    assertEquals(lines.toSorted(), expected.toSorted());
    for (const line of lines) assert(!line.includes(secret), line);
  });

  test("logger gets errors of the database, and never the text of any other error", async () => {
    const lines: string[] = [];
    const store = await context.connect({ logger: loggerOf(lines) });
    await using _store = store;
    await store.admin.createQueue("tasks");
    await store.producer("tasks").enqueue(1, { maxAttempts: 1 });
    await store.worker([job("tasks", () => Promise.reject(Object.assign(new Error("x"), { name: "a secret: 4711" })), {
      onDead: () => Promise.reject(new RangeError("4711")),
    })]).drain();
    assert(lines.includes('error Message 1 of queue "tasks" is a dead letter: attempts'), lines.join("\n"));
    assert(lines.includes('error Worker "worker": RangeError'), lines.join("\n"));
    assert(lines.some((line) => /^warn Message 1 .* failed with an error, there is no other$/.test(line)));
    for (const line of lines) assert(!line.includes("4711"), line);
  });

  test("logger that throws or rejects disturbs nothing, and one that lacks a function is refused", async () => {
    let calls = 0;
    const bad = (): never => {
      calls++;
      throw new Error("no log");
    };
    const rejecting = (): Promise<void> => {
      calls++;
      return Promise.reject(new Error("no log"));
    };
    const store = await context.connect({ logger: { debug: rejecting, info: bad, warn: bad, error: rejecting } });
    await using _store = store;
    await store.admin.createQueue("tasks");
    await store.producer("tasks").enqueue(1, { maxAttempts: 1 });
    const { dead } = await store.worker([job("tasks", () => {
      throw new Error("no");
    })]).drain();
    assertEquals(dead, 1);
    assert(calls >= 5, `${calls} calls`);
    for (const logger of [{}, null, "console", { ...console, warn: undefined }]) {
      await assertRejects(() => context.connect({ logger: logger as never }), TypeError, "Cannot use logger");
    }
  });
}

function health(context: Context): void {
  test(
    "health() tells what the worker holds, runs and has done",
    inStore(context, async ({ store, producer }) => {
      const ends = new Map<unknown, (value: unknown) => void>();
      const task = job("tasks", async ({ payload }) => {
        const value = await new Promise((resolve) => ends.set(payload, resolve));
        if (value instanceof Error) throw value;
      }, { concurrency: 2, prefetch: 500 });
      const worker = store.worker([task], { name: "host 1" });
      const stopped = worker.health();
      assertEquals([stopped.name, stopped.state, stopped.lastAnswerAt], ["host 1", "stopped", null]);
      const controller = new AbortController();
      const running = worker.run({ signal: controller.signal });
      await until("it is idle", () => worker.health().state === "idle" && worker.health().lastAnswerAt !== null);

      await producer.enqueueMany(["a", "b", "c"], { maxAttempts: 1 });
      await until("two are begun", () => ends.size === 2);
      const busy = worker.health();
      assertEquals([busy.state, busy.running, busy.completed, busy.failed], ["running", 2, 0, 0]);
      assertEquals([busy.overdue, busy.failingSince, busy.dead], [0, null, 0]);
      ends.get("a")?.(1);
      ends.get("b")?.(new Error("no"));
      await until("the third is begun", () => ends.has("c"));
      await until("two are settled", () => worker.health().completed + worker.health().dead === 2);
      const later = worker.health();
      assertEquals([later.running, later.completed, later.failed, later.dead], [1, 1, 1, 1]);
      assert((later.lastAnswerAt as Date) >= (busy.lastAnswerAt as Date));

      controller.abort();
      await until("it stops", () => worker.health().state === "stopping");
      ends.get("c")?.(1);
      await running;
      const end = worker.health();
      assertEquals([end.state, end.running, end.waiting, end.completed], ["stopped", 0, 0, 2]);
    }),
  );

  test(
    "health() tells of handlers that go on although nobody waits for them",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue(1, { maxAttempts: 1 });
      let end = (): void => {};
      const endless = new Promise<void>((resolve) => end = resolve);
      const worker = store.worker([job("tasks", () => endless, { timeoutMs: 20 })]);
      const controller = new AbortController();
      const running = worker.run({ signal: controller.signal });
      await until("its time is up", () => worker.health().dead === 1);
      assertEquals([worker.health().overdue, worker.health().running], [1, 0]);
      end();
      await until("it has ended", () => worker.health().overdue === 0);
      controller.abort();
      await running;
      assertEquals(worker.health().overdue, 0);
    }),
  );

  test(
    "health() tells of messages that are claimed and not yet begun",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueueMany(Array.from({ length: 2_000 }, (_, n) => n));
      const worker = store.worker([job("tasks", () => {}, { concurrency: 1 })]);
      let most = 0;
      store.on("started", () => most = Math.max(most, worker.health().waiting));
      assertEquals((await worker.drain()).completed, 2_000);
      assert(most > 0 && most <= 500, String(most));
      assertEquals(worker.health().waiting, 0);
    }),
  );

  test(
    "health() tells whether hints of other processes arrive",
    inStore(context, async ({ store }) => {
      const worker = store.worker([job("tasks", () => {})]);
      const controller = new AbortController();
      const running = worker.run({ signal: controller.signal });
      assertMatch(String(worker.health().isListening), /^(true|false)$/);
      if (context.dialect === "postgres") await until("hints are heard", () => worker.health().isListening);
      controller.abort();
      await running;
      assertEquals(worker.health().isListening, false);
    }),
  );
}
