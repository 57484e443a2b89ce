/** Lists that are read page by page. */
import type { CallLimits, Database } from "../database.ts";
import { checkInteger } from "../options.ts";

/** A page of a list. */
export interface Page<T> {
  /** The items of this page. */
  readonly items: readonly T[];
  /** What to pass as `cursor` for the next page; null on the last one. */
  readonly cursor: string | null;
}

/** Which page of a list is meant. */
export interface PageOptions extends CallLimits {
  /** The largest number of items. @default the store's `maxBatchSize` (100) */
  readonly limit?: number;
  /** The `cursor` of the page before. */
  readonly cursor?: string;
}

/** The names of {@linkcode PageOptions}. */
export const PAGE_OPTIONS: readonly string[] = ["cursor", "limit", "signal", "timeoutMs"];

/** Checks the size of a page. @throws {RangeError} */
export function pageLimit(limit: number | undefined, { settings }: Database): number {
  if (limit === undefined) return settings.maxBatchSize;
  checkInteger("limit", limit, 1, 10_000);
  return limit;
}

/** Reads the numbers of a cursor. @throws {TypeError} */
export function parseCursor(cursor: string | undefined, parts: number): number[] | undefined {
  if (cursor === undefined) return undefined;
  const numbers = typeof cursor === "string" && /^\d+(\.\d+)*$/.test(cursor) ? cursor.split(".").map(Number) : [];
  if (numbers.length === parts && numbers.every(Number.isSafeInteger)) return numbers;
  throw new TypeError("Cannot use cursor: it was not given by a page of this list");
}

/** Makes a page of one item more than was asked for: it tells whether there is another page. */
export function toPage<T>(items: readonly T[], limit: number, cursorOf: (last: T) => string): Page<T> {
  if (items.length <= limit) return { items, cursor: null };
  const page = items.slice(0, limit);
  return { items: page, cursor: cursorOf(page.at(-1) as T) };
}
