/** The crash points of the project's bars: every round trip of a run that uses everything, before it and after it. */
import { test } from "node:test";
import { assertAllBars } from "./support/bars.ts";
import { sweep } from "./support/run_crash.ts";
import { postgresGround, sqliteGround } from "./support/run_crash_ground.ts";

/** How many round trips the run has at least. */
const LEAST_TRIPS = 40;

const GROUNDS = [["SQLite", sqliteGround], ["Postgres", postgresGround]] as const;
const ACCIDENTS = [["crash", "crashes"], ["theft", "stolen leases"], ["mail", "mails"]] as const;

for (const [name, open] of GROUNDS) {
  for (const [accident, word] of ACCIDENTS) {
    test(`${word} before and after every round trip of a run change nothing of what becomes of it, on ${name}`, async () => {
      await using ground = await open();
      const { trips, cases, faults } = await sweep(ground, accident);
      for (const fault of faults.slice(0, 20)) console.log(fault);
      assertAllBars(`${word} on ${name}`, [
        [`round trips, at least ${LEAST_TRIPS}`, trips, trips >= LEAST_TRIPS],
        ["before and after each of them", cases, cases >= trips * 2],
        ["other outcomes, 0", faults.length, faults.length === 0],
      ]);
    });
  }
}
