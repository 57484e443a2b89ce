/** How runs are started, and what becomes of the same key. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { CancelledError, DatabaseError, StateError, type Workflow, workflowRef } from "../../mod.ts";
import type { Driver } from "../../src/sql/driver.ts";
import { type RunScene, type RunTests, whileWorking } from "../support/run_scene.ts";
import { openWatched } from "../support/watched_store.ts";

/** Defines the tests for one backend. */
export function runStartContract(tests: RunTests): void {
  identity(tests);
  policies(tests);
  options(tests);
  transactions(tests);
}

const echo = ({ define }: RunScene): Workflow<unknown, unknown> => define((_run, input: unknown) => input);

function identity({ test }: RunTests): void {
  test("B1: a start that was not committed leaves no run, and the next one under its key makes exactly one", async (scene) => {
    const { store } = scene;
    const flow = echo(scene);
    await store.start(flow, 0);
    let id = 0;
    await assertRejects(() =>
      store.transaction(async (tx) => {
        id = (await store.start(flow, 1, { key: "once", tx })).id;
        throw new Error("a crash");
      })
    );
    await assertRejects(() => store.run(id).status());
    const run = await store.start(flow, 1, { key: "once" });
    assertEquals((await store.start(flow, 1, { key: "once" })).id, run.id);
    await scene.drain(flow);
    assertEquals([await run.result(), await store.admin.archive.count({ queue: flow.name })], [1, 2]);
  });

  test("B2: a start whose answer got lost resolves to the run that it has made", async (scene) => {
    const place = scene.context.isAlone ? await scene.context.place() : scene.place;
    let isLost = true;
    const watch = (driver: Driver): Pick<Driver, "query" | "transaction"> => ({
      async query(statement, call) {
        const rows = await driver.query(statement, call);
        if (!/enqueue/i.test(statement.name) || !isLost || rows.length === 0) return rows;
        isLost = false;
        throw new DatabaseError("The connection was lost", { outcome: "unknown", reason: "connection" });
      },
      transaction: (work, call) => driver.transaction(work, call),
    });
    await using store = await openWatched(place.dsn, place.schema, watch);
    await store.admin.install();
    const flow = echo(scene);
    await store.admin.createQueue(flow.name);
    const error = await assertRejects(() => store.start(flow, 1, { key: "once" }), DatabaseError);
    const run = await store.start(flow, 1, { key: "once" });
    assertEquals([error.outcome, await store.admin.messages.count({ queue: flow.name })], ["unknown", 1]);
    await store.worker([flow], { maintenance: false }).drain();
    assertEquals([await run.result(), (await store.start(flow, 1, { key: "once" })).id], [1, run.id]);
  });

  test("B20: 100 starts with one key at the same time make one run, and all get its handle", async (scene) => {
    const { store } = scene;
    await using other = await scene.other();
    const flow = echo(scene);
    const starts = Array.from(
      { length: 100 },
      (_, n) => (n % 2 ? store : other).start(flow, { a: 1 }, { key: "same" }),
    );
    const ids = new Set((await Promise.all(starts)).map(({ id }) => id));
    assertEquals([ids.size, await store.admin.messages.count({ queue: flow.name })], [1, 1]);
    const error = await assertRejects(() => store.start(flow, { a: 2 }, { key: "same" }), StateError);
    assert(error.message.includes("another payload"), error.message);
    // Another workflow has keys of its own.
    assert(!ids.has((await store.start(echo(scene), { a: 2 }, { key: "same" })).id));
  });

  test("B23: runs are executed by one of two workers each, and every step once", async (scene) => {
    await using other = await scene.other();
    const done: number[] = [];
    const flow = scene.define(async (run, n: number) => {
      await run.step("a", () => void done.push(n));
      return await run.step("b", () => n);
    });
    const runs = await Promise.all(Array.from({ length: 60 }, (_, n) => scene.store.start(flow, n)));
    const results = await scene.during(
      [flow],
      () => whileWorking(other, [flow], () => Promise.all(runs.map((run) => run.result({ timeoutMs: 20_000 })))),
    );
    assertEquals(results, runs.map((_, n) => n));
    assertEquals([done.length, new Set(done).size], [60, 60]);
  });
}

function policies({ test, timed }: RunTests): void {
  timed("B21: the key of a run that has ended still means it, for 24 hours", async (scene) => {
    const { store } = scene;
    const flow = echo(scene);
    const run = await store.start(flow, 1, { key: "k" });
    await scene.drain(flow);
    assertEquals((await store.start(flow, 1, { key: "k" })).id, run.id);
    await assertRejects(() => store.start(flow, 1, { key: { value: "k", onConflict: "reject" } }), StateError);
    scene.clock.advance(86_400_001);
    const next = await store.start(flow, 1, { key: "k" });
    assert(next.id > run.id);
    scene.clock.advance(86_400_001);
    // A run that lives keeps its key, however long it takes.
    assertEquals((await store.start(flow, 1, { key: "k" })).id, next.id);
  });

  test("B22: a key is rejected, shared or replaced as was said, and let go when it was said", async (scene) => {
    const { store } = scene;
    const flow = echo(scene);
    const run = await store.start(flow, "old", { key: { value: "k", until: "finished" } });
    const replacing = { value: "k", onConflict: "replace", until: "finished" } as const;
    assertEquals((await store.start(flow, "new", { key: replacing })).id, run.id);
    await scene.drain(flow);
    assertEquals(await run.result(), "new");
    const next = await store.start(flow, "next", { key: replacing });
    assert(next.id > run.id);
    const started = await store.start(flow, 1, { key: { value: "s", until: "started" } });
    await scene.drain(flow);
    assert((await store.start(flow, 2, { key: { value: "s", until: "started" } })).id > started.id);
    const storm = Array.from(
      { length: 20 },
      () => store.start(flow, 1, { key: { value: "r", onConflict: "reject" } }).then(() => 1, () => 0),
    );
    assertEquals((await Promise.all(storm)).filter((n) => n === 1).length, 1);
  });
}

function options({ test, timed }: RunTests): void {
  test("the queue of a workflow is made when it is missing, by many at once too", async (scene) => {
    const { store, define } = scene;
    const flow = define((_run, n: number) => n * 2);
    const runs = await Promise.all([1, 2, 3].map((n) => store.start(workflowRef<number, number>(flow.name), n)));
    assertEquals((await store.admin.queues.get(flow.name)).retentionMs, 2_592_000_000);
    assertEquals(await runs[0]?.status(), "ready");
    await scene.drain(flow);
    assertEquals(await Promise.all(runs.map((run) => run.result())), [2, 4, 6]);
    // A worker makes it too.
    assertEquals(await scene.drain(define(() => 1)), { completed: 0, failed: 0, dead: 0 });
  });

  timed("a run may be started later, first and with headers", async (scene) => {
    const { store } = scene;
    const order: unknown[] = [];
    const flow = scene.define((_run, n: number) => void order.push(n), { concurrency: 1 });
    const late = await store.start(flow, 1, { delayMs: 1_000 });
    const at = await store.start(flow, 2, { at: new Date(scene.clock.now + 2_000) });
    await store.start(flow, 3);
    const first = await store.start(flow, 4, { priority: 9, headers: { tenant: "x" } });
    assertEquals([await late.status(), (await scene.message(first)).headers], ["delayed", { tenant: "x" }]);
    await scene.drain(flow);
    assertEquals(order, [4, 3]);
    scene.clock.advance(999);
    await scene.drain(flow);
    scene.clock.advance(1);
    await scene.drain(flow);
    assertEquals([order, await at.status()], [[4, 3, 1], "delayed"]);
    scene.clock.advance(1_000);
    await scene.drain(flow);
    assertEquals(order, [4, 3, 1, 2]);
  });

  timed("a run that is not begun in time ends as cancelled", async (scene) => {
    const flow = echo(scene);
    const run = await scene.store.start(flow, 1, { ttlMs: 1_000 });
    scene.clock.advance(1_000);
    await scene.drain(flow);
    assertEquals((await assertRejects(() => run.result(), CancelledError)).reason, "expired");
  });

  test("inputs are checked by the schema, and wrong arguments refused, before anything is sent", async (scene) => {
    const { store } = scene;
    const validate = (value: unknown) =>
      typeof value === "number" ? { value: value + 1 } : { issues: [{ message: "no number" }] };
    const flow = scene.define((_run, n: number) => n, {
      schema: { "~standard": { version: 1, vendor: "test", validate } },
    });
    await assertRejects(() => store.start(flow, "1" as never), TypeError, "schema");
    await assertRejects(() => store.start(flow, 1, { prioritty: 1 } as never), TypeError, "priority");
    await assertRejects(() => store.start(flow, 1, { priority: 10 }), RangeError, "priority");
    await assertRejects(() => store.start(flow, 1, { key: "" }), RangeError);
    await assertRejects(() => store.start(echo(scene), () => 1), TypeError);
    assertEquals((await store.admin.queues.list()).some(({ name }) => name === flow.name), false);
    assertEquals(await scene.finish(await store.start(flow, 1), flow), 2);
  });
}

function transactions({ test }: RunTests): void {
  test("a start in a transaction makes the run if and only if that commits, and the queue when it is missing", async (scene) => {
    const { store } = scene;
    const flow = echo(scene);
    await assertRejects(
      () =>
        store.transaction(async (tx) => {
          await store.start(flow, 1, { tx });
          throw new Error("undone");
        }),
      Error,
      "undone",
    );
    const run = await store.transaction((tx) => store.start(flow, 2, { tx, key: "tx" }));
    assertEquals([await run.status(), await store.admin.messages.count({ queue: flow.name })], ["ready", 1]);
    assertEquals(await scene.finish(run, flow), 2);
  });

  test("a start in the transaction of a step is committed with it", async (scene) => {
    const { store } = scene;
    const child = echo(scene);
    let calls = 0;
    const flow = scene.define(async (run) => {
      return await run.transaction("start", async (tx) => {
        const { id } = await store.start(child, ++calls, { tx });
        if (calls === 1) throw new Error("once");
        return id;
      }, { retry: { maxAttempts: 2, backoff: { kind: "fixed", baseMs: 0, jitter: 0 } } });
    });
    const id = await scene.finish(await store.start(flow, null), flow);
    assertEquals(await store.admin.messages.count({ queue: child.name }), 1);
    assertEquals(await scene.finish(store.run(id), child), 2);
  });
}
