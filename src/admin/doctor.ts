/** Looks for what stands in the way of messages. */
import type { CallLimits, Database, QueryLimits } from "../database.ts";
import { DatabaseError, SchemaError } from "../errors.ts";
import { inspectPrivileges, inspectServer } from "../sql/doctor.ts";
import { decodeMetrics, ping, type QueueMetrics, reportMetrics } from "../sql/metrics.ts";
import { decodeWorker, listWorkers, type WorkerRecord } from "../sql/workers.ts";
import { verify } from "./schema.ts";

/** What `admin.doctor` has found. */
export interface Finding {
  /** What was looked at. */
  readonly check:
    | "clock"
    | "connection"
    | "dead letters"
    | "leases"
    | "privileges"
    | "queues"
    | "schema"
    | "server"
    | "workers";
  /** How bad it is: with a failure pgqrs does not work; a warning is for somebody to look at. */
  readonly level: "failure" | "ok" | "warning";
  /** What was found, and what can be done about it. */
  readonly text: string;
}

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** A worker tells once a minute that it is there; two such calls may be lost. */
const UNSEEN_MS = 3 * MINUTE_MS;
const LONG_SNAPSHOT_MS = 5 * MINUTE_MS;
const SLOW_MS = 100;

/** Makes all checks. Only reads. */
export async function examine(database: Database, limits: CallLimits): Promise<Finding[]> {
  return await database.call({ ...limits, isLong: true }, async (call) => {
    const findings: Finding[] = [];
    const begin = performance.now();
    const [answer] = await database.query(ping(), call);
    findings.push(...connection(performance.now() - begin, Number(answer?.[0] ?? 0)));
    const { dialect, schema } = database.target;
    const missing = lacking(await database.query(inspectPrivileges(schema), call));
    const granted: Finding = { check: "privileges", level: "ok", text: "may send and claim messages" };
    const privileges = missing.length > 0 || dialect.name === "sqlite" ? missing : [granted];
    return [
      ...findings,
      ...await look(database, call, privileges).catch((error): Finding[] => {
        if (!(error instanceof DatabaseError) || error.reason !== "permission") throw error;
        // What may not be read stands among what is missing, or else the server tells it.
        return missing.length > 0 ? missing : [{ check: "privileges", level: "failure", text: error.message }];
      }),
    ];
  });
}

/** Looks at the tables and what is in them. */
async function look(database: Database, call: QueryLimits, privileges: readonly Finding[]): Promise<Finding[]> {
  const schema = await verify(database).then(() => undefined, (error) => {
    if (error instanceof SchemaError) return error;
    throw error;
  });
  // Of tables that are not as they should be nothing else can be asked.
  if (schema !== undefined) {
    return [
      ...privileges.filter(({ level }) => level !== "ok"),
      { check: "schema", level: "failure", text: schema.message },
    ];
  }
  const queues = (await database.query(reportMetrics(undefined), call)).map(decodeMetrics);
  const workers = (await database.query(listWorkers(), call)).map(decodeWorker);
  return [
    { check: "schema", level: "ok", text: "is as it was installed" },
    ...privileges,
    ...queueFindings(queues, workers),
    ...leases(queues),
    ...deadLetters(queues),
    ...workerFindings(workers),
    ...server(await database.query(inspectServer(), call)),
  ];
}

/** What the role may not do, each thing that cannot be done in a sentence. */
function lacking(rows: readonly (readonly unknown[])[]): Finding[] {
  const tasks = new Map<string, string[]>();
  for (const [privilege, on, task] of rows.map((row) => row.map(String))) {
    const missing = privilege === "read-only" ? "nothing may be written here" : `${privilege} on ${on} is missing`;
    tasks.set(task ?? "", [...tasks.get(task ?? "") ?? [], missing]);
  }
  return [...tasks].map(([task, missing]) => ({
    check: "privileges",
    level: "failure",
    text: `cannot ${task} messages: ${missing.join(", ")}`,
  }));
}

function connection(ms: number, now: number): Finding[] {
  const skewMs = Math.abs(Date.now() - now);
  return [
    {
      check: "connection",
      level: ms < SLOW_MS ? "ok" : "warning",
      text: `the database has answered in ${Math.round(ms)} ms`,
    },
    {
      check: "clock",
      level: skewMs < SECOND_MS ? "ok" : "warning",
      text: skewMs < SECOND_MS
        ? "agrees with that of the database"
        : `differs from that of the database by ${Math.round(skewMs / SECOND_MS)} s; due times are the database's`,
    },
  ];
}

function queueFindings(queues: readonly QueueMetrics[], workers: readonly WorkerRecord[]): Finding[] {
  const served = new Set(workers.filter(({ startedAt }) => startedAt !== null).flatMap((worker) => worker.queues));
  const findings: Finding[] = queues.flatMap(({ queue, isPaused, ready, oldestReadyMs }) => {
    const name = JSON.stringify(queue);
    if (isPaused) return [{ check: "queues", level: "warning", text: `${name} is paused, with ${ready} ready` }];
    if (oldestReadyMs === null || oldestReadyMs < DAY_MS) return [];
    const days = Math.floor(oldestReadyMs / DAY_MS);
    const who = served.has(queue) ? "" : "; no worker serves it";
    return [{ check: "queues", level: "warning", text: `${name} has had a message ready for ${days} days${who}` }];
  });
  return findings.length > 0
    ? findings
    : [{ check: "queues", level: "ok", text: `${queues.length}, none of them stuck` }];
}

function leases(queues: readonly QueueMetrics[]): Finding[] {
  const findings: Finding[] = queues.filter(({ expired }) => expired > 0).map(({ queue, expired }) => ({
    check: "leases",
    level: "warning",
    text: `${expired} of queue ${JSON.stringify(queue)} have run out; the next claim takes them back`,
  }));
  return findings.length > 0 ? findings : [{ check: "leases", level: "ok", text: "none has run out" }];
}

function deadLetters(queues: readonly QueueMetrics[]): Finding[] {
  const findings: Finding[] = queues.filter(({ failed }) => failed > 0).map(({ queue, failed }) => ({
    check: "dead letters",
    level: "warning",
    text: `${failed} of queue ${
      JSON.stringify(queue)
    }: look with "pgqrs dead list", bring back with "pgqrs dead replay"`,
  }));
  return findings.length > 0 ? findings : [{ check: "dead letters", level: "ok", text: "none" }];
}

function workerFindings(workers: readonly WorkerRecord[]): Finding[] {
  const registered = workers.filter(({ startedAt }) => startedAt !== null);
  const findings: Finding[] = registered.filter(({ unseenMs }) => unseenMs !== null && unseenMs > UNSEEN_MS).map(
    ({ name, unseenMs }) => ({
      check: "workers",
      level: "warning",
      text: `${JSON.stringify(name)} was not heard of for ${Math.round(Number(unseenMs) / MINUTE_MS)} minutes`,
    }),
  );
  return findings.length > 0
    ? findings
    : [{ check: "workers", level: "ok", text: `${registered.length}, all heard of` }];
}

function server(rows: readonly (readonly unknown[])[]): Finding[] {
  const findings = rows.flatMap(([kind, number, word]): string[] => {
    const minutes = Math.round(Number(number) / MINUTE_MS);
    switch (kind) {
      case "snapshot":
        if (Number(number) < LONG_SNAPSHOT_MS) return [];
        return [`process ${word} has held a snapshot for ${minutes} minutes, so that what has ended is not cleaned up`];
      case "prepared":
        if (Number(number) < LONG_SNAPSHOT_MS) return [];
        return [
          `the prepared transaction ${JSON.stringify(word)} is ${minutes} minutes old; commit it or roll it back`,
        ];
      case "off":
        return [
          word === "autovacuum"
            ? "autovacuum is off, so that tables grow"
            : `${word} is off: a crash loses what was committed`,
        ];
      case "unlogged":
        return ["the tables are unlogged: a crash of the server empties them"];
      default:
        return [`the table of messages has ${number} dead rows; let autovacuum come more often`];
    }
  });
  if (findings.length === 0) return [{ check: "server", level: "ok", text: "nothing stands in the way" }];
  return findings.map((text) => ({ check: "server", level: "warning", text }));
}
