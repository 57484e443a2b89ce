/**
 * What only ours is measured with, each in a process of its own that prints one line of JSON and ends:
 *
 *   pgqrs_alone.ts sleep <DSN> <runs> <until, in ms>   starts runs that sleep, and ends when all of them do
 *   pgqrs_alone.ts wake <DSN> <runs> <until, in ms>    executes them until all have ended
 *   pgqrs_alone.ts record <DSN> <steps> <bytes>        executes a run up to where it waits
 *   pgqrs_alone.ts replay <DSN> <steps> <bytes>        lets it go on from there
 */
import { connect, type Store, type Workflow, workflow } from "@pgqrs/pgqrs";
import { randomBytes } from "node:crypto";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import postgres from "postgres";
import { WORKFLOW } from "../job.ts";

/** What is printed. */
export interface Told {
  /** How long it took, in milliseconds. */
  readonly ms: number;
  /** The most memory that the process had, in megabytes. */
  readonly rssMb: number;
}

const AT_ONCE = 500;
const CONCURRENCY = 100;

interface Place {
  readonly store: Store;
  readonly sql: postgres.Sql;
}

async function main([mode, dsn, amount, detail]: readonly string[]): Promise<void> {
  if (mode === undefined || dsn === undefined) throw new TypeError("Usage: pgqrs_alone.ts <mode> <DSN> <n> <n>");
  const place = { store: await connect(dsn), sql: postgres(dsn, { max: 1, onnotice() {} }) };
  await place.store.admin.install();
  const ms = await doWork(mode, place, Number(amount), Number(detail));
  await place.store.close();
  await place.sql.end({ timeout: 5 });
  const told: Told = { ms, rssMb: process.resourceUsage().maxRSS / 1_024 };
  console.log(JSON.stringify(told));
}

function doWork(mode: string, place: Place, amount: number, detail: number): Promise<number> {
  switch (mode) {
    case "sleep":
      return sleep(place, amount, detail);
    case "wake":
      return wake(place, amount, detail);
    case "record":
    case "replay":
      return history(place, amount, detail, mode === "replay");
    default:
      throw new TypeError(`No mode ${mode}`);
  }
}

/** The same workflow as that of the others, so that sleepers and others share their queue. */
function sleeper(onReturn: () => void): Workflow<number, number> {
  return workflow(WORKFLOW, async (run, untilMs: number) => {
    await run.sleepUntil("until", new Date(untilMs));
    onReturn();
    return untilMs;
  }, { concurrency: CONCURRENCY });
}

async function sleep({ store, sql }: Place, runs: number, untilMs: number): Promise<number> {
  const from = performance.now();
  const work = sleeper(() => {});
  return await withWorker(store, work, async () => {
    for (let next = 0; next < runs; next += AT_ONCE) {
      const part = Math.min(AT_ONCE, runs - next);
      await Promise.all(Array.from({ length: part }, () => store.start(work, untilMs)));
    }
    const count = async (): Promise<number> =>
      Number(
        (await sql`select count(*) from pgqrs_messages where state = 'ready' and waits is not null`.values())[0]?.[0],
      );
    while (await count() < runs) await pause(50);
    return performance.now() - from;
  });
}

async function wake({ store, sql }: Place, runs: number, untilMs: number): Promise<number> {
  if (Date.now() > untilMs) throw new Error("Too late: they are awake already");
  let returned = 0;
  return await withWorker(store, sleeper(() => returned++), async () => {
    while (returned < runs) await pause(5);
    while ((await sql`select 1 from pgqrs_messages limit 1`).length > 0) await pause(5);
    return Date.now() - untilMs;
  });
}

async function history({ store }: Place, steps: number, bytes: number, isReplay: boolean): Promise<number> {
  let returnedAt = 0;
  const long = workflow("history", async (run, _: null) => {
    for (let i = 0; i < steps; i++) {
      // What does not repeat itself is not made smaller by the database.
      await run.step(`step ${i}`, () => randomBytes(Math.ceil(bytes * 3 / 4)).toString("base64").slice(0, bytes));
    }
    returnedAt = performance.now();
    await run.receive("go");
  });
  const handle = await store.start(long, null, { key: "long" });
  if (isReplay) await handle.send("go", null);
  const from = performance.now();
  await withWorker(store, long, async () => {
    if (isReplay) await handle.result();
    else for (let state = "ready"; state !== "waiting"; state = await handle.status()) await mustLive(state);
  });
  return returnedAt - from;
}

/** A run that has ended will never wait. */
async function mustLive(state: string): Promise<void> {
  if (!["delayed", "leased", "ready"].includes(state)) throw new Error(`The run has ended as ${state}`);
  await pause(20);
}

async function withWorker<Input, Output, T>(
  store: Store,
  work: Workflow<Input, Output>,
  use: () => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const ended = store.worker([work]).run({ signal: stop.signal });
  ended.catch((error) => console.error(error));
  try {
    return await use();
  } finally {
    stop.abort();
    await ended;
  }
}

await main(process.argv.slice(2));
