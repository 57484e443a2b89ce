/** What the library says, in the words of the command: somebody who types has flags and commands, not names of arguments. */
import type { Flag } from "./command.ts";

const COMMANDS: readonly (readonly [RegExp, string])[] = [
  [/store\.admin\.createQueue\("([^"]*)"\)/, '"pgqrs queue create $1"'],
  [/store\.admin\.install\(\) or "pgqrs install"/, '"pgqrs install"'],
  [/store\.admin\.workers\.list\(\)/, '"pgqrs worker list"'],
  [/use \{ force: true \}/, "use --force"],
];

/** By which flags an argument is given; a command has one of them. */
const FLAGS: Readonly<Record<string, readonly string[]>> = {
  at: ["at"],
  concurrency: ["concurrency"],
  connectTimeoutMs: ["timeout"],
  cursor: ["cursor"],
  deadRetentionMs: ["dead-retention"],
  delayMs: ["delay"],
  before: ["before"],
  key: ["key"],
  leaseMs: ["lease", "lock-time"],
  limit: ["limit", "count"],
  maxAttempts: ["max-attempts"],
  maxCrashes: ["max-crashes"],
  offset: ["offset"],
  priority: ["priority"],
  reason: ["reason"],
  retentionMs: ["retention"],
  since: ["since"],
  stopTimeoutMs: ["grace"],
  timeoutMs: ["timeout"],
  ttlMs: ["ttl"],
  type: ["message-type"],
  unlogged: ["unlogged"],
  unseenMs: ["older-than"],
  worker: ["worker"],
};

const UNITS: readonly (readonly [size: number, unit: string])[] = [[86_400_000, "d"], [60_000, "m"], [1_000, "s"]];

/** Says what an error of the library says in commands, and in the flags that a command takes. */
export function inWords(message: string, flags: readonly Flag[]): string {
  const flagOf = (argument: string): string | undefined =>
    FLAGS[argument]?.find((name) => flags.some((flag) => flag.name === name));
  let text = message;
  for (const [theirs, ours] of COMMANDS) text = text.replace(theirs, ours);
  text = text.replace(
    /^(Cannot use (?:argument )?)(\w+)(?:( and )(\w+)( together))?/,
    (whole, begin, one, and = "", other = "", end = "") => {
      const [first, second] = [flagOf(one), flagOf(other)];
      if (first === undefined || (and !== "" && second === undefined)) return whole;
      return `${begin.replace("argument ", "")}--${first}${and === "" ? "" : `${and}--${second}${end}`}`;
    },
  );
  if (!/Cannot use --(delay|dead-retention|grace|lease|lock-time|older-than|retention|timeout|ttl)\b/.test(text)) {
    return text;
  }
  const range = /it must be a whole number (?:of milliseconds )?from (\d+) to (\d+)/;
  return text.replace(range, (_, least, most) => `it must be from ${durationOf(least)} to ${durationOf(most)}`);
}

/** Whether the library could not use what it was given. An error of the engine itself is of the same class. */
export function isArgumentError(error: unknown): error is RangeError | TypeError {
  return (error instanceof TypeError || error instanceof RangeError) &&
    /^Cannot (use [\w".]|(connect|enqueue|install|make|store)\b)/.test(error.message);
}

function durationOf(ms: string): string {
  const [size, unit] = UNITS.find(([size]) => Number(ms) >= size) ?? [1, "ms"];
  return `${Math.floor(Number(ms) / size)}${unit}`;
}
