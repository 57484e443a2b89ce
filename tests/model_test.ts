/** Property test: whatever is done to a queue, every database says and stores what a small model says. */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { describe, test } from "node:test";
import { BACKENDS, commands, openModelArena } from "./support/model_run.ts";

/** The same every time: model_long_test.ts looks for what this has not seen. */
const SEED = 20_300_101;
const RUNS: Readonly<Record<string, number>> = { SQLite: 150, libSQL: 15, Postgres: 60 };

describe("the queue and its model", () => {
  for (const [name, open] of Object.entries(BACKENDS)) {
    test(`${name} does what the model does`, async () => {
      await using arena = await openModelArena(open);
      await fc.assert(
        fc.asyncProperty(commands(80), async (list) => {
          await arena.run(list);
        }),
        { numRuns: RUNS[name] ?? 0, seed: SEED },
      );
    });
  }

  test("all databases are left in the same state by the same commands", async () => {
    const lists = fc.sample(commands(80), { numRuns: 10, seed: SEED + 1 });
    const results: unknown[] = [];
    for (const open of Object.values(BACKENDS)) {
      await using arena = await openModelArena(open);
      const states: unknown[] = [];
      for (const list of lists) states.push(await arena.run(list));
      results.push(states);
    }
    assertEquals(results[1], results[0]);
    assertEquals(results[2], results[0]);
  });
});
