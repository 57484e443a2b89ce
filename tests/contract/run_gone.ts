/** What becomes of the steps and the mail of a run when the run is gone. */
import { assert, assertEquals } from "@std/assert";
import { DatabaseError, type RunHandle, type Store } from "../../mod.ts";
import type { Driver } from "../../src/sql/driver.ts";
import type { AnyWorkflow, RunScene, RunTests } from "../support/run_scene.ts";
import { openWatched } from "../support/watched_store.ts";

/** Defines the tests for one backend. */
export function runGoneContract(tests: RunTests): void {
  ended(tests);
  alive(tests);
  doubt(tests);
}

const flowOf = ({ define }: RunScene): AnyWorkflow =>
  define(async (run) => {
    await run.step("one", () => 1);
    await run.receive("word");
  });

/** A run with steps and mail that waits, or that has ended. */
async function begin(scene: RunScene, flow: AnyWorkflow, hasEnded: boolean): Promise<RunHandle> {
  const run = await scene.store.start(flow, null);
  await run.send("unread", 1);
  if (hasEnded) await run.send("word", 2);
  await scene.drain(flow);
  assertEquals(await left(scene, run), [2, hasEnded ? 2 : 1]);
  return run;
}

async function left({ rows }: RunScene, { id }: RunHandle): Promise<number[]> {
  return [await rows("steps", id), await rows("mailbox", id)];
}

function ended({ test, timed }: RunTests): void {
  const ways: [string, (store: Store, flow: AnyWorkflow, run: RunHandle) => Promise<unknown>][] = [
    ["the archive is purged", (store, flow) => store.admin.archive.purge({ queue: flow.name })],
    ["its queue is deleted", (store, flow) => store.admin.queues.delete(flow.name)],
  ];
  for (const [what, forget] of ways) {
    test(`steps and mail of a run that has ended are deleted when ${what}, and those of others stay`, async (scene) => {
      const [flow, other] = [flowOf(scene), flowOf(scene)];
      const runs = [await begin(scene, flow, true), await begin(scene, flow, true)];
      const kept = await begin(scene, other, true);
      await forget(scene.store, flow, runs[0] as RunHandle);
      for (const run of runs) assertEquals(await left(scene, run), [0, 0]);
      assertEquals(await left(scene, kept), [2, 2]);
    });
  }

  timed("steps and mail of a run that has ended are kept as long as the archive keeps it", async (scene) => {
    const { store, clock } = scene;
    const flow = flowOf(scene);
    await store.admin.createQueue(flow.name, { retentionMs: 10_000 });
    const run = await begin(scene, flow, true);
    clock.advance(9_000);
    await store.admin.archive.purge({ queue: flow.name, expired: true });
    assertEquals(await left(scene, run), [2, 2]);
    clock.advance(2_000);
    await store.admin.archive.purge({ queue: flow.name, expired: true });
    assertEquals(await left(scene, run), [0, 0]);
  });

  test("steps and mail are kept by retry and by replay", async (scene) => {
    const { store } = scene;
    const flow = flowOf(scene);
    const run = await begin(scene, flow, false);
    await run.cancel();
    assertEquals(await run.retry(), true);
    assertEquals(await left(scene, run), [2, 1]);
    await run.cancel();
    assertEquals(await store.admin.archive.replay(run.id), true);
    assertEquals(await left(scene, run), [2, 1]);
    await run.send("word", 1);
    assertEquals(await scene.finish(run, flow), undefined);
  });
}

function alive({ test }: RunTests): void {
  const ways: [string, (store: Store, flow: AnyWorkflow, run: RunHandle) => Promise<unknown>][] = [
    ["it is deleted", (store, _, run) => store.admin.messages.delete(run.id)],
    ["its queue is purged", (store, flow) => store.admin.queues.purge(flow.name)],
    ["its queue is deleted by force", (store, flow) => store.admin.queues.delete(flow.name, { force: true })],
  ];
  for (const [what, remove] of ways) {
    test(`steps and mail of a run that lives are deleted when ${what}`, async (scene) => {
      const flow = flowOf(scene);
      const run = await begin(scene, flow, false);
      await remove(scene.store, flow, run);
      assertEquals(await left(scene, run), [0, 0]);
    });
  }
}

function doubt({ test }: RunTests): void {
  test("B35: a transaction of a step whose commit got no answer is not done again when it was committed", async (scene) => {
    const { place } = scene.context.isAlone ? { place: await scene.context.place() } : scene;
    let isLost = false;
    const watch = (driver: Driver): Pick<Driver, "query" | "transaction"> => ({
      query: (statement, call) => driver.query(statement, call),
      async transaction(work, call) {
        const value = await driver.transaction(work, call);
        if (!isLost) return value;
        isLost = false;
        throw new DatabaseError("The connection was lost", { outcome: "unknown", reason: "connection" });
      },
    });
    await using store = await openWatched(place.dsn, place.schema, watch);
    await store.admin.install();
    let calls = 0;
    const flow = scene.define((run) =>
      run.transaction("once", async (tx) => {
        await tx.query("select 1");
        isLost = true;
        return ++calls;
      })
    );
    const run = await store.start(flow, null);
    await store.worker([flow], { maintenance: false }).drain();
    assertEquals([await run.result({ timeoutMs: 5_000 }), calls], [1, 1]);
    assert(!isLost);
  });
}
