/** The pages of `--help`: of the command, of a noun, of a verb. */
import type { Command, Flag } from "./command.ts";
import { commands } from "./commands.ts";
import { globalFlags } from "./flags.ts";
import { ownFlagsOf, wordsOf } from "./parse.ts";
import { pad, paint, widthOf } from "./text.ts";

/** What fits every terminal. */
const COLUMNS = 80;
/** What is longer on the left has a line of its own. */
const WIDEST_LEFT = 38;

/** What the exit codes mean. */
export const EXIT_CODES: readonly (readonly [string, string])[] = [
  ["0", "done"],
  ["1", "failed"],
  ["2", "the command line or a setting cannot be used"],
  ["3", "not found"],
  ["4", "the database cannot be reached"],
  ["5", "refused: it would destroy something, and nobody has agreed"],
  ["130", "interrupted"],
];

/** The page of all commands, of those of a noun, or of one. */
export function printHelp(of: readonly Command[], hasColor: boolean): string {
  const [only] = of;
  const one = of.length === 1 ? only : undefined;
  const isAll = of === commands;
  const title = (text: string): string => paint(text, "bold", hasColor);
  const example = isAll ? "queue create tasks" : only?.example;
  return [
    ...(isAll ? ["pgqrs: a job queue in your database", ""] : []),
    ...(one
      ? [...wrap(`${one.about}.`, COLUMNS), "", title("Usage"), `  pgqrs ${one.usage} [options]`]
      : [title("Commands")]),
    ...(one ? [] : twoColumns(of.map(({ usage, about }) => [`  pgqrs ${usage}`, about]))),
    ...(one ? listOf(title("Options"), ownFlagsOf(one)) : []),
    ...(one || isAll ? [] : bareOptions(of, title)),
    "",
    title("Example"),
    `  pgqrs ${example}`,
    ...listOf(title("Options of all commands"), globalFlags),
    ...(isAll ? ["", title("Exit codes"), ...twoColumns(EXIT_CODES.map(([code, means]) => [`  ${code}`, means]))] : []),
    "",
  ].join("\n");
}

/** The options of a command that is a noun without a verb, and so has no page of its own. */
function bareOptions(of: readonly Command[], title: (text: string) => string): string[] {
  return of.filter(({ usage }) => wordsOf(usage).length === 1 && of.length > 1).flatMap((command) =>
    listOf(title(`Options of pgqrs ${command.usage}`), ownFlagsOf(command))
  );
}

function listOf(title: string, flags: readonly Flag[]): string[] {
  if (flags.length === 0) return [];
  return ["", title, ...twoColumns(flags.map((flag) => [`  ${nameOf(flag)}`, flag.about]))];
}

/** Two columns of text; the right one goes on in the next line where there is no room. */
function twoColumns(rows: readonly (readonly [string, string])[]): string[] {
  const lefts = rows.map(([left]) => widthOf(left)).filter((width) => width <= WIDEST_LEFT);
  const width = Math.max(0, ...lefts) + 2;
  return rows.flatMap(([left, right]) => {
    const lines = wrap(right, COLUMNS - width).map((line) => " ".repeat(width) + line);
    if (widthOf(left) > width - 2) return [left, ...lines];
    return [pad(left, width) + (lines[0] ?? "").slice(width), ...lines.slice(1)];
  });
}

function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && widthOf(longer) <= columns) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function nameOf({ name, letter, type, choices }: Flag): string {
  const value = type === "boolean" ? "" : ` <${choices?.join("|") ?? (type === "list" ? "text" : type)}>`;
  return `${letter === undefined ? "    " : `-${letter}, `}--${name}${value}${type === "list" ? " ..." : ""}`;
}
