/** How a run ends, for whoever waits for it. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { CancelledError, FailedError, NonRetryableError, NotFoundError, TimeoutError } from "../../mod.ts";
import type { RunTests } from "../support/run_scene.ts";
import { gate } from "../support/running_worker.ts";
import { until } from "../support/until.ts";

/** Defines the tests for one backend. */
export function runResultsContract(tests: RunTests): void {
  values(tests);
  errors(tests);
  states(tests);
}

function values({ test }: RunTests): void {
  test("B8: the result of a run is there for whoever waits, before and after its end and in another process", async (scene) => {
    const { store } = scene;
    const flow = scene.define((run) => run.step("one", () => ({ at: new Date(7), n: 1n })));
    const run = await store.start(flow, null);
    await using other = await scene.other();
    const waiting = [run.result({ timeoutMs: 20_000 }), run.result({ timeoutMs: 20_000 })];
    const elsewhere = other.run<{ at: Date; n: bigint }>(run.id).result({ timeoutMs: 20_000 });
    await scene.drain(flow);
    const results: unknown[] = await Promise.all([...waiting, elsewhere, store.run(run.id).result()]);
    assertEquals(results, Array.from({ length: 4 }, () => ({ at: new Date(7), n: 1n })));
  });

  test("a result that looks like one of our tags is the same for each of those who wait", async (scene) => {
    const value = { x: { $pgqrs: ["Date", "2026-01-01T00:00:00.000Z"] } };
    const flow = scene.define(() => value);
    const run = await scene.store.start(flow, null);
    const waiting = [run.result(), scene.store.run(run.id).result(), run.result()];
    await scene.drain(flow);
    // FAULT: what is read is shared by all who wait, and brought to life in place once for each of them.
    for (const result of [...await Promise.all(waiting), await run.result()]) assertEquals(result, value);
  });

  test("a run whose message an operator has archived has no result", async (scene) => {
    const flow = scene.define(() => 1);
    const run = await scene.store.start(flow, null);
    await scene.store.admin.messages.archive(run.id);
    assertEquals([await run.result(), await run.status()], [null as unknown as number, "succeeded"]);
  });
}

function errors({ test }: RunTests): void {
  test("result() of a run that failed rejects with its reason and the error of its step, and tells no text of it", async (scene) => {
    const { store } = scene;
    const flow = scene.define((run) =>
      run.step("secret", () => {
        throw new NonRetryableError("hunter2", { cause: new TypeError("why") });
      })
    );
    const run = await store.start(flow, null);
    const error = await assertRejects(() => scene.finish(run, flow), FailedError);
    assertEquals([error.code, error.reason, error.error?.message, error.error?.cause?.name], [
      "failed",
      "not_retryable",
      "hunter2",
      "TypeError",
    ]);
    assert(!error.message.includes("hunter2") && typeof error.error?.stack === "string", error.message);
    assertEquals(await store.admin.dead.count({ queue: flow.name }), 1);
  });

  test("result() rejects with CancelledError, NotFoundError or TimeoutError, and the run goes on after that", async (scene) => {
    const { store } = scene;
    const flow = scene.define((run) => run.receive("word"));
    const [one, two, three] = [await store.start(flow, 1), await store.start(flow, 2), await store.start(flow, 3)];
    const late = await assertRejects(() => one.result({ timeoutMs: 20 }), TimeoutError);
    assertEquals([late.code, await one.status()], ["timeout", "ready"]);
    await two.cancel({ reason: "enough" });
    assertEquals((await assertRejects(() => two.result(), CancelledError)).reason, "enough");
    await store.admin.messages.delete(three.id);
    for (const run of [three, store.run(4_711_000)]) {
      await assertRejects(() => run.result(), NotFoundError);
      await assertRejects(() => run.status(), NotFoundError);
    }
    await assertRejects(() => one.result({ signal: AbortSignal.abort(new RangeError("mine")) }), RangeError, "mine");
    await assertRejects(() => one.result({ timeout: 1 } as never), TypeError, "timeoutMs");
    await one.send("word", "end");
    assertEquals(await scene.finish(one, flow), "end");
  });

  test("a result that cannot be stored fails the run and says where it cannot", async (scene) => {
    const flow = scene.define((run) => run.step("ok", () => 1).then(() => ({ deep: [() => 1] })), {
      retry: { maxAttempts: 1 },
    });
    const run = await scene.store.start(flow, null);
    const error = await assertRejects(() => scene.finish(run, flow), FailedError);
    assert(error.error?.message.includes("result.deep[0]"), error.error?.message);
  });

  test("an error of the library in a run is final where it would only come again", async (scene) => {
    const { store } = scene;
    let calls = 0;
    const flow = scene.define(async (run) => {
      calls++;
      await run.step("outer", () => run.step("inner", () => 1));
    });
    const run = await store.start(flow, null);
    const error = await assertRejects(() => scene.finish(run, flow), FailedError);
    assertEquals([calls, error.reason, error.error?.name], [1, "not_retryable", "StateError"]);
  });
}

function states({ test }: RunTests): void {
  test("status() follows a run from its start to its end", async (scene) => {
    const { store } = scene;
    const [begun, go] = [gate(), gate()];
    const flow = scene.define(async (run) => {
      await run.step("one", async () => {
        begun.open();
        await go.passed;
      });
      await run.receive("word");
    });
    const run = await store.start(flow, null, { delayMs: 600_000 });
    const seen = [await run.status()];
    await store.admin.messages.release(run.id);
    seen.push(await run.status());
    await scene.during([flow], async () => {
      await begun.passed;
      seen.push(await run.status());
      go.open();
      await until("it waits", async () => await run.status() === "waiting");
      await run.send("word", 1);
      await run.result({ timeoutMs: 20_000 });
    });
    assertEquals([...seen, await run.status()], ["delayed", "ready", "leased", "succeeded"]);
  });

  test("what is written of a step tells when, how long and for what, while it lasts and after", async (scene) => {
    const { store } = scene;
    const flow = scene.define(async (run) => {
      await run.step("slow", () => new Promise((resolve) => setTimeout(resolve, 30)));
      await run.receive("word", { timeoutMs: 60_000 });
    });
    const run = await store.start(flow, null);
    await scene.drain(flow);
    const [slow, word] = await run.steps();
    const took = Number(slow?.endedAt) - Number(slow?.startedAt);
    assert(took >= 25 && took < 5_000, `${took}`);
    assertEquals([word?.state, word?.endedAt, word?.value], ["waiting", null, undefined]);
    assertEquals(Number(word?.dueAt) - Number(word?.startedAt), 60_000);
    await run.send("word", { a: 1 });
    await scene.drain(flow);
    const [, received] = await run.steps();
    assertEquals([received?.state, received?.value, received?.attempts], ["succeeded", { a: 1 }, 0]);
    assertEquals(await store.run(4_711_000).steps(), []);
  });
}
