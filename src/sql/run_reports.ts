/**
 * The statements of an operator who looks at runs. They read the rows of the view `pgqrs_runs`, at the time of the statement
 * or of a test, and take of a list only as many rows of either table as there are on a page.
 */
import { decodeJson, type StoredError } from "../json.ts";
import type { Row } from "./driver.ts";
import { endedRuns, liveRuns, RUN_COLUMNS, stepCounts } from "./migrations/0003_view.ts";
import { idOfQueue } from "./queues.ts";
import type { MessageState } from "./record.ts";
import {
  type Fragment,
  instant,
  join,
  millis,
  now,
  perDialect,
  raw,
  sql,
  type Statement,
  statement,
  table,
} from "./sql.ts";

/** The states of a run that lives, and how it may have ended. */
export type RunStatus = Exclude<MessageState, "deleted">;

/** Which runs to list. */
export interface RunFilter {
  readonly workflow?: string | undefined;
  readonly status?: RunStatus | undefined;
  readonly key?: string | undefined;
  /** Only those that were started at this instant or later. */
  readonly since?: number | undefined;
  /** Only those that were started before this instant. */
  readonly until?: number | undefined;
  /** Only those with a smaller id. */
  readonly beforeId?: number | undefined;
}

/** What a run waits for, as it is stored. */
export interface StoredWait {
  readonly key?: string;
  readonly kind: string;
  readonly topic?: string;
  readonly childId?: number;
  readonly until?: number;
  readonly reason?: string;
}

/** A run as it is listed. */
export interface RunRecord {
  readonly id: number;
  readonly workflow: string;
  readonly status: RunStatus;
  readonly key: string | null;
  readonly priority: number;
  readonly enqueuedAt: Date;
  readonly dueAt: Date | null;
  readonly endedAt: Date | null;
  readonly attempts: number;
  readonly crashes: number;
  readonly worker: string | null;
  readonly leaseUntil: Date | null;
  readonly waits: readonly StoredWait[];
  readonly reason: string | null;
  readonly error: StoredError | null;
  readonly parentId: number | null;
  readonly queuePausedAt: Date | null;
  readonly stepCount: number;
  readonly endedStepCount: number;
}

/** What else there is to know of one run. The texts are JSON. */
export interface RunTexts {
  readonly input: string;
  readonly result: string | null;
  readonly progress: string | null;
  readonly maxAttempts: number;
}

/** How many runs of a workflow there are in each state. */
export interface RunCounts {
  /** The workflow. */
  readonly workflow: string;
  /** Whether deliveries of its queue are stopped. */
  readonly isPaused: boolean;
  /** Runs that could go on now, if a worker were free. */
  readonly ready: number;
  /** Runs that were started for later, and those that have failed and are tried again later. */
  readonly delayed: number;
  /** Runs that a worker executes. */
  readonly leased: number;
  /** Runs that wait: for time, mail, a child or the next attempt of a step. */
  readonly waiting: number;
  /** Runs that somebody has paused. */
  readonly paused: number;
  /** Runs whose code does not fit what is recorded. */
  readonly blocked: number;
  /** Runs that have returned, as long as they are kept. */
  readonly succeeded: number;
  /** Runs that have failed, as long as they are kept. */
  readonly failed: number;
  /** Runs that were cancelled, as long as they are kept. */
  readonly cancelled: number;
}

const OUTCOMES: readonly string[] = ["cancelled", "failed", "succeeded"];
const LATER = sql`m.state = 'ready' and m.due_at > ${now}`;
const LIVE_STATES: Readonly<Record<string, Fragment>> = {
  blocked: raw("m.state = 'blocked'"),
  delayed: sql`${LATER} and m.waits is null`,
  leased: raw("m.state = 'leased'"),
  paused: raw("m.state = 'paused'"),
  ready: sql`m.state = 'ready' and m.due_at <= ${now}`,
  waiting: sql`${LATER} and m.waits is not null`,
};

/** Lists runs, those that were stored last first. Rows: for {@linkcode decodeRun}. */
export function listRuns(filter: RunFilter, limit: number): Statement {
  const { status } = filter;
  const page = (rows: Fragment, from: "a" | "m", condition: Fragment): Fragment =>
    sql`select ${RUN_COLUMNS} from (${rows} and ${condition} and ${matches(filter, from)}
order by ${raw(from)}.id desc limit ${limit}) ${raw(from === "m" ? "live" : "ended")}`;
  const live = status === undefined ? raw("true") : LIVE_STATES[status];
  const ended = status === undefined ? raw("true") : raw(`a.outcome = '${OUTCOMES.find((one) => one === status)}'`);
  const pages = [
    ...(live === undefined ? [] : [page(liveRuns(now), "m", live)]),
    ...(status !== undefined && live !== undefined ? [] : [page(endedRuns(), "a", ended)]),
  ];
  return statement(
    "listRuns",
    sql`select ${runColumns}
from (
${join(pages, "\nunion all\n")}
) r
order by id desc limit ${limit}`,
  );
}

/** Finds a run, whether it lives or has ended. Row: for {@linkcode decodeRun} and {@linkcode decodeRunTexts}. */
export function findRun(id: number): Statement {
  const nothing = perDialect({ postgres: () => raw("null::json"), sqlite: () => raw("null") });
  return statement(
    "findRun",
    sql`select ${runColumns}, cast(input as text), cast(result as text), cast(progress as text), max_attempts
from (
${liveRuns(now, sql`, m.payload as input, ${nothing} as result, m.progress, m.max_attempts`)} and m.id = ${id}
union all
${endedRuns(sql`, a.payload as input, a.result, ${nothing} as progress, a.max_attempts`)} and a.id = ${id}
) r`,
  );
}

/** Counts the runs of each workflow by state. Rows: for {@linkcode decodeRunCounts}. */
export function countRuns(): Statement {
  const count = (state: string) => sql`count(m.id) filter (where ${LIVE_STATES[state] as Fragment})`;
  const ended = (outcome: string) =>
    sql`(select count(*) from ${table("archive")} a where a.queue_id = q.id and a.outcome = ${outcome})`;
  const live = ["ready", "delayed", "leased", "waiting", "paused", "blocked"].map(count);
  return statement(
    "countRuns",
    sql`select q.name, case when q.paused_at is null then 0 else 1 end, ${join(live, ",\n  ")},
  ${ended("succeeded")}, ${ended("failed")}, ${ended("cancelled")}
from ${table("queues")} q left join ${table("messages")} m on m.queue_id = q.id
where q.is_workflow
group by q.id, q.name, q.paused_at
order by q.name`,
  );
}

/** Reads a row of {@linkcode listRuns} or {@linkcode findRun}. */
export function decodeRun(row: Row): RunRecord {
  const date = (value: unknown): Date | null => value === null ? null : new Date(Number(value));
  const textOf = (value: unknown): string | null => value === null ? null : String(value);
  return {
    id: Number(row[0]),
    workflow: String(row[1]),
    status: String(row[2]) as RunStatus,
    key: textOf(row[3]),
    priority: Number(row[4]),
    enqueuedAt: new Date(Number(row[5])),
    dueAt: date(row[6]),
    endedAt: date(row[7]),
    attempts: Number(row[8]),
    crashes: Number(row[9]),
    worker: textOf(row[10]),
    leaseUntil: date(row[11]),
    waits: row[12] === null ? [] : decodeJson(String(row[12])) as StoredWait[],
    reason: textOf(row[13]),
    error: row[14] === null ? null : decodeJson(String(row[14])) as StoredError,
    parentId: row[15] === null ? null : Number(row[15]),
    queuePausedAt: date(row[16]),
    stepCount: Number(row[17]),
    endedStepCount: Number(row[18]),
  };
}

/** Reads what is behind the columns of a run in a row of {@linkcode findRun}. */
export function decodeRunTexts(row: Row): RunTexts {
  const [input, result, progress, maxAttempts] = row.slice(19);
  return {
    input: String(input),
    result: result === null ? null : String(result),
    progress: progress === null ? null : String(progress),
    maxAttempts: Number(maxAttempts),
  };
}

/** Reads a row of {@linkcode countRuns}. */
export function decodeRunCounts(row: Row): RunCounts {
  const count = (i: number): number => Number(row[i]);
  return {
    workflow: String(row[0]),
    isPaused: count(1) === 1,
    ready: count(2),
    delayed: count(3),
    leased: count(4),
    waiting: count(5),
    paused: count(6),
    blocked: count(7),
    succeeded: count(8),
    failed: count(9),
    cancelled: count(10),
  };
}

/** The columns of a run `r`, in the order of {@linkcode decodeRun}. */
const runColumns: Fragment = sql`id, workflow, status, key, priority, ${millis(raw("enqueued_at"))},
  ${millis(raw("due_at"))}, ${millis(raw("ended_at"))}, attempts, crashes, worker, ${millis(raw("lease_until"))},
  cast(waits as text), reason, cast(error as text), parent_id, ${millis(raw("queue_paused_at"))},
  ${stepCounts(now)}`;

function matches({ workflow, key, since, until, beforeId }: RunFilter, from: "a" | "m"): Fragment {
  const column = (name: string): Fragment => raw(`${from}.${name}`);
  const conditions = [
    ...(workflow === undefined ? [] : [sql`${column("queue_id")} = ${idOfQueue(workflow)}`]),
    ...(key === undefined ? [] : [sql`${column("key")} = ${key}`]),
    ...(since === undefined ? [] : [sql`${column("enqueued_at")} >= ${instant(since)}`]),
    ...(until === undefined ? [] : [sql`${column("enqueued_at")} < ${instant(until)}`]),
    ...(beforeId === undefined ? [] : [sql`${column("id")} < ${beforeId}`]),
  ];
  return conditions.length === 0 ? raw("true") : join(conditions, " and ");
}
