/**
 * The soak: a steady load for a long time, and what grows meanwhile.
 *
 * @module
 */
import { assert } from "@std/assert";
import process from "node:process";
import { connect } from "../../mod.ts";
import { assertAllBars, type Bar } from "./bars.ts";
import { bareClient } from "./databases.ts";
import { PostgresServer } from "./postgres_server.ts";
import { runtimeCommand, startProcess, type TestProcess } from "./processes.ts";

/** A straight line through measured points: how steep it is, and how sure that is (the standard error). */
export interface Slope {
  readonly perHour: number;
  readonly errorPerHour: number;
}

/** One look at everything. */
interface Sample {
  readonly ms: number;
  readonly connections: number;
  readonly bytes: number;
}

const ROLES = ["worker", "producer"] as const;
const RATE = 300;
const SAMPLE_MS = 1_000;
const SCRIPT = new URL("./soak_process.ts", import.meta.url);
const MOST_SLOPE_MB = 1;
/** From how many minutes on everything has to be as it stays: what is kept is kept for some minutes. */
const FULL_MINUTES = 50;
const MOST_GROWTH = 1.2;
/** In a short run: how much memory may be added in all after the first sixth. */
const MOST_ADDED_MB = 24;

/** One of the processes, and how much memory it held when. */
class Soaked implements AsyncDisposable {
  readonly child: TestProcess;
  readonly #begin = performance.now();
  readonly #read: Promise<void>;
  readonly memory: [hours: number, megabytes: number][] = [];
  readonly complaints: string[] = [];
  count = 0;

  constructor(role: string, dsn: string) {
    const runtime = [...runtimeCommand(), process.versions.deno ? "--v8-flags=--expose-gc" : "--expose-gc"];
    this.child = startProcess(SCRIPT, { args: [role, dsn, String(RATE)], runtime });
    this.#read = this.#listen();
  }

  async stop(): Promise<void> {
    this.child.kill("SIGTERM");
    await this.child.exited;
    await this.#read;
    assert(this.child.stdout.endsWith("done\n"), `${this.child.stdout.slice(-500)} ${this.child.stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.child[Symbol.asyncDispose]();
  }

  async #listen(): Promise<void> {
    for await (const line of this.child.lines) {
      const [word, kilobytes, count] = line.split(" ");
      if (word !== "state") {
        if (word !== "done") this.complaints.push(line);
        continue;
      }
      this.memory.push([(performance.now() - this.#begin) / 3_600_000, Number(kilobytes) / 1_024]);
      this.count = Number(count);
    }
  }
}

/** Runs the load and checks what has grown. */
export async function soak(name: string, minutes: number): Promise<void> {
  // The server cleans up as often as in an hour's run, in proportion.
  const naptime = Math.max(2, Math.min(60, minutes));
  await using server = await PostgresServer.open({ settings: { autovacuum_naptime: naptime } });
  await using store = await connect(server.dsn(), { maxConnections: 1 });
  await store.admin.install();
  await store.admin.createQueue("soak", { retentionMs: minutes * 60_000 / 20 });
  const sql = bareClient(server.dsn());
  try {
    await using worker = new Soaked("worker", server.dsn());
    await using producer = new Soaked("producer", server.dsn());
    const samples: Sample[] = [];
    const begin = performance.now();
    for (let ms = 0; ms < minutes * 60_000; ms = performance.now() - begin) {
      samples.push({ ms, ...await look(sql) });
      await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
    }
    await producer.stop();
    const giveUpAt = performance.now() + 30_000;
    while (await store.admin.messages.count() > 0 && performance.now() < giveUpAt);
    const left = await store.admin.messages.count();
    await worker.stop();
    const both = { worker, producer };
    assertAllBars(name, [...judge(minutes, samples, both), ["messages left, 0", left, left === 0]]);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

function judge(
  minutes: number,
  samples: readonly Sample[],
  both: Readonly<Record<typeof ROLES[number], Soaked>>,
): Bar[] {
  const isFull = minutes >= FULL_MINUTES;
  const { worker, producer } = both;
  const rate = Math.round(worker.count / (minutes * 60));
  const bars: Bar[] = [[`completed per second, at least ${RATE * 0.95}`, rate, rate >= RATE * 0.95]];
  for (const role of ROLES) {
    const { memory } = both[role];
    const points = memory.filter(([hours]) => hours * 60 > minutes / 6);
    const { perHour, errorPerHour } = slopeOf(points);
    const sixths = [1, 2, 3, 4, 5, 6].map((n) => memory[Math.ceil(n * memory.length / 6) - 1]?.[1].toFixed(1));
    const told = `${perHour.toFixed(2)} ± ${errorPerHour.toFixed(2)} (MB after each sixth: ${sixths.join(", ")})`;
    // A short run cannot tell so little from what a runtime needs for itself.
    if (isFull) bars.push([`memory of the ${role} in MB/h, below ${MOST_SLOPE_MB}`, told, perHour < MOST_SLOPE_MB]);
    else {
      const added = perHour * minutes / 60 * 5 / 6;
      bars.push([`memory of the ${role} in MB/h, told only`, told, true]);
      bars.push([`memory that was added, at most ${MOST_ADDED_MB} MB`, added.toFixed(2), added <= MOST_ADDED_MB]);
    }
  }
  const steady = samples.filter(({ ms }) => ms > minutes * 10_000).map(({ connections }) => connections);
  const [least, most] = [Math.min(...steady), Math.max(...steady)];
  bars.push(["connections, constant", `${least} to ${most}`, least === most]);
  const quarter = samples.find(({ ms }) => ms >= minutes * 15_000)?.bytes ?? 1;
  const growth = (samples.at(-1)?.bytes ?? Infinity) / quarter;
  const told = `${growth.toFixed(2)} (of ${(quarter / 1_048_576).toFixed(1)} MB)`;
  // What is kept is deleted once a minute: a short run has hardly begun with that after a quarter.
  const bar = isFull ? `at most ${MOST_GROWTH}` : "told only";
  bars.push([`tables and indexes at the end to those at a quarter, ${bar}`, told, !isFull || growth <= MOST_GROWTH]);
  const complaints = [...worker.complaints, ...producer.complaints];
  bars.push([
    "errors and unhandled rejections, 0",
    [complaints.length, ...complaints].slice(0, 4).join("; "),
    complaints.length === 0,
  ]);
  return bars;
}

/** Connections of the two processes, and the size of everything. */
async function look(sql: ReturnType<typeof bareClient>): Promise<{ connections: number; bytes: number }> {
  const [row] = await sql.unsafe(`select
    (select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend') as n,
    (select sum(pg_total_relation_size(oid)) from pg_class where relname like 'pgqrs%' and relkind = 'r') as bytes`);
  return { connections: Number(row?.n), bytes: Number(row?.bytes) };
}

/** The line of least squares. */
export function slopeOf(points: readonly (readonly [hours: number, value: number])[]): Slope {
  const n = points.length;
  const meanX = points.reduce((sum, [x]) => sum + x, 0) / n;
  const meanY = points.reduce((sum, [, y]) => sum + y, 0) / n;
  const spread = points.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
  const perHour = points.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0) / spread;
  const rest = points.reduce((sum, [x, y]) => sum + (y - meanY - perHour * (x - meanX)) ** 2, 0);
  return { perHour, errorPerHour: Math.sqrt(rest / Math.max(1, n - 2) / spread) };
}
