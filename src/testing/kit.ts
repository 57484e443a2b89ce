/** A store in memory with a worker and a clock that is put forward: what tests of workflows are made with. */
import { CancelledError, FailedError, StateError } from "../errors.ts";
import type { MessageState } from "../message.ts";
import { checkOptions, checkTimeout, instantOf } from "../options.ts";
import type { RunHandle } from "../run.ts";
import type { Driver } from "../sql/driver.ts";
import type { StartOptions, Store } from "../store.ts";
import { isWorkflow, type Workflow, type WorkflowRef } from "../workflow.ts";
import { VirtualClock } from "./clock.ts";
import { Crew, type OnTrip } from "./crew.ts";
import { openMemory } from "./memory.ts";
import { borrow, openStore } from "./process.ts";
import { type Failures, type Mocks, Script } from "./script.ts";
import { millisecondsOf } from "./time.ts";

/** Options of {@linkcode openTestKit}. */
export interface TestKitOptions {
  /** The workflows that the kit runs: those that are started, and those that these call or start. */
  // deno-lint-ignore no-explicit-any
  readonly workflows: readonly Workflow<any, any>[];
  /** What steps do instead of what the workflow says, by name. @default nothing */
  readonly mocks?: Mocks;
  /** What the first attempts of steps fail with, by name. @default nothing */
  readonly failures?: Failures;
  /** What the clock shows at first. @default 2026-01-01T00:00:00Z */
  readonly startAt?: Date;
  /**
   * How long one call of the kit may take, in milliseconds of real time: after it a step hangs, or a workflow goes on for ever.
   *
   * @default 30000
   */
  readonly timeoutMs?: number;
}

/** How a run has ended, or how it stands when nothing goes on by itself any more. */
export interface RunOutcome<Output = unknown> {
  /** `succeeded`, `failed` or `cancelled`; `waiting`, `paused`, `blocked` and others if it has not ended. */
  readonly status: MessageState;
  /** What its function has returned; undefined unless it has succeeded. */
  readonly result: Output | undefined;
  /** The error of its last attempt; null unless it has failed with one. */
  readonly error: { readonly name: string; readonly message: string } | null;
  /** Why it has failed or was cancelled. */
  readonly reason: string | null;
}

/** The names of {@linkcode TestKitOptions}. */
export const KIT_OPTIONS: readonly string[] = ["failures", "mocks", "startAt", "timeoutMs", "workflows"];
const START_AT = new Date("2026-01-01T00:00:00Z");
const TIMEOUT_MS = 30_000;
/** So many that no test comes near them: what a check lets crash is not to die of it. */
const MAX_CRASHES = 10_000;
const ENDED: readonly string[] = ["cancelled", "failed", "succeeded"];

/**
 * A test kit: made by {@linkcode openTestKit}, closed by `await using` or `close`.
 *
 * Nothing happens by itself. `runUntilIdle`, `advance`, `result` and `execute` run what is due; between them the clock stands
 * still, and any change to the store can be made and looked at.
 *
 * @example Usage
 * ```ts
 * import { workflow } from "@pgqrs/pgqrs";
 * import { openTestKit } from "@pgqrs/pgqrs/testing";
 * import assert from "node:assert/strict";
 *
 * const ask = workflow("ask", (run, _input: null) => run.receive("answer", { timeoutMs: 86_400_000 }));
 *
 * await using kit = await openTestKit({ workflows: [ask] });
 * const run = await kit.start(ask, null);
 * await kit.advance("23h");
 * assert.equal((await kit.outcome(run)).status, "waiting");
 * await kit.advance("1h");
 * assert.equal((await kit.outcome(run)).status, "succeeded");
 * ```
 */
export class TestKit {
  readonly #driver: Driver;
  readonly #clock: VirtualClock;
  readonly #script: Script;
  readonly #crew: Crew;
  readonly #names: ReadonlySet<string>;
  /** The store: for everything that a store can do. */
  readonly store: Store;

  /** Made by {@linkcode openTestKit}. */
  constructor(driver: Driver, options: TestKitOptions, onTrip?: OnTrip) {
    const { workflows, mocks, failures, startAt = START_AT, timeoutMs = TIMEOUT_MS } = options;
    this.#driver = driver;
    this.#clock = new VirtualClock(startAt.getTime());
    this.#script = new Script(mocks, failures);
    this.#names = new Set(workflows.map(({ queue }) => queue.name));
    this.store = openStore(borrow(driver), this.#clock.now);
    const scripted = workflows.map((one) => this.#script.applyTo(one));
    this.#crew = new Crew({ driver, clock: this.#clock, store: this.store, workflows: scripted, timeoutMs, onTrip });
  }

  /** What the clock shows. */
  get now(): Date {
    return new Date(this.#clock.now());
  }

  /** How many round trips to the database the workers of the kit have made. */
  get roundTrips(): number {
    return this.#crew.trips;
  }

  /**
   * Starts a run, which is not executed yet. @throws {TypeError} when the kit was not given the workflow.
   *
   * @example Usage
   * ```ts
   * import { workflow } from "@pgqrs/pgqrs";
   * import { openTestKit } from "@pgqrs/pgqrs/testing";
   * import assert from "node:assert/strict";
   *
   * const trial = workflow("trial", async (run, _user: string) => {
   *   await run.sleep("two weeks", 14 * 86_400_000);
   *   return await run.receive<string>("answer", { timeoutMs: 86_400_000 }) ?? "no answer";
   * });
   *
   * await using kit = await openTestKit({ workflows: [trial] });
   * const run = await kit.start(trial, "ada");
   * await kit.advance("14d");
   * await run.send("answer", "yes");
   * assert.equal(await kit.result(run), "yes");
   * ```
   */
  async start<Input, Output>(
    workflow: WorkflowRef<Input, Output>,
    input: Input,
    options: StartOptions = {},
  ): Promise<RunHandle<Output>> {
    const name = workflow?.queue?.name;
    if (!this.#names.has(name)) {
      throw new TypeError(`Cannot start workflow ${JSON.stringify(name)}: it is none of the kit's \`workflows\``);
    }
    return await this.store.start(workflow, input, options);
  }

  /**
   * Runs everything until nothing goes on by itself any more, and puts the clock forward whenever all runs wait for a time.
   * What is left then waits for mail, is paused or blocked, or is executed by no worker of the kit.
   *
   * @throws {TimeoutError} when that takes longer than the kit's `timeoutMs` of real time.
   */
  async runUntilIdle(): Promise<void> {
    await this.#crew.work(Number.POSITIVE_INFINITY);
  }

  /**
   * Lets time pass, in milliseconds or as `"90s"`, `"5m"`, `"1h30m"`, `"30d"`: what comes due meanwhile is run when it does.
   * `advance(0)` runs what is due now. What the executions take is added to it, so that whatever was set for all of that time
   * has gone off.
   *
   * @throws {TimeoutError} when that takes longer than the kit's `timeoutMs` of real time.
   */
  async advance(time: number | string): Promise<void> {
    const leftMs = await this.#crew.work(millisecondsOf("the time to advance", time));
    this.#clock.jumpTo(this.#clock.now() + leftMs);
  }

  /**
   * Runs until a run has ended, and resolves to what its function has returned.
   *
   * @throws {FailedError} when it has failed.
   * @throws {CancelledError} when it was cancelled.
   * @throws {StateError} when it has not ended and does not go on by itself.
   * @throws {TimeoutError} when that takes longer than the kit's `timeoutMs` of real time.
   */
  async result<Output>(run: RunHandle<Output>): Promise<Output> {
    await this.runUntilIdle();
    const status = await run.status();
    if (ENDED.includes(status)) return await run.result();
    const waiting = (await run.steps()).filter(({ state }) => state === "waiting").map(({ key }) => `"${key}"`);
    const at = waiting.length === 0 ? "" : ` at ${waiting.join(", ")}`;
    throw new StateError(`Run ${run.id} has not ended and does not go on by itself: it is ${status}${at}`, {
      from: status,
    });
  }

  /**
   * Starts a run and runs until it has ended: `start` and `result` in one.
   *
   * @example Usage
   * ```ts
   * import { workflow } from "@pgqrs/pgqrs";
   * import { openTestKit } from "@pgqrs/pgqrs/testing";
   * import assert from "node:assert/strict";
   *
   * const double = workflow("double", (run, n: number) => run.step("double", () => n * 2));
   *
   * await using kit = await openTestKit({ workflows: [double] });
   * assert.equal(await kit.execute(double, 21), 42);
   * ```
   */
  async execute<Input, Output>(
    workflow: WorkflowRef<Input, Output>,
    input: Input,
    options: StartOptions = {},
  ): Promise<Output> {
    return await this.result(await this.start(workflow, input, options));
  }

  /** Tells how a run stands, whether it has ended or not, without running anything. */
  async outcome<Output>(run: RunHandle<Output>): Promise<RunOutcome<Output>> {
    const status = await run.status();
    const outcome = { status, result: undefined, error: null, reason: null };
    if (!ENDED.includes(status)) return outcome;
    try {
      return { ...outcome, result: await run.result() };
    } catch (error) {
      if (error instanceof CancelledError) return { ...outcome, reason: error.reason };
      if (!(error instanceof FailedError)) throw error;
      const { reason, error: last } = error;
      return { ...outcome, reason, error: last === null ? null : { name: last.name, message: last.message } };
    }
  }

  /** How often the work of steps of this name, or of the step of this key, was begun, and mocks of calls of this name. */
  count(name: string): number {
    return this.#script.count(name);
  }

  /** The names in `mocks` and `failures` that no step has had so far: mistyped, perhaps. */
  unused(): string[] {
    return this.#script.unused();
  }

  /** Ends everything. Runs that are still being executed are given up. */
  async close(): Promise<void> {
    await this.#crew.close();
    await this.store.close();
    await this.#driver.close();
  }

  /** The same as `close`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/**
 * Opens a store in memory with a worker for some workflows. Its clock stands still until something is run, and jumps to the
 * next timer whenever all runs wait: a sleep of thirty days takes some milliseconds.
 *
 * @throws {TypeError | RangeError} when an option cannot be used.
 *
 * @example Usage
 * ```ts
 * import { workflow } from "@pgqrs/pgqrs";
 * import { openTestKit } from "@pgqrs/pgqrs/testing";
 * import assert from "node:assert/strict";
 *
 * const report = workflow("report", async (run, _input: null) => {
 *   const text = await run.step("fetch", async () => await (await fetch("https://example.com")).text());
 *   await run.sleep("a month", 30 * 86_400_000);
 *   return await run.step("charge", () => `charged for ${text}`);
 * });
 *
 * await using kit = await openTestKit({
 *   workflows: [report],
 *   mocks: { fetch: () => "three words" },
 *   failures: { charge: [new Error("declined")] },
 * });
 * const run = await kit.start(report, null);
 * assert.equal(await kit.result(run), "charged for three words");
 * assert.equal(kit.count("charge"), 2);
 * assert.deepEqual((await run.steps()).map(({ key }) => key), ["fetch", "a month", "charge"]);
 * assert.equal(kit.now.toISOString().slice(0, 10), "2026-01-31");
 * ```
 */
export async function openTestKit(options: TestKitOptions): Promise<TestKit> {
  checkOptions("openTestKit", options, KIT_OPTIONS);
  return await openKit(options);
}

/** Opens a kit in which something is let happen. */
export async function openKit(options: TestKitOptions, onTrip?: OnTrip): Promise<TestKit> {
  const { workflows, startAt, timeoutMs, mocks, failures } = options ?? {};
  if (!Array.isArray(workflows) || workflows.length === 0 || !workflows.every(isWorkflow)) {
    throw new TypeError("Cannot open a test kit: `workflows` must be a list of what workflow() makes");
  }
  if (startAt !== undefined) instantOf("startAt", startAt);
  if (timeoutMs !== undefined) checkTimeout("timeoutMs", timeoutMs);
  // Wrong ones are told of before anything is opened.
  new Script(mocks, failures);
  const kit = new TestKit(await openMemory(), options, onTrip);
  try {
    await kit.store.admin.install();
    for (const { queue } of workflows) await kit.store.admin.createQueue(queue.name, { maxCrashes: MAX_CRASHES });
    return kit;
  } catch (error) {
    await kit.close();
    throw error;
  }
}
