/** A crash of the worker, or a stolen lease, at the round trips of a run that uses everything: a sample for every run. */
import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { commitLate } from "./support/run_commit_late.ts";
import { type Accident, sweep, type SweepOptions } from "./support/run_crash.ts";
import { postgresGround, sqliteGround } from "./support/run_crash_ground.ts";

const GROUNDS = [["SQLite", sqliteGround], ["Postgres", postgresGround]] as const;

/** Before the others nothing has changed since the one before; the long variant has them as well, and what comes after each. */
const WRITES = [
  "archiveLeased",
  "begin",
  "commit",
  "enqueueMessages",
  "failLeased",
  "parkRuns",
  "receiveMail",
  "recordSteps",
  "run",
  "settleAndClaim",
];
/** Whoever takes a lease away waits for the transaction that has recorded a step, and here that one would wait for the thief. */
const UNLOCKED = WRITES.filter((name) => name !== "commit");
/** Between these two a run decides that nothing has come. */
const LOOKS = ["parkRuns", "receiveMail"];

const SAMPLES: Readonly<Record<string, Readonly<Record<Accident, SweepOptions>>>> = {
  SQLite: { crash: { names: WRITES }, mail: { names: LOOKS }, theft: { names: WRITES, stride: 3 } },
  Postgres: { crash: { names: WRITES, stride: 4 }, mail: { names: LOOKS }, theft: { names: UNLOCKED, stride: 8 } },
};

/** How many round trips that count there are at least: fewer, and the sweep has not seen all of the run. */
const LEAST_TRIPS: Readonly<Record<Accident, number>> = { crash: 30, mail: 5, theft: 30 };

const ACCIDENTS: Readonly<Record<Accident, string>> = {
  crash: "a worker that dies",
  theft: "a lease that is taken away",
  mail: "mail that comes",
};

for (const [name, open] of GROUNDS) {
  for (const [accident, what] of Object.entries(ACCIDENTS) as [Accident, string][]) {
    test(`${what} at a round trip changes nothing of what becomes of a run, on ${name}`, async () => {
      await using ground = await open();
      const { trips, faults } = await sweep(ground, accident, { when: "before", ...SAMPLES[name]?.[accident] });
      assertEquals(faults, []);
      assert(trips >= LEAST_TRIPS[accident], `only ${trips} round trips were seen`);
    });
  }
}

test("a lease that is taken away from a transaction has it executed once, on Postgres", async () => {
  await using ground = await postgresGround();
  const { trips, faults } = await sweep(ground, "theft", { when: "before", names: ["begin", "run"] });
  assertEquals(faults, []);
  assert(trips >= 2, `only ${trips} round trips were seen`);
});

test("a transaction whose commit is still under way when its record is looked for is executed once, on Postgres", async () => {
  await using ground = await postgresGround();
  const { rows, value } = await commitLate(ground);
  assertEquals(rows, [value]);
});
