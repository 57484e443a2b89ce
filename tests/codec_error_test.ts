/** Errors in the codec, what is stored of whatever was thrown, and what is refused when it is read: `src/codec.ts`. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { decodeThrown, decodeValue, encodeThrown, encodeValue } from "../src/codec.ts";
import { anyValue, bytesOf, stored, wildKey, wildText, withFields } from "./support/codec.ts";

const CANARY = "canary-2718281828";

/** Writes and reads what was thrown, and checks the bound and that it is written again as the same. */
function thrown<T = Error>(value: unknown): T {
  const text = encodeThrown(value);
  assert(bytesOf(text) <= 16_384, `${bytesOf(text)} bytes`);
  const read = decodeThrown(text);
  assertEquals(encodeThrown(read), text);
  return read as T;
}

test("encodeValue() keeps errors: class, name, message, stack, cause, errors and own fields", () => {
  class HttpError extends TypeError {
    override name = "HttpError";
    status = 404;
    headers = new Map([["a", undefined]]);
  }
  const error = new HttpError("not found", { cause: new AggregateError([new RangeError("\ud800"), 7n], "both") });
  const read = stored({ error }) as { error: HttpError };
  assertEquals(Object.getPrototypeOf(read.error), TypeError.prototype);
  assertEquals([read.error.name, read.error.message, read.error.stack], ["HttpError", "not found", error.stack]);
  assertEquals([read.error.status, read.error.headers], [404, error.headers]);
  assertEquals(Object.keys(read.error), ["status", "headers"]);
  const cause = read.error.cause;
  assert(cause instanceof AggregateError && cause.errors[0] instanceof RangeError);
  assertEquals([cause.message, cause.errors[0].message, cause.errors[1]], ["both", "\ud800", 7n]);
  const members = JSON.parse(encodeValue(error));
  assertEquals(members.$pgqrs, ["TypeError"]);
  assertEquals([members.name, members.message, members.fields.status], ["HttpError", "not found", 404]);
});

test("encodeValue() keeps each class of errors of the language, and makes an Error of all others", () => {
  for (const Class of [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError]) {
    const read = stored(new Class("text"));
    assert(read instanceof Class && Object.getPrototypeOf(read) === Class.prototype);
    assertEquals([read.name, read.message, "cause" in read], [Class.name, "text", false]);
  }
  const aborted = stored(new DOMException("stop", "AbortError"));
  assert(aborted instanceof DOMException);
  assertEquals([aborted.name, aborted.message, aborted.code], ["AbortError", "stop", 20]);
  class Lost extends Error {}
  const lost = stored(Object.assign(new Lost("x"), { name: "Lost", code: "E1", undef: undefined })) as Error;
  assertEquals([Object.getPrototypeOf(lost), lost.name, Reflect.get(lost, "code")], [Error.prototype, "Lost", "E1"]);
  assert(!(lost instanceof Lost) && "undef" in lost);
  const bare = stored(new Error(undefined, { cause: undefined })) as Error;
  assertEquals([bare.message, Object.hasOwn(bare, "cause"), Object.keys(bare)], ["", true, []]);
  const odd = stored(Object.assign(new Error("m"), { message: 5, name: 6 }));
  assert(odd instanceof Error);
});

test("encodeThrown() keeps what encodeValue keeps, of errors and of anything else", () => {
  const cause = Object.assign(new TypeError("inner"), { code: "ECONNREFUSED", at: new Date(0) });
  const error = thrown(new AggregateError([new Error("one"), "two"], "all", { cause }));
  assert(error instanceof AggregateError && error.cause instanceof TypeError);
  assertEquals(error.errors.map(String), ["Error: one", "two"]);
  assertEquals([Reflect.get(error.cause, "code"), Reflect.get(error.cause, "at")], ["ECONNREFUSED", new Date(0)]);
  for (const value of [undefined, null, "text", 42n, NaN, { status: 404, at: new Date(0) }, [1], "\ud800"]) {
    assertEquals(thrown<unknown>(value), value);
  }
});

test("encodeThrown() leaves out just the field that cannot be stored", () => {
  const error = new Error("m");
  Object.assign(error, { request: { send: fail }, code: "E" });
  Object.assign(error, { huge: "x".repeat(20_000), last: [1n], inner: Object.assign(new Error("i"), { fail, ok: 1 }) });
  Object.defineProperty(error, "trap", { get: fail, enumerable: true });
  Object.assign(error, { self: error });
  const read = thrown(error);
  assertEquals(Object.keys(read), ["code", "last", "inner"]);
  assertEquals([read.message, read.stack, Object.keys(Reflect.get(read, "inner") as object)], ["m", error.stack, [
    "ok",
  ]]);
  const object = thrown({ message: "no error", status: 500, fail });
  assert(object instanceof Error);
  assertEquals([object.message, Object.entries(object)], ["no error", [["status", 500]]]);
});

test("encodeThrown() finds words for what cannot be stored at all", () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  assertEquals(thrown(fail).message, "A function was thrown");
  assertEquals(thrown(Symbol("s")).message, "Symbol(s)");
  assertEquals(thrown(proxy).message, "An object without a message was thrown");
  assertEquals(thrown(new Proxy(new Error(CANARY), { ownKeys: fail, get: fail })).name, "Error");
  assertEquals(thrown(10n ** 20_000n).message.slice(-1), "…");
  assertMatch(thrown<string>("é".repeat(9_999)), /^é{2046}…$/);
});

test("encodeThrown() holds the bounds of chains, lists and texts", () => {
  let chain: unknown = new Error("innermost");
  for (let level = 19; level >= 0; level--) chain = new Error(`level ${level}`, { cause: chain });
  const messages: string[] = [];
  for (let error: unknown = thrown(chain); error instanceof Error; error = error.cause) messages.push(error.message);
  assertEquals(messages, ["level 0", "level 1", "level 2", "level 3", "level 4"]);
  const loop = new Error("loop");
  loop.cause = new Error("back", { cause: loop });
  assertEquals((thrown(loop).cause as Error).cause, undefined);
  const tree = (depth: number): Error =>
    Object.assign(new AggregateError(depth === 0 ? [] : Array.from({ length: 9 }, () => tree(depth - 1))), {
      message: "\0".repeat(9_999),
      stack: "\u0002".repeat(9_999),
      extra: "\0".repeat(999),
    });
  for (let depth = 0; depth < 5; depth++) thrown(tree(depth));
  assertEquals((thrown(tree(1)) as AggregateError).errors.length, 5);
});

test("encodeThrown() never throws, and what it wrote is read and written again as the same", () => {
  const part = fc.oneof(anyValue, fc.anything(), fc.string({ minLength: 2_000, maxLength: 9_000, unit: "binary" }));
  const error = fc.tuple(fc.constantFrom(Error, TypeError, RangeError), fc.dictionary(wildKey, part), part, wildText)
    .map(([Class, fields, cause, message]) => withFields(new Class(message, { cause }), fields));
  const record = fc.record({ name: part, message: part, stack: part, code: part, cause: error }, { requiredKeys: [] });
  fc.assert(fc.property(fc.oneof(part, error, record), (value) => void thrown(value)), { numRuns: 500 });
});
test("decodeValue() refuses what it does not know and what is no such value, and quotes nothing", () => {
  const parts: unknown[] = [
    CANARY,
    null,
    [],
    [1],
    [CANARY],
    ["Function", CANARY],
    ["__proto__"],
    ["constructor", CANARY],
    ["number", "1"],
    ["bigint", ""],
    ["bigint", `1${CANARY}`],
    ["string", "AA=="],
    ["string", CANARY],
    ["Date", CANARY],
    ["Date", 0],
    ["Map", [[1]]],
    ["Map", { a: CANARY }],
    ["Set", CANARY],
    ["RegExp", `(${CANARY}`, ""],
    ["RegExp", "a", CANARY],
    ["URL", CANARY],
    ["Object", [[1, CANARY]]],
    ["Uint32Array", "AQI="],
    ["Uint8Array", `${CANARY}!`],
  ];
  for (const part of parts) {
    const text = JSON.stringify({ list: [{ $pgqrs: part }] });
    const error = assertThrows(() => decodeValue(text), SyntaxError, "Cannot read a stored value: it has ");
    assert(!error.message.includes(CANARY), error.message);
  }
  for (
    const members of [{ name: 1 }, { fields: CANARY }, { fields: [] }, { [CANARY]: 1 }, { stack: {} }]
  ) {
    assertThrows(() => decodeValue(JSON.stringify({ $pgqrs: ["Error"], ...members })), SyntaxError, "the tag Error");
  }
  assertThrows(() => decodeValue(JSON.stringify({ $pgqrs: ["Date", null], a: 1 })), SyntaxError, "the tag Date");
  assertThrows(() => decodeValue(`${"[".repeat(5_000)}{"$pgqrs":["undefined"]}${"]".repeat(5_000)}`), SyntaxError);
  const error = assertThrows(() => decodeValue(`{"${CANARY}"`), SyntaxError, "that are not JSON");
  assert(!error.message.includes(CANARY));
});

test("decodeValue() calls no setter and no constructor of the user's", () => {
  const NativeMap = Map;
  const text = encodeValue([new Map([["a", 1]]), Object.assign(new Error("m"), { custom: 1 })]);
  let calls = 0;
  const count = () => void calls++;
  Object.defineProperty(Object.prototype, "custom", { set: count, configurable: true });
  Object.defineProperty(globalThis, "Map", { value: count, configurable: true, writable: true });
  try {
    const [map, error] = decodeValue(text) as [unknown, object];
    assert(map instanceof NativeMap && Object.hasOwn(error, "custom"));
  } finally {
    Object.defineProperty(globalThis, "Map", { value: NativeMap, configurable: true, writable: true });
    Reflect.deleteProperty(Object.prototype, "custom");
  }
  assertEquals(calls, 0);
});

function fail(): never {
  throw new Error(CANARY);
}
