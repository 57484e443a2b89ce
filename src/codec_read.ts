/**
 * The reading half of the codec: what the tags of `codec_write.ts` become again.
 *
 * @module
 */
import { fromBase64 } from "./base64.ts";
import { VIEWS } from "./codec_class.ts";
import { define, isErrorKind, isHiddenKey, makeError } from "./codec_error.ts";
import { TAG } from "./codec_write.ts";

/** Deeper than anything that is written, and far from the end of the stack. */
const DEPTH_CAP = 1_000;
/** How many UTF-16 units become a text in one call. */
const CHUNK = 8_192;

// Taken when the module is loaded, so that nothing which is put in their place later is ever called.
const { DataView, Date, Map, RegExp, Set, Uint16Array, URL } = globalThis;

/** Makes a value out of what a tag carries; whatever it throws means that it cannot be read. */
type Reader = (part: unknown, flags: unknown) => unknown;

const readers: ReadonlyMap<string, Reader> = new Map<string, Reader>([
  ["undefined", () => undefined],
  ["number", readNumber],
  ["bigint", readBigint],
  ["string", readString],
  ["Date", readDate],
  ["Map", (part) => new Map(listOf(part).map(pairOf))],
  ["Set", (part) => new Set(listOf(part))],
  ["RegExp", (source, flags) => new RegExp(textOf(source), textOf(flags))],
  ["URL", (part) => new URL(textOf(part))],
  ["Object", readObject],
  ["ArrayBuffer", (part) => bytesOf(part).buffer],
  ["DataView", (part) => new DataView(bytesOf(part).buffer)],
  ...VIEWS.flatMap((name): [string, Reader][] => {
    // Node has no Float16Array before 24.
    const View = Reflect.get(globalThis, name) as (new (buffer: ArrayBuffer) => unknown) | undefined;
    return View === undefined ? [] : [[name, (part) => new View(bytesOf(part).buffer)]];
  }),
]);

/** Puts what tags stand for in their place, in a value that JSON has just made and nobody else has. */
export function revive(value: unknown, depth = 0): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (depth > DEPTH_CAP) throw unreadable("it is nested too deeply");
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) value[index] = revive(value[index], depth + 1);
    return value;
  }
  if (Object.hasOwn(value, TAG)) return untag(value, depth);
  for (const key of Object.keys(value)) {
    const member: unknown = Reflect.get(value, key);
    const revived = revive(member, depth + 1);
    // It is there already, so that even the key `__proto__` is only given another value.
    if (revived !== member) Reflect.set(value, key, revived);
  }
  return value;
}

function untag(value: object, depth: number): unknown {
  const tag: unknown = Reflect.get(value, TAG);
  const [name, ...parts]: unknown[] = Array.isArray(tag) ? tag : [];
  if (typeof name !== "string" || (!readers.has(name) && !isErrorKind(name))) throw unreadable("it has an unknown tag");
  const revived = parts.map((part) => revive(part, depth + 1));
  const members = Object.entries(value).filter(([key]) => key !== TAG)
    .map(([key, member]): [string, unknown] => [key, revive(member, depth + 1)]);
  try {
    const reader = readers.get(name);
    if (reader === undefined) return readError(name, members);
    if (members.length > 0) throw new TypeError("A member beside the tag");
    return reader(revived[0], revived[1]);
  } catch {
    // The engine's own messages quote what they cannot read.
    throw unreadable(`it has the tag ${name} with something that is none`);
  }
}

function unreadable(reason: string): SyntaxError {
  return new SyntaxError(`Cannot read a stored value: ${reason}`);
}

function readNumber(part: unknown): number {
  const text = textOf(part);
  if (!["NaN", "Infinity", "-Infinity", "-0"].includes(text)) throw new TypeError("A number that needs no tag");
  return Number(text);
}

function readBigint(part: unknown): bigint {
  const text = textOf(part);
  // BigInt() also takes blanks, hexadecimal digits and nothing at all.
  if (!/^-?\d+$/.test(text)) throw new TypeError("No digits");
  return BigInt(text);
}

function readString(part: unknown): string {
  const bytes = bytesOf(part);
  if (bytes.length % 2 > 0) throw new TypeError("Half a unit");
  const units = new Uint16Array(bytes.length / 2);
  for (let index = 0; index < units.length; index++) units[index] = bytes[index * 2]! | (bytes[index * 2 + 1]! << 8);
  let text = "";
  for (let start = 0; start < units.length; start += CHUNK) {
    text += String.fromCharCode(...units.subarray(start, start + CHUNK));
  }
  return text;
}

function readDate(part: unknown): Date {
  if (part === null) return new Date(NaN);
  const date = new Date(textOf(part));
  if (Number.isNaN(date.getTime())) throw new TypeError("No instant");
  return date;
}

function readObject(part: unknown): object {
  const value = {};
  for (const [key, member] of listOf(part).map(pairOf)) define(value, textOf(key), member, true);
  return value;
}

function readError(kind: string, members: readonly [string, unknown][]): Error {
  const given = new Map(members);
  const textIn = (key: string) => given.has(key) ? textOf(given.get(key)) : undefined;
  const fields: unknown = given.get("fields") ?? {};
  if (Object.getPrototypeOf(fields) !== Object.prototype) throw new TypeError("No object");
  for (const key of given.keys()) {
    if (!isHiddenKey(key) && !["name", "message", "stack", "fields"].includes(key)) {
      throw new TypeError("No such member");
    }
  }
  return makeError(kind, {
    name: textIn("name"),
    message: textIn("message"),
    stack: textIn("stack"),
    hidden: members.filter(([key]) => isHiddenKey(key)),
    fields: Object.entries(fields as object),
  });
}

function textOf(part: unknown): string {
  if (typeof part !== "string") throw new TypeError("No text");
  return part;
}

function listOf(part: unknown): readonly unknown[] {
  if (!Array.isArray(part)) throw new TypeError("No list");
  return part;
}

function pairOf(part: unknown): readonly [unknown, unknown] {
  const [key, value, ...others] = listOf(part);
  if (listOf(part).length !== 2 || others.length > 0) throw new TypeError("No pair");
  return [key, value];
}

function bytesOf(part: unknown): Uint8Array<ArrayBuffer> {
  return fromBase64(textOf(part));
}
