/**
 * `pgqrs worker run` as a real process, in a folder in which its programs leave traces.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { type ArchivedMessage, connect, type Store } from "@pgqrs/pgqrs";
import { freshSqliteFile, type TestDatabase } from "./databases.ts";
import { startProcess, type TestProcess } from "./processes.ts";
import { until } from "./until.ts";

const CLI = new URL("../../cli.ts", import.meta.url);
/** Another attempt follows at once, and what fails is dead after two. */
const QUEUE = { backoff: { kind: "fixed", baseMs: 1, jitter: 0 }, maxAttempts: 2 } as const;

/** A queue "tasks", a folder in which its programs run, and workers. */
export interface Yard extends AsyncDisposable {
  readonly store: Store;
  send(payload?: unknown): Promise<number>;
  /** Starts `pgqrs worker run tasks`; it is killed at the end if it is still there. */
  worker(exec: string, ...args: string[]): TestProcess;
  /** What is in a file of the folder; nothing if there is none. */
  read(name: string): string;
  write(name: string): void;
  /** Resolves when programs have written this many process ids. */
  pids(count: number): Promise<number[]>;
  /** Resolves when a message has ended. */
  end(id: number): Promise<ArchivedMessage>;
}

/** Makes a folder, a database with a queue, and nothing that runs. */
export async function openYard(database: TestDatabase = freshSqliteFile()): Promise<Yard> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-worker-"));
  const store = await connect(database.dsn);
  await store.admin.install();
  await store.admin.createQueue("tasks", QUEUE);
  const started: TestProcess[] = [];
  const yard: Yard = {
    store,
    send: async (payload = null) => (await store.producer("tasks").enqueue(payload)).id,
    worker(exec, ...args) {
      const env = { PGQRS_DSN: database.dsn, PGQRS_SCHEMA: undefined, PGQRS_CONFIG_FILE: undefined };
      const options = { args: ["worker", "run", "tasks", "--exec", exec, ...args], cwd: folder, env };
      started.push(startProcess(CLI, options));
      return started.at(-1) as TestProcess;
    },
    read: (name) => existsSync(join(folder, name)) ? readFileSync(join(folder, name), "utf8") : "",
    write: (name) => writeFileSync(join(folder, name), ""),
    async pids(count) {
      const lines = () => yard.read("pids").split("\n").slice(0, -1);
      await until(`${count} programs have begun`, () => lines().length >= count);
      return lines().map(Number);
    },
    async end(id) {
      await until(`message ${id} has ended`, async () => await store.admin.archive.get(id) !== null);
      return await store.admin.archive.get(id) as ArchivedMessage;
    },
    async [Symbol.asyncDispose]() {
      for (const one of started) await one[Symbol.asyncDispose]();
      // What a worker that was killed has left behind, and nothing else does.
      for (const pid of (yard.read("pids").match(/\d+/g) ?? []).map(Number)) if (isAlive(pid)) kill(pid, "SIGKILL");
      await store.close();
      await database.close();
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  return yard;
}

/** Not by `child.kill`, after which Deno reports the signal whatever became of the process. */
export function kill(pid: number, signal: NodeJS.Signals): void {
  process.kill(pid, signal);
}

/** Whether a process runs; one that has ended and that nobody has asked for does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !existsSync("/proc/self/stat") || !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

/** Resolves when none of these processes runs. */
export async function gone(...pids: number[]): Promise<void> {
  for (const pid of pids) await until(`process ${pid} is gone`, () => !isAlive(pid));
}

/** Stops a worker, and resolves to its exit code. */
export async function stop(worker: TestProcess, signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
  kill(worker.pid, signal);
  return await codeOf(worker);
}

/** Resolves to the exit code of a worker. */
export async function codeOf(worker: TestProcess): Promise<number | null> {
  const exit = await worker.exited;
  assertEquals(exit.signal, null, worker.stderr);
  return exit.code;
}
