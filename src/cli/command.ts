/** What a command of `pgqrs` is. */
import type { Store } from "../../mod.ts";

/** A value after a flag: `seconds` become milliseconds. */
export type FlagType = "boolean" | "instant" | "integer" | "json" | "seconds" | "text";

/** A flag of a command. One name has one type, whichever command takes it. */
export interface Flag {
  readonly name: string;
  readonly type: FlagType;
  /** The letter that stands for it. */
  readonly letter?: string;
  readonly about: string;
}

/** What the parser has made of the command line. */
export interface Call {
  /** The positional arguments by name. A name in brackets may be missing; one with dots collects the rest. */
  readonly args: Readonly<Record<string, string | undefined>>;
  /** What was given for the last argument, if that may be repeated. */
  readonly rest: readonly string[];
  readonly flags: Readonly<Record<string, unknown>>;
}

/** What a command prints. */
export interface Output {
  /** The data: rows for a table, and the same as JSON. */
  readonly data?: Row | readonly Row[];
  /** A sentence for whoever watches; it never mixes with the data. */
  readonly note?: string;
  /** Text that is printed as it is. */
  readonly text?: string;
}

/** A line of a table. */
export type Row = Readonly<Record<string, unknown>>;

/** A command. */
export interface Command {
  /** As it is typed: a verb, or a noun and a verb, and its arguments. */
  readonly usage: string;
  readonly about: string;
  readonly flags?: readonly Flag[];
  run(store: Store, call: Call): Promise<Output>;
}

/** The command line cannot be used. */
export class UsageError extends Error {}

/** Reads the id of a message. @throws {UsageError} */
export function idOf(text: string | undefined): number {
  const id = Number(text);
  if (!Number.isSafeInteger(id) || id < 1) throw new UsageError(`"${text}" is not the id of a message`);
  return id;
}

/** Leaves out what was not given, so that defaults hold. */
export function given<T extends Record<string, unknown>>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never;
}
