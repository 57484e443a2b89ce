/**
 * Errors as data: what is kept of one, how it is made again, and what is left out to keep it small.
 *
 * @module
 */

/** The bounds of a stored thrown value, as those of `encodeError`: errors in a chain, in a list, in all. */
const THROWN_LIMITS = { depth: 5, list: 5, count: 16, fieldDepth: 32 } as const;
/** What errors hold in own properties that are not enumerable, besides name, message and stack. */
const HIDDEN = ["cause", "errors", "error", "suppressed", "code"] as const;
const TEXTS: readonly string[] = ["name", "message", "stack"];

/** The classes that survive, taken when the module is loaded, so that data never reaches another constructor. */
const classes: ReadonlyMap<string, unknown> = new Map(
  [
    "Error",
    "AggregateError",
    "DOMException",
    "EvalError",
    "RangeError",
    "ReferenceError",
    "SuppressedError",
    "SyntaxError",
    "TypeError",
    "URIError",
  ].map((name) => [name, Reflect.get(globalThis, name)]),
);
const namesByPrototype: ReadonlyMap<unknown, string> = new Map(
  [...classes].filter(([, found]) => typeof found === "function").map(([name, found]) => [prototypeOf(found), name]),
);
const encoder = new TextEncoder();

/** What is kept of an error, still unchecked. */
export interface ErrorParts {
  /** The closest class of the language: that of a `class HttpError extends TypeError` is `TypeError`. */
  readonly kind: string;
  readonly name: string;
  readonly message?: string | undefined;
  readonly stack?: string | undefined;
  /** Which own properties that are not enumerable are kept. */
  readonly hidden: readonly string[];
  /** The own enumerable properties but those that are above. */
  readonly fields: readonly string[];
}

/** What an error is made of. */
export interface ErrorMembers {
  readonly name?: string | undefined;
  readonly message?: string | undefined;
  readonly stack?: string | undefined;
  /** Properties that become own and not enumerable. */
  readonly hidden: readonly (readonly [key: string, value: unknown])[];
  /** Properties that become own and enumerable. */
  readonly fields: readonly (readonly [key: string, value: unknown])[];
}

/** Whether a tag is the name of a class of errors. */
export function isErrorKind(name: string): boolean {
  return classes.has(name);
}

/** Whether an own property of this name is kept though it is not enumerable. */
export function isHiddenKey(name: string): boolean {
  return (HIDDEN as readonly string[]).includes(name);
}

/** Whether a value is an error, of this realm or another; never throws. */
export function isError(value: unknown): value is Error {
  try {
    const { isError = () => false } = Error as { isError?: (value: unknown) => boolean };
    return isError(value) || value instanceof Error;
  } catch {
    return false;
  }
}

/** Looks at an error. Its name, message and stack are the only properties whose getters are called. */
export function readParts(error: object): ErrorParts {
  const kind = kindOf(error);
  const [name, message, stack] = TEXTS.map((key) => readText(error, key));
  const texts = [name, message, stack];
  const keys = Object.keys(error);
  // A message that is no text is nothing special, and kept if it is enumerable. It comes last, because the engine gives
  // new errors a message and a stack before anything else.
  const odd = TEXTS.filter((key, index) => texts[index] === undefined && keys.includes(key));
  const fields = [...keys.filter((key) => !TEXTS.includes(key)), ...odd];
  const isHidden = (key: string) => Reflect.getOwnPropertyDescriptor(error, key)?.enumerable === false;
  return { kind, name: name ?? kind, message, stack, hidden: HIDDEN.filter(isHidden), fields };
}

/** Makes an error of a class of the language. Only the constructors of the language run, and no setter. */
export function makeError(kind: string, members: ErrorMembers): Error {
  const { name = kind, message, stack } = members;
  const found = classes.get(kind);
  const error = construct(typeof found === "function" ? kind : "Error", name, message);
  for (const key of HIDDEN) Reflect.deleteProperty(error, key);
  if (error.name !== name) define(error, "name", name, false);
  define(error, "stack", stack, false);
  for (const [key, value] of members.hidden) define(error, key, value, false);
  for (const [key, value] of members.fields) define(error, key, value, true);
  return error;
}

function construct(kind: string, name: string, message: string | undefined): Error {
  switch (kind) {
    case "AggregateError":
      return Reflect.construct(classes.get(kind) as typeof AggregateError, [[], message]);
    case "DOMException":
      return Reflect.construct(classes.get(kind) as typeof DOMException, [message, name]);
    case "SuppressedError":
      return Reflect.construct(classes.get(kind) as typeof Error, [undefined, undefined, message]);
    default:
      return Reflect.construct(classes.get(kind) as typeof Error, message === undefined ? [] : [message]);
  }
}

/** Defines a property: assigning would call setters, and set a prototype for the key `__proto__`. */
export function define(target: object, key: string, value: unknown, enumerable: boolean): void {
  Object.defineProperty(target, key, { value, enumerable, writable: true, configurable: true });
}

/** How much of a thrown value may still be kept. */
interface Scope {
  /** How many bytes a text of an error may have. */
  readonly textBytes: number;
  /** How many bytes all fields of all errors may still have. */
  fieldBytes: number;
  /** How many errors may still be kept. */
  left: number;
  /** The errors around the one that is looked at: what leads back to one of them is left out. */
  readonly open: Set<object>;
  readonly measure: Measure;
}

/** Tells how many bytes the text of a value has, or that it has none that fits. */
export type Measure = (value: unknown, limits: { maxBytes: number; maxDepth: number }) => number | undefined;

/**
 * Copies what was thrown without what cannot be stored: of errors each field that cannot, of everything what is too
 * large. Never throws. What is no error and can be stored is returned as it is.
 *
 * @param textBytes How long a text may be; all fields together may be twice as long.
 */
export function boundThrown(thrown: unknown, textBytes: number, measure: Measure): unknown {
  if (typeof thrown === "string") return clip(thrown, textBytes);
  if (typeof thrown === "function") return plainError("A function was thrown");
  if (typeof thrown === "symbol") return plainError(clip(String(thrown), textBytes));
  if (typeof thrown !== "object" || thrown === null) return thrown;
  if (!isError(thrown) && measure(thrown, { maxBytes: textBytes * 2, maxDepth: THROWN_LIMITS.fieldDepth })) {
    return thrown;
  }
  const scope = { textBytes, fieldBytes: textBytes * 2, left: THROWN_LIMITS.count, open: new Set<object>(), measure };
  return copyError(thrown, scope);
}

function plainError(message: string): Error {
  return makeError("Error", { message, hidden: [], fields: [] });
}

function copyError(error: object, scope: Scope): Error {
  scope.left -= 1;
  scope.open.add(error);
  const parts = readPartsSafely(error);
  const message = parts.message ?? (isError(error) ? undefined : "An object without a message was thrown");
  const copied = makeError(parts.kind, {
    name: clip(parts.name, scope.textBytes),
    message: message === undefined ? undefined : clip(message, scope.textBytes),
    stack: parts.stack === undefined ? undefined : clip(parts.stack, scope.textBytes),
    hidden: copyMembers(error, parts.hidden, scope),
    fields: copyMembers(error, parts.fields, scope),
  });
  scope.open.delete(error);
  return copied;
}

function copyMembers(error: object, keys: readonly string[], scope: Scope): [string, unknown][] {
  const copies: [string, unknown][] = [];
  for (const key of keys) {
    const copy = copyMember(error, key, scope);
    if (copy !== undefined) copies.push([key, copy.value]);
  }
  return copies;
}

/** Copies one property, or answers that it is left out. */
function copyMember(error: object, key: string, scope: Scope): { value: unknown } | undefined {
  let value: unknown;
  try {
    const member = Reflect.getOwnPropertyDescriptor(error, key);
    if (member === undefined || !("value" in member)) return undefined;
    value = member.value;
    if (key === "errors" && Array.isArray(value)) return { value: copyList(value, scope) };
  } catch {
    return undefined;
  }
  if (isError(value)) return copyInner(value, scope);
  const maxBytes = scope.fieldBytes - key.length;
  const bytes = maxBytes > 0 ? scope.measure(value, { maxBytes, maxDepth: THROWN_LIMITS.fieldDepth }) : undefined;
  if (bytes === undefined) return undefined;
  scope.fieldBytes -= bytes + key.length + 4;
  return { value };
}

function copyInner(error: object, scope: Scope): { value: unknown } | undefined {
  if (scope.open.has(error) || scope.open.size >= THROWN_LIMITS.depth || scope.left <= 0) return undefined;
  return { value: copyError(error, scope) };
}

function copyList(list: readonly unknown[], scope: Scope): unknown[] {
  const copies: unknown[] = [];
  for (let index = 0; index < Math.min(list.length, THROWN_LIMITS.list); index++) {
    const copy = copyMember(list, `${index}`, scope);
    if (copy !== undefined) copies.push(copy.value);
  }
  return copies;
}

function readPartsSafely(error: object): ErrorParts {
  try {
    return readParts(error);
  } catch {
    // A proxy that lists no keys.
    return { kind: "Error", name: "Error", hidden: [], fields: [] };
  }
}

/** Names the closest class of the language; one of another realm by its name. */
function kindOf(error: object): string {
  const isForeign = !(error instanceof Error);
  for (let prototype = Object.getPrototypeOf(error); prototype !== null; prototype = Object.getPrototypeOf(prototype)) {
    const name: unknown = namesByPrototype.get(prototype) ??
      (isForeign && isError(error) ? Object(prototype.constructor).name : undefined);
    if (typeof name === "string" && classes.has(name)) return name;
  }
  return "Error";
}

function prototypeOf(found: unknown): unknown {
  return Reflect.get(Object(found), "prototype");
}

function readText(error: object, key: string): string | undefined {
  try {
    const value: unknown = Reflect.get(error, key);
    return typeof value === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Cuts a text to a number of bytes, at a boundary between characters. */
function clip(text: string, maxBytes: number): string {
  const head = text.slice(0, maxBytes + 1);
  if (encoder.encodeInto(head, new Uint8Array(maxBytes)).read === text.length) return text;
  return `${head.slice(0, encoder.encodeInto(head, new Uint8Array(maxBytes - 3)).read)}…`;
}
