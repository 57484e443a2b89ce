/**
 * Writes docs/cli.md from the commands themselves: `deno run -A tools/cli_page.ts`. A test compares the two.
 *
 * @module
 */
import { writeFileSync } from "node:fs";
import type { Command, Flag } from "../src/cli/command.ts";
import { commands } from "../src/cli/commands.ts";
import { globalFlags } from "../src/cli/flags.ts";
import { EXIT_CODES } from "../src/cli/help.ts";
import { ALIASES, ownFlagsOf, wordsOf } from "../src/cli/parse.ts";

const NOUNS: Readonly<Record<string, string>> = {
  queue: "Queues",
  message: "Messages",
  archive: "The archive",
  dead: "Dead letters",
  workflow: "Workflows and their runs",
  worker: "Workers",
};

/** What commands print that do something and of which a table shows nothing: `--format json` without its line breaks. */
export const DONE: readonly (readonly [line: string, json: string])[] = [
  ["install", '{"installed":true}'],
  ["verify", '{"verified":true}'],
  ["migrate", '{"applied":[]}'],
  ["message delete tasks 1", '{"deleted":[1]}'],
  ["message archive tasks 2", '{"archived":[2]}'],
  ["archive tasks 3", '{"archived":[3]}'],
  ["message cancel tasks 4", '{"cancelled":[4]}'],
  ["message dequeue tasks", "null"],
  ["queue delete tasks --yes", '{"deleted":"tasks"}'],
  [
    "uninstall --yes",
    '{"removed":["table pgqrs_messages"]}',
  ],
];

const HEAD = `# The \`pgqrs\` command

Written by \`deno run -A tools/cli_page.ts\` from the commands; not to be edited.

\`\`\`sh
pgqrs --dsn sqlite:jobs.db install          # a file; nothing else to install or start
export PGQRS_DSN=postgresql://me@localhost/mydb   # the same for every command
\`\`\`

**Settings** come from the command line, then from \`PGQRS_*\` variables, then from a YAML file, then from the defaults;
each setting by itself. \`pgqrs config\` shows all of them and where each comes from. The file is that of \`--config\`, else
that of \`PGQRS_CONFIG_FILE\`, else \`./pgqrs.yaml\` or \`./pgqrs.yml\`.

**Data** goes to standard output, or to the file of \`--out\`. **Words** go to standard error, or to the file of
\`--log-dest\`. So \`--format json\` (one text) and \`--format ndjson\` (a line for each row) can be piped without being
filtered. A list is an array, a single thing an object; the names of the fields are those of the library, times are ISO
8601 in UTC, durations milliseconds. In these formats nothing is cut short; a table shows what fits, and durations in
their largest units. A command that only does something tells a table reader so in words, and prints one object in these
formats, as [listed below](#what-is-printed-when-something-was-done).

A file of \`--out\` keeps what is in it until there is data. A reader that has seen enough, such as \`head\`, is no error;
words that nobody reads or that a file has no room for are lost, and the work goes on.

**Durations** are written as \`30\` (seconds), \`30s\`, \`5m\`, \`2h30m\`, \`7d\` or \`250ms\`; **instants** as
\`2030-01-31T12:00:00Z\`.

**What destroys something** asks first on a terminal, needs \`--yes\` elsewhere, and only tells what it would do with
\`--dry-run\`. What is done to one message, named by its queue and id, is not asked about: \`message delete\` deletes it.

**What comes from the database never controls the terminal:** control characters, escapes, invisible characters and
those that turn the direction of text are shown as \`\\uXXXX\`.
`;

const DONE_HEAD = `
With \`--format json\` every command that succeeds prints one JSON value: what is described with it, or one of these.
\`migrate\` names what it has applied, as \`{"version": 2, "name": "…"}\`. \`message dequeue\` prints the message, or \`null\`
(with \`ndjson\` nothing) when none came. \`worker run\` prints \`queue\`, \`completed\`, \`failed\` and \`dead\` when it ends.
`;

/** The page. */
export function cliPage(): string {
  const parts = [HEAD, "## Exit codes\n", tableOf(["code", "means"], EXIT_CODES)];
  parts.push("\n## Options of all commands\n", flagTable(globalFlags));
  parts.push("\n## What is printed when something was done\n", DONE_HEAD);
  parts.push(tableOf(["command", "prints"], DONE.map(([line, json]) => [`\`pgqrs ${line}\``, `\`${json}\``])));
  const own = commands.filter(({ usage }) => NOUNS[wordsOf(usage)[0] ?? ""] === undefined);
  parts.push("\n## The database\n", ...own.map(section));
  for (const [noun, title] of Object.entries(NOUNS)) {
    parts.push(`\n## ${title}\n`, ...commands.filter(({ usage }) => wordsOf(usage)[0] === noun).map(section));
  }
  parts.push(
    "\n## Other words for the same\n",
    tableOf(["written", "means"], ALIASES.map(([from, to]) => [`\`pgqrs ${from}\``, `\`pgqrs ${to}\``])),
  );
  return `${parts.join("\n").replace(/\n{3,}/g, "\n\n").trimEnd()}\n`;
}

function section(command: Command): string {
  const flags = ownFlagsOf(command);
  const lines = [
    `### \`pgqrs ${command.usage}\`\n`,
    `${command.about}.\n`,
    "```sh",
    `pgqrs ${command.example}`,
    "```\n",
  ];
  return [...lines, ...(flags.length === 0 ? [] : [flagTable(flags)])].join("\n");
}

function flagTable(flags: readonly Flag[]): string {
  return tableOf(
    ["option", "value", "what it does"],
    flags.map(({ name, letter, type, choices, about }) => [
      `\`${letter === undefined ? "" : `-${letter}, `}--${name}\``,
      choices?.join(", ") ?? (type === "boolean" ? "" : type === "list" ? "text, may be repeated" : type),
      about,
    ]),
  );
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((_, i) => Math.max(...cells.map((row) => row[i]?.length ?? 0)));
  const lines = cells.map((row) => `| ${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`);
  lines.splice(1, 0, `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`);
  return `${lines.join("\n")}\n`;
}

if (import.meta.main) writeFileSync(new URL("../docs/cli.md", import.meta.url), cliPage());
