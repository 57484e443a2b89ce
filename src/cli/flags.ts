/** Flags that several commands take, and how their values are read. */
import { type Flag, UsageError } from "./command.ts";
import { readDuration } from "./duration.ts";
import { readJson } from "./json.ts";

/** What every command takes. */
export const globalFlags: readonly Flag[] = [
  { name: "dsn", letter: "d", type: "text", about: "The database; else PGQRS_DSN, else the file" },
  { name: "config", letter: "c", type: "text", about: "The file; else PGQRS_CONFIG_FILE, pgqrs.yaml, pgqrs.yml" },
  {
    name: "schema",
    letter: "s",
    type: "text",
    about: "The Postgres schema; else PGQRS_SCHEMA, else the file (public)",
  },
  { name: "format", type: "text", choices: ["table", "json", "ndjson"], about: "How data is written (table)" },
  { name: "out", type: "text", about: "Where data goes: stdout or a file (stdout)" },
  {
    name: "log-level",
    type: "text",
    choices: ["error", "warn", "info", "debug", "trace"],
    about: "How much is told beside the data (info)",
  },
  { name: "log-dest", type: "text", about: "Where that goes: stderr or a file (stderr)" },
  { name: "quiet", type: "boolean", about: "The same as --log-level error" },
  { name: "no-color", type: "boolean", about: "No colors; NO_COLOR does the same" },
  { name: "timeout", type: "duration", about: "How long connecting (10s) and each call (30s) may take" },
  { name: "help", letter: "h", type: "boolean", about: "Show this" },
  { name: "version", letter: "V", type: "boolean", about: "Show the version" },
];

/** What commands take that destroy something. */
export const destroyFlags: readonly Flag[] = [
  { name: "yes", letter: "y", type: "boolean", about: "Do not ask" },
  { name: "dry-run", type: "boolean", about: "Only tell what would be destroyed" },
];

export const ARCHIVE: Flag = { name: "archive", type: "boolean", about: "In the archive" };
export const COUNT: Flag = { name: "count", letter: "n", type: "integer", least: 1, about: "How many at most (1)" };
export const CURSOR: Flag = { name: "cursor", type: "text", about: "Go on where an earlier list has ended" };
export const FORCE: Flag = { name: "force", type: "boolean", about: "Also what is in use" };
export const KEY: Flag = { name: "key", letter: "k", type: "text", about: "Of this key" };
export const LIMIT: Flag = { name: "limit", letter: "l", type: "integer", least: 1, about: "How many at most (100)" };
export const OFFSET: Flag = { name: "offset", type: "integer", about: "How many to pass over (0)" };
export const PRIORITY: Flag = { name: "priority", type: "integer", about: "From 0 to 9; larger ones go first (0)" };
export const QUEUE: Flag = { name: "queue", letter: "q", type: "text", about: "Of this queue" };
export const REASON: Flag = { name: "reason", type: "text", about: "Why" };
export const DELAY: Flag = { name: "delay", type: "duration", about: "Not before so much time has passed (0)" };
export const AT: Flag = { name: "at", type: "instant", about: "Not before this instant, such as 2030-01-31T12:00:00Z" };
export const TYPE: Flag = { name: "message-type", letter: "t", type: "text", about: "Of this header type" };
export const WORKER: Flag = { name: "worker", letter: "w", type: "text", about: "Ended by this worker or consumer" };
export const SINCE: Flag = { name: "since", type: "instant", about: "Ended at this instant or after it" };
export const BEFORE: Flag = { name: "before", type: "instant", about: "Ended before this instant" };
export const OLDER: Flag = { name: "older-than", type: "duration", about: "Ended longer ago than this" };

/** Reads the value of a flag. @throws {UsageError} */
export function readFlag({ name, type, choices, least = 0 }: Flag, value: unknown): unknown {
  if (type === "boolean") return value;
  const texts = Array.isArray(value) ? value.map(String) : [value];
  // A flag without a value, or one that was given twice.
  if (type !== "list" && texts.length > 1) throw new UsageError(`--${name} is given ${texts.length} times`);
  if (texts.some((text) => typeof text !== "string" || text === "")) throw new UsageError(`--${name} needs a value`);
  if (type === "list") return texts;
  const text = texts[0] as string;
  if (choices !== undefined && !choices.includes(text)) {
    throw new UsageError(`--${name} is ${choices.join(", ")}, not ${quote(text)}`);
  }
  switch (type) {
    case "json":
      return readJson(`--${name}`, text);
    case "instant": {
      // Without a zone it would mean another instant on another machine.
      const isWhole = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text);
      const instant = new Date(text);
      // A day that there is not would become another one.
      const hasDay = new Date(`${text.slice(0, 10)}T00:00:00Z`).toJSON()?.slice(0, 10) === text.slice(0, 10);
      if (isWhole && hasDay && !Number.isNaN(instant.getTime())) return instant;
      throw new UsageError(`--${name} is an instant such as 2030-01-31T12:00:00Z, not ${quote(text)}`);
    }
    case "duration": {
      const ms = readDuration(text);
      if (ms === undefined) {
        throw new UsageError(`--${name} is a duration such as 30, 30s, 5m or 2h30m, not ${quote(text)}`);
      }
      return ms;
    }
    case "integer":
      if (/^\d{1,15}$/.test(text) && Number(text) >= least) return Number(text);
      throw new UsageError(`--${name} is a whole number from ${least} on, not ${quote(text)}`);
    default:
      return text;
  }
}

/** Shows what was typed, unless it is long: then it is perhaps something else that went astray. */
export function quote(text: string): string {
  return !/^[\p{L}\p{M}\p{N}_.,:+% -]{0,60}$/u.test(text)
    ? `a text of ${text.length} characters`
    : JSON.stringify(text);
}
