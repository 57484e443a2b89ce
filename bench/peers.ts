/**
 * The library beside other queues: `deno task bench:peers [--quick] [--rounds <n>] [--only <queue>] [<workload> …]`.
 *
 * Every queue works in processes of its own on Node, the home of most of them, on the same server, one after the other:
 * A B C A B C … What is told is the median of the rounds, and the median of the ratios within a round. A queue that does less
 * than half of the best one in the first round sits out the others. The rows of the workloads that were run are replaced in
 * docs/benchmarks.md.
 *
 *   --quick     one round of a hundredth of the work; nothing is written
 *   --rounds    how often, instead of five times
 *   --only      ours and one other queue, or "pgqrs": ours alone; nothing is written
 *
 * @module
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { findNode, installPeers } from "./agents.ts";
import { median, tableOf } from "./figures.ts";
import { type Ground, openFolder, openServer } from "./ground.ts";
import { describeMachine } from "./machine.ts";
import { readPart, writePart } from "./page.ts";
import { type Course, type Figure, type Measure, type Subject, type Workload, workloads } from "./workloads.ts";

const HEAD = ["workload", "bar", "met", "ratio", "ours", "best peer", "CPU µs/job, ours", "best peer", "others"];
/** Which of the columns are words. */
const WORDS = 3;
const SIT_OUT = 0.5;

interface Options {
  readonly isQuick: boolean;
  readonly rounds: number | undefined;
  readonly only: string | undefined;
}

/** The rounds of one subject: for each the figures of all measures. */
type Rounds = Map<Subject, (Figure[] | undefined)[]>;

if (import.meta.main) await main(process.argv.slice(2));

async function main(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { quick: { type: "boolean" }, rounds: { type: "string" }, only: { type: "string" } },
  });
  const unknown = positionals.find((name) => !workloads.some((one) => one.name === name));
  if (unknown !== undefined) {
    throw new RangeError(`No workload ${unknown}: there are ${workloads.map(({ name }) => name).join(", ")}`);
  }
  const options: Options = {
    isQuick: values.quick === true,
    rounds: values.rounds === undefined ? undefined : Number(values.rounds),
    only: values.only,
  };
  const chosen = workloads.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  if (options.only !== "pgqrs") installPeers();
  const node = findNode();
  const rows: string[][] = [];
  const titles: string[] = [];
  for (const [on, open] of [["server", openServer], ["file", openFolder]] as const) {
    const here = chosen.filter((workload) => workload.on === on);
    if (here.length === 0) continue;
    await using ground: Ground = await open();
    titles.push(ground.title);
    for (const workload of here) {
      const course: Course = { ground, node: node.path, scale: options.isQuick ? 0.01 : 1 };
      const found = rowsOf(workload, await runAll(course, workload, options));
      for (const row of found) console.log(row.join(" | "));
      rows.push(...found);
    }
  }
  if (options.isQuick || options.only !== undefined) return;
  write(rows, [`- ${describeMachine()}`, `- Node ${node.version}, ${new Date().toISOString().slice(0, 10)}`], titles);
}

/** Runs a workload with all, in turns. */
async function runAll(course: Course, workload: Workload, options: Options): Promise<Rounds> {
  const { only, isQuick } = options;
  const subjects = workload.subjects.filter((one) => only === undefined || one === "pgqrs" || one === only);
  const rounds: Rounds = new Map(subjects.map((subject) => [subject, []]));
  const total = isQuick ? 1 : options.rounds ?? workload.rounds;
  for (let i = 0; i < total; i++) {
    for (const subject of subjects) {
      if (i > 0 && isSlow(workload.measures[0] as Measure, rounds, subject)) continue;
      let figures: Figure[] | undefined;
      try {
        figures = await workload.run(course, subject);
      } catch (error) {
        // A peer that fails has no figure; when we fail there is nothing to tell.
        if (subject === "pgqrs") throw error;
        console.error(`${workload.name}, ${subject}: ${error instanceof Error ? error.message : error}`);
      }
      rounds.get(subject)?.push(figures);
      console.error(`  ${workload.name} ${i + 1}/${total} ${subject}: ${figures?.map(toText).join("; ") ?? "failed"}`);
    }
  }
  return rounds;
}

function toText({ value, clientUs, serverUs }: Figure): string {
  const cpu = clientUs === undefined ? "" : `, ${clientUs.toFixed(1)} + ${serverUs?.toFixed(1)} µs`;
  return `${value < 100 ? value.toFixed(2) : Math.round(value)}${cpu}`;
}

function isSlow({ isLess }: Measure, rounds: Rounds, subject: Subject): boolean {
  if (subject === "pgqrs") return false;
  const first = (one: Subject): number => rounds.get(one)?.[0]?.[0]?.value ?? (isLess ? Infinity : 0);
  const others = [...rounds.keys()].filter((one) => one !== "pgqrs").map(first);
  return isLess ? first(subject) > Math.min(...others) / SIT_OUT : first(subject) < Math.max(...others) * SIT_OUT;
}

/** A row of the table for each measure. */
function rowsOf(workload: Workload, rounds: Rounds): string[][] {
  return workload.measures.map((measure, i) => {
    const values = (subject: Subject): number[] => (rounds.get(subject) ?? []).flatMap((one) => one?.[i]?.value ?? []);
    const peers = [...rounds.keys()].filter((one) => one !== "pgqrs" && values(one).length > 0);
    const sign = measure.isLess ? 1 : -1;
    peers.sort((a, b) => sign * (median(values(a)) - median(values(b))));
    const [best, ...others] = peers;
    const ratio = best === undefined ? Number.NaN : median(ratios(rounds, best, i));
    const ours = median(values("pgqrs"));
    const cpu = cpuOf(rounds, "pgqrs", i);
    const tell = (subject: Subject): string => `${numberOf(median(values(subject)), measure)} (${subject})`;
    return [
      measure.title,
      barText(measure),
      isMet(measure, { ratio, value: ours, cpuUs: cpu?.sum }),
      Number.isNaN(ratio) ? "–" : ratio.toFixed(2),
      `${numberOf(ours, measure)} ${measure.unit}`,
      best === undefined ? "–" : tell(best),
      cpu?.text ?? "–",
      best === undefined ? "–" : cpuOf(rounds, best, i)?.text ?? "–",
      others.map(tell).join(", ") || "–",
    ];
  });
}

/** Ours divided by the other, round by round. */
function ratios(rounds: Rounds, other: Subject, i: number): number[] {
  return (rounds.get("pgqrs") ?? []).flatMap((one, round) => {
    const theirs = rounds.get(other)?.[round]?.[i]?.value;
    return one === undefined || theirs === undefined ? [] : (one[i]?.value ?? Number.NaN) / theirs;
  });
}

function cpuOf(
  rounds: Rounds,
  subject: Subject,
  i: number,
): { readonly sum: number; readonly text: string } | undefined {
  const figures = (rounds.get(subject) ?? []).flatMap((one) => one?.[i] ?? []);
  if (figures[0]?.clientUs === undefined) return undefined;
  const clientUs = median(figures.map(({ clientUs = 0 }) => clientUs));
  const serverUs = median(figures.map(({ serverUs = 0 }) => serverUs));
  return { sum: clientUs + serverUs, text: `${clientUs.toFixed(1)} + ${serverUs.toFixed(1)}` };
}

function numberOf(value: number, { unit }: Measure): string {
  return unit === "jobs/s" ? Math.round(value).toLocaleString("en") : value.toFixed(2);
}

function barText({ bar: { ratio, value, cpuUs }, isLess, unit }: Measure): string {
  const sign = isLess ? "≤" : "≥";
  const parts = [
    ratio === undefined ? [] : [`${sign} ${ratio} ×`],
    value === undefined ? [] : [`${sign} ${value} ${unit}`],
    cpuUs === undefined ? [] : [`≤ ${cpuUs} µs`],
  ];
  return parts.flat().join(", ") || "–";
}

interface Reached {
  readonly ratio: number;
  readonly value: number;
  readonly cpuUs: number | undefined;
}

function isMet({ bar, isLess }: Measure, reached: Reached): string {
  const reaches = (figure: number, least: number | undefined): boolean =>
    least === undefined || (isLess ? figure <= least : figure >= least);
  if (bar.ratio === undefined && bar.value === undefined && bar.cpuUs === undefined) return "–";
  const isCheap = bar.cpuUs === undefined || (reached.cpuUs ?? Number.NaN) <= bar.cpuUs;
  return reaches(reached.ratio, bar.ratio) && reaches(reached.value, bar.value) && isCheap ? "yes" : "no";
}

/** Replaces those rows of the page that were measured now. */
function write(rows: readonly string[][], facts: readonly string[], titles: readonly string[]): void {
  const cells = (line: string): string[] => line.split("|").slice(1, -1).map((cell) => cell.trim());
  const former = readPart("Beside other queues").split("\n").filter((line) => line.startsWith("| ")).map(cells);
  const known = new Map([...former, ...rows].map((row) => [row[0], row]));
  // The grounds of rows that stay are told of too; those of one kind begin alike.
  const kindOf = (title: string): string => title.split(" ", 1)[0] as string;
  const earlier = readPart("Beside other queues").split("\n").flatMap((line) =>
    /^- ((?:PostgreSQL|SQLite) .*)$/.exec(line)?.[1] ?? []
  );
  const kept = earlier.filter((title) => !titles.some((one) => kindOf(one) === kindOf(title)));
  const order = workloads.flatMap(({ measures }) => measures.map(({ title }) => title));
  const table = order.flatMap((title) => known.has(title) ? [known.get(title) as string[]] : []);
  writePart("Beside other queues", [
    "Jobs of about 200 bytes; our archive is kept. Medians of rounds in which every queue has its turn (five, or three of the",
    "long ones, or one of the longest), with the ratio to the best peer within a round. CPU is that of the client's and of the",
    "server's processes. A peer that does less than half of the best in the first round sits out the others. Rows that were not",
    "run again are those of an earlier run.",
    "",
    ...facts,
    ...[...titles, ...kept].map((title) => `- ${title}`),
    "",
    ...tableOf(HEAD, table, WORDS),
  ]);
}
