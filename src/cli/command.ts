/** What a command of `pgqrs` is. */
import type { Config, Store } from "../../mod.ts";
import type { Log } from "./log.ts";

/** A value after a flag: a `duration` becomes milliseconds; a `list` may be given more than once. */
export type FlagType = "boolean" | "duration" | "instant" | "integer" | "json" | "list" | "text";

/** A flag of a command. One name has one type, whichever command takes it. */
export interface Flag {
  readonly name: string;
  readonly type: FlagType;
  /** The letter that stands for it. */
  readonly letter?: string;
  /** The least number. @default 0 */
  readonly least?: number;
  /** The only values that it may have. */
  readonly choices?: readonly string[];
  readonly about: string;
}

/** What the parser has made of the command line. */
export interface Call {
  /** The positional arguments by name. A name in brackets may be missing; one with dots collects the rest. */
  readonly args: Readonly<Record<string, string | undefined>>;
  /** What was given for the last argument, if that may be repeated. */
  readonly rest: readonly string[];
  readonly flags: Readonly<Record<string, unknown>>;
  /** When it was read: ages count from here, for what is asked about and for what is done alike. */
  readonly now: Date;
}

/** A line of a table. */
export type Row = Readonly<Record<string, unknown>>;

/** What a command has to say. */
export interface Output {
  /** The data: one thing, or a list, which may still be on its way; null: there is no such thing. */
  readonly data?: AsyncIterable<Row> | Row | readonly Row[] | null;
  /** What a table shows of a list; JSON has everything. */
  readonly columns?: readonly string[];
  /** A sentence for whoever watches; it never mixes with the data. A function is asked behind the data. */
  readonly note?: string | (() => string | undefined);
  /** What is wrong: it is told as an error, and the exit code is 1. */
  readonly problem?: string;
  /** What was not found: it is told as an error, and the exit code is 3. */
  readonly missing?: string;
  /** What is printed as it is instead of a table. */
  readonly text?: string;
}

/** Where a command runs. */
export interface Shell {
  readonly log: Log;
  /** Aborted when the user wants it to stop. */
  readonly signal: AbortSignal;
  /** What is piped into the command. */
  readonly input: AsyncIterable<Uint8Array>;
  /** Shows how far something has come; the text replaces the one before. Nothing is shown where nobody looks. */
  progress(text: string): void;
  /** Takes lines that belong to neither data nor log: what a program that was started says. */
  echo(text: string): void;
}

interface Described {
  /** As it is typed: a verb, or a noun and a verb, and its arguments. */
  readonly usage: string;
  readonly about: string;
  /** What follows `pgqrs` in an example. */
  readonly example: string;
  readonly flags?: readonly Flag[];
}

/** A command that works with the database. */
export interface StoreCommand extends Described {
  /**
   * What it is going to destroy: a sentence that can be asked with a question mark, and the same as data. A command with it
   * asks first, needs --yes where nobody can be asked, and takes --dry-run.
   */
  preview?(store: Store, call: Call): Promise<Preview>;
  /** It ends by itself soon after its signal was aborted; others are left where they are. */
  readonly endsItself?: boolean;
  /** It works until it is told to stop: then it has done what it should. */
  readonly isService?: boolean;
  run(store: Store, call: Call, shell: Shell): Promise<Output>;
}

/** How long the command lets a database take, where that is not what the settings say. */
export interface Limits {
  readonly connectTimeoutMs?: number;
  readonly timeoutMs?: number;
}

/** A command that only reads settings. */
export interface ConfigCommand extends Described {
  read(config: Config, limits: Limits): Output;
}

/** A command. */
export type Command = ConfigCommand | StoreCommand;

/** What would be destroyed. */
export interface Preview {
  readonly what: string;
  readonly data: Row | readonly Row[];
}

/** The command line cannot be used. */
export class UsageError extends Error {}

/** The command would destroy something, and nobody has agreed. */
export class RefusedError extends Error {}

/** Reads the id of a message. @throws {UsageError} */
export function idOf(text: string | undefined): number {
  const id = /^\d{1,16}$/.test(text ?? "") ? Number(text) : 0;
  if (!Number.isSafeInteger(id) || id < 1) {
    throw new UsageError(`${/^[\w.-]{0,40}$/.test(text ?? "") ? `"${text}"` : "that"} is not the id of a message`);
  }
  return id;
}

/** Leaves out what was not given, so that defaults hold. */
export function given<T extends Record<string, unknown>>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}

/** A number with its noun. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** What a command says that has done something: a sentence, which in the formats for programs is data. */
export function did(note: string, data: Row): Output {
  return { note, data, text: "" };
}

/** Why nothing comes from a queue that is paused. */
export function pausedNote(queue: string): string {
  return `queue ${queue} is paused; "pgqrs queue resume ${queue}" ends that`;
}
