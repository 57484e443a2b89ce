/**
 * A workflow whose process is killed in the middle: `deno run -A examples/workflow.ts [dsn]`.
 *
 * This process starts a run and a worker process. That one is killed by SIGKILL between two steps, a second one goes on with
 * the run. Each step also writes a line into a file outside of the database, where a repetition would show. Without a DSN
 * the run lives in a SQLite file that is removed afterwards.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { appendFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { connect, type Store, type Workflow, workflow, workflowRef } from "@pgqrs/pgqrs";

const STEPS = ["reserve", "charge", "pack", "ship", "thank"];
/** How long it takes until somebody else goes on with a run whose process has died. */
const LEASE_MS = 1_000;

interface Order {
  readonly id: number;
  /** The file into which each step writes a line. */
  readonly ledger: string;
}

/** What is done for an order: an ordinary async function. What is not in a step is executed by each process anew. */
function orderWorkflow(name: string, pauseInTheMiddle: () => Promise<void>): Workflow<Order, string> {
  return workflow(name, async (run, { id, ledger }: Order) => {
    for (const step of STEPS.slice(0, 3)) await run.step(step, () => appendFile(ledger, `${step} ${process.pid}\n`));
    await pauseInTheMiddle();
    await run.sleep("until the parcel is fetched", 50);
    for (const step of STEPS.slice(3)) await run.step(step, () => appendFile(ledger, `${step} ${process.pid}\n`));
    return `Order ${id} is on its way`;
  }, { leaseMs: LEASE_MS });
}

/** Starts a run, kills the process that executes it, and tells whether another one has finished it with each step done once. */
export async function surviveKill(store: Store, dsn: string, name: string, ledger: string): Promise<boolean> {
  const run = await store.start(workflowRef<Order, string>(name), { id: 42, ledger });
  const first = startWorker(dsn, name, ["--stall"]);
  await lineOf(first, "in the middle");
  first.kill("SIGKILL");
  console.log(`Killed process ${first.pid} with SIGKILL after ${linesOf(ledger).length} of ${STEPS.length} steps`);

  const second = startWorker(dsn, name, []);
  try {
    const [result] = await Promise.all([run.result({ timeoutMs: 30_000 }), lineOf(second, "at work")]);
    console.log(`Process ${second.pid} went on with run ${run.id}: ${result}`);
  } finally {
    second.stdin?.end();
  }
  const lines = linesOf(ledger).map((line) => line.split(" "));
  for (const step of STEPS) {
    const by = lines.filter(([name]) => name === step).map(([, pid]) => `process ${pid}`);
    console.log(`${step.padEnd(8)} ${by.length} time${by.length === 1 ? "" : "s"}, by ${by.join(" and ")}`);
  }
  const isOnce = lines.map(([step]) => step).join() === STEPS.join();
  console.log(isOnce ? "Every step ran once." : "NOT every step ran once.");
  return isOnce;
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));

async function main([first, ...rest]: string[]): Promise<number> {
  if (first === "--worker") return await work(rest[0] ?? "", rest.includes("--stall"));
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-workflow-"));
  const dsn = first ?? `sqlite:${join(folder, "runs.db")}`;
  const name = `orders-${process.pid}`;
  try {
    await using store = await connect(dsn);
    await store.admin.install();
    const isOnce = await surviveKill(store, dsn, name, join(folder, "ledger"));
    await store.admin.queues.delete(name, { force: true });
    return isOnce ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The worker process: works until its standard input is closed, or comes to a halt in the middle of the run. */
async function work(name: string, mustStall: boolean): Promise<number> {
  await using store = await connect(process.env.PGQRS_DSN ?? "");
  const stop = new AbortController();
  process.stdin.on("close", () => stop.abort()).on("end", () => stop.abort()).resume();
  console.log("at work");
  const halt = async (): Promise<void> => {
    if (!mustStall) return;
    console.log("in the middle");
    await new Promise(() => {});
  };
  await store.worker([orderWorkflow(name, halt)]).run({ signal: stop.signal });
  return 0;
}

function startWorker(dsn: string, name: string, flags: string[]): ChildProcess {
  const runtime = process.versions.deno === undefined ? process.execArgv : ["run", "-A", "--quiet", "--no-check"];
  const args = [...runtime, fileURLToPath(import.meta.url), "--worker", name, ...flags];
  // In the environment and not among the arguments, which every user of the machine can see.
  const env = { ...process.env, PGQRS_DSN: dsn };
  const child = spawn(process.execPath, args, { env, stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.on("error", () => {});
  return child;
}

/** Waits for a line of a process. */
function lineOf(child: ChildProcess, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("close", () => reject(new Error(`The worker ended before it was ${text}`)));
    if (child.stdout === null) return;
    createInterface({ input: child.stdout }).on("line", (line) => line === text && resolve());
  });
}

function linesOf(file: string): string[] {
  return readFileSync(file, "utf8").split("\n").filter((line) => line !== "");
}
