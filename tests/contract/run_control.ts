/** Runs that are cancelled, paused and resumed. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { CancelledError, type RunContext, type RunHandle } from "../../mod.ts";
import type { RunScene, RunTests } from "../support/run_scene.ts";
import { gate } from "../support/running_worker.ts";
import { until } from "../support/until.ts";

const SLOW = { retry: { maxAttempts: 9, backoff: { kind: "fixed", baseMs: 600_000, jitter: 0 } } } as const;

/** Defines the tests for one backend. */
export function runControlContract(tests: RunTests): void {
  cancelling(tests);
  cleaning(tests);
  pausing(tests);
  resuming(tests);
}

/** Brings a run of a flow that does `work` into a state. */
async function waiting(scene: RunScene, work: (run: RunContext) => unknown, state = "waiting"): Promise<RunHandle> {
  const flow = scene.define((run) => work(run), SLOW);
  const run = await scene.store.start(flow, null);
  await scene.drain(flow);
  assertEquals(await run.status(), state);
  return run;
}

function cancelling({ test }: RunTests): void {
  test("B45: a run is cancelled that is queued, delayed, in back-off, asleep, waiting for mail or a child", async (scene) => {
    const { store } = scene;
    const child = scene.define(() => 1);
    const fail = () => Promise.reject(new Error("again"));
    const runs = [
      await store.start(child, null),
      await store.start(child, null, { delayMs: 60_000 }),
      await waiting(scene, (run) => run.step("fail", fail)),
      await waiting(scene, fail, "delayed"),
      await waiting(scene, (run) => run.sleep("rest", 600_000)),
      await waiting(scene, (run) => run.receive("never")),
      await waiting(scene, (run) => run.call(child, null)),
    ];
    for (const run of runs) {
      assertEquals(await run.cancel({ reason: "enough" }), true);
      const error = await assertRejects(() => run.result({ timeoutMs: 5_000 }), CancelledError);
      assertEquals([error.reason, error.code, await run.status()], ["enough", "cancelled", "cancelled"]);
      assertEquals(await run.cancel(), false);
    }
  });

  test("B45: a run that is paused, or blocked, is cancelled, and one that has ended is not", async (scene) => {
    const { store } = scene;
    const flow = scene.define(() => 1);
    const paused = await store.start(flow, null);
    await paused.pause();
    assertEquals(await paused.cancel(), true);
    assertEquals((await assertRejects(() => paused.result(), CancelledError)).reason, "cancelled");
    const ended = await store.start(flow, null);
    assertEquals([await scene.finish(ended, flow), await ended.cancel(), await ended.status()], [
      1,
      false,
      "succeeded",
    ]);
    assertEquals(await store.run(4_711_000).cancel(), false);
    await assertRejects(() => ended.cancel({ why: "x" } as never), TypeError, "reason");
  });

  test("B45: a step that is being done is aborted by cancel, no further one begins, and nothing is recorded", async (scene) => {
    const { store } = scene;
    const begun = gate();
    const reasons: unknown[] = [];
    let isOver = false;
    let later = 0;
    const flow = scene.define(async (run) => {
      await run.step("first", () => 1);
      await run.step("long", ({ signal }) =>
        new Promise<void>((resolve) => {
          signal.addEventListener("abort", () => {
            reasons.push((signal.reason as Error).name);
            resolve();
          });
          begun.open();
        })).finally(() => isOver = true);
      await run.step("later", () => ++later);
    });
    const run = await store.start(flow, null);
    await scene.during([flow], async () => {
      await begun.passed;
      assertEquals(await run.cancel(), true);
      await until("the step was told", () => isOver);
    });
    assertEquals([reasons, later, await run.status()], [["CancelledError"], 0, "cancelled"]);
    assertEquals((await run.steps()).map(({ key }) => key), ["first"]);
  });

  test("B18: what a run still does after it was cancelled does not bring it back", async (scene) => {
    const { store } = scene;
    const [begun, go, over] = [gate(), gate(), gate()];
    let later = 0;
    const flow = scene.define(async (run) => {
      await run.step("deaf", async () => {
        begun.open();
        await go.passed;
      });
      await run.step("later", () => ++later);
    }, { leaseMs: 300 });
    const run = await store.start(flow, null);
    const stops = (["cancelled", "lost"] as const).map((name) =>
      store.on(name, ({ message }) => message.id === run.id && over.open())
    );
    await using other = await scene.other();
    await scene.during([flow], async () => {
      await begun.passed;
      assertEquals(await other.run(run.id).cancel(), true);
      go.open();
      await over.passed;
    });
    for (const stop of stops) stop();
    assertEquals([later, await run.status(), (await run.steps()).length], [0, "cancelled", 0]);
  });
}

function cleaning({ test }: RunTests): void {
  // SEMANTICS of cleanup with durable steps needs the state `cancelling`, which the engine does not have.
  test("B46: cleanup of a run that is cancelled while it is executed runs once, and none of its steps is begun", async (scene) => {
    const { store } = scene;
    const begun = gate();
    const cleaned: string[] = [];
    let undone = 0;
    const flow = scene.define(async (run) => {
      try {
        await Promise.all([
          run.sleep("rest", 600_000),
          run.step("work", ({ signal }) =>
            new Promise<void>((_, reject) => {
              signal.addEventListener("abort", () => reject(signal.reason));
              begun.open();
            })),
        ]);
      } catch (error) {
        cleaned.push((error as Error).name);
        await run.step("undo", () => ++undone).catch((error: unknown) => cleaned.push((error as Error).name));
        throw error;
      }
    });
    const run = await store.start(flow, null);
    await scene.during([flow], async () => {
      await begun.passed;
      await run.cancel();
      await until("it was cleaned", () => cleaned.length === 2);
    });
    // What notices first is either the signal, or a write that is refused.
    assert(cleaned.every((name) => name === "CancelledError" || name === "LeaseLostError"), cleaned.join());
    assertEquals([undone, await run.status()], [0, "cancelled"]);
  });
}

function pausing({ test }: RunTests): void {
  test("B47: pause stops a run that is executed at its next step, and resume lets it go on there", async (scene) => {
    const { store } = scene;
    const [begun, go] = [gate(), gate()];
    const done: string[] = [];
    const flow = scene.define(async (run) => {
      await run.step("one", async () => {
        done.push("one");
        begun.open();
        await go.passed;
      });
      await run.step("two", () => void done.push("two"));
      return "done";
    });
    const run = await store.start(flow, null);
    await scene.during([flow], async () => {
      await begun.passed;
      assertEquals([await run.pause(), await run.status()], [true, "leased"]);
      go.open();
      await until("it has stopped", async () => await run.status() === "paused");
      assertEquals((await run.steps()).map(({ key }) => key), ["one"]);
      assertEquals(await run.resume(), true);
      assertEquals(await run.result({ timeoutMs: 20_000 }), "done");
    });
    assertEquals(done, ["one", "two"]);
  });

  test("B47: a run that is queued or waits is paused at once, and nobody executes it", async (scene) => {
    const { store } = scene;
    let calls = 0;
    const flow = scene.define(async (run) => {
      calls++;
      return await run.receive("word");
    });
    const queued = await store.start(flow, null);
    assertEquals([await queued.pause(), await queued.status()], [true, "paused"]);
    const parked = await store.start(flow, null);
    await scene.drain(flow);
    assertEquals([await parked.pause(), await parked.status(), calls], [true, "paused", 1]);
    for (const run of [queued, parked]) await run.send("word", "x");
    await scene.drain(flow);
    assertEquals(calls, 1);
    for (const run of [queued, parked]) assertEquals(await run.resume(), true);
    await scene.drain(flow);
    assertEquals([await queued.result(), await parked.result()], ["x", "x"]);
  });

  test("B47: a run that fails outside of its steps while it is to be paused is paused before its next attempt", async (scene) => {
    const { store } = scene;
    let later = 0;
    const flow = scene.define(async (run) => {
      if (run.attempt === 1) {
        await store.run(run.id).pause();
        throw new Error("once");
      }
      return await run.step("later", () => ++later);
    }, { retry: { maxAttempts: 3, backoff: { kind: "fixed", baseMs: 0, jitter: 0 } } });
    const run = await store.start(flow, null);
    await scene.drain(flow);
    await scene.drain(flow);
    // FAULT: the wish is heard only after another step was done.
    assertEquals([await run.status(), later], ["paused", 0]);
    await run.resume();
    assertEquals(await scene.finish(run, flow), 1);
  });

  test("pause and resume tell when there is nothing to do", async (scene) => {
    const { store } = scene;
    const flow = scene.define(() => 1);
    const run = await store.start(flow, null);
    assertEquals([await run.resume(), await run.wake(), await run.retry()], [false, false, false]);
    await scene.finish(run, flow);
    for (const handle of [run, store.run(4_711_000)]) {
      const told = [await handle.pause(), await handle.resume(), await handle.wake(), await handle.retry()];
      assertEquals(told, [false, false, false, false]);
    }
    await assertRejects(() => run.pause({ reason: 1 } as never), TypeError, "reason");
    await assertRejects(() => run.wake({ timeoutMs: 0 }), RangeError);
  });
}

function resuming({ test, timed }: RunTests): void {
  test("B47: resume takes back a pause that was not reached yet, and is refused while a run goes on", async (scene) => {
    const { store } = scene;
    const [begun, go] = [gate(), gate()];
    const flow = scene.define(async (run) => {
      await run.step("one", async () => {
        begun.open();
        await go.passed;
      });
      return await run.step("two", () => "two");
    });
    const run = await store.start(flow, null);
    const told = await scene.during([flow], async () => {
      await begun.passed;
      const told = [await run.resume(), await run.pause(), await run.resume(), await run.resume()];
      go.open();
      assertEquals(await run.result({ timeoutMs: 20_000 }), "two");
      return told;
    });
    assertEquals(told, [false, true, true, false]);
  });

  timed(
    "a run that was paused while it waited for a time waits for what is left of it, and a delayed one too",
    async (scene) => {
      const { store, clock } = scene;
      let calls = 0;
      const flow = scene.define(async (run, ms: number) => {
        calls++;
        await run.sleep("rest", ms);
      });
      const begin = clock.now;
      const asleep = await store.start(flow, 10_000);
      await scene.drain(flow);
      const delayed = await store.start(flow, 0, { delayMs: 10_000 });
      for (const run of [asleep, delayed]) assertEquals(await run.pause(), true);
      clock.advance(4_000);
      for (const run of [asleep, delayed]) assertEquals(await run.resume(), true);
      await scene.drain(flow);
      assertEquals(Number((await scene.message(asleep)).visibleAt), begin + 10_000);
      // FAULT: resume makes a run due at once that was started with a delay, so that it begins too early.
      assertEquals(await delayed.status(), "delayed");
      assert(calls <= 2);
      clock.advance(6_000);
      await scene.drain(flow);
      assertEquals([await asleep.status(), await delayed.status()], ["succeeded", "succeeded"]);
    },
  );
}
