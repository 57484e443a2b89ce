/** What runs that wait for a time promise. */
import { assert, assertEquals } from "@std/assert";
import type { RunTests } from "../support/run_scene.ts";
import { until } from "../support/until.ts";

/** Defines the tests for one backend. */
export function runWaitsContract(tests: RunTests): void {
  sleeping(tests);
  bounds(tests);
  places(tests);
  repeated(tests);
}

function sleeping({ test, timed }: RunTests): void {
  timed("a run sleeps for just as long as it said, by the database's clock, and never shorter", async (scene) => {
    const { store, clock } = scene;
    const woken: number[] = [];
    const flow = scene.define(async (run) => {
      await run.sleep("first", 60_000);
      woken.push(clock.now);
      await run.sleepUntil("second", new Date(begin + 90_000));
      woken.push(clock.now);
    });
    const begin = clock.now;
    const run = await store.start(flow, null);
    await scene.drain(flow);
    const { visibleAt, worker, leaseUntil } = await scene.message(run);
    assertEquals([Number(visibleAt), worker, leaseUntil, await run.status()], [begin + 60_000, null, null, "waiting"]);
    for (const ms of [59_999, 1, 29_999, 1]) {
      clock.advance(ms);
      await scene.drain(flow);
    }
    assertEquals([await run.status(), woken], ["succeeded", [60_000, 90_000, 90_000].map((ms) => begin + ms)]);
    const dues = (await run.steps()).map(({ key, kind, dueAt }) => [key, kind, Number(dueAt) - begin]);
    assertEquals(dues, [["first", "sleep", 60_000], ["second", "sleep", 90_000]]);
  });

  timed("W7: the time at which a sleep ends stays the same in replay", async (scene) => {
    const { store, clock } = scene;
    const begin = clock.now;
    const flow = scene.define((run) => run.sleep("rest", 10_000));
    const run = await store.start(flow, null);
    await scene.drain(flow);
    for (let i = 0; i < 3; i++) {
      clock.advance(2_000);
      await store.admin.messages.release(run.id);
      await scene.drain(flow);
      assertEquals([Number((await scene.message(run)).visibleAt), await run.status()], [begin + 10_000, "waiting"]);
    }
    clock.advance(4_000);
    await scene.drain(flow);
    assertEquals(await run.status(), "succeeded");
  });

  test("B42: timers follow the database's clock, not that of the process", async (scene) => {
    const real = Date.now;
    try {
      Date.now = () => real() + 3_600_000;
      const flow = scene.define(async (run) => {
        await run.sleep("short", 30);
        return "awake";
      });
      const long = scene.define((run) => run.sleep("long", 600_000));
      const [one, two] = [await scene.store.start(flow, null), await scene.store.start(long, null)];
      assertEquals(await scene.finish(one, flow, long), "awake");
      await until("the other sleeps", async () => await two.status() === "waiting");
      const { now } = await scene.store.ping();
      const left = Number((await scene.message(two)).visibleAt) - Number(now);
      assert(left > 500_000 && left <= 600_000, `${left}`);
      await two.cancel();
    } finally {
      Date.now = real;
    }
  });

  test("runs that sleep for some milliseconds go on by themselves, one sleep after the other", async (scene) => {
    const flow = scene.define(async (run, ms: number) => {
      const begin = await run.step("begin", () => Date.now());
      for (let i = 0; i < 3; i++) await run.sleep("nap", ms);
      return Date.now() - begin + 1;
    });
    const runs = await Promise.all([0, 1, 5, 15, 25, 60].map((ms) => scene.store.start(flow, ms)));
    await scene.during([flow], () => Promise.all(runs.map((run) => run.result({ timeoutMs: 20_000 }))));
    for (const run of runs) {
      const steps = (await run.steps()).slice(1);
      // FAULT: a run may end, and steps after a short sleep be recorded, before that sleep is: then it is never recorded.
      assertEquals(steps.map(({ state }) => state), ["succeeded", "succeeded", "succeeded"]);
      const ms = [0, 1, 5, 15, 25, 60][runs.indexOf(run)] as number;
      for (const { dueAt, startedAt } of steps) assert(Number(dueAt) - Number(startedAt) <= ms + 1);
      assert(await run.result() >= 3 * ms);
    }
  });
}

function bounds({ test, timed }: RunTests): void {
  test("B41: a sleep of nothing and one until an instant that is over end at once", async (scene) => {
    const flow = scene.define(async (run) => {
      await run.sleep("none", 0);
      await run.sleepUntil("past", new Date(0));
      await run.sleepUntil("yesterday", new Date(Date.now() - 86_400_000));
      return "done";
    });
    const run = await scene.store.start(flow, null);
    await scene.drain(flow);
    assertEquals(await run.result({ timeoutMs: 5_000 }), "done");
  });

  timed("B41: a sleep may be longer than a timer of JavaScript, up to the year 9999", async (scene) => {
    const { store, clock } = scene;
    const ms = 2 ** 31 + 5_000;
    const flow = scene.define(async (run) => {
      // A branch that goes on keeps the long one here for a moment.
      await Promise.all([run.sleep("long", ms), run.step("beside", () => 1)]);
      return "awake";
    });
    const far = scene.define((run) => run.sleepUntil("far", new Date(Date.UTC(9_999, 11, 31))));
    const never = scene.define((run) => run.sleep("never", 3_155_760_000_000));
    const run = await store.start(flow, null);
    const others = [await store.start(far, null), await store.start(never, null)];
    const begin = clock.now;
    await scene.drain(flow, far, never);
    // Nobody can tell whether the branch that has got an answer is still on its way: the run is looked at before.
    const visibleAt = Number((await scene.message(run)).visibleAt);
    assert(visibleAt > begin && visibleAt <= begin + ms, new Date(visibleAt).toISOString());
    assertEquals((await scene.message(others[0]!)).visibleAt.toISOString(), "9999-12-31T00:00:00.000Z");
    assertEquals(Number((await scene.message(others[1]!)).visibleAt), begin + 3_155_760_000_000);
    clock.advance(ms - 1);
    await scene.drain(flow, far, never);
    assertEquals(await run.status(), "waiting");
    clock.advance(1);
    await scene.drain(flow, far, never);
    assertEquals([await run.result(), await others[0]?.status(), await others[1]?.status()], [
      "awake",
      "waiting",
      "waiting",
    ]);
    for (const other of others) await other.cancel();
  });
}

function places({ test, timed }: RunTests): void {
  timed("B43: runs that wait are not executed because a worker begins", async (scene) => {
    let calls = 0;
    const flow = scene.define(async (run) => {
      calls++;
      await run.receive("never");
    });
    const run = await scene.store.start(flow, null);
    for (let i = 0; i < 3; i++) await scene.drain(flow);
    assertEquals([calls, await run.status(), (await scene.message(run)).attempts], [1, "waiting", 0]);
    await run.cancel();
  });

  test("B44: runs that wait hold no place, so that with a concurrency of one others go on", async (scene) => {
    const { store } = scene;
    const flow = scene.define(async (run, isQuick: boolean) => {
      if (!isQuick) await run.sleep("rest", 600_000);
      return "quick";
    }, { concurrency: 1 });
    const sleeping = await Promise.all(Array.from({ length: 60 }, () => store.start(flow, false)));
    const quick = await store.start(flow, true);
    assertEquals(await scene.finish(quick, flow), "quick");
    assertEquals(await sleeping.at(-1)?.status(), "waiting");
    await store.admin.queues.purge(flow.name);
  });

  test("only so many runs are under way at once as the workflow says", async (scene) => {
    let now = 0;
    let most = 0;
    const flow = scene.define(async (run) => {
      await run.step("work", async () => {
        most = Math.max(most, ++now);
        await new Promise((resolve) => setTimeout(resolve, 2));
        now--;
      });
    }, { concurrency: 3 });
    const runs = await Promise.all(Array.from({ length: 20 }, () => scene.store.start(flow, null)));
    await scene.during([flow], () => Promise.all(runs.map((run) => run.result({ timeoutMs: 20_000 }))));
    assert(most <= 3 && most > 1, `${most}`);
  });
}

function repeated({ timed }: RunTests): void {
  timed("the time, a random number and a UUID stay what they were when they were first asked for", async (scene) => {
    const { store, clock } = scene;
    const seen: unknown[] = [];
    const flow = scene.define(async (run) => {
      const values = [await run.now(), await run.random(), await run.random(), await run.uuid(), await run.uuid()];
      seen.push(values);
      await run.sleep("rest", 1_000);
      return values;
    });
    const begin = clock.now;
    const run = await store.start(flow, null);
    await scene.drain(flow);
    clock.advance(1_000);
    await scene.drain(flow);
    const [now, one, two, id, other] = await run.result() as [Date, number, number, string, string];
    assertEquals([seen.length, seen[1]], [2, seen[0]]);
    assert(now instanceof Date && Number(now) === begin, String(now));
    assert(one !== two && one >= 0 && one < 1 && id !== other && /^[0-9a-f-]{36}$/.test(id));
  });

  timed("what a run tells of its progress is there until it ends", async (scene) => {
    const { store } = scene;
    const flow = scene.define(async (run) => {
      assertEquals(await run.progress({ done: 1 }), true);
      await run.sleep("rest", 1_000);
    });
    const run = await store.start(flow, null);
    await scene.drain(flow);
    assertEquals(await store.progress(run.id), { done: 1 });
    scene.clock.advance(1_000);
    await scene.drain(flow);
    assertEquals([await store.progress(run.id), await run.status()], [null, "succeeded"]);
  });
}
