/** The places of a limited queue with several processes and connections: never too many, and none is ever lost. */
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { connect, type Store } from "../mod.ts";
import { bareClient, freshPostgres, freshSqliteFile, type TestDatabase } from "./support/databases.ts";
import { startProcess, type TestProcess } from "./support/processes.ts";
import { until } from "./support/until.ts";

const PLACES = 4;

const BACKENDS: Readonly<Record<string, () => Promise<TestDatabase> | TestDatabase>> = {
  Postgres: freshPostgres,
  "a SQLite file": freshSqliteFile,
};

for (const [backend, open] of Object.entries(BACKENDS)) {
  describe(`concurrency of a queue on ${backend}`, () => {
    test("is never exceeded by three worker processes of which one is killed, and its places come back", async () => {
      const database = await open();
      const folder = mkdtempSync(join(tmpdir(), "pgqrs-flow-"));
      try {
        await using store = await connect(database.dsn);
        await store.admin.install();
        await store.admin.createQueue("tasks", { concurrency: PLACES });
        await fill(store);
        await work(store, database.dsn, folder);
        assertEquals((await store.admin.metrics("tasks")).failed, 0);
      } finally {
        rmSync(folder, { recursive: true });
        await database.close();
      }
    });
  });
}

async function fill(store: Store): Promise<void> {
  await store.producer("tasks").enqueueMany(Array.from({ length: 150 }, (_, n) => n));
}

async function work(store: Store, dsn: string, folder: string): Promise<void> {
  const file = new URL("./support/flow_process.ts", import.meta.url);
  const start = (): TestProcess => startProcess(file, { args: [dsn, "tasks", folder], keepInput: true });
  const ended = () => {
    for (const { stderr } of processes) assertEquals(stderr, "");
    return store.admin.archive.count({ queue: "tasks" });
  };
  await using first = start();
  await using second = start();
  await using third = start();
  const processes = [first, second, third];
  // They begin when all of them are there. Two of them have work for all places, so that somebody is left over.
  await store.admin.queues.pause("tasks");
  await until("all are there", async () => (await store.admin.workers.list()).length === 3);
  await store.admin.queues.resume("tasks");
  await until("some have ended", async () => await ended() > 50);
  const victim = processes.find(({ stdout }) => stdout.includes("running")) as TestProcess;
  victim.kill("SIGKILL");
  await victim.exited;
  // What it has left behind counts for nothing: its messages go on elsewhere only when their leases have run out.
  const stale = `${victim.pid}-`;
  for (const name of readdirSync(folder)) if (name.startsWith(stale)) rmSync(join(folder, name));
  // Without its places nobody else has any, so there has to be work until they have come back.
  const others = processes.filter((one) => one !== victim);
  await until("its places have come back", async () => {
    if ((await store.admin.metrics("tasks")).ready < 50) await fill(store);
    return others.every(({ stdout }) => stdout.includes("running"));
  });
  await until("all have ended", async () => await store.admin.messages.count() === 0 && await ended() > 0);
  const counts = processes.map(({ stdout }) => [...stdout.matchAll(/^running (\d+)$/gm)].map(([, n]) => Number(n)));
  const most = Math.max(...counts.flat());
  assertEquals(most, PLACES);
  for (const one of others) {
    one.endInput();
    assertEquals(await one.exited, { code: 0, signal: null }, one.stderr);
  }
  assertEquals(await store.admin.workers.list().then((list) => list.map(({ name }) => name)), [
    `process-${victim.pid}`,
  ]);
}

describe("concurrency of a queue on Postgres", () => {
  test("counts a lease that has run out as long as somebody has its row locked, because it may be renewed", async () => {
    const database = await freshPostgres();
    const sql = bareClient(database.dsn);
    try {
      await using store = await connect(database.dsn);
      await store.admin.install();
      await store.admin.createQueue("tasks", { concurrency: 2 });
      await store.producer("tasks").enqueueMany([1, 2, 3, 4]);
      const holder = store.consumer("tasks");
      const [message] = await holder.dequeue({ leaseMs: 1 });
      assert(message !== undefined);
      await until("the lease has run out", async () => (await store.admin.workers.stats()).expired === 1);
      await sql.begin(async (tx) => {
        await tx`select 1 from pgqrs_messages where id = ${message.id} for update`;
        assertEquals((await store.consumer("tasks").dequeue({ limit: 9, leaseMs: 60_000 })).length, 1);
        assertEquals(await store.consumer("tasks").dequeue({ limit: 9 }), []);
      });
      assert(await holder.extend(message, 60_000));
      assertLessOrEqual((await store.admin.metrics("tasks")).leased, 2);
      assertEquals(await store.consumer("tasks").dequeue({ limit: 9 }), []);
    } finally {
      await sql.end({ timeout: 5 });
      await database.close();
    }
  });

  test("is never exceeded by claims that come at once on connections of their own", async () => {
    const database = await freshPostgres();
    try {
      await using store = await connect(database.dsn);
      await store.admin.install();
      await store.admin.createQueue("tasks", { concurrency: 5 });
      await store.producer("tasks").enqueueMany(Array.from({ length: 200 }, (_, n) => n));
      const stores = await Promise.all(Array.from({ length: 6 }, () => connect(database.dsn, { maxConnections: 2 })));
      try {
        for (let round = 0; round < 20; round++) {
          const claims = stores.map((one) => one.consumer("tasks").dequeue({ limit: 3, leaseMs: 60_000 }));
          const lists = await Promise.all(claims);
          assertEquals(lists.flat().length, 5);
          await Promise.all(lists.map((list, i) => (stores[i] as Store).consumer("tasks").archiveMany(list)));
        }
      } finally {
        await Promise.all(stores.map((one) => one.close()));
      }
    } finally {
      await database.close();
    }
  });
});
