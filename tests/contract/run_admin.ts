/** What looking at runs promises: what they wait for, what belongs to them, and the same told by plain SQL. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { NonRetryableError, type RunDetails, type RunQuery, type RunWait, workflow } from "../../mod.ts";
import { type Context, inStore, inTime, type Scene } from "./context.ts";

/** Defines the tests for one backend. */
export function runAdminContract(context: Context): void {
  describe(`admin.runs on ${context.name}`, () => {
    waits(context);
    details(context);
    lists(context);
    counts(context);
    markers(context);
    view(context);
  });
}

const HOUR_MS = 3_600_000;
const SLOWLY = { maxAttempts: 3, backoff: { baseMs: HOUR_MS, maxMs: HOUR_MS, jitter: 0 } } as const;

const child = workflow("child", async (run, ms: number) => {
  await run.sleep("rest", ms);
  return ms;
});

/** Does what its input says. */
const flow = workflow<string, unknown>("flow", async (run, what) => {
  const first = await run.step("first", () => what);
  if (what === "sleep") await run.sleep("nap", HOUR_MS);
  if (what === "mail") return await run.receive("approval", { timeoutMs: 2 * HOUR_MS });
  if (what === "mail for ever") return await run.receive("approval");
  if (what === "call") return await run.call(child, HOUR_MS);
  if (what === "start") return await run.start(child, HOUR_MS);
  if (what === "flaky") await run.step("flaky", () => Promise.reject(new Error("not yet")), { retry: SLOWLY });
  if (what === "fail") throw new NonRetryableError("no");
  if (what === "values") return new Map([[1n, new Date(0)]]);
  return first;
});

/** The same name, with other code. */
const changed = workflow<string, unknown>("flow", async (run, what) => {
  if (what === "sleep") await run.sleep("nap", HOUR_MS);
  return what;
});

/** Starts a run of the flow and has it go as far as it can. */
async function play({ store }: Scene, what: string, key?: string): Promise<number> {
  const { id } = await store.start(flow, what, key === undefined ? {} : { key });
  await store.worker([flow, child], { name: "ann" }).drain();
  return id;
}

async function read({ store }: Scene, id: number): Promise<RunDetails> {
  const run = await store.admin.runs.get(id);
  assert(run !== null);
  return run;
}

/** Only what a wait says. */
function told(wait: RunWait | undefined): Partial<RunWait> {
  return Object.fromEntries(Object.entries(wait ?? {}).filter(([, value]) => value !== null));
}

function waits(context: Context): void {
  const cases: readonly (readonly [string, Partial<RunWait>, number | null])[] = [
    ["sleep", { kind: "sleep", step: "nap" }, HOUR_MS],
    ["mail", { kind: "mail", step: "approval", topic: "approval" }, 2 * HOUR_MS],
    ["mail for ever", { kind: "mail", step: "approval", topic: "approval" }, null],
    ["flaky", { kind: "retry", step: "flaky" }, HOUR_MS],
  ];
  for (const [what, expected, ms] of cases) {
    test(
      `runs.get() tells that a run waits: ${what}`,
      inTime(context, async (scene) => {
        const until = ms === null ? null : new Date(scene.clock.now + ms);
        const run = await read(scene, await play(scene, what));
        assertEquals([run.status, run.dueAt, run.waitsFor.length], ["waiting", until, 1]);
        assertEquals(told(run.waitsFor[0]), { ...expected, ...(until !== null && { until }) });
        scene.clock.advance(3 * HOUR_MS);
        const { status, waitsFor } = await read(scene, run.id);
        // Nothing but a worker is missing now.
        assertEquals([status, waitsFor.length], ms === null ? ["waiting", 1] : ["ready", 0]);
      }),
    );
  }

  test(
    "runs.get() tells that a run waits for a child, and whose child that is",
    inTime(context, async (scene) => {
      const run = await read(scene, await play(scene, "call"));
      const [childId = 0] = run.childIds;
      assertEquals(told(run.waitsFor[0]), { kind: "child", step: "child", childId });
      assertEquals([run.status, run.parentId, run.childIds.length], ["waiting", null, 1]);
      const { workflow, parentId, status, input } = await read(scene, childId);
      assertEquals({ workflow, parentId, status, input }, {
        workflow: "child",
        parentId: run.id,
        status: "waiting",
        input: HOUR_MS,
      });
      const started = await read(scene, await play(scene, "start"));
      assertEquals([started.status, started.childIds], ["succeeded", [started.result]]);
      assertEquals((await read(scene, started.result as number)).parentId, started.id);
    }),
  );

  test(
    "runs.get() tells that a run waits for a person or for code that fits",
    inTime(context, async (scene) => {
      const id = await play(scene, "sleep");
      const handle = scene.store.run(id);
      assert(await handle.pause());
      const paused = await read(scene, id);
      assertEquals([paused.status, paused.dueAt, told(paused.waitsFor[0])], ["paused", null, { kind: "person" }]);
      assert(await handle.resume());
      scene.clock.advance(HOUR_MS);
      await scene.store.worker([changed]).drain();
      const blocked = await read(scene, id);
      assertEquals([blocked.status, blocked.dueAt, blocked.waitsFor[0]?.kind], ["blocked", null, "code"]);
      assert(blocked.reason?.includes('"first"'), String(blocked.reason));
      assertEquals(blocked.waitsFor[0]?.reason, blocked.reason);
      const { delayed, stopped, ready, leased } = await scene.store.admin.metrics("flow");
      assertEquals({ delayed, stopped, ready, leased }, { delayed: 0, stopped: 1, ready: 0, leased: 0 });
    }),
  );

  test(
    "runs.get() tells who executes a run, and of a queue that is paused",
    inStore(context, async (scene) => {
      const { store } = scene;
      const { id } = await store.start(flow, "sleep");
      assertEquals((await read(scene, id)).status, "ready");
      await store.consumer("flow", { name: "bob" }).dequeue({ leaseMs: HOUR_MS });
      await store.admin.queues.pause("flow");
      const { status, worker, leaseUntil, waitsFor, queuePausedAt, dueAt } = await read(scene, id);
      assertEquals({ status, worker, waitsFor, dueAt }, { status: "leased", worker: "bob", waitsFor: [], dueAt: null });
      assert(leaseUntil instanceof Date && queuePausedAt instanceof Date);
    }),
  );
}

function details(context: Context): void {
  test(
    "runs.get() has input, result, steps and times of a run that has succeeded, with the values that they were",
    inTime(context, async (scene) => {
      const run = await read(scene, await play(scene, "values", "k"));
      const now = new Date(scene.clock.now);
      const { steps, result, ...rest } = run;
      assertEquals(result, new Map([[1n, new Date(0)]]));
      assertEquals(steps.map(({ key, kind, state, value }) => ({ key, kind, state, value })), [
        { key: "first", kind: "step", state: "succeeded", value: "values" },
      ]);
      assertEquals(rest, {
        id: run.id,
        workflow: "flow",
        status: "succeeded",
        key: "k",
        priority: 0,
        attempts: 0,
        crashes: 0,
        maxAttempts: 5,
        enqueuedAt: now,
        dueAt: null,
        endedAt: now,
        worker: "ann",
        leaseUntil: null,
        waitsFor: [],
        reason: null,
        error: null,
        parentId: null,
        childIds: [],
        queuePausedAt: null,
        stepCount: 1,
        endedStepCount: 1,
        input: "values",
        progress: null,
      });
      const { steps: none, childIds } = await scene.store.admin.runs.get(run.id, { steps: false }) ?? {};
      assertEquals([none, childIds], [[], []]);
    }),
  );

  test(
    "runs.get() has the error of a run that has failed, and the step that will be tried again",
    inTime(context, async (scene) => {
      const failed = await read(scene, await play(scene, "fail"));
      assertEquals([failed.status, failed.reason, failed.error?.message], ["failed", "not_retryable", "no"]);
      assertEquals([failed.attempts, failed.result, failed.stepCount], [1, undefined, 1]);
      const flaky = await read(scene, await play(scene, "flaky"));
      const step = flaky.steps.at(-1);
      assertEquals([step?.state, step?.attempts, flaky.stepCount, flaky.endedStepCount], ["retrying", 1, 2, 1]);
    }),
  );

  test(
    "runs.get() is null for what does not exist, and for a message that is no run",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue(1);
      assertEquals([await store.admin.runs.get(id), await store.admin.runs.get(id + 1)], [null, null]);
      await assertRejects(() => store.admin.runs.get("1" as never), TypeError, "id");
      await assertRejects(() => store.admin.runs.get(1, { step: true } as never), TypeError, 'did you mean "steps"?');
    }),
  );
}

function lists(context: Context): void {
  test(
    "runs.list() takes every filter, alone and together, the last started first",
    inTime(context, async (scene) => {
      const begin = scene.clock.now;
      const ids: number[] = [];
      for (const what of ["sleep", "values", "fail", "mail"]) {
        ids.push(await play(scene, what, `k ${what}`));
        scene.clock.advance(1_000);
      }
      ids.push((await scene.store.start(child, 0, { delayMs: HOUR_MS })).id);
      ids.push((await scene.store.start(child, 0)).id);
      await scene.store.run(ids[0] as number).pause();
      await scene.store.run(ids[3] as number).cancel();
      await scene.producer.enqueue("no run");
      const cases: readonly (readonly [RunQuery, readonly number[]])[] = [
        [{}, [5, 4, 3, 2, 1, 0]],
        [{ workflow: "flow" }, [3, 2, 1, 0]],
        [{ workflow: child }, [5, 4]],
        [{ workflow: "tasks" }, []],
        [{ workflow: "nobody" }, []],
        [{ status: "paused" }, [0]],
        [{ status: "succeeded" }, [1]],
        [{ status: "failed" }, [2]],
        [{ status: "cancelled" }, [3]],
        [{ status: "delayed" }, [4]],
        [{ status: "ready" }, [5]],
        [{ status: "waiting" }, []],
        [{ status: "leased" }, []],
        [{ status: "blocked" }, []],
        [{ key: "k fail" }, [2]],
        [{ since: new Date(begin + 2_000) }, [5, 4, 3, 2]],
        [{ until: new Date(begin + 2_000) }, [1, 0]],
        [{ since: new Date(begin + 1_000), until: new Date(begin + 3_000), status: "failed", workflow: flow }, [2]],
      ];
      for (const [query, expected] of cases) {
        const { items, cursor } = await scene.store.admin.runs.list(query);
        assertEquals(items.map(({ id }) => id), expected.map((i) => ids[i] as number), JSON.stringify(query));
        assertEquals(cursor, null);
      }
    }),
  );

  test(
    "runs.list() gives pages by a cursor, of those that live and those that have ended",
    inTime(context, async (scene) => {
      const ids: number[] = [];
      for (let i = 0; i < 7; i++) ids.unshift(await play(scene, i % 2 === 0 ? "sleep" : "done"));
      const seen: number[] = [];
      let pages = 0;
      let cursor: string | null | undefined;
      do {
        const page = await scene.store.admin.runs.list({ limit: 3, ...(cursor && { cursor }) });
        seen.push(...page.items.map(({ id }) => id));
        cursor = page.cursor;
        pages++;
      } while (cursor !== null);
      assertEquals([seen, pages], [ids, 3]);
    }),
  );

  test(
    "runs.list() refuses queries that mean nothing",
    inStore(context, async ({ store: { admin: { runs } } }) => {
      await assertRejects(() => runs.list({ status: "done" as never }), TypeError, "status");
      await assertRejects(() => runs.list({ since: "today" as never }), TypeError, "since");
      await assertRejects(() => runs.list({ limit: 0 }), RangeError, "limit");
      await assertRejects(() => runs.list({ cursor: "1.2" }), TypeError, "cursor");
      await assertRejects(() => runs.list({ workflows: "flow" } as never), TypeError, 'did you mean "workflow"?');
    }),
  );
}

function counts(context: Context): void {
  test(
    "runs.counts() counts by workflow and state",
    inTime(context, async (scene) => {
      const { store } = scene;
      assertEquals(await store.admin.runs.counts(), []);
      const [sleeping = 0, cancelled = 0] = [await play(scene, "sleep"), await play(scene, "mail")];
      for (const what of ["values", "fail", "call"]) await play(scene, what);
      await store.run(sleeping).pause();
      await store.run(cancelled).cancel();
      await store.start(flow, "later", { delayMs: 1 });
      await store.start(flow, "now");
      await store.admin.queues.pause("child");
      const none = { ready: 0, delayed: 0, leased: 0, waiting: 0, paused: 0, blocked: 0 };
      const ended = { succeeded: 0, failed: 0, cancelled: 0 };
      assertEquals(await store.admin.runs.counts(), [
        { workflow: "child", isPaused: true, ...none, ...ended, waiting: 1 },
        {
          workflow: "flow",
          isPaused: false,
          ...none,
          ready: 1,
          delayed: 1,
          waiting: 1,
          paused: 1,
          succeeded: 1,
          failed: 1,
          cancelled: 1,
        },
      ]);
    }),
  );
}

function markers(context: Context): void {
  test(
    "a queue is known as a workflow's when start() or a worker has made it, or a worker has found it",
    inStore(context, async ({ store }) => {
      const isWorkflow = async (): Promise<Record<string, boolean>> =>
        Object.fromEntries((await store.admin.queues.list()).map(({ name, isWorkflow }) => [name, isWorkflow]));
      for (const name of ["flow", "child"]) await store.admin.createQueue(name);
      assertEquals(await isWorkflow(), { child: false, flow: false, tasks: false });
      const other = workflow("other", () => 1);
      await store.worker([child, flow, other]).drain();
      await store.start(workflow("third", () => 1), null);
      assertEquals(await isWorkflow(), { child: true, flow: true, other: true, tasks: false, third: true });
      assertEquals((await store.admin.queues.update("flow", { maxAttempts: 2 })).isWorkflow, true);
    }),
  );
}

function view(context: Context): void {
  test(
    "the view pgqrs_runs tells in plain SQL what a run waits for",
    inStore(context, async (scene) => {
      const { store, place } = scene;
      const ids = [];
      for (const what of ["sleep", "call", "mail for ever", "fail"]) ids.push(await play(scene, what));
      const [, calling = 0] = ids;
      const name = context.dialect === "postgres" ? `"${place.schema}".pgqrs_runs` : "pgqrs_runs";
      const rows = await store.transaction((tx) =>
        tx.query(`select id, workflow, status, reason, parent_id, steps, ended_steps, cast(waits as text) as waits,
  case when due_at is null then 0 else 1 end as is_timed, case when ended_at is null then 0 else 1 end as is_ended
from ${name} order by id`)
      );
      const { childIds } = await read(scene, calling);
      const seen = rows.map((row) => {
        const wait = JSON.parse(String(row.waits ?? "[{}]"))[0];
        return [
          Number(row.id),
          row.workflow,
          row.status,
          row.reason,
          row.parent_id === null ? null : Number(row.parent_id),
          `${row.ended_steps}/${row.steps}`,
          wait.kind ?? null,
          wait.childId ?? wait.topic ?? null,
          `${row.is_timed}${row.is_ended}`,
        ];
      });
      assertEquals(seen, [
        [ids[0], "flow", "waiting", null, null, "1/2", "sleep", null, "10"],
        [calling, "flow", "waiting", null, null, "1/2", "call", childIds[0], "00"],
        [childIds[0], "child", "waiting", null, calling, "0/1", "sleep", null, "10"],
        [ids[2], "flow", "waiting", null, null, "1/2", "receive", "approval", "00"],
        [ids[3], "flow", "failed", "not_retryable", null, "1/1", null, null, "01"],
      ]);
    }),
  );

  test(
    "the view goes with the tables",
    inStore(context, async ({ store }) => {
      await store.admin.verify();
      const removed = await store.admin.uninstall();
      assert(removed.includes("view pgqrs_runs"), String(removed));
      await store.admin.install();
      await store.admin.verify();
    }),
  );
}
