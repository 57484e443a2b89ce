/** The child of the tests of permissions: one message from end to end on the database of its first argument. */
import { connect } from "../../mod.ts";

const store = await connect(Deno.args[0] ?? "", { connectTimeoutMs: 5_000, timeoutMs: 10_000 });
await store.admin.install();
await store.admin.createQueue("edge");
await store.producer("edge").enqueue({ n: 1 });
const consumer = store.consumer("edge");
const [message] = await consumer.dequeue();
const isArchived = message !== undefined && await consumer.archive(message);
await store.close();
console.log(isArchived ? "archived" : "failed");
// A worker lives until it closes itself.
(globalThis as { close?: () => void }).close?.();
