/**
 * The runs of the kill test, and what has to have become of them.
 *
 * Each step notes in a file that it begins and that its work is done, with a nonce that is the value of this attempt, and
 * with the nonce of the step before it. So it can be told which attempt was recorded, and that everybody has seen that one.
 *
 * @module
 */
import { type StepInfo, type Workflow, workflow } from "../../mod.ts";

/** Appends a line to the notes of all processes. */
export type Note = (...words: readonly (number | string | null)[]) => void;

/** What a run is given. */
export interface Journey {
  readonly n: number;
}

/** The value of a step: its nonce, and that of the step before it. */
export interface Walked {
  readonly nonce: string;
  readonly saw: string;
}

/** What a run does, one after the other. */
type Stage = { readonly kind: "call" | "nothing" | "receive" | "sleep" | "step"; readonly ms: number };

/** What one stage has yielded. */
type Yield = Walked | readonly Walked[] | number | null | undefined;

/** What a run yields: one entry for each of its stages. */
export type Trail = readonly Yield[];

/** The names of the queues. */
export const JOURNEYS = "journey";
export const ERRANDS = "errand";
/** What a run waits for. */
export const TOPIC = "mail";

/** What a run has to do: from 5 to 20 stages, always the same for a number. */
export function planOf(n: number): Stage[] {
  let state = n * 2_654_435_761 >>> 0;
  const random = (): number => {
    state = Math.imul(state ^ state >>> 15, 2_246_822_519) + 0x9e3779b9 >>> 0;
    return (state ^ state >>> 13) >>> 0;
  };
  return Array.from({ length: 5 + n % 16 }, (_, index): Stage => {
    const dice = index === 0 ? 99 : random() % 100;
    const ms = random() % 12;
    if (dice < 12) return { kind: "sleep", ms: ms * 15 };
    if (dice < 20) return { kind: "receive", ms };
    if (dice < 24) return { kind: "nothing", ms: ms * 10 };
    return { kind: dice < 32 ? "call" : "step", ms };
  });
}

/** How many things have to be sent to a run. */
export function mailsOf(n: number): number {
  return planOf(n).filter(({ kind }) => kind === "receive").length;
}

/** What the mail of this number says. */
export function mailOf(n: number, index: number): number {
  return n * 100 + index;
}

/** Makes the workflows for a process that notes what it does. */
export function makeJourneys(name: string, note: Note, leaseMs: number): Workflow[] {
  let count = 0;
  const walk = async (id: number, key: string, saw: string, ms: number): Promise<Walked> => {
    const nonce = `${name}:${++count}`;
    note("begin", id, key, nonce, saw);
    if (ms % 3 === 0) await new Promise((resolve) => setTimeout(resolve, ms));
    note("end", id, key, nonce);
    return { nonce, saw };
  };
  const errand = workflow<number, readonly Walked[]>(ERRANDS, async (run, ms) => {
    const there = await run.step("there", () => walk(run.id, "there", "", ms));
    await run.sleep("rest", ms * 8);
    return [there, await run.step("back", () => walk(run.id, "back", there.nonce, ms))];
  }, { leaseMs });
  const journey = workflow<Journey, Trail>(JOURNEYS, async (run, { n }) => {
    const trail: Yield[] = [];
    let saw = "";
    for (const [index, { kind, ms }] of planOf(n).entries()) {
      const key = `walk${index}`;
      if (kind === "sleep") trail.push((await run.sleep("nap", ms), ms));
      else if (kind === "receive") trail.push(await run.receive<number>(TOPIC));
      else if (kind === "nothing") trail.push(await run.receive<number>("never", { timeoutMs: ms }));
      else if (kind === "call") trail.push(await run.call(errand, ms));
      else {
        const walked: Walked = await run.step(key, () => walk(run.id, key, saw, ms));
        trail.push(walked);
        saw = walked.nonce;
      }
    }
    return trail;
  }, { leaseMs, concurrency: 20 });
  return [journey, errand] as unknown as Workflow[];
}

/** What there is of one run when everything is over. */
export interface Ended {
  readonly id: number;
  readonly n: number;
  readonly trail: unknown;
  readonly steps: readonly StepInfo[];
}

/** What is wrong, each with the run that shows it. */
export interface Findings {
  /** Runs that have another value than the one there can be. */
  readonly wrong: string[];
  /** Steps whose record is not the last attempt that was begun. */
  readonly again: string[];
  /** Runs that were completed twice. */
  readonly twice: string[];
  readonly unhandled: string[];
}

interface Begun {
  readonly worker: string;
  readonly nonce: string;
  readonly saw: string;
  /** Whether a later step of the run was begun before it. */
  readonly isLate: boolean;
}

/** Checks what the runs have yielded against what was recorded and what was noted. */
export function checkJourneys(runs: readonly Ended[], lines: readonly string[]): Findings {
  const findings: Findings = { wrong: [], again: [], twice: [], unhandled: [] };
  const { begun, lost } = readNotes(lines, findings);
  for (const { id, n, trail, steps } of runs) {
    const problem = problemOf(n, trail);
    if (problem !== undefined) findings.wrong.push(`run ${id}, ${problem}`);
    for (const { key, kind, value, state } of steps) {
      if (kind !== "step") continue;
      const own = begun.get(`${id} ${key}`) ?? [];
      const { nonce } = (value ?? {}) as Partial<Walked>;
      const at = own.findIndex((one) => one.nonce === nonce);
      if (state !== "succeeded" || at < 0) findings.again.push(`run ${id}, ${key}: ${nonce} was recorded, not begun`);
      // Whoever has lost its lease may have begun what another did as well, and has noted that.
      const vain = own.filter((one, i) => (i > at || one.isLate) && !lost.has(`${one.worker} ${id}`));
      for (const one of vain) findings.again.push(`run ${id}, ${key}: ${nonce} was recorded, then ${one.nonce} begun`);
    }
  }
  return findings;
}

function readNotes(
  lines: readonly string[],
  findings: Findings,
): { readonly begun: Map<string, Begun[]>; readonly lost: Set<string> } {
  const begun = new Map<string, Begun[]>();
  const lost = new Set<string>();
  const completed = new Set<string>();
  /** For each run how far it has come. */
  const furthest = new Map<string, number>();
  for (const line of lines) {
    const [worker = "", word, id = "", key = "", nonce = "", saw = ""] = line.split(" ");
    if (word === "unhandled") findings.unhandled.push(line);
    if (word === "lost") lost.add(`${worker} ${id}`);
    if (word === "completed" && completed.size === completed.add(id).size) findings.twice.push(line);
    if (word !== "begin") continue;
    const place = key === "there" ? 0 : key === "back" ? 1 : Number(key.slice(4));
    const isLate = place < (furthest.get(id) ?? 0);
    furthest.set(id, Math.max(place, furthest.get(id) ?? 0));
    const name = `${id} ${key}`;
    begun.set(name, [...begun.get(name) ?? [], { worker, nonce, saw, isLate }]);
  }
  return { begun, lost };
}

/** Why the value of a run is not the one there can be. */
function problemOf(n: number, trail: unknown): string | undefined {
  const plan = planOf(n);
  if (!Array.isArray(trail) || trail.length !== plan.length) return `it yielded ${JSON.stringify(trail)}`;
  let saw = "";
  let mails = 0;
  for (const [index, { kind, ms }] of plan.entries()) {
    const found: unknown = trail[index];
    const told = `stage ${index}, ${kind}: ${JSON.stringify(found)}`;
    if (kind === "sleep" && found !== ms) return told;
    if (kind === "receive" && found !== mailOf(n, mails++)) return told;
    if (kind === "nothing" && found !== undefined) return told;
    if (kind === "call") {
      const [there, back] = found as readonly (Walked | undefined)[];
      if (there === undefined || there.nonce !== back?.saw) return told;
    }
    if (kind === "step") {
      if ((found as Walked).saw !== saw) return `${told}, after ${saw}`;
      saw = (found as Walked).nonce;
    }
  }
  return undefined;
}
