/** A worker that stands still for longer than its leases: others do its work, and what it writes later changes nothing. */
import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import process from "node:process";
import { connect } from "../mod.ts";
import { freshPostgres, freshSqliteFile, type TestDatabase } from "./support/databases.ts";
import { Gate } from "./support/gate.ts";
import { startProcess, type TestProcess } from "./support/processes.ts";
import { until } from "./support/until.ts";

const SCRIPT = new URL("./support/freeze_process.ts", import.meta.url);
const LEASE_MS = 1_500;
const KINDS = ["resolves", "throws", "progresses"];

function count(child: TestProcess, word: string): number {
  return child.stdout.split("\n").filter((line) => line.startsWith(`${word} `)).length;
}

/** Lets a process end as its operator would. */
async function stop(child: TestProcess): Promise<void> {
  child.kill("SIGTERM");
  await child.exited;
  assert(child.stdout.endsWith("done\n"), `${child.stdout}\n${child.stderr}`);
}

async function checkFrozen({ dsn }: TestDatabase, kinds: readonly string[]): Promise<void> {
  await using store = await connect(dsn);
  await store.admin.install();
  await store.admin.createQueue("tasks");
  using gate = new Gate();
  const messages = await store.producer<string>("tasks").enqueueMany(kinds);
  const ids = messages.map(({ id }) => id);
  await using frozen = startProcess(SCRIPT, { args: [dsn, "frozen", String(LEASE_MS), gate.path] });
  await until("all are begun", () => count(frozen, "begin") === ids.length, 30_000);
  await using other = startProcess(SCRIPT, { args: [dsn, "other", String(LEASE_MS)] });
  await other.waitFor("ready");
  assertEquals(count(frozen, "lost"), 0);

  const frozenAt = performance.now();
  process.kill(frozen.pid, "SIGSTOP");
  await until("another one has done it all", async () => await store.admin.archive.count() === ids.length, 30_000);
  await until("twice the lease is over", () => performance.now() - frozenAt > 2 * LEASE_MS);
  const archived = await Promise.all(ids.map((id) => store.admin.archive.get(id)));
  assertEquals(archived.map((one) => one?.result), kinds.map((kind) => `${kind} by other`));
  assertEquals(archived.map((one) => [one?.crashes, one?.attempts]), kinds.map(() => [1, 0]));

  gate.open();
  process.kill(frozen.pid, "SIGCONT");
  await until("it knows what it has lost", () => count(frozen, "lost") === ids.length, 30_000);
  await until("its handlers have ended", () => count(frozen, "aborted") === KINDS.length, 30_000);
  await stop(other);
  // It goes on as if nothing had happened.
  const after = await store.producer<string>("tasks").enqueue("after");
  assertEquals(await store.result(after, { timeoutMs: 60_000 }), "after by frozen");
  await stop(frozen);
  assertEquals(await Promise.all(ids.map((id) => store.admin.archive.get(id))), archived);
  const lines = frozen.stdout.split("\n");
  assertEquals(lines.filter((line) => /^(completed|failed|unhandled)/.test(line)), [`completed ${after.id}`]);
  assertEquals(lines.filter((line) => line.startsWith("lost")).sort(), ids.map((id) => `lost ${id}`).sort());
  assertEquals(lines.filter((line) => line.startsWith("aborted")), KINDS.map(() => "aborted LeaseLostError"));
  assertEquals(lines.filter((line) => line.startsWith("progress")), ["progress false"]);
  const transactions = kinds.includes("transacts") ? ["transaction LeaseLostError"] : [];
  assertEquals(lines.filter((line) => line.startsWith("transaction")), transactions);
}

test("a worker on Postgres that was frozen for twice its lease changes nothing, and hears that it has lost", async () => {
  const database = await freshPostgres();
  try {
    await checkFrozen(database, [...KINDS, "transacts"]);
  } finally {
    await database.close();
  }
});

test("a worker on a SQLite file that was frozen for twice its lease changes nothing, and hears it", async () => {
  const database = freshSqliteFile();
  try {
    // Its transaction would keep everybody else from writing for as long as it is frozen.
    await checkFrozen(database, KINDS);
  } finally {
    await database.close();
  }
});
