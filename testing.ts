/**
 * Tests of workflows: a store in memory, a clock that is put forward, steps that are mocked or fail, and checks that crash a
 * workflow wherever it can crash.
 *
 * @example A month in some milliseconds
 * ```ts
 * import { workflow } from "@pgqrs/pgqrs";
 * import { crashEverywhere, openTestKit } from "@pgqrs/pgqrs/testing";
 * import assert from "node:assert/strict";
 *
 * const remind = workflow("remind", async (run, user: string) => {
 *   await run.sleep("a month", 30 * 86_400_000);
 *   return await run.step("mail", () => `reminded ${user}`);
 * });
 *
 * await using kit = await openTestKit({ workflows: [remind], mocks: { mail: () => "mocked" } });
 * assert.equal(await kit.execute(remind, "ada"), "mocked");
 *
 * const { outcome } = await crashEverywhere(remind, "ada");
 * assert.equal(outcome.result, "reminded ada");
 * ```
 *
 * @module
 */
import { openSqlite } from "./src/drivers/sqlite.ts";
import { provideDriver } from "./src/testing/memory.ts";

export { alwaysReplay, crashEverywhere, duplicateWorkers } from "./src/testing/checks.ts";
export { openTestKit, type RunOutcome, TestKit, type TestKitOptions } from "./src/testing/kit.ts";
export type { Failures, Mock, MockedStep, Mocks } from "./src/testing/script.ts";
export { TrialError, type TrialOptions, type TrialReport } from "./src/testing/trial.ts";

provideDriver(openSqlite);
