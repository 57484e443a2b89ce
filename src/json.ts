/**
 * What may be stored, and its exact text.
 *
 * A value is stored only if JSON can represent it exactly: what is read back equals what was given, on every backend.
 * `JSON.stringify` alone drops `undefined` and functions, turns `NaN` into `null` and a `Date` into a string, and lets
 * lone surrogates and U+0000 through to a database that refuses them in the middle of a batch. So a value is walked
 * first and refused with the path of the first thing that would be lost; only then does `JSON.stringify` see it.
 *
 * @module
 */

/** The largest depth that any limit allows: the JSON functions of SQLite refuse a text that is nested deeper. */
const DEPTH_CAP = 1_000;
/** How many characters of a key or of a whole path a message shows. */
const SHOWN_KEY = 40;
const SHOWN_PATH = 240;
/** A canonical text may be longer than any payload, but not so long that the engine runs out of string. */
const CANONICAL_CAP = 2 ** 28;
/** The bounds of a stored error: errors in a chain, in a list and in all, bytes of one text and of the whole. */
const ERROR_LIMITS = { depth: 5, list: 5, count: 16, text: 4_096, size: 16_384 } as const;
const UNREADABLE = "a proxy that cannot be read";

const encoder = new TextEncoder();

/** How large and how deep a value may be, and what messages call it. */
export interface JsonLimits {
  /**
   * The largest text in bytes of UTF-8; a text of just this size is accepted.
   *
   * @default {1_048_576}
   */
  readonly maxBytes?: number;
  /**
   * How many arrays and objects may stand inside one another, the outermost counted; at most 1 000.
   *
   * @default {64}
   */
  readonly maxDepth?: number;
  /**
   * The name of the value in messages, with which the path begins.
   *
   * @default {"payload"}
   */
  readonly what?: string;
}

/** One walk over a value: how much of its limits is left, and how closely it looks. */
interface Walk {
  /** How many bytes the text may still have; what is taken off for a value is never more than its text has. */
  left: number;
  readonly maxDepth: number;
  /** Whether the characters of strings and keys are looked at: seldom needed, see {@linkcode encodeJson}. */
  readonly isStrict: boolean;
}

/** Why a value is refused. The path and the containers along it are added on the way back, innermost first. */
interface Fault {
  /** What the value is that JSON cannot represent, or which limit it exceeds. */
  readonly reason: string;
  readonly isLimit: boolean;
  readonly path: (string | number)[];
  readonly containers: object[];
}

/**
 * Writes a value as JSON text that reads back as the same value.
 *
 * Accepts null, booleans, strings, finite numbers, and plain objects and dense arrays of them; one object may occur in
 * several places. Getters are never called. Messages hold paths and types, never a value.
 *
 * @param value The value to write.
 * @param limits How large and how deep the value may be.
 * @throws {TypeError} If a part of the value cannot be represented exactly, or the value contains itself.
 * @throws {RangeError} If the value is nested too deeply or its text is too long.
 */
export function encodeJson(value: unknown, limits: JsonLimits = {}): string {
  const { maxBytes = 1_048_576, maxDepth = 64, what = "payload" } = limits;
  refuse(value, { left: maxBytes, maxDepth, isStrict: false }, what);
  const text = stringify(value, what);
  // Lone surrogates and U+0000 are written as \uXXXX, so a text without it needs no second walk over its strings.
  if (text.includes("\\u")) refuse(value, { left: maxBytes, maxDepth, isStrict: true }, what);
  // One UTF-16 unit takes one to three bytes, so almost every text is known to fit without being encoded.
  if (text.length * 3 > maxBytes) {
    const bytes = encoder.encode(text).length;
    if (bytes > maxBytes) {
      throw new RangeError(`Cannot store ${what} as JSON: it has ${bytes} bytes, the limit is ${maxBytes}`);
    }
  }
  return text;
}

/**
 * Reads a stored JSON text. A key `__proto__` becomes an ordinary property and sets no prototype.
 *
 * @throws {SyntaxError} If the text is not JSON; the message does not quote it.
 */
export function decodeJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The engine's own message quotes the text, which may be a payload.
    throw new SyntaxError(`Cannot read stored JSON: ${text.length} characters that are not JSON`);
  }
}

/**
 * Writes a value as JSON text with the keys of every object in the order of their UTF-16 code units (RFC 8785), so that
 * equal values have equal texts.
 *
 * @throws {TypeError} If a part of the value cannot be represented exactly.
 * @throws {RangeError} If the value is nested deeper than 1 000 levels or has more than 256 MiB.
 */
export function canonicalJson(value: unknown): string {
  refuse(value, { left: CANONICAL_CAP, maxDepth: DEPTH_CAP, isStrict: true }, "payload");
  return sortedText(value);
}

/**
 * Hashes the canonical text of a value, so that equal values have equal hashes whatever the order of their keys.
 *
 * @returns SHA-256 in 64 hexadecimal digits.
 * @throws {TypeError} If a part of the value cannot be represented exactly.
 * @throws {RangeError} If the value is nested deeper than 1 000 levels or has more than 256 MiB.
 */
export async function hashPayload(value: unknown): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", encoder.encode(canonicalJson(value)));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An error as it is stored: what is left of an `Error` when its class and its other properties are gone. */
export interface StoredError {
  /** The name of the error, as `TypeError`; `Error` for a thrown value that is none. */
  readonly name: string;
  /** What the error said, at most 4 kB. */
  readonly message: string;
  /** Where it was thrown, at most 4 kB. */
  readonly stack?: string;
  /** The error's own code, as `ECONNREFUSED` or `23505`; a number is written as text. */
  readonly code?: string;
  /** The error that caused this one, at most five in a chain. */
  readonly cause?: StoredError;
  /** The first five errors of an `AggregateError`. */
  readonly errors?: readonly StoredError[];
}

/**
 * Writes whatever was thrown as the JSON text of a {@linkcode StoredError} of at most 16 kB.
 *
 * Never throws. A lone surrogate and U+0000 become U+FFFD; what is cut off ends in "…".
 */
export function encodeError(error: unknown): string {
  const stored = readError(error, { depth: ERROR_LIMITS.depth, left: ERROR_LIMITS.count });
  let text = JSON.stringify(stored);
  // Control characters grow sixfold when they are escaped; with 32 bytes a text even sixteen errors of them fit.
  for (let limit = ERROR_LIMITS.text / 2; encoder.encode(text).length > ERROR_LIMITS.size; limit /= 2) {
    text = JSON.stringify(stored, (_key, item) => typeof item === "string" ? clipText(item, limit) : item);
  }
  return text;
}

/** How deep below an error others are still read, and how many in all. */
interface ErrorScope {
  readonly depth: number;
  left: number;
}

function readError(error: unknown, scope: ErrorScope): StoredError {
  scope.left -= 1;
  if (typeof error === "function") return { name: "Error", message: "A function was thrown" };
  if (typeof error !== "object" || error === null) {
    return { name: "Error", message: clipText(String(error), ERROR_LIMITS.text) };
  }
  const name = readText(error, "name") || "Error";
  const message = readText(error, "message") ?? "An object without a message was thrown";
  const stored: { -readonly [Key in keyof StoredError]: StoredError[Key] } = { name, message };
  const stack = readText(error, "stack");
  const code = readText(error, "code");
  if (stack !== undefined) stored.stack = stack;
  if (code !== undefined) stored.code = code;
  if (scope.depth <= 1) return stored;
  const [cause] = readErrors([readProperty(error, "cause")], scope);
  const errors = readErrors(readProperty(error, "errors"), scope);
  if (cause !== undefined) stored.cause = cause;
  if (errors.length > 0) stored.errors = errors;
  return stored;
}

function readErrors(list: unknown, scope: ErrorScope): StoredError[] {
  const found: StoredError[] = [];
  for (let index = 0; index < ERROR_LIMITS.list; index++) {
    const error = readProperty(list, index);
    if (error === undefined || error === null || scope.left <= 0) break;
    const inner = { depth: scope.depth - 1, left: scope.left };
    found.push(readError(error, inner));
    scope.left = inner.left;
  }
  return found;
}

function readText(error: object, key: string): string | undefined {
  const value = readProperty(error, key);
  if (typeof value === "number") return String(value);
  return typeof value === "string" ? clipText(value, ERROR_LIMITS.text) : undefined;
}

/** Reads a property of something that may be no object, or one whose getters and traps throw. */
function readProperty(value: unknown, key: string | number): unknown {
  try {
    return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
  } catch {
    return undefined;
  }
}

/** Makes a text storable and cuts it to a number of bytes, at a boundary between characters. */
function clipText(text: string, maxBytes: number): string {
  const head = text.slice(0, maxBytes + 1).toWellFormed().replaceAll("\0", "\uFFFD");
  const { read } = encoder.encodeInto(head, new Uint8Array(maxBytes));
  if (read === head.length) return head;
  return `${head.slice(0, encoder.encodeInto(head, new Uint8Array(maxBytes - 3)).read)}…`;
}

function sortedText(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(sortedText).join(",")}]`;
  const members = Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1);
  return `{${members.map(([key, item]) => `${JSON.stringify(key)}:${sortedText(item)}`).join(",")}}`;
}

function stringify(value: unknown, what: string): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // Only a proxy that answers differently the second time comes here.
  }
  if (text !== undefined) return text;
  throw new TypeError(`Cannot store ${what} as JSON: it changed while it was read`);
}

function refuse(value: unknown, walk: Walk, what: string): void {
  const maxBytes = walk.left;
  const fault = inspect(value, 0, walk);
  if (fault !== undefined) {
    throw faultError(fault, what, `at least ${maxBytes - walk.left} bytes, the limit is ${maxBytes}`);
  }
  // Array.prototype inherits from Object.prototype, so one look covers both.
  if ("toJSON" in Array.prototype) {
    throw new TypeError(`Cannot store ${what} as JSON: Object.prototype or Array.prototype has a toJSON method`);
  }
}

function inspect(value: unknown, depth: number, walk: Walk): Fault | undefined {
  switch (typeof value) {
    case "string":
      walk.left -= value.length + 2;
      return walk.isStrict ? inspectText(value, "a string") : undefined;
    case "number":
      walk.left -= 1;
      if (!Number.isFinite(value)) return newFault(`${value}`);
      return Object.is(value, -0) ? newFault("-0") : undefined;
    case "boolean":
      walk.left -= 4;
      return undefined;
    case "object":
      if (value !== null) return inspectContainer(value, depth, walk);
      walk.left -= 4;
      return undefined;
    default:
      return newFault(value === undefined ? "undefined" : `a ${typeof value}`);
  }
}

function inspectContainer(value: object, depth: number, walk: Walk): Fault | undefined {
  const maxDepth = Math.min(walk.maxDepth, DEPTH_CAP);
  const isDeep = depth >= maxDepth;
  const fault = isDeep ? newFault(`nested deeper than ${maxDepth} levels`, true) : inspectParts(value, depth, walk);
  fault?.containers.push(value);
  return fault;
}

function inspectParts(value: object, depth: number, walk: Walk): Fault | undefined {
  let names: readonly string[];
  let length: number | undefined;
  try {
    const fault = inspectShape(value);
    if (fault !== undefined) return fault;
    names = Object.getOwnPropertyNames(value);
    length = Array.isArray(value) ? value.length : undefined;
  } catch {
    return newFault(UNREADABLE);
  }
  walk.left -= 2;
  for (let index = 0; index < (length ?? names.length); index++) {
    const fault = inspectMember(value, length === undefined ? names[index]! : index, depth, walk);
    if (fault !== undefined) return fault;
  }
  // An array's names are its indices, "length", and what somebody hung on it.
  if (length === undefined || names.length === length + 1) return undefined;
  return newFault("an array with a property besides its elements");
}

/** Looks at one property. Getters are not called, so only the trap of a proxy can throw. */
function inspectMember(value: object, key: string | number, depth: number, walk: Walk): Fault | undefined {
  let fault: Fault | undefined;
  try {
    const member = Object.getOwnPropertyDescriptor(value, key);
    fault = inspectKey(key, member, walk) ?? inspect(member!.value, depth + 1, walk);
  } catch {
    fault = newFault(UNREADABLE);
  }
  // Without this end, a few dozen arrays that hold one another twice would be walked for ever.
  if (walk.left < 0) fault ??= newFault("", true);
  fault?.path.push(key);
  return fault;
}

function inspectKey(key: string | number, member: PropertyDescriptor | undefined, walk: Walk): Fault | undefined {
  if (member === undefined) return newFault("an array hole");
  if (!("value" in member)) return newFault("a getter or setter");
  if (!member.enumerable) return newFault("a property that is not enumerable");
  if (typeof key === "number") return undefined;
  walk.left -= key.length + 3;
  if (key === "__proto__") return newFault("a key that sets the prototype elsewhere");
  return walk.isStrict ? inspectText(key, "a key") : undefined;
}

function inspectShape(value: object): Fault | undefined {
  const prototype: unknown = Object.getPrototypeOf(value);
  const isArray = Array.isArray(value);
  if (prototype !== (isArray ? Array.prototype : Object.prototype)) {
    if (prototype === null && !isArray) {
      if (isRawJson(value)) return newFault("a JSON.rawJSON object");
    } else if (!isForeign(prototype, isArray)) {
      return newFault(`an instance of ${className(prototype) ?? "a class"}`);
    }
  }
  return Object.getOwnPropertySymbols(value).length > 0 ? newFault("an object with a symbol key") : undefined;
}

/** Tells the `Object.prototype` or `Array.prototype` of another realm, as test runners and `node:vm` have them. */
function isForeign(prototype: unknown, isArray: boolean): boolean {
  if (typeof prototype !== "object" || prototype === null) return false;
  if (Array.isArray(prototype) !== isArray || "toJSON" in prototype) return false;
  const root: unknown = isArray ? Object.getPrototypeOf(prototype) : prototype;
  return typeof root === "object" && root !== null && Object.getPrototypeOf(root) === null &&
    Object.hasOwn(root, "isPrototypeOf");
}

function isRawJson(value: object): boolean {
  const test: unknown = Reflect.get(JSON, "isRawJSON");
  return typeof test === "function" && test(value) === true;
}

function inspectText(text: string, noun: string): Fault | undefined {
  if (!text.isWellFormed()) return newFault(`${noun} with a lone surrogate`);
  return text.includes("\0") ? newFault(`${noun} with the character U+0000`) : undefined;
}

function newFault(reason: string, isLimit = false): Fault {
  return { reason, isLimit, path: [], containers: [] };
}

function className(prototype: unknown): string | undefined {
  const name: unknown = Object(Object(prototype).constructor).name;
  return typeof name === "string" && /^[\w$]{1,40}$/.test(name) ? name : undefined;
}

function faultError(fault: Fault, what: string, size: string): Error {
  const path = fault.path.toReversed();
  const containers = fault.containers.toReversed();
  if (!fault.isLimit) return new TypeError(`Cannot store ${pathText(what, path)} as JSON: it is ${fault.reason}`);
  // Nobody looks for cycles on the way down: one runs into a limit, with a container twice on the way there.
  const repeat = containers.findIndex((container, index) => containers.indexOf(container) < index);
  if (repeat >= 0) return new TypeError(`Cannot store ${pathText(what, path.slice(0, repeat))} as JSON: it is a cycle`);
  return new RangeError(`Cannot store ${what} as JSON: it ${fault.reason ? `is ${fault.reason}` : `has ${size}`}`);
}

function pathText(what: string, path: readonly (string | number)[]): string {
  const text = what + path.map(stepText).join("");
  if (text.length <= SHOWN_PATH) return text;
  return `${text.slice(0, SHOWN_PATH / 2)}…${text.slice(-SHOWN_PATH / 2)}`.toWellFormed();
}

function stepText(key: string | number): string {
  if (typeof key === "number") return `[${key}]`;
  if (key.length > SHOWN_KEY) return `[${JSON.stringify(`${key.slice(0, SHOWN_KEY)}…`)}]`;
  return /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}
