/** Checks of what callers pass: an unknown option is an error that suggests the right one. */
import { nearestOf } from "./nearest.ts";

/** The names of the limits that every call takes. */
export const LIMITS: readonly string[] = ["signal", "timeoutMs"];

/** The longest pause that a timer of JavaScript can keep, 24.8 days: a longer one would end at once. */
export const LONGEST_TIMER_MS: number = 2 ** 31 - 1;

/** A hundred years: the longest duration that is stored. */
const LONGEST_MS = 3_155_760_000_000;

/** Checks that an options object has only known fields. @throws {TypeError} */
export function checkOptions(what: string, given: unknown, known: readonly string[]): void {
  if (given === undefined) return;
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw new TypeError(`Cannot use the options of ${what}: they must be an object`);
  }
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    const nearest = nearestOf(name, known);
    const hint = nearest === undefined ? `known are ${known.join(", ")}` : `did you mean "${nearest}"?`;
    throw new TypeError(`Cannot use the options of ${what}: unknown option "${name}"; ${hint}`);
  }
}

/** Checks a whole number in a range. @throws {RangeError} */
export function checkInteger(name: string, value: unknown, least: number, most: number): void {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least || value > most) {
    throw new RangeError(`Cannot use ${name}: it must be a whole number from ${least} to ${most}`);
  }
}

/** Checks a switch: a text like "false" would count as true. @throws {TypeError} */
export function checkBoolean(name: string, value: unknown): asserts value is boolean {
  if (typeof value !== "boolean") throw new TypeError(`Cannot use ${name}: it must be a boolean`);
}

/** Checks a duration that is stored, in milliseconds. @throws {RangeError} */
export function checkDuration(name: string, value: number, least = 0): void {
  if (!Number.isSafeInteger(value) || value < least || value > LONGEST_MS) {
    throw new RangeError(
      `Cannot use ${name}: it must be a whole number of milliseconds from ${least} to ${LONGEST_MS}`,
    );
  }
}

/** Checks a time that a timer is set to, in milliseconds. @throws {RangeError} */
export function checkTimeout(name: string, value: unknown, least = 1): void {
  checkInteger(name, value, least, LONGEST_TIMER_MS);
}

/** Checks the limits of a call. @throws {TypeError | RangeError} */
export function checkLimits({ signal, timeoutMs }: { readonly signal?: unknown; readonly timeoutMs?: unknown }): void {
  if (timeoutMs !== undefined) checkTimeout("timeoutMs", timeoutMs);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new TypeError("Cannot use signal: it must be an AbortSignal");
  }
}

/** Checks the texts of a filter: nothing else may get as far as a statement. @throws {TypeError | RangeError} */
export function checkTexts(texts: Readonly<Record<string, unknown>>): void {
  for (const [name, text] of Object.entries(texts)) if (text !== undefined) checkName(name, text, 16_384);
}

/** Checks a name that is stored: text of 1 to `most` bytes that every database can hold. @throws {TypeError | RangeError} */
export function checkName(what: string, value: unknown, most = 255): asserts value is string {
  if (typeof value !== "string") throw new TypeError(`Cannot use ${what}: it must be a string`);
  if (value.includes("\0") || !value.isWellFormed()) {
    throw new TypeError(`Cannot use ${what}: it contains a NUL character or half of a surrogate pair`);
  }
  const bytes = new TextEncoder().encode(value).length;
  if (bytes < 1 || bytes > most) {
    throw new RangeError(`Cannot use ${what}: it must have 1 to ${most} bytes of UTF-8, not ${bytes}`);
  }
}

/** Reads an instant. @throws {TypeError | RangeError} */
export function instantOf(name: string, value: unknown): number {
  if (!(value instanceof Date) || Number.isNaN(value.getTime())) {
    throw new TypeError(`Cannot use ${name}: it must be a valid Date`);
  }
  // Postgres and SQLite agree up to here; beyond it ISO 8601 needs a sign.
  if (value.getTime() < 0 || value.getTime() >= Date.UTC(10_000, 0)) {
    throw new RangeError(`Cannot use ${name}: it must lie between the years 1970 and 9999`);
  }
  return value.getTime();
}

/** Reads the id of a message. @throws {TypeError} */
export function idOf(value: unknown): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 1) {
    throw new TypeError("Cannot use the id of a message: it must be a positive whole number");
  }
  return value;
}
