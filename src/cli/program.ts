/** A program of the user as the handler of a job. */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { type JobHandler, type Message, NonRetryableError } from "../../mod.ts";
import { printable } from "./text.ts";

/** How a program is run. */
export interface ProgramOptions {
  /** Exit codes after which no other attempt is made. */
  readonly deadOn: ReadonlySet<number>;
  /** Takes what it says on stderr. */
  echo(text: string): void;
}

/** How long a program has to end by itself when it is told to. */
const END_MS = 5_000;
/** What of its last words is kept with a failure. */
const LAST_WORDS = 2_000;
/** The most that a result may have; the library has the exact limit. */
const LONGEST_RESULT = 16 * 1024 * 1024;
const IS_WINDOWS = process.platform === "win32";

/**
 * Runs a command of the shell for each message. It reads the payload as JSON from stdin, and finds the rest in `PGQRS_ID`,
 * `PGQRS_QUEUE`, `PGQRS_ATTEMPT`, `PGQRS_KEY`, `PGQRS_TYPE` and `PGQRS_HEADERS` (JSON). Exit code 0 means success; what it has
 * printed is the result, as JSON if it is that, else as text. It is stopped, with everything it has started, when its message
 * is lost or cancelled, or takes too long.
 */
export function openProgram(command: string, { deadOn, echo }: ProgramOptions): JobHandler {
  return async (message, { signal, attempt }) => {
    // A group of its own can be stopped as a whole, and does not hear the Ctrl-C that is meant for the worker.
    const child = spawn(command, {
      shell: true,
      detached: !IS_WINDOWS,
      env: { ...process.env, ...environmentOf(message, attempt) },
    });
    const stop = (): void => stopGroup(child);
    const end = (): void => killGroup(child, "SIGKILL");
    signal.addEventListener("abort", stop, { once: true });
    // At the second Ctrl-C nobody waits any more, and nobody is left behind.
    process.on("exit", end);
    try {
      const [result, words, { code, cause }] = await Promise.all([
        collect(child.stdout, LONGEST_RESULT),
        tail(child.stderr, echo),
        ended(child),
        write(child, JSON.stringify(message.payload)),
      ]);
      signal.throwIfAborted();
      if (code === 0) {
        if (result === undefined) throw new NonRetryableError(`it has printed more than ${LONGEST_RESULT} characters`);
        return resultOf(result);
      }
      const text = `${cause}${words === "" ? "" : `: ${words}`}`;
      throw code !== null && deadOn.has(code) ? new NonRetryableError(text) : new Error(text);
    } finally {
      signal.removeEventListener("abort", stop);
      process.off("exit", end);
      end();
    }
  };
}

/** Starts a shell that does nothing, so that a worker which cannot start any program does not use up attempts. */
export async function checkPrograms(): Promise<void> {
  const { code, cause } = await ended(spawn("exit 0", { shell: true, stdio: "ignore" }));
  if (code !== 0) throw new Error(`cannot start programs: ${cause}`);
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

/** Resolves when the program has ended. What it has left behind goes with it, and holds its output open no longer. */
function ended(child: ChildProcess): Promise<{ readonly code: number | null; readonly cause: string }> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, name) => {
      killGroup(child, "SIGKILL");
      resolve({ code, cause: code === null ? `ended by ${name}` : `exit code ${code}` });
    });
  });
}

/** A program need not read its payload: then the pipe breaks, and that is no error. */
function write({ stdin }: ChildProcess, text: string): void {
  stdin?.on("error", () => {});
  stdin?.end(text);
}

async function collect(stream: AsyncIterable<Uint8Array> | null, longest: number): Promise<string | undefined> {
  const decoder = new TextDecoder();
  let text: string | undefined = "";
  for await (const chunk of stream ?? []) {
    if (text !== undefined) text += decoder.decode(chunk, { stream: true });
    if (text !== undefined && text.length > longest) text = undefined;
  }
  return text;
}

/** Passes words on, line by line, and keeps the last of them. */
async function tail(stream: AsyncIterable<Uint8Array> | null, echo: (text: string) => void): Promise<string> {
  const decoder = new TextDecoder();
  let [kept, rest] = ["", ""];
  for await (const chunk of stream ?? []) {
    const text = decoder.decode(chunk, { stream: true });
    kept = (kept + text).slice(-LAST_WORDS);
    const lines = (rest + text).split("\n");
    rest = (lines.pop() as string).slice(-LAST_WORDS);
    for (const line of lines) echo(`${printable(line)}\n`);
  }
  if (rest !== "") echo(`${printable(rest)}\n`);
  return kept.trim();
}

function resultOf(text: string): unknown {
  const trimmed = text.replace(/\r?\n$/, "");
  if (trimmed === "") return undefined;
  try {
    return JSON.parse(trimmed);
  } catch {
    return trimmed;
  }
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
