/** What the runner asks of a process that uses a queue, and what it answers. One line of JSON each. */

/** Makes tables and queue. */
export interface Install {
  readonly do: "install";
}

/** Stops handling jobs. */
export interface Rest {
  readonly do: "rest";
}

/** Enqueues many at once. */
export interface EnqueueMany {
  readonly do: "enqueueMany";
  readonly jobs: number;
}

/** Enqueues one by one. */
export interface Enqueue {
  readonly do: "enqueue";
  readonly jobs: number;
  readonly callers: number;
}

/** Enqueues one every so often, whether or not the one before has been answered. */
export interface Send {
  readonly do: "send";
  readonly jobs: number;
  readonly everyMs: number;
}

/**
 * Handles jobs until none is left, or until so many were handled. It tells how many it has handled, and asks the database
 * whether some are left only after a {@linkcode Finish}: the question is dear while there are many dead rows.
 */
export interface Drain {
  readonly do: "drain";
  readonly most?: number;
}

/** Says that all jobs have been handled, by all processes together. It has no answer. */
export interface Finish {
  readonly do: "finish";
}

/** Begins to handle jobs, noting how long each has waited. */
export interface Listen {
  readonly do: "listen";
}

/** Waits until so many were handled, and stops. */
export interface Hear {
  readonly do: "hear";
  readonly jobs: number;
}

/** Enqueues and handles as fast as it can, for so long. */
export interface Flow {
  readonly do: "flow";
  readonly seconds: number;
  readonly windowMs: number;
}

/** Anything the runner asks. */
export type Request = Drain | Enqueue | EnqueueMany | Finish | Flow | Hear | Install | Listen | Rest | Send;

/** How the lines of an answer begin, and those that tell how many jobs a drain has handled. */
export const ANSWER = "answer:";
export const HANDLED = "handled:";

/** What it took. */
export interface Took {
  /** The first and the last moment, by the clock that all processes of the machine share, in milliseconds. */
  readonly from: number;
  readonly to: number;
  /** CPU time of this process, in microseconds. */
  readonly cpuUs: number;
  readonly jobs: number;
  /** Of `hear`: how long each job has waited, in milliseconds. */
  readonly waits?: readonly number[];
  /** Of `flow`: how many jobs were handled in each window. */
  readonly windows?: readonly number[];
  /** The longest that a timer of 5 ms was late, and how often it ticked, compared to how often it should have. */
  readonly lagMs: number;
  readonly ticked: number;
}
