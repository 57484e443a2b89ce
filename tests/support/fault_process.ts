/**
 * The child of the fault test: a producer or a worker that goes on whatever happens to the database.
 *
 * It tells what it does in lines, and every tenth of a second how many messages were acknowledged or completed in it.
 */
import process from "node:process";
import { connect, DatabaseError, job } from "../../mod.ts";

const [role = "", dsn = "", name = ""] = process.argv.slice(2);
const TIMEOUT_MS = 4_000;
const TICK_MS = 100;
const LOOPS = 4;
/** How long a handler takes: with the concurrency it makes for a rate that the machine can hold. */
const WORK_MS = 50;
const CONCURRENCY = 10;

process.on("unhandledRejection", (error) => console.log(`unhandled ${error}`));
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());

let count = 0;
const telling = setInterval(() => {
  if (count > 0) console.log(`rate ${Date.now()} ${count}`);
  count = 0;
}, TICK_MS);

const store = await connect(dsn, { timeoutMs: TIMEOUT_MS, connectTimeoutMs: TIMEOUT_MS, maxConnections: 4 });

/** Enqueues the same until it is acknowledged: the key makes one message of it. */
async function enqueue(key: string): Promise<void> {
  for (;;) {
    const begin = performance.now();
    try {
      await store.producer("tasks").enqueue(key, { key });
      count++;
      return console.log(`ack ${key}`);
    } catch (error) {
      if (!(error instanceof DatabaseError)) throw error;
      console.log(`error ${error.outcome} ${error.reason}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    } finally {
      console.log(`took ${Math.round(performance.now() - begin - TIMEOUT_MS)}`);
    }
  }
}

async function produce(loop: number): Promise<void> {
  for (let i = 0; !stop.signal.aborted; i++) {
    await enqueue(`${name}.${loop}.${i}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function work(): Promise<void> {
  store.on("completed", () => count++);
  store.on("error", ({ error }) => console.log(`error ${error instanceof DatabaseError ? error.reason : error}`));
  store.on("lost", () => console.log("lost"));
  const tasks = job<string>("tasks", async ({ payload }) => {
    await new Promise((resolve) => setTimeout(resolve, WORK_MS));
    return payload;
  }, { concurrency: CONCURRENCY, leaseMs: 4_000 });
  await store.worker([tasks], { name }).run({ signal: stop.signal });
}

console.log("ready");
if (role === "producer") await Promise.all(Array.from({ length: LOOPS }, (_, i) => produce(i)));
else await work();
await store.close();
clearInterval(telling);
console.log("done");
