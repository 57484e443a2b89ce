/** The property test of model_test.ts with more and longer runs, and other ones every time. */
import fc from "fast-check";
import { describe, test } from "node:test";
import { BACKENDS, commands, openModelArena } from "./support/model_run.ts";

const RUNS: Readonly<Record<string, number>> = { SQLite: 2_000, libSQL: 200, Postgres: 400 };

describe("the queue and its model, at length", () => {
  for (const [name, open] of Object.entries(BACKENDS)) {
    test(`${name} does what the model does in many long runs`, async () => {
      await using arena = await openModelArena(open);
      const property = fc.asyncProperty(commands(120), async (list) => {
        await arena.run(list);
      });
      // The seed of a failed run is part of its message.
      await fc.assert(property, { numRuns: RUNS[name] ?? 0 });
    });
  }
});
