/** The page of results: each program writes its own part of docs/benchmarks.md. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const PAGE = fileURLToPath(new URL("../docs/benchmarks.md", import.meta.url));
const INTRODUCTION = `# Benchmarks

Written by \`deno task bench\`, \`deno task bench:peers\` and \`deno task bench:workflows\`; not to be edited.
`;
const PARTS = ["Beside other queues", "Workflows beside other engines", "Beside bare SQL"] as const;

/** A part of the page, by its title. */
export type Part = typeof PARTS[number];

/** The text of a part, without its title; empty if it was never written. */
export function readPart(part: Part): string {
  const text = existsSync(PAGE) ? readFileSync(PAGE, "utf8") : "";
  const begin = text.indexOf(`\n## ${part}\n`);
  if (begin < 0) return "";
  const rest = text.slice(begin + part.length + 5);
  const end = rest.search(/^## /m);
  return (end < 0 ? rest : rest.slice(0, end)).trim();
}

/** Replaces a part and leaves the others as they are. */
export function writePart(part: Part, lines: readonly string[]): void {
  const texts = PARTS.map((one) => [one, one === part ? lines.join("\n").trim() : readPart(one)] as const);
  const written = texts.filter(([, text]) => text !== "").map(([one, text]) => `## ${one}\n\n${text}\n`);
  writeFileSync(PAGE, [INTRODUCTION, ...written].join("\n"));
}
