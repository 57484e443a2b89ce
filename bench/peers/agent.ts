/**
 * A process that uses one queue: `agent.ts <name of the queue> <DSN> [latency]`. It reads requests from its standard input and
 * answers on its standard output. Every run has processes of its own, so that nobody disturbs another.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { newJob } from "../job.ts";
import type { Peer, PeerName } from "./peer.ts";
import {
  ANSWER,
  type Drain,
  type Enqueue,
  type Flow,
  HANDLED,
  type Hear,
  type Request,
  type Send,
  type Took,
} from "./protocol.ts";

const TICK_MS = 5;

type Check = () => Promise<boolean>;
type Answer = Omit<Took, "cpuUs" | "lagMs" | "ticked"> & { readonly cpuUs?: number };

class Agent {
  readonly #peer: Peer;
  readonly #isLeft: Check;
  #handled = 0;
  #waits: number[] = [];
  #stop: (() => Promise<unknown>) | undefined;
  /** Whether all jobs of a drain have been handled somewhere. */
  isFinishing = false;

  constructor(peer: Peer, isLeft: Check) {
    this.#peer = peer;
    this.#isLeft = isLeft;
  }

  async do(request: Request): Promise<Answer> {
    // A worker goes on until something else is asked, so that its end is not measured with what it did.
    if (request.do !== "hear" && request.do !== "send") await this.stop();
    const from = now();
    switch (request.do) {
      case "install":
        await this.#peer.install();
        return { from, to: now(), jobs: 0 };
      case "finish":
      case "rest":
        return { from, to: now(), jobs: 0 };
      case "enqueueMany":
        return await this.#enqueueMany(request.jobs);
      case "enqueue":
        return await this.#enqueue(request);
      case "send":
        return await this.#send(request);
      case "drain":
        return await this.#drain(request);
      case "listen":
        this.#waits = [];
        this.#stop = await this.#peer.work(({ at = 0 }) => this.#waits.push(now() - at), "latency");
        return { from, to: now(), jobs: 0 };
      case "hear":
        return await this.#hear(request);
      case "flow":
        return await this.#flow(request);
    }
  }

  async #enqueueMany(jobs: number): Promise<Answer> {
    const list = Array.from({ length: jobs }, (_, i) => newJob(i));
    const from = now();
    if (jobs > 0) await this.#peer.enqueueMany(list);
    return { from, to: now(), jobs };
  }

  async #enqueue({ jobs, callers }: Enqueue): Promise<Answer> {
    const from = now();
    let next = 0;
    await Promise.all(Array.from({ length: callers }, async () => {
      while (next < jobs) await this.#peer.enqueue(newJob(next++));
    }));
    return { from, to: now(), jobs };
  }

  async #send({ jobs, everyMs }: Send): Promise<Answer> {
    const from = now();
    const sent: Promise<unknown>[] = [];
    for (let i = 0; i < jobs; i++) {
      const dueAt = from + i * everyMs;
      while (now() < dueAt) await pause(Math.max(1, Math.floor(dueAt - now())));
      const one = Promise.resolve(this.#peer.enqueue({ ...newJob(i), at: now() }));
      one.catch(() => {});
      sent.push(one);
    }
    await Promise.all(sent);
    return { from, to: now(), jobs };
  }

  async #drain({ most = Number.POSITIVE_INFINITY }: Drain): Promise<Answer> {
    let from = 0;
    let to = 0;
    let handled = 0;
    this.isFinishing = false;
    const cpu = process.cpuUsage();
    this.#stop = await this.#peer.work(() => {
      if (handled++ === 0) from = now();
      if (handled === most) to = now();
    }, "drain");
    for (let told = 0; to === 0;) {
      await pause(this.isFinishing ? 1 : TICK_MS);
      if (handled !== told) process.stdout.write(`${HANDLED}${told = handled}\n`);
      else if (this.isFinishing && !await this.#isLeft()) to = now();
    }
    const { user, system } = process.cpuUsage(cpu);
    return { from: from || to, to, jobs: Math.min(handled, most), cpuUs: user + system };
  }

  async #hear({ jobs }: Hear): Promise<Answer> {
    const from = now();
    const giveUpAt = from + 30_000;
    while (this.#waits.length < jobs && now() < giveUpAt) await pause(TICK_MS);
    if (this.#waits.length < jobs) throw new Error(`Only ${this.#waits.length} of ${jobs} jobs arrived`);
    await this.stop();
    return { from, to: now(), jobs, waits: this.#waits };
  }

  async stop(): Promise<void> {
    const stop = this.#stop;
    this.#stop = undefined;
    await stop?.();
  }

  /** Keeps some jobs in the queue, so that the worker always has something to do. */
  async #flow({ seconds, windowMs }: Flow): Promise<Answer> {
    const backlog = 10_000;
    let enqueued = 0;
    this.#handled = 0;
    const fill = async (): Promise<void> => {
      const list = Array.from({ length: backlog / 5 }, (_, i) => newJob(enqueued + i));
      enqueued += list.length;
      await this.#peer.enqueueMany(list);
    };
    while (enqueued < backlog) await fill();
    this.#stop = await this.#peer.work(() => this.#handled++, "drain");
    const from = now();
    const windows: number[] = [];
    const timer = setInterval(() => windows.push(this.#handled - windows.reduce((a, b) => a + b, 0)), windowMs);
    while (now() < from + seconds * 1_000) await (enqueued - this.#handled < backlog ? fill() : pause(1));
    clearInterval(timer);
    return { from, to: now(), jobs: this.#handled, windows };
  }
}

/** The clock that does not jump and that all processes of the machine share, in milliseconds. */
function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Watches a timer while something is done: what blocks the event loop makes it late. */
async function withTimer(work: () => Promise<Answer>): Promise<Took> {
  const cpu = process.cpuUsage();
  const begun = now();
  let last = begun;
  let lagMs = 0;
  let ticks = 0;
  const tick = (): void => {
    ticks++;
    lagMs = Math.max(lagMs, now() - last - TICK_MS);
    last = now();
  };
  const timer = setInterval(tick, TICK_MS);
  try {
    const answer = await work();
    lagMs = Math.max(lagMs, now() - last - TICK_MS);
    const { user, system } = process.cpuUsage(cpu);
    return { cpuUs: user + system, ...answer, lagMs, ticked: ticks / ((now() - begun) / TICK_MS) };
  } finally {
    clearInterval(timer);
  }
}

async function open(name: PeerName, dsn: string, isForLatency: boolean): Promise<Peer> {
  switch (name) {
    case "pgqrs":
      return await (await import("./pgqrs.ts")).open(dsn);
    case "pg-boss":
      return await (await import("./pg_boss.ts")).open(dsn, isForLatency);
    case "graphile-worker":
      return await (await import("./graphile_worker.ts")).open(dsn);
    case "bullmq":
      return await (await import("./bullmq.ts")).open(dsn);
    case "plainjob":
      return await (await import("./plainjob.ts")).open(dsn);
  }
}

/** Asks on a connection of its own whether a job is left. */
async function openCheck(dsn: string, query: string): Promise<{ isLeft: Check; close(): Promise<void> }> {
  if (dsn.startsWith("sqlite:")) {
    const { DatabaseSync } = await import("node:sqlite");
    const open = (): Promise<boolean> => {
      const database = new DatabaseSync(dsn.slice("sqlite:".length), { timeout: 5_000 });
      const isLeft = database.prepare(query).get() !== undefined;
      database.close();
      return Promise.resolve(isLeft);
    };
    return { isLeft: open, close: () => Promise.resolve() };
  }
  const { default: postgres } = await import("postgres");
  const sql = postgres(dsn, { max: 1, onnotice() {} });
  return {
    isLeft: async () => (await sql.unsafe(query)).length > 0,
    close: () => sql.end({ timeout: 5 }),
  };
}

async function main([name, dsn, purpose]: readonly string[]): Promise<void> {
  if (name === undefined || dsn === undefined) throw new TypeError("Usage: agent.ts <queue> <DSN> [latency]");
  const peer = await open(name as PeerName, dsn, purpose === "latency");
  const check = await openCheck(dsn, peer.left);
  const agent = new Agent(peer, check.isLeft);
  const lines = createInterface({ input: process.stdin });
  let doing: Promise<void> = Promise.resolve();
  lines.on("line", (line) => {
    const request = JSON.parse(line) as Request;
    if (request.do === "finish") agent.isFinishing = true;
    else doing = withTimer(() => agent.do(request)).then(answer, fail);
  });
  await new Promise((ended) => lines.once("close", ended));
  await doing;
  await agent.stop();
  await check.close();
  await peer.close();
}

function answer(took: Took): void {
  process.stdout.write(`${ANSWER}${JSON.stringify(took)}\n`);
}

function fail(error: unknown): never {
  console.error(error);
  process.exit(1);
}

await main(process.argv.slice(2));
// What a queue leaves behind, such as timers, is none of our business.
process.exit(0);
