/**
 * graphile-worker, with the settings of its own performance tests: a local queue of 500 and completions in batches for
 * drains; for latency without both, because they trade it away.
 */
import { type Job, QUEUE } from "../job.ts";
import { inParts, load, type Peer } from "./peer.ts";

interface Utils {
  migrate(): Promise<void>;
  addJob(task: string, payload: Job): Promise<unknown>;
  addJobs(specs: readonly { readonly identifier: string; readonly payload: Job }[]): Promise<unknown>;
  release(): Promise<void>;
}

interface Runner {
  stop(): Promise<void>;
}

interface Graphile {
  makeWorkerUtils(options: object): Promise<Utils>;
  run(options: object): Promise<Runner>;
  Logger: new (factory: () => () => void) => object;
}

/** Opens graphile-worker. */
export async function open(dsn: string): Promise<Peer> {
  const { makeWorkerUtils, run, Logger } = await load<Graphile>("graphile-worker");
  const logger = new Logger(() => () => {});
  const utils = await makeWorkerUtils({ connectionString: dsn, logger });
  return {
    install: () => utils.migrate(),
    enqueue: (payload) => utils.addJob(QUEUE, payload),
    enqueueMany: (jobs) =>
      inParts(jobs, (part) => utils.addJobs(part.map((payload) => ({ identifier: QUEUE, payload }))), {
        size: 1_000,
        atOnce: 2,
      }),
    async work(handle, purpose) {
      const batches = { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
      const runner = await run({
        preset: {
          worker: {
            connectionString: dsn,
            concurrentJobs: 24,
            maxPoolSize: 10,
            ...(purpose === "drain" ? batches : {}),
          },
        },
        logger,
        noHandleSignals: true,
        taskList: { [QUEUE]: (payload: Job) => handle(payload) },
        parsedCronItems: [],
      });
      return () => runner.stop();
    },
    left: "select 1 from graphile_worker._private_jobs limit 1",
    close: () => utils.release(),
  };
}
