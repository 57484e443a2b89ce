/** EXPLAIN tests: what a hot statement reads depends on its batch alone, not on the size of any table. */
import { test } from "node:test";
import { checkPlans } from "./support/plan_bars.ts";
import { hasPostgres, startPostgres } from "./support/postgres_server.ts";

test("claim, settling and enqueue read as little at 100 000 rows of each kind as at 1 000", async () => {
  await checkPlans(100_000);
});

test("claim, settling and enqueue read as little on PostgreSQL 14", { skip: !hasPostgres(14) }, async () => {
  await using server = await startPostgres({ version: 14 });
  await checkPlans(20_000, server.dsn());
});
