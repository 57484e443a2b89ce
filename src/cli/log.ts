/** What a command tells beside its data. */
import type { Logger } from "../../mod.ts";
import { paint, printable, printableLines, type Style } from "./text.ts";

/** From the most important words to the least. */
export const LEVELS = ["error", "warn", "info", "debug", "trace"] as const;

/** How much is told. */
export type Level = typeof LEVELS[number];

/** Where words go, and which. */
export interface LogOptions {
  readonly level: Level;
  readonly write: (text: string) => void;
  /** In a file each line says when and how important. */
  readonly isFile: boolean;
  readonly hasColor: boolean;
  /** Takes out of what is told what nobody may read. */
  hide(words: string): string;
}

/** Takes words of every level. */
export interface Log extends Logger {
  trace(message: string): void;
  /** Tells why the command has failed. */
  fail(message: string): void;
  /** Whether words of a level are told. */
  tells(level: Level): boolean;
}

const MARKS: Readonly<Record<Level, readonly [mark: string, style: Style | undefined]>> = {
  error: ["error: ", "red"],
  warn: ["warning: ", "yellow"],
  info: ["", undefined],
  debug: ["debug: ", "dim"],
  trace: ["trace: ", "dim"],
};

/** Makes a log. */
export function openLog({ level, write, isFile, hasColor, hide }: LogOptions): Log {
  const tells = (one: Level): boolean => LEVELS.indexOf(one) <= LEVELS.indexOf(level);
  const tell = (one: Level, own?: string) => (words: string): void => {
    if (!tells(one)) return;
    const message = hide(words);
    const [preset, style] = MARKS[one];
    const mark = own ?? preset;
    if (isFile) return write(`${new Date().toISOString()} ${one.toUpperCase()} ${printable(message)}\n`);
    // A name with a line feed in it must not look like another line; only why a command failed, and a stack, have lines.
    const shown = one === "info" || one === "warn" ? printable(message) : printableLines(message);
    write(`${style === undefined ? mark : paint(mark, style, hasColor)}${shown}\n`);
  };
  return {
    fail: tell("error", "pgqrs: "),
    error: tell("error"),
    warn: tell("warn"),
    info: tell("info"),
    debug: tell("debug"),
    trace: tell("trace"),
    tells,
  };
}
