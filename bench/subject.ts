/** What is measured: the library, or the same statements without it. */
import { connect } from "@pgqrs/pgqrs";
import { type Job, QUEUE } from "./job.ts";

/** The operations that the workloads are made of. */
export interface Subject {
  readonly name: string;
  enqueue(job: Job): Promise<unknown>;
  enqueueMany(jobs: readonly Job[]): Promise<unknown>;
  /** Takes and archives up to `limit` messages; resolves to how many. */
  work(limit: number): Promise<number>;
  close(): Promise<void>;
}

/** How long a lease lasts. */
export const LEASE_MS = 60_000;

/** The library as a user has it. */
export async function openLibrary(dsn: string): Promise<Subject> {
  const store = await connect(dsn);
  await store.admin.install();
  await store.admin.createQueue(QUEUE, { ifMissing: true });
  const producer = store.producer<Job>(QUEUE);
  const consumer = store.consumer<Job>(QUEUE, { name: "bench" });
  return {
    name: "pgqrs",
    enqueue: (job) => producer.enqueue(job),
    enqueueMany: (jobs) => producer.enqueueMany(jobs),
    async work(limit) {
      const messages = await consumer.dequeue({ limit, leaseMs: LEASE_MS });
      if (messages.length === 0) return 0;
      return (await consumer.archiveMany(messages)).filter((isHeld) => isHeld).length;
    },
    close: () => store.close(),
  };
}
