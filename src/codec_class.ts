/**
 * What class of the language an object belongs to, in this realm or another.
 *
 * @module
 */

/** The classes that show an `ArrayBuffer` as numbers. */
export const VIEWS = [
  "BigInt64Array",
  "BigUint64Array",
  "Float16Array",
  "Float32Array",
  "Float64Array",
  "Int16Array",
  "Int32Array",
  "Int8Array",
  "Uint16Array",
  "Uint32Array",
  "Uint8Array",
  "Uint8ClampedArray",
] as const;

const names = ["Date", "Map", "Set", "RegExp", "URL", "ArrayBuffer", "DataView", ...VIEWS];
const namesByPrototype: ReadonlyMap<unknown, string> = new Map(
  names.filter((name) => name in globalThis).map((name) => [
    Reflect.get(Object(Reflect.get(globalThis, name)), "prototype"),
    name,
  ]),
);

/** Names the class of the language that a prototype belongs to. */
export function builtinName(prototype: unknown): string | undefined {
  const name = namesByPrototype.get(prototype);
  if (name !== undefined) return name;
  const found = className(prototype);
  const parent = namesByPrototype.get(Object.getPrototypeOf(prototype));
  // What Node reads files into, and what fake clocks put in the place of `Date`.
  if ((found === "Buffer" && parent === "Uint8Array") || (found === "Date" && parent === "Date")) return parent;
  return found !== undefined && isForeign(prototype, found) ? found : undefined;
}

/** Tells the prototype of a class of the language of another realm, as test runners and `node:vm` have them. */
export function isForeign(prototype: unknown, name: string): boolean {
  if (className(prototype) !== name) return false;
  const parent: unknown = Object.getPrototypeOf(prototype);
  const isView = (VIEWS as readonly string[]).includes(name);
  const root: unknown = isView ? Object.getPrototypeOf(Object(parent)) : parent;
  return root !== Object.prototype && isRoot(root);
}

/** Tells the `Object.prototype` of any realm. */
export function isRoot(prototype: unknown): boolean {
  return typeof prototype === "object" && prototype !== null && Object.getPrototypeOf(prototype) === null &&
    Object.hasOwn(prototype, "isPrototypeOf");
}

/** Tells what `JSON.rawJSON` makes, which is written as something else than it is. */
export function isRawJson(value: object): boolean {
  const test: unknown = Reflect.get(JSON, "isRawJSON");
  return typeof test === "function" && test(value) === true;
}

/** Names the class of a prototype for a message, if its name can be shown. */
export function className(prototype: unknown): string | undefined {
  const name: unknown = Object(Object(prototype).constructor).name;
  return typeof name === "string" && /^[\w$]{1,40}$/.test(name) ? name : undefined;
}

/** Takes the getter of a class, which throws for everything that is not of it. */
export function getter(prototype: unknown, key: PropertyKey): (value: object) => unknown {
  const { get } = Reflect.getOwnPropertyDescriptor(Object(prototype), key)!;
  return (value) => get!.call(value);
}
