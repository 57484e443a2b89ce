/** What durable workflows promise. */
import { describe } from "node:test";
import { runTests } from "../support/run_scene.ts";
import type { Context } from "./context.ts";
import { runAgainContract } from "./run_again.ts";
import { runChangeContract } from "./run_change.ts";
import { runChecksContract } from "./run_checks.ts";
import { runChildrenContract } from "./run_children.ts";
import { runControlContract } from "./run_control.ts";
import { runDataContract } from "./run_data.ts";
import { runFenceContract } from "./run_fence.ts";
import { runGoneContract } from "./run_gone.ts";
import { runMailContract } from "./run_mail.ts";
import { runParallelContract } from "./run_parallel.ts";
import { runResultsContract } from "./run_results.ts";
import { runRetriesContract } from "./run_retries.ts";
import { runStartContract } from "./run_start.ts";
import { runStepsContract } from "./run_steps.ts";
import { runWaitsContract } from "./run_waits.ts";

/** Defines the tests for one backend. */
export function runContract(context: Context): void {
  const tests = runTests(context);
  describe(`runs on ${context.name}`, () => {
    runStartContract(tests);
    runStepsContract(tests);
    runChecksContract(tests);
    runRetriesContract(tests);
    runWaitsContract(tests);
    runMailContract(tests);
    runChildrenContract(tests);
    runParallelContract(tests);
    runControlContract(tests);
    runAgainContract(tests);
    runResultsContract(tests);
    runChangeContract(tests);
    runDataContract(tests);
    runFenceContract(tests);
    runGoneContract(tests);
  });
}
