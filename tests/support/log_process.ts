/**
 * Stores large lists in a file named relative to a folder that it leaves meanwhile, and has to end by itself after that.
 * Argument: a folder with the folders `first` and `second`.
 */
import process from "node:process";
import { connect } from "../../mod.ts";

const [folder = ""] = process.argv.slice(2);
process.chdir(`${folder}/first`);
const store = await connect("sqlite:jobs.db");
await store.admin.install();
await store.admin.createQueue("tasks");
process.chdir(`${folder}/second`);
const payloads = Array.from({ length: 10 }, () => "x".repeat(100_000));
await store.producer("tasks").enqueueMany(payloads);
// It begins and ends while the log is copied.
await store.transaction(() => Promise.resolve());
await store.producer("tasks").enqueueMany(payloads);
await store.transaction(() => Promise.resolve());
await store.close();
console.log("closed");
