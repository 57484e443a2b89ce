/** The process that the command runs in: its streams, its terminal and its signals. */
import process from "node:process";
import { createInterface } from "node:readline";
import type { Io } from "./io.ts";

/** What is between the command and the process. */
export interface Terminal extends Io {
  readonly signal: AbortSignal;
  /** Waits until everything that was written has left. */
  end(): Promise<void>;
}

/** How long what was written may take to leave when nobody reads it. */
const LEAVE_MS = 2_000;

/** Connects the command with its process. The second signal ends the process at once. */
export function openTerminal(): Terminal {
  const { stdin, stdout, stderr, env } = process;
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => stop.signal.aborted ? process.exit(130) : stop.abort(name));
  }
  // A reader that has seen enough, such as head, is no error.
  for (const stream of [stdout, stderr]) {
    stream.on("error", (error: { code?: string }) => process.exit(error.code === "EPIPE" ? 0 : 1));
  }
  const isAnswered = stdin.isTTY === true && stderr.isTTY === true;
  return {
    out: (text) => write(stdout, text),
    err: (text) => void stderr.write(text),
    input: stdin,
    columns: stdout.isTTY === true ? stdout.columns : undefined,
    errColumns: stderr.isTTY === true ? stderr.columns : undefined,
    hasColor: stderr.isTTY === true && !env.NO_COLOR && env.TERM !== "dumb",
    signal: stop.signal,
    ...(isAnswered && { ask }),
    async end() {
      const left = Promise.all([stdout, stderr].map((stream) => new Promise((resolve) => stream.write("", resolve))));
      let timer: ReturnType<typeof setTimeout> | undefined;
      await Promise.race([left, new Promise((resolve) => timer = setTimeout(resolve, LEAVE_MS))]);
      clearTimeout(timer);
    },
  };

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

/** Resolves when there is room for more. */
function write(stream: typeof process.stdout, text: string): Promise<void> | void {
  if (stream.write(text)) return;
  return new Promise((resolve) => stream.once("drain", resolve));
}
