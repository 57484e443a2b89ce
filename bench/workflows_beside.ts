/** What is measured of workflows beside other engines. */
import { fileURLToPath } from "node:url";
import { Agent } from "./agents.ts";
import type { Bar, Course, Figure, Workload } from "./compare.ts";
import { quantile } from "./figures.ts";
import type { EngineName } from "./peers/engine.ts";
import type { EngineRequest, EngineTook } from "./peers/engine_protocol.ts";

/** Ours without what another database of ours is full of. */
export const NOBODY = "ours, with none";

const PROGRAM = fileURLToPath(new URL("./peers/engine_agent.ts", import.meta.url));
const ENGINES: readonly EngineName[] = ["pgqrs", "dbos", "openworkflow", "absurd"];
const ROUNDS = 5;
const SECONDS = 4;
const CALLERS = 50;
const DRAINING = 100;

/** Some places to execute runs, asked one thing at a time. */
export interface EngineAgent {
  ask(request: EngineRequest): Promise<EngineTook>;
}

/** The workloads, in the order of the page. */
export const engineWorkloads: readonly Workload[] = [
  ...[1, 3, 10].map((steps) => latency(steps)),
  ...[1, 3, 10].map((steps) => throughput("server", steps, ENGINES, { ratio: 8 })),
  draining(),
  throughput("file", 3, ["pgqrs", "openworkflow"], { ratio: 5 }),
];

/** Starts a process on a database of its own. */
export async function withEngine<T>(
  course: Course,
  subject: string,
  concurrency: number,
  use: (agent: EngineAgent, dsn: string) => Promise<T>,
): Promise<T> {
  const dsn = await course.ground.fresh();
  return await onEngine(course, { name: subject, dsn, concurrency }, async (agent) => {
    await agent.ask({ do: "install" });
    return await use(agent, dsn);
  });
}

/** Starts a process on a database that is there. */
export async function onEngine<T>(
  { node }: Course,
  { name, dsn, concurrency }: { readonly name: string; readonly dsn: string; readonly concurrency: number },
  use: (agent: EngineAgent) => Promise<T>,
): Promise<T> {
  await using agent = new Agent({ node, name, dsn, program: PROGRAM, words: [String(concurrency)] });
  return await use({ ask: (request) => agent.ask<EngineTook>(request) });
}

function latency(steps: number): Workload {
  const title = `start → result, ${stepsText(steps)}, c=1, p50`;
  return {
    name: `latency-${steps}`,
    on: "server",
    subjects: ENGINES,
    rounds: ROUNDS,
    measures: [{ title, unit: "ms", isLess: true, bar: { ratio: 0.5 } }],
    run: (course, subject) =>
      withEngine(course, subject, 1, async (agent) => {
        const runs = count(course, 200);
        await agent.ask({ do: "execute", callers: 1, steps, runs: Math.ceil(runs / 5) });
        const figure = await measure(course, agent, { do: "execute", callers: 1, steps, runs });
        return [{ ...figure, value: quantile(figure.waits ?? [], 0.5) }];
      }),
  };
}

function throughput(on: "file" | "server", steps: number, subjects: readonly string[], bar: Bar): Workload {
  const title = `${on === "file" ? "SQLite: workflows" : "workflows"}, ${stepsText(steps)}, c=${CALLERS}`;
  return {
    name: `${on === "file" ? "sqlite-" : ""}throughput-${steps}`,
    on,
    subjects,
    rounds: ROUNDS,
    measures: [{ title, unit: "runs/s", bar }],
    run: (course, subject) => withEngine(course, subject, CALLERS, async (agent) => [await flow(course, agent, steps)]),
  };
}

/** As many runs as there can be in some seconds. */
export async function flow(course: Course, agent: EngineAgent, steps: number): Promise<Figure> {
  const ask = { do: "execute", callers: CALLERS, steps } as const;
  const seconds = Math.max(0.5, SECONDS * course.scale);
  await agent.ask({ ...ask, seconds: seconds / 4 });
  return await measure(course, agent, { ...ask, seconds });
}

function draining(): Workload {
  const steps = 3;
  return {
    name: "drain",
    on: "server",
    subjects: ENGINES,
    rounds: ROUNDS,
    measures: [{ title: `drain 5,000 enqueued runs of ${stepsText(steps)}`, unit: "runs/s", bar: { ratio: 4 } }],
    async run(course, subject) {
      const runs = count(course, 5_000);
      const dsn = await course.ground.fresh();
      const options = { name: subject, dsn, concurrency: DRAINING };
      await onEngine(course, options, async (agent) => {
        await agent.ask({ do: "install" });
        await agent.ask({ do: "store", runs, steps });
      });
      await course.ground.tidy(dsn);
      return await onEngine(course, options, async (agent) => {
        await agent.ask({ do: "install" });
        return [await measure(course, agent, { do: "drain", runs })];
      });
    },
  };
}

async function measure(course: Course, agent: EngineAgent, request: EngineRequest): Promise<Figure & EngineTook> {
  const before = course.ground.cpu();
  const took = await agent.ask(request);
  const serverUs = (course.ground.cpu() - before) / took.count;
  const value = took.count / (took.to - took.from) * 1_000;
  return { ...took, value, clientUs: took.cpuUs / took.count, serverUs };
}

/** So many, or fewer for a short look. */
export function count({ scale }: Course, all: number): number {
  return Math.max(20, Math.ceil(all * scale));
}

function stepsText(steps: number): string {
  return steps === 1 ? "1 step" : `${steps} steps`;
}
