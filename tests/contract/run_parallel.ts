/** Branches of a run that go on side by side. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { FailedError, NonRetryableError } from "../../mod.ts";
import type { RunTests } from "../support/run_scene.ts";
import { gate } from "../support/running_worker.ts";

const NEVER_AGAIN = { retry: { maxAttempts: 1 } } as const;

/** Defines the tests for one backend. */
export function runParallelContract(tests: RunTests): void {
  scopes(tests);
  rejections(tests);
  waits(tests);
  maps(tests);
}

function scopes({ timed }: RunTests): void {
  timed("B26: steps of equal names in different scopes are kept apart, in whatever order they end", async (scene) => {
    const { store } = scene;
    let executions = 0;
    const calls: string[] = [];
    const flow = scene.define(async (run) => {
      const isFirst = ++executions === 1;
      const branch = async (name: string, turns: number): Promise<string> => {
        const scope = run.scope(name);
        // The order in which branches reach their steps is another one in the second execution.
        for (let i = 0; i < turns; i++) await Promise.resolve();
        const one = await scope.step("work", () => {
          calls.push(name);
          return `${name}1`;
        });
        if (name === "b") await scope.sleep("rest", 1_000);
        const two = await scope.scope("deep").step("work", () => {
          calls.push(name);
          return `${name}2`;
        });
        return `${one} ${two}`;
      };
      return await Promise.all([branch("a", isFirst ? 0 : 30), branch("b", 5), branch("c", isFirst ? 30 : 0)]);
    });
    const run = await store.start(flow, null);
    await scene.drain(flow);
    scene.clock.advance(1_000);
    await scene.drain(flow);
    assertEquals([await run.result(), executions], [["a1 a2", "b1 b2", "c1 c2"], 2]);
    assertEquals(calls.toSorted(), ["a", "a", "b", "b", "c", "c"]);
    assertEquals((await run.steps()).map(({ key }) => key).toSorted(), [
      "a/deep/work",
      "a/work",
      "b/deep/work",
      "b/rest",
      "b/work",
      "c/deep/work",
      "c/work",
    ]);
  });
}

function rejections({ test }: RunTests): void {
  test("B27: when one of several steps fails, what the others have recorded is not done again by retry", async (scene) => {
    const { store } = scene;
    let isRight = false;
    const calls = { quick: 0, slow: 0, wrong: 0 };
    const slow = gate();
    const flow = scene.define(async (run) => {
      return await Promise.all([
        run.step("quick", () => ++calls.quick),
        run.step("wrong", async () => {
          calls.wrong++;
          if (!isRight) throw new NonRetryableError("wrong");
          return await Promise.resolve("right");
        }),
        run.step("slow", async () => {
          calls.slow++;
          if (!isRight) await slow.passed;
          return "slow";
        }),
      ]);
    });
    const run = await store.start(flow, null);
    await scene.during([flow], async () => {
      await assertRejects(() => run.result({ timeoutMs: 20_000 }), FailedError);
      slow.open();
    });
    // What was under way when the run ended is never recorded.
    const states = (await run.steps()).map(({ key, state }) => `${key} ${state}`).toSorted();
    assertEquals(states, ["quick succeeded", "wrong failed"]);
    isRight = true;
    assertEquals(await run.retry(), true);
    assertEquals(await scene.finish(run, flow), [1, "right", "slow"]);
    assertEquals(calls, { quick: 1, slow: 2, wrong: 2 });
  });

  test("B27: allSettled gives every outcome, and the run goes on", async (scene) => {
    const flow = scene.define(async (run) => {
      const ended = await Promise.allSettled([
        run.step("a", () => 1),
        run.step("b", () => Promise.reject(new Error("no")), NEVER_AGAIN),
        run.sleep("c", 0),
      ]);
      await run.step("after", () => 1);
      return ended.map(({ status }) => status);
    });
    const run = await scene.store.start(flow, null);
    assertEquals(await scene.finish(run, flow), ["fulfilled", "rejected", "fulfilled"]);
  });
}

function waits({ timed, test }: RunTests): void {
  timed(
    "several waits side by side end each at its time, and the run is given back only between them",
    async (scene) => {
      const { store, clock } = scene;
      const flow = scene.define(async (run) => {
        const order: string[] = [];
        await Promise.all([
          run.sleep("long", 3_000).then(() => order.push("long")),
          run.sleep("short", 1_000).then(() => order.push("short")),
          run.receive("word", { timeoutMs: 2_000 }).then(() => order.push("word")),
          run.step("retried", ({ attempt }) => {
            if (attempt === 1) throw new Error("once");
          }, { retry: { maxAttempts: 2, backoff: { kind: "fixed", baseMs: 500, jitter: 0 } } }).then(() =>
            order.push("retried")
          ),
        ]);
        return order;
      });
      const run = await store.start(flow, null);
      const begin = clock.now;
      const dues: number[] = [];
      for (const at of [500, 1_000, 2_000, 3_000]) {
        await scene.drain(flow);
        dues.push(Number((await scene.message(run)).visibleAt) - begin);
        clock.now = begin + at;
      }
      await scene.drain(flow);
      assertEquals((await run.result()).length, 4);
      // What was waited for while others went on was written down a little later, and is due a little sooner by a clock that stands.
      for (const [index, at] of [500, 1_000, 2_000, 3_000].entries()) {
        assert(Number(dues[index]) <= at && Number(dues[index]) > at - 400, dues.join());
      }
    },
  );

  test("a run is given back only when no branch does anything, and loses nothing meanwhile", async (scene) => {
    const flow = scene.define(async (run) => {
      const pulse = async (): Promise<number> => {
        let sum = 0;
        for (let i = 0; i < 10; i++) sum += await run.step("beat", () => i);
        return sum;
      };
      const [sum] = await Promise.all([pulse(), run.sleep("nap", 30), run.scope("x").sleep("nap", 5)]);
      return sum;
    });
    const run = await scene.store.start(flow, null);
    assertEquals(await scene.finish(run, flow), 45);
    assertEquals((await run.steps()).every(({ state }) => state === "succeeded"), true);
  });

  test("the first of a race wins, and the others need not be awaited", async (scene) => {
    const flow = scene.define(async (run) => {
      const first = await Promise.race([
        run.receive("never").then(() => "mail"),
        run.sleep("limit", 30).then(() => "time"),
      ]);
      await run.step("after", () => 1);
      return first;
    });
    // FAULT: in replay the loser may be looking for mail when the function returns, and the run fails for good.
    assertEquals(await scene.finish(await scene.store.start(flow, null), flow).catch(String), "time");
  });
}

function maps({ test, timed }: RunTests): void {
  timed("map does its work for each item once, gives the results in their order, and repeats that", async (scene) => {
    const { store } = scene;
    const items = Array.from({ length: 60 }, (_, n) => n);
    const done: number[] = [];
    const flow = scene.define(async (run) => {
      const squares = await run.map(items, async (n, branch, index) => {
        const square = await branch.step("square", () => {
          done.push(n);
          return n * index;
        });
        await branch.sleep("rest", n % 3 * 100);
        return await branch.step("next", () => square + 1);
      }, { concurrency: 7 });
      return squares;
    });
    const run = await store.start(flow, null);
    for (let i = 0; i < 200 && !["succeeded", "failed"].includes(await run.status()); i++) {
      await scene.drain(flow);
      scene.clock.advance(100);
    }
    assertEquals(await run.result(), items.map((n) => n * n + 1));
    assertEquals(done.toSorted((a, b) => a - b), items);
  });

  test("map has no more branches under way than its concurrency, and keys of its own each time", async (scene) => {
    let now = 0;
    let most = 0;
    const flow = scene.define(async (run) => {
      const work = (n: number) => run.scope("unused").id + n;
      const sums = await run.map([1, 2], work);
      await run.map(Array.from({ length: 12 }), async (_, branch) => {
        most = Math.max(most, ++now);
        await branch.step("work", () => new Promise((resolve) => setTimeout(resolve, 2)));
        now--;
      }, { concurrency: 3 });
      await run.map(["x"], (x, branch) => branch.step("work", () => x), { name: "named" });
      return [sums.length, await run.map([], () => 1)];
    });
    const run = await scene.store.start(flow, null);
    assertEquals(await scene.finish(run, flow), [2, []]);
    assertEquals(most, 3);
    const keys = (await run.steps()).map(({ key }) => key);
    assertEquals([keys.length, keys.includes("map#2/0/work"), keys.includes("named/0/work")], [13, true, true]);
  });

  test("when a branch of map fails no further one is begun, and its error comes when those under way have ended", async (scene) => {
    const begun: number[] = [];
    const ended: number[] = [];
    const second = gate();
    const flow = scene.define(async (run) => {
      const error = await run.map([0, 1, 2, 3, 4], async (n, branch) => {
        begun.push(n);
        await branch.step("work", async () => {
          if (n === 0) throw new RangeError("first");
          await second.passed;
        }, NEVER_AGAIN).catch((error: unknown) => {
          second.open();
          throw error;
        });
        ended.push(n);
      }, { concurrency: 2 }).catch((error: unknown) => error);
      return [(error as Error).name, (error as Error).message, [...ended]];
    });
    assertEquals(await scene.finish(await scene.store.start(flow, null), flow), ["RangeError", "first", [1]]);
    assert(begun.length === 2, begun.join());
  });

  test("a map of many children gives the result of each", async (scene) => {
    const { store } = scene;
    const child = scene.define((run, n: number) => run.step("twice", () => n * 2));
    const flow = scene.define(async (run) => {
      const values = await run.map(Array.from({ length: 40 }, (_, n) => n), (n, branch) => branch.call(child, n), {
        concurrency: 40,
      });
      return values.reduce((a, b) => a + b);
    });
    assertEquals(await scene.finish(await store.start(flow, null), flow, child), 1_560);
  });
}
