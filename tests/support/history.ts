/**
 * Checks what workers have noted against what the tables hold.
 *
 * @module
 */
import type { ArchivedMessage } from "../../mod.ts";
import { type Dose, isDeadly, resultOf } from "./poison.ts";

/** What was promised, what was noted, and what is stored. */
export interface History {
  /** Whatever was enqueued and acknowledged, by id. */
  readonly enqueued: ReadonlyMap<number, Dose>;
  /** The lines of all workers, in the order in which they were written. */
  readonly lines: readonly string[];
  /** The whole archive. */
  readonly archived: readonly ArchivedMessage<Dose>[];
  /** The ids of the messages that have not ended. */
  readonly live: readonly number[];
  readonly maxAttempts: number;
  readonly maxCrashes: number;
}

/** What is wrong, each with the message that shows it. */
export interface Findings {
  /** Acknowledged, and neither ended nor there. */
  readonly lost: string[];
  /** Ended more than once, ended and still there, or never enqueued. */
  readonly double: string[];
  /** Good messages that did not succeed with their result. */
  readonly good: string[];
  /** Poison that is no dead letter, or one with another reason or other counts. */
  readonly poison: string[];
  /** Handled again, or ended once more, after the completion was acknowledged. */
  readonly again: string[];
  /** What was noted does not fit to what is stored. */
  readonly notes: string[];
  /** Rejections that nobody handled. */
  readonly unhandled: string[];
}

/** What the workers have noted of one message, in its order. */
interface Noted {
  readonly begins: { readonly attempt: number; readonly crashes: number }[];
  readonly failures: number[];
  readonly deaths: string[];
  completions: number;
}

/** Checks everything. */
export function checkHistory(history: History): Findings {
  const findings: Findings = { lost: [], double: [], good: [], poison: [], again: [], notes: [], unhandled: [] };
  const notes = readLines(history.lines, findings);
  const counts = new Map<number, number>();
  for (const id of [...history.archived.map(({ id }) => id), ...history.live]) {
    counts.set(id, (counts.get(id) ?? 0) + 1);
    if (!history.enqueued.has(id)) findings.double.push(`${id} was never enqueued`);
  }
  for (const id of history.enqueued.keys()) {
    const count = counts.get(id) ?? 0;
    if (count === 0) findings.lost.push(String(id));
    if (count > 1) findings.double.push(`${id} is there ${count} times`);
  }
  for (const id of history.live) findings.notes.push(`${id} has not ended`);
  for (const message of history.archived) checkEnding(message, history, notes.get(message.id), findings);
  return findings;
}

function readLines(lines: readonly string[], findings: Findings): Map<number, Noted> {
  const notes = new Map<number, Noted>();
  for (const line of lines) {
    const [worker, word = "", second = "", third = "", fourth = ""] = line.split(" ");
    if (word === "unhandled") findings.unhandled.push(line);
    if (!["begin", "completed", "failed", "dead"].includes(word)) continue;
    const id = Number(second);
    const noted = notes.get(id) ?? { begins: [], failures: [], deaths: [], completions: 0 };
    notes.set(id, noted);
    if (noted.completions > 0) findings.again.push(`${id} was completed, and then: ${line}`);
    if (word === "begin") noted.begins.push({ attempt: Number(third), crashes: Number(fourth) });
    else if (word === "failed") noted.failures.push(Number(third));
    else if (word === "dead") noted.deaths.push(third);
    else if (word === "completed") noted.completions++;
    if (noted.deaths.length > 1) findings.double.push(`${id} has died twice, the second time at ${worker}`);
  }
  return notes;
}

function checkEnding(
  message: ArchivedMessage<Dose>,
  { enqueued, maxAttempts, maxCrashes }: History,
  noted: Noted | undefined,
  { good, poison, notes }: Findings,
): void {
  const { id, outcome, reason, attempts, crashes, error, result } = message;
  const dose = enqueued.get(id);
  if (dose === undefined) return;
  const told = `${id} (${dose.kind}) ${outcome}, ${reason}, ${attempts} attempts, ${crashes} crashes`;
  if (dose.kind === "good") {
    const isRight = outcome === "succeeded" && JSON.stringify(result) === JSON.stringify(resultOf(dose.n));
    // On a busy machine even a good one may take too long.
    const isQuick = attempts === 0 || error?.name === "TimeoutError";
    if (!isRight || !isQuick || crashes >= maxCrashes) good.push(`${told}: ${JSON.stringify(result)}`);
  } else {
    const isRight = isDeadly(dose.kind)
      ? reason === "crashes" && crashes === maxCrashes && attempts === 0
      : reason === "attempts" && attempts === maxAttempts && crashes < maxCrashes;
    if (outcome !== "failed" || !isRight) poison.push(told);
  }
  if (noted === undefined) return void notes.push(`${told}: nobody has begun it`);
  const { begins, failures, deaths, completions } = noted;
  if (begins.length > maxAttempts + maxCrashes) notes.push(`${told}: begun ${begins.length} times`);
  if (new Set(failures).size < failures.length) notes.push(`${told}: a failure was counted twice: ${failures}`);
  if (failures.length > attempts) notes.push(`${told}: ${failures.length} failures were reported`);
  if (deaths.some((death) => death !== reason)) notes.push(`${told}: died of ${deaths}`);
  if (completions > (outcome === "succeeded" ? 1 : 0)) notes.push(`${told}: completed ${completions} times`);
  // A failure is the end of an attempt that was begun: each has its number.
  for (let n = 1; n <= attempts; n++) {
    if (!begins.some(({ attempt }) => attempt === n)) notes.push(`${told}: attempt ${n} was never begun`);
  }
  // From half of them on, a crash counts only for a message of which it was noted that it is begun. Whoever is killed
  // just then has begun it for the tables and not for its own notes.
  const lives = Math.floor(maxCrashes / 2);
  const begun = begins.filter((begin) => begin.crashes >= maxCrashes - lives).length;
  if (reason === "crashes" && begun * 2 < lives) notes.push(`${told}: only ${begun} of its last lives were begun`);
}
