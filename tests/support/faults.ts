/**
 * The fault test: workers and producers of all runtimes behind a proxy, while the server or the way to it breaks.
 *
 * @module
 */
import { assert } from "@std/assert";
import { connect, type Store } from "../../mod.ts";
import { assertAllBars, type Bar } from "./bars.ts";
import { bareClient } from "./databases.ts";
import { PostgresServer } from "./postgres_server.ts";
import { startProcess, type TestProcess } from "./processes.ts";
import { availableRuntimes } from "./runtimes.ts";
import { startProxy, type TcpProxy } from "./tcp_proxy.ts";
import { until } from "./until.ts";

/** How large the test is. */
export interface FaultSize {
  /** How long everything runs undisturbed before each fault and after it. */
  readonly calmMs: number;
  /** How long those faults last that have a duration. */
  readonly faultMs: number;
  /** How many messages are there from the beginning, so that workers never run out of work. */
  readonly backlog: number;
  /** Whether the throughput has to come back in time: not on a machine that others use too. */
  readonly isMeasured: boolean;
}

/** What is struck. */
interface Ground {
  readonly server: PostgresServer;
  readonly proxy: TcpProxy;
  readonly size: FaultSize;
}

/** Each resolves when the server can be reached again as ever. */
const FAULTS: Readonly<Record<string, (ground: Ground) => Promise<void>>> = {
  "server stopped in immediate mode": ({ server }) => server.restart("immediate"),
  "backends terminated": ({ server }) => terminateBackends(server.dsn()),
  "connections cut": ({ proxy }) => Promise.resolve(proxy.cut()),
  "half-open connections": async ({ proxy, size }) => {
    proxy.freeze();
    await sleep(size.faultMs);
    proxy.pass();
  },
  "delayed by 300 ms": async ({ proxy, size }) => {
    proxy.delay(300);
    await sleep(size.faultMs);
    proxy.pass();
  },
  "answers truncated": async ({ proxy, size }) => {
    const end = performance.now() + size.faultMs;
    while (performance.now() < end) {
      proxy.truncate(Math.floor(Math.random() * 2_000));
      await sleep(100);
    }
    proxy.pass();
  },
};

const WORKERS = 2;
const PRODUCERS = 2;
const SCRIPT = new URL("./fault_process.ts", import.meta.url);
const WINDOW_MS = 1_000;
const TICK_MS = 100;
/** By when the throughput has to be back, and how much of it. */
const BACK_MS = 3_000;
const PART = 0.8;
/** How long a call may take beyond its deadline. */
const GRACE_MS = 1_000;

/** The processes, and what they have told so far. */
class Crowd implements AsyncDisposable {
  readonly acknowledged = new Set<string>();
  /** How many were completed and acknowledged, by the tenth of a second in which they were. */
  readonly rates = { worker: new Map<number, number>(), producer: new Map<number, number>() };
  readonly #children: TestProcess[] = [];
  readonly #readers: Promise<void>[] = [];
  readonly #ready: Promise<void>[] = [];
  errors = 0;
  latestMs = 0;
  unhandled = 0;

  constructor(dsn: string) {
    const runtimes = availableRuntimes();
    for (let i = 0; i < WORKERS + PRODUCERS; i++) {
      const role = i < WORKERS ? "worker" : "producer";
      const runtime = runtimes[i % Math.max(1, runtimes.length)]?.command;
      const child = startProcess(SCRIPT, { args: [role, dsn, `${role}${i}`], ...(runtime && { runtime }) });
      this.#children.push(child);
      this.#ready.push(new Promise((resolve) => this.#readers.push(this.#read(child, role, resolve))));
    }
  }

  async begun(): Promise<void> {
    await Promise.all(this.#ready);
  }

  /** Whether messages were completed and acknowledged since then. */
  isBack(since: number): boolean {
    return Object.values(this.rates).every((rates) => [...rates.keys()].some((tick) => tick * TICK_MS > since));
  }

  /** Lets producers or workers end as their operator would. */
  async stop(role: "producer" | "worker"): Promise<void> {
    const [from, to] = role === "worker" ? [0, WORKERS] : [WORKERS, WORKERS + PRODUCERS];
    for (const child of this.#children.slice(from, to)) child.kill("SIGTERM");
    await Promise.all(this.#readers.slice(from, to));
    for (const { stdout, stderr } of this.#children.slice(from, to)) {
      assert(stdout.endsWith("done\n"), `a ${role} has failed: ${stdout.slice(-500)} ${stderr}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const child of this.#children) await child[Symbol.asyncDispose]();
  }

  async #read(child: TestProcess, role: "producer" | "worker", reportReady: () => void): Promise<void> {
    const rates = this.rates[role];
    for await (const line of child.lines) {
      const [word, first = "", second = ""] = line.split(" ");
      if (word === "ready") reportReady();
      else if (word === "ack") this.acknowledged.add(first);
      else if (word === "took") this.latestMs = Math.max(this.latestMs, Number(first));
      else if (word === "error") this.errors++;
      else if (word === "unhandled") this.unhandled++;
      else if (word === "rate") {
        const tick = Math.floor(Number(first) / TICK_MS);
        rates.set(tick, (rates.get(tick) ?? 0) + Number(second));
      }
    }
    reportReady();
  }
}

/** Makes one fault after the other, and checks what has become of every message and of the throughput. */
export async function withstandFaults(name: string, size: FaultSize): Promise<void> {
  await using server = await PostgresServer.open();
  await using proxy = await startProxy(server.dsn());
  await using store = await connect(server.dsn(), { timeoutMs: 60_000 });
  await store.admin.install();
  await store.admin.createQueue("tasks", { maxAttempts: 1_000, maxCrashes: 1_000 });
  const backlog = Array.from({ length: size.backlog }, (_, i) => `backlog.${i}`);
  await store.producer("tasks").enqueueMany(backlog);
  await using crowd = new Crowd(proxy.through(server.dsn()));
  await crowd.begun();
  const bars: Bar[] = [];
  await sleep(size.calmMs);
  for (const [fault, strike] of Object.entries(FAULTS)) {
    await sleep(size.calmMs);
    const before = { errors: crowd.errors, connections: proxy.connectCount };
    const begin = Date.now();
    await strike({ server, proxy, size });
    const ready = Date.now();
    if (size.isMeasured) {
      await sleep(BACK_MS + WINDOW_MS);
      bars.push(...judge(fault, size, crowd, begin, ready));
    }
    await until(`all go on after ${fault}`, () => crowd.isBack(ready));
    const felt = [crowd.errors - before.errors, proxy.connectCount - before.connections] as const;
    // Of connections that are cut while nobody waits for an answer, nobody is told.
    const isFelt = fault.startsWith("delayed") || felt.some((count) => count > 0);
    bars.push([`${fault}: went on after errors, new connections`, felt.join(", "), isFelt]);
  }
  await crowd.stop("producer");
  await drained(store);
  await crowd.stop("worker");
  const ended = await endedKeys(store);
  const expected = [...crowd.acknowledged, ...backlog];
  const wrong = expected.filter((key) => ended.get(key) !== 1).length;
  assertAllBars(name, [
    ...bars,
    [`acknowledged or there before, and not completed exactly once, 0 of ${expected.length}`, wrong, wrong === 0],
    ["completed and never acknowledged, 0", ended.size - expected.length, ended.size === expected.length],
    [`latest call after its deadline in ms, at most ${GRACE_MS}`, crowd.latestMs, crowd.latestMs <= GRACE_MS],
    ["unhandled rejections, 0", crowd.unhandled, crowd.unhandled === 0],
  ]);
}

/** How long it took until a second had its part of the median of those before the fault. */
function judge(fault: string, { calmMs }: FaultSize, { rates }: Crowd, begin: number, ready: number): Bar[] {
  return (["worker", "producer"] as const).map((role): Bar => {
    const sums: number[] = [];
    for (let at = begin - calmMs; at + WINDOW_MS <= begin; at += TICK_MS) sums.push(sumOf(rates[role], at));
    const median = sums.sort((a, b) => a - b)[sums.length >> 1] ?? 0;
    // The second that counts has begun after the fault.
    let backMs = Math.max(0, WINDOW_MS - (ready - begin));
    while (sumOf(rates[role], ready + backMs - WINDOW_MS) < PART * median && backMs <= BACK_MS) backMs += TICK_MS;
    const told = backMs <= BACK_MS ? `${backMs} ms` : "later";
    const bar = `${fault}: ${role}s at ${PART * 100} % of ${median}/s within ${BACK_MS} ms`;
    return [bar, told, backMs <= BACK_MS];
  });
}

/** How many there were in the window that begins then. */
function sumOf(rates: ReadonlyMap<number, number>, at: number): number {
  const first = Math.floor(at / TICK_MS);
  let sum = 0;
  for (let tick = first; tick < first + WINDOW_MS / TICK_MS; tick++) sum += rates.get(tick) ?? 0;
  return sum;
}

async function terminateBackends(dsn: string): Promise<void> {
  const sql = bareClient(dsn);
  await sql.unsafe(
    "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datid > 0",
  );
  await sql.end({ timeout: 5 });
}

/** Waits until nothing is left. */
async function drained(store: Store): Promise<void> {
  const giveUpAt = performance.now() + 120_000;
  while (await store.admin.messages.count({ queue: "tasks" }) > 0) {
    assert(performance.now() < giveUpAt, "messages are left");
    await sleep(100);
  }
}

/** How many messages have ended as succeeded, with their payload as the result, by that. */
async function endedKeys(store: Store): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<typeof store.admin.archive.list>> = await store.admin.archive.list({
      queue: "tasks",
      limit: 5_000,
      ...(cursor !== null && { cursor }),
    });
    for (const { payload, result, outcome } of page.items) {
      if (outcome !== "succeeded" || result !== payload) continue;
      counts.set(String(payload), (counts.get(String(payload)) ?? 0) + 1);
    }
    cursor = page.cursor;
  } while (cursor !== null);
  return counts;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
