/**
 * The demo: `deno task demo [folder] [--dsn <dsn>] [--consumers <n>]`.
 *
 * Every file of a folder becomes a message. Several processes take the messages under a lease and measure the files. One of
 * them is killed while it holds leases; when these have run out, the others take its messages over. In the end what the
 * archive says is compared with what this process finds by reading the folder itself. Then a process is killed in the middle
 * of a workflow, and another one goes on with it.
 *
 * It needs nothing but this repository: without `--dsn` the queue lives in a SQLite file that is removed afterwards.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type ArchivedMessage, connect, type Page, type QueueMetrics, type Store } from "@pgqrs/pgqrs";
import type { Measure } from "./demo_consumer.ts";
import { surviveKill } from "./workflow.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const SKIPPED = [".git", "node_modules"];
const LEASE_MS = 1_500;
const REFRESH_MS = 100;

interface Plan {
  readonly folder: string;
  readonly dsn: string;
  readonly consumers: number;
}

type Done = ArchivedMessage<{ path: string }> & { readonly result: Measure };

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { dsn: { type: "string" }, consumers: { type: "string", default: "4" } },
  });
  const temporary = mkdtempSync(join(tmpdir(), "pgqrs-demo-"));
  const dsn = values.dsn ?? `sqlite:${join(temporary, "demo.db")}`;
  try {
    const code = await demo({
      folder: resolve(positionals[0] ?? ROOT),
      dsn,
      consumers: Math.max(2, Number(values.consumers) || 4),
    });
    return await demoWorkflow(dsn, join(temporary, "ledger")) ? code : 1;
  } catch (error) {
    console.error(`Demo failed: ${error instanceof Error ? error.message : error}`);
    return 1;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

async function demo({ folder, dsn, consumers }: Plan): Promise<number> {
  const files = filesIn(folder);
  if (files.size === 0) throw new Error(`there are no files in ${folder}`);
  await using store = await connect(dsn);
  await store.admin.install();
  // A name of its own, so that two demos on one Postgres do not take each other's files.
  const queue = `demo-${randomUUID().slice(0, 8)}`;
  await store.admin.createQueue(queue);
  try {
    const startedAt = performance.now();
    const messages = await store.producer<{ path: string }>(queue).enqueueMany(
      [...files.keys()].map((path) => ({ path })),
    );
    const where = dsn.startsWith("sqlite:") ? "SQLite" : dsn.replace(/:.*/s, "");
    console.log(`${messages.length} files of ${folder} are ${messages.length} messages on ${where}`);
    const crew = await Crew.start(consumers, { folder, dsn, queue, files: files.size });
    try {
      await work(store, queue, files.size, crew);
    } finally {
      await crew.close();
    }
    const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
    return report(await archived(store, queue), { folder, before: files, crew, seconds });
  } finally {
    await store.admin.queues.delete(queue, { force: true });
  }
}

/** Kills a process in the middle of a workflow, and tells whether each step was done once. */
async function demoWorkflow(dsn: string, ledger: string): Promise<boolean> {
  console.log("\nNow a workflow of five steps, in a process of its own");
  await using store = await connect(dsn);
  const name = `demo-${randomUUID().slice(0, 8)}`;
  try {
    return await surviveKill(store, dsn, name, ledger);
  } finally {
    await store.admin.queues.delete(name, { force: true });
  }
}

/** Watches the queue until nothing is left on it, and kills the stalled consumer on the way. */
async function work(store: Store, queue: string, files: number, crew: Crew): Promise<void> {
  const progress = new Progress(files);
  for (;;) {
    const metrics = await store.admin.metrics(queue);
    const ended = metrics.succeeded + metrics.failed;
    progress.show(ended, metrics);
    if (ended === files) break;
    if (crew.running === 0) throw new Error("All consumers have ended before the work was done");
    const othersAreDone = metrics.ready === 0 && metrics.leased === crew.held;
    if (crew.held > 0 && crew.killed === undefined && (ended >= files / 3 || othersAreDone)) {
      await crew.kill();
      progress.note(`killed ${crew.killed} with SIGKILL; it held ${crew.held} leases, which now have to run out`);
    }
    await new Promise((next) => setTimeout(next, REFRESH_MS));
  }
  progress.end();
}

/** The consumer processes. The first of them is the one that stalls. */
class Crew {
  readonly #members: { readonly name: string; readonly child: ChildProcess; readonly ended: Promise<unknown> }[] = [];
  /** How many leases the stalled consumer holds; 0 until it has stalled. */
  held = 0;
  /** The name of the consumer that was killed. */
  killed: string | undefined;
  /** How many processes have not ended. */
  running = 0;

  /** Starts the processes, lets the first take its batch, then lets the others begin. */
  static async start(
    count: number,
    { folder, dsn, queue, files }: { folder: string; dsn: string; queue: string; files: number },
  ): Promise<Crew> {
    const crew = new Crew();
    const batch = Math.max(1, Math.min(10, Math.ceil(files / count / 4)));
    const names = Array.from({ length: count }, (_, i) => `consumer-${i + 1}`);
    const heard = names.map((name, i) => {
      const flags = i === 0 ? ["--stall"] : [];
      return crew.#spawn(name, dsn, [queue, name, folder, String(batch), String(LEASE_MS), ...flags]);
    });
    try {
      await Promise.all(heard.map((line) => line("ready")));
      crew.#begin(0);
      await heard[0]?.("took");
      for (let i = 1; i < count; i++) crew.#begin(i);
      heard[0]?.("stalled").then((line) => crew.held = Number(line.split(" ")[1]), () => {});
      return crew;
    } catch (error) {
      await crew.close();
      throw error;
    }
  }

  /** Kills the stalled consumer: it has no chance to give its leases back. */
  async kill(): Promise<void> {
    const [victim] = this.#members;
    victim?.child.kill("SIGKILL");
    await victim?.ended;
    this.killed = victim?.name;
  }

  /** Ends all that still run: politely, and by force after two seconds. */
  async close(): Promise<void> {
    for (const { child } of this.#members) child.stdin?.end();
    const timer = setTimeout(() => this.#members.forEach(({ child }) => child.kill("SIGKILL")), 2_000);
    if (this.killed === undefined) this.#members[0]?.child.kill("SIGKILL");
    await Promise.all(this.#members.map(({ ended }) => ended));
    clearTimeout(timer);
  }

  #begin(index: number): void {
    this.#members[index]?.child.stdin?.write("begin\n");
  }

  /** Starts a process; what is returned waits for a line that begins with a word. */
  #spawn(name: string, dsn: string, args: string[]): (word: string) => Promise<string> {
    const runtime = process.versions.deno === undefined ? process.execArgv : ["run", "-A", "--quiet", "--no-check"];
    const file = fileURLToPath(new URL("./demo_consumer.ts", import.meta.url));
    // In the environment and not among the arguments, which every user of the machine can see.
    const env = { ...process.env, PGQRS_DSN: dsn };
    const child = spawn(process.execPath, [...runtime, file, ...args], { env, stdio: ["pipe", "pipe", "inherit"] });
    this.running++;
    const ended = new Promise<void>((done) => child.once("close", () => done())).then(() => this.running--);
    child.stdin.on("error", () => {});
    const lines: string[] = [];
    let wake = (): void => {};
    createInterface({ input: child.stdout }).on("line", (line) => {
      lines.push(line);
      wake();
    });
    this.#members.push({ name, child, ended });
    return async (word) => {
      for (;;) {
        const line = lines.find((line) => line.startsWith(word));
        if (line !== undefined) return line;
        const next = new Promise<string>((resolve) => wake = () => resolve("line"));
        const last = ended.then(() => "end");
        if (await Promise.race([next, last]) === "end") throw new Error(`${name} ended before it was ${word}`);
      }
    };
  }
}

/** One line that is written over on a terminal; elsewhere a line for every tenth part. */
class Progress {
  readonly #files: number;
  readonly #isTerminal = process.stdout.isTTY === true;
  #tenths = 0;

  constructor(files: number) {
    this.#files = files;
  }

  show(ended: number, { ready, leased }: QueueMetrics): void {
    const part = ended / this.#files;
    const text = `${String(ended).padStart(String(this.#files).length)}/${this.#files} done, ` +
      `${leased} leased, ${ready} ready`;
    if (this.#isTerminal) {
      const filled = Math.round(part * 30);
      process.stdout.write(`\r\x1b[K${"█".repeat(filled)}${"░".repeat(30 - filled)} ${text}`);
    } else if (Math.floor(part * 10) > this.#tenths) {
      this.#tenths = Math.floor(part * 10);
      console.log(text);
    }
  }

  /** Writes a line that stays. */
  note(text: string): void {
    console.log(this.#isTerminal ? `\r\x1b[K${text}` : text);
  }

  end(): void {
    if (this.#isTerminal) console.log();
  }
}

/** All files below a folder: their paths relative to it, each with what changes when the file does. */
function filesIn(folder: string): Map<string, string> {
  const found = new Map<string, string>();
  const visit = (path: string): void => {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      const inner = join(path, entry.name);
      if (entry.isDirectory() && !SKIPPED.includes(entry.name)) visit(inner);
      // Links are not followed: they may lead out of the folder, or in a circle.
      if (!entry.isFile()) continue;
      const { size, mtimeMs } = statSync(inner);
      found.set(relative(folder, inner), `${size} ${mtimeMs}`);
    }
  };
  visit(folder);
  return found;
}

async function archived(store: Store, queue: string): Promise<Done[]> {
  const all: Done[] = [];
  let cursor: string | null = null;
  do {
    const page: Page<ArchivedMessage<{ path: string }>> = await store.admin.archive.list({
      queue,
      limit: 1_000,
      ...(cursor !== null && { cursor }),
    });
    all.push(...page.items as Done[]);
    cursor = page.cursor;
  } while (cursor !== null);
  return all;
}

/** Prints the summary, and tells by the exit code whether the archive and the folder agree. */
function report(
  all: readonly Done[],
  { folder, before, crew, seconds }: { folder: string; before: Map<string, string>; crew: Crew; seconds: string },
): number {
  const after = filesIn(folder);
  // Somebody may have worked in the folder meanwhile; there both sides would be right and differ.
  const changed = new Set([...before.keys(), ...after.keys()].filter((path) => before.get(path) !== after.get(path)));
  const kept = all.filter(({ payload }) => !changed.has(payload.path));
  const done = kept.filter(({ outcome }) => outcome === "succeeded");
  const failed = kept.filter(({ outcome }) => outcome === "failed");
  const byArchive = total(done.map(({ payload, result }) => ({ path: payload.path, ...result })));
  const paths = [...after.keys()].filter((path) => !changed.has(path));
  const byHand = total(paths.map((path) => ({ path, ...countByText(readFileSync(join(folder, path))) })));
  const isEqual = printTotals(byArchive, byHand);
  printConsumers(all.filter(({ outcome }) => outcome === "succeeded"), crew);
  for (const { payload, error } of failed) console.log(`failed: ${payload.path}: ${error?.message}`);
  const takenOver = all.filter(({ crashes }) => crashes > 0).length;
  if (changed.size > 0) console.log(`${changed.size} files changed while the demo ran and are left out`);
  console.log(`\n${takenOver} taken over from ${crew.killed}, ${failed.length} failed, ${seconds} s`);
  const isGood = isEqual && failed.length === 0 && all.length === before.size && crew.held > 0 &&
    takenOver >= crew.held;
  console.log(isGood ? "The counts agree." : "The counts do NOT agree.");
  return isGood ? 0 : 1;
}

/** Prints both sides, and tells whether they are equal. */
function printTotals(byArchive: Total, byHand: Total): boolean {
  const rows = (["files", "lines", "words", "bytes", "largest", "sha256"] as const).map((name) => {
    const [left, right] = [String(byArchive[name]), String(byHand[name])];
    return { name, left, right, isEqual: left === right };
  });
  const width = Math.max(12, ...rows.map(({ left }) => left.length));
  console.log(`\n${"".padEnd(8)}  ${"by the archive".padEnd(width)}  by reading the folder`);
  for (const { name, left, right, isEqual } of rows) {
    console.log(`${name.padEnd(8)}  ${left.padEnd(width)}  ${right}${isEqual ? "" : "  <- differs"}`);
  }
  console.log();
  return rows.every(({ isEqual }) => isEqual);
}

/** Prints who has done how much. */
function printConsumers(done: readonly Done[], crew: Crew): void {
  const names = [...new Set(done.map(({ archivedBy }) => archivedBy ?? ""))].sort();
  for (const name of names) {
    const own = done.filter(({ archivedBy }) => archivedBy === name);
    const takenOver = own.filter(({ crashes }) => crashes > 0).length;
    const notes = [...(takenOver ? [`${takenOver} taken over`] : []), ...(name === crew.killed ? ["killed"] : [])];
    console.log(
      `${name.padEnd(12)} ${String(own.length).padStart(6)} files${notes.length ? `, ${notes.join(", ")}` : ""}`,
    );
  }
}

interface Total {
  readonly files: number;
  readonly lines: number;
  readonly words: number;
  readonly bytes: number;
  /** The largest file and its size. */
  readonly largest: string;
  /** The beginning of a hash over the hashes of all files in the order of their paths. */
  readonly sha256: string;
}

function total(measures: readonly (Measure & { readonly path: string })[]): Total {
  const sum = (of: (measure: Measure) => number): number => measures.reduce((sum, measure) => sum + of(measure), 0);
  const inOrder = measures.toSorted((a, b) => a.path < b.path ? -1 : 1);
  const largest = inOrder.toSorted((a, b) => b.bytes - a.bytes)[0];
  const hash = createHash("sha256").update(inOrder.map(({ path, sha256 }) => `${sha256}  ${path}\n`).join(""));
  return {
    files: measures.length,
    lines: sum(({ lines }) => lines),
    words: sum(({ words }) => words),
    bytes: sum(({ bytes }) => bytes),
    largest: `${largest?.path} (${largest?.bytes})`,
    sha256: hash.digest("hex").slice(0, 16),
  };
}

/** The same as the consumers find out, in another way: otherwise the comparison would prove little. */
function countByText(content: Uint8Array<ArrayBuffer>): Measure {
  const text = new TextDecoder("latin1").decode(content);
  return {
    bytes: content.byteLength,
    lines: text.split("\n").length - 1,
    words: text.split(/[ \t-\r]+/).filter((word) => word !== "").length,
    sha256: createHash("sha256").update(content).digest("hex"),
  };
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
