/**
 * The `pgqrs` command as real processes: in a folder of its own, interrupted, at a terminal.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { connect } from "../../mod.ts";
import type { Answer } from "./cli.ts";
import { type ProcessOptions, runtimeCommand, startProcess, type TestProcess } from "./processes.ts";
import { until } from "./until.ts";

const CLI = new URL("../../cli.ts", import.meta.url);
/** Takes away what the machine may have set. */
export const NO_SETTINGS = { PGQRS_DSN: undefined, PGQRS_CONFIG_FILE: undefined, PGQRS_SCHEMA: undefined };
/** How many processes run at once. */
const AT_ONCE = 4;
/** Far less than the time limits in these tests, and more than a busy machine needs. */
const SOON_MS = 15_000;

/** A folder of its own, and the command in it. */
export interface Place extends Disposable {
  readonly folder: string;
  readonly dsn: string;
  /** Starts the command, on the database of this place unless told otherwise. */
  start(args: readonly string[], options?: ProcessOptions): TestProcess;
  /** Runs the command to its end, when it is its turn. */
  pgqrs(args: readonly string[], options?: ProcessOptions): Promise<Answer>;
  /** The same of a command that is expected to succeed and to print JSON. */
  json(...args: string[]): Promise<Record<string, unknown>[]>;
  /** Writes a file of the folder. */
  write(name: string, text: string): void;
}

/** Makes a folder, with no database in it unless one is given. */
export function openPlace(dsn?: string): Place {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-process-"));
  const place: Place = {
    folder,
    dsn: dsn ?? `sqlite:${join(folder, "jobs.db")}`,
    start: (args, options = {}) =>
      startProcess(CLI, {
        cwd: folder,
        ...options,
        args,
        env: { ...NO_SETTINGS, PGQRS_DSN: place.dsn, ...options.env },
      }),
    pgqrs: (args, options) => inTurn(() => ended(place.start(args, options))),
    async json(...args) {
      const { code, out, err } = await place.pgqrs([...args, "--format", "json"]);
      assertEquals(code, 0, err);
      return [JSON.parse(out)].flat();
    },
    write: (name, text) => writeFileSync(join(folder, name), text),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }),
  };
  return place;
}

/** A place with a database that has a queue "tasks". */
export async function openInstalled(): Promise<Place> {
  const place = openPlace();
  await using store = await connect(place.dsn);
  await store.admin.install();
  await store.admin.createQueue("tasks");
  return place;
}

async function ended(child: TestProcess): Promise<Answer> {
  await using running = child;
  const { code, signal } = await running.exited;
  const { stdout: out, stderr: err } = running;
  assertEquals(signal, null, err);
  // Whatever goes wrong is told in sentences.
  assertEquals(/^\s+at \S+.*:\d+/m.test(err), false, err);
  return { code: code ?? -1, out, err };
}

/** Does something with all at once; what fails is told when none runs any more. */
export async function forAll<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const failed = (await Promise.allSettled(all.map(work))).find(({ status }) => status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
}

let running = 0;
const waiting: (() => void)[] = [];

/** So that a case can begin all its processes, and the machine is not overrun. */
export async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (running === AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  else running++;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next === undefined) running--;
    else next();
  }
}

/** A server that takes connections and never says a word. */
export async function startSilence(): Promise<{ dsn: string; taken: Promise<unknown> } & AsyncDisposable> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => void sockets.push(socket.on("error", () => {}))).listen(0, "127.0.0.1");
  const taken = once(server, "connection");
  await once(server, "listening");
  return {
    dsn: `postgres://me@127.0.0.1:${(server.address() as AddressInfo).port}/none`,
    taken,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Sends SIGINT, at which the process has to end soon, with 130. */
export async function interrupt(child: TestProcess): Promise<void> {
  // Not by `child.kill`, after which Deno reports the signal whatever became of the process.
  process.kill(child.pid, "SIGINT");
  const late = setTimeout(() => process.kill(child.pid, "SIGKILL"), SOON_MS);
  const exit = await child.exited;
  clearTimeout(late);
  assertEquals(exit, { code: 130, signal: null }, child.stderr);
  assertEquals(/^\s+at /m.test(child.stderr), false, child.stderr);
}

/** Whether this machine has the program that makes terminals. */
export function hasTerminal(): boolean {
  return spawnSync("script", ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux") === true;
}

/** Runs the command at a pseudo-terminal, and types an answer to its question. */
export async function atTerminal(
  place: Place,
  args: readonly string[],
  { question, answer }: { readonly question: string; readonly answer: string },
): Promise<{ readonly code: number; readonly out: string }> {
  const words = [...runtimeCommand(), fileURLToPath(CLI), ...args].map((word) => `'${word}'`);
  const env = { ...process.env, PGQRS_DSN: place.dsn, TERM: "xterm", COLUMNS: "200" };
  const script = ["-qec", words.join(" "), "/dev/null"];
  const child = spawn("script", script, { cwd: place.folder, env, stdio: ["pipe", "pipe", "inherit"] });
  const exited = once(child, "close");
  let out = "";
  child.stdout.on("data", (chunk) => out += chunk);
  try {
    await until(`it asks: ${out}`, () => out.includes(question));
    child.stdin.write(answer);
    const [code] = await exited;
    return { code: code as number, out };
  } finally {
    child.stdin.destroy();
    child.kill("SIGKILL");
  }
}
