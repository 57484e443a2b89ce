/**
 * The child of the kill test: a worker that notes what it does, line by line, in a file that all of them append to.
 *
 * Each line is one write to a file that was opened for appending: the order of the lines is the order in which it happened,
 * over all processes, and what was written before a SIGKILL is there.
 */
import { openSync, writeSync } from "node:fs";
import process from "node:process";
import { connect, job } from "../../mod.ts";
import { type Dose, take } from "./poison.ts";

const [dsn = "", log = "", name = "", lease = "1000", timeout = "150"] = process.argv.slice(2);
const leaseMs = Number(lease);
const file = openSync(log, "a");
const note = (...words: readonly (number | string | null)[]): void => {
  writeSync(file, `${name} ${words.join(" ")}\n`);
};

process.on("unhandledRejection", (error) => note("unhandled", String(error).split("\n", 1)[0] ?? ""));
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());

const store = await connect(dsn, { maxConnections: 4 });
store.on("completed", ({ message }) => note("completed", message.id));
store.on("failed", ({ message }) => note("failed", message.id, message.attempts + 1));
store.on("dead", ({ message, reason }) => note("dead", message.id, reason));
store.on("lost", ({ message }) => note("lost", message.id));
store.on("workerStarted", () => {
  note("started");
  console.log("ready");
});
store.on("error", ({ error }) => note("error", String(error).split("\n", 1)[0] ?? ""));
const doses = job<Dose>("doses", async ({ id, attempts, crashes, payload }, { signal }) => {
  note("begin", id, attempts + 1, crashes);
  return await take(payload, signal, leaseMs * 2);
}, { concurrency: 8, leaseMs, timeoutMs: Number(timeout) });
await store.worker([doses], { name }).run({ signal: stop.signal });
await store.close();
note("stopped");
console.log("done");
