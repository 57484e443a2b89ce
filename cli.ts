/**
 * The `pgqrs` command: installs, administers queues, messages and workers, and works queues with any program.
 * `pgqrs --help` lists what it can do.
 *
 * ```sh
 * export PGQRS_DSN=sqlite:jobs.db
 * pgqrs install
 * pgqrs queue create tasks
 * pgqrs message send tasks '{"task": "send_email"}'
 * pgqrs worker run tasks --exec 'cat' --drain
 * ```
 *
 * @module
 */
import type { Io } from "./src/cli/io.ts";
import { VERSION } from "./src/cli/version.ts";

export type { Io };

/**
 * Runs a command line, without the name of the program, and resolves to the exit code: 0 done, 1 failed, 2 usage, 3 not
 * found, 4 database unreachable, 5 refused, 130 interrupted. Never rejects; a stack is only told at `--log-level debug`, and
 * a password never.
 *
 * @example Usage
 * ```ts
 * import { main } from "@pgqrs/pgqrs/cli";
 * import assert from "node:assert/strict";
 *
 * let text = "";
 * const code = await main(["--version"], { out: (part) => text += part, err: () => {} });
 * assert.equal(code, 0);
 * assert.match(text, /^pgqrs \d/);
 * ```
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const { main } = await import("./src/cli/main.ts");
  return await main(argv, io);
}

/** What there is without an import: on Deno, to load `node:process` takes longer than to tell the version. */
interface Runtime {
  readonly Deno?: { readonly args: readonly string[] };
  readonly process?: { readonly argv: readonly string[] };
}

const runtime: Runtime = globalThis;

/** Whether this file is the program: Node tells it by itself from version 24.2 on. */
async function isEntry(): Promise<boolean> {
  const [{ realpathSync }, { fileURLToPath }] = await Promise.all([import("node:fs"), import("node:url")]);
  const path = runtime.process?.argv[1];
  return path !== undefined && realpathSync(path) === fileURLToPath(import.meta.url);
}

if (import.meta.main ?? await isEntry()) {
  const argv = runtime.Deno?.args ?? runtime.process?.argv.slice(2) ?? [];
  // Nothing else is loaded for it, because scripts ask for it before everything else.
  if (argv.length === 1 && argv[0] === "--version") console.log(`pgqrs ${VERSION}`);
  else {
    const { default: process } = await import("node:process");
    const { openTerminal } = await import("./src/cli/terminal.ts");
    const terminal = openTerminal();
    const code = await terminal.end(await main(argv, terminal));
    // What was interrupted may still wait for the database.
    if (terminal.signal.aborted) process.exit(code);
    process.exitCode = code;
  }
}
