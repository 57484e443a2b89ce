/** Runs that are tried again, woken and brought back. */
import { assertEquals, assertRejects } from "@std/assert";
import { FailedError, NotFoundError } from "../../mod.ts";
import type { RunTests } from "../support/run_scene.ts";
import { until } from "../support/until.ts";

const FIXED = { kind: "fixed", baseMs: 1_000, jitter: 0 } as const;
const QUICK = { maxAttempts: 3, backoff: { kind: "fixed", baseMs: 0, jitter: 0 } } as const;

/** Defines the tests for one backend. */
export function runAgainContract(tests: RunTests): void {
  wholeRuns(tests);
  waking(tests);
  retrying(tests);
}

function wholeRuns({ test, timed }: RunTests): void {
  timed(
    "a function that fails outside of its steps is tried again as its policy says, its steps not",
    async (scene) => {
      const attempts: number[] = [];
      let steps = 0;
      const flow = scene.define(async (run) => {
        await run.step("once", () => ++steps);
        attempts.push(run.attempt);
        throw new Error(`no ${run.attempt}`);
      }, { retry: { maxAttempts: 3, backoff: FIXED } });
      const run = await scene.store.start(flow, null);
      for (let i = 0; i < 3; i++) {
        await scene.drain(flow);
        scene.clock.advance(999);
        await scene.drain(flow);
        scene.clock.advance(1);
      }
      const error = await assertRejects(() => run.result(), FailedError);
      assertEquals([attempts, steps, error.reason, error.error?.message], [[1, 2, 3], 1, "attempts", "no 3"]);
    },
  );

  timed("failures of steps that are tried again do not count as attempts of the run", async (scene) => {
    const flow = scene.define(async (run) => {
      await run.step("shaky", ({ attempt }) => {
        if (attempt < 3) throw new Error("no");
      }, { retry: { maxAttempts: 3, backoff: FIXED } });
      return run.attempt;
    });
    const run = await scene.store.start(flow, null);
    for (let i = 0; i < 3; i++) {
      await scene.drain(flow);
      scene.clock.advance(1_000);
    }
    assertEquals(await run.result(), 1);
  });

  test("a run that takes too long without a pause has its attempt counted, and goes on from its steps", async (scene) => {
    let firsts = 0;
    const reasons: unknown[] = [];
    const flow = scene.define(async (run) => {
      await run.step("first", () => ++firsts);
      if (run.attempt > 1) return run.attempt;
      return await new Promise<number>((resolve) => {
        run.signal.addEventListener("abort", () => {
          reasons.push((run.signal.reason as Error).name);
          resolve(0);
        });
      });
    }, { timeoutMs: 60, retry: QUICK });
    const run = await scene.store.start(flow, null);
    assertEquals([await scene.finish(run, flow), firsts, reasons], [2, 1, ["TimeoutError"]]);
  });

  test("how often and after which pauses steps are tried again is said by the workflow, unless they say it", async (scene) => {
    const calls = { own: 0, workflow: 0 };
    const flow = scene.define(async (run) => {
      await run.step("own", () => Promise.reject(new Error(`${++calls.own}`)), { retry: { maxAttempts: 2 } })
        .catch(() => {});
      await run.step("workflow", () => Promise.reject(new Error(`${++calls.workflow}`))).catch(() => {});
    }, { retry: QUICK });
    await scene.finish(await scene.store.start(flow, null), flow);
    assertEquals(calls, { own: 2, workflow: 3 });
  });
}

function waking({ timed, test }: RunTests): void {
  timed("wake ends a sleep and the pause before another attempt, and no wait for mail or a child", async (scene) => {
    const { store } = scene;
    const child = scene.define((run) => run.receive("never"));
    const flow = scene.define(async (run) => {
      await run.sleep("one", 60_000);
      await run.sleepUntil("two", new Date(scene.clock.now + 60_000));
      await run.step("three", ({ attempt }) => {
        if (attempt === 1) throw new Error("once");
      }, { retry: { maxAttempts: 2, backoff: { kind: "fixed", baseMs: 60_000, jitter: 0 } } });
      await run.receive("four", { timeoutMs: 60_000 });
      await run.call(child, null);
    });
    const run = await store.start(flow, null);
    const told: boolean[] = [];
    for (let i = 0; i < 4; i++) {
      await scene.drain(flow);
      assertEquals(await run.status(), "waiting");
      told.push(await run.wake());
    }
    assertEquals(told, [true, true, true, false]);
    const steps = await run.steps();
    assertEquals(steps.map(({ state }) => state), ["succeeded", "succeeded", "succeeded", "waiting"]);
    assertEquals(steps[0]?.dueAt?.getTime(), scene.clock.now);
    await run.send("four", 1);
    await scene.drain(flow);
    assertEquals([await run.status(), await run.wake()], ["waiting", false]);
    await run.cancel();
  });

  test("a run is woken at once by a worker that runs", async (scene) => {
    const flow = scene.define((run) => run.sleep("rest", 600_000));
    const run = await scene.store.start(flow, null);
    await scene.during([flow], async () => {
      await until("it sleeps", async () => await run.status() === "waiting");
      assertEquals(await run.wake(), true);
      await run.result({ timeoutMs: 20_000 });
    });
  });
}

function retrying({ test, timed }: RunTests): void {
  timed(
    "retry goes on from the failed step, with all its attempts, and does none again that succeeded",
    async (scene) => {
      const { store, clock } = scene;
      let isRight = false;
      const calls = { first: 0, wrong: 0 };
      const flow = scene.define(async (run) => {
        const [one, at] = [await run.step("first", () => ++calls.first), await run.now()];
        await run.step("wrong", () => {
          calls.wrong++;
          if (!isRight) throw new Error("wrong");
        }, { retry: { maxAttempts: 2, backoff: { kind: "fixed", baseMs: 0, jitter: 0 } } });
        return [one, Number(at), run.attempt];
      });
      const run = await store.start(flow, null);
      const begin = clock.now;
      for (let i = 0; i < 2; i++) {
        await scene.drain(flow);
        assertEquals((await assertRejects(() => run.result(), FailedError)).reason, "not_retryable");
        clock.advance(1_000);
        if (i === 1) isRight = true;
        assertEquals([await run.retry(), await run.status()], [true, "ready"]);
        assertEquals((await run.steps()).map(({ key }) => key), ["first", "now", "wrong"]);
      }
      await scene.drain(flow);
      assertEquals([await run.result(), calls, await run.retry()], [[1, begin, 1], { first: 1, wrong: 5 }, false]);
    },
  );

  timed("retry brings back what was cancelled, with its steps, its mail and the end of its sleep", async (scene) => {
    const { store, clock } = scene;
    let calls = 0;
    const flow = scene.define(async (run) => {
      await run.step("first", () => ++calls);
      await run.sleep("rest", 10_000);
      return await run.receive("word");
    });
    const run = await store.start(flow, null);
    await scene.drain(flow);
    await run.send("word", "kept");
    await run.cancel();
    clock.advance(4_000);
    assertEquals(await run.retry(), true);
    await scene.drain(flow);
    assertEquals(await run.status(), "waiting");
    clock.advance(6_000);
    await scene.drain(flow);
    assertEquals([await run.result(), calls], ["kept", 1]);
  });

  test("a dead letter that is a run is replayed like any other: it goes on from the failed step", async (scene) => {
    const { store } = scene;
    let isRight = false;
    const flow = scene.define((run) =>
      run.step("wrong", () => {
        if (!isRight) throw new Error("wrong");
        return "right";
      }, { retry: { maxAttempts: 1 } })
    );
    const run = await store.start(flow, null);
    await assertRejects(() => scene.finish(run, flow), FailedError);
    isRight = true;
    assertEquals(await store.admin.dead.replay(run.id), [run.id]);
    // FAULT: the failed step is kept, so that the run fails again at once.
    assertEquals(await scene.finish(run, flow).catch((error: unknown) => (error as Error).name), "right");
  });

  test("a run that failed outside of its steps is retried with all its attempts", async (scene) => {
    let isRight = false;
    const flow = scene.define((run) => {
      if (!isRight) throw new Error("wrong");
      return run.attempt;
    }, { retry: { maxAttempts: 1 } });
    const run = await scene.store.start(flow, null);
    const error = await assertRejects(() => scene.finish(run, flow), FailedError);
    assertEquals([error.reason, error.error?.message], ["attempts", "wrong"]);
    isRight = true;
    assertEquals(await run.retry(), true);
    assertEquals(await scene.finish(run, flow), 1);
    await assertRejects(() => scene.store.run(4_711_000).status(), NotFoundError);
  });
}
