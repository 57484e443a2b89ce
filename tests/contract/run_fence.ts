/** Runs whose lease is gone while somebody still executes them, and runs that are executed again. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type RunContext, type RunHandle, StateError, type Store, type Transaction } from "../../mod.ts";
import { type AnyWorkflow, outline, type RunScene, type RunTests, whileWorking } from "../support/run_scene.ts";
import { type Gate, gate } from "../support/running_worker.ts";
import { until } from "../support/until.ts";

/** Defines the tests for one backend. */
export function runFenceContract(tests: RunTests): void {
  again(tests);
  zombies(tests);
  transactions(tests);
}

/** Takes the lease of a run away the first time it comes by: as if its process had died there, and another went on. */
function crashing(store: Store): (run: RunContext) => Promise<void> {
  let isFirst = true;
  return async ({ id }) => {
    if (isFirst) await store.admin.messages.release(id);
    isFirst = false;
  };
}

function again({ test, timed }: RunTests): void {
  test("B4: after a crash inside a step its body runs again, and no step before it", async (scene) => {
    const crash = crashing(scene.store);
    const done: string[] = [];
    const keys = new Set<string>();
    const flow = scene.define(async (run) => {
      await run.step("one", () => void done.push("one"));
      return await run.step("two", async ({ idempotencyKey, attempt }) => {
        done.push(`two ${attempt}`);
        keys.add(idempotencyKey);
        await crash(run);
        return "two";
      });
    });
    const run = await scene.store.start(flow, null);
    assertEquals(await scene.finish(run, flow), "two");
    // B5: the effect of a step whose record is lost is repeated under the same key.
    assertEquals([done, keys.size], [["one", "two 1", "two 1"], 1]);
    assertEquals((await scene.store.admin.archive.get(run.id))?.attempts, 0);
  });

  for (const [what, place] of [["B6: the record of a step", 1], ["B7: the last step, before the end,", 2]] as const) {
    test(`${what} survives a crash right after it: the step is not done again, and its value is the same`, async (scene) => {
      const crash = crashing(scene.store);
      const done: string[] = [];
      const flow = scene.define(async (run) => {
        const one = await run.step("one", () => done.push("one") + Math.random());
        if (place === 1) await crash(run);
        const two = await run.step("two", () => done.push("two") + one);
        if (place === 2) await crash(run);
        return [one, two];
      });
      const run = await scene.store.start(flow, null);
      const result = await scene.finish(run, flow);
      assertEquals(result, (await run.steps()).map(({ value }) => value as number));
      // What was reached only after the crash may have been begun by whoever did not know of it yet.
      assertEquals(done.filter((name) => name === "one" || place === 2), place === 1 ? ["one"] : ["one", "two"]);
    });
  }

  timed("a run whose lease runs out is executed by somebody else, and its steps are kept", async (scene) => {
    const { store, clock } = scene;
    const done: string[] = [];
    const flow = scene.define(async (run) => {
      await run.step("one", () => void done.push("one"));
      await run.sleep("rest", 1_000);
      return await run.step("two", () => void done.push("two"));
    });
    const run = await store.start(flow, null);
    await scene.drain(flow);
    clock.advance(1_000);
    // Somebody has it, and dies.
    const [message] = await store.consumer(flow.name).dequeue({ leaseMs: 5_000 });
    assertEquals([message?.id, await run.status()], [run.id, "leased"]);
    clock.advance(5_000);
    await scene.drain(flow);
    assertEquals([await run.result(), done], [undefined, ["one", "two"]]);
    assertEquals((await store.admin.archive.get(run.id))?.crashes, 1);
  });
}

/**
 * One execution stands still between two steps, another one takes the run over and ends it, and the first goes on with
 * `late`.
 */
async function haunt(
  scene: RunScene,
  late: (run: RunContext) => Promise<unknown>,
  after: (run: RunHandle<unknown>) => Promise<void>,
): Promise<void> {
  await using other = await scene.other();
  const [begun, go]: [Gate, Gate] = [gate(), gate()];
  const done: string[] = [];
  let executions = 0;
  const flow = scene.define(async (run) => {
    const isZombie = ++executions === 1;
    await run.step("first", () => void done.push("first"));
    if (!isZombie) return await run.step("second", () => "right");
    begun.open();
    await go.passed;
    return await late(run);
  }, { leaseMs: 30_000 });
  const run = await scene.store.start(flow, null);
  const lost = gate();
  const stop = other.on("lost", ({ message }) => message.id === run.id && lost.open());
  await whileWorking(other, [flow], async () => {
    await begun.passed;
    await scene.store.admin.messages.release(run.id);
    assertEquals(await scene.finish(run, flow), "right");
    go.open();
    await lost.passed;
    stop();
  });
  await after(run);
  assertEquals([await run.result(), await run.status()], ["right", "succeeded"]);
  assertEquals(outline(await run.steps()), ["first step succeeded", "second step succeeded"]);
  assertEquals(done, ["first"]);
}

function zombies({ test }: RunTests): void {
  const ways: [string, (run: RunContext, child: AnyWorkflow) => Promise<unknown>][] = [
    ["records a step and ends", () => Promise.resolve("end")],
    ["fails", () => Promise.reject(new Error("late"))],
    ["records more steps", (run) => run.step("more", () => 1)],
    ["does a transaction", (run) => run.transaction("more", () => Promise.resolve(1))],
    ["goes to sleep", (run) => run.sleep("rest", 60_000)],
    ["receives", (run) => run.receive("word")],
    ["starts a child", (run, child) => run.start(child, null)],
    ["calls a child", (run, child) => run.call(child, null)],
  ];
  for (const [what, late] of ways) {
    test(`B13: somebody who was frozen beyond the lease and then ${what} changes nothing`, async (scene) => {
      const child = scene.define(() => 1);
      await scene.store.start(child, null);
      await haunt(scene, (run) => late(run, child), async (run) => {
        await assertRejects(() => run.send("word", "x"), StateError);
      });
      // FAULT: nothing fences the start of a child: it is made although the run has ended.
      assertEquals(await scene.store.admin.messages.count({ queue: child.name }), 1);
    });
  }

  test("B14: a write of somebody whose lease is over, and whom nobody has replaced, is accepted as a whole or not at all", async (scene) => {
    const { store } = scene;
    await using other = await scene.other();
    const [begun, go] = [gate(), gate()];
    const done: string[] = [];
    const flow = scene.define(async (run) => {
      await run.step("one", async () => {
        done.push("one");
        begun.open();
        await go.passed;
      });
      return await run.step("two", () => "two");
    }, { leaseMs: 100 });
    const run = await store.start(flow, null);
    await scene.during([flow], async () => {
      await begun.passed;
      await until("the lease is renewed", async () => {
        const message = await other.admin.messages.get(run.id);
        return Number(message?.leaseUntil) - Number(message?.enqueuedAt) > 250;
      });
      go.open();
      assertEquals(await run.result({ timeoutMs: 20_000 }), "two");
    });
    assert(done.length >= 1 && (await run.steps()).length === 2);
    assertEquals((await store.admin.archive.get(run.id))?.attempts, 0);
  });
}

function transactions({ test }: RunTests): void {
  test("B17: the transaction of a step of somebody who has lost the lease is rolled back with all it did", async (scene) => {
    const { store, context, place } = scene;
    const table = context.dialect === "postgres" ? `"${place.schema}".orders` : "orders";
    await store.transaction((tx) => tx.query(`create table ${table} (id integer)`));
    const add = (tx: Transaction) => tx.query(`insert into ${table} (id) values (7)`);
    const crash = crashing(store);
    let calls = 0;
    const flow = scene.define(async (run) => {
      await run.step("first", () => 1);
      await crash(run);
      return await run.transaction("add", async (tx) => {
        await add(tx);
        return ++calls;
      });
    });
    const run = await store.start(flow, null);
    await scene.finish(run, flow);
    const [row] = await store.transaction((tx) => tx.query(`select count(*) as n from ${table}`));
    assertEquals([Number(row?.n), (await run.steps()).length], [1, 2]);
  });

  test("a step in a transaction is recorded with what it did, or neither is", async (scene) => {
    const { store, context, place } = scene;
    const table = context.dialect === "postgres" ? `"${place.schema}".payments` : "payments";
    await store.transaction((tx) => tx.query(`create table ${table} (id integer primary key)`));
    const flow = scene.define(async (run, id: number) => {
      return await run.transaction("pay", async (tx) => {
        await tx.query(`insert into ${table} (id) values (${id})`);
        if (id < 0) throw new RangeError("refused");
        return { id };
      }, { retry: { maxAttempts: 2, backoff: { kind: "fixed", baseMs: 0, jitter: 0 } } });
    });
    const paid = await store.start(flow, 1);
    assertEquals(await scene.finish(paid, flow), { id: 1 });
    assertEquals(outline(await paid.steps()), ["pay transaction succeeded"]);
    const refused = await store.start(flow, -1);
    await assertRejects(() => scene.finish(refused, flow));
    assertEquals(outline(await refused.steps()), ["pay transaction failed 2"]);
    // B35: a constraint of the database is an error like any other.
    const twice = await store.start(flow, 1);
    await assertRejects(() => scene.finish(twice, flow));
    assertEquals((await twice.steps())[0]?.error?.name, "DatabaseError");
    const [row] = await store.transaction((tx) => tx.query(`select count(*) as n from ${table}`));
    assertEquals(Number(row?.n), 1);
  });
}
