/** EXPLAIN tests: what a hot statement reads depends on its batch alone, not on the size of any table. */
import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { checkPlans, claimUnderSnapshot, claimWithHint } from "./support/plan_bars.ts";
import { hasPostgres, startPostgres } from "./support/postgres_server.ts";

test("claim, settling and enqueue read as little at 100 000 rows of each kind as at 1 000", async () => {
  await checkPlans(100_000);
});

test("claim, settling and enqueue read as little on PostgreSQL 14", { skip: !hasPostgres(14) }, async () => {
  await using server = await startPostgres({ version: 14 });
  await checkPlans(20_000, server.dsn());
});

test("claims under an old snapshot do not read again what is gone", async () => {
  const { buffers, dead } = await claimUnderSnapshot();
  assert(buffers <= 250, `ten messages behind ${dead} that are gone took ${buffers} buffers`);
});

test("a claim with a hint that leads to too few messages begins anew", async () => {
  assertEquals(await claimWithHint(20), 20);
});
