/**
 * The child of the stop test: a worker that stops at the first signal, and whose process is over at the second.
 */
import process from "node:process";
import { connect, job } from "../../mod.ts";
import { passGate } from "./gate.ts";

const [dsn = "", gate = "", stopTimeoutMs = "30000"] = process.argv.slice(2);
const stop = new AbortController();
process.on("SIGTERM", () => stop.signal.aborted ? process.exit(130) : stop.abort());

const store = await connect(dsn);
store.on("started", ({ message }) => {
  if (message.payload !== "quick") console.log(`begin ${message.id}`);
});
store.on("workerStopping", ({ running }) => console.log(`stopping ${running} ${worker.health().waiting}`));
const work = job<string>("tasks", async ({ payload }) => {
  if (payload === "slow") await passGate(gate);
  if (payload === "hangs") await new Promise(() => {});
  return payload;
}, { concurrency: 2 });
const worker = store.worker([work], { stopTimeoutMs: Number(stopTimeoutMs) });
await worker.run({ signal: stop.signal });
await store.close();
console.log("stopped");
