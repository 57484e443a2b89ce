/**
 * What a command has printed as data, read strictly.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";

/** How data is written. */
export const FORMATS = ["json", "ndjson", "table"] as const;

/** One of the ways. */
export type Format = typeof FORMATS[number];

const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });

/** Reads data strictly: what JSON has, or how many rows a table has. Each row has to have the names. */
export function readData(out: string, format: Format, shows: string): unknown {
  if (out === "") return assertEquals(shows, "");
  const names = shows.split(" ").filter((name) => name !== "");
  // A table shows durations in their largest units, and so without the unit in the name.
  if (format === "table") return readTable(out, names.map((name) => name.replace(/Ms$/, "")));
  const data = format === "json" ? JSON.parse(out) : out.trimEnd().split("\n").map((line) => JSON.parse(line));
  const rows: object[] = [data].flat();
  assert(rows.length > 0);
  for (const row of rows) for (const name of names) assert(Object.hasOwn(row, name), `${name}: ${JSON.stringify(row)}`);
  return data;
}

function readTable(out: string, names: readonly string[]): number {
  const lines = out.trimEnd().split("\n");
  const head = lines[0]?.split(/ {2,}/) ?? [];
  const isList = names.every((name) => head.includes(name)) && !(names.length === 1 && lines.length === 1);
  if (isList) return lines.length - 1;
  const firsts = lines.map((line) => line.split(/ {2,}/)[0]);
  for (const name of names) assert(firsts.includes(name), `${name}: ${out}`);
  return 1;
}

/** Data without what the clock decides. */
export function steady(data: unknown): unknown {
  const isTimed = (name: string): boolean => /(At|Ms|Until|Since)$/.test(name);
  const text = JSON.stringify(
    [data ?? []].flat(),
    (name, value) => isTimed(name) && value !== null ? typeof value : value,
  );
  return JSON.parse(text.replaceAll(/\d+ ms\b/g, "ms"));
}

/** How many columns a terminal gives to a line. */
export function columnsOf(line: string): number {
  let columns = 0;
  for (const { segment } of segmenter.segment(line)) {
    const isWide = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}]/u;
    columns += isWide.test(segment) || /[\uff01-\uff60\ufe0f]/.test(segment) ? 2 : 1;
  }
  return columns;
}
