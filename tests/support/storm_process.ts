/**
 * The child of the storms: a producer or a consumer that goes on whatever happens to the database.
 *
 * What it does is told in lines as it happens, because it may be killed at any time.
 */
import process from "node:process";
import { connect, DatabaseError } from "../../mod.ts";

const [role = "", dsn = "", name = "", loops = "1", from = "0"] = process.argv.slice(2);
const TIMEOUT_MS = 4_000;
const LEASE_MS = 2_000;

process.on("unhandledRejection", (error) => console.log(`unhandled ${error}`));
let isOver = false;
process.on("SIGTERM", () => isOver = true);

const store = await connect(dsn, { timeoutMs: TIMEOUT_MS, maxConnections: 4, connectTimeoutMs: TIMEOUT_MS });

/** Makes one call, tells when it settles too late, and resolves to undefined when the database failed. */
async function attempt<T>(call: () => Promise<T>): Promise<T | undefined> {
  const begin = performance.now();
  try {
    return await call();
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    console.log(error.outcome);
    await new Promise((resolve) => setTimeout(resolve, 20));
    return undefined;
  } finally {
    const lateMs = Math.round(performance.now() - begin - TIMEOUT_MS);
    if (lateMs > 0) console.log(`late ${lateMs}`);
  }
}

async function produce(loop: number): Promise<void> {
  const producer = store.producer("storm");
  for (let i = Number(from); !isOver; i++) {
    const key = `${name}.${loop}.${i}`;
    while (await attempt(() => producer.enqueue({ key }, { key })) === undefined);
    console.log(`ack ${key}`);
  }
}

async function consume(): Promise<void> {
  const consumer = store.consumer("storm", { name });
  while (!isOver) {
    const messages = await attempt(() => consumer.dequeue({ limit: 50, leaseMs: LEASE_MS })) ?? [];
    // Settling again is safe: whatever was applied is simply not held any more.
    while (messages.length > 0 && await attempt(() => consumer.archiveMany(messages)) === undefined);
    if (messages.length === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

console.log("ready");
await Promise.all(Array.from({ length: Number(loops) }, (_, i) => role === "producer" ? produce(i) : consume()));
await store.close();
console.log("done");
