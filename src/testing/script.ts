/** Mocks and failures: what steps do instead of what the workflow says, by name. */
import { checkOptions } from "../options.ts";
import type { RunContext, StepContext, Workflow, WorkflowRef } from "../workflow.ts";

/** What a mock is told of the step that it stands for. */
export interface MockedStep {
  /** The name of the step; of a call, that of the workflow that is called. */
  readonly name: string;
  /** The name of the workflow that does the step. */
  readonly workflow: string;
  /** The id of the run. */
  readonly runId: number;
  /** Which attempt of the step this is, from 1; of a transaction, how often it was begun here. */
  readonly attempt: number;
  /** The input of a call; of anything else undefined. */
  readonly input?: unknown;
  /** Does what would have been done without the mock; of a call there is nothing but the mock, so it rejects. */
  original(): Promise<unknown>;
}

/** What a step does instead. What it returns is recorded as the value of the step; what it throws fails the attempt. */
export type Mock = (step: MockedStep) => unknown;

/**
 * Mocks by the name of the step, or by its key, such as `charge#2`, where several have one name.
 *
 * @example Usage
 * ```ts
 * import { workflow } from "@pgqrs/pgqrs";
 * import { type Mocks, openTestKit } from "@pgqrs/pgqrs/testing";
 * import assert from "node:assert/strict";
 *
 * const rates = workflow("rates", async (run, currency: string) => {
 *   const rate = await run.step("fetch", (): number => {
 *     throw new Error(`no network for ${currency}`);
 *   });
 *   return await run.step("round", () => Math.round(rate));
 * });
 * const mocks: Mocks = {
 *   fetch: () => 1.08,
 *   round: async ({ original }) => Number(await original()) + 1,
 * };
 *
 * await using kit = await openTestKit({ workflows: [rates], mocks });
 * assert.equal(await kit.execute(rates, "EUR"), 2);
 * assert.deepEqual(kit.unused(), []);
 * ```
 */
export type Mocks = Readonly<Record<string, Mock>>;

/**
 * What the attempts of a step fail with, in their order, by its name or key: the first attempt with the first, and so on.
 * Those after the last do what they should; so does one for which there stands `undefined`.
 */
export type Failures = Readonly<Record<string, readonly unknown[]>>;

/** An attempt of a step, before it is decided what it does. */
interface Attempt extends Omit<MockedStep, "original"> {
  readonly key?: string;
}

/** What steps do instead, and how often they were begun. */
export class Script {
  readonly #mocks: Mocks;
  readonly #failures: Failures;
  readonly #counts = new Map<string, number>();
  readonly #begun = new Map<string, number>();

  constructor(mocks: Mocks = {}, failures: Failures = {}) {
    checkOptions("mocks", mocks, Object.keys(mocks ?? {}));
    checkOptions("failures", failures, Object.keys(failures ?? {}));
    for (const [name, mock] of Object.entries(mocks)) {
      if (typeof mock !== "function") throw new TypeError(`Cannot mock step "${name}": it must be a function`);
    }
    for (const [name, list] of Object.entries(failures)) {
      if (!Array.isArray(list)) throw new TypeError(`Cannot fail step "${name}": it must be a list of errors`);
    }
    this.#mocks = mocks;
    this.#failures = failures;
  }

  /** How often steps of this name, or the one of this key, were begun. */
  count(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  /** The names for which something is said and which nothing has had. */
  unused(): string[] {
    const said = [...Object.keys(this.#mocks), ...Object.keys(this.#failures)];
    return [...new Set(said)].filter((name) => !this.#counts.has(name));
  }

  /** The workflow, with steps that do what is said here. */
  applyTo(workflow: Workflow): Workflow {
    return Object.freeze({
      ...workflow,
      run: (run: RunContext, input: unknown) => workflow.run(this.#contextOf(run), input),
    });
  }

  /** A context of which only those methods are our own that do steps, so that whatever it learns is there as well. */
  #contextOf(run: RunContext): RunContext {
    const own: Partial<RunContext> = {
      step: (name, work, options) => run.step(name, (step) => this.#step(run, name, work, step) as never, options),
      transaction: (name, work, options) =>
        run.transaction(name, (tx) => this.#transaction(run, name, () => work(tx)) as never, options),
      call: (child, input) => this.#call(run, child as WorkflowRef, input) as never,
      map: (items, work, options) =>
        run.map(items, (item, branch, index) => work(item, this.#contextOf(branch), index), options),
      scope: (name) => this.#contextOf(run.scope(name)),
    };
    return new Proxy(run, {
      get: (target, name) => {
        if (Object.hasOwn(own, name)) return own[name as keyof RunContext];
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  async #step(
    run: RunContext,
    name: string,
    work: (step: StepContext) => unknown,
    step: StepContext,
  ): Promise<unknown> {
    const key = step.idempotencyKey.slice(`${run.id}/`.length);
    const what = { name, key, workflow: run.workflow, runId: run.id, attempt: step.attempt };
    return await this.#do(what, async () => await work(step));
  }

  async #transaction(run: RunContext, name: string, work: () => Promise<unknown>): Promise<unknown> {
    // A transaction is not told which attempt it is.
    const attempt = next(this.#begun, `${run.id}/${name}`);
    return await this.#do({ name, workflow: run.workflow, runId: run.id, attempt }, work);
  }

  async #call(run: RunContext, child: WorkflowRef, input: unknown): Promise<unknown> {
    const { name } = child;
    if (!Object.hasOwn(this.#mocks, name)) return await run.call(child, input);
    const original = () => Promise.reject(new TypeError(`Cannot call workflow "${name}" for real: it is mocked`));
    return await run.step(name, ({ attempt }) => {
      return this.#do({ name, workflow: run.workflow, runId: run.id, attempt, input }, original);
    });
  }

  async #do({ key, ...step }: Attempt, original: () => Promise<unknown>): Promise<unknown> {
    const names = key === undefined || key === step.name ? [step.name] : [key, step.name];
    for (const name of names) next(this.#counts, name);
    const failing = names.find((name) => Object.hasOwn(this.#failures, name));
    const failure = failing === undefined ? undefined : this.#failures[failing]?.[step.attempt - 1];
    if (failure !== undefined) throw failure;
    const mocked = names.find((name) => Object.hasOwn(this.#mocks, name));
    return mocked === undefined ? await original() : await this.#mocks[mocked]?.({ ...step, original });
  }
}

function next(counts: Map<string, number>, name: string): number {
  const count = (counts.get(name) ?? 0) + 1;
  counts.set(name, count);
  return count;
}
