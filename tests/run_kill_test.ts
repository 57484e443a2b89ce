/** The kill test of runs in small: a sample of `run_kill_long_test.ts` for every run of the tests. */
import { test } from "node:test";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";
import { killRuns, type RunKillSize } from "./support/run_kill.ts";

const size: RunKillSize = { seconds: 4, runs: 60, pauseMs: [300, 1_000], kills: 2, leaseMs: 1_000 };

test("every run ends once with its value while workers on Postgres are killed", async () => {
  const database = await freshPostgres();
  try {
    await killRuns("kill test of runs on Postgres", database.dsn, size);
  } finally {
    await database.close();
  }
});

test("every run ends once with its value while workers on a SQLite file are killed", async () => {
  const database = freshSqliteFile();
  try {
    await killRuns("kill test of runs on SQLite", database.dsn, size);
  } finally {
    await database.close();
  }
});
