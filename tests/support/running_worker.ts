/**
 * Workers that run while a test looks at them.
 *
 * @module
 */
import process from "node:process";
import type { Job, Store, Worker, WorkerOptions } from "../../mod.ts";

/** A worker that runs until it is stopped. */
export interface RunningWorker extends AsyncDisposable {
  readonly worker: Worker;
  /** Tells the worker to stop, and resolves when it has. */
  stop(): Promise<void>;
}

/** Starts a worker. At the end of the scope it is stopped, handlers that hang being left. */
// deno-lint-ignore no-explicit-any
export function startWorker(store: Store, jobs: readonly Job<any>[], options: WorkerOptions = {}): RunningWorker {
  const worker = store.worker(jobs, { maintenance: false, stopTimeoutMs: 0, ...options });
  const controller = new AbortController();
  const ended = worker.run({ signal: controller.signal });
  ended.catch(() => {});
  const stop = async (): Promise<void> => {
    controller.abort();
    await ended;
  };
  return { worker, stop, [Symbol.asyncDispose]: stop };
}

/** Waits until something holds, and fails when it does not for long. */
export async function until(condition: () => Promise<unknown> | unknown, what = String(condition)): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!await condition()) {
    if (performance.now() > deadline) throw new Error(`It never came true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A promise that somebody else settles. */
export interface Gate<T = void> {
  readonly passed: Promise<T>;
  open(value: T): void;
  refuse(error: unknown): void;
}

/** Makes a promise that somebody else settles. */
export function gate<T = void>(): Gate<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  promise.catch(() => {});
  return { passed: promise, open: resolve, refuse: reject };
}

/** Runs work, and resolves to the rejections that nobody heard meanwhile. */
export async function unheard(work: () => Promise<void>): Promise<unknown[]> {
  const reasons: unknown[] = [];
  const note = (reason: unknown): void => void reasons.push(reason);
  process.on("unhandledRejection", note);
  try {
    await work();
    await new Promise((resolve) => setTimeout(resolve, 0));
  } finally {
    process.off("unhandledRejection", note);
  }
  return reasons;
}
