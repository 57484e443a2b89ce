/**
 * A process that uses one engine of workflows: `engine_agent.ts <name of the engine> <DSN> <concurrency>`. It reads requests
 * from its standard input and answers on its standard output.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import type { Engine, EngineName, EngineOptions } from "./engine.ts";
import type { EngineRequest, EngineTook, Execute } from "./engine_protocol.ts";
import { ANSWER } from "./protocol.ts";

/** Asks a query on a connection of its own. */
type Ask = (query: string) => Promise<unknown[][]>;
type Answer = Omit<EngineTook, "cpuUs">;

class Agent {
  readonly #engine: Engine;
  readonly #ask: Ask;
  readonly #counts: Counts;
  #stop: (() => Promise<unknown>) | undefined;

  constructor(engine: Engine, ask: Ask, counts: Counts) {
    this.#engine = engine;
    this.#ask = ask;
    this.#counts = counts;
  }

  async do(request: EngineRequest): Promise<Answer> {
    const from = now();
    switch (request.do) {
      case "install":
        await this.#engine.install();
        return { from, to: now(), count: 0 };
      case "store":
        await this.stop();
        await this.#engine.enqueueMany(request.runs, request.steps);
        return { from, to: now(), count: request.runs };
      case "execute":
        return await this.#execute(request);
      case "drain":
        return await this.#drain(request.runs);
      case "recorded":
        return { from, to: now(), count: Number((await this.#ask(this.#engine.recorded))[0]?.[0]) };
    }
  }

  async #execute({ callers, steps, runs = Infinity, seconds = Infinity }: Execute): Promise<Answer> {
    this.#stop ??= await this.#engine.work("execute");
    const waits: number[] = [];
    const from = now();
    let begun = 0;
    await Promise.all(Array.from({ length: callers }, async () => {
      while (begun < runs && now() - from < seconds * 1_000) {
        begun++;
        const at = now();
        const result = await this.#engine.execute(steps);
        if (result !== steps) throw new Error(`A run of ${steps} steps has ended with ${result}`);
        waits.push(now() - at);
      }
    }));
    return { from, to: now(), count: waits.length, waits };
  }

  async #drain(runs: number): Promise<Answer> {
    this.#counts.returned = 0;
    this.#counts.begunAt = 0;
    this.#stop = await this.#engine.work("drain");
    // The question is dear while there are many dead rows: it is not asked before all functions have returned.
    while (this.#counts.returned < runs) await pause(1);
    while ((await this.#ask(this.#engine.left)).length > 0) await pause(1);
    return { from: this.#counts.begunAt, to: now(), count: runs };
  }

  async stop(): Promise<void> {
    const stop = this.#stop;
    this.#stop = undefined;
    await stop?.();
  }
}

interface Counts {
  returned: number;
  begunAt: number;
}

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

async function open(name: EngineName, options: EngineOptions): Promise<Engine> {
  switch (name) {
    case "absurd":
      return await (await import("./absurd.ts")).open(options);
    case "dbos":
      return await (await import("./dbos.ts")).open(options);
    case "openworkflow":
      return await (await import("./openworkflow.ts")).open(options);
    case "pgqrs":
      return await (await import("./pgqrs_runs.ts")).open(options);
  }
}

async function openAsk(dsn: string): Promise<{ ask: Ask; close(): Promise<void> }> {
  if (dsn.startsWith("sqlite:")) {
    const { DatabaseSync } = await import("node:sqlite");
    const ask = (query: string): Promise<unknown[][]> => {
      const database = new DatabaseSync(dsn.slice("sqlite:".length), { timeout: 5_000 });
      const rows = database.prepare(query).all().map((row) => Object.values(row));
      database.close();
      return Promise.resolve(rows);
    };
    return { ask, close: () => Promise.resolve() };
  }
  const { default: postgres } = await import("postgres");
  const sql = postgres(dsn, { max: 1, onnotice() {} });
  return { ask: async (query) => [...await sql.unsafe(query).values()], close: () => sql.end({ timeout: 5 }) };
}

async function withCpu(work: () => Promise<Answer>): Promise<EngineTook> {
  const before = process.cpuUsage();
  const answer = await work();
  const { user, system } = process.cpuUsage(before);
  return { ...answer, cpuUs: user + system };
}

async function main([name, dsn, concurrency]: readonly string[]): Promise<void> {
  if (name === undefined || dsn === undefined || concurrency === undefined) {
    throw new TypeError("Usage: engine_agent.ts <engine> <DSN> <concurrency>");
  }
  const counts: Counts = { returned: 0, begunAt: 0 };
  const engine = await open(name as EngineName, {
    dsn,
    concurrency: Number(concurrency),
    onBegin: () => counts.begunAt ||= now(),
    onReturn: () => counts.returned++,
  });
  const { ask, close } = await openAsk(dsn);
  const agent = new Agent(engine, ask, counts);
  const lines = createInterface({ input: process.stdin });
  let doing: Promise<void> = Promise.resolve();
  lines.on("line", (line) => {
    doing = withCpu(() => agent.do(JSON.parse(line) as EngineRequest)).then(answer, fail);
  });
  await new Promise((ended) => lines.once("close", ended));
  await doing;
  await agent.stop();
  await close();
  await engine.close();
}

function answer(took: EngineTook): void {
  process.stdout.write(`${ANSWER}${JSON.stringify(took)}\n`);
}

function fail(error: unknown): never {
  console.error(error);
  process.exit(1);
}

await main(process.argv.slice(2));
// What an engine leaves behind, such as timers, is none of our business.
process.exit(0);
