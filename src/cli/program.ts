/** A program of the user as the handler of a job. */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import type { Readable } from "node:stream";
import { type JobHandler, type Message, NonRetryableError } from "../../mod.ts";
import { resultOf } from "./result.ts";
import { printable } from "./text.ts";

/** How a program is run. */
export interface ProgramOptions {
  /** How many may run at once, those counted that are still ending. */
  readonly concurrency: number;
  /** After how long one is stopped and its attempt has failed. */
  readonly timeoutMs: number;
  /** Exit codes after which no other attempt is made. */
  readonly deadOn: ReadonlySet<number>;
  /** Takes what it says on stderr. */
  echo(text: string): void;
  /** Takes a sentence about a message of which an attempt has failed. */
  warn(text: string): void;
}

/** Runs a program for each message. */
export interface Programs {
  readonly handle: JobHandler;
  /** Resolves when none runs any more. */
  end(): Promise<void>;
}

/** How a program has ended, and what it has said. */
interface Ending {
  readonly code: number | null;
  /** Why it has failed, if it has. */
  readonly cause: string;
  /** Whether it was stopped because it took too long. */
  readonly isLate: boolean;
  /** What it has printed, or as much of it as shows that it is too much. */
  readonly printed: string;
  /** Its last words on stderr. */
  readonly words: string;
}

/** How long a program has to end by itself when it is told to. */
const END_MS = 5_000;
/** How long nothing may come behind the end of a program until all that it has said is here, and how long that may take. */
const QUIET_MS = 200;
const REST_MS = 2_000;
/** What of its last words is kept with a failure. */
const LAST_WORDS = 2_000;
/** How much of what it prints is read; what can be stored is less, and may be written with many spaces. */
const LONGEST_OUTPUT = 8 * 1024 * 1024;
const IS_WINDOWS = process.platform === "win32";

/**
 * Runs a command of the shell for each message. It reads the payload as JSON from stdin, and finds the rest in `PGQRS_ID`,
 * `PGQRS_QUEUE`, `PGQRS_ATTEMPT`, `PGQRS_KEY`, `PGQRS_TYPE` and `PGQRS_HEADERS` (JSON). Exit code 0 means success; what it has
 * printed is the result, as JSON if it is that, else as text. It is stopped, with everything it has started, when its message
 * is lost or cancelled, or takes too long. An attempt has not failed before the program is gone, so that the next one
 * never runs beside it.
 */
export function openPrograms(command: string, options: ProgramOptions): Programs {
  const running = new Map<number, { readonly child: ChildProcess; readonly gone: Promise<unknown> }>();
  const killAll = (): void => {
    for (const { child } of running.values()) killGroup(child, "SIGKILL");
  };
  // At the second Ctrl-C nobody waits any more, and nobody is left behind.
  process.on("exit", killAll);

  async function handle(...[message, { signal, attempt }]: Parameters<JobHandler>): Promise<unknown> {
    const { id, queue, payload } = message;
    // A worker does not wait for the handler of a message that it has lost, and may be given the same one again.
    while (running.size >= options.concurrency || running.has(id)) {
      await Promise.race([...running.values()].map(({ gone }) => gone));
    }
    signal.throwIfAborted();
    // A group of its own can be stopped as a whole, and does not hear the Ctrl-C that is meant for the worker.
    const env = { ...process.env, ...environmentOf(message, attempt) };
    const child = spawn(command, { shell: true, detached: !IS_WINDOWS, env });
    const ending = follow(child, JSON.stringify(payload), signal, options);
    // Handlers that wait go on behind this, when there is a place again.
    const gone = ending.catch(() => {}).then(() => void running.delete(id));
    running.set(id, { child, gone });
    const ended = await ending;
    await gone;
    signal.throwIfAborted();
    if (ended.code === 0 && !ended.isLate) return resultOf(ended.printed);
    const { cause, words } = ended;
    const lastLine = words.split("\n").at(-1)?.replaceAll("\t", " ");
    options.warn(`Message ${id} of queue ${JSON.stringify(queue)}: ${withWords(cause, lastLine)}`);
    throw failure(withWords(cause, words), !ended.isLate && options.deadOn.has(ended.code ?? 0));
  }

  return {
    handle,
    async end() {
      await Promise.all([...running.values()].map(({ gone }) => gone));
      process.off("exit", killAll);
    },
  };
}

/** Starts a shell that does nothing, so that a worker which cannot start any program does not use up attempts. */
export async function checkPrograms(): Promise<void> {
  const { code, cause } = await exitOf(spawn("exit 0", { shell: true, stdio: "ignore" }));
  if (code !== 0) throw new Error(`cannot start programs: ${cause}`);
}

/** Gives a program its payload, listens to it, and stops it when it is time. */
async function follow(
  child: ChildProcess,
  payload: string,
  signal: AbortSignal,
  { timeoutMs, echo }: ProgramOptions,
): Promise<Ending> {
  let isLate = false;
  const stop = (): void => stopGroup(child);
  const timer = setTimeout(() => {
    isLate = true;
    stop();
  }, timeoutMs);
  signal.addEventListener("abort", stop, { once: true });
  const exit = exitOf(child).finally(() => {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  });
  // A program need not read its payload: then the pipe breaks, and that is no error.
  child.stdin?.on("error", () => {});
  child.stdin?.end(payload);
  let printed = "";
  const [{ code, cause }, words] = await Promise.all([
    exit,
    tail(child.stderr, exit, echo),
    listen(child.stdout, exit, (text) => {
      if (printed.length <= LONGEST_OUTPUT) printed += text;
    }),
  ]);
  return { code, cause: isLate ? `took longer than ${timeoutMs} ms` : cause, isLate, printed, words };
}

/** Resolves when a program has ended. What it has left behind goes with it. */
function exitOf(child: ChildProcess): Promise<{ readonly code: number | null; readonly cause: string }> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, name) => {
      killGroup(child, "SIGKILL");
      resolve({ code, cause: code === null ? `ended by ${name}` : `exit code ${code}` });
    });
  });
}

/**
 * Takes what a program writes until nothing more comes. A daemon that it has left behind may hold the stream open for ever, so
 * that behind the end of the program there is only a short time for what is on its way.
 */
function listen(stream: Readable | null, exit: Promise<unknown>, take: (text: string) => void): Promise<void> {
  if (stream === null) return Promise.resolve();
  const decoder = new TextDecoder();
  return new Promise((resolve) => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let [lastAt, isOver] = [Infinity, false];
    const finish = (): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      take(decoder.decode());
      stream.destroy();
      resolve();
    };
    const wait = (): void => {
      clearTimeout(timer);
      if (!isOver) timer = setTimeout(finish, Math.max(0, Math.min(QUIET_MS, lastAt - performance.now())));
    };
    const begin = (): void => {
      lastAt = performance.now() + REST_MS;
      wait();
    };
    stream.on("data", (chunk: Uint8Array) => {
      if (!isOver) take(decoder.decode(chunk, { stream: true }));
      if (lastAt < Infinity) wait();
    });
    for (const name of ["end", "close", "error"]) stream.on(name, finish);
    exit.then(begin, begin);
  });
}

/** Passes words on, line by line, and keeps the last of them. */
async function tail(stream: Readable | null, exit: Promise<unknown>, echo: (text: string) => void): Promise<string> {
  let [kept, rest] = ["", ""];
  await listen(stream, exit, (text) => {
    kept = (kept + text).slice(-LAST_WORDS);
    const lines = (rest + text).split("\n");
    rest = (lines.pop() as string).slice(-LAST_WORDS);
    for (const line of lines) echo(`${shown(line)}\n`);
  });
  if (rest !== "") echo(`${shown(rest)}\n`);
  return kept.trim();
}

/** A line as it may be shown. A tab moves nothing but what is behind it. */
function shown(line: string): string {
  return line.split("\t").map(printable).join("\t");
}

function withWords(cause: string, words = ""): string {
  return words === "" ? cause : `${cause}: ${words}`;
}

function failure(text: string, isFinal: boolean): Error {
  const error = isFinal ? new NonRetryableError(text) : new Error(text);
  // It would tell where in this file it was made, and nothing of the program.
  delete error.stack;
  return error;
}

function environmentOf({ id, queue, key, headers }: Message, attempt: number): Record<string, string> {
  return {
    PGQRS_ID: String(id),
    PGQRS_QUEUE: queue,
    PGQRS_ATTEMPT: String(attempt),
    PGQRS_KEY: key ?? "",
    PGQRS_TYPE: headers.type ?? "",
    PGQRS_HEADERS: JSON.stringify(headers),
  };
}

/** Asks a program to end, and makes it end if it does not. */
function stopGroup(child: ChildProcess): void {
  killGroup(child, "SIGTERM");
  const timer = setTimeout(() => killGroup(child, "SIGKILL"), END_MS);
  child.on("exit", () => clearTimeout(timer));
}

function killGroup(child: ChildProcess, signal: "SIGKILL" | "SIGTERM"): void {
  if (child.pid === undefined) return;
  try {
    if (IS_WINDOWS) child.kill(signal);
    else process.kill(-child.pid, signal);
  } catch {
    // There is nobody left.
  }
}
