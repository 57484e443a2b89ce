/** One execution of a workflow in a kit of its own, in which something may happen; the checks compare several. */
import { encodeValue } from "../codec.ts";
import { checkOptions } from "../options.ts";
import type { RunHandle } from "../run.ts";
import type { Store } from "../store.ts";
import type { Workflow } from "../workflow.ts";
import type { OnTrip } from "./crew.ts";
import { KIT_OPTIONS, openKit, type RunOutcome, type TestKit, type TestKitOptions } from "./kit.ts";
import { liveMessages } from "./live.ts";

/** Options of {@linkcode alwaysReplay}, {@linkcode crashEverywhere} and {@linkcode duplicateWorkers}. */
export interface TrialOptions<Output = unknown> extends Partial<TestKitOptions> {
  /** Prepares each execution: empties what steps write to, makes tables in `kit.store`. @default nothing */
  readonly setup?: (kit: TestKit) => Promise<void> | void;
  /** Does what the run needs from outside, such as `run.send` after `kit.runUntilIdle()`. @default nothing */
  readonly drive?: (kit: TestKit, run: RunHandle<Output>) => Promise<void> | void;
  /** Throws when something is wrong after an execution: with its outcome, or with what its steps have done. @default nothing */
  readonly invariant?: (outcome: RunOutcome<Output>, kit: TestKit) => Promise<void> | void;
  /**
   * What of an outcome has to be the same in all executions, for results in which there is chance or a time.
   *
   * @default all of it
   */
  readonly compare?: (outcome: RunOutcome<Output>) => unknown;
}

/** What a check has done. */
export interface TrialReport<Output = unknown> {
  /** How the undisturbed execution ended, and so every other. */
  readonly outcome: RunOutcome<Output>;
  /** How many executions there were, the undisturbed one among them. */
  readonly executions: number;
  /** How many round trips to the database the undisturbed execution made. */
  readonly roundTrips: number;
}

/**
 * What a check has found: an execution that was disturbed has ended otherwise, or the invariant does not hold.
 *
 * @example Usage
 * ```ts
 * import { workflow } from "@pgqrs/pgqrs";
 * import { crashEverywhere, TrialError } from "@pgqrs/pgqrs/testing";
 * import assert from "node:assert/strict";
 *
 * let mails = 0;
 * const flow = workflow("mail", (run, _input: null) => run.step("send", () => void mails++));
 * const checking = crashEverywhere(flow, null, {
 *   setup: () => void (mails = 0),
 *   invariant: () => assert.equal(mails, 1),
 * });
 * const error = await checking.catch((error: TrialError) => error);
 * assert.ok(error instanceof TrialError);
 * assert.match(error.disturbance, /^a crash before round trip \d+ \(recordSteps\)$/);
 * ```
 */
export class TrialError extends Error {
  /** What was let happen: `crash before round trip 7 (recordSteps)`, for example. */
  readonly disturbance: string;

  /** Made by the checks. The cause is what the invariant, or whatever else has failed, has thrown. */
  constructor(message: string, disturbance: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "TrialError";
    this.disturbance = disturbance;
  }
}

/** A workflow with its input, and how to execute it. */
export interface Subject<Input, Output> {
  readonly workflow: Workflow<Input, Output>;
  readonly input: Input;
  readonly options: TrialOptions<Output>;
}

/** What is let happen in one execution. */
export interface Disturbance {
  readonly onTrip?: OnTrip;
  /** What it was, for people; asked for afterwards. */
  name(): string;
}

/** The undisturbed execution. */
export interface Baseline<Output> {
  readonly outcome: RunOutcome<Output>;
  readonly roundTrips: number;
}

const FUNCTIONS = ["compare", "drive", "invariant", "setup"] as const;

/** Checks what a check was given. @throws {TypeError} */
export function checkTrial<Input, Output>(what: string, { options }: Subject<Input, Output>): void {
  checkOptions(what, options, [...KIT_OPTIONS, ...FUNCTIONS]);
  for (const name of FUNCTIONS) {
    const given = options[name];
    if (given !== undefined && typeof given !== "function") {
      throw new TypeError(`Cannot use ${name}: it must be a function`);
    }
  }
}

/** Executes a workflow undisturbed. */
export async function baselineOf<Input, Output>(subject: Subject<Input, Output>): Promise<Baseline<Output>> {
  return await execute(subject, { name: () => "nothing" });
}

/** Executes a workflow while something happens. @throws {TrialError} when it does not end as it does without. */
export async function disturb<Input, Output>(
  subject: Subject<Input, Output>,
  { outcome: expected }: Baseline<Output>,
  disturbance: Disturbance,
): Promise<void> {
  const { outcome } = await execute(subject, disturbance);
  const { compare = (outcome: RunOutcome<Output>): unknown => outcome } = subject.options;
  const texts = [expected, outcome].map((one) => encodeValue(compare(one)));
  if (texts[0] === texts[1]) return;
  const what = disturbance.name();
  throw new TrialError(
    `With ${what} workflow "${subject.workflow.name}" ends otherwise than without: ${texts[1]} instead of ${texts[0]}`,
    what,
  );
}

async function execute<Input, Output>(
  { workflow, input, options }: Subject<Input, Output>,
  { onTrip, name }: Disturbance,
): Promise<Baseline<Output>> {
  const { setup, drive, invariant, compare: _, workflows = [], ...rest } = options;
  const all = [workflow, ...workflows.filter((other) => other.name !== workflow?.name)];
  const kit = await openKit({ ...rest, workflows: all }, onTrip);
  try {
    await setup?.(kit);
    const run = await kit.start(workflow, input);
    await drive?.(kit, run);
    await kit.runUntilIdle();
    const { roundTrips } = kit;
    const outcome = await kit.outcome(run);
    await invariant?.(outcome, kit);
    return { outcome, roundTrips };
  } catch (error) {
    const what = name();
    const why = error instanceof Error ? error.message : String(error);
    throw new TrialError(`With ${what} the check of workflow "${workflow.name}" fails: ${why}`, what, { cause: error });
  } finally {
    await kit.close();
  }
}

/** How many steps of all runs that have not ended are recorded as ended. */
export async function endedSteps(store: Store): Promise<number> {
  let count = 0;
  for (const { id } of await liveMessages(store)) {
    const steps = await store.run(id).steps();
    count += steps.filter(({ state }) => state === "succeeded" || state === "failed").length;
  }
  return count;
}
