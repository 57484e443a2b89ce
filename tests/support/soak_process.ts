/**
 * The child of the soak: a producer that enqueues at a steady rate, or a worker that completes what comes.
 *
 * It tells every two seconds how much memory it holds and how many messages it has enqueued or completed.
 */
import process from "node:process";
import { connect, job } from "../../mod.ts";

const [role = "", dsn = "", rate = "300"] = process.argv.slice(2);
const TICK_MS = 20;
const PAYLOAD = "x".repeat(150);

process.on("unhandledRejection", (error) => console.log(`unhandled ${error}`));
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());

let count = 0;
const telling = setInterval(() => {
  // What the collector may leave lying for a long time does not belong to what is held.
  (globalThis as { gc?: () => void }).gc?.();
  console.log(`state ${Math.round(process.memoryUsage.rss() / 1024)} ${count}`);
}, 2_000);

const store = await connect(dsn, { maxConnections: 4 });

/** Enqueues one by one: as many in each tick as are due by then. */
async function produce(): Promise<void> {
  const producer = store.producer("soak");
  const begin = performance.now();
  for (let sent = 0; !stop.signal.aborted;) {
    const due = Math.floor((performance.now() - begin) * Number(rate) / 1_000);
    const calls = Array.from({ length: due - sent }, (_, i) => producer.enqueue({ n: sent + i, text: PAYLOAD }));
    sent = due;
    count += (await Promise.all(calls)).length;
    await new Promise((resolve) => setTimeout(resolve, TICK_MS));
  }
}

async function work(): Promise<void> {
  store.on("error", ({ error }) => console.log(`error ${error}`));
  store.on("completed", () => count++);
  const soak = job<{ n: number }>("soak", async ({ payload }) => {
    await new Promise((resolve) => setTimeout(resolve, payload.n % 10));
    return { n: payload.n };
  });
  await store.worker([soak]).run({ signal: stop.signal });
}

await (role === "producer" ? produce() : work());
await store.close();
clearInterval(telling);
console.log("done");
