/** The `pgqrs` command: from the command line to an exit code. */
import { Config, ConfigError, connect, DatabaseError, NotFoundError, type Store } from "../../mod.ts";
import {
  type Call,
  type Command,
  type Flag,
  type Limits,
  type Output,
  RefusedError,
  type Shell,
  type StoreCommand,
  UsageError,
} from "./command.ts";
import { isSameFile, isUnread, openData, openWords, type OutFile } from "./file.ts";
import { printHelp } from "./help.ts";
import type { Io } from "./io.ts";
import { type Level, type Log, type LogOptions, openLog } from "./log.ts";
import { flagsOf, nameOf, parse, type Request } from "./parse.ts";
import { type Layout, printData } from "./print.ts";
import { cut, printable } from "./text.ts";
import { VERSION } from "./version.ts";
import { inWords, isArgumentError } from "./wording.ts";

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
/** How long the database has to let go when the user wants to stop. */
const CLOSE_MS = 1_000;
/** What is left of a password or a token in a DSN that is shown. */
const SECRET = /\*\*\*@|(auth|key|pass|secret|token)\w*=\*\*\*|^(?!sqlite|file)\w+:\*\*\*$/i;
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
  const files: OutFile[] = [];
  const hide = (words: string): string => withoutDsns(words, argv);
  let log = openLog({ level: "info", write: (text) => void io.err(text), isFile: false, hasColor, hide });
  let request: Request | undefined;
  try {
    request = parse(argv);
    if (request.kind === "version") {
      await io.out(`pgqrs ${VERSION}\n`);
      return 0;
    }
    if (request.kind === "help") {
      await io.out(printHelp(request.of, hasColor));
      return 0;
    }
    const { command, call } = request;
    log = openLogOf(call, io, { hasColor, hide }, files);
    return await run(command, call, settingOf(call, io, log, hasColor, files));
  } catch (error) {
    if (isUnread(error)) return 0;
    tell(error, log, request?.kind === "run" ? flagsOf(request.command) : []);
    return exitCodeOf(error);
  } finally {
    for (const file of files) file.close();
  }
}

async function run(command: Command, call: Call, setting: Setting): Promise<number> {
  const { io, log } = setting;
  const config = await configOf(call, log);
  if ("read" in command) {
    await print(command.read(config, limitsOf(call, config)), setting);
    return 0;
  }
  const begin = performance.now();
  const work = (async () => {
    const store = await connect(config, { ...limitsOf(call, config), create: createsFile(command, call), logger: log });
    // Not "await using": the package is also run as it is by Node 20, which does not know that.
    try {
      await runIn(store, command, call, setting);
    } finally {
      await close(store, setting.shell.signal);
    }
  })();
  const isInterrupted = await race(work, setting.shell.signal, command.endsItself === true);
  log.trace(`${nameOf(command)} took ${Math.round(performance.now() - begin)} ms`);
  // A worker that was asked to stop and has done so has done what it should.
  if (isInterrupted && (command.isService !== true || io.signal?.reason === "SIGINT")) return 130;
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

/** Closes a store; of a database that does not answer nobody waits for that who wants to stop. */
async function close(store: Store, signal: AbortSignal): Promise<void> {
  const closed = store.close();
  if (!signal.aborted) return await closed;
  let timer: ReturnType<typeof setTimeout> | undefined;
  await Promise.race([closed, new Promise<void>((resolve) => timer = setTimeout(resolve, CLOSE_MS))]);
  clearTimeout(timer);
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
  try {
    for await (const piece of printData(output, layout)) await out(piece);
    // A file has only this in it, also when it is nothing.
    await out("");
  } catch (error) {
    // A reader that has seen enough is no error.
    if (!isUnread(error)) throw error;
  }
  const note = typeof output.note === "function" ? output.note() : output.note;
  if (note !== undefined) log.info(note);
  if (output.missing !== undefined) throw new NotFoundError(output.missing);
  if (output.problem !== undefined) throw new Error(output.problem);
}

/** Reads the settings, and tells what may surprise. */
async function configOf({ flags }: Call, log: Log): Promise<Config> {
  const { dsn, config: configFile, schema } = flags as Record<string, string | undefined>;
  const config = await Config.load({ dsn, configFile, schema }).catch((error) => {
    throw isWithoutDsn(error) ? new UsageError(NO_DSN, { cause: error }) : error;
  });
  if (dsn !== undefined && SECRET.test(config.toJSON().dsn)) {
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
function limitsOf({ flags }: Call, { sources }: Config): Limits {
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

function openLogOf({ flags }: Call, io: Io, look: Pick<LogOptions, "hasColor" | "hide">, files: OutFile[]): Log {
  const { "log-level": given = "info", "log-dest": dest = "stderr" } = flags as Record<string, string | undefined>;
  const level = (flags.quiet === true ? "error" : given) as Level;
  if (dest === "stderr") return openLog({ ...look, level, write: (text) => void io.err(text), isFile: false });
  const file = openWords(dest, (text) => void io.err(`warning: ${text}\n`));
  files.push(file);
  return openLog({ ...look, level, write: file.write, isFile: true, hasColor: false });
}

function settingOf({ flags }: Call, io: Io, log: Log, hasColor: boolean, files: OutFile[]): Setting {
  const { format = "table", out: dest = "stdout" } = flags as Record<string, string | undefined>;
  const isStdout = dest === "stdout" || dest === "-";
  if (!isStdout && isSameFile(dest, String(flags.file))) throw new UsageError("--out and --file are the same file");
  const file = isStdout ? undefined : openData(dest);
  if (file !== undefined) files.push(file);
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
  return { io, log, layout, shell, out: (text) => file === undefined ? io.out(text) : file.write(text) };
}

function tell(error: unknown, log: Log, flags: readonly Flag[]): void {
  const text = error instanceof Error ? error.message : String(error);
  log.fail(inWords(text, flags));
  if (log.tells("debug") && error instanceof Error && error.stack !== undefined) log.debug(error.stack);
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
  if (isArgumentError(error)) return 2;
  if (error instanceof NotFoundError) return 3;
  if (!(error instanceof DatabaseError)) return 1;
  const { reason, sqlState } = error;
  // Who is let in and may not do this has reached the database, and it has answered.
  const isLetIn = reason === "permission" && sqlState !== undefined && !sqlState.startsWith("28");
  return ["connection", "permission", "timeout"].includes(reason) && !isLetIn ? 4 : 1;
}
