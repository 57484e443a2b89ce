/** From the command line to a command. Pure: nothing is read and nothing printed. */
import { parseArgs } from "@std/cli/parse-args";
import { type Call, type Command, type Flag, UsageError } from "./command.ts";
import { deadCommands } from "./dead.ts";
import { messageCommands } from "./message.ts";
import { queueCommands } from "./queue.ts";
import { schemaCommands } from "./schema.ts";

/** Everything that `pgqrs` can do. */
export const commands: readonly Command[] = [...schemaCommands, ...queueCommands, ...messageCommands, ...deadCommands];

/** What every command takes. */
export const globalFlags: readonly Flag[] = [
  { name: "dsn", letter: "d", type: "text", about: "The database; else PGQRS_DSN, else the file" },
  { name: "config", letter: "c", type: "text", about: "The file; else PGQRS_CONFIG_FILE, pgqrs.yaml, pgqrs.yml" },
  { name: "schema", letter: "s", type: "text", about: "The Postgres schema (public)" },
  { name: "format", type: "text", about: "table or json (table)" },
  { name: "help", letter: "h", type: "boolean", about: "Show this" },
  { name: "version", letter: "V", type: "boolean", about: "Show the version" },
];

/** What is to be done. */
export type Request =
  | { readonly kind: "help"; readonly of: readonly Command[] }
  | { readonly kind: "version" }
  | { readonly kind: "run"; readonly command: Command; readonly call: Call; readonly format: "json" | "table" };

/** Reads the command line, without the program. @throws {UsageError} */
export function parse(argv: readonly string[]): Request {
  const { words, flags } = split(argv);
  if (flags.version === true) return { kind: "version" };
  const command = commands.find(({ usage }) => wordsOf(usage).every((word, i) => words[i] === word));
  if (flags.help === true || words.length === 0) {
    const noun = commands.filter(({ usage }) => wordsOf(usage)[0] === words[0]);
    return { kind: "help", of: command ? [command] : noun.length > 0 ? noun : commands };
  }
  if (command === undefined) throw unknownCommand(words);
  const known = [...globalFlags, ...command.flags ?? []];
  const converted: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(flags)) {
    const flag = known.find((flag) => flag.name === name);
    if (flag === undefined) throw new UsageError(`${nameOf(command)} takes no --${name}`);
    converted[name] = convert(flag, value);
  }
  const { format = "table" } = converted;
  if (format !== "table" && format !== "json") throw new UsageError(`--format is table or json, not "${format}"`);
  return { kind: "run", command, call: { ...bind(command, words), flags: converted }, format };
}

/** The words of a usage that are typed as they stand. */
export function wordsOf(usage: string): string[] {
  return usage.split(" ").filter((word) => /^\w/.test(word));
}

/** Parts the words from the flags. */
function split(argv: readonly string[]): { words: string[]; flags: Record<string, unknown> } {
  const flags = [...globalFlags, ...commands.flatMap((command) => command.flags ?? [])];
  const isBoolean = ({ type }: Flag): boolean => type === "boolean";
  const unknown: string[] = [];
  const parsed = parseArgs([...argv], {
    string: ["_", ...flags.filter((flag) => !isBoolean(flag)).map(({ name }) => name)],
    boolean: flags.filter(isBoolean).map(({ name }) => name),
    alias: Object.fromEntries(flags.flatMap(({ name, letter }) => letter === undefined ? [] : [[letter, name]])),
    unknown(arg: string, key?: string): boolean {
      if (key !== undefined) unknown.push(arg);
      return key === undefined;
    },
  }) as Record<string, unknown> & { _: (number | string)[] };
  if (unknown.length > 0) throw new UsageError(`unknown option ${unknown[0]?.split("=")[0]}; see pgqrs --help`);
  const given = flags.filter(({ name }) => parsed[name] !== undefined && parsed[name] !== false);
  return { words: parsed._.map(String), flags: Object.fromEntries(given.map(({ name }) => [name, parsed[name]])) };
}

function bind(command: Command, words: readonly string[]): Omit<Call, "flags"> {
  const names = command.usage.split(" ").filter((word) => /^[<[]/.test(word));
  const values = words.slice(wordsOf(command.usage).length);
  const isOpen = names.at(-1)?.includes("...") === true;
  const needed = names.filter((name) => name.startsWith("<")).length;
  if (values.length < needed) throw new UsageError(`${nameOf(command)} needs ${names[values.length]}`);
  if (values.length > names.length && !isOpen) {
    throw new UsageError(`${nameOf(command)} takes no "${values[names.length]}"`);
  }
  const args = Object.fromEntries(names.map((name, i) => [name.replace(/[^\w-]/g, ""), values[i]]));
  return { args, rest: isOpen ? values.slice(names.length - 1) : [] };
}

function convert({ name, type }: Flag, value: unknown): unknown {
  if (type === "boolean") return value;
  const text = String(value);
  // A flag without a value, or one that was given twice.
  if (typeof value !== "string" || text === "") throw new UsageError(`--${name} needs one value`);
  if (type === "text") return text;
  if (type === "json") {
    try {
      return JSON.parse(text);
    } catch {
      throw new UsageError(`--${name} is not JSON`);
    }
  }
  if (type === "instant") {
    const instant = new Date(text);
    if (Number.isNaN(instant.getTime())) throw new UsageError(`--${name} is not an instant: "${text}"`);
    return instant;
  }
  const isNumber = /^\d+(\.\d+)?$/.test(text) && (type === "seconds" || /^\d+$/.test(text));
  if (!isNumber) {
    throw new UsageError(`--${name} is not a ${type === "seconds" ? "number of seconds" : "number"}: "${text}"`);
  }
  return type === "seconds" ? Math.round(Number(text) * 1_000) : Number(text);
}

function nameOf({ usage }: Command): string {
  return wordsOf(usage).join(" ");
}

function unknownCommand(words: readonly string[]): UsageError {
  const [noun = ""] = words;
  const verbs = commands.filter(({ usage }) => wordsOf(usage)[0] === noun).map(({ usage }) => wordsOf(usage)[1]);
  const typed = [noun, ...(verbs.length > 0 ? words.slice(1, 2) : [])].join(" ");
  if (verbs.length > 0) return new UsageError(`unknown command "${typed}"; ${noun} has ${verbs.join(", ")}`);
  const nouns = [...new Set(commands.map(({ usage }) => wordsOf(usage)[0]))];
  return new UsageError(`unknown command "${typed}"; there are ${nouns.join(", ")}`);
}
