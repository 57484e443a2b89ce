/** The pages of `--help`: of the command, of a noun, of a verb. */
import type { Command, Flag } from "./command.ts";
import { commands } from "./commands.ts";
import { globalFlags } from "./flags.ts";
import { ownFlagsOf, wordsOf } from "./parse.ts";
import { twoColumns } from "./print.ts";
import { paint } from "./text.ts";

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
    ...(one ? [`${one.about}.`, "", title("Usage"), `  pgqrs ${one.usage} [options]`] : [title("Commands")]),
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

function nameOf({ name, letter, type, choices }: Flag): string {
  const value = type === "boolean" ? "" : ` <${choices?.join("|") ?? (type === "list" ? "text" : type)}>`;
  return `${letter === undefined ? "    " : `-${letter}, `}--${name}${value}${type === "list" ? " ..." : ""}`;
}
