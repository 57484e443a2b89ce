/** The test kit, used as its users do, on workflows that are right and on some that are wrong. */
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, test } from "node:test";
import {
  CancelledError,
  FailedError,
  NonRetryableError,
  type RunContext,
  StateError,
  TimeoutError,
  type Workflow,
  workflow,
  workflowRef,
} from "../mod.ts";
import {
  alwaysReplay,
  crashEverywhere,
  duplicateWorkers,
  openTestKit,
  TrialError,
  type TrialOptions,
} from "../testing.ts";

const DAY_MS = 86_400_000;

const child = workflow("child", async (run, n: number) => {
  await run.sleep("rest", DAY_MS);
  return await run.step("square", () => n * n);
});

/** What the steps of {@linkcode everything} have done outside: keyed, so that who repeats them is noticed. */
const world = new Map<string, unknown>();

function remember(key: string, value: unknown): void {
  const known = world.get(key);
  if (known !== undefined) assertEquals(value, known, `${key} was done again with something else`);
  world.set(key, value);
}

/** Everything that is recorded at once. */
async function records(run: RunContext): Promise<unknown> {
  const [began, id, chance] = [await run.now(), await run.uuid(), await run.random()];
  const doubled = await run.map([1, 2], (n, branch) =>
    branch.step("double", (step) => {
      remember(step.idempotencyKey, n);
      return n * 2;
    }));
  await run.progress({ doubled: doubled.length });
  const row = await run.transaction("store", async (tx) => {
    await tx.query("insert into sums (id, total) values (?, ?)", [id, doubled.length]);
    return doubled.length;
  });
  const unsteady = await run.step("unsteady", ({ attempt }) => {
    if (attempt < 3) throw new Error(`attempt ${attempt}`);
    return attempt;
  });
  const failure = await run.step("hopeless", () => {
    throw new NonRetryableError("no way");
  }).catch((error: Error) => error.message);
  return { types: [began instanceof Date, typeof id, typeof chance], doubled, row, unsteady, failure };
}

const RECORDED = { types: [true, "string", "number"], doubled: [2, 4], row: 2, unsteady: 3, failure: "no way" };

/** Everything that waits. */
async function waits(run: RunContext): Promise<unknown> {
  await run.sleep("a week", 7 * DAY_MS);
  const now = await run.now();
  await run.sleepUntil("a date", new Date(now.getTime() + 3 * DAY_MS));
  const [square, late] = await Promise.all([
    run.call(child, 5),
    run.scope("side").receive("nobody sends", { timeoutMs: DAY_MS }),
  ]);
  const started = await run.start(child, 6);
  const answer = await run.receive<string>("answer");
  return { square, late, isStarted: started > 0, answer };
}

const WAITED = { square: 25, late: undefined, isStarted: true, answer: "yes" };

const recording = workflow("recording", (run, _: null) => records(run));
const waiting = workflow("waiting", (run, _: null) => waits(run));
const everything = workflow("everything", async (run, _: null) => [await records(run), await waits(run)]);

/** How they are checked, with what they have to result in. */
function checkOf(expected: unknown): TrialOptions<unknown> {
  return {
    workflows: [child],
    setup: async ({ store }) => {
      world.clear();
      await store.transaction(async (tx) => void await tx.query("create table sums (id text, total integer)"));
    },
    drive: async (kit, run) => {
      await kit.runUntilIdle();
      if (await run.status() === "waiting") await run.send("answer", "yes");
    },
    invariant: async ({ status, result }, { store }) => {
      assertEquals([status, result], ["succeeded", expected]);
      const rows = await store.transaction((tx) => tx.query("select count(*) as count from sums"));
      assertEquals(Number(rows[0]?.count), expected === WAITED ? 0 : 1, "what a transaction does is done once");
      assertEquals(world.size, expected === WAITED ? 0 : 2);
      assertEquals(await store.admin.messages.count(), 0, "the child that goes on by itself has ended");
    },
  };
}

/** The same workflow, and how often its function was called. */
function counted<Input, Output>(flow: Workflow<Input, Output>): { flow: Workflow<Input, Output>; count(): number } {
  let count = 0;
  const run: typeof flow.run = (context, input) => {
    count++;
    return flow.run(context, input);
  };
  return { flow: { ...flow, run }, count: () => count };
}

/** The same error for whoever asks. */
async function found(check: Promise<unknown>): Promise<TrialError> {
  return await assertRejects(() => check, TrialError);
}

describe("openTestKit()", () => {
  test("puts the clock forward: a sleep of thirty days takes no time", async () => {
    const flow = workflow("sleeper", async (run, _: null) => {
      const before = await run.now();
      await run.sleep("x", 30 * DAY_MS);
      return (await run.now()).getTime() - before.getTime();
    });
    await using kit = await openTestKit({ workflows: [flow], startAt: new Date("2030-01-01T00:00:00Z") });
    const begin = performance.now();
    const sleptMs = await kit.execute(flow, null);
    assert(performance.now() - begin < 5_000);
    assert(sleptMs >= 30 * DAY_MS && sleptMs < 30 * DAY_MS + 60_000, `${sleptMs}`);
    assertEquals(kit.now.toISOString().slice(0, 10), "2030-01-31");
  });

  test("advance() runs what comes due meanwhile, in the order of time, and stops where it was told", async () => {
    const seen: string[] = [];
    const flow = workflow("ticker", async (run, name: string) => {
      for (let n = 1; n <= 3; n++) {
        await run.sleep("an hour", 3_600_000);
        await run.step("tick", () => void seen.push(`${name}${n}`));
      }
    });
    await using kit = await openTestKit({ workflows: [flow] });
    const began = kit.now.getTime();
    await kit.start(flow, "a");
    await kit.start(flow, "b", { delayMs: 1_800_000 });
    await kit.advance("59m");
    assertEquals(seen, []);
    const passedMs = kit.now.getTime() - began;
    assert(passedMs >= 59 * 60_000 && passedMs < 60 * 60_000, `${passedMs}`);
    await kit.advance("2h30m");
    assertEquals(seen, ["a1", "b1", "a2", "b2", "a3"]);
    await kit.advance(0);
    assertEquals(seen.length, 5);
    await kit.runUntilIdle();
    assertEquals(seen.length, 6);
  });

  test("advance() by all of the time for which something waits is enough, at once and in parts", async () => {
    const flow = workflow("exact", (run, _: null) => run.receive("nothing", { timeoutMs: DAY_MS }));
    await using kit = await openTestKit({ workflows: [flow] });
    const once = await kit.start(flow, null);
    await kit.advance("24h");
    assertEquals((await kit.outcome(once)).status, "succeeded");
    const twice = await kit.start(flow, null);
    await kit.advance("23h");
    assertEquals((await kit.outcome(twice)).status, "waiting");
    await kit.advance("1h");
    assertEquals((await kit.outcome(twice)).status, "succeeded");
  });

  test("waits for the pauses between the attempts of a step, and for those of a run", async () => {
    let attempts = 0;
    const flow = workflow("stubborn", async (run, _: null) => {
      await run.step("never the first time", ({ attempt }) => {
        if (attempt < 4) throw new Error("not yet");
      });
      if (++attempts < 3) throw new Error("outside of a step");
      return attempts;
    }, { retry: { maxAttempts: 5, backoff: { baseMs: 3_600_000, maxMs: 7 * DAY_MS } } });
    await using kit = await openTestKit({ workflows: [flow] });
    const began = kit.now.getTime();
    assertEquals(await kit.execute(flow, null), 3);
    assert(kit.now.getTime() - began > 3_600_000);
  });

  test("has steps mocked and fail by name, in scopes too, and tells what was never used", async () => {
    const flow = workflow("order", async (run, _: null) => {
      const data = await run.step("fetch_data", () => "real");
      const charged = await run.step("charge", () => "charged", { retry: { maxAttempts: 2 } });
      const parts = await run.map([1, 2], (n, branch) => branch.step("part", () => n));
      const stored = await run.transaction("store", () => Promise.resolve("stored"));
      return [data, charged, ...parts, stored];
    });
    await using kit = await openTestKit({
      workflows: [flow],
      mocks: {
        fetch_data: () => "x",
        "map/1/part": async ({ original, attempt, name, workflow }) => [await original(), attempt, name, workflow],
        store: async ({ original }) => `${await original()} and mocked`,
        fetch_date: () => "mistyped",
      },
      failures: { charge: [new Error("declined")], store: [undefined], nothing: [new Error("never")] },
    });
    const run = await kit.start(flow, null);
    assertEquals(await kit.result(run), ["x", "charged", 1, [2, 1, "part", "order"], "stored and mocked"]);
    assertEquals(kit.count("charge"), 2);
    assertEquals(kit.count("part"), 2);
    assertEquals(kit.count("map/1/part"), 1);
    assertEquals(kit.unused(), ["fetch_date", "nothing"]);
    const steps = await run.steps();
    assertEquals(steps.map(({ key }) => key), ["fetch_data", "charge", "map/0/part", "map/1/part", "store"]);
    assertEquals(steps[1]?.attempts, 1);
  });

  test("has the error of a step that fails for good reach the workflow, and then the result", async () => {
    const flow = workflow("declined", (run, _: null) => run.step("charge", () => 1, { retry: { maxAttempts: 2 } }));
    const failures = { charge: [new Error("once"), new TypeError("twice")] };
    await using kit = await openTestKit({ workflows: [flow], failures });
    const run = await kit.start(flow, null);
    const error = await assertRejects(() => kit.result(run), FailedError);
    assertEquals(error.error?.message, "twice");
    const { status, error: last } = await kit.outcome(run);
    assertEquals([status, last], ["failed", { name: "TypeError", message: "twice" }]);
  });

  test("runs children, or mocks their calls", async () => {
    const parent = workflow("parent", (run, n: number) => run.call(child, n));
    await using real = await openTestKit({ workflows: [parent, child] });
    assertEquals(await real.execute(parent, 4), 16);
    const mocks = { child: ({ input }: { input?: unknown }) => Number(input) + 1 };
    await using mocked = await openTestKit({ workflows: [parent], mocks });
    assertEquals(await mocked.execute(parent, 4), 5);
  });

  test("result() says what a run waits for that does not go on by itself", async () => {
    const parent = workflow("parent", (run, n: number) => run.call(child, n));
    const asks = workflow("asks", (run, _: null) => run.receive("answer"));
    await using kit = await openTestKit({ workflows: [parent, asks] });
    const one = await assertRejects(() => kit.execute(parent, 4), StateError);
    assertMatch(one.message, /^Run \d+ has not ended and does not go on by itself: it is waiting at "child"$/);
    const run = await kit.start(asks, null);
    assertStringIncludes((await assertRejects(() => kit.result(run), StateError)).message, '"answer"');
    assertEquals((await kit.outcome(run)).status, "waiting");
    await run.send("answer", 42);
    assertEquals(await kit.result(run), 42);
    const cancelled = await kit.start(asks, null);
    await cancelled.cancel({ reason: "changed my mind" });
    await assertRejects(() => kit.result(cancelled), CancelledError);
    assertEquals(await kit.outcome(cancelled), {
      status: "cancelled",
      result: undefined,
      error: null,
      reason: "changed my mind",
    });
  });

  test("leaves a run that is paused where it is, until it is resumed", async () => {
    const flow = workflow("pausable", async (run, _: null) => {
      await run.sleep("a day", DAY_MS);
      return "done";
    });
    await using kit = await openTestKit({ workflows: [flow] });
    const run = await kit.start(flow, null);
    await kit.advance("1h");
    assert(await run.pause());
    await kit.advance("30d");
    assertEquals(await run.status(), "paused");
    await run.resume();
    assertEquals(await kit.result(run), "done");
  });

  test("says so when a step hangs, and can be closed", async () => {
    const flow = workflow("hangs", (run, _: null) => run.step("hang", () => new Promise<never>(() => {})));
    const kit = await openTestKit({ workflows: [flow], timeoutMs: 200 });
    const error = await assertRejects(() => kit.execute(flow, null), TimeoutError);
    assertStringIncludes(error.message, "200 ms of real time");
    await kit.close();
  });

  test("says so when a workflow goes on for ever", async () => {
    const flow = workflow("for_ever", async (run, _: null) => {
      for (;;) await run.receive("never", { timeoutMs: DAY_MS });
    });
    await using kit = await openTestKit({ workflows: [flow], timeoutMs: 300 });
    await assertRejects(() => kit.execute(flow, null), TimeoutError);
  });

  test("refuses what it cannot use before it opens anything", async () => {
    const flow = workflow("any", () => 1);
    const open = (options: unknown) => openTestKit(options as Parameters<typeof openTestKit>[0]);
    const refused = async (options: unknown) => (await assertRejects(() => open(options), TypeError)).message;
    assertStringIncludes(await refused(undefined), "workflows");
    assertStringIncludes(await refused({ workflows: [] }), "workflows");
    assertStringIncludes(await refused({ workflows: [workflowRef("elsewhere")] }), "workflow()");
    assertStringIncludes(await refused({ workflows: [flow], mock: {} }), 'did you mean "mocks"?');
    assertStringIncludes(await refused({ workflows: [flow], mocks: { a: 1 } }), 'Cannot mock step "a"');
    assertStringIncludes(await refused({ workflows: [flow], mocks: [] }), "mocks");
    assertStringIncludes(await refused({ workflows: [flow], failures: { a: new Error() } }), 'Cannot fail step "a"');
    assertStringIncludes(await refused({ workflows: [flow], startAt: new Date(Number.NaN) }), "startAt");
    await assertRejects(() => open({ workflows: [flow], timeoutMs: 0 }), RangeError);
    await using kit = await openTestKit({ workflows: [flow] });
    await assertRejects(() => kit.advance("soon"), TypeError, '"90s"');
    await assertRejects(() => kit.advance(-1), RangeError);
    await assertRejects(() => kit.start(workflowRef("elsewhere"), 1), TypeError, '"elsewhere"');
    const check = (options: unknown) => crashEverywhere(flow, 1, options as TrialOptions);
    await assertRejects(() => check({ invariants: () => {} }), TypeError, 'did you mean "invariant"?');
    await assertRejects(() => check({ invariant: 1 }), TypeError, "invariant");
  });
});

describe("crashEverywhere()", () => {
  for (const [flow, expected] of [[recording, RECORDED], [waiting, WAITED]] as const) {
    test(`crashes ${flow.name} at each round trip, and it ends alike`, async () => {
      const { outcome, executions, roundTrips } = await crashEverywhere(flow, null, checkOf(expected));
      assertEquals(outcome.result, expected);
      assert(roundTrips >= 25, `${roundTrips} round trips`);
      assertEquals(executions, 1 + 2 * roundTrips);
    });
  }
});

describe("a workflow that uses every primitive", () => {
  test("is replayed by alwaysReplay() after each step, and ends alike", async () => {
    const { flow, count } = counted(everything);
    const { executions } = await alwaysReplay(flow, null, checkOf([RECORDED, WAITED]));
    assertEquals(executions, 2);
    // An undisturbed one takes about eight: one for each of its waits.
    assert(count() > 18, `${count()} executions`);
  });

  test("is executed twice at once by duplicateWorkers(), and ends alike", async () => {
    const { flow, count } = counted(everything);
    const { executions } = await duplicateWorkers(flow, null, checkOf([RECORDED, WAITED]));
    assertEquals(executions, 3);
    assert(count() > 25, `${count()} executions`);
  });
});

describe("a step that may run at most once", () => {
  const flow = workflow("once", async (run, _: null) => {
    return await run.step("once", () => "done", { atMostOnce: true }).catch((error: Error) => error.name);
  });

  test("crashEverywhere() finds that nobody knows what it has done, and accepts it when told to", async () => {
    const error = await found(crashEverywhere(flow, null));
    assertMatch(error.message, /InterruptedError.* instead of .*done/);
    assertMatch(error.disturbance, /^a crash (after|before) round trip \d+ \(recordSteps\)$/);
    let interrupted = 0;
    await crashEverywhere(flow, null, {
      compare: ({ status }) => status,
      invariant: ({ result }) => {
        assert(result === "done" || result === "InterruptedError", result);
        if (result !== "done") interrupted++;
      },
    });
    assert(interrupted > 0);
  });
});

describe("what is wrong with a workflow", () => {
  test("a step that is not idempotent is found by crashes and by a second worker", async () => {
    let balance = 0;
    const flow = workflow("not_idempotent", async (run, amount: number) => {
      await run.step("pay in", () => void (balance += amount));
      await run.sleep("a day", DAY_MS);
      return "paid in";
    });
    const options: TrialOptions<string> = {
      setup: () => void (balance = 0),
      invariant: () => assertEquals(balance, 10),
    };
    const crash = await found(crashEverywhere(flow, 10, options));
    assertEquals(crash.disturbance.replace(/\d+/, "N"), "a crash before round trip N (recordSteps)");
    assertStringIncludes(crash.message, 'of workflow "not_idempotent" fails');
    assert(crash.cause instanceof Error);
    const twice = await found(duplicateWorkers(flow, 10, options));
    assertEquals(twice.disturbance, "a lease that is stolen before every step is recorded");
    // What is recorded before the crash is not done again.
    await alwaysReplay(flow, 10, options);
  });

  test("the same step in a transaction is right", async () => {
    const flow = workflow("in_transaction", async (run, amount: number) => {
      await run.transaction("pay in", async (tx) => {
        await tx.query("update accounts set balance = balance + ?", [amount]);
      });
      return "paid in";
    });
    const options: TrialOptions<string> = {
      setup: async ({ store }) => {
        await store.transaction(async (tx) => {
          await tx.query("create table accounts (balance integer)");
          await tx.query("insert into accounts (balance) values (0)");
        });
      },
      invariant: async (_, { store }) => {
        const rows = await store.transaction((tx) => tx.query("select balance from accounts"));
        assertEquals(rows.map(({ balance }) => Number(balance)), [10]);
      },
    };
    await crashEverywhere(flow, 10, options);
    await duplicateWorkers(flow, 10, options);
    await alwaysReplay(flow, 10, options);
  });

  test("a branch that Date.now() decides is found by replay", async () => {
    // What the step takes makes the second look at the clock differ from the first, as it does in the real world.
    const later = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
    const dated = (timeOf: (run: RunContext) => Promise<number> | number): Workflow<null, string> =>
      workflow("dated", async (run, _: null) => {
        const time = await timeOf(run);
        await run.step("work", later);
        return await run.step(`export ${time}`, () => "exported");
      });
    const wrong = dated(() => Date.now());
    // The name of the second step is another each time: what a crashed execution has recorded is never reached again.
    const error = await found(alwaysReplay(wrong, null));
    assertStringIncludes(error.message, '"status":"blocked"');
    await found(crashEverywhere(wrong, null));
    const right = dated(async (run) => (await run.now()).getTime());
    await alwaysReplay(right, null);
    await crashEverywhere(right, null);
  });

  test("a step that is not awaited fails the run, and the message says which", async () => {
    const flow = workflow("forgetful", async (run, _: null) => {
      await run.step("first", () => 1);
      void run.step("forgotten", () => new Promise((resolve) => setTimeout(resolve, 1))).catch(() => {});
      return "done";
    });
    await using kit = await openTestKit({ workflows: [flow] });
    const error = await assertRejects(() => kit.execute(flow, null), FailedError);
    assertEquals(error.error?.message, 'Step "forgotten" was not awaited before the run ended');
    const checkIt = crashEverywhere(flow, null, { invariant: ({ status }) => assertEquals(status, "succeeded") });
    assertStringIncludes((await found(checkIt)).message, "With nothing the check of workflow");
  });
});
