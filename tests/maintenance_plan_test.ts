/**
 * EXPLAIN test of maintenance: what a batch reads depends on its size alone, however much is kept, whatever the statistics
 * say, and under every way of planning.
 */
import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import postgres from "postgres";
import { connect } from "../mod.ts";
import { postgres as dialect } from "../src/sql/dialect.ts";
import { findOverdue, forgetWorkers, purgeDead, purgeEnded, purgeKeys } from "../src/sql/maintenance.ts";
import { render, type Statement } from "../src/sql/sql.ts";
import { freshPostgres } from "./support/databases.ts";
import { openPlanSession, type PlanSession, type Probe } from "./support/plan_probe.ts";

const SIZE = 50_000;
const BATCH = 100;

/** Each statement with how many buffers it may touch for each row of its batch. */
const STATEMENTS: readonly (readonly [Statement, number])[] = [
  [purgeEnded(1, BATCH, null), 15],
  [purgeEnded(1, BATCH, { archivedAt: 0, id: 1 }), 15],
  [purgeDead(1, BATCH), 15],
  [purgeKeys(undefined, BATCH, null), 15],
  [purgeKeys(undefined, BATCH, { queueId: 1, key: "key 1" }), 15],
  [findOverdue(0, BATCH), 5],
  [forgetWorkers(300_000, BATCH), 5],
];

test("a batch of maintenance reads only what it deletes, by an index, whatever the statistics say", async () => {
  const database = await freshPostgres();
  const sql = postgres(database.dsn, { max: 1, onnotice() {}, fetch_types: false });
  const sessions: PlanSession[] = [];
  try {
    await prepare(database.dsn, sql);
    for (const mode of ["force_generic_plan", "force_custom_plan"]) {
      sessions.push(await openPlanSession(database.dsn, [`set plan_cache_mode = ${mode}`]));
    }
    for (const situation of ["statistics of the empty tables", "after ANALYZE"]) {
      if (situation === "after ANALYZE") await sql.unsafe("analyze");
      for (const session of sessions) {
        for (const [statement, each] of STATEMENTS) {
          check(await probe(session, statement), each, `${statement.name}, ${situation}`);
        }
      }
    }
    const [{ count } = { count: 0 }] = await sql.unsafe<{ count: string }[]>("select count(*) from pgqrs_archive");
    // Eight calls of purgeEnded of which half begin after a place, and four of purgeDead.
    assertEquals(Number(count), 4 * SIZE - 12 * BATCH, "the statements have deleted what they were to delete");
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
    await sql.end({ timeout: 5 });
    await database.close();
  }
});

function check({ buffers, nodes }: Probe, each: number, what: string): void {
  // The queues and the workers are few.
  const bad = nodes.filter((node) => /Seq Scan pgqrs_(archive|keys|messages)|Bitmap|Hash Join|Merge/.test(node));
  assertEquals(bad, [], what);
  assert(buffers <= each * BATCH, `${what}: ${buffers} buffers, ${nodes}`);
}

/** Executes all parts in one transaction, as the driver does, and tells of the last. */
async function probe(session: PlanSession, statement: Statement): Promise<Probe> {
  const parts = render(statement, { dialect, schema: "public" }).parts;
  await session.sql.unsafe("begin");
  try {
    let last: Probe | undefined;
    for (const { text, values } of parts) last = await session.probe(text, values as (string | null)[]);
    if (last === undefined) throw new Error("there are no parts");
    return last;
  } finally {
    await session.sql.unsafe("commit");
  }
}

/** Of each kind so many that are kept no longer and so many that are kept, and statistics from before. */
async function prepare(dsn: string, sql: postgres.Sql): Promise<void> {
  await using store = await connect(dsn, { maxConnections: 2 });
  await store.admin.install();
  await store.admin.createQueue("tasks");
  for (const table of ["messages", "archive", "keys", "workers"]) {
    await sql.unsafe(`alter table pgqrs_${table} set (autovacuum_enabled = off)`);
  }
  await sql.unsafe("analyze");
  const series = `generate_series(1, ${SIZE}) g`;
  for (
    const [outcome, days, from] of [["succeeded", 40, 0], ["failed", 40, 1], ["succeeded", 1, 2], ["failed", 1, 3]]
  ) {
    await sql.unsafe(`
      insert into pgqrs_archive (id, queue_id, outcome, priority, enqueued_at, archived_at, token, attempts, crashes,
        max_attempts, max_crashes, payload)
      select ${from} * ${SIZE} + g, 1, '${outcome}', 0, now(), now() - interval '${days} days' + g * interval '1 ms',
        1, 0, 0, 5, 10, '{}' from ${series}`);
  }
  await sql.unsafe(`
    insert into pgqrs_keys (queue_id, key, message_id, hash, hold, expires_at)
    select 1, 'key ' || g, g, 'js:0', 'default', now() + (g % 2 - 0.5) * interval '1 day' from ${series}`);
  await sql.unsafe(`
    insert into pgqrs_messages (queue_id, state, priority, due_at, enqueued_at, token, holder, leased_at, lease_until,
      max_attempts, max_crashes, payload)
    select 2, 'leased', 0, now(), now(), 1, 'other', now(), now(), 5, 10, '{}' from ${series}`);
  await sql.unsafe(`
    insert into pgqrs_workers (holder, name, queues, started_at, seen_at)
    select 'dead ' || g, 'dead', '["tasks"]', now(), now() - interval '1 hour' from generate_series(1, 20) g`);
}
