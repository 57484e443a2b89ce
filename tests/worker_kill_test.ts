/** The kill test in small: a sample of `worker_kill_long_test.ts` for every run. */
import { test } from "node:test";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";
import { type KillSize, killWorkers } from "./support/kill.ts";

const size: KillSize = {
  seconds: 8,
  messages: 1_500,
  poisonEvery: 100,
  pauseMs: [300, 1_000],
  kills: 4,
  leaseMs: 800,
  maxAttempts: 3,
  maxCrashes: 6,
};

test("every message ends once and as it should while workers on Postgres are killed", async () => {
  const database = await freshPostgres();
  try {
    await killWorkers("kill test on Postgres", database.dsn, size);
  } finally {
    await database.close();
  }
});

test("every message ends once and as it should while workers on a SQLite file are killed", async () => {
  const database = freshSqliteFile();
  try {
    await killWorkers("kill test on SQLite", database.dsn, size);
  } finally {
    await database.close();
  }
});
