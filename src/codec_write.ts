/**
 * The writing half of the codec: the walk over a value that JSON alone cannot represent. What becomes what stands in
 * `codec.ts`.
 *
 * @module
 */
import { toBase64 } from "./base64.ts";
import { builtinName, className, getter, isForeign, isRawJson, isRoot, VIEWS } from "./codec_class.ts";
import { isError, readParts } from "./codec_error.ts";
import type { JsonLimits } from "./json.ts";

/** The key of every object that stands for something else. */
export const TAG = "$pgqrs";
/** The text of a value that most steps have. */
export const UNDEFINED = tagged("undefined");

/** The largest depth of a text: the JSON functions of SQLite refuse one that is nested deeper. */
const DEPTH_CAP = 1_000;
/** How many brackets a tag puts around a value at most, besides the one that every container has. */
const TAG_DEPTH = 3;
/** How many characters of a key and of a whole path a message shows. */
const SHOWN_KEY = 40;
const SHOWN_PATH = 240;

const encoder = new TextEncoder();

/** One walk over a value. */
interface Walk {
  readonly what: string;
  readonly maxBytes: number;
  readonly maxDepth: number;
  /** How many bytes the text may still have; what is taken off for a value is never more than its text has. */
  left: number;
  /** How much deeper the text is nested here than the value, because of tags. */
  tagDepth: number;
  /** The way to the value that is looked at. */
  readonly path: (string | number)[];
  /** The containers along the way. */
  readonly open: Set<object>;
  /** Why the walk has ended; anything else that is thrown comes out of a proxy. */
  refusal?: Error;
}

/** Writes a value of which some part needs a tag; see `encodeValue`. */
export function encodeTagged(value: unknown, limits: JsonLimits): string {
  const { maxBytes = 1_048_576, maxDepth = 64, what = "payload" } = limits;
  const depth = Math.min(maxDepth, DEPTH_CAP);
  const walk: Walk = { what, maxBytes, maxDepth: depth, left: maxBytes, tagDepth: 0, path: [], open: new Set() };
  let text: string;
  try {
    text = write(value, walk);
  } catch (error) {
    if (error === walk.refusal) throw error;
    throw refuse(walk, "an object that cannot be read");
  }
  const bytes = text.length * 3 > maxBytes ? encoder.encode(text).length : 0;
  if (bytes > maxBytes) throw outOfLimits(walk, `has ${bytes} bytes, the limit is ${maxBytes}`);
  return text;
}

function write(value: unknown, walk: Walk): string {
  switch (typeof value) {
    case "string":
      return spend(stringText(value), walk);
    case "number":
      return spend(numberText(value), walk);
    case "boolean":
      return spend(`${value}`, walk);
    case "bigint":
      return spend(tagged("bigint", `"${value}"`), walk);
    case "undefined":
      return spend(UNDEFINED, walk);
    case "object":
      return value === null ? spend("null", walk) : writeContainer(value, walk);
    default:
      throw refuse(walk, `a ${typeof value}`);
  }
}

/** Without this end, a few dozen arrays that hold one another twice would be walked for ever. */
function spend(text: string, walk: Walk): string {
  walk.left -= text.length;
  if (walk.left >= 0) return text;
  throw outOfLimits(walk, `has at least ${walk.maxBytes - walk.left} bytes, the limit is ${walk.maxBytes}`);
}

function stringText(value: string): string {
  const text = JSON.stringify(value);
  // Lone surrogates and U+0000 are written as \uXXXX, so a text without it needs no second look.
  if (!text.includes("\\u") || !isWild(value)) return text;
  const bytes = new Uint8Array(value.length * 2);
  for (let index = 0; index < value.length; index++) {
    const unit = value.charCodeAt(index);
    bytes[index * 2] = unit & 0xff;
    bytes[index * 2 + 1] = unit >> 8;
  }
  return tagged("string", `"${toBase64(bytes)}"`);
}

function isWild(text: string): boolean {
  return !text.isWellFormed() || text.includes("\0");
}

function numberText(value: number): string {
  if (Object.is(value, -0)) return tagged("number", '"-0"');
  return Number.isFinite(value) ? `${value}` : tagged("number", `"${value}"`);
}

function tagged(name: string, ...parts: string[]): string {
  return `{"${TAG}":[${[`"${name}"`, ...parts].join(",")}]}`;
}

function writeContainer(value: object, walk: Walk): string {
  if (walk.open.has(value)) throw refuse(walk, "a cycle");
  if (walk.open.size >= walk.maxDepth) throw outOfLimits(walk, `is nested deeper than ${walk.maxDepth} levels`);
  if (walk.open.size + walk.tagDepth >= DEPTH_CAP) throw outOfLimits(walk, `is nested deeper than ${DEPTH_CAP} levels`);
  walk.open.add(value);
  const text = writeObject(value, walk);
  walk.open.delete(value);
  return text;
}

function writeObject(value: object, walk: Walk): string {
  const prototype: unknown = Object.getPrototypeOf(value);
  if (Array.isArray(value)) {
    if (prototype === Array.prototype || isForeign(prototype, "Array")) return writeArray(value, walk);
  } else if (prototype === null || prototype === Object.prototype || isRoot(prototype)) {
    if (!isRawJson(value)) return writePlain(value, walk);
    throw refuse(walk, "a JSON.rawJSON object");
  } else {
    const writer = writers.get(builtinName(prototype));
    if (writer !== undefined || isError(value)) {
      walk.tagDepth += TAG_DEPTH;
      const text = writer?.(value, walk) ?? writeError(value, walk);
      walk.tagDepth -= TAG_DEPTH;
      return text;
    }
  }
  throw refuse(walk, `an instance of ${className(prototype) ?? "a class"}`);
}

function writeArray(value: readonly unknown[], walk: Walk): string {
  const texts: string[] = [];
  for (let index = 0; index < value.length; index++) texts.push(writeMember(value, index, walk));
  const keys = Reflect.ownKeys(value);
  if (keys.some((key) => typeof key === "symbol")) throw refuse(walk, "an object with a symbol key");
  // The keys of an array are its indices, "length", and what somebody hung on it.
  if (keys.length !== texts.length + 1) throw refuse(walk, "an array with a property besides its elements");
  return `[${texts.join(",")}]`;
}

function writePlain(value: object, walk: Walk): string {
  const keys = Reflect.ownKeys(value);
  if (keys.every((key) => typeof key === "string")) return writeMembers(value, keys, walk);
  throw refuse(walk, "an object with a symbol key");
}

/** Writes properties as an object, or as a list of pairs if one of the keys could be taken for something else. */
function writeMembers(value: object, keys: readonly string[], walk: Walk): string {
  const isEscaped = keys.some((key) => key === TAG || key === "__proto__" || isWild(key));
  if (!isEscaped) {
    const texts = keys.map((key) => `${spend(JSON.stringify(key), walk)}:${writeMember(value, key, walk)}`);
    return `{${texts.join(",")}}`;
  }
  walk.tagDepth += TAG_DEPTH;
  const pairs = keys.map((key) => `[${spend(stringText(key), walk)},${writeMember(value, key, walk)}]`);
  walk.tagDepth -= TAG_DEPTH;
  return tagged("Object", `[${pairs.join(",")}]`);
}

function writeMember(value: object, key: string | number, walk: Walk, isHidden = false): string {
  walk.path.push(key);
  const member = Reflect.getOwnPropertyDescriptor(value, key);
  if (member === undefined) throw refuse(walk, "an array hole");
  if (!("value" in member)) throw refuse(walk, "a getter or setter");
  if (!member.enumerable && !isHidden) throw refuse(walk, "a property that is not enumerable");
  const text = write(member.value, walk);
  walk.path.pop();
  return text;
}

function writeError(error: object, walk: Walk): string {
  const parts = readParts(error);
  const texts = [`"${TAG}":["${parts.kind}"]`, `"name":${stringText(parts.name)}`];
  texts.push(`"message":${spend(stringText(parts.message ?? ""), walk)}`);
  if (parts.stack !== undefined) texts.push(`"stack":${spend(stringText(parts.stack), walk)}`);
  for (const key of parts.hidden) texts.push(`"${key}":${writeMember(error, key, walk, true)}`);
  if (parts.fields.length > 0) texts.push(`"fields":${writeMembers(error, parts.fields, walk)}`);
  return `{${texts.join(",")}}`;
}

/** Writes a value of a class of the language. What is read through a slot of the class throws for an impostor. */
type Writer = (value: object, walk: Walk) => string;

const typedArray: unknown = Object.getPrototypeOf(Uint8Array.prototype);
const sourceOf = getter(RegExp.prototype, "source");
const flagsOf = getter(RegExp.prototype, "flags");
const hrefOf = getter(URL.prototype, "href");
const kindOfView = getter(typedArray, Symbol.toStringTag);
const writers: ReadonlyMap<string | undefined, Writer> = new Map<string, Writer>([
  ["Date", writeDate],
  ["Map", writeMap],
  ["Set", writeSet],
  ["RegExp", writeRegExp],
  ["URL", writeUrl],
  ["ArrayBuffer", writeBuffer],
  ["DataView", (value, walk) => writeView("DataView", DataView.prototype, value, walk)],
  ...VIEWS.map((name): [string, Writer] => [name, (value, walk) => writeTypedArray(name, value, walk)]),
]);
function writeDate(value: object, walk: Walk): string {
  refuseExtras(value, "Date", walk);
  const isInvalid = Number.isNaN(Date.prototype.getTime.call(value));
  return spend(tagged("Date", isInvalid ? "null" : `"${Date.prototype.toISOString.call(value)}"`), walk);
}

function writeMap(value: object, walk: Walk): string {
  refuseExtras(value, "Map", walk);
  const texts: string[] = [];
  for (const entry of Map.prototype.entries.call(value)) {
    walk.path.push(texts.length);
    texts.push(writeArray(entry, walk));
    walk.path.pop();
  }
  return tagged("Map", `[${texts.join(",")}]`);
}

function writeSet(value: object, walk: Walk): string {
  refuseExtras(value, "Set", walk);
  return tagged("Set", writeArray([...Set.prototype.values.call(value)], walk));
}

function writeRegExp(value: object, walk: Walk): string {
  refuseExtras(value, "RegExp", walk, ["lastIndex"]);
  return spend(tagged("RegExp", stringText(`${sourceOf(value)}`), `"${flagsOf(value)}"`), walk);
}

function writeUrl(value: object, walk: Walk): string {
  refuseExtras(value, "URL", walk);
  return spend(tagged("URL", stringText(`${hrefOf(value)}`)), walk);
}

function writeBuffer(value: object, walk: Walk): string {
  refuseExtras(value, "ArrayBuffer", walk);
  // A typed array takes anything; only a real buffer can be sliced.
  const empty = ArrayBuffer.prototype.slice.call(value, 0, 0);
  return writeBytes("ArrayBuffer", empty && new Uint8Array(value as ArrayBuffer), walk);
}

function writeTypedArray(name: string, value: object, walk: Walk): string {
  if (kindOfView(value) === name) return writeView(name, typedArray, value, walk);
  throw refuse(walk, `no real ${name}`);
}

/** Reads a view by the getters of its class. What was hung on it is not looked for: it may have millions of keys. */
function writeView(name: string, prototype: unknown, value: object, walk: Walk): string {
  const [buffer, offset, length] = ["buffer", "byteOffset", "byteLength"].map((key) => getter(prototype, key)(value));
  return writeBytes(name, new Uint8Array(buffer as ArrayBuffer, Number(offset), Number(length)), walk);
}

function writeBytes(name: string, bytes: Uint8Array<ArrayBuffer>, walk: Walk): string {
  const size = Math.ceil(bytes.length / 3) * 4;
  // What cannot fit is not even written.
  if (size > walk.left) throw outOfLimits(walk, `has at least ${size} bytes, the limit is ${walk.maxBytes}`);
  return spend(tagged(name, `"${toBase64(bytes)}"`), walk);
}

function refuseExtras(value: object, name: string, walk: Walk, usual: readonly string[] = []): void {
  const extra = Object.getOwnPropertyNames(value).find((key) => !usual.includes(key));
  if (extra !== undefined) throw refuse(walk, `a ${name} with a property of its own`);
}

function refuse(walk: Walk, reason: string): Error {
  walk.refusal = new TypeError(`Cannot store ${pathText(walk)} as JSON: it is ${reason}`);
  return walk.refusal;
}

function outOfLimits(walk: Walk, reason: string): Error {
  walk.refusal = new RangeError(`Cannot store ${walk.what} as JSON: it ${reason}`);
  return walk.refusal;
}

function pathText({ what, path }: Walk): string {
  const text = what + path.map(stepText).join("");
  if (text.length <= SHOWN_PATH) return text;
  return `${text.slice(0, SHOWN_PATH / 2)}…${text.slice(-SHOWN_PATH / 2)}`.toWellFormed();
}

function stepText(key: string | number): string {
  if (typeof key === "number") return `[${key}]`;
  if (key.length > SHOWN_KEY) return `[${JSON.stringify(`${key.slice(0, SHOWN_KEY)}…`)}]`;
  return /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}
