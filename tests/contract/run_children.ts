/** Runs that start others. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { CancelledError, FailedError, NonRetryableError, type RunHandle, workflowRef } from "../../mod.ts";
import { outline, portrait, type RunScene, type RunTests } from "../support/run_scene.ts";
import { until } from "../support/until.ts";

/** Defines the tests for one backend. */
export function runChildrenContract(tests: RunTests): void {
  results(tests);
  failures(tests);
  cancelling(tests);
  comingBack(tests);
  loose(tests);
}

/** The id of the child that a run waits for. */
async function childOf(scene: RunScene, run: RunHandle<unknown>): Promise<number> {
  let id: number | null | undefined;
  await until("there is a child", async () => {
    id = (await run.steps()).find(({ kind }) => kind === "call")?.childId;
    return id !== undefined && id !== null;
  });
  assert(await scene.store.run(id as number).status());
  return id as number;
}

function results({ test, timed }: RunTests): void {
  test("B40: a child gives its result, however long it takes, and is started once", async (scene) => {
    const { store } = scene;
    const child = scene.define(async (run, n: number) => {
      const doubled = await run.step("double", () => n * 2);
      return { doubled, big: 10n ** 20n };
    });
    const parent = scene.define(async (run, n: number) => {
      const one = await run.call(child, n);
      const [two, three] = await Promise.all([run.call(child, n + 1), run.call(child, n + 2)]);
      return [one.doubled, two.doubled, three.doubled, one.big === 10n ** 20n];
    });
    const run = await store.start(parent, 1);
    assertEquals(await scene.finish(run, parent, child), [2, 4, 6, true]);
    assertEquals(await store.admin.archive.count({ queue: child.name }), 3);
    const steps = await run.steps();
    assertEquals(steps.map(({ key }) => key).toSorted(), ["", "#2", "#3"].map((end) => `${child.name}${end}`));
    assertEquals(new Set(outline(steps).map((line) => line.replace(/^\S+ /, ""))), new Set(["call succeeded"]));
    assertEquals(await store.run(steps[0]?.childId as number).status(), "succeeded");
  });

  test("B40: a child that has ended before its parent waits gives its result", async (scene) => {
    const { store } = scene;
    const child = scene.define(() => "early");
    const parent = scene.define(async (run) => {
      // As long as this branch goes on the parent is not given back.
      const [result] = await Promise.all([
        run.call(child, null),
        run.step(
          "wait",
          () => until("it has ended", async () => (await store.admin.archive.count({ queue: child.name })) === 1),
        ),
      ]);
      return result;
    });
    assertEquals(await scene.finish(await store.start(parent, null), parent, child), "early");
  });

  timed("a parent waits without a place, and its child may be executed much later by its name alone", async (scene) => {
    const { store } = scene;
    const child = scene.define(async (run, text: string) => {
      await run.sleep("rest", 3_600_000);
      return text.length;
    });
    const parent = scene.define((run) => run.call(workflowRef<string, number>(child.name), "four"));
    const run = await store.start(parent, null);
    await scene.drain(parent);
    assertEquals([await run.status(), outline(await run.steps())], ["waiting", [`${child.name} call waiting`]]);
    await scene.drain(parent, child);
    scene.clock.advance(3_600_000);
    await scene.drain(parent, child);
    await scene.drain(parent, child);
    assertEquals(await run.result(), 4);
  });

  test("children of children give their results up to the first", async (scene) => {
    const { store, define } = scene;
    const leaf = define((_run, n: number) => n + 1);
    const middle = define(async (run, n: number) => await run.call(leaf, n) + await run.call(leaf, n));
    const top = define(async (run) => await run.call(middle, 1) + await run.call(middle, 2));
    assertEquals(await scene.finish(await store.start(top, null), top, middle, leaf), 10);
  });
}

function failures({ test, timed }: RunTests): void {
  test("calls side by side are listed in the order in which they were reached", async (scene) => {
    const { store } = scene;
    const child = scene.define(() => 1);
    const parent = scene.define((run) => Promise.all(Array.from({ length: 9 }, () => run.call(child, "x".repeat(50)))));
    const run = await store.start(parent, null);
    await scene.finish(run, parent, child);
    // FAULT: their places are given out when their starts were answered, in whatever order that is.
    const keys = (await run.steps()).map(({ key }) => key.replace(child.name, ""));
    assertEquals(keys, ["", "#2", "#3", "#4", "#5", "#6", "#7", "#8", "#9"]);
  });

  timed("B40: a child that fails throws a FailedError with its error, live and in replay", async (scene) => {
    const { store } = scene;
    const seen: unknown[] = [];
    const child = scene.define(() => {
      throw new NonRetryableError("broken", { cause: new RangeError("deep") });
    });
    const parent = scene.define(async (run) => {
      const error = await run.call(child, null).catch((error: unknown) => error);
      assert(error instanceof FailedError);
      seen.push([portrait(error), error.reason, error.error?.message, error.error?.cause?.message]);
      await run.sleep("rest", 1_000);
      return error.error?.name;
    });
    const run = await store.start(parent, null);
    await scene.drain(parent, child);
    await scene.drain(parent, child);
    scene.clock.advance(1_000);
    await scene.drain(parent, child);
    assertEquals(await run.result(), "NonRetryableError");
    const [live, replayed] = seen as unknown[][];
    assertEquals(live?.slice(1), ["not_retryable", "broken", "deep"]);
    // The stack of what the library throws tells where it was thrown.
    const without = (list: unknown[] | undefined) => JSON.stringify(list, (key, value) => key === "stack" ? 0 : value);
    assertEquals(without(live), without(replayed));
  });

  test("B40: a parent that lets the error of its child through fails and is not tried again", async (scene) => {
    let calls = 0;
    const child = scene.define(() => Promise.reject(new NonRetryableError("broken")));
    const parent = scene.define(async (run) => {
      calls++;
      await run.call(child, null);
    });
    const run = await scene.store.start(parent, null);
    const error = await assertRejects(() => scene.finish(run, parent, child), FailedError);
    assertEquals([error.reason, error.error?.name, calls <= 2], ["not_retryable", "FailedError", true]);
  });
}

function cancelling({ test }: RunTests): void {
  test("B40: a child that is cancelled throws a CancelledError with its reason", async (scene) => {
    const { store } = scene;
    const child = scene.define((run) => run.receive("never"));
    const parent = scene.define(async (run) => {
      const error = await run.call(child, null).catch((error: unknown) => error);
      return error instanceof CancelledError ? error.reason : String(error);
    });
    const run = await store.start(parent, null);
    const result = await scene.during([parent, child], async () => {
      await store.run(await childOf(scene, run)).cancel({ reason: "not needed" });
      return await run.result({ timeoutMs: 20_000 });
    });
    assertEquals(result, "not needed");
  });

  test("B40: cancelling a parent cancels what it waits for, and what that waits for, and nothing else", async (scene) => {
    const { store, define } = scene;
    const leaf = define((run) => run.receive("never"));
    const middle = define((run) => run.call(leaf, null));
    const free = define((run) => run.receive("never"));
    const top = define(async (run) => {
      await run.start(free, null);
      await Promise.all([run.call(middle, null), run.call(leaf, null)]);
    });
    const run = await store.start(top, null);
    const ids = await scene.during([top, middle, leaf, free], async () => {
      await until("all wait", async () => (await run.steps()).filter(({ childId }) => childId !== null).length >= 2);
      const calls = (await run.steps()).filter(({ kind }) => kind === "call").map(({ childId }) => childId as number);
      const { childId } = (await run.steps()).find(({ key }) => key === middle.name) ?? {};
      const grandchild = await childOf(scene, store.run(childId as number));
      await until("the last waits", async () => await store.run(grandchild).status() === "waiting");
      return [...calls, grandchild];
    });
    assertEquals(await run.cancel({ reason: "enough" }), true);
    for (const id of ids) {
      const ended = await store.admin.archive.get(id);
      assertEquals([ended?.outcome, ended?.reason], ["cancelled", "enough"]);
    }
    assertEquals(await store.admin.messages.count({ queue: free.name }), 1);
  });
}

function comingBack({ test }: RunTests): void {
  test("B40: a child is cancelled with its parent also when an operator cancels that as a message", async (scene) => {
    const { store } = scene;
    const child = scene.define((run) => run.receive("never"));
    const parent = scene.define((run) => run.call(child, null));
    const run = await store.start(parent, null);
    await scene.drain(parent, child);
    const id = await childOf(scene, run);
    await store.admin.messages.cancel(run.id);
    // FAULT: only the handle of a run cancels its children.
    assertEquals(await store.run(id).status(), "cancelled");
  });

  test("a parent that failed because of its child calls it again when it is retried", async (scene) => {
    const { store } = scene;
    let isRight = false;
    const child = scene.define(() => isRight ? "right" : Promise.reject(new NonRetryableError("wrong")));
    const parent = scene.define((run) => run.call(child, null));
    const run = await store.start(parent, null);
    await assertRejects(() => scene.finish(run, parent, child), FailedError);
    isRight = true;
    assertEquals(await run.retry(), true);
    // FAULT: the call counts as a step that succeeded, so that the error of its child comes again for ever.
    assertEquals(await scene.finish(run, parent, child).catch((error: unknown) => (error as Error).name), "right");
  });

  test("a parent that was cancelled with its child ends when it is retried", async (scene) => {
    const { store } = scene;
    const child = scene.define((run) => run.receive("word"));
    const parent = scene.define(async (run) => {
      const error = await run.call(child, null).catch((error: unknown) => error);
      return error instanceof CancelledError ? "cancelled" : error;
    });
    const run = await store.start(parent, null);
    await scene.drain(parent, child);
    await run.cancel();
    assertEquals(await run.retry(), true);
    await scene.drain(parent, child);
    const [call] = await run.steps();
    await store.run(call?.childId as number).send("word", "again").catch(() => {});
    await scene.drain(parent, child);
    await scene.drain(parent, child);
    // FAULT: it waits for ever: its child ended while nobody kept its mail. It has to hear of that, or to wait for one that lives.
    assertEquals(await run.status(), "succeeded");
    assert(["cancelled", "again"].includes(String(await run.result())));
  });

  test("what a child has ended with while its parent had failed is there when that is retried", async (scene) => {
    const { store } = scene;
    let isRight = false;
    const child = scene.define((run) => run.receive("word"));
    const parent = scene.define(async (run) => {
      const [value] = await Promise.all([
        run.call(child, null),
        run.step("check", async () => {
          await childOf(scene, store.run(run.id));
          if (!isRight) throw new NonRetryableError("wrong");
        }),
      ]);
      return value;
    });
    const run = await store.start(parent, null);
    await assertRejects(() => scene.finish(run, parent, child), FailedError);
    const id = await childOf(scene, run);
    await store.run(id).send("word", "done");
    await scene.drain(child);
    assertEquals(await store.run(id).status(), "succeeded");
    isRight = true;
    await run.retry();
    await scene.drain(parent, child);
    await scene.drain(parent, child);
    // FAULT: it waits for ever: what a child tells a parent that has ended is lost.
    assertEquals(await run.status(), "succeeded");
    assertEquals(await run.result(), "done");
  });
}

function loose({ test }: RunTests): void {
  test("a run that is started by another goes on by itself, and is started once", async (scene) => {
    const { store } = scene;
    const child = scene.define((_run, n: number) => n * 2);
    let executions = 0;
    const parent = scene.define(async (run) => {
      const ids = [await run.start(child, 1), await run.start(child, 2)];
      if (++executions === 1) await store.admin.messages.release(run.id);
      await run.step("after", () => 1);
      return ids;
    });
    const run = await store.start(parent, null);
    const ids = await scene.finish(run, parent);
    assertEquals([ids.length, new Set(ids).size, await store.admin.messages.count({ queue: child.name })], [2, 2, 2]);
    assertEquals((await run.steps()).map(({ kind, state }) => `${kind} ${state}`), [
      "start succeeded",
      "start succeeded",
      "step succeeded",
    ]);
    await scene.drain(child);
    assertEquals([await store.run(ids[0] as number).result(), await store.run(ids[1] as number).result()], [2, 4]);
  });

  test("an input of a child that cannot be stored is an error of the call", async (scene) => {
    const child = scene.define((_run, value: unknown) => value);
    const parent = scene.define(async (run) => {
      const error = await run.call(child, () => 1).catch((error: unknown) => error);
      return error instanceof TypeError;
    }, { retry: { maxAttempts: 1 } });
    assertEquals(await scene.finish(await scene.store.start(parent, null), parent, child), true);
  });
}
