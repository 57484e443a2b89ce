/**
 * A stand-in for `@std/assert`, so that tests need no package host but npm.
 *
 * Two objects are equal here as there: an object without prototype equals a plain one (the rows of `node:sqlite` have
 * none), `NaN` equals `NaN`, and `0` equals `-0`. `node:assert` alone decides the first and the last the other way.
 *
 * @module
 */
import { AssertionError as NodeAssertionError } from "node:assert";
import { inspect } from "node:util";

/** What every function here throws. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

// deno-lint-ignore no-explicit-any -- The constructor of any error, whatever it takes.
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** Throws an `AssertionError` unless the value is truthy. */
export function assert(value: unknown, message = ""): asserts value {
  if (!value) throw new AssertionError(message);
}

/** Throws unless the value is falsy. */
export function assertFalse(value: unknown, message?: string): void {
  if (value) fail(message ?? `Expected a falsy value, got ${show(value)}`);
}

/** Throws unless both values are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  if (!equal(actual, expected)) throw new AssertionError(prefix(message) + difference(actual, expected));
}

/** Throws if both values are deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  if (equal(actual, expected)) fail(`${prefix(message)}Expected something else than ${show(actual)}`);
}

/** Throws unless both are the same value, as `Object.is` has it. */
export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): asserts actual is T {
  if (!Object.is(actual, expected)) {
    throw new AssertionError(`${prefix(message)}${show(actual)} is not the same value as ${show(expected)}`);
  }
}

/** Throws if both are the same value, as `Object.is` has it. */
export function assertNotStrictEquals(actual: unknown, expected: unknown, message?: string): void {
  if (Object.is(actual, expected)) fail(`${prefix(message)}Expected another value than ${show(actual)}`);
}

/** Throws if the value is `null` or `undefined`. */
export function assertExists<T>(actual: T, message?: string): asserts actual is NonNullable<T> {
  if (actual === undefined || actual === null) throw new AssertionError(message ?? `Expected a value, got ${actual}`);
}

/** Throws unless the value is an instance of the class. */
export function assertInstanceOf<T>(
  actual: unknown,
  // deno-lint-ignore no-explicit-any -- As above.
  expected: abstract new (...args: any[]) => T,
  message?: string,
): asserts actual is T {
  if (!(actual instanceof expected)) {
    throw new AssertionError(`${prefix(message)}Expected an instance of ${expected.name}, got ${show(actual)}`);
  }
}

/** Throws unless the text matches. */
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  if (!expected.test(actual)) fail(`${prefix(message)}${show(actual)} does not match ${expected}`);
}

/** Throws if the text matches. */
export function assertNotMatch(actual: string, expected: RegExp, message?: string): void {
  if (expected.test(actual)) fail(`${prefix(message)}${show(actual)} matches ${expected}`);
}

/** Throws unless the text contains the other. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  if (!actual.includes(expected)) fail(`${prefix(message)}${show(actual)} does not contain ${show(expected)}`);
}

/** Throws unless every expected element is in the list. */
export function assertArrayIncludes<T>(actual: ArrayLike<T>, expected: ArrayLike<T>, message?: string): void {
  const found = Array.from(actual);
  const missing = Array.from(expected).filter((element) => !found.some((other) => equal(element, other)));
  if (missing.length > 0) fail(`${prefix(message)}${show(found)} lacks ${show(missing)}`);
}

/** Throws unless every expected property is in the object, deeply. */
export function assertObjectMatch(
  // deno-lint-ignore no-explicit-any -- The real signature; `unknown` would refuse interfaces.
  actual: Record<PropertyKey, any>,
  expected: Record<PropertyKey, unknown>,
  message?: string,
): void {
  if (!contains(actual, expected)) throw new AssertionError(prefix(message) + difference(actual, expected));
}

/** Throws unless `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, message?: string): void {
  if (!(actual > expected)) fail(message ?? `Expected ${show(actual)} > ${show(expected)}`);
}

/** Throws unless `actual >= expected`. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, message?: string): void {
  if (!(actual >= expected)) fail(message ?? `Expected ${show(actual)} >= ${show(expected)}`);
}

/** Throws unless `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, message?: string): void {
  if (!(actual < expected)) fail(message ?? `Expected ${show(actual)} < ${show(expected)}`);
}

/** Throws unless `actual <= expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, message?: string): void {
  if (!(actual <= expected)) fail(message ?? `Expected ${show(actual)} <= ${show(expected)}`);
}

/** Throws unless the numbers differ by no more than the tolerance. */
export function assertAlmostEquals(actual: number, expected: number, tolerance?: number, message?: string): void {
  const allowed = tolerance ?? Math.abs(expected) * 1e-7;
  if (Object.is(actual, expected) || Math.abs(actual - expected) <= allowed) return;
  fail(message ?? `Expected ${actual} to be within ${allowed} of ${expected}`);
}

/** Throws unless the function throws, and returns what it threw. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass?: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
): E {
  let thrown: unknown;
  try {
    fn();
  } catch (error) {
    thrown = error;
    return checkedError(thrown, ErrorClass, messageIncludes, message);
  }
  return fail(`${prefix(message)}Expected function to throw`);
}

/** Rejects unless the promise of the function rejects, and returns the reason. */
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass?: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
): Promise<E> {
  try {
    await fn();
  } catch (error) {
    return checkedError(error, ErrorClass, messageIncludes, message);
  }
  return fail(`${prefix(message)}Expected function to reject`);
}

/** Throws always. */
export function fail(message?: string): never {
  throw new AssertionError(message ?? "Failed");
}

/** Throws, because the code should never have come here. */
export function unreachable(reason?: string): never {
  throw new AssertionError(reason ?? "Unreachable");
}

/** Whether both values are deeply equal. */
export function equal(left: unknown, right: unknown): boolean {
  return isEqual(left, right, new Map());
}

function isEqual(left: unknown, right: unknown, seen: Map<object, object>): boolean {
  if (Object.is(left, right) || left === right) return true;
  if (typeof left !== "object" || typeof right !== "object" || left === null || right === null) return false;
  if (!haveSameClass(left, right)) return false;
  if (seen.get(left) === right) return true;
  seen.set(left, right);
  if (left instanceof Date && right instanceof Date) return Object.is(left.getTime(), right.getTime());
  if (left instanceof RegExp || left instanceof URL) return String(left) === String(right);
  if (left instanceof Set && right instanceof Set) return isSameSize(left, right) && isSubset(left, right, seen);
  if (left instanceof Map && right instanceof Map) {
    return isSameSize(left, right) && isSubset(new Set(left), new Set(right), seen);
  }
  return haveEqualProperties(left, right, seen);
}

function haveSameClass(left: object, right: object): boolean {
  return (left.constructor ?? Object) === (right.constructor ?? Object);
}

function isSameSize(left: { size: number }, right: { size: number }): boolean {
  return left.size === right.size;
}

function isSubset(left: Set<unknown>, right: Set<unknown>, seen: Map<object, object>): boolean {
  return [...left].every((element) => right.has(element) || [...right].some((other) => isEqual(element, other, seen)));
}

function haveEqualProperties(left: object, right: object, seen: Map<object, object>): boolean {
  const keys = propertiesOf(left);
  if (keys.length !== propertiesOf(right).length) return false;
  return keys.every((key) =>
    Object.hasOwn(right, key) && isEqual(Reflect.get(left, key), Reflect.get(right, key), seen)
  );
}

/** The names that count: the enumerable ones, and what an error hides from enumeration. */
function propertiesOf(value: object): PropertyKey[] {
  const symbols = Object.getOwnPropertySymbols(value).filter((key) =>
    Object.prototype.propertyIsEnumerable.call(value, key)
  );
  const hidden = value instanceof Error ? ["message"] : [];
  return [...new Set([...Object.keys(value), ...symbols, ...hidden])];
}

function contains(actual: unknown, expected: unknown): boolean {
  const isNested = typeof expected === "object" && expected !== null && typeof actual === "object" && actual !== null;
  if (!isNested || expected.constructor !== Object && !Array.isArray(expected)) return equal(actual, expected);
  return Reflect.ownKeys(expected).every((key) =>
    key in actual && contains(Reflect.get(actual, key), Reflect.get(expected, key))
  );
}

function checkedError<E extends Error>(
  error: unknown,
  ErrorClass: ErrorClass<E> | undefined,
  messageIncludes: string | undefined,
  message: string | undefined,
): E {
  const expected = ErrorClass ?? Error;
  if (!(error instanceof expected)) {
    throw new AssertionError(`${prefix(message)}Expected a ${expected.name} to be thrown, got ${show(error)}`);
  }
  if (messageIncludes !== undefined && !error.message.includes(messageIncludes)) {
    throw new AssertionError(
      `${prefix(message)}Expected the message to contain ${show(messageIncludes)}, got ${show(error.message)}`,
    );
  }
  return error as E;
}

/** Node's coloured line diff; its error is made only for the text. */
function difference(actual: unknown, expected: unknown): string {
  return new NodeAssertionError({ actual, expected, operator: "deepStrictEqual" }).message;
}

function prefix(message: string | undefined): string {
  return message === undefined ? "" : `${message}: `;
}

function show(value: unknown): string {
  return inspect(value, { depth: 8, breakLength: 100 });
}
