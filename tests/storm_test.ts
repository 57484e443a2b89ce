/** The storms in small: a sample of `storm_long_test.ts` for every run. */
import { test } from "node:test";
import { assertBars, type StormBars, stormPostgres, stormSqlite } from "./support/storm.ts";

const bars: StormBars = { seconds: 8, acknowledged: 200, crashes: 2, pauseMs: [1_000, 1_600] };

test("every key ends as one archived message while the Postgres server crashes", async () => {
  assertBars("Postgres", await stormPostgres(bars), bars);
});

test("every key ends as one archived message while processes on a SQLite file are killed", async () => {
  const kills: StormBars = { ...bars, pauseMs: [300, 600] };
  assertBars("SQLite", await stormSqlite(kills), kills);
});
