/** JSON as somebody has typed or piped it: nothing of it may become something else on the way. */
import { UsageError } from "./command.ts";

const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** Reads a JSON text. @throws {UsageError} when it is none, or has a number that would be stored as another one. */
export function readJson(what: string, text: string, hint = ""): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new UsageError(`${what} is not JSON${hint}`);
  }
  const changed = changedNumber(text);
  if (changed === undefined) return value;
  throw new UsageError(
    `${what} has the number ${changed}, which would be stored as ${Number(changed)}: write it as a text`,
  );
}

/** Whether a text is JSON, whatever its numbers are. */
export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** A number that a double does not hold: a whole one beyond 2^53 that would be rounded, or one that would be infinite. */
function changedNumber(text: string): string | undefined {
  if (!/\d{16}|[eE]\+?\d{3}/.test(text)) return undefined;
  const bare = text.replace(/"(?:[^"\\]|\\.)*"/g, '""');
  for (const [number] of bare.matchAll(NUMBER)) {
    const value = Number(number);
    if (!Number.isFinite(value)) return shorten(number);
    if (/^-?\d+$/.test(number) && BigInt(number) !== BigInt(value)) return shorten(number);
  }
  return undefined;
}

function shorten(number: string): string {
  return number.length > 40 ? `${number.slice(0, 40)}…` : number;
}
