/**
 * Databases on which every command has something to find, on each backend.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { copyFileSync, writeFileSync } from "node:fs";
import { connect, job, type Store, workflow } from "../../mod.ts";
import { bareClient, freshPostgres, freshSqliteFile, sharedPostgres, type TestDatabase } from "./databases.ts";
import { startWorker, until } from "./running_worker.ts";

/** Text that would control a terminal: from C0, C1, ESC, bidi, zero-width and the separators of lines. */
export const WILD =
  "\u001b[31mred\u0007 \u009b2J \u202eback\u2066 zero\u200bwidth\u200d\ufeff\u2060 \u2028\r\n\t\u007f";
/** Text that takes more columns than it has characters, or fewer. */
export const WIDE = "漢字かな交じり文 한국어 ｆｕｌｌ 🎉 👍🏽 🇩🇪 ❤️ e\u0301 ".repeat(8);

/** A database that stays as it is, and copies of it to be changed. */
export interface Scene {
  /** For commands that only look. */
  readonly dsn: string;
  copy(): Promise<TestDatabase>;
  close(): Promise<void>;
}

/** Databases of one kind. */
export interface Backend {
  readonly name: string;
  /** A database without tables. */
  bare(): Promise<TestDatabase> | TestDatabase;
  /** Makes one that is the same as another, to which nobody is connected. */
  copy(database: TestDatabase): Promise<TestDatabase>;
}

export const backends: readonly Backend[] = [
  { name: "SQLite", bare: emptySqliteFile, copy: copyOfSqlite },
  { name: "Postgres", bare: () => freshPostgres(), copy: copyOfPostgres },
];

/**
 * Makes a database with the queues "tasks" and "idle". In "tasks" 1 is ready, 2 delayed, 3 leased by "host-1", 4 has
 * succeeded, 5 and 6 are dead letters. Of the workflow "flow" 7 waits for mail, 8 sleeps, 9 is paused, 10 was cancelled.
 */
export async function openScene(backend: Backend): Promise<Scene> {
  const original = await backend.bare();
  {
    await using store = await connect(original.dsn);
    await fill(store);
  }
  const shown = await backend.copy(original);
  const close = async (): Promise<void> => {
    await shown.close();
    await original.close();
  };
  return { dsn: shown.dsn, copy: () => backend.copy(original), close };
}

/** Runs work while a worker "live" serves the queue "idle", and has been seen before now. */
export async function withWorker<T>(dsn: string, work: () => Promise<T>): Promise<T> {
  await using store = await connect(dsn);
  await using _worker = startWorker(store, [job("idle", () => {})], { name: "live" });
  await until(async () => {
    const seenAt = (await store.admin.workers.list()).find(({ name }) => name === "live")?.seenAt;
    return seenAt && (await store.ping()).now > seenAt;
  }, "the worker is there");
  return await work();
}

async function fill(store: Store): Promise<void> {
  await store.admin.install();
  await store.admin.createQueue("tasks");
  await store.admin.createQueue("idle");
  const producer = store.producer("tasks");
  await producer.enqueue({ wild: WILD, wide: WIDE }, { key: `k${WILD}`, headers: { note: WILD }, priority: 5 });
  await producer.enqueue(WIDE, { delayMs: 3_600_000, headers: { type: "late" } });
  for (const type of ["held", "done", "dead", "dead"]) {
    await producer.enqueue({ type, text: `${WIDE}${WILD}` }, { headers: { type } });
  }
  const consumer = store.consumer("tasks", { name: "host-1" });
  await consumer.dequeue({ type: "held", leaseMs: 3_600_000 });
  const [done] = await consumer.dequeue({ type: "done" });
  await consumer.archive(done ?? 0, { reason: `done ${WILD}`, result: { wild: WILD } });
  await consumer.failMany(await consumer.dequeue({ type: "dead", limit: 2 }), new Error(WILD), { retry: false });
  await fillRuns(store);
}

async function fillRuns(store: Store): Promise<void> {
  const flow = workflow<string, unknown>("flow", async (run, what) => {
    await run.step(`note ${WILD.slice(0, 20)}`, () => new Map([[what, WILD]]));
    if (what === "mail") return await run.receive("approval", { timeoutMs: 3_600_000 });
    await run.sleep("nap", 3_600_000);
  });
  const runs = [];
  for (const what of ["mail", `sleep ${WIDE}${WILD}`, "paused", "cancelled"]) {
    runs.push(await store.start(flow, what, { key: `run ${what.slice(0, 60)}` }));
  }
  await store.worker([flow], { name: "runner" }).drain();
  await runs[2]?.pause();
  await runs[3]?.cancel({ reason: `cancelled ${WILD}` });
}

/** A file that is there, and has nothing in it. */
function emptySqliteFile(): TestDatabase {
  const database = freshSqliteFile();
  writeFileSync(database.file, "");
  return database;
}

function copyOfSqlite(database: TestDatabase): Promise<TestDatabase> {
  const copy = freshSqliteFile();
  copyFileSync(database.dsn.replace(/^sqlite:/, ""), copy.file);
  return Promise.resolve(copy);
}

async function copyOfPostgres(database: TestDatabase): Promise<TestDatabase> {
  const name = `pgqrs_test_${randomUUID().replaceAll("-", "")}`;
  const dsn = new URL(database.dsn);
  const original = dsn.pathname.slice(1);
  dsn.pathname = `/${name}`;
  await administer(`create database ${name} template ${original}`);
  return { dsn: dsn.href, close: () => administer(`drop database if exists ${name} with (force)`) };
}

async function administer(statement: string): Promise<void> {
  const sql = bareClient(await sharedPostgres());
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end({ timeout: 5 });
  }
}
