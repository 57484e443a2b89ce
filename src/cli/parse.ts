/** From the command line to a command. Nothing is read and nothing printed. */
import { parseArgs } from "@std/cli/parse-args";
import { nearestOf } from "../nearest.ts";
import { type Call, type Command, type Flag, UsageError } from "./command.ts";
import { commands } from "./commands.ts";
import { destroyFlags, globalFlags, quote, readFlag } from "./flags.ts";

/** Words that mean the same as others: a shorter name, and those that earlier generations of the command had. */
export const ALIASES: readonly (readonly [words: string, meaning: string])[] = [
  ["dlq", "dead"],
  ["admin install", "install"],
  ["admin verify", "verify"],
  ["admin stats", "stats"],
  ["archive delete", "archive purge"],
  ["message enqueue", "message send"],
  ["message get", "message show"],
  ["queue messages", "message list"],
  ["worker release-messages", "worker release"],
  ["worker suspend", "worker pause"],
];

/** What is to be done. */
export type Request =
  | { readonly kind: "help"; readonly of: readonly Command[] }
  | { readonly kind: "version" }
  | { readonly kind: "run"; readonly command: Command; readonly call: Call };

/** Reads the command line, without the program, at an instant. @throws {UsageError} */
export function parse(argv: readonly string[], now: Date = new Date()): Request {
  const { words: typed, flags } = split(argv[0] === "help" ? [...argv.slice(1), "--help"] : argv);
  if (flags.version === true) return { kind: "version" };
  const words = unalias(typed);
  const command = commandOf(words);
  if (flags.help === true || words.length === 0) {
    const noun = commands.filter(({ usage }) => wordsOf(usage)[0] === words[0]);
    const isOne = command !== undefined && (noun.length === 1 || words.length > 1);
    return { kind: "help", of: isOne ? [command] : noun.length > 0 ? noun : commands };
  }
  if (command === undefined) throw unknownCommand(words);
  const known = flagsOf(command);
  const converted = Object.entries(flags).map(([name, value]) => {
    const flag = known.find((one) => one.name === name);
    if (flag === undefined) {
      throw new UsageError(`${nameOf(command)} takes no --${name}; see pgqrs ${nameOf(command)} --help`);
    }
    return [name, readFlag(flag, value)];
  });
  return { kind: "run", command, call: { ...bind(command, words), flags: Object.fromEntries(converted), now } };
}

function commandOf(words: readonly string[]): Command | undefined {
  const found = commands.filter(({ usage }) => wordsOf(usage).every((word, i) => words[i] === word));
  // `archive list <queue>` goes before `archive <queue> <id>`.
  return found.sort((a, b) => wordsOf(b.usage).length - wordsOf(a.usage).length)[0];
}

/** The words of a usage that are typed as they stand. */
export function wordsOf(usage: string): string[] {
  return usage.split(" ").filter((word) => /^\w/.test(word));
}

/** What a command is called. */
export function nameOf({ usage }: Command): string {
  return wordsOf(usage).join(" ");
}

/** The flags that a command has of its own. */
export function ownFlagsOf(command: Command): readonly Flag[] {
  const isDestroying = "run" in command && command.preview !== undefined;
  return [...command.flags ?? [], ...(isDestroying ? destroyFlags : [])];
}

/** All flags that a command takes. */
export function flagsOf(command: Command): readonly Flag[] {
  return [...ownFlagsOf(command), ...globalFlags];
}

/** Parts the words from the flags. */
function split(argv: readonly string[]): { words: string[]; flags: Record<string, unknown> } {
  const flags = [...new Map(commands.flatMap(flagsOf).map((flag) => [flag.name, flag])).values()];
  const isBoolean = ({ type }: Flag): boolean => type === "boolean";
  const names = flags.filter((flag) => !isBoolean(flag)).map(({ name }) => name);
  const unknown: string[] = [];
  // The parser keeps the words under this name, and would take a flag of this name for them.
  const spelled = spellOut(argv, flags);
  const end = spelled.indexOf("--");
  const lost = spelled.slice(0, end < 0 ? spelled.length : end).find((arg) => /^-(\w*_|-_($|[=.]))/.test(arg));
  if (lost !== undefined) throw unknownFlag(lost, []);
  const parsed = parseArgs(spelled, {
    string: ["_", ...names],
    // So that a flag that is given twice is seen.
    collect: names,
    boolean: flags.filter(isBoolean).map(({ name }) => name),
    alias: Object.fromEntries(flags.flatMap(({ name, letter }) => letter === undefined ? [] : [[letter, name]])),
    unknown(arg: string, key?: string): boolean {
      if (key !== undefined) unknown.push(arg);
      return key === undefined;
    },
  }) as Record<string, unknown> & { _: (number | string)[] };
  if (unknown[0] !== undefined) {
    const command = commandOf(unalias(parsed._.map(String)));
    const takes = command === undefined ? flags : flagsOf(command);
    throw unknownFlag(unknown[0], takes.map(({ name }) => name));
  }
  const isGiven = (value: unknown): boolean =>
    value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0);
  const given = flags.filter(({ name }) => Object.hasOwn(parsed, name) && isGiven(parsed[name]));
  return { words: parsed._.map(String), flags: Object.fromEntries(given.map(({ name }) => [name, parsed[name]])) };
}

/**
 * Writes options in the one form that the parser reads without doubt: a value that is glued to a letter, `-` as a value, an
 * empty value; and sees to it that a switch is nothing but on or off.
 */
function spellOut(argv: readonly string[], flags: readonly Flag[]): string[] {
  const spelled: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i] as string;
    if (arg === "--") return [...spelled, ...argv.slice(i)];
    const [, dashes = "", name = "", glued = ""] = /^(--?)(?!-)([\w-]*)(.*)$/s.exec(arg) ?? [];
    const isLetter = dashes === "-" && name !== "";
    const flag = flags.find((one) => isLetter ? one.letter === name[0] : dashes === "--" && one.name === name);
    const rest = isLetter ? name.slice(1) + glued : glued;
    if (flag === undefined) spelled.push(arg);
    else if (flag.type === "boolean") {
      const value = isLetter ? /^\w*(=.*)$/s.exec(rest)?.[1] ?? "" : rest;
      if (value !== "" && !/^=(true|false)$/.test(value)) {
        throw new UsageError(`--${flag.name} is either given or not: it takes no value`);
      }
      spelled.push(arg);
    } else if (rest !== "") spelled.push(`--${flag.name}=${rest.replace(/^=/, "")}`);
    else if (argv[i + 1] === "" || argv[i + 1] === "-") spelled.push(`--${flag.name}=${argv[++i]}`);
    else spelled.push(arg);
  }
  return spelled;
}

function unalias(words: readonly string[]): string[] {
  for (const [alias, meaning] of ALIASES) {
    const given = alias.split(" ");
    if (given.every((word, i) => words[i] === word)) return [...meaning.split(" "), ...words.slice(given.length)];
  }
  return [...words];
}

function bind(command: Command, words: readonly string[]): Pick<Call, "args" | "rest"> {
  const names = command.usage.split(" ").filter((word) => /^[<[]/.test(word));
  const values = words.slice(wordsOf(command.usage).length);
  const isOpen = names.at(-1)?.includes("...") === true;
  const needed = names.filter((name) => name.startsWith("<")).length;
  if (values.length < needed) {
    throw new UsageError(`${nameOf(command)} needs ${names[values.length]}, as in: pgqrs ${command.example}`);
  }
  if (values.length > names.length && !isOpen) {
    throw new UsageError(`${nameOf(command)} takes no ${quote(values[names.length] as string)}`);
  }
  const args = Object.fromEntries(names.map((name, i) => [name.replace(/[^\w-]/g, ""), values[i]]));
  return { args, rest: isOpen ? values.slice(names.length - 1) : [] };
}

function unknownFlag(typed: string, names: readonly string[]): UsageError {
  const [flag = ""] = typed.split("=");
  // A letter may have a value glued to it.
  const shown = /^--[\w-]{1,40}$/.test(flag) ? flag : /^-\w/.test(flag) ? flag.slice(0, 2) : "";
  const nearest = nearestOf(shown.slice(2), names);
  const hint = nearest === undefined ? "see pgqrs --help" : `did you mean --${nearest}?`;
  return new UsageError(`unknown option${shown === "" ? "" : ` ${shown}`}; ${hint}`);
}

function unknownCommand(words: readonly string[]): UsageError {
  const [noun = "", verb] = words;
  const verbs = commands.filter(({ usage }) => wordsOf(usage)[0] === noun).map(({ usage }) => wordsOf(usage)[1] ?? "");
  if (verbs.length > 0) {
    const nearest = verb === undefined ? undefined : nearestOf(verb.slice(0, 40), verbs);
    const hint = nearest === undefined ? `${noun} has ${verbs.join(", ")}` : `did you mean pgqrs ${noun} ${nearest}?`;
    return new UsageError(
      verb === undefined ? `${noun} needs a verb: ${hint}` : `unknown command ${quote(`${noun} ${verb}`)}; ${hint}`,
    );
  }
  const nouns = [...new Set([...commands.map(({ usage }) => wordsOf(usage)[0] ?? ""), "dlq"])];
  const nearest = nearestOf(noun.slice(0, 40), nouns);
  const hint = nearest === undefined ? `there are ${nouns.join(", ")}` : `did you mean pgqrs ${nearest}?`;
  return new UsageError(`unknown command ${quote(noun)}; ${hint}`);
}
