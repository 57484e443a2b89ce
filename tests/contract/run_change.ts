/** What happens when the code of a workflow is another one than what was recorded with. */
import { assert, assertEquals } from "@std/assert";
import {
  NonRetryableError,
  type RunContext,
  type RunHandle,
  type Store,
  workflow,
  type WorkflowFunction,
  type WorkflowOptions,
} from "../../mod.ts";
import type { AnyWorkflow, RunScene, RunTests } from "../support/run_scene.ts";

type Code = WorkflowFunction<null, unknown>;
type Policy = NonNullable<WorkflowOptions["onChange"]>;

/** Defines the tests for one backend. */
export function runChangeContract(tests: RunTests): void {
  policies(tests);
  kinds(tests);
  missing(tests);
}

/** A run that was begun by one release of the code and waits in its middle; `release` names another one. */
async function begun(
  scene: RunScene,
  old: Code,
): Promise<{ readonly run: RunHandle; release(code: Code, onChange?: Policy): AnyWorkflow }> {
  const first = scene.define(old);
  const run = await scene.store.start(first, null);
  await scene.drain(first);
  assertEquals(await run.status(), "waiting");
  await run.send("go", null);
  return { run, release: (code, onChange = "strict") => workflow(first.name, code, { onChange }) };
}

const steps = (...names: string[]): Code => async (run: RunContext) => {
  const values: unknown[] = [];
  for (const name of names) {
    if (name === "go") await run.receive("go");
    else values.push(await run.step(name, () => name));
  }
  return values.join(" ");
};

/** What is recorded as the reason why a run is blocked. */
async function reasonOf({ store, context, place }: RunScene, run: RunHandle): Promise<string> {
  const name = context.dialect === "postgres" ? `"${place.schema}".pgqrs_messages` : "pgqrs_messages";
  const [row] = await store.transaction((tx) =>
    tx.query(`select cast(waits as text) as w from ${name} where id = ${run.id}`)
  );
  const [wait] = JSON.parse(String(row?.w)) as { kind: string; reason: string }[];
  return `${wait?.kind}: ${wait?.reason}`;
}

function policies({ test }: RunTests): void {
  test("B49: a step that was inserted before others is done unless that is strict, and those that were reordered keep their values", async (scene) => {
    const inserted = await begun(scene, steps("a", "go", "b"));
    const changed = steps("new", "a", "go", "newer", "b");
    await scene.drain(inserted.release(changed));
    assertEquals(await inserted.run.status(), "blocked");
    assertEquals(await inserted.run.resume(), true);
    const flow = inserted.release(changed, "warn");
    assertEquals(await scene.finish(inserted.run, flow), "new a newer b");
    const reordered = await begun(scene, steps("a", "b", "go"));
    assertEquals(await scene.finish(reordered.run, reordered.release(steps("b", "go", "a"))), "b a");
    assertEquals((await reordered.run.steps()).map(({ key }) => key), ["a", "b", "go"]);
  });

  for (const [what, code] of [["renamed", steps("a", "go", "c")], ["removed", steps("go")]] as const) {
    test(`B49: a step that was ${what} blocks the run when that is strict, until the code fits again`, async (scene) => {
      const { run, release } = await begun(scene, steps("a", "b", "go"));
      await scene.drain(release(code));
      assertEquals(await run.status(), "blocked");
      const reason = await reasonOf(scene, run);
      assert(reason.startsWith("blocked:") && reason.includes('"b"') || reason.includes('"a"'), reason);
      await scene.drain(release(code));
      assertEquals(await run.status(), "blocked");
      assertEquals(await run.resume(), true);
      await scene.drain(release(steps("a", "b", "go")));
      assertEquals(await run.status(), "succeeded");
      assertEquals(await run.result(), "a b");
    });
  }

  test("B49: with warn a step that is not reached any more is told, and with off nothing is", async (scene) => {
    const told: string[] = [];
    const tell = (message: string): void => void told.push(message);
    const logger = { debug() {}, info() {}, warn: tell, error: tell };
    const place = scene.context.isAlone ? await scene.context.place() : scene.place;
    await using store: Store = await place.connect({ logger });
    await store.admin.install();
    for (const onChange of ["warn", "off"] as const) {
      const { run, release } = await begun({ ...withStore(scene, store) }, steps("a", "b", "go"));
      await store.worker([release(steps("go"), onChange)], { maintenance: false }).drain();
      assertEquals(await run.result(), "");
      const lines = told.splice(0).filter((line) => line.includes("recorded"));
      assertEquals(lines.length, onChange === "warn" ? 1 : 0, lines.join());
      if (onChange === "warn") assert(lines[0]?.includes(`${run.id}`) && lines[0].includes('"a" and 1 more'), lines[0]);
    }
  });

  test("a run that fails although not all of its steps were reached has failed, and is not blocked", async (scene) => {
    const { run, release } = await begun(scene, steps("a", "go"));
    const failing: Code = async (run) => {
      await run.receive("go");
      throw new NonRetryableError("wrong");
    };
    await scene.drain(release(failing));
    assertEquals(await run.status(), "failed");
  });
}

/** The same tests with another store. */
function withStore(scene: RunScene, store: Store): RunScene {
  return { ...scene, store, drain: (...flows) => store.worker(flows, { maintenance: false }).drain() };
}

function kinds({ test }: RunTests): void {
  test("B50: a step that was recorded as one of another kind blocks the run, whatever the policy, and it goes on later", async (scene) => {
    for (const onChange of ["strict", "warn", "off"] as const) {
      let later = 0;
      const { run, release } = await begun(scene, steps("a", "go"));
      const other: Code = async (run) => {
        await run.sleep("a", 1).finally(() => later++);
        await run.step("later", () => later++);
      };
      await scene.drain(release(other, onChange));
      assertEquals([await run.status(), later], ["blocked", 0]);
      const reason = await reasonOf(scene, run);
      assert(reason.includes('"a"') && reason.includes("sleep"), reason);
      assertEquals((await scene.message(run)).attempts, 0);
      assertEquals(await run.resume(), true);
      assertEquals(await scene.finish(run, release(steps("a", "go"), onChange)), "a");
    }
  });

  test("B50: a run that is resumed too early is blocked again, and a blocked one is paused and cancelled like others", async (scene) => {
    const { run, release } = await begun(scene, steps("a", "go"));
    const other = release((run) => run.receive("a"));
    for (let i = 0; i < 3; i++) {
      await scene.drain(other);
      assertEquals([await run.status(), await run.wake()], ["blocked", false]);
      assertEquals(await run.resume(), true);
    }
    await scene.drain(other);
    assertEquals([await run.pause(), await run.status()], [true, "paused"]);
    assertEquals([await run.cancel(), await run.status()], [true, "cancelled"]);
  });
}

function missing({ test }: RunTests): void {
  test("B51: a worker without the workflow leaves its runs alone, until one comes that has it", async (scene) => {
    const { store } = scene;
    const flow = scene.define(() => "done");
    const other = scene.define(() => 1);
    const run = await store.start(flow, null);
    assertEquals(await scene.drain(other), { completed: 0, failed: 0, dead: 0 });
    assertEquals([await run.status(), (await scene.message(run)).attempts], ["ready", 0]);
    assertEquals(await scene.finish(run, other, flow), "done");
  });
}
