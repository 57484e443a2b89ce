/** A worker process that is told to stop: what becomes of what it holds, and how it ends. */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import process from "node:process";
import { connect, type Store } from "../mod.ts";
import { freshPostgres, freshSqliteFile, type TestDatabase } from "./support/databases.ts";
import { Gate } from "./support/gate.ts";
import { startProcess, type TestProcess } from "./support/processes.ts";
import { until } from "./support/until.ts";

const SCRIPT = new URL("./support/stop_process.ts", import.meta.url);
/** Handled before the others, so quickly that many are claimed ahead. */
const QUICK = 1_000;
const CONCURRENCY = 2;

const GROUNDS: Readonly<Record<string, () => Promise<TestDatabase> | TestDatabase>> = {
  "a SQLite file": freshSqliteFile,
  Postgres: freshPostgres,
};

interface Ground {
  readonly store: Store;
  readonly gate: Gate;
  readonly child: TestProcess;
}

/** Starts a worker process and waits until it has begun as many of these messages as it may at once. */
async function withWorker(
  open: () => Promise<TestDatabase> | TestDatabase,
  payloads: readonly string[],
  args: readonly string[],
  work: (ground: Ground) => Promise<void>,
): Promise<void> {
  const database = await open();
  try {
    await using store = await connect(database.dsn);
    await store.admin.install();
    await store.admin.createQueue("tasks");
    using gate = new Gate();
    await store.producer<string>("tasks").enqueueMany(payloads);
    await using child = startProcess(SCRIPT, { args: [database.dsn, gate.path, ...args] });
    for (let i = 0; i < CONCURRENCY; i++) await child.waitFor("begin");
    await work({ store, gate, child });
  } finally {
    await database.close();
  }
}

/** Not by `child.kill`, after which Deno reports the signal whatever became of the process. */
function terminate({ pid }: TestProcess): void {
  process.kill(pid, "SIGTERM");
}

/** Which states the live messages are in, how many attempts and crashes they have, and how many there are of each. */
async function census(store: Store): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const { state, attempts, crashes } of (await store.admin.messages.list({ limit: 1_000 })).items) {
    const kind = `${state} ${attempts} ${crashes}`;
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

for (const [name, open] of Object.entries(GROUNDS)) {
  describe(`a worker process on ${name} that is told to stop`, () => {
    test("finishes what it handles, gives back the rest at once without an attempt, and ends with code 0", async () => {
      const payloads = [...Array(QUICK).fill("quick"), ...Array(40).fill("slow")];
      await withWorker(open, payloads, [], async ({ store, gate, child }) => {
        terminate(child);
        const [, running, waiting] = (await child.waitFor("stopping")).split(" ");
        assertEquals(Number(running), CONCURRENCY);
        assert(Number(waiting) > 0, "it should have held more than it handled");
        const given = { "leased 0 0": CONCURRENCY, "ready 0 0": 40 - CONCURRENCY };
        await until("the rest is given back", async () => (await census(store))["ready 0 0"] === 40 - CONCURRENCY);
        assertEquals(await census(store), given);
        // Others get it at once, while the handlers go on.
        const others = await store.consumer("tasks").dequeue({ limit: 100 });
        assertEquals(others.length, 40 - CONCURRENCY);
        gate.open();
        assertEquals(await child.exited, { code: 0, signal: null });
        assertEquals(child.stdout.split("\n").at(-2), "stopped");
        assertEquals(child.stderr, "");
        assertEquals(await store.admin.archive.count({ outcome: "succeeded" }), QUICK + CONCURRENCY);
        assertEquals(await census(store), { "leased 0 0": 40 - CONCURRENCY });
        assertEquals((await store.admin.workers.list()).map(({ startedAt }) => startedAt), [null]);
      });
    });

    test("ends at once at the second signal", async () => {
      await withWorker(open, ["slow", "slow", "slow"], [], async ({ store, child }) => {
        terminate(child);
        await child.waitFor("stopping");
        terminate(child);
        assertEquals(await child.exited, { code: 130, signal: null });
        // What it handled comes back when the leases end.
        assertEquals((await census(store))["leased 0 0"], CONCURRENCY);
      });
    });

    test("gives back what is not done when its time is over, without an attempt, and ends with code 0", async () => {
      await withWorker(open, ["hangs", "hangs", "slow"], ["100"], async ({ store, child }) => {
        terminate(child);
        assertEquals(await child.exited, { code: 0, signal: null });
        assertEquals(child.stdout.split("\n").at(-2), "stopped");
        assertEquals(await census(store), { "ready 0 0": 3 });
      });
    });
  });
}
