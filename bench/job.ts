/** The job of all workloads. */

/** About 200 bytes of JSON. */
export interface Job {
  readonly n: number;
  readonly text: string;
  /** When it was enqueued, by the clock that all processes of the machine share, in milliseconds. */
  readonly at?: number;
}

/** The queue that all workloads use. */
export const QUEUE = "bench";

/** The workflow that all engines run. */
export const WORKFLOW = "steps";

/** Makes a job. */
export function newJob(n: number): Job {
  return { n, text: `${n}`.padEnd(180, "lorem ipsum ") };
}
