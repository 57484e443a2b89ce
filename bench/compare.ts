/** Measures ours beside others, in turns: A B C A B C … */
import { parseArgs } from "node:util";
import { findNode, installPeers } from "./agents.ts";
import { median, tableOf } from "./figures.ts";
import { type Ground, openFolder, openServer } from "./ground.ts";
import { describeMachine } from "./machine.ts";
import { type Part, readPart, writePart } from "./page.ts";

/** What one run gives: one of these for each of the workload's measures. Not a number: it could not be done. */
export interface Figure {
  readonly value: number;
  /** CPU time for each job or run, in microseconds. */
  readonly clientUs?: number;
  readonly serverUs?: number;
}

/** What is asked of a figure: `ratio` to the best peer, `value` as it is, `cpuUs` for each job of client and server. */
export interface Bar {
  readonly ratio?: number;
  readonly value?: number;
  readonly cpuUs?: number;
}

/** What is told of a workload. */
export interface Measure {
  readonly title: string;
  readonly unit: "buffers" | "commits" | "jobs/s" | "MB" | "ms" | "runs/s" | "s" | "× free";
  /** Whether less is better. */
  readonly isLess?: boolean;
  readonly bar: Bar;
}

/** What a run needs. */
export interface Course {
  readonly ground: Ground;
  readonly node: string;
  /** 1, or less for a short look. */
  readonly scale: number;
}

/** One workload. */
export interface Workload<Subject extends string = string> {
  /** The word by which it is chosen. */
  readonly name: string;
  readonly on: "file" | "server";
  readonly subjects: readonly Subject[];
  /** How often it is run with each. */
  readonly rounds: number;
  readonly measures: readonly Measure[];
  run(course: Course, subject: Subject): Promise<Figure[]>;
}

/** Everything that stands in one part of the page. */
export interface Comparison {
  readonly part: Part;
  /** What one figure of CPU time is of. */
  readonly each: "job" | "run";
  readonly introduction: readonly string[];
  readonly workloads: readonly Workload[];
  /** Looks at all before anything is measured: what to tell of them, and who cannot be measured. */
  inspect?(course: Course, subjects: readonly string[]): Promise<Inspection>;
}

/** What was seen of the subjects. */
export interface Inspection {
  readonly facts: readonly string[];
  readonly missing: ReadonlySet<string>;
}

interface Options {
  readonly isQuick: boolean;
  readonly rounds: number | undefined;
  readonly only: string | undefined;
}

/** The rounds of one subject: for each the figures of all measures. */
type Rounds = Map<string, (Figure[] | undefined)[]>;

/** Which of the columns are words. */
const WORDS = 3;
const SIT_OUT = 0.5;

/** Measures what the arguments choose, and writes the page. */
export async function compare(comparison: Comparison, args: string[]): Promise<void> {
  const { options, chosen } = readArguments(comparison, args);
  if (options.only !== "pgqrs") installPeers();
  const node = findNode();
  const rows: string[][] = [];
  const titles: string[] = [];
  const facts: string[] = [];
  for (const [on, open] of [["server", openServer], ["file", openFolder]] as const) {
    const here = chosen.filter((workload) => workload.on === on);
    if (here.length === 0) continue;
    await using ground: Ground = await open();
    titles.push(ground.title);
    const course: Course = { ground, node: node.path, scale: options.isQuick ? 0.01 : 1 };
    const subjects = [...new Set(here.flatMap((workload) => subjectsOf(workload, options)))];
    const seen = await comparison.inspect?.(course, subjects) ?? { facts: [], missing: new Set() };
    for (const fact of seen.facts) console.log(fact);
    facts.push(...seen.facts);
    for (const workload of here) {
      const left = workload.subjects.filter((one) => !seen.missing.has(one));
      const found = rowsOf(workload, await runAll(course, { ...workload, subjects: left }, options));
      for (const row of found) console.log(row.join(" | "));
      rows.push(...found);
      if (options.isQuick || options.only !== undefined) continue;
      // After each of them, so that what was measured is not lost with the rest.
      const rounds = options.rounds === undefined ? "" : `, --rounds ${options.rounds}`;
      const when = `Node ${node.version}, ${new Date().toISOString().slice(0, 10)}${rounds}`;
      write(comparison, rows, [describeMachine(), when, ...titles, ...facts]);
    }
  }
}

function readArguments({ workloads }: Comparison, args: string[]): { options: Options; chosen: readonly Workload[] } {
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
  return { options, chosen: workloads.filter(({ name }) => positionals.length === 0 || positionals.includes(name)) };
}

function subjectsOf({ subjects }: Workload, { only }: Options): readonly string[] {
  return subjects.filter((one) => only === undefined || one === "pgqrs" || one === only);
}

/** Runs a workload with all, in turns. */
async function runAll(course: Course, workload: Workload, options: Options): Promise<Rounds> {
  const subjects = subjectsOf(workload, options);
  const rounds: Rounds = new Map(subjects.map((subject) => [subject, []]));
  const total = options.isQuick ? 1 : options.rounds ?? workload.rounds;
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

function isSlow({ isLess }: Measure, rounds: Rounds, subject: string): boolean {
  if (subject === "pgqrs") return false;
  const first = (one: string): number => rounds.get(one)?.[0]?.[0]?.value ?? (isLess ? Infinity : 0);
  const others = [...rounds.keys()].filter((one) => one !== "pgqrs").map(first);
  return isLess ? first(subject) > Math.min(...others) / SIT_OUT : first(subject) < Math.max(...others) * SIT_OUT;
}

/** A row of the table for each measure. */
function rowsOf(workload: Workload, rounds: Rounds): string[][] {
  return workload.measures.map((measure, i) => {
    const values = (subject: string): number[] => (rounds.get(subject) ?? []).flatMap((one) => one?.[i]?.value ?? []);
    const peers = [...rounds.keys()].filter((one) => one !== "pgqrs" && values(one).length > 0);
    const sign = measure.isLess ? 1 : -1;
    peers.sort((a, b) => sign * (median(values(a)) - median(values(b))));
    const [best, ...others] = peers;
    const ratio = best === undefined ? Number.NaN : median(ratios(rounds, best, i));
    const ours = median(values("pgqrs"));
    const cpu = cpuOf(rounds, "pgqrs", i);
    const tell = (subject: string): string => `${numberOf(median(values(subject)), measure)} (${subject})`;
    return [
      measure.title,
      barText(measure),
      isMet(measure, { ratio, value: ours, cpuUs: cpu?.sum }),
      Number.isNaN(ratio) ? "–" : ratio.toFixed(2),
      Number.isNaN(ours) ? "failed" : `${numberOf(ours, measure)} ${measure.unit}`,
      best === undefined ? "–" : tell(best),
      cpu?.text ?? "–",
      best === undefined ? "–" : cpuOf(rounds, best, i)?.text ?? "–",
      others.map(tell).join(", ") || "–",
    ];
  });
}

/** Ours divided by the other, round by round. */
function ratios(rounds: Rounds, other: string, i: number): number[] {
  return (rounds.get("pgqrs") ?? []).flatMap((one, round) => {
    const theirs = rounds.get(other)?.[round]?.[i]?.value;
    return one === undefined || theirs === undefined ? [] : (one[i]?.value ?? Number.NaN) / theirs;
  });
}

function cpuOf(
  rounds: Rounds,
  subject: string,
  i: number,
): { readonly sum: number; readonly text: string } | undefined {
  const figures = (rounds.get(subject) ?? []).flatMap((one) => one?.[i] ?? []);
  if (figures[0]?.clientUs === undefined) return undefined;
  const clientUs = median(figures.map(({ clientUs = 0 }) => clientUs));
  const serverUs = median(figures.map(({ serverUs = 0 }) => serverUs));
  return { sum: clientUs + serverUs, text: `${clientUs.toFixed(1)} + ${serverUs.toFixed(1)}` };
}

function numberOf(value: number, { unit }: Measure): string {
  if (Number.isNaN(value)) return "failed";
  return unit.endsWith("/s") ? Math.round(value).toLocaleString("en") : value.toFixed(2);
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
function write({ part, each, introduction, workloads }: Comparison, rows: string[][], facts: string[]): void {
  const lines = readPart(part).replaceAll(/\n {2}(?=\S)/g, " ").split("\n");
  const cells = (line: string): string[] => line.split("|").slice(1, -1).map((cell) => cell.trim());
  const former = lines.filter((line) => line.startsWith("| ")).map(cells);
  const known = new Map([...former, ...rows].map((row) => [row[0], row]));
  // What is known of the grounds of rows that stay is told too; what is of one kind begins alike.
  const kindOf = (fact: string): string => /^(?:Recorded .*?:|\S+)/.exec(fact)?.[0] ?? fact;
  const earlier = lines.flatMap((line) => /^- ((?:PostgreSQL|SQLite|Recorded) .*)$/.exec(line)?.[1] ?? []);
  const kept = earlier.filter((fact) => !facts.some((one) => kindOf(one) === kindOf(fact)));
  const order = workloads.flatMap(({ measures }) => measures.map(({ title }) => title));
  const table = order.flatMap((title) => known.has(title) ? [known.get(title) as string[]] : []);
  const head = ["workload", "bar", "met", "ratio", "ours", "best peer", `CPU µs/${each}, ours`, "best peer", "others"];
  const list = [...facts, ...kept].map((fact) => `- ${fact}`);
  writePart(part, [...introduction, "", ...list, "", ...tableOf(head, table, WORDS)]);
}
