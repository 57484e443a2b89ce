/**
 * The benchmarks: `deno task bench [--quick] [--backend postgres|sqlite] [--only <text>]`.
 *
 * Every workload runs with the library and with the same statements without it, in turns: A B A B … What is told is the
 * median of five rounds and the median of the ratios within a round, so that a machine that becomes slower or faster meanwhile
 * does not decide. A full run writes docs/benchmarks.md.
 *
 *   --quick     one round of a hundredth of the work; nothing is written
 *
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { startPostgres } from "../tests/support/postgres_server.ts";
import { clear, openBarePostgres, openBareSqlite } from "./bare.ts";
import { median, tableOf } from "./figures.ts";
import { newJob } from "./job.ts";
import { clientCpu, describeMachine, describeRuntime, serverCpu } from "./machine.ts";
import { writePart } from "./page.ts";
import { openLibrary, type Subject } from "./subject.ts";

interface Workload {
  readonly name: string;
  /** How many jobs one run does. */
  readonly jobs: number;
  /** Fills the queue before the clock runs. */
  readonly isFilled: boolean;
  run(subject: Subject, jobs: number): Promise<void>;
}

/** One run of one subject. */
interface Run {
  readonly perSecond: number;
  /** CPU time of the client for each job, in microseconds. */
  readonly clientUs: number;
  readonly serverUs: number;
}

interface Result {
  readonly workload: string;
  readonly ours: Run;
  readonly bare: Run;
  /** Ours divided by bare: the median over the rounds. */
  readonly ratio: { readonly perSecond: number; readonly cpu: number };
}

interface Backend {
  readonly title: string;
  readonly dsn: string;
  readonly serverPid: number | undefined;
  openBare(): Subject;
}

const ROUNDS = 5;
/** How many loops take and archive at the same time. */
const CONSUMERS = 3;
const HEAD = [
  "workload",
  "ours, jobs/s",
  "bare, jobs/s",
  "ratio",
  "ours, CPU µs/job, client + server",
  "bare",
  "ratio",
];
const SETTINGS = { fsync: "on", synchronous_commit: "on", shared_buffers: "256MB", max_wal_size: "4GB" };

const workloads: readonly Workload[] = [
  {
    name: "enqueue one by one, c=1",
    jobs: 2_000,
    isFilled: false,
    run: (subject, jobs) => enqueueEach(subject, jobs, 1),
  },
  {
    name: "enqueue one by one, c=32",
    jobs: 10_000,
    isFilled: false,
    run: (subject, jobs) => enqueueEach(subject, jobs, 32),
  },
  { name: "enqueueMany", jobs: 100_000, isFilled: false, run: enqueueAll },
  ...[[1, 2_000], [10, 10_000], [50, 30_000], [200, 60_000]].map(([limit = 1, jobs = 1]) => ({
    name: `dequeue + archive, limit ${limit}`,
    jobs,
    isFilled: true,
    run: (subject: Subject, jobs: number) => drain(subject, jobs, limit),
  })),
];

if (import.meta.main) await main(process.argv.slice(2));

async function main(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { quick: { type: "boolean" }, backend: { type: "string" }, only: { type: "string", default: "" } },
  });
  const chosen = workloads.filter(({ name }) => name.includes(values.only));
  const page = [
    "“Bare” is the same statements through the same client without the library. Ratios are ours divided by bare,",
    "the median over the rounds; CPU is that of client and server together.",
    "",
    `- ${describeMachine()}`,
    `- ${describeRuntime()}, ${new Date().toISOString().slice(0, 10)}`,
    `- medians of ${
      values.quick ? 1 : ROUNDS
    } rounds, A B A B; payloads of about 200 bytes; ${CONSUMERS} loops take and archive`,
  ];
  console.log(page.join("\n"));
  for (const open of [openPostgres, openSqlite]) {
    if (values.backend !== undefined && !open.name.toLowerCase().includes(values.backend)) continue;
    await open(async (backend) => {
      console.log(`\n## ${backend.title}\n`);
      const results: Result[] = [];
      for (const workload of chosen) {
        results.push(await compare(backend, workload, values.quick === true));
        console.log(rowOf(results.at(-1) as Result).join(" | "));
      }
      page.push("", `### ${backend.title}`, "", ...tableOf(HEAD, results.map(rowOf)));
    });
  }
  if (values.quick || values.only || values.backend) return;
  writePart("Beside bare SQL", page);
}

async function openPostgres(use: (backend: Backend) => Promise<void>): Promise<void> {
  await using server = await startPostgres({ settings: SETTINGS });
  const settings = Object.entries(SETTINGS).map(([name, value]) => `${name}=${value}`).join(", ");
  await use({
    title: `PostgreSQL ${server.version}, ${settings}`,
    dsn: server.dsn(),
    serverPid: server.pid,
    openBare: () => openBarePostgres(server.dsn()),
  });
}

async function openSqlite(use: (backend: Backend) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-bench-"));
  const file = join(folder, "bench.db");
  try {
    await use({
      title: "SQLite file, journal_mode=wal, synchronous=full",
      dsn: `sqlite:${file}`,
      serverPid: undefined,
      openBare: () => openBareSqlite(file),
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs a workload with and without the library, in turns. */
async function compare(backend: Backend, workload: Workload, isQuick: boolean): Promise<Result> {
  const rounds = isQuick ? 1 : ROUNDS;
  const jobs = isQuick ? Math.ceil(workload.jobs / 100) : workload.jobs;
  const ours = await openLibrary(backend.dsn);
  const bare = backend.openBare();
  try {
    // Once each without the clock: compilers, prepared statements and caches get warm.
    for (const subject of [ours, bare]) await runOnce(backend, workload, subject, Math.ceil(jobs / 4));
    const runs: { ours: Run; bare: Run }[] = [];
    for (let i = 0; i < rounds; i++) {
      const a = await runOnce(backend, workload, ours, jobs);
      runs.push({ ours: a, bare: await runOnce(backend, workload, bare, jobs) });
    }
    const cpu = ({ clientUs, serverUs }: Run): number => clientUs + serverUs;
    return {
      workload: workload.name,
      ours: medianRun(runs.map(({ ours }) => ours)),
      bare: medianRun(runs.map(({ bare }) => bare)),
      ratio: {
        perSecond: median(runs.map(({ ours, bare }) => ours.perSecond / bare.perSecond)),
        cpu: median(runs.map(({ ours, bare }) => cpu(ours) / cpu(bare))),
      },
    };
  } finally {
    await ours.close();
    await bare.close();
  }
}

async function runOnce({ dsn, serverPid }: Backend, workload: Workload, subject: Subject, jobs: number): Promise<Run> {
  await clear(dsn);
  if (workload.isFilled) await subject.enqueueMany(Array.from({ length: jobs }, (_, i) => newJob(i)));
  const before = { at: performance.now(), client: clientCpu(), server: serverCpu(serverPid) };
  await workload.run(subject, jobs);
  const seconds = (performance.now() - before.at) / 1_000;
  return {
    perSecond: jobs / seconds,
    clientUs: (clientCpu() - before.client) / jobs,
    serverUs: (serverCpu(serverPid) - before.server) / jobs,
  };
}

async function enqueueEach(subject: Subject, jobs: number, callers: number): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: callers }, async () => {
    while (next < jobs) await subject.enqueue(newJob(next++));
  }));
}

async function enqueueAll(subject: Subject, jobs: number): Promise<void> {
  await subject.enqueueMany(Array.from({ length: jobs }, (_, i) => newJob(i)));
}

async function drain(subject: Subject, jobs: number, limit: number): Promise<void> {
  let done = 0;
  await Promise.all(Array.from({ length: CONSUMERS }, async () => {
    for (let got = 1; got > 0; done += got) got = await subject.work(limit);
  }));
  if (done !== jobs) throw new Error(`${subject.name} archived ${done} of ${jobs} messages`);
}

function medianRun(runs: readonly Run[]): Run {
  return {
    perSecond: median(runs.map(({ perSecond }) => perSecond)),
    clientUs: median(runs.map(({ clientUs }) => clientUs)),
    serverUs: median(runs.map(({ serverUs }) => serverUs)),
  };
}

function rowOf({ workload, ours, bare, ratio }: Result): string[] {
  const rate = ({ perSecond }: Run): string => Math.round(perSecond).toLocaleString("en");
  const cpu = ({ clientUs, serverUs }: Run): string => `${clientUs.toFixed(1)} + ${serverUs.toFixed(1)}`;
  return [
    workload,
    rate(ours),
    rate(bare),
    ratio.perSecond.toFixed(2),
    cpu(ours),
    cpu(bare),
    ratio.cpu.toFixed(2),
  ];
}
