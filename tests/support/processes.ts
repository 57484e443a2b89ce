/**
 * Child processes for tests: a TypeScript file on the runtime that runs the test.
 *
 * @module
 */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** How to start a process. */
export interface ProcessOptions {
  args?: readonly string[];
  /** Added to the environment of this process; `undefined` takes a variable away. */
  env?: Readonly<Record<string, string | undefined>>;
  cwd?: string;
  /** What the process reads on its standard input. @default nothing */
  input?: string;
  /** Leaves the standard input open until `endInput` is called. @default false */
  keepInput?: boolean;
  /** The words that run the file, as `runtimeCommand` gives them. @default the runtime that runs this */
  runtime?: readonly string[];
}

/** How a process ended: one of the two is null. */
export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
}

/** A running child process. */
export interface TestProcess {
  readonly pid: number;
  /** The lines of its standard output as they come; ends with the output. To be read by one loop at a time. */
  readonly lines: AsyncIterableIterator<string>;
  /** Resolves when the process is gone and its output has arrived here. */
  readonly exited: Promise<Exit>;
  /** What it wrote to its standard output so far, read from `lines` or not. */
  readonly stdout: string;
  /** What it wrote to its standard error so far. */
  readonly stderr: string;
  kill(signal?: NodeJS.Signals): void;
  /** Ends the standard input. */
  endInput(): void;
  /** Waits for a line that contains the text, and returns it; the lines before it are gone from `lines`. */
  waitFor(text: string): Promise<string>;
  /** Kills the process unless it has ended. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Starts a TypeScript file.
 *
 * @param file is a path or a `file:` URL, best written as `new URL("./child.ts", import.meta.url)`.
 */
export function startProcess(file: string | URL, options: ProcessOptions = {}): TestProcess {
  const [program = "", ...args] = options.runtime ?? runtimeCommand();
  const path = file instanceof URL ? fileURLToPath(file) : file;
  const child = spawn(program, [...args, path, ...options.args ?? []], {
    cwd: options.cwd,
    env: environment(options.env ?? {}),
    stdio: ["pipe", "pipe", "pipe"],
  });
  child.stdin.on("error", () => {});
  if (options.keepInput === true) child.stdin.write(options.input ?? "");
  else child.stdin.end(options.input ?? "");
  return new SpawnedProcess(child);
}

/** The words that run a TypeScript file on the runtime that runs this. */
export function runtimeCommand(): string[] {
  if (process.versions.deno !== undefined) return [process.execPath, "run", "-A", "--quiet", "--no-check"];
  if (process.versions.bun !== undefined) return [process.execPath, "run"];
  return [process.execPath, "--import", new URL("../../dev/node-hooks.mjs", import.meta.url).href];
}

class SpawnedProcess implements TestProcess {
  readonly pid: number;
  readonly lines: AsyncIterableIterator<string>;
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  #stdout = "";
  #stderr = "";

  constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? -1;
    const queue = new LineQueue();
    this.lines = queue.lines();
    if (child.stdout !== null) {
      child.stdout.on("data", (chunk) => this.#stdout += chunk);
      createInterface({ input: child.stdout }).on("line", (line) => queue.push(line));
    }
    child.stderr?.on("data", (chunk) => this.#stderr += chunk);
    this.exited = new Promise((done, fail) => {
      child.once("error", fail);
      // Not `exit`: that may come before the last output.
      child.once("close", (code, signal) => {
        queue.end();
        done({ code, signal });
      });
    });
    // Who does not wait for the exit shall not be told of a failure to start by a crash of the test run.
    this.exited.catch(() => queue.end());
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  kill(signal: NodeJS.Signals = "SIGTERM"): void {
    this.#child.kill(signal);
  }

  endInput(): void {
    this.#child.stdin?.end();
  }

  async waitFor(text: string): Promise<string> {
    for (let next = await this.lines.next(); !next.done; next = await this.lines.next()) {
      if (next.value.includes(text)) return next.value;
    }
    throw new Error(`The process ended before it wrote "${text}": ${this.#stderr || this.#stdout}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exited.catch(() => {});
  }
}

/** Lines that wait for a reader, or a reader that waits for lines. */
class LineQueue {
  readonly #lines: string[] = [];
  #isEnded = false;
  #wake: () => void = () => {};

  push(line: string): void {
    this.#lines.push(line);
    this.#wake();
  }

  end(): void {
    this.#isEnded = true;
    this.#wake();
  }

  async *lines(): AsyncIterableIterator<string> {
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) yield line;
      else if (this.#isEnded) return;
      else await new Promise<void>((wake) => this.#wake = wake);
    }
  }
}

function environment(changes: Readonly<Record<string, string | undefined>>): NodeJS.ProcessEnv {
  const entries = Object.entries({ ...process.env, ...changes });
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined));
}
