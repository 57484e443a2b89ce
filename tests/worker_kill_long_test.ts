/** The kill test of the project's bars: five minutes on Postgres, one on a SQLite file. */
import { test } from "node:test";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";
import { type KillSize, killWorkers } from "./support/kill.ts";

const size: KillSize = {
  seconds: 300,
  messages: 30_000,
  poisonEvery: 100,
  pauseMs: [300, 1_000],
  kills: 300,
  leaseMs: 1_500,
  maxAttempts: 3,
  maxCrashes: 10,
};

test("every message ends once and as it should in five minutes of killed workers on Postgres", async () => {
  const database = await freshPostgres();
  try {
    await killWorkers("kill test on Postgres", database.dsn, size);
  } finally {
    await database.close();
  }
});

test("every message ends once and as it should in a minute of killed workers on a SQLite file", async () => {
  const database = freshSqliteFile();
  try {
    await killWorkers("kill test on SQLite", database.dsn, { ...size, seconds: 60, messages: 6_000, kills: 60 });
  } finally {
    await database.close();
  }
});
