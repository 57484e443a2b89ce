/** A process that is killed in the middle of maintenance leaves nothing but work for the next one. */
import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { connect, type Store } from "../mod.ts";
import { freshPostgres, freshSqliteFile, type TestDatabase } from "./support/databases.ts";
import { startProcess } from "./support/processes.ts";

const OLD = 20_000;
const YOUNG = 500;

const databases: readonly (readonly [string, () => Promise<TestDatabase> | TestDatabase])[] = [
  ["SQLite", freshSqliteFile],
  ["Postgres", freshPostgres],
];

for (const [name, open] of databases) {
  test(`a round of maintenance that is killed is done again, and nothing else is lost, on ${name}`, async () => {
    const database = await open();
    try {
      await using store = await connect(database.dsn);
      await store.admin.install();
      await store.admin.createQueue("tasks");
      await store.producer("tasks").enqueueMany(Array.from({ length: 10 }, (_, n) => n));
      await fill(store, name, { from: 1_000, count: OLD, days: 31 });
      await fill(store, name, { from: 1_000 + OLD, count: YOUNG, days: 29 });
      await using child = startProcess(new URL("./support/maintain_process.ts", import.meta.url), {
        args: [database.dsn],
      });
      await child.waitFor("begins");
      while (await store.admin.archive.count() === OLD + YOUNG) await new Promise((resolve) => setTimeout(resolve, 2));
      child.kill("SIGKILL");
      await child.exited;
      const left = await store.admin.archive.count();
      assert(left > YOUNG && left < OLD + YOUNG, `${left} of ${OLD + YOUNG} are left`);
      const { messages, isDone } = await store.admin.maintain();
      assertEquals([messages, isDone], [left - YOUNG, true]);
      assertEquals(await store.admin.archive.count(), YOUNG);
      assertEquals(await store.admin.messages.count(), 10);
      await store.admin.verify();
    } finally {
      await database.close();
    }
  });
}

/** Puts rows into the archive that ended so many days ago. */
async function fill(
  store: Store,
  name: string,
  { from, count, days }: { readonly from: number; readonly count: number; readonly days: number },
): Promise<void> {
  const { now } = await store.ping();
  const ms = now.getTime() - days * 86_400_000;
  const at = name === "Postgres" ? `to_timestamp(${Math.floor(ms / 1_000)})` : String(ms);
  await store.transaction(
    (tx) =>
      tx.query(`with recursive s(n) as (select ${from} union all select n + 1 from s where n < ${from + count - 1})
    insert into pgqrs_archive (id, queue_id, outcome, priority, enqueued_at, archived_at, token, attempts, crashes,
      max_attempts, max_crashes, payload)
    select n, 1, 'succeeded', 0, ${at}, ${at}, 1, 0, 0, 5, 10, '{}' from s`),
    { timeoutMs: 30_000 },
  );
}
