/**
 * Absurd. Its package on npm is only its client: the tables and functions that it calls come with a command for Python, so
 * that `ABSURD_SQL` has to name their file. A look every 10 ms instead of every 250.
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import postgres from "postgres";
import { WORKFLOW } from "../job.ts";
import { type Engine, type EngineOptions, stepValue } from "./engine.ts";
import { inParts, load } from "./peer.ts";

interface Context {
  step<T>(name: string, work: () => Promise<T>): Promise<T>;
}

interface Client {
  createQueue(): Promise<void>;
  registerTask(options: object, work: (input: Input, context: Context) => Promise<number>): void;
  spawn(name: string, input: Input): Promise<{ readonly taskID: string }>;
  awaitTaskResult(id: string): Promise<{ readonly state: string; readonly result?: number }>;
  startWorker(options: object): Promise<{ close(): Promise<void> }>;
}

interface Input {
  readonly count: number;
}

interface Pool {
  end(): Promise<void>;
}

const QUEUE = "bench";
const POOL = 20;

/** Opens Absurd. */
export async function open({ dsn, concurrency, onBegin, onReturn }: EngineOptions): Promise<Engine> {
  const { Absurd } = await load<{ Absurd: new (options: object) => Client }>("absurd-sdk");
  const { default: { Pool } } = await load<{ default: { Pool: new (options: object) => Pool } }>("pg");
  const db = new Pool({ connectionString: dsn, max: POOL });
  const client = new Absurd({ db, queueName: QUEUE });
  client.registerTask({ name: WORKFLOW }, async ({ count }, context) => {
    onBegin();
    for (let i = 0; i < count; i++) await context.step(`step ${i}`, () => stepValue(i));
    onReturn();
    return count;
  });
  return {
    async install() {
      await createSchema(dsn);
      await client.createQueue();
    },
    enqueueMany: (runs, count) =>
      inParts(Array.from({ length: runs }, () => count), ([one = 0]) => client.spawn(WORKFLOW, { count: one }), {
        size: 1,
        atOnce: POOL,
      }),
    async work() {
      const worker = await client.startWorker({ concurrency, pollInterval: 0.01 });
      return () => worker.close();
    },
    async execute(count) {
      const { taskID } = await client.spawn(WORKFLOW, { count });
      const { state, result } = await client.awaitTaskResult(taskID);
      if (result === undefined) throw new Error(`The task has ended as ${state}`);
      return result;
    },
    left: `select 1 from absurd.t_${QUEUE} where state not in ('completed', 'failed', 'cancelled') limit 1`,
    recorded: `select count(*) from absurd.c_${QUEUE}`,
    close: () => db.end(),
  };
}

async function createSchema(dsn: string): Promise<void> {
  const file = process.env.ABSURD_SQL;
  if (file === undefined) throw new Error("its schema is in no package of npm, and ABSURD_SQL names no file");
  const sql = postgres(dsn, { max: 1, onnotice() {} });
  try {
    await sql.unsafe(readFileSync(file, "utf8"));
  } finally {
    await sql.end({ timeout: 5 });
  }
}
