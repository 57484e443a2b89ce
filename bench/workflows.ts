/**
 * Workflows beside other engines: `deno task bench:workflows [--quick] [--rounds <n>] [--only <engine>] [<workload> …]`.
 *
 * As `bench:peers`, with engines instead of queues; the workloads of ours alone follow. Before anything is measured each
 * engine has to show in its own tables that it records every step.
 *
 *   --quick     one round of a hundredth of the work; nothing is written
 *   --rounds    how often, instead of five times
 *   --only      ours and one other engine, or "pgqrs": ours alone; nothing is written
 *
 * @module
 */
import process from "node:process";
import { compare, type Course, type Inspection } from "./compare.ts";
import { aloneWorkloads } from "./workflows_alone.ts";
import { engineWorkloads, NOBODY, withEngine } from "./workflows_beside.ts";

/** What every engine executes before anything is measured. */
const RUNS = 5;
const STEPS = 3;

const introduction = [
  "Steps do nothing and yield a number; every step is recorded by itself. DBOS executes what is started here in the same",
  "process without a queue; what it drains comes from a queue looked at every 10 ms instead of every second. OpenWorkflow has",
  "no setting for how often its worker looks (100 ms to 1 s when idle) nor for its handle (1 s); here its handle asks every",
  "2 ms once the function has returned. Everybody has as many places as there are callers, and 100 to drain. Medians of rounds",
  "in which every engine has its turn, with the ratio to the best peer within a round. CPU is that of the client's and of the",
  "server's processes. A peer that does less than half of the best in the first round sits out the others. Rows that were not",
  "run again are those of an earlier run. Commits are counted by the server, all of them: what 1,100 runs cost more than 100.",
];

if (import.meta.main) {
  const part = "Workflows beside other engines";
  const workloads = [...engineWorkloads, ...aloneWorkloads];
  await compare({ part, each: "run", introduction, workloads, inspect }, process.argv.slice(2));
}

/** Lets each engine execute some runs, and counts what it has recorded. */
async function inspect(course: Course, subjects: readonly string[]): Promise<Inspection> {
  const recorded: string[] = [];
  const missing = new Set<string>();
  const engines = subjects.filter((one) => one !== NOBODY);
  // Ours alone is compared with nobody.
  if (engines.length < 2) return { facts: [], missing };
  for (const subject of engines) {
    try {
      const count = await withEngine(course, subject, RUNS, async (agent) => {
        await agent.ask({ do: "execute", callers: RUNS, steps: STEPS, runs: RUNS });
        return (await agent.ask({ do: "recorded" })).count;
      });
      if (count !== RUNS * STEPS) throw new Error(`it has recorded ${count} steps of ${RUNS} runs of ${STEPS}`);
      recorded.push(`${subject} ${count}`);
    } catch (error) {
      missing.add(subject);
      recorded.push(`${subject} was not measured, because ${reasonOf(error)}`);
    }
  }
  const where = course.ground.title.split(" ", 1)[0];
  return {
    facts: [`Recorded of ${RUNS} runs of ${STEPS} steps on ${where}: ${recorded.join(", ")}`],
    missing,
  };
}

/** The line of a process's last words that tells what happened. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return /^.*?Error: (?!The process of)(.*)$/m.exec(text.replace(/^The process of \S+ ended: /, ""))?.[1] ?? text;
}
