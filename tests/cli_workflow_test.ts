/** `pgqrs workflow …`: what it starts, what it tells of a run that does not move, and what may be done to one. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { connect, type Store, workflow } from "../mod.ts";
import { json, type Pgqrs, run, withDatabase } from "./support/cli.ts";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";

const nap = workflow("nap", async (run, ms: number) => {
  await run.sleep("rest", ms);
  return { slept: BigInt(ms) };
});

/** Does what its input says. */
const order = workflow<{ readonly id: number; readonly way?: string }, unknown>("order", async (run, { id, way }) => {
  await run.step("reserve", () => new Map([[id, "reserved"]]));
  if (way === "call") return await run.call(nap, 3_600_000);
  if (way === "fail") throw new TypeError("there is none left");
  return await run.receive("approval", { timeoutMs: 3_600_000 });
}, { retry: { maxAttempts: 1 } });

interface Desk {
  readonly pgqrs: Pgqrs;
  readonly dsn: string;
  readonly store: Store;
  /** Has all runs go as far as they can. */
  work(): Promise<void>;
  /** Starts a run, has it go as far as it can, and gives its id. */
  start(...args: string[]): Promise<string>;
}

const BACKENDS = [
  { name: "SQLite", open: freshSqliteFile },
  { name: "Postgres", open: () => freshPostgres() },
];

function withDesk(open: typeof BACKENDS[number]["open"], work: (desk: Desk) => Promise<void>): () => Promise<void> {
  return async () =>
    await withDatabase(async (pgqrs, dsn) => {
      await using store = await connect(dsn);
      const goOn = async (): Promise<void> => void await store.worker([order, nap], { name: "host-1" }).drain();
      const start = async (...args: string[]): Promise<string> => {
        const [started] = await json(pgqrs, "workflow", "start", ...args);
        await goOn();
        return String(started?.id);
      };
      await work({ pgqrs, dsn, store, work: goOn, start });
    }, await open());
}

/** Runs a command that fails with exit code 1, and gives what it has said. */
async function failing(pgqrs: Pgqrs, ...argv: string[]): Promise<string> {
  const { code, out, err } = await pgqrs(...argv);
  assertEquals({ code, out }, { code: 1, out: "" }, err);
  return err;
}

for (const { name, open } of BACKENDS) {
  describe(`workflows by command on ${name}`, () => {
    test(
      "start takes its input from the command line, a file or a pipe, or has none",
      withDesk(open, async ({ pgqrs, dsn, store }) => {
        const folder = mkdtempSync(join(tmpdir(), "pgqrs-cli-workflow-"));
        try {
          const file = join(folder, "input.json");
          writeFileSync(file, '{\n  "id": 2\n}\n');
          const answers = [
            await pgqrs("workflow", "start", "order", '{"id": 1}', "--format", "json"),
            await pgqrs("workflow", "start", "order", "--file", file, "--format", "json"),
            await run(["-d", dsn, "workflow", "start", "order", "-", "--format", "json"], { input: '{"id": 3}' }),
            await pgqrs("workflow", "start", "order", "--format", "json"),
          ];
          for (const [i, { code, out, err }] of answers.entries()) {
            assertEquals(code, 0, err);
            const { id, status, workflow } = JSON.parse(out);
            assertEquals([status, workflow, err], ["ready", "order", `Started run ${id}\n`]);
            assertEquals((await store.admin.runs.get(id))?.input, i === 3 ? undefined : { id: i + 1 });
          }
          const both = await pgqrs("workflow", "start", "order", "1", "--file", file);
          assertEquals([both.code, both.out], [2, ""]);
          const none = await pgqrs("workflow", "start", "order", "--file", join(folder, "none.json"));
          assertEquals([none.code, none.out], [2, ""]);
          assertStringIncludes(none.err, "ENOENT");
        } finally {
          rmSync(folder, { recursive: true });
        }
      }),
    );

    test(
      "start under one key gives one run, and takes a delay and a priority",
      withDesk(open, async ({ pgqrs }) => {
        const args = ["workflow", "start", "order", '{"id":7}', "--key", "order-7", "--delay", "1h", "--priority", "4"];
        const [first] = await json(pgqrs, ...args);
        const [second] = await json(pgqrs, ...args);
        assertEquals([first?.status, first?.key, first?.priority], ["delayed", "order-7", 4]);
        assertEquals(second?.id, first?.id);
        const refused = await failing(pgqrs, "workflow", "start", "order", '{"id":8}', "--key", "order-7");
        assertStringIncludes(refused, "another payload");
      }),
    );

    test(
      "show tells for people and for programs what a run waits for, and its steps",
      withDesk(open, async ({ pgqrs, start }) => {
        const id = await start("order", '{"id":7}');
        const [shown] = await json(pgqrs, "workflow", "show", id);
        const { status, why, waitsFor, input, steps } = shown as Record<string, Record<string, unknown>[]>;
        assertEquals([status, input], ["waiting", { id: 7 }] as never);
        assertMatch(String(why), /^waits for mail on "approval" until \d{4}-[^ ]+Z$/);
        assertEquals([waitsFor?.length, waitsFor?.[0]?.kind, waitsFor?.[0]?.topic], [1, "mail", "approval"]);
        assertEquals(steps?.map(({ key, kind, state, value }) => ({ key, kind, state, value })), [
          { key: "reserve", kind: "step", state: "succeeded", value: [[7, "reserved"]] },
          { key: "approval", kind: "receive", state: "waiting", value: null },
        ]);
        const { code, out } = await pgqrs("workflow", "show", id);
        assertEquals(code, 0);
        assertMatch(out, /^why {2,}waits for mail on "approval" until /m);
        assertMatch(
          out,
          /\n\nkey {2,}kind {2,}state {2,}[^\n]+\nreserve {2,}step {2,}succeeded {2,}[^\n]+\napproval {2,}/,
        );
      }),
    );

    test(
      "send lets a run go on, once under one key",
      withDesk(open, async ({ pgqrs, dsn, start, work }) => {
        const id = await start("order", '{"id":7}');
        const line = ["workflow", "send", id, "approval", '{"by":"ada"}', "--key", "k"];
        for (let i = 0; i < 2; i++) {
          assertEquals(await pgqrs(...line), { code: 0, out: "", err: `Sent to run ${id}\n` });
        }
        await work();
        const [shown] = await json(pgqrs, "workflow", "show", id);
        assertEquals([shown?.status, shown?.result, shown?.why], ["succeeded", { by: "ada" }, null]);
        assertStringIncludes(await failing(pgqrs, ...line), "has ended");
        const other = await start("order", '{"id":8}');
        const piped = await run(["-d", dsn, "workflow", "send", other, "approval", "-"], { input: "[1]" });
        assertEquals(piped.code, 0, piped.err);
        await work();
        assertEquals((await json(pgqrs, "workflow", "show", other))[0]?.result, [1]);
      }),
    );

    test(
      "pause, resume and wake say what a run has become, and what they cannot do",
      withDesk(open, async ({ pgqrs, start, work }) => {
        const id = await start("nap", "3600000");
        const [paused] = await json(pgqrs, "workflow", "pause", id);
        assertEquals(paused?.status, "paused");
        assertMatch(String(paused?.why), /^waits for somebody who resumes it; sleeps in "\w+" until 2/);
        assertStringIncludes(await failing(pgqrs, "workflow", "pause", id), `cannot pause run ${id}: it is paused`);
        assertStringIncludes(await failing(pgqrs, "workflow", "wake", id), `cannot wake run ${id}: it is paused`);
        const [resumed] = await json(pgqrs, "workflow", "resume", id);
        assertEquals(resumed?.status, "waiting");
        assertMatch(String(resumed?.why), /^sleeps in "\w+" until 2/);
        assertStringIncludes(await failing(pgqrs, "workflow", "resume", id), "it is waiting");
        const [woken] = await json(pgqrs, "workflow", "wake", id);
        assertEquals(woken?.status, "ready");
        await work();
        const [ended] = await json(pgqrs, "workflow", "show", id);
        // What JSON does not have is shown as the closest that it has.
        assertEquals([ended?.status, ended?.result], ["succeeded", { slept: "3600000" }]);
        assertStringIncludes(await failing(pgqrs, "workflow", "pause", id), "it has succeeded");
      }),
    );

    test(
      "cancel asks, previews, and takes along what the run waits for",
      withDesk(open, async ({ pgqrs, dsn, start }) => {
        const id = await start("order", '{"id":7,"way":"call"}');
        const [{ childIds: [child] = [] } = {}] = await json(pgqrs, "workflow", "show", id) as {
          childIds?: number[];
        }[];
        const unasked = await pgqrs("workflow", "cancel", id);
        assertEquals([unasked.code, unasked.out], [5, ""]);
        const dry = await pgqrs("workflow", "cancel", id, "--dry-run");
        assertEquals(dry.err, `This would cancel run ${id} of workflow order and 1 run that it waits for\n`);
        const denied = await run(["-d", dsn, "workflow", "cancel", id], { answer: "n" });
        assertEquals(denied.code, 5);
        const [cancelled] = await json(pgqrs, "workflow", "cancel", id, "--yes", "--reason", "not needed");
        assertEquals([cancelled?.status, cancelled?.reason, cancelled?.why], ["cancelled", "not needed", "not needed"]);
        const [of] = await json(pgqrs, "workflow", "show", String(child));
        assertEquals([of?.status, of?.parentId], ["cancelled", Number(id)]);
        for (const flag of ["--yes", "--dry-run"]) {
          assertStringIncludes(await failing(pgqrs, "workflow", "cancel", id, flag), "it has been cancelled");
        }
      }),
    );

    test(
      "retry brings back what has failed, and shows why it had",
      withDesk(open, async ({ pgqrs, start }) => {
        const id = await start("order", '{"id":7,"way":"fail"}');
        const [failed] = await json(pgqrs, "workflow", "show", id);
        const { status, error } = failed as { status: string; error: { message: string } };
        assertEquals([status, error.message], ["failed", "there is none left"]);
        const [back] = await json(pgqrs, "workflow", "retry", id);
        assertEquals([back?.status, back?.stepCount], ["ready", 1]);
        assertStringIncludes(await failing(pgqrs, "workflow", "retry", id), "it is ready");
      }),
    );

    test(
      "runs and list tell how all of them stand",
      withDesk(open, async ({ pgqrs, start, store }) => {
        assertEquals(await json(pgqrs, "workflow", "list"), []);
        const waiting = await start("order", '{"id":1}', "--key", "a");
        const failed = await start("order", '{"id":2,"way":"fail"}', "--key", "b");
        const calling = await start("order", '{"id":3,"way":"call"}');
        const ids = async (...args: string[]) =>
          (await json(pgqrs, "workflow", "runs", ...args)).map(({ id }) => String(id));
        const child = String((await store.admin.runs.get(Number(calling)))?.childIds[0]);
        assertEquals(await ids(), [child, calling, failed, waiting]);
        assertEquals(await ids("--workflow", "order", "--status", "waiting"), [calling, waiting]);
        assertEquals(await ids("--key", "b"), [failed]);
        assertEquals(await ids("--since", "2999-01-01"), []);
        assertEquals((await ids("--until", "2999-01-01")).length, 4);
        const page = await pgqrs("workflow", "runs", "--limit", "3", "--format", "ndjson");
        assertEquals(page.out.trimEnd().split("\n").length, 3);
        const [, cursor = ""] = /^There is more: --cursor (\S+)$/m.exec(page.err) ?? [];
        assertEquals(await ids("--cursor", cursor), [waiting]);
        const counts = await json(pgqrs, "workflow", "list");
        assertEquals(counts.map(({ workflow, waiting, failed }) => ({ workflow, waiting, failed })), [
          { workflow: "nap", waiting: 1, failed: 0 },
          { workflow: "order", waiting: 2, failed: 1 },
        ]);
        await store.admin.queues.pause("order");
        const [stuck] = await json(pgqrs, "workflow", "runs", "--key", "a");
        assert(String(stuck?.why).endsWith("; its queue is paused"), String(stuck?.why));
      }),
    );
  });
}
