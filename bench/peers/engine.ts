/** What every engine of workflows can do that is measured. */

/** Those that are measured, by the names of their packages. */
export type EngineName = "absurd" | "dbos" | "openworkflow" | "pgqrs";

/** What runs are executed for: to give whoever has started one its result, or because they are stored. */
export type Purpose = "drain" | "execute";

/** How an engine is opened. */
export interface EngineOptions {
  readonly dsn: string;
  /** How many runs there are under way at once. */
  readonly concurrency: number;
  /** Called when the function of a run begins. */
  onBegin(): void;
  /** Called when the function of a run returns; what the engine then does with it is still to come. */
  onReturn(): void;
}

/** An engine, as its documentation says that it works best. Its workflow has as many steps as its input says. */
export interface Engine {
  /** Makes tables, and whatever else is needed before runs are stored. */
  install(): Promise<void>;
  /** Stores runs that nobody executes before {@linkcode Engine.work}. */
  enqueueMany(runs: number, steps: number): Promise<unknown>;
  /** Begins to execute runs, until the function that it resolves to is called. */
  work(purpose: Purpose): Promise<() => Promise<unknown>>;
  /** Starts a run and waits for its result: how many steps there were. Only while {@linkcode Engine.work} is under way. */
  execute(steps: number): Promise<number>;
  /** A query that gives a row as long as some run has not ended. */
  readonly left: string;
  /** A query that counts the steps that are recorded as done. */
  readonly recorded: string;
  close(): Promise<unknown>;
}

/** The value of a step. */
export function stepValue(i: number): Promise<number> {
  return Promise.resolve(i);
}
