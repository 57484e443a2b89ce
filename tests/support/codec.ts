/** Values for the tests of the codec, and what can be told apart about them. */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { decodeValue, encodeValue } from "../../src/codec.ts";

/** Any UTF-16 unit, so that lone surrogates and U+0000 occur; the first ones often. */
export const wildText = fc.string({
  unit: fc.oneof(fc.constantFrom("a", "é", "😀", "\0", "\ud800", "\udc00", "\\", '"$pgqrs":'), fc.string()),
  maxLength: 6,
});
/** Keys that could be taken for something else, often. */
export const wildKey = fc.oneof(wildText, fc.constantFrom("__proto__", "$pgqrs", "toJSON", "constructor", "7"));

const bytes = fc.uint8Array({ maxLength: 20 });
const leaf = fc.oneof(
  wildText,
  fc.double(),
  fc.bigInt(),
  fc.constantFrom<unknown>(undefined, null, true, NaN, -0, Infinity, -Infinity, /a\/\0\n/gi, new RegExp("")),
  fc.date({ noInvalidDate: false }),
  bytes,
  bytes.map((part) => part.slice().buffer),
  bytes.map((part) => new DataView(part.buffer, Math.min(1, part.byteLength))),
  fc.float32Array(),
  fc.bigInt64Array(),
  fc.webUrl().map((url) => new URL(url)),
);
/** Everything that can be stored, with errors. */
export const anyValue = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    leaf,
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(wildKey, tie("value"), { maxKeys: 4, noNullPrototype: true }),
    fc.array(fc.tuple(tie("value"), tie("value")), { maxLength: 3 }).map((entries) => new Map(entries)),
    fc.array(tie("value"), { maxLength: 3 }).map((values) => new Set(values)),
    fc.tuple(wildText, tie("value"), fc.dictionary(wildKey, tie("value"), { maxKeys: 2, noNullPrototype: true }))
      .map(([message, cause, fields]) => withFields(new RangeError(message, { cause }), fields)),
  ),
})).value;

/** Gives an error own enumerable properties, whatever their names. */
export function withFields(error: Error, fields: object): Error {
  for (const [key, value] of Object.entries(fields)) {
    Object.defineProperty(error, key, { value, enumerable: true, configurable: true, writable: true });
  }
  return error;
}

/** Counts the bytes of a text in UTF-8. */
export function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** What can be told apart about a value, as a list in which only primitives differ. Errors without what they may lose. */
export function facts(value: unknown): unknown[] {
  if (typeof value !== "object" || value === null) return [Object.is(value, -0) ? "-0" : value];
  const kind: unknown = Object.prototype.toString.call(value);
  const prototype = Object.getPrototypeOf(value)?.constructor?.name;
  if (value instanceof Date) return [kind, prototype, value.getTime()];
  if (value instanceof RegExp || value instanceof URL) return [kind, prototype, String(value)];
  if (value instanceof Map) return [kind, prototype, [...value].map((entry) => entry.map(facts))];
  if (value instanceof Set) return [kind, prototype, [...value].map(facts)];
  if (value instanceof ArrayBuffer) return [kind, prototype, [...new Uint8Array(value)]];
  if (ArrayBuffer.isView(value)) {
    return [kind, prototype, [...new Uint8Array(value.buffer, value.byteOffset, value.byteLength)]];
  }
  const keys: string[] = value instanceof Error ? ["name", "message", "stack", "cause", "errors"] : [];
  const members = [...new Set([...keys, ...Object.keys(value)])]
    .map((key) => [key, Object.hasOwn(value, key), facts(Reflect.get(value, key))]);
  return [kind, value instanceof Error ? "" : prototype, members.filter((member) => member[0] !== "message")];
}

/** Writes and reads a value, and checks that what was read has the same text. */
export function stored(value: unknown): unknown {
  const text = encodeValue(value);
  const read = decodeValue(text);
  assertEquals(encodeValue(read), text);
  assert(text.isWellFormed() && !text.includes("\0") && !text.includes("\\u0000") && !/\\ud[89a-f]/i.test(text), text);
  return read;
}
