/**
 * plainjob. Its driver for Node is a native addon that has to be compiled; here it works on `node:sqlite` through the same
 * interface, which is as fast.
 */
import { DatabaseSync } from "node:sqlite";
import { type Job, QUEUE } from "../job.ts";
import { load, type Peer } from "./peer.ts";

interface Queue {
  add(type: string, data: Job): { id: number };
  addMany(type: string, data: readonly Job[]): { ids: number[] };
  close(): void;
}

interface PlainJob {
  defineQueue(options: object): Queue;
  defineWorker(
    type: string,
    handler: (job: { data: string }) => void,
    options: object,
  ): { start(): Promise<void>; stop(): Promise<void> };
}

/** Opens plainjob on a file. */
export async function open(dsn: string): Promise<Peer> {
  const { defineQueue, defineWorker } = await load<PlainJob>("plainjob");
  const silent = { error: console.error, warn() {}, info() {}, debug() {} };
  const queue = defineQueue({ connection: connectionTo(dsn.slice("sqlite:".length)), logger: silent });
  return {
    install: () => Promise.resolve(),
    enqueue: (job) => Promise.resolve(queue.add(QUEUE, job)),
    enqueueMany: (jobs) => Promise.resolve(queue.addMany(QUEUE, jobs)),
    work(handle) {
      const worker = defineWorker(QUEUE, ({ data }) => handle(JSON.parse(data)), { queue, logger: silent });
      void worker.start();
      return Promise.resolve(() => worker.stop());
    },
    left: "select 1 from plainjob_jobs where status < 2 limit 1",
    close: () => Promise.resolve(queue.close()),
  };
}

function connectionTo(file: string): object {
  const database = new DatabaseSync(file);
  const immediate = (work: () => unknown) => () => {
    database.exec("begin immediate");
    try {
      const result = work();
      database.exec("commit");
      return result;
    } catch (error) {
      database.exec("rollback");
      throw error;
    }
  };
  return {
    driver: "better-sqlite3",
    filename: file,
    pragma: (text: string) => database.exec(`pragma ${text}`),
    exec: (text: string) => database.exec(text),
    prepare: (text: string) => database.prepare(text),
    transaction(work: (...values: unknown[]) => unknown) {
      const run = (...values: unknown[]): unknown => immediate(() => work(...values))();
      return Object.assign(run, { immediate: run });
    },
    close: () => database.close(),
  };
}
