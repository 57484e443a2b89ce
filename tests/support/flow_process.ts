/**
 * A worker in a process of its own. Each of its handlers notes that it runs by a file, counts how many do, in whatever
 * process, and writes that number: a line each.
 */
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { connect, job } from "../../mod.ts";

const [dsn = "", queue = "", folder = ""] = process.argv.slice(2);
const stop = new AbortController();
await using store = await connect(dsn);
const handle = job<number>(queue, async ({ id }) => {
  const file = join(folder, `${process.pid}-${id}`);
  writeFileSync(file, "");
  console.log(`running ${readdirSync(folder).length}`);
  await new Promise((resolve) => setTimeout(resolve, 2 + Math.random() * 6));
  rmSync(file);
}, { concurrency: 2, leaseMs: 1_000 });
// The end of its input ends it.
process.stdin.on("end", () => stop.abort()).resume();
console.log("ready");
await store.worker([handle], { name: `process-${process.pid}`, pollIntervalMs: 20 }).run({ signal: stop.signal });
