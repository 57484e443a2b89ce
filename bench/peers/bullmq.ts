/** BullMQ on its Postgres backend. Ended jobs are kept, which is its default. */
import { type Job, QUEUE } from "../job.ts";
import { inParts, load, type Peer } from "./peer.ts";

interface Queue {
  waitUntilReady(): Promise<unknown>;
  add(name: string, job: Job): Promise<unknown>;
  addBulk(jobs: readonly { readonly name: string; readonly data: Job }[]): Promise<unknown>;
  close(): Promise<void>;
}

interface Worker {
  on(event: "error", listener: (error: unknown) => void): void;
  waitUntilReady(): Promise<unknown>;
  close(): Promise<void>;
}

interface BullMq {
  createPostgresBackend: unknown;
  withBackend(factory: unknown): {
    readonly Queue: new (name: string, options: object) => Queue;
    readonly Worker: new (name: string, handler: (job: { data: Job }) => Promise<void>, options: object) => Worker;
  };
}

/** Opens BullMQ. */
export async function open(dsn: string): Promise<Peer> {
  const { withBackend, createPostgresBackend } = await load<BullMq>("bullmq");
  const { Queue, Worker } = withBackend(createPostgresBackend);
  const connection = { connectionString: dsn, migrate: true, max: 16 };
  const queue = new Queue(QUEUE, { connection });
  return {
    install: () => queue.waitUntilReady().then(() => {}),
    enqueue: (job) => queue.add("job", job),
    enqueueMany: (jobs) =>
      inParts(jobs, (part) => queue.addBulk(part.map((data) => ({ name: "job", data }))), { size: 1_000, atOnce: 2 }),
    async work(handle, purpose) {
      const concurrency = purpose === "drain" ? 100 : 10;
      const worker = new Worker(QUEUE, ({ data }) => Promise.resolve(handle(data)), { connection, concurrency });
      worker.on("error", (error) => console.error(error));
      await worker.waitUntilReady();
      return () => worker.close();
    },
    left: `select 1 from bullmq.job where queue = '${QUEUE}' and state in ('waiting', 'active') limit 1`,
    close: () => queue.close(),
  };
}
