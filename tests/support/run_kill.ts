/**
 * The kill test of runs: worker processes of all runtimes, of which one after the other is killed while runs of many steps
 * with waits and children go on wherever somebody lives.
 *
 * @module
 */
import { assert } from "@std/assert";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type RunHandle, type Store, workflowRef } from "../../mod.ts";
import { assertAllBars } from "./bars.ts";
import { Crew, type KillSize, rage, sleep } from "./kill.ts";
import {
  checkJourneys,
  type Ended,
  ERRANDS,
  type Journey,
  JOURNEYS,
  mailOf,
  mailsOf,
  planOf,
  TOPIC,
  type Trail,
} from "./run_kill_flow.ts";

/** How large the test is. */
export interface RunKillSize extends Pick<KillSize, "kills" | "leaseMs" | "pauseMs" | "seconds"> {
  readonly runs: number;
}

const SCRIPT = new URL("./run_kill_process.ts", import.meta.url);
/** How long the rest may take when nobody is killed any more. */
const REST_MS = 300_000;
/** So many crashes would end a run; no run has such bad luck. */
const MAX_CRASHES = 50;
/** How much is asked at once when everything is over. */
const LANES = 8;

/** A run that was started. */
interface Started {
  readonly n: number;
  readonly run: RunHandle<Trail>;
}

/** Kills workers on a database, and checks what has become of every run. */
export async function killRuns(name: string, dsn: string, size: RunKillSize): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-run-kill-"));
  const log = join(folder, "notes");
  try {
    writeFileSync(log, "");
    await using store = await connect(dsn);
    await store.admin.install();
    for (const queue of [JOURNEYS, ERRANDS]) await store.admin.createQueue(queue, { maxCrashes: MAX_CRASHES });
    await using crew = new Crew(SCRIPT, [dsn, log, String(size.leaseMs)]);
    await crew.begun();
    const begin = performance.now();
    const [started] = await Promise.all([startRuns(store, size), rage(crew, size)]);
    await drained(store, crew);
    const seconds = (performance.now() - begin) / 1_000;
    await crew.stop();
    await report(name, size, { store, crew, started, seconds, lines: readFileSync(log, "utf8").trimEnd().split("\n") });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Starts runs evenly, so that all are there some time before the killing ends; half of their mail comes later. */
async function startRuns(store: Store, { runs, seconds }: RunKillSize): Promise<Started[]> {
  const ref = workflowRef<Journey, Trail>(JOURNEYS);
  const begin = performance.now();
  const started: Started[] = [];
  const later: Promise<void>[] = [];
  for (let n = 0; n < runs; n++) {
    const run = await store.start(ref, { n });
    started.push({ n, run });
    later.push((async () => {
      for (let index = 0; index < mailsOf(n); index++) {
        if (n % 2 === 0) await sleep(300);
        await run.send(TOPIC, mailOf(n, index), { key: String(index) });
      }
    })());
    await sleep(Math.max(0, begin + 800 * seconds * (n + 1) / runs - performance.now()));
  }
  await Promise.all(later);
  return started;
}

/** Waits until nothing is left: leases of the dead run out on the way. */
async function drained(store: Store, crew: Crew): Promise<void> {
  const giveUpAt = performance.now() + REST_MS;
  for (let left = 1; left > 0;) {
    left = await store.admin.messages.count({ queue: JOURNEYS }) + await store.admin.messages.count({ queue: ERRANDS });
    assert(crew.stillborn.length === 0, `a worker could not begin: ${crew.stillborn[0]}`);
    if (performance.now() > giveUpAt) return;
    if (left > 0) await sleep(50);
  }
}

interface Report {
  readonly store: Store;
  readonly crew: Crew;
  readonly started: readonly Started[];
  readonly seconds: number;
  readonly lines: readonly string[];
}

async function report(
  name: string,
  size: RunKillSize,
  { store, crew, started, seconds, lines }: Report,
): Promise<void> {
  const ended = await endsOf(store, started);
  const stuck = ended.filter((one) => typeof one === "string");
  const errands = ended.flatMap((one) => typeof one === "string" ? [] : childrenOf(one));
  const children = await endsOf(store, errands.map((id) => ({ n: -1, run: store.run<Trail>(id) })));
  const childSteps = children.filter((one) => typeof one !== "string");
  const runs = ended.filter((one) => typeof one !== "string");
  const { wrong, again, twice, unhandled } = checkJourneys(runs, lines);
  again.push(...checkJourneys(childSteps, lines).again);
  const called = started.flatMap(({ n }) => planOf(n)).filter(({ kind }) => kind === "call").length;
  const archived = [
    await store.admin.archive.count({ queue: JOURNEYS }),
    await store.admin.archive.count({ queue: ERRANDS }),
  ];
  for (const finding of [stuck, wrong, again, twice, unhandled]) {
    for (const line of finding.slice(0, 10)) console.log(`${name}: ${line}`);
  }
  const count = (word: string): number => lines.filter((line) => line.split(" ")[1] === word).length;
  console.log(
    `${name}: ${crew.started} processes (${crew.runtimes}), ${count("begin")} steps begun, ${count("end")} done, ` +
      `${count("lost")} leases lost, ${seconds.toFixed(1)} s`,
  );
  assertAllBars(name, [
    [`runs, ${size.runs}`, started.length, started.length === size.runs],
    [`kills, at least ${size.kills}`, crew.kills, crew.kills >= size.kills],
    ["runs without a value, 0", stuck.length, stuck.length === 0],
    ["runs with another value, 0", wrong.length, wrong.length === 0],
    [`runs that have ended, ${size.runs}`, archived[0] ?? 0, archived[0] === size.runs],
    [`children that have ended, ${called}`, archived[1] ?? 0, archived[1] === called],
    ["completed steps done again, 0", again.length, again.length === 0],
    ["runs completed twice, 0", twice.length, twice.length === 0],
    ["unhandled rejections, 0", unhandled.length, unhandled.length === 0],
  ]);
}

function childrenOf({ steps }: Ended): number[] {
  return steps.flatMap(({ childId }) => childId ?? []);
}

/** What every run has yielded, or why it has not. */
async function endsOf(store: Store, started: readonly Started[]): Promise<(Ended | string)[]> {
  const ends: (Ended | string)[] = [];
  const queue = started.values();
  const lane = async (): Promise<void> => {
    for (const { n, run } of queue) ends.push(await endOf(store, n, run));
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return ends;
}

async function endOf(store: Store, n: number, run: RunHandle<Trail>): Promise<Ended | string> {
  const steps = await run.steps();
  try {
    return { id: run.id, n, trail: await run.result({ timeoutMs: 1_000 }), steps };
  } catch (error) {
    const open = steps.filter(({ state }) => state !== "succeeded").map(({ key, kind, state }) =>
      `${kind} ${key} ${state}`
    );
    const row = await store.admin.messages.get(run.id);
    return `run ${run.id} of ${n}: ${
      (error as Error).message
    }; ${row?.state}, due ${row?.visibleAt.toISOString()}, ${open}`;
  }
}
