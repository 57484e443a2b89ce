/** Data as a table, as JSON, or as a line of JSON for each row. */
import type { Output, Row } from "./command.ts";
import { writeDuration } from "./duration.ts";
import { cut, pad, paint, printable, safeJson, widthOf } from "./text.ts";

/** How data is written. */
export interface Layout {
  readonly format: "json" | "ndjson" | "table";
  /** How wide the terminal is, where there is one. */
  readonly columns?: number | undefined;
  readonly hasColor: boolean;
}

const LONGEST_CELL = 60;
/** In the last column there is room for a sentence. */
const LONGEST_LAST = 200;
const NARROWEST_CELL = 6;
const NARROWEST_TITLE = 4;
const NARROWEST_LAST = 12;
const GAP = "  ";
/** How many rows a table is made of at once; what comes behind them may need wider columns. */
const TABLE_ROWS = 1_000;

/** Writes what a command has to say, piece by piece. */
export async function* printData({ data, columns, text }: Output, layout: Layout): AsyncGenerator<string> {
  if (text !== undefined && (layout.format === "table" || data === undefined)) return yield text;
  if (data === undefined) return;
  if (data === null) { if (layout.format === "json") yield "null\n"; }
  else if (!isList(data)) yield one(data, layout);
  else if (layout.format === "json") yield* jsonOf(data);
  else if (layout.format === "ndjson") { for await (const row of data) yield `${safeJson(JSON.stringify(row))}\n`; }
  else yield* tableOf(data, columns, layout);
}

function one(row: Row, { format, hasColor }: Layout): string {
  if (format === "json") return `${safeJson(JSON.stringify(row, null, 2))}\n`;
  if (format === "ndjson") return `${safeJson(JSON.stringify(row))}\n`;
  const lines = Object.entries(row).map(([name, value]) => [titleOf(name), cell(name, value)] as const);
  const width = Math.max(0, ...lines.map(([name]) => widthOf(name)));
  return lines.map(([name, value]) => `${paint(pad(name, width), "bold", hasColor)}${GAP}${value}`.trimEnd() + "\n")
    .join("");
}

/** A list that is whole only at its end; a reader that stops before it sees that. */
async function* jsonOf(rows: AsyncIterable<Row> | readonly Row[]): AsyncGenerator<string> {
  let separator = "[\n";
  for await (const row of rows) {
    yield `${separator}${safeJson(JSON.stringify(row, null, 2)).replaceAll(/^/gm, "  ")}`;
    separator = ",\n";
  }
  yield separator === ",\n" ? "\n]\n" : "[]\n";
}

async function* tableOf(
  rows: AsyncIterable<Row> | readonly Row[],
  columns: readonly string[] | undefined,
  layout: Layout,
): AsyncGenerator<string> {
  let part: Row[] = [];
  let widths: number[] | undefined;
  for await (const row of rows) {
    part.push(row);
    if (part.length < TABLE_ROWS) continue;
    yield lines();
    part = [];
  }
  if (part.length > 0) yield lines();

  function lines(): string {
    const names = columns ?? Object.keys(part[0] as Row);
    const cells = part.map((row) =>
      names.map((name, i) => cut(cell(name, row[name]), i === names.length - 1 ? LONGEST_LAST : LONGEST_CELL))
    );
    const titles = names.map(titleOf);
    const isFirst = widths === undefined;
    const before = widths ?? titles.map(widthOf);
    const all = cells.map((line) => line.map(widthOf));
    const fitted = fit(
      before.map((width, i) => Math.max(width, ...all.map((line) => line[i] as number))),
      names.map((name, i) => leastOf(before[i] as number, part.map((row) => row[name]), all.map((line) => line[i]))),
      layout.columns,
    );
    widths = fitted;
    const toLine = (line: readonly string[]): string =>
      line.map((text, i) => pad(cut(text, fitted[i] as number), fitted[i] as number)).join(GAP).trimEnd();
    const head = isFirst ? [paint(toLine(titles), "bold", layout.hasColor)] : [];
    return `${[...head, ...cells.map(toLine)].join("\n")}\n`;
  }
}

/** How narrow a column may become. Part of a text tells something, part of a number or an instant something wrong. */
function leastOf(title: number, values: readonly unknown[], widths: readonly (number | undefined)[]): number {
  return values.reduce((least: number, value, i) => {
    const isText = typeof value === "string" || (typeof value === "object" && !(value instanceof Date));
    return Math.max(least, isText ? Math.min(widths[i] ?? 0, NARROWEST_CELL) : widths[i] ?? 0);
  }, Math.min(title, NARROWEST_TITLE));
}

/** Makes the last column narrower until a line fits the terminal, then the widest ones, as far as that can be. */
function fit(widths: readonly number[], least: readonly number[], columns = Infinity): number[] {
  const fitted = [...widths];
  const last = fitted.length - 1;
  for (let over = sum(fitted) + GAP.length * last - columns; over > 0; over--) {
    const isFree = (i: number): boolean => (fitted[i] as number) > (least[i] as number);
    const widest = Math.max(...fitted.filter((_, i) => isFree(i)));
    const place = isFree(last) && (fitted[last] as number) > NARROWEST_LAST
      ? last
      : fitted.findIndex((width, i) => width === widest && isFree(i));
    if (place < 0) break;
    fitted[place] = (fitted[place] as number) - 1;
  }
  return fitted;
}

/** Durations are shown in their largest units, so that what they are counted in is not part of their name. */
function titleOf(name: string): string {
  return printable(name.replace(/Ms$/, ""));
}

function cell(name: string, value: unknown): string {
  if (value === null || value === undefined) return "-";
  if (value instanceof Date) return `${value.toISOString().slice(0, 19)}Z`;
  if (typeof value === "number" && name.endsWith("Ms")) return writeDuration(value);
  return printable(typeof value === "object" ? JSON.stringify(value) : String(value));
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

function isList(data: NonNullable<Output["data"]>): data is AsyncIterable<Row> | readonly Row[] {
  return Array.isArray(data) || Symbol.asyncIterator in data;
}
