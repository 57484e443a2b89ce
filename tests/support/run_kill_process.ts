/** The child of the kill test of runs: a worker that notes what it does, as `kill_process.ts` does. */
import { openSync, writeSync } from "node:fs";
import process from "node:process";
import { connect } from "../../mod.ts";
import { makeJourneys } from "./run_kill_flow.ts";

const [dsn = "", log = "", name = "", lease = "1000"] = process.argv.slice(2);
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
store.on("lost", ({ message }) => note("lost", message.id));
store.on("error", ({ error }) => note("error", String(error).split("\n", 1)[0] ?? ""));
store.on("workerStarted", () => {
  note("started");
  console.log("ready");
});
await store.worker(makeJourneys(name, note, Number(lease)), { name }).run({ signal: stop.signal });
await store.close();
note("stopped");
console.log("done");
