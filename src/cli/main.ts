/** The `pgqrs` command: from the command line to an exit code. */
import { Config, ConfigError, connect, DatabaseError, NotFoundError } from "../../mod.ts";
import { UsageError } from "./command.ts";
import { parse } from "./parse.ts";
import { printable, printData, printHelp } from "./print.ts";

/** The version of the command and the package. */
export const VERSION = "0.1.0";

/** Where the command writes to. */
export interface Io {
  /** Takes the data. */
  out(text: string): void;
  /** Takes words for whoever watches, and errors. */
  err(text: string): void;
}

/**
 * Runs a command line, without the name of the program, and resolves to the exit code: 0 done, 1 failed, 2 usage, 3 not
 * found, 4 database unreachable. Never rejects, and never prints a stack or a password.
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  try {
    return await run(argv, io);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    io.err(`pgqrs: ${printable(message)}\n`);
    return exitCodeOf(error);
  }
}

async function run(argv: readonly string[], io: Io): Promise<number> {
  const request = parse(argv);
  if (request.kind === "version") {
    io.out(`pgqrs ${VERSION}\n`);
    return 0;
  }
  if (request.kind === "help") {
    io.out(printHelp(request.of));
    return 0;
  }
  const { command, call, format } = request;
  const { dsn, config: configFile, schema } = call.flags as Record<string, string | undefined>;
  await using store = await connect(await Config.load({ dsn, configFile, schema }));
  const output = await command.run(store, call);
  io.out(printData(output, format));
  if (output.note !== undefined) io.err(`${printable(output.note)}\n`);
  return 0;
}

function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError || error instanceof ConfigError) return 2;
  // What a command passes on to the library and the library cannot use came from the command line.
  if (error instanceof TypeError || error instanceof RangeError) return 2;
  if (error instanceof NotFoundError) return 3;
  const isUnreachable = error instanceof DatabaseError &&
    ["connection", "permission", "timeout"].includes(error.reason);
  return isUnreachable ? 4 : 1;
}
