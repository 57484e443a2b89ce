/** A claimer in a process of its own: takes messages until none is left, and writes their numbers, a line a batch. */
import process from "node:process";
import { connect } from "../../mod.ts";

const [dsn = "", queue = "", limit = ""] = process.argv.slice(2);
await using store = await connect(dsn, { maxConnections: 2 });
const consumer = store.consumer<{ n: number }>(queue, { name: `process-${process.pid}` });
console.log("ready");
for (;;) {
  const messages = await consumer.dequeue({ limit: Number(limit), leaseMs: 600_000, waitMs: 20 });
  if (messages.length === 0 && await store.admin.messages.count({ queue, state: "ready" }) === 0) break;
  const held = await consumer.archiveMany(messages);
  if (held.includes(false)) throw new Error("a lease was lost");
  console.log(`batch ${messages.map((message) => message.payload.n).join(" ")}`);
}
