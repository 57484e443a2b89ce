/** Checks that break the execution of a workflow in all ways in which processes break, and look whether anybody notices. */
import type { Workflow } from "../workflow.ts";
import type { KitTrip } from "./crew.ts";
import type { When } from "./process.ts";
import {
  baselineOf,
  checkTrial,
  disturb,
  type Disturbance,
  endedSteps,
  type Subject,
  type TrialOptions,
  type TrialReport,
} from "./trial.ts";

/** After which round trips a step may have ended. */
const RECORDING: readonly string[] = ["commit", "receiveMail", "recordSteps"];
/** Before which the lease decides whether what was done counts. */
const FENCED: readonly string[] = [
  "archiveLeased",
  "begin",
  "parkRuns",
  "receiveMail",
  "recordSteps",
  "settleAndClaim",
];

/**
 * Executes a workflow once undisturbed and counts its round trips to the database; then once with a crash before and once
 * with a crash after each of them. Another worker goes on when the lease is over. Each execution has to end as the undisturbed
 * one did, and the invariant has to hold after each.
 *
 * A crash here ends what a worker writes, and not the JavaScript: what a step was doing at that moment in another branch goes
 * on until it next reaches its run.
 *
 * @throws {TrialError} at the first execution that ends otherwise, or after which the invariant throws.
 *
 * @example Usage
 * ```ts
 * import { workflow } from "@pgqrs/pgqrs";
 * import { crashEverywhere } from "@pgqrs/pgqrs/testing";
 * import assert from "node:assert/strict";
 *
 * const payments = new Map<string, number>();
 * const pay = workflow("pay", async (run, amount: number) => {
 *   await run.step("charge", ({ idempotencyKey }) => void payments.set(idempotencyKey, amount));
 *   await run.sleep("settlement", 2 * 86_400_000);
 *   return await run.step("receipt", () => `paid ${amount}`);
 * });
 *
 * const { outcome, executions, roundTrips } = await crashEverywhere(pay, 7, {
 *   setup: () => payments.clear(),
 *   invariant: () => assert.deepEqual([...payments.values()], [7]),
 * });
 * assert.equal(outcome.result, "paid 7");
 * assert.ok(executions > roundTrips);
 * ```
 */
export async function crashEverywhere<Input, Output>(
  workflow: Workflow<Input, Output>,
  input: Input,
  options: TrialOptions<Output> = {},
): Promise<TrialReport<Output>> {
  const subject = { workflow, input, options };
  checkTrial("crashEverywhere", subject);
  const baseline = await baselineOf(subject);
  let executions = 1;
  for (let number = 1; number <= baseline.roundTrips; number++) {
    for (const when of ["before", "after"] as const) {
      await disturb(subject, baseline, crashAt(number, when));
      executions++;
    }
  }
  return { ...baseline, executions };
}

/**
 * Executes a workflow once undisturbed, and once with a crash after each step that has ended, so that each step is followed by
 * a replay of everything before it. Both have to end alike: it finds code between the steps that does not do the same every
 * time.
 *
 * @throws {TrialError} when they do not, or when the invariant throws.
 *
 * @example Usage
 * ```ts
 * import { workflow } from "@pgqrs/pgqrs";
 * import { alwaysReplay, TrialError } from "@pgqrs/pgqrs/testing";
 * import assert from "node:assert/strict";
 *
 * let executions = 0;
 * const flow = workflow("unsteady", async (run, _input: null) => {
 *   const path = ++executions === 1 ? "once" : "again";
 *   await run.step("work", () => "done");
 *   return path;
 * });
 * await assert.rejects(alwaysReplay(flow, null, { setup: () => void (executions = 0) }), TrialError);
 * ```
 */
export async function alwaysReplay<Input, Output>(
  workflow: Workflow<Input, Output>,
  input: Input,
  options: TrialOptions<Output> = {},
): Promise<TrialReport<Output>> {
  const subject = { workflow, input, options };
  checkTrial("alwaysReplay", subject);
  const baseline = await baselineOf(subject);
  await disturb(subject, baseline, crashAfterSteps(baseline.roundTrips));
  return { ...baseline, executions: 2 };
}

/**
 * Executes a workflow once undisturbed, and twice with two workers at it: whenever a step is about to be recorded, or was, the
 * lease runs out and another worker takes the run, while the one that had it goes on and does not know. All have to end
 * alike.
 *
 * @throws {TrialError} when they do not, or when the invariant throws.
 *
 * @example Usage
 * ```ts
 * import { workflow } from "@pgqrs/pgqrs";
 * import { duplicateWorkers } from "@pgqrs/pgqrs/testing";
 * import assert from "node:assert/strict";
 *
 * let sent = 0;
 * const flow = workflow("mail", async (run, to: string) => {
 *   await run.step("send", () => void sent++);
 *   return to;
 * });
 * const { outcome } = await duplicateWorkers(flow, "ada", {
 *   setup: () => void (sent = 0),
 *   invariant: () => assert.ok(sent >= 1 && sent <= 2),
 * });
 * assert.equal(outcome.result, "ada");
 * ```
 */
export async function duplicateWorkers<Input, Output>(
  workflow: Workflow<Input, Output>,
  input: Input,
  options: TrialOptions<Output> = {},
): Promise<TrialReport<Output>> {
  const subject: Subject<Input, Output> = { workflow, input, options };
  checkTrial("duplicateWorkers", subject);
  const baseline = await baselineOf(subject);
  for (const when of ["before", "after"] as const) {
    await disturb(subject, baseline, stealEverywhere(when, baseline.roundTrips));
  }
  return { ...baseline, executions: 3 };
}

function crashAt(number: number, when: When): Disturbance {
  let statement = "";
  return {
    name: () => `a crash ${when} round trip ${number}${statement && ` (${statement})`}`,
    onTrip: (trip) => {
      if (trip.number !== number || trip.when !== when || statement !== "") return;
      statement = trip.statement;
      trip.crash();
    },
  };
}

/** At most so often: code that takes another way every time would go on for ever. */
function crashAfterSteps(most: number): Disturbance {
  let ended = 0;
  let count = 0;
  return {
    name: () => "a crash after every step",
    onTrip: async (trip) => {
      if (trip.when !== "after" || trip.isInside || !RECORDING.includes(trip.statement) || count >= most) return;
      const now = await endedSteps(trip.store);
      if (now <= ended) return;
      ended = now;
      count++;
      trip.crash();
    },
  };
}

/** Once for each number of steps that have ended, because the other worker has to get further, and at most so often. */
function stealEverywhere(when: When, most: number): Disturbance {
  const done = new Set<number>();
  const isMeant = ({ statement }: KitTrip): boolean => (when === "before" ? FENCED : RECORDING).includes(statement);
  return {
    name: () => `a lease that is stolen ${when} every step is recorded`,
    onTrip: async (trip) => {
      if (trip.when !== when || trip.isInside || !isMeant(trip)) return;
      const ended = await endedSteps(trip.store);
      if (done.has(ended) || done.size >= most) return;
      done.add(ended);
      await trip.steal();
    },
  };
}
