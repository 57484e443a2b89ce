/** The library itself. */
import { connect, job } from "@pgqrs/pgqrs";
import { type Job, QUEUE } from "../job.ts";
import type { Peer } from "./peer.ts";

/** Opens the library as a user has it. */
export async function open(dsn: string): Promise<Peer> {
  const store = await connect(dsn);
  const producer = store.producer<Job>(QUEUE);
  return {
    async install() {
      await store.admin.install();
      await store.admin.createQueue(QUEUE, { ifMissing: true });
    },
    enqueue: (payload) => producer.enqueue(payload),
    enqueueMany: (payloads) => producer.enqueueMany(payloads),
    async work(handle, purpose) {
      const stop = new AbortController();
      const options = purpose === "drain" ? { concurrency: 100, prefetch: 1_000 } : { concurrency: 100 };
      const worker = store.worker([job<Job>(QUEUE, ({ payload }) => handle(payload), options)]);
      const ended = worker.run({ signal: stop.signal });
      // A worker that cannot even begin rejects; nobody waits for it before it is stopped.
      ended.catch((error) => console.error(error));
      await Promise.resolve();
      return async () => {
        stop.abort();
        await ended;
      };
    },
    left: "select 1 from pgqrs_messages limit 1",
    close: () => store.close(),
  };
}
