/**
 * Stores and workers that find messages only because they were told of them.
 *
 * @module
 */
import { Config, connect, type ConnectOptions, job, type Store, type Worker } from "../../mod.ts";
import type { DriverOptions } from "../../src/sql/driver.ts";

/** What a driver is opened with. */
export const OPTIONS: DriverOptions = {
  maxConnections: 4,
  connectTimeoutMs: 30_000,
  timeoutMs: 30_000,
  keepAliveMs: 5_000,
  useWal: true,
  pooler: "auto",
  onNotice() {},
};
/** A store that looks so rarely that whatever it finds in a test it was told of. */
export const NEVER_MS = 3_600_000;
/** The program of a process that enqueues. */
export const ENQUEUE = new URL("./enqueue_process.ts", import.meta.url);

/** Waits for a condition. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const giveUpAt = performance.now() + 30_000;
  while (!(await condition())) {
    if (performance.now() > giveUpAt) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Connects with a poll interval that `connect` itself does not take. */
export async function open(
  dsn: string,
  { schema = "public", pollIntervalMs = NEVER_MS, ...options }: ConnectOptions & { pollIntervalMs?: number } = {},
): Promise<Store> {
  const store = await connect(Config.fromDsn(dsn, { schema, pollIntervalMs }), options);
  await store.admin.install();
  await store.admin.createQueue("tasks", { ifMissing: true });
  return store;
}

/** A worker on `tasks` that notes what it got. */
export interface Running {
  readonly worker: Worker;
  readonly handled: unknown[];
  /** Resolves when it hears hints and has nothing to do. */
  ready(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts a worker. */
export function start(store: Store, queues: readonly string[] = ["tasks"]): Running {
  const handled: unknown[] = [];
  const stop = new AbortController();
  const jobs = queues.map((queue) => job(queue, ({ payload }) => void handled.push(payload)));
  const worker = store.worker(jobs, { maintenance: false });
  const run = worker.run({ signal: stop.signal });
  return {
    worker,
    handled,
    ready: () =>
      until(() => {
        const { isListening, state, lastAnswerAt } = worker.health();
        return isListening && state === "idle" && lastAnswerAt !== null;
      }, "the worker is ready"),
    async [Symbol.asyncDispose]() {
      stop.abort();
      await run;
    },
  };
}
