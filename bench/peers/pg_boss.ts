/**
 * pg-boss. Drains fetch 1,000 jobs at once and go on without a pause while fetches come back full, with two workers so that
 * one fetches while the other completes; for latency the queue notifies.
 */
import { type Job, QUEUE } from "../job.ts";
import { inParts, load, type Peer } from "./peer.ts";

interface Boss {
  on(event: "error" | "warning", listener: (error: unknown) => void): void;
  start(): Promise<unknown>;
  stop(options: object): Promise<void>;
  getQueue(name: string): Promise<unknown>;
  createQueue(name: string, options: object): Promise<void>;
  updateQueue(name: string, options: object): Promise<void>;
  send(name: string, data: object): Promise<unknown>;
  insert(name: string, jobs: readonly { readonly data: object }[]): Promise<unknown>;
  work(name: string, options: object, handler: (jobs: readonly { data: Job }[]) => Promise<void>): Promise<string>;
  offWork(name: string, options?: object): Promise<void>;
}

/** Opens pg-boss. `isNotifying` costs enqueueing much, and is the setting for latency. */
export async function open(dsn: string, isNotifying: boolean): Promise<Peer> {
  const { PgBoss } = await load<{ PgBoss: new (options: object) => Boss }>("pg-boss");
  const boss = new PgBoss({ connectionString: dsn, max: 10, useListenNotify: isNotifying, schedule: false });
  boss.on("error", (error) => console.error(error));
  boss.on("warning", () => {});
  return {
    async install() {
      await boss.start();
      if (await boss.getQueue(QUEUE) === null) await boss.createQueue(QUEUE, { notify: isNotifying });
    },
    enqueue: (job) => boss.send(QUEUE, job),
    enqueueMany: (jobs) =>
      inParts(jobs, (part) => boss.insert(QUEUE, part.map((data) => ({ data }))), { size: 1_000, atOnce: 2 }),
    async work(handle, purpose) {
      const options = purpose === "drain"
        ? { batchSize: 1_000, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5, localConcurrency: 2 }
        : { batchSize: 100, pollingIntervalSeconds: 0.5, localConcurrency: 4 };
      await boss.work(QUEUE, options, (jobs) => {
        for (const { data } of jobs) handle(data);
        return Promise.resolve();
      });
      return () => boss.offWork(QUEUE, { wait: true });
    },
    left: `select 1 from pgboss.job where name = '${QUEUE}' and state < 'completed' limit 1`,
    close: () => boss.stop({ graceful: false, close: true }),
  };
}
