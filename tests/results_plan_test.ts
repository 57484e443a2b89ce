/** What heartbeats and those who wait for results read: the rows of their messages and no others, whatever was known when it was planned. */
import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { connect } from "../mod.ts";
import { freshPostgres } from "./support/databases.ts";
import { openPlanSession } from "./support/plan_probe.ts";

const WAITERS = 100;
const ROWS = 20_000;

test("listEndings and beat read by the keys alone, with a plan that was made when the tables were empty", async () => {
  const database = await freshPostgres();
  try {
    await using store = await connect(database.dsn, { maxConnections: 1 });
    await store.admin.install();
    await store.admin.createQueue("tasks");
    const session = await openPlanSession(database.dsn);
    try {
      for (const table of ["messages", "archive"]) {
        await session.sql.unsafe(`alter table pgqrs_${table} set (autovacuum_enabled = off)`);
        await session.sql.unsafe(`analyze pgqrs_${table}`);
      }
      const look = (ids: readonly number[]) =>
        session.probe(`select id, outcome from pgqrs_endings('${JSON.stringify(ids)}')`);
      // None of these messages is held by anybody: all of them are looked for in both tables.
      const beat = (ids: readonly number[]) => {
        const items = ids.map((id) => ({ id, token: 1, lease_ms: 1_000 }));
        return session.probe(`select id, fate from pgqrs_beat('${JSON.stringify(items)}', 'me#00000001', null)`);
      };
      for (let i = 0; i < 7; i++) {
        assertEquals([await look([1]), await beat([1])].map(({ rows }) => rows.length), [1, 1]);
      }
      await store.producer("tasks").enqueueMany(Array.from({ length: ROWS }, (_, n) => n));
      await session.sql.unsafe(`
        insert into pgqrs_archive (id, queue_id, outcome, priority, enqueued_at, archived_at, token, attempts, crashes,
          max_attempts, max_crashes, payload)
        select -g, 1, 'succeeded', 0, now(), now(), 1, 0, 0, 5, 10, '{"n": 1}' from generate_series(1, ${ROWS}) g`);
      const ids = Array.from({ length: WAITERS }, (_, n) => n * 100 + 1);
      const live = await look(ids);
      assertEquals(live.rows, []);
      const ended = await look(ids.map((id) => -id));
      assertEquals(ended.rows.map(({ outcome }) => outcome), Array(WAITERS).fill("succeeded"));
      const [lost, gone] = [await beat(ids), await beat(ids.map((id) => -id))];
      assertEquals([lost, gone].map(({ rows }) => rows.length), [WAITERS, WAITERS]);
      for (const { nodes, buffers } of [live, ended, lost, gone]) {
        assertEquals(nodes.filter((node) => /Seq Scan|Hash|Merge|Bitmap|Sort/.test(node)), []);
        // Up to three pages of each index and one of a table, and for a heartbeat the index of messages twice.
        assert(buffers <= 12 * WAITERS, `${buffers} buffers for ${WAITERS} messages: ${nodes}`);
      }
    } finally {
      await session.close();
    }
  } finally {
    await database.close();
  }
});
