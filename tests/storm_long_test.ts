/** The storms of the project's bars: a minute each, and every figure is printed. */
import { test } from "node:test";
import { assertBars, type StormBars, stormPostgres, stormSqlite } from "./support/storm.ts";

const bars: StormBars = { seconds: 60, acknowledged: 5_000, crashes: 12, pauseMs: [2_000, 5_000] };

test("every key ends as one archived message in a minute of server crashes", async () => {
  assertBars("Postgres", await stormPostgres(bars), bars);
});

test("every key ends as one archived message in a minute of killed processes on a SQLite file", async () => {
  const kills: StormBars = { ...bars, pauseMs: [900, 1_100] };
  assertBars("SQLite", await stormSqlite(kills), kills);
});
