/** Drains a queue, with a timeout that is far away, and then has nothing more to do. */
import { connect, job } from "../../mod.ts";

const store = await connect("sqlite::memory:");
await store.admin.install();
await store.admin.createQueue("tasks");
await store.producer("tasks").enqueueMany([1, 2, 3]);
const worker = store.worker([job("tasks", () => {}, { timeoutMs: 86_400_000, retry: { maxAttempts: 1 } })]);
const { completed } = await worker.drain();
await store.close();
console.log(`drained ${completed}`);
