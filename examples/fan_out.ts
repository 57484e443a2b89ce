/**
 * A thousand items side by side: `deno run -A examples/fan_out.ts [dsn]`. Without a DSN everything lives in memory.
 *
 * Each item has a scope of its own, so it does not matter in which order they end. Were the process to die in the middle, the
 * next one would do only what is not recorded yet.
 *
 * @module
 */
import process from "node:process";
import { connect, workflow } from "@pgqrs/pgqrs";

let underWay = 0;
let most = 0;
let done = 0;

/** Stands for a call of somebody else's service. */
async function measure(item: number): Promise<number> {
  most = Math.max(most, ++underWay);
  await new Promise((next) => setTimeout(next, 1));
  underWay--;
  done++;
  return item * 2;
}

const fanOut = workflow("fan_out", async (run, count: number) => {
  const items = await run.step("list", () => Array.from({ length: count }, (_, index) => index + 1));
  const values = await run.map(items, (item, branch) => branch.step("measure", () => measure(item)), {
    name: "items",
    concurrency: 50,
  });
  await run.sleep("rest", 100); // here the run is given back, and its function begins anew from the recorded steps
  return await run.step("add", () => values.reduce((sum, value) => sum + value, 0));
});

await using store = await connect(process.argv[2] ?? "sqlite::memory:");
await store.admin.install();
const run = await store.start(fanOut, 1_000);
const stop = new AbortController();
const working = store.worker([fanOut]).run({ signal: stop.signal });
console.log(`The sum is ${await run.result()}`);
stop.abort();
await working;

const steps = await run.steps();
console.log(`${done} items were measured, at most ${most} at once; ${steps.length} steps are recorded`);
console.log(`One of them is ${steps.find(({ key }) => key === "items/999/measure")?.key}`);
await store.admin.queues.delete(fanOut.name, { force: true });
