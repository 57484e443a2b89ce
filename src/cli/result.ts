/** What a program has printed, as the result of its message. */
import { NonRetryableError } from "../../mod.ts";

/** What the library stores as a result: so many bytes of JSON, and so many levels. */
const MOST_BYTES = 1_048_576;
const MOST_LEVELS = 64;

/**
 * The result of a program that has succeeded: JSON if it is that and can be stored exactly, else text.
 *
 * @throws {NonRetryableError} when it is too large: the work is done, so that another attempt would do it twice.
 */
export function resultOf(printed: string): unknown {
  const text = printed.replace(/\r?\n$/, "");
  if (text === "") return undefined;
  // No database stores U+0000.
  const result = asJson(text) ?? { value: text.replaceAll("\0", "\uFFFD") };
  if (new TextEncoder().encode(JSON.stringify(result.value)).length <= MOST_BYTES) return result.value;
  const error = new NonRetryableError(
    `exit code 0, but what it has printed is no result: it has more than ${MOST_BYTES} bytes`,
  );
  delete error.stack;
  throw error;
}

/** What a text means as JSON; nothing when it is none, or none that can be stored. */
function asJson(text: string): { readonly value: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isStorable(value, MOST_LEVELS) ? { value } : undefined;
  } catch {
    return undefined;
  }
}

function isStorable(value: unknown, levels: number): boolean {
  switch (typeof value) {
    case "string":
      return isText(value);
    case "number":
      // Of larger whole numbers the last digits are lost when they are read.
      return Number.isFinite(value) && !Object.is(value, -0) &&
        (!Number.isInteger(value) || Number.isSafeInteger(value));
    case "object":
      if (value === null) return true;
      return levels > 0 && Object.entries(value).every(([key, part]) => isText(key) && isStorable(part, levels - 1));
    default:
      return true;
  }
}

function isText(text: string): boolean {
  return text.isWellFormed() && !text.includes("\0");
}
