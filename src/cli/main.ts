/** The `pgqrs` command: from the command line to an exit code. */
import { closeSync, openSync, writeSync } from "node:fs";
import { Config, ConfigError, connect, DatabaseError, NotFoundError, type Store } from "../../mod.ts";
import {
  type Call,
  type Command,
  type Output,
  RefusedError,
  type Shell,
  type StoreCommand,
  UsageError,
} from "./command.ts";
import { printHelp } from "./help.ts";
import type { Io } from "./io.ts";
import { type Level, type Log, openLog } from "./log.ts";
import { nameOf, parse } from "./parse.ts";
import { type Layout, printData } from "./print.ts";
import { cut, printable } from "./text.ts";
import { VERSION } from "./version.ts";

/** What was opened for one call of the command, besides the database. */
interface Setting {
  readonly io: Io;
  readonly log: Log;
  readonly layout: Layout;
  readonly shell: Shell;
  out(text: string): unknown;
}

const NO_INPUT: AsyncIterable<Uint8Array> = { async *[Symbol.asyncIterator]() {} };
const CONNECT_MS = 10_000;
const NO_DSN = `no database is given. Use one of
  pgqrs --dsn sqlite:jobs.db …                     a file; nothing to install or start
  export PGQRS_DSN=postgresql://me@localhost/mydb  the same for every command
  echo 'dsn: sqlite:jobs.db' > pgqrs.yaml          the same for this folder`;

/**
 * Runs a command line, without the name of the program, and resolves to the exit code: 0 done, 1 failed, 2 usage, 3 not
 * found, 4 database unreachable, 5 refused, 130 interrupted. Never rejects; a stack is only told at `--log-level debug`, and
 * a password never.
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const hasColor = io.hasColor === true && !argv.includes("--no-color");
  const files: number[] = [];
  let log = openLog({ level: "info", write: (text) => void io.err(text), isFile: false, hasColor });
  try {
    const request = parse(argv);
    if (request.kind === "version") {
      await io.out(`pgqrs ${VERSION}\n`);
      return 0;
    }
    if (request.kind === "help") {
      await io.out(printHelp(request.of, hasColor));
      return 0;
    }
    const { command, call } = request;
    log = openLogOf(call, io, hasColor, files);
    return await run(command, call, settingOf(call, io, log, hasColor, files));
  } catch (error) {
    tell(error, log, argv);
    return exitCodeOf(error);
  } finally {
    for (const file of files) closeSync(file);
  }
}

async function run(command: Command, call: Call, setting: Setting): Promise<number> {
  const { io, log } = setting;
  const config = await configOf(call, log);
  if ("read" in command) {
    await print(command.read(config), setting);
    return 0;
  }
  const begin = performance.now();
  const work = (async () => {
    const store = await connect(config, { ...limitsOf(call, config), create: createsFile(command, call), logger: log });
    // Not "await using": the package is also run as it is by Node 20, which does not know that.
    try {
      await runIn(store, command, call, setting);
    } finally {
      await store.close();
    }
  })();
  const isInterrupted = await race(work, setting.shell.signal, command.endsItself === true);
  log.trace(`${nameOf(command)} took ${Math.round(performance.now() - begin)} ms`);
  // A worker that was asked to stop and has done so has done what it should.
  if (isInterrupted && !(command.isService === true && io.signal?.reason === "SIGTERM")) return 130;
  return 0;
}

async function runIn(store: Store, command: StoreCommand, call: Call, setting: Setting): Promise<void> {
  if (command.preview !== undefined) {
    const { what, data } = await command.preview(store, call);
    if (call.flags["dry-run"] === true) return await print({ data, note: `This would ${what}` }, setting);
    await agree(what, call, setting.io);
  }
  await print(await command.run(store, call, setting.shell), setting);
}

/** Asks whether something may be destroyed. @throws {RefusedError} */
async function agree(what: string, { flags }: Call, io: Io): Promise<void> {
  if (flags.yes === true) return;
  if (io.ask === undefined) throw new RefusedError(`this would ${what}; say --yes if it may`);
  const answer = await io.ask(`This will ${printable(what)}. Go on? [y/N] `);
  if (!/^\s*y(es)?\s*$/i.test(answer)) throw new RefusedError("nothing was done");
}

/** Resolves to whether the user did not want to wait any longer. */
async function race(work: Promise<void>, signal: AbortSignal, mustEnd: boolean): Promise<boolean> {
  if (mustEnd) {
    await work.catch((error) => {
      // What was broken off fails because of that.
      if (!signal.aborted) throw error;
    });
    return signal.aborted;
  }
  const aborted = new Promise<"aborted">((resolve) => {
    if (signal.aborted) resolve("aborted");
    signal.addEventListener("abort", () => resolve("aborted"), { once: true });
  });
  // Nobody waits for it any more.
  work.catch(() => {});
  return await Promise.race([work, aborted]) === "aborted";
}

async function print(output: Output, { layout, log, out }: Setting): Promise<void> {
  for await (const piece of printData(output, layout)) await out(piece);
  if (output.note !== undefined) log.info(output.note);
  if (output.problem !== undefined) throw new Error(output.problem);
}

/** Reads the settings, and tells what may surprise. */
async function configOf({ flags }: Call, log: Log): Promise<Config> {
  const { dsn, config: configFile, schema } = flags as Record<string, string | undefined>;
  const config = await Config.load({ dsn, configFile, schema }).catch((error) => {
    throw isWithoutDsn(error) ? new UsageError(NO_DSN, { cause: error }) : error;
  });
  if (dsn !== undefined && config.toJSON().dsn.includes(":***@")) {
    log.warn("others on this machine can read a password on the command line; set PGQRS_DSN instead");
  }
  if (configFile !== undefined && config.sources.dsn === "PGQRS_DSN") {
    log.warn("the database is that of PGQRS_DSN, which goes before the file of --config; --dsn goes before both");
  }
  if (configFile === undefined) {
    const found = Object.values(config.sources).find((source) => /^pgqrs\.ya?ml$/.test(source));
    if (found !== undefined) log.info(`Settings are read from ./${found}`);
  }
  log.debug(`The database is ${config.toJSON().dsn}`);
  return config;
}

/** How long a database may take. Somebody waits at a terminal, so that connecting may not take as long as for a service. */
function limitsOf({ flags }: Call, { sources }: Config): { connectTimeoutMs?: number; timeoutMs?: number } {
  const timeoutMs = flags.timeout as number | undefined;
  if (timeoutMs !== undefined) return { connectTimeoutMs: timeoutMs, timeoutMs };
  return sources.connectTimeoutMs === "default" ? { connectTimeoutMs: CONNECT_MS } : {};
}

/** Whether a command may make the file of the database: for all others a path without one is a slip of the pen. */
function createsFile(command: Command, { flags }: Call): boolean {
  return /^(install|migrate)$/.test(nameOf(command)) && flags.print !== true;
}

function isWithoutDsn(error: unknown): boolean {
  return error instanceof ConfigError && error.message.startsWith("Cannot find a DSN") &&
    !error.message.includes("permission");
}

function openLogOf({ flags }: Call, io: Io, hasColor: boolean, files: number[]): Log {
  const { "log-level": given = "info", "log-dest": dest = "stderr" } = flags as Record<string, string | undefined>;
  const level = (flags.quiet === true ? "error" : given) as Level;
  if (dest === "stderr") return openLog({ level, write: (text) => void io.err(text), isFile: false, hasColor });
  const file = openFile(dest, "a", files);
  const write = (text: string): void => void writeSync(file, text);
  return openLog({ level, write, isFile: true, hasColor: false });
}

function settingOf({ flags }: Call, io: Io, log: Log, hasColor: boolean, files: number[]): Setting {
  const { format = "table", out: dest = "stdout" } = flags as Record<string, string | undefined>;
  const isStdout = dest === "stdout";
  const file = isStdout ? undefined : openFile(dest, "w", files);
  const layout: Layout = {
    format: format as Layout["format"],
    columns: isStdout ? io.columns : undefined,
    hasColor: hasColor && isStdout && io.columns !== undefined,
  };
  const shell: Shell = {
    log,
    signal: io.signal ?? new AbortController().signal,
    input: io.input ?? NO_INPUT,
    progress: (text) => {
      if (io.errColumns !== undefined && log.tells("info")) void io.err(`\r${cut(text, io.errColumns - 1)}\x1b[K`);
    },
    echo: (text) => void io.err(text),
  };
  return { io, log, layout, shell, out: (text) => file === undefined ? io.out(text) : void writeSync(file, text) };
}

function openFile(path: string, flags: "a" | "w", files: number[]): number {
  try {
    const file = openSync(path, flags, 0o600);
    files.push(file);
    return file;
  } catch (error) {
    const { code }: { code?: unknown } = Object(error);
    throw new UsageError(`cannot write to ${path}: ${code ?? error}`);
  }
}

function tell(error: unknown, log: Log, argv: readonly string[]): void {
  const hide = (text: string): string => withoutDsns(text, argv);
  const text = error instanceof Error ? error.message : String(error);
  // What is a line of a program there is a command here.
  log.fail(hide(text.replace(/store\.admin\.createQueue\("([^"]*)"\)/, '"pgqrs queue create $1"')));
  if (log.tells("debug") && error instanceof Error && error.stack !== undefined) log.debug(hide(error.stack));
}

/** A database that was given in the wrong place may carry a password. */
function withoutDsns(text: string, argv: readonly string[]): string {
  const typed = argv.map((arg) => arg.replace(/^-[^=/@]*=/, "")).filter((arg) => arg.includes("://"));
  const spelled = typed.flatMap((dsn) => [dsn, dsn.trim(), JSON.stringify(dsn).slice(1, -1)]);
  return spelled.reduce((shown, dsn) => shown.replaceAll(dsn, "***"), text);
}

function exitCodeOf(error: unknown): number {
  if (error instanceof RefusedError) return 5;
  if (error instanceof UsageError || error instanceof ConfigError) return 2;
  // What a command passes on to the library and the library cannot use came from the command line.
  if (error instanceof TypeError || error instanceof RangeError) return 2;
  if (error instanceof NotFoundError) return 3;
  const isUnreachable = error instanceof DatabaseError &&
    ["connection", "permission", "timeout"].includes(error.reason);
  return isUnreachable ? 4 : 1;
}
