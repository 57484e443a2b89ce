/** What the runner asks of a process that uses an engine of workflows. One line of JSON each; answers as in protocol.ts. */

/** Makes tables. */
export interface Install {
  readonly do: "install";
}

/** Starts runs and waits for their results, so many at a time, until there were so many or the time is over. */
export interface Execute {
  readonly do: "execute";
  readonly callers: number;
  readonly steps: number;
  readonly runs?: number;
  readonly seconds?: number;
}

/** Stores runs that nobody executes yet. */
export interface Store {
  readonly do: "store";
  readonly runs: number;
  readonly steps: number;
}

/** Executes runs that are stored, until none is left. */
export interface Drain {
  readonly do: "drain";
  readonly runs: number;
}

/** Counts the steps that are recorded as done. */
export interface Recorded {
  readonly do: "recorded";
}

/** Anything the runner asks. */
export type EngineRequest = Drain | Execute | Install | Recorded | Store;

/** What it took. */
export interface EngineTook {
  /** The first and the last moment, in milliseconds. */
  readonly from: number;
  readonly to: number;
  /** CPU time of this process, in microseconds. */
  readonly cpuUs: number;
  /** How many runs have ended, or steps were counted. */
  readonly count: number;
  /** Of `execute`: from the start to the result, for each run, in milliseconds. */
  readonly waits?: readonly number[];
}
