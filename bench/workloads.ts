/** What is measured beside other queues. */
import { setTimeout as pause } from "node:timers/promises";
import { Agent } from "./agents.ts";
import type { Bar, Course, Figure, Measure, Workload as AnyWorkload } from "./compare.ts";
import { median, quantile } from "./figures.ts";
import { QUEUE } from "./job.ts";
import type { PeerName } from "./peers/peer.ts";
import type { Request, Took } from "./peers/protocol.ts";

/** A workload of queues. */
export type Workload = AnyWorkload<Subject>;

/** A queue; or ours on an empty database, as the measure of ours on a full one. */
export type Subject = PeerName | "ours, with none";

const PEERS: readonly PeerName[] = ["pgqrs", "pg-boss", "graphile-worker", "bullmq"];
const ROUNDS = 5;
const WARM = 200;

/** All workloads, in the order of the page. */
export const workloads: readonly Workload[] = [
  enqueueing("enqueue-1", 1, 3_000, 2),
  enqueueing("enqueue-32", 32, 30_000, 8),
  spread(),
  {
    ...between("enqueue-many", "enqueueMany, 100,000", { ratio: 1.4 }),
    run: (course, subject) =>
      withAgents(course, subject, 1, async ([agent]) => {
        await agent.ask({ do: "enqueueMany", jobs: count(course, 5_000) });
        const jobs = count(course, 100_000);
        return [await measure(course, [agent], { do: "enqueueMany", jobs }, jobs)];
      }),
  },
  draining("drain", "drain 100,000, one process", 1, { ratio: 1.2, cpuUs: 22 }),
  draining("drain-2", "drain 100,000, two processes", 2, { ratio: 1.1 }),
  latency(),
  latencyInside(),
  steady(),
  backlog(),
  snapshot(),
  {
    ...enqueueing("sqlite-enqueue", 32, 30_000, 2),
    ...onFile("SQLite: enqueue one by one, c=32", 2),
  },
  {
    ...draining("sqlite-drain", "", 1, {}),
    ...onFile("SQLite: drain 100,000 of one file", 3),
  },
];

function between(name: string, title: string, bar: Bar): Omit<Workload, "run"> {
  return { name, on: "server", subjects: PEERS, rounds: ROUNDS, measures: [{ title, unit: "jobs/s", bar }] };
}

function onFile(title: string, ratio: number): Pick<Workload, "measures" | "on" | "subjects"> {
  return {
    on: "file",
    subjects: ["pgqrs", "plainjob"],
    measures: [
      { title, unit: "jobs/s", bar: { ratio } },
      { title: `${title}: a timer of 5 ms is late by at most`, unit: "ms", isLess: true, bar: { value: 50 } },
    ],
  };
}

function enqueueing(name: string, callers: number, all: number, ratio: number): Workload {
  return {
    ...between(name, `enqueue one by one, c=${callers}`, { ratio }),
    run: (course, subject) =>
      withAgents(course, subject, 1, async ([agent]) => {
        const jobs = count(course, all);
        await agent.ask({ do: "enqueue", jobs: Math.ceil(jobs / 5), callers });
        return await measureWithTimer(course, [agent], { do: "enqueue", jobs, callers }, jobs);
      }),
  };
}

function spread(): Workload {
  return {
    ...between("enqueue-spread", "enqueue, 32 callers in 8 processes", { ratio: 2 }),
    run: (course, subject) =>
      withAgents(course, subject, 8, async (agents) => {
        const jobs = count(course, 3_000);
        const ask = { do: "enqueue", callers: 4 } as const;
        await Promise.all(agents.map((agent) => agent.ask({ ...ask, jobs: Math.ceil(jobs / 5) })));
        return [await measure(course, agents, { ...ask, jobs }, jobs * 8)];
      }),
  };
}

function draining(name: string, title: string, processes: number, bar: Bar): Workload {
  return {
    ...between(name, title, bar),
    run: (course, subject) =>
      withAgents(course, subject, processes, async (agents, dsn) => {
        const jobs = count(course, 100_000);
        // Once without the clock: compilers, plans and caches get warm.
        for (const amount of [Math.ceil(jobs / 10), jobs]) {
          await agents[0].ask({ do: "enqueueMany", jobs: amount });
          await course.ground.tidy(dsn);
          if (amount === jobs) break;
          await Agent.drain(agents, amount);
          await Promise.all(agents.map((agent) => agent.ask({ do: "rest" })));
        }
        return await measureWithTimer(course, agents, { do: "drain" }, jobs);
      }),
  };
}

function waiting(title: string, bars: readonly [Bar, Bar]): Measure[] {
  const unit = "ms";
  return bars.map((bar, i) => ({ title: `${title}, ${i === 0 ? "p50" : "p99"}`, unit, isLess: true, bar }));
}

function latency(): Workload {
  return {
    ...between("latency", "", {}),
    measures: waiting("enqueue → handler start, across processes", [{ ratio: 1.15 }, { ratio: 1 }]),
    run: (course, subject) => waits(course, subject, 2, count(course, 2_000), 5),
  };
}

function latencyInside(): Workload {
  return {
    ...between("latency-inside", "", {}),
    measures: waiting("enqueue → handler start, in one process", [{ ratio: 0.3 }, {}]),
    run: (course, subject) => waits(course, subject, 1, count(course, 2_000), 5),
  };
}

function steady(): Workload {
  return {
    ...between("steady", "", {}),
    rounds: 3,
    measures: waiting("500 jobs/s for 30 s, enqueue → handler start", [{}, { ratio: 0.5 }]),
    run: (course, subject) => waits(course, subject, 2, count(course, 15_000), 2),
  };
}

/** How long jobs wait that are enqueued one every so often. */
function waits(course: Course, subject: Subject, processes: number, jobs: number, everyMs: number): Promise<Figure[]> {
  return withAgents(course, subject, processes, async (agents) => {
    const [worker] = agents;
    const producer = agents.at(-1) as Agent;
    await worker.ask({ do: "listen" });
    await producer.ask({ do: "send", jobs: jobs + WARM, everyMs });
    const { waits = [] } = await worker.ask({ do: "hear", jobs: jobs + WARM });
    const warm = waits.slice(WARM);
    return [{ value: quantile(warm, 0.5) }, { value: quantile(warm, 0.99) }];
  }, true);
}

function backlog(): Workload {
  const title = "drain 20,000 with 1 M pending, 1 M delayed, 1 M archived, 1 M dead";
  return {
    ...between("backlog", title, { ratio: 0.9 }),
    subjects: ["pgqrs", "ours, with none"],
    async run(course, subject) {
      const { dsn, isNew } = await course.ground.keep(subject === "pgqrs" ? "bench_full" : "bench_empty");
      await using agent = new Agent({ node: course.node, name: "pgqrs", dsn });
      if (isNew) {
        await agent.ask({ do: "install" });
        if (subject === "pgqrs") await course.ground.run(dsn, ...fillings(count(course, 1_000_000)));
      }
      const jobs = count(course, 20_000);
      for (const amount of [Math.ceil(jobs / 4), jobs]) {
        await agent.ask({ do: "enqueueMany", jobs: amount });
        await course.ground.tidy(dsn);
        if (amount < jobs) await agent.ask({ do: "drain", most: amount });
      }
      return [await measure(course, [agent], { do: "drain", most: jobs }, jobs)];
    },
  };
}

/** The statements that fill the tables of ours. */
function fillings(rows: number): string[] {
  const payload = `json_build_object('n', n, 'text', repeat('lorem ipsum ', 15))`;
  const queue = `(select id from pgqrs_queues where name = '${QUEUE}')`;
  const live = (dueAt: string): string =>
    `insert into pgqrs_messages
      (queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes, payload)
    select ${queue}, 'ready', 0, ${dueAt}, now(), 5, 10, ${payload} from generate_series(1, ${rows}) n`;
  const ended = (outcome: string): string =>
    `insert into pgqrs_archive (id, queue_id, outcome, priority, enqueued_at, archived_at, token, attempts, crashes,
      max_attempts, max_crashes, payload)
    select nextval(pg_get_serial_sequence('pgqrs_messages', 'id')), ${queue}, '${outcome}', 0, now(), now(), 1, 0, 0,
      5, 10, ${payload} from generate_series(1, ${rows}) n`;
  return [live("now()"), live("now() + interval '1 day'"), ended("succeeded"), ended("failed")];
}

/** Windows of 5 s: some without the snapshot, 90 s with it, and 40 s after it. */
const WINDOW_MS = 5_000;
const FREE = 4;
const HELD = 18;
const AFTER = 8;
/** Within how many windows after its end all must be well again. */
const SOON = 6;

function snapshot(): Workload {
  const title = "drain while a snapshot is held for 90 s";
  return {
    ...between("snapshot", title, {}),
    rounds: 1,
    measures: [
      { title: `${title}, on average`, unit: "× free", bar: { value: 0.5 } },
      { title: `${title}, worst 5 s`, unit: "× free", bar: { value: 0.4 } },
      { title: `${title}, within 30 s of its end`, unit: "× free", bar: { value: 0.9 } },
    ],
    run: (course, subject) =>
      withAgents(course, subject, 1, async ([agent], dsn) => {
        const windowMs = Math.max(100, WINDOW_MS * course.scale);
        const seconds = (FREE + HELD + AFTER + 0.5) * windowMs / 1_000;
        const flow = agent.ask({ do: "flow", seconds, windowMs });
        const held = holdFor(course, dsn, windowMs);
        const { windows = [], from, to, jobs } = await flow;
        await held;
        const free = median(windows.slice(1, FREE));
        if (!(free > 0)) throw new Error("too slow to be measured in windows");
        const during = windows.slice(FREE, FREE + HELD).map((one) => one / free);
        const after = windows.slice(FREE + HELD, FREE + HELD + SOON).map((one) => one / free);
        const perSecond = Math.round(jobs / (to - from) * 1_000);
        console.error(`  ${subject}: ${perSecond}/s; ${windows.map((one) => (one / free).toFixed(2)).join(" ")}`);
        const mean = during.reduce((sum, one) => sum + one, 0) / during.length;
        return [{ value: mean }, { value: Math.min(...during) }, { value: Math.max(...after) }];
      }),
  };
}

async function holdFor({ ground }: Course, dsn: string, windowMs: number): Promise<void> {
  await pause(FREE * windowMs);
  const letGo = await ground.holdSnapshot(dsn);
  await pause(HELD * windowMs);
  await letGo();
}

function count({ scale }: Course, jobs: number): number {
  return Math.max(20, Math.ceil(jobs * scale));
}

type Agents = readonly [Agent, ...Agent[]];

/** Starts processes on a database of their own. */
async function withAgents(
  { ground, node }: Course,
  subject: Subject,
  processes: number,
  use: (agents: Agents, dsn: string) => Promise<Figure[]>,
  isForLatency = false,
): Promise<Figure[]> {
  const dsn = await ground.fresh();
  const name = subject as PeerName;
  const agents = Array.from({ length: processes }, () => new Agent({ node, name, dsn, isForLatency }));
  try {
    for (const agent of agents) await agent.ask({ do: "install" });
    return await use(agents as unknown as Agents, dsn);
  } finally {
    await Promise.all(agents.map((agent) => agent.close()));
  }
}

/** Lets all do the same at the same time. */
async function together(course: Course, agents: readonly Agent[], request: Request, jobs: number) {
  const before = course.ground.cpu();
  const isWhole = request.do === "drain" && request.most === undefined;
  const tooks: Took[] = isWhole
    ? await Agent.drain(agents, jobs)
    : await Promise.all(agents.map((agent) => agent.ask(request)));
  const serverUs = (course.ground.cpu() - before) / jobs;
  const done = tooks.reduce((sum, took) => sum + took.jobs, 0);
  if (done < jobs) throw new Error(`${agents[0]?.name} has done ${done} of ${jobs} jobs`);
  const ms = Math.max(...tooks.map(({ to }) => to)) - Math.min(...tooks.map(({ from }) => from));
  const clientUs = tooks.reduce((sum, { cpuUs }) => sum + cpuUs, 0) / jobs;
  const figure: Figure = { value: jobs / ms * 1_000, clientUs, serverUs };
  return { figure, lagMs: Math.max(...tooks.map(({ lagMs }) => lagMs)) };
}

async function measure(course: Course, agents: readonly Agent[], request: Request, jobs: number): Promise<Figure> {
  return (await together(course, agents, request, jobs)).figure;
}

async function measureWithTimer(
  course: Course,
  agents: readonly Agent[],
  request: Request,
  jobs: number,
): Promise<Figure[]> {
  const { figure, lagMs } = await together(course, agents, request, jobs);
  return [figure, { value: lagMs }];
}
