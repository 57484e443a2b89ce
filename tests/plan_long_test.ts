/** The EXPLAIN tests of plan_test.ts at full size. */
import { test } from "node:test";
import { checkPlans } from "./support/plan_bars.ts";
import { hasPostgres, startPostgres } from "./support/postgres_server.ts";

test("claim, settling and enqueue read as little at 1 000 000 rows of each kind as at 1 000", async () => {
  await checkPlans(1_000_000);
});

test("claim, settling and enqueue read as little on PostgreSQL 14 too", { skip: !hasPostgres(14) }, async () => {
  await using server = await startPostgres({ version: 14 });
  await checkPlans(1_000_000, server.dsn());
});
