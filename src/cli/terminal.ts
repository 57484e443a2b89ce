/** The process that the command runs in: its streams, its terminal and its signals. */
import { once } from "node:events";
import { fstatSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { UsageError } from "./command.ts";
import { codeOf, isUnread } from "./file.ts";
import type { Io } from "./io.ts";

/** What is between the command and the process. */
export interface Terminal extends Io {
  readonly signal: AbortSignal;
  /** Waits until everything that was written has left. Resolves to the exit code, which is not 0 when data was lost. */
  end(code: number): Promise<number>;
}

/** How long what was written may take to leave when nobody reads it. */
const LEAVE_MS = 2_000;

/** Connects the command with its process. The second signal ends the process at once. */
export function openTerminal(): Terminal {
  const { stdin, stdout, stderr, env } = process;
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(name, () => stop.signal.aborted ? process.exit(130) : stop.abort(name));
  }
  // Words that nobody reads are lost, and the work goes on.
  stderr.on("error", () => {});
  let failure: Error | undefined;
  const fail = (error: Error): void => {
    failure ??= isUnread(error) ? error : new Error(`cannot write the data: ${codeOf(error)}`);
  };
  stdout.on("error", fail);
  const isAnswered = stdin.isTTY === true && stderr.isTTY === true;
  return {
    async out(text) {
      try {
        // Resolves when there is room for more.
        if (failure === undefined && !stdout.write(text)) await once(stdout, "drain");
      } catch (error) {
        fail(error as Error);
      }
      if (failure !== undefined) throw failure;
    },
    err,
    input: { [Symbol.asyncIterator]: () => readInput() },
    columns: stdout.isTTY === true ? stdout.columns : undefined,
    errColumns: stderr.isTTY === true ? stderr.columns : undefined,
    hasColor: stderr.isTTY === true && !env.NO_COLOR && env.TERM !== "dumb",
    signal: stop.signal,
    ...(isAnswered && { ask }),
    async end(code) {
      const left = Promise.all([stdout, stderr].map((stream) => new Promise((resolve) => stream.write("", resolve))));
      let timer: ReturnType<typeof setTimeout> | undefined;
      await Promise.race([left, new Promise((resolve) => timer = setTimeout(resolve, LEAVE_MS))]);
      clearTimeout(timer);
      if (code !== 0 || failure === undefined || isUnread(failure)) return code;
      err(`pgqrs: ${failure.message}\n`);
      return 1;
    },
  };

  function err(text: string): void {
    try {
      stderr.write(text);
    } catch {
      // Of a file some runtimes tell at once that it is full.
    }
  }

  async function ask(question: string): Promise<string> {
    const lines = createInterface({ input: stdin, output: stderr });
    try {
      return await new Promise((resolve) => {
        lines.on("close", () => resolve(""));
        // The interface takes Ctrl-C for itself.
        lines.on("SIGINT", () => {
          stop.abort("SIGINT");
          lines.close();
        });
        lines.question(question, resolve);
      });
    } finally {
      lines.close();
    }
  }
}

/** What is piped in. The runtimes take what cannot be read for the end of it. @throws {UsageError} */
async function* readInput(): AsyncGenerator<Uint8Array> {
  try {
    if (fstatSync(0).isDirectory()) throw Object.assign(new Error("a folder"), { code: "EISDIR" });
    yield* process.stdin;
  } catch (error) {
    throw new UsageError(`cannot read what is piped in: ${codeOf(error)}`);
  }
}
