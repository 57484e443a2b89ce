/**
 * The child of the freeze test: a worker that tells what it does and what it hears.
 *
 * One that is given a gate begins its handlers and goes on when the gate is open; without one it handles all at once.
 */
import process from "node:process";
import { connect, job, type JobContext } from "../../mod.ts";
import { passGate } from "./gate.ts";

const [dsn = "", name = "", lease = "", gate = ""] = process.argv.slice(2);
process.on("unhandledRejection", (error) => console.log(`unhandled ${error}`));
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());

const store = await connect(dsn);
store.on("completed", ({ message }) => console.log(`completed ${message.id}`));
store.on("failed", ({ message }) => console.log(`failed ${message.id}`));
store.on("lost", ({ message }) => console.log(`lost ${message.id}`));
store.on("workerStarted", () => console.log("ready"));

/** What each kind of handler does when it goes on too late. Tells what it was told. */
async function late(kind: string, context: JobContext): Promise<unknown> {
  switch (kind) {
    case "throws":
      throw new Error("too late");
    case "progresses":
      return console.log(`progress ${await context.progress("too late")}`);
    default:
      return "too late";
  }
}

async function handle(kind: string, context: JobContext): Promise<unknown> {
  console.log(`begin ${context.message.id}`);
  if (gate === "" || kind === "after") return `${kind} by ${name}`;
  // The transaction is open all the time; the others begin to write when the gate is open.
  if (kind === "transacts") {
    return await context.transaction(async () => await passGate(gate)).catch((error) => {
      console.log(`transaction ${error.name}`);
      throw error;
    });
  }
  await passGate(gate);
  try {
    return await late(kind, context);
  } finally {
    // The other timers of that time have their turn first.
    await new Promise((resolve) => setTimeout(resolve, 50));
    console.log(`aborted ${context.signal.reason?.name}`);
  }
}

const work = job<string>("tasks", ({ payload }, context) => handle(payload, context), { leaseMs: Number(lease) });
await store.worker([work], { name, pollIntervalMs: 50 }).run({ signal: stop.signal });
await store.close();
console.log("done");
