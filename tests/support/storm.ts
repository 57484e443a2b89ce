/**
 * The storms: producers and consumers in processes of all runtimes, while the server crashes or they are killed.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { connect, type Store } from "../../mod.ts";
import { freshSqliteFile } from "./databases.ts";
import { PostgresServer } from "./postgres_server.ts";
import { startProcess, type TestProcess } from "./processes.ts";
import { availableRuntimes } from "./runtimes.ts";

/** What has to be reached; the figures of the long run are the bars of the project. */
export interface StormBars {
  readonly seconds: number;
  readonly acknowledged: number;
  /** How many crashes of the server, or kills of a process. */
  readonly crashes: number;
  /** Between one crash and the next. */
  readonly pauseMs: readonly [least: number, most: number];
}

/** What was measured. */
export interface StormResult {
  readonly acknowledged: number;
  /** Keys that were lost, and keys that made more than one message. */
  readonly wrongKeys: number;
  readonly crashes: number;
  readonly unknown: number;
  readonly notApplied: number;
  readonly latestMs: number;
  readonly unhandled: number;
  readonly runtimes: string;
}

const PRODUCERS = 4;
const CONSUMERS = 4;
const SCRIPT = new URL("./storm_process.ts", import.meta.url);
/** How long a call may take beyond its deadline. */
const GRACE_MS = 1_000;

/** The processes of one storm and what they have told so far. */
class Storm implements AsyncDisposable {
  readonly acknowledged = new Set<string>();
  readonly #runtimes = availableRuntimes();
  readonly #dsn: string;
  readonly #loops: number;
  readonly #processes: TestProcess[] = [];
  readonly #readers: Promise<void>[] = [];
  readonly #nextOf: number[] = [];
  readonly #ready: Promise<void>[] = [];
  unknown = 0;
  notApplied = 0;
  latestMs = 0;
  unhandled = 0;

  constructor(dsn: string, loops: number) {
    this.#dsn = dsn;
    this.#loops = loops;
    for (let i = 0; i < PRODUCERS + CONSUMERS; i++) this.start(i);
  }

  get runtimes(): string {
    return this.#runtimes.map(({ name }) => name).join("+") || "own";
  }

  /** Starts the process with a number; a producer goes on with the key at which its predecessor was killed. */
  start(index: number): void {
    const role = index < PRODUCERS ? "producer" : "consumer";
    const runtime = this.#runtimes[index % Math.max(1, this.#runtimes.length)]?.command;
    const from = this.#nextOf[index] ?? 0;
    const args = [role, this.#dsn, `p${index}`, role === "producer" ? this.#loops : 1, from].map(String);
    const child = startProcess(SCRIPT, { args, ...(runtime && { runtime }) });
    this.#processes[index] = child;
    this.#ready[index] = new Promise((resolve) => this.#readers[index] = this.#read(index, child, resolve));
  }

  /** Kills a process at random; what it was about to do is unknown, and its successor repeats it. */
  async kill(): Promise<void> {
    const index = Math.floor(Math.random() * this.#processes.length);
    const child = this.#processes[index] as TestProcess;
    child.kill("SIGKILL");
    await child.exited;
    await this.#readers[index];
    if (index < PRODUCERS) this.unknown++;
    this.start(index);
  }

  /** Waits until every process works: what a loaded machine needs to start them is no part of the storm. */
  async begun(): Promise<void> {
    await Promise.all(this.#ready);
  }

  /** Lets the producers end, each with the acknowledgement of all that it has sent. */
  async finishProducers(): Promise<void> {
    await this.#finish(0, PRODUCERS);
  }

  async finishConsumers(): Promise<void> {
    await this.#finish(PRODUCERS, PRODUCERS + CONSUMERS);
    await Promise.all(this.#readers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#processes) await child[Symbol.asyncDispose]();
  }

  async #finish(first: number, end: number): Promise<void> {
    for (let i = first; i < end; i++) {
      // Before that it would not know the signal.
      await this.#ready[i];
      this.#processes[i]?.kill("SIGTERM");
    }
    for (let i = first; i < end; i++) await this.#exitOf(i);
  }

  async #exitOf(index: number): Promise<void> {
    const child = this.#processes[index] as TestProcess;
    await child.exited;
    // Its last word, and not its exit code: Deno reports a signal that was sent even if the process handled it.
    assert(child.stdout.endsWith("done\n"), `process ${index} failed: ${child.stderr}`);
  }

  async #read(index: number, child: TestProcess, reportReady: () => void): Promise<void> {
    for await (const line of child.lines) {
      const [word, value = ""] = line.split(" ");
      if (word === "ready") reportReady();
      else if (word === "ack") {
        this.acknowledged.add(value);
        this.#nextOf[index] = Number(value.split(".").at(-1)) + 1;
      } else if (word === "unknown") this.unknown++;
      else if (word === "not_applied") this.notApplied++;
      else if (word === "late") this.latestMs = Math.max(this.latestMs, Number(value));
      else if (word === "unhandled") this.unhandled++;
    }
    // One that ended before it began is found by what it has not said.
    reportReady();
  }
}

/** Stops the server in immediate mode again and again. */
export async function stormPostgres(bars: StormBars): Promise<StormResult> {
  await using server = await PostgresServer.open();
  await using store = await openStore(server.dsn());
  return await rage(store, server.dsn(), bars, 4, () => server.restart("immediate"));
}

/** Kills processes that work on one file. */
export async function stormSqlite(bars: StormBars): Promise<StormResult> {
  const database = freshSqliteFile();
  try {
    await using store = await openStore(database.dsn);
    // One loop a producer: its last acknowledgement tells exactly which call was cut off by a kill.
    return await rage(store, database.dsn, bars, 1, (storm) => storm.kill());
  } finally {
    await database.close();
  }
}

async function rage(
  store: Store,
  dsn: string,
  { seconds, pauseMs: [least, most] }: StormBars,
  loops: number,
  strike: (storm: Storm) => Promise<void>,
): Promise<StormResult> {
  await using storm = new Storm(dsn, loops);
  await storm.begun();
  const untilMs = Date.now() + seconds * 1_000;
  let crashes = 0;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, least + Math.random() * (most - least)));
    if (Date.now() >= untilMs) break;
    await strike(storm);
    crashes++;
  }
  await storm.finishProducers();
  await drained(store);
  await storm.finishConsumers();
  const archived = await archivedKeys(store);
  const keys = new Set([...storm.acknowledged, ...archived.keys()]);
  return {
    acknowledged: storm.acknowledged.size,
    wrongKeys: [...keys].filter((key) => archived.get(key) !== 1).length,
    crashes,
    unknown: storm.unknown,
    notApplied: storm.notApplied,
    latestMs: storm.latestMs,
    unhandled: storm.unhandled,
    runtimes: storm.runtimes,
  };
}

/** Prints one line per bar, and fails when one is missed. */
export function assertBars(what: string, result: StormResult, bars: StormBars): void {
  const lines: [bar: string, measured: number, isReached: boolean][] = [
    [`acknowledged, at least ${bars.acknowledged}`, result.acknowledged, result.acknowledged >= bars.acknowledged],
    ["keys without exactly one archived message, 0", result.wrongKeys, result.wrongKeys === 0],
    [`crashes, at least ${bars.crashes}`, result.crashes, result.crashes >= bars.crashes],
    ["unknown outcomes seen, at least 1", result.unknown, result.unknown >= 1],
    [`latest call after its deadline in ms, at most ${GRACE_MS}`, result.latestMs, result.latestMs <= GRACE_MS],
    ["unhandled rejections, 0", result.unhandled, result.unhandled === 0],
  ];
  const told = lines.map(([bar, measured, isReached]) => `${what}: ${bar}: ${measured}${isReached ? "" : " MISSED"}`);
  console.log([...told, `${what}: not applied: ${result.notApplied}; runtimes: ${result.runtimes}`].join("\n"));
  for (const [bar, measured, isReached] of lines) assert(isReached, `${what}: ${bar}, but ${measured}`);
}

async function openStore(dsn: string): Promise<Store> {
  const store = await connect(dsn, { timeoutMs: 60_000 });
  await store.admin.install();
  await store.admin.createQueue("storm", { maxAttempts: 1_000, maxCrashes: 1_000 });
  return store;
}

/** Waits until no live message is left; leases of the dead run out on the way. */
async function drained(store: Store): Promise<void> {
  const giveUpAt = Date.now() + 60_000;
  while (await store.admin.messages.count({ queue: "storm" }) > 0) {
    assert(Date.now() < giveUpAt, "messages are left");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** How many archived messages each key has. */
async function archivedKeys(store: Store): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.admin.archive.list>> = await store.admin.archive.list({
      queue: "storm",
      limit: 5_000,
      ...(cursor !== null && { cursor }),
    });
    for (const { key, outcome } of page.items) {
      assertEquals(outcome, "succeeded");
      counts.set(String(key), (counts.get(String(key)) ?? 0) + 1);
    }
    cursor = page.cursor;
  } while (cursor !== null);
  return counts;
}
