/** How runs of workflows are shown. */
import type { RunDetails, RunInfo, RunWait, StepInfo } from "../../mod.ts";
import type { Row } from "./command.ts";
import { printData } from "./print.ts";

/** What a table shows of runs. */
export const RUN_COLUMNS: readonly string[] = [
  "id",
  "workflow",
  "status",
  "attempts",
  "stepCount",
  "enqueuedAt",
  "key",
  "why",
];
const STEP_COLUMNS = ["key", "kind", "state", "attempts", "startedAt", "endedAt", "dueAt", "value"];

/** A run in a list. */
export function runRow(run: RunInfo): Row {
  const { id, workflow, status, key, priority, attempts, crashes, stepCount, endedStepCount } = run;
  const { enqueuedAt, dueAt, endedAt, worker, leaseUntil, queuePausedAt, parentId, reason, error, waitsFor } = run;
  return {
    id,
    workflow,
    status,
    why: whyOf(run),
    key,
    priority,
    attempts,
    crashes,
    stepCount,
    endedStepCount,
    enqueuedAt,
    dueAt,
    endedAt,
    worker,
    leaseUntil,
    queuePausedAt,
    parentId,
    reason,
    error,
    waitsFor,
  };
}

/** A run with all that is known of it. */
export function detailRow(run: RunDetails): Row {
  const { maxAttempts, childIds, progress, input, result, steps } = run;
  return {
    ...runRow(run),
    maxAttempts,
    childIds,
    progress,
    input: plain(input),
    result: plain(result),
    steps: steps.map(stepRow),
  };
}

/** The same for people: the run, and below it a table of its steps. */
export async function detailText(run: RunDetails): Promise<string> {
  const { steps: _, waitsFor: __, error, ...fields } = detailRow(run);
  const pieces: string[] = [];
  const layout = { format: "table", hasColor: false } as const;
  for await (const piece of printData({ data: { ...fields, error: run.error?.message ?? error } }, layout)) {
    pieces.push(piece);
  }
  // What has failed has no value, and the other way round.
  const rows = run.steps.map((step) => ({
    ...stepRow(step),
    ...(step.error !== null && { value: step.error.message }),
  }));
  if (rows.length > 0) pieces.push("\n");
  for await (const piece of printData({ data: rows, columns: STEP_COLUMNS }, layout)) pieces.push(piece);
  return pieces.join("");
}

/** Why a run does not move, or why it has ended; null while it is executed. */
function whyOf({ status, waitsFor, queuePausedAt, reason }: RunInfo): string | null {
  const others = waitsFor.map(waitText);
  if (status === "ready") others.push("waits for a worker");
  if (status === "delayed") others.push("waits for its time");
  if (queuePausedAt !== null && ["delayed", "ready", "waiting"].includes(status)) others.push("its queue is paused");
  return others.length > 0 ? others.join("; ") : reason;
}

function waitText({ kind, step, topic, childId, until, reason }: RunWait): string {
  const end = until === null ? "" : ` until ${until.toISOString()}`;
  switch (kind) {
    case "child":
      return `waits for run ${childId}`;
    case "code":
      return `waits for code that fits: ${reason}`;
    case "mail":
      return `waits for mail on ${JSON.stringify(topic)}${end}`;
    case "person":
      return "waits for somebody who resumes it";
    case "retry":
      return `waits to try ${JSON.stringify(step)} again${end}`;
    case "sleep":
      return `sleeps in ${JSON.stringify(step)}${end}`;
  }
}

function stepRow({ key, kind, state, attempts, startedAt, endedAt, dueAt, childId, value, error }: StepInfo): Row {
  return { key, kind, state, attempts, startedAt, endedAt, dueAt, childId, value: plain(value), error };
}

/** What JSON does not have is shown as the closest that it has. */
function plain(value: unknown): unknown {
  if (value === undefined) return null;
  const text = JSON.stringify(value, (_, one: unknown) => {
    if (typeof one === "bigint") return String(one);
    if (one instanceof Map || one instanceof Set) return [...one];
    if (one instanceof RegExp) return String(one);
    if (one instanceof Error) return { name: one.name, message: one.message };
    if (ArrayBuffer.isView(one) && !(one instanceof DataView)) return [...one as Uint8Array];
    return one;
  });
  return JSON.parse(text ?? "null");
}
