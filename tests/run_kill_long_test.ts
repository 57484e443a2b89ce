/** The kill test of runs of the project's bars: five minutes on Postgres, one on a SQLite file. */
import { test } from "node:test";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";
import { killRuns, type RunKillSize } from "./support/run_kill.ts";

const size: RunKillSize = { seconds: 300, runs: 2_000, pauseMs: [300, 1_000], kills: 300, leaseMs: 1_500 };

test("every run ends once with its value in five minutes of killed workers on Postgres", async () => {
  const database = await freshPostgres();
  try {
    await killRuns("kill test of runs on Postgres", database.dsn, size);
  } finally {
    await database.close();
  }
});

test("every run ends once with its value in a minute of killed workers on a SQLite file", async () => {
  const database = freshSqliteFile();
  try {
    await killRuns("kill test of runs on SQLite", database.dsn, { ...size, seconds: 60, runs: 400, kills: 60 });
  } finally {
    await database.close();
  }
});
