/**
 * The kill test: worker processes of all runtimes on one database, of which one after the other is killed, and poison that
 * ends them by itself.
 *
 * @module
 */
import { assert } from "@std/assert";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ArchivedMessage, connect, type Store } from "../../mod.ts";
import { assertAllBars } from "./bars.ts";
import { checkHistory, type History } from "./history.ts";
import { type Dose, POISONS } from "./poison.ts";
import { startProcess, type TestProcess } from "./processes.ts";
import { availableRuntimes } from "./runtimes.ts";

/** How large the test is. */
export interface KillSize {
  /** For how long processes are killed. */
  readonly seconds: number;
  readonly messages: number;
  /** One of so many messages is poison, of each kind in turn. */
  readonly poisonEvery: number;
  /** Between one kill and the next. */
  readonly pauseMs: readonly [least: number, most: number];
  /** How many kills there have to be at least. */
  readonly kills: number;
  readonly leaseMs: number;
  readonly maxAttempts: number;
  readonly maxCrashes: number;
}

const WORKERS = 4;
const SCRIPT = new URL("./kill_process.ts", import.meta.url);
const TIMEOUT_MS = 60;
/** How many messages are enqueued at once. */
const BATCH = 100;
/** How long the rest may take when nobody is killed any more. */
const REST_MS = 300_000;

/** The worker processes: whoever ends is replaced. */
export class Crew implements AsyncDisposable {
  readonly #runtimes = availableRuntimes();
  readonly #script: URL;
  readonly #args: readonly string[];
  readonly #children: TestProcess[] = [];
  readonly #slots: Promise<void>[] = [];
  readonly #killed = new Set<TestProcess>();
  #isOver = false;
  /** How many processes there were. */
  started = 0;
  kills = 0;
  /** Processes that have ended before they began, by themselves: what they wrote. */
  readonly stillborn: string[] = [];

  /** What runs the script is given a DSN, the file for its notes, its name, and the rest of the arguments. */
  constructor(script: URL, args: readonly string[]) {
    this.#script = script;
    this.#args = args;
    for (let slot = 0; slot < WORKERS; slot++) this.#slots.push(this.#keep(slot));
  }

  get runtimes(): string {
    return this.#runtimes.map(({ name }) => name).join("+") || "own";
  }

  kill(): void {
    const child = this.#children[Math.floor(Math.random() * WORKERS)] as TestProcess;
    this.#killed.add(child);
    child.kill("SIGKILL");
    this.kills++;
  }

  /** Waits until every process works: what a busy machine needs to start them is no part of the test. */
  async begun(): Promise<void> {
    await Promise.all(this.#children.map((child) => child.stdout.includes("ready") || child.waitFor("ready")));
  }

  /** Stops them as an operator would. */
  async stop(): Promise<void> {
    this.#isOver = true;
    // Before that it would not know the signal.
    await this.begun();
    for (const child of this.#children) child.kill("SIGTERM");
    await Promise.all(this.#slots);
    for (const child of this.#children) {
      assert(child.stdout.endsWith("done\n"), `a worker did not stop cleanly: ${child.stdout} ${child.stderr}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    for (const child of this.#children) await child[Symbol.asyncDispose]();
  }

  async #keep(slot: number): Promise<void> {
    const runtime = this.#runtimes[slot % Math.max(1, this.#runtimes.length)]?.command;
    while (!this.#isOver && this.stillborn.length < WORKERS) {
      const [dsn = "", log = "", ...rest] = this.#args;
      const name = `w${slot}.${this.started++}`;
      const child = startProcess(this.#script, { args: [dsn, log, name, ...rest], ...(runtime && { runtime }) });
      this.#children[slot] = child;
      const { code, signal } = await child.exited;
      if (child.stdout.includes("ready") || this.#killed.has(child)) continue;
      // What a poison ends at once has said nothing on its output, but has noted that it began.
      if (readFileSync(log, "utf8").includes(`${name} started\n`)) continue;
      this.stillborn.push(`${name} ended with ${code ?? signal}: ${child.stderr}`);
    }
  }
}

/** Kills workers on a database, and checks what has become of every message. */
export async function killWorkers(name: string, dsn: string, size: KillSize): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-kill-"));
  const log = join(folder, "history");
  try {
    writeFileSync(log, "");
    await using store = await openStore(dsn, size);
    await using crew = new Crew(SCRIPT, [dsn, log, String(size.leaseMs), String(TIMEOUT_MS)]);
    await crew.begun();
    const begin = performance.now();
    const enqueued = new Map<number, Dose>();
    await Promise.all([produce(store, size, enqueued), rage(crew, size)]);
    await drained(store, crew);
    const seconds = (performance.now() - begin) / 1_000;
    await crew.stop();
    const lines = readFileSync(log, "utf8").trimEnd().split("\n");
    const history = { enqueued, lines, archived: await archiveOf(store), live: await liveOf(store), ...size };
    report(name, size, crew, history, seconds);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function report(name: string, size: KillSize, crew: Crew, history: History, seconds: number): void {
  const { lost, double, good, poison, again, notes, unhandled } = checkHistory(history);
  for (const finding of [lost, double, good, poison, again, notes, unhandled]) {
    for (const line of finding.slice(0, 10)) console.log(`${name}: ${line}`);
  }
  const count = (word: string): number => history.lines.filter((line) => line.split(" ")[1] === word).length;
  console.log(
    `${name}: ${crew.started} processes (${crew.runtimes}), ${count("begin")} handlers begun, ` +
      `${count("lost")} leases lost, ${seconds.toFixed(1)} s`,
  );
  assertAllBars(name, [
    [`messages, ${size.messages}`, history.enqueued.size, history.enqueued.size === size.messages],
    [`kills, at least ${size.kills}`, crew.kills, crew.kills >= size.kills],
    ["lost, 0", lost.length, lost.length === 0],
    ["recorded twice, 0", double.length, double.length === 0],
    ["good ones that did not succeed once with their result, 0", good.length, good.length === 0],
    ["poison without the right dead letter, 0", poison.length, poison.length === 0],
    ["handled again after an acknowledged completion, 0", again.length, again.length === 0],
    ["notes that contradict the tables, 0", notes.length, notes.length === 0],
    ["unhandled rejections, 0", unhandled.length, unhandled.length === 0],
  ]);
}

async function openStore(dsn: string, { maxAttempts, maxCrashes }: KillSize): Promise<Store> {
  const store = await connect(dsn);
  await store.admin.install();
  const backoff = { kind: "fixed", baseMs: 20 } as const;
  await store.admin.createQueue("doses", { maxAttempts, maxCrashes, backoff });
  return store;
}

/** Enqueues evenly, so that all is there some time before the killing ends. */
async function produce(store: Store, size: KillSize, enqueued: Map<number, Dose>): Promise<void> {
  const producer = store.producer<Dose>("doses");
  const begin = performance.now();
  for (let n = 0; n < size.messages; n += BATCH) {
    const doses = Array.from({ length: Math.min(BATCH, size.messages - n) }, (_, i) => doseOf(n + i, size));
    for (const { id, payload } of await producer.enqueueMany(doses)) enqueued.set(id, payload);
    const dueAt = begin + 800 * size.seconds * (n + BATCH) / size.messages;
    await sleep(Math.max(0, dueAt - performance.now()));
  }
}

function doseOf(n: number, { poisonEvery }: KillSize): Dose {
  if (n % poisonEvery !== poisonEvery >> 1) return { n, kind: "good" };
  return { n, kind: POISONS[Math.floor(n / poisonEvery) % POISONS.length] ?? "good" };
}

/** Kills one process after the other. */
export async function rage(
  crew: Crew,
  { seconds, pauseMs: [least, most] }: Pick<KillSize, "pauseMs" | "seconds">,
): Promise<void> {
  const end = performance.now() + seconds * 1_000;
  for (;;) {
    await sleep(least + Math.random() * (most - least));
    if (performance.now() >= end) return;
    crew.kill();
  }
}

/** Waits until nothing is left: leases of the dead run out on the way. */
async function drained(store: Store, crew: Crew): Promise<void> {
  const giveUpAt = performance.now() + REST_MS;
  for (let left = 1; left > 0;) {
    left = await store.admin.messages.count({ queue: "doses" });
    assert(crew.stillborn.length === 0, `a worker could not begin: ${crew.stillborn[0]}`);
    assert(performance.now() < giveUpAt, `${left} messages have not ended`);
    if (left > 0) await sleep(50);
  }
}

async function archiveOf(store: Store): Promise<ArchivedMessage<Dose>[]> {
  const archived: ArchivedMessage<Dose>[] = [];
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.admin.archive.list<Dose>>> = await store.admin.archive.list<Dose>({
      queue: "doses",
      limit: 5_000,
      ...(cursor !== null && { cursor }),
    });
    archived.push(...page.items);
    cursor = page.cursor;
  } while (cursor !== null);
  return archived;
}

async function liveOf(store: Store): Promise<number[]> {
  const { items } = await store.admin.messages.list({ queue: "doses", limit: 1_000 });
  return items.map(({ id }) => id);
}

/** Waits. */
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
