/** What is measured of our workflows alone. */
import { execFile } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { openPlanSession } from "../tests/support/plan_probe.ts";
import { HOOKS } from "./agents.ts";
import type { Course, Figure, Measure, Workload } from "./compare.ts";
import { median } from "./figures.ts";
import { WORKFLOW } from "./job.ts";
import type { Told } from "./peers/pgqrs_alone.ts";
import { count, flow, NOBODY, onEngine } from "./workflows_beside.ts";

const PROGRAM = fileURLToPath(new URL("./peers/pgqrs_alone.ts", import.meta.url));
const LONGEST_MS = 300_000;
const ROUNDS = 5;
const CALLERS = 50;
const DAY_MS = 86_400_000;

/** The workloads, in the order of the page. */
export const aloneWorkloads: readonly Workload[] = [
  ...[1, CALLERS].map(commits),
  sleepers(),
  waking(),
  history("history-10000", "history of 10,000 steps of 100 bytes", 10_000, 100, [
    { title: "recorded", unit: "s", isLess: true, bar: {} },
    { title: "replayed", unit: "s", isLess: true, bar: { value: 1 } },
    { title: "peak RSS, recording", unit: "MB", isLess: true, bar: {} },
    { title: "peak RSS, replaying", unit: "MB", isLess: true, bar: {} },
  ]),
  history("history-1mb", "history of 1,000 steps of 1 MB", 1_000, 1_000_000, [
    { title: "recorded", unit: "s", isLess: true, bar: {} },
    { title: "replayed", unit: "s", isLess: true, bar: {} },
    { title: "peak RSS, recording", unit: "MB", isLess: true, bar: { value: 300 } },
    { title: "peak RSS, replaying", unit: "MB", isLess: true, bar: { value: 300 } },
  ]),
];

function alone(name: string, measures: readonly Measure[]): Omit<Workload, "run"> {
  return { name, on: "server", subjects: ["pgqrs"], rounds: ROUNDS, measures };
}

function commits(callers: number): Workload {
  const all = [1, 3, 10];
  // Runs that are under way together share their commits.
  const bar = (steps: number): number => callers === 1 ? steps + 2 : (steps + 2) / 5;
  const measures = all.map((steps): Measure => ({
    title: `commits per run of ${steps} step${steps === 1 ? "" : "s"}, c=${callers}`,
    unit: "commits",
    isLess: true,
    bar: { value: bar(steps) },
  }));
  return {
    ...alone(`commits-${callers}`, measures),
    async run(course) {
      const figures: Figure[] = [];
      for (const steps of all) figures.push({ value: await countCommits(course, callers, steps) });
      return figures;
    },
  };
}

/** What many runs cost more than few, so that whatever a process does at its begin and end is in neither. */
async function countCommits(course: Course, callers: number, steps: number): Promise<number> {
  const { ground } = course;
  const dsn = await ground.fresh();
  // The commits of autovacuum are counted with all others.
  await ground.run(dsn, "alter system set autovacuum = off", "select pg_reload_conf()");
  const few = 100;
  const many = few + Math.max(200, count(course, 1_000));
  const execute = (runs: number): Promise<number> =>
    onEngine(course, { name: "pgqrs", dsn, concurrency: callers }, async (agent) => {
      await agent.ask({ do: "install" });
      await agent.ask({ do: "execute", callers, steps, runs });
    }).then(() => committed(course, dsn));
  try {
    // The first process installs; it is in no difference.
    const counts = [await execute(1), await execute(few), await execute(many)] as const;
    return (counts[2] - counts[1] - (counts[1] - counts[0])) / (many - few);
  } finally {
    await ground.run(dsn, "alter system reset autovacuum", "select pg_reload_conf()");
  }
}

/** All commits in a database: a connection's are counted when it has ended. */
async function committed({ ground }: Course, dsn: string): Promise<number> {
  const mine = "datname = current_database()";
  const others = `select count(*) from pg_stat_activity where ${mine} and pid <> pg_backend_pid()`;
  while (Number(await ground.ask(dsn, others)) > 0) await pause(20);
  return Number(await ground.ask(dsn, `select xact_commit from pg_stat_database where ${mine}`));
}

function sleepers(): Workload {
  const title = "100,000 runs sleep:";
  return {
    ...alone("sleepers", [
      { title: `${title} workflows, 3 steps, c=${CALLERS}`, unit: "runs/s", bar: { ratio: 0.85 } },
      { title: `${title} a claim of 10`, unit: "buffers", isLess: true, bar: { ratio: 1.05 } },
    ]),
    subjects: ["pgqrs", NOBODY],
    async run(course, subject) {
      const name = subject === NOBODY ? "bench_awake" : "bench_asleep";
      const { dsn, isNew } = await course.ground.keep(name);
      const options = { name: "pgqrs", dsn, concurrency: CALLERS };
      if (isNew) {
        await onEngine(course, options, (agent) => agent.ask({ do: "install" }));
        const runs = count(course, 100_000);
        if (subject !== NOBODY) await tell(course, ["sleep", dsn, runs, Date.now() + DAY_MS]);
      }
      await course.ground.tidy(dsn);
      const figure = await onEngine(course, options, (agent) => flow(course, agent, 3));
      await onEngine(course, options, (agent) => agent.ask({ do: "store", runs: 100, steps: 3 }));
      await course.ground.tidy(dsn);
      return [figure, { value: await claimBuffers(dsn) }];
    },
  };
}

/** What a claim reads, in the middle of some that are taken back. */
async function claimBuffers(dsn: string): Promise<number> {
  const session = await openPlanSession(dsn);
  try {
    const buffers: number[] = [];
    for (let i = 0; i < 5; i++) {
      await session.sql.unsafe("begin");
      const { rows, buffers: read } = await session.probe(
        `select id from pgqrs_claim('${WORKFLOW}', 10, null, 60000, 'me#00000001', null, null, false, null)`,
      );
      if (rows.length < 10) throw new Error(`A claim of 10 has got ${rows.length}`);
      await session.sql.unsafe("rollback");
      buffers.push(read);
    }
    return median(buffers);
  } finally {
    await session.close();
  }
}

function waking(): Workload {
  const title = "10,000 runs wake at the same time: until all have ended";
  return {
    ...alone("waking", [{ title, unit: "s", isLess: true, bar: { value: 5 } }]),
    async run(course) {
      const dsn = await course.ground.fresh();
      const runs = count(course, 10_000);
      const until = Date.now() + 5_000 + runs * 2;
      await tell(course, ["sleep", dsn, runs, until]);
      await course.ground.tidy(dsn);
      return [{ value: (await tell(course, ["wake", dsn, runs, until])).ms / 1_000 }];
    },
  };
}

function history(name: string, title: string, all: number, bytes: number, measures: readonly Measure[]): Workload {
  return {
    ...alone(name, measures.map((one) => ({ ...one, title: `${title}: ${one.title}` }))),
    rounds: bytes > 1_000 ? 1 : ROUNDS,
    async run(course) {
      const dsn = await course.ground.fresh();
      const steps = count(course, all);
      const told: (Told | undefined)[] = [];
      for (const mode of ["record", "replay"]) {
        // A history that is too long for one of them has a figure of the other.
        told.push(await tell(course, [mode, dsn, steps, bytes]).catch((error) => void console.error(error)));
      }
      const [recorded, replayed] = told.map((one) => one ?? { ms: Number.NaN, rssMb: Number.NaN }) as [Told, Told];
      return [recorded.ms / 1_000, replayed.ms / 1_000, recorded.rssMb, replayed.rssMb].map((value) => ({ value }));
    },
  };
}

/** Does one thing in a process of its own. */
async function tell({ node }: Course, words: readonly (number | string)[]): Promise<Told> {
  const args = ["--no-warnings", "--import", HOOKS, PROGRAM, ...words.map(String)];
  const { stdout } = await promisify(execFile)(node, args, { timeout: LONGEST_MS, killSignal: "SIGKILL" });
  return JSON.parse(stdout) as Told;
}
