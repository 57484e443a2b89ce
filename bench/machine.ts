/** What the machine is, and how much of it somebody has used. */
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, release, totalmem, type } from "node:os";
import process from "node:process";

/** Linux counts CPU time in hundredths of a second, on every platform that we can meet. */
const TICK_US = 10_000;

/** The CPU time of this process, in microseconds. */
export function clientCpu(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** The CPU time of a server and all its children, those that have ended too, in microseconds; 0 without a server. */
export function serverCpu(pid: number | undefined): number {
  if (pid === undefined) return 0;
  let ticks = 0;
  for (const name of readdirSync("/proc")) {
    const times = /^\d+$/.test(name) ? timesOf(name) : undefined;
    if (times === undefined) continue;
    if (name === String(pid)) ticks += times.own + times.children;
    else if (times.parent === pid) ticks += times.own;
  }
  return ticks * TICK_US;
}

function timesOf(pid: string): { parent: number; own: number; children: number } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return undefined; // The process has ended between the listing and here.
  }
  // The name of the program stands in parentheses and may contain anything.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ").map(Number);
  const [parent = 0, own = 0, system = 0, children = 0, childrenSystem = 0] = [1, 11, 12, 13, 14].map((i) => fields[i]);
  return { parent, own: own + system, children: children + childrenSystem };
}

/** One line on the machine. */
export function describeMachine(): string {
  const [cpu] = cpus();
  const memory = Math.round(totalmem() / 2 ** 30);
  const load = loadavg().map((value) => value.toFixed(1)).join(" ");
  return `${availableParallelism()} × ${
    cpu?.model.trim() || "unknown CPU"
  }, ${memory} GB, ${type()} ${release()}, load ${load}`;
}

/** One line on the runtime. */
export function describeRuntime(): string {
  const { deno, bun, node } = process.versions;
  return deno ? `Deno ${deno}` : bun ? `Bun ${bun}` : `Node ${node}`;
}
