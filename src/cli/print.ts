/** Tables, JSON and help. What comes from the database never controls the terminal. */
import type { Command, Flag, Output, Row } from "./command.ts";
import { commands, globalFlags } from "./parse.ts";

/** Characters that could: controls, and those that are invisible or turn the direction of text. */
const UNSAFE = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
const LONGEST_CELL = 60;

/** The data of a command as text. */
export function printData({ data, text }: Output, format: "json" | "table"): string {
  if (text !== undefined) return text;
  if (data === undefined) return "";
  if (format === "json") {
    // Inside of a JSON text there are no controls left that are written as themselves, except those of the layout.
    return `${JSON.stringify(data, null, 2).replace(UNSAFE, (char) => char === "\n" ? char : escape(char))}\n`;
  }
  return isList(data) ? table(data) : record(data);
}

/** The page of all commands, of those of a noun, or of one. */
export function printHelp(of: readonly Command[]): string {
  const [only] = of;
  const isOne = of.length === 1 && only !== undefined;
  const usages = of.map(({ usage, about }) => [`  pgqrs ${usage}`, about] as const);
  const flagsOf = (flags: readonly Flag[]) =>
    flags.map(({ name, letter, type, about }) =>
      [
        `  ${letter === undefined ? "    " : `-${letter}, `}--${name}${type === "boolean" ? "" : ` <${type}>`}`,
        about,
      ] as const
    );
  return [
    ...(of === commands ? ["pgqrs: a job queue in your database", ""] : []),
    ...columns(usages),
    ...(isOne && only.flags !== undefined ? ["", "Options", ...columns(flagsOf(only.flags))] : []),
    "",
    "Options of all commands",
    ...columns(flagsOf(globalFlags)),
    "",
    "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 database unreachable",
    "",
  ].join("\n");
}

/** Makes what would control a terminal visible. */
export function printable(text: string): string {
  return text.replace(UNSAFE, escape);
}

function escape(char: string): string {
  return Array.from({ length: char.length }, (_, i) => `\\u${char.charCodeAt(i).toString(16).padStart(4, "0")}`).join(
    "",
  );
}

function table(rows: readonly Row[]): string {
  const [first] = rows;
  if (first === undefined) return "";
  const names = Object.keys(first);
  const cells = rows.map((row) => names.map((name) => shorten(cell(row[name]))));
  const widths = names.map((name, i) => Math.max(name.length, ...cells.map((line) => line[i]?.length ?? 0)));
  const lines = [names, ...cells].map((line) =>
    line.map((text, i) => text.padEnd(widths[i] ?? 0)).join("  ").trimEnd()
  );
  return `${lines.join("\n")}\n`;
}

function record(row: Row): string {
  return `${columns(Object.entries(row).map(([name, value]) => [name, cell(value)])).join("\n")}\n`;
}

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length));
  return rows.map(([left, right]) => `${left.padEnd(width)}  ${right}`.trimEnd());
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return "-";
  if (value instanceof Date) return value.toISOString();
  return printable(typeof value === "object" ? JSON.stringify(value) : String(value));
}

function shorten(text: string): string {
  return text.length <= LONGEST_CELL ? text : `${text.slice(0, LONGEST_CELL - 1)}…`;
}

function isList(data: Row | readonly Row[]): data is readonly Row[] {
  return Array.isArray(data);
}
