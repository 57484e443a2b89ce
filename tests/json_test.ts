/** What may be stored as JSON, and how errors are: `src/json.ts`. */
import { assert, assertEquals, AssertionError, assertMatch, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { canonicalJson, decodeJson, encodeError, encodeJson, hashPayload, type StoredError } from "../src/json.ts";

const CANARY = "canary-3141592653";

/** Any UTF-16 unit, so that lone surrogates and U+0000 occur; the first ones often. */
const wildText = fc.string({
  unit: fc.oneof(fc.constantFrom("a", "é", "😀", "\0", "\ud800", "\udc00", "\\", "\u001b"), fc.string()),
  maxLength: 6,
});

function bytesOf(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Whether two values are the same but for the prototypes of their objects. */
function isSame(left: unknown, right: unknown): boolean {
  if (typeof left !== "object" || typeof right !== "object" || left === null || right === null) {
    return Object.is(left, right);
  }
  const [keys, others] = [Reflect.ownKeys(left), Reflect.ownKeys(right)];
  return Array.isArray(left) === Array.isArray(right) && keys.length === others.length &&
    keys.every((key) => Object.hasOwn(right, key) && isSame(Reflect.get(left, key), Reflect.get(right, key)));
}

/** The slow and plain statement of what JSON values hold that cannot be stored. */
function isStorable(value: unknown): boolean {
  if (typeof value === "string") return value.isWellFormed() && !value.includes("\0");
  if (typeof value !== "object" || value === null) return !Object.is(value, -0);
  if (Array.isArray(value)) return value.every(isStorable);
  return Object.entries(value).every(([key, item]) => key !== "__proto__" && isStorable(key) && isStorable(item));
}

/** An array in an array in an array. */
function nested(depth: number): unknown {
  let value: unknown = [];
  for (let level = 1; level < depth; level++) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

function messageOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError) return `${error.name}: ${error.message}`;
    throw error;
  }
  throw new AssertionError("Nothing was thrown");
}

test("encodeJson() writes what JSON.stringify writes", () => {
  const shared = { n: 1 };
  const values: unknown[] = [
    null,
    true,
    0,
    -1.5e-300,
    2 ** 53 + 2,
    Number.MAX_VALUE,
    "",
    "é😀\u001b\\u0000",
    [],
    {},
    [[], [{}]],
    { a: [1, "two", null], "": { "a b": false } },
    [shared, shared, { shared }],
    Object.assign(Object.create(null), { a: 1 }),
    Object.freeze({ list: Object.freeze([1]) }),
    { toJSON: "a text", constructor: 1, hasOwnProperty: null },
  ];
  for (const value of values) {
    assertEquals(encodeJson(value), JSON.stringify(value));
    assert(isSame(decodeJson(encodeJson(value)), value));
  }
});

test("encodeJson() accepts plain objects and arrays of another realm, but not their classes", () => {
  assertEquals(encodeJson(runInNewContext("({ list: [1, { a: [] }] })")), '{"list":[1,{"a":[]}]}');
  assertThrows(() => encodeJson({ at: runInNewContext("new Date(0)") }), TypeError, "payload.at ");
  assertThrows(() => encodeJson([runInNewContext("new (class extends Array {})")]), TypeError, "payload[0] ");
});

test("encodeJson() names path and type of what JSON cannot represent", () => {
  class Point {
    x = CANARY;
  }
  class List extends Array {}
  const cases: [unknown, string][] = [
    [undefined, "payload as JSON: it is undefined"],
    [{ a: undefined }, "payload.a as JSON: it is undefined"],
    [[1, undefined], "payload[1] as JSON: it is undefined"],
    // deno-lint-ignore no-sparse-arrays -- The hole is the case.
    [[1, , 3], "payload[1] as JSON: it is an array hole"],
    [new Array(1e9), "payload[0] as JSON: it is an array hole"],
    [{ items: [0, 1, 2, { when: new Date(0) }] }, "payload.items[3].when as JSON: it is an instance of Date"],
    [{ "a b": { "": new Map([[CANARY, 1]]) } }, 'payload["a b"][""] as JSON: it is an instance of Map'],
    [{ ключ: new Set([CANARY]) }, "payload.ключ as JSON: it is an instance of Set"],
    [[new Uint8Array(3)], "payload[0] as JSON: it is an instance of Uint8Array"],
    [{ a: new Point() }, "payload.a as JSON: it is an instance of Point"],
    [{ a: List.of(1) }, "payload.a as JSON: it is an instance of List"],
    [{ a: new Error(CANARY) }, "payload.a as JSON: it is an instance of Error"],
    [{ a: Object(CANARY) }, "payload.a as JSON: it is an instance of String"],
    [{ a: Object.create({}) }, "payload.a as JSON: it is an instance of Object"],
    [{ a: Object.setPrototypeOf([1], {}) }, "payload.a as JSON: it is an instance of Object"],
    [{ a: Object.create([]) }, "payload.a as JSON: it is an instance of Array"],
    [{ a: /x/ }, "payload.a as JSON: it is an instance of RegExp"],
    [{ a: Promise.resolve(CANARY) }, "payload.a as JSON: it is an instance of Promise"],
    [() => CANARY, "payload as JSON: it is a function"],
    [{ toJSON: () => CANARY }, "payload.toJSON as JSON: it is a function"],
    [{ a: Symbol(CANARY) }, "payload.a as JSON: it is a symbol"],
    [{ a: 31415n }, "payload.a as JSON: it is a bigint"],
    [{ a: NaN }, "payload.a as JSON: it is NaN"],
    [{ a: Infinity }, "payload.a as JSON: it is Infinity"],
    [{ a: -Infinity }, "payload.a as JSON: it is -Infinity"],
    [{ a: -0 }, "payload.a as JSON: it is -0"],
    [{ a: { [Symbol("s")]: CANARY } }, "payload.a as JSON: it is an object with a symbol key"],
    [Object.assign([1], { [Symbol("s")]: 1 }), "payload as JSON: it is an object with a symbol key"],
    [Object.assign([1], { extra: CANARY }), "payload as JSON: it is an array with a property besides its elements"],
    [Object.defineProperty([1], "raw", { value: 1 }), "payload as JSON: it is an array with a property besides"],
    [Object.defineProperty({}, "a", { value: CANARY }), "payload.a as JSON: it is a property that is not enumerable"],
    [Object.defineProperty([1], 0, { enumerable: false }), "payload[0] as JSON: it is a property that is not"],
    [{
      get a() {
        throw new Error(CANARY);
      },
    }, "payload.a as JSON: it is a getter or setter"],
    [Object.defineProperty([1], 0, { get: () => 1 }), "payload[0] as JSON: it is a getter or setter"],
    [{ a: `${CANARY}\ud800` }, "payload.a as JSON: it is a string with a lone surrogate"],
    [{ "\udc00": 1 }, 'payload["\\udc00"] as JSON: it is a key with a lone surrogate'],
    [{ a: `${CANARY}\0` }, "payload.a as JSON: it is a string with the character U+0000"],
    [{ "\0": 1 }, 'payload["\\u0000"] as JSON: it is a key with the character U+0000'],
    [JSON.parse(`{"__proto__":"${CANARY}"}`), "payload.__proto__ as JSON: it is a key that sets the prototype"],
  ];
  for (const [value, expected] of cases) {
    const message = messageOf(() => encodeJson(value));
    assert(message.startsWith(`TypeError: Cannot store ${expected}`), `${message} is not ${expected}`);
    assert(!message.includes(CANARY) && !message.includes("31415"), message);
    assertThrows(() => canonicalJson(value), TypeError, `Cannot store ${expected}`);
  }
  assertThrows(() => encodeJson([NaN], { what: "headers" }), TypeError, "Cannot store headers[0] as JSON");
});

test("encodeJson() refuses JSON.rawJSON, which would store a number that nobody can read back", () => {
  const rawJson: unknown = Reflect.get(JSON, "rawJSON");
  if (typeof rawJson !== "function") return;
  assertThrows(() => encodeJson({ a: rawJson("1e999") }), TypeError, "payload.a as JSON: it is a JSON.rawJSON object");
});

test("encodeJson() shortens long keys and long paths", () => {
  const message = messageOf(() => encodeJson({ ["k".repeat(100_000)]: NaN }));
  assertMatch(message, /^TypeError: Cannot store payload\["k{40}…"\] as JSON/);
  let value: unknown = NaN;
  for (let level = 0; level < 60; level++) value = { [`level_${level}_of_many`]: value };
  assert(messageOf(() => encodeJson(value)).length < 400);
});

test("encodeJson() turns what a proxy throws into a TypeError with a path", () => {
  const fail = () => {
    throw new Error(CANARY);
  };
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  const proxies: object[] = [
    proxy,
    new Proxy({}, { getPrototypeOf: fail }),
    new Proxy({}, { ownKeys: fail }),
    new Proxy({ a: 1 }, { getOwnPropertyDescriptor: fail }),
    new Proxy([1], { getOwnPropertyDescriptor: fail }),
    new Proxy([1], { get: fail }),
    new Proxy({ a: 1 }, { get: fail }),
  ];
  for (const item of proxies) {
    const message = messageOf(() => encodeJson({ list: [item] }));
    assertMatch(message, /^TypeError: Cannot store payload(\.list\[0\](\.a|\[0\])?)? as JSON: it (is a proxy|changed)/);
    assert(!message.includes(CANARY));
  }
  assertEquals(encodeJson(new Proxy({ a: [1] }, {})), '{"a":[1]}');
});

test("encodeJson() refuses cycles with the path of the second occurrence", () => {
  const self: Record<string, unknown> = { n: 1 };
  self.self = self;
  assertThrows(() => encodeJson(self), TypeError, "Cannot store payload.self as JSON: it is a cycle");
  const list: unknown[] = [];
  const outer = { deep: { list } };
  list.push(1, { back: list });
  assertThrows(() => encodeJson(outer), TypeError, "Cannot store payload.deep.list[1].back as JSON: it is a cycle");
  assertThrows(() => canonicalJson(outer), TypeError, "payload.deep.list[1].back");
  const wide: Record<string, unknown> = { text: "x".repeat(600_000) };
  wide.self = wide;
  assertThrows(() => encodeJson(wide), TypeError, "Cannot store payload.self as JSON: it is a cycle");
});

test("encodeJson() counts containers and accepts exactly maxDepth of them", () => {
  assertEquals(encodeJson(nested(64)).length > 0, true);
  assertThrows(() => encodeJson(nested(65)), RangeError, "it is nested deeper than 64 levels");
  assertEquals(encodeJson([1], { maxDepth: 1 }), "[1]");
  assertThrows(() => encodeJson([[]], { maxDepth: 1 }), RangeError, "1 level");
  for (const depth of [10_000, 1_000_000]) {
    const value = nested(depth);
    assertThrows(() => encodeJson(value), RangeError, "64 levels");
    assertThrows(() => encodeJson(value, { maxDepth: Infinity }), RangeError, "1000 levels");
    assertThrows(() => canonicalJson(value), RangeError, "1000 levels");
  }
  assertEquals(encodeJson(nested(1_000), { maxDepth: 1_000 }), JSON.stringify(nested(1_000)));
  assertEquals(canonicalJson(nested(1_000)), JSON.stringify(nested(1_000)));
});

test("encodeJson() accepts exactly maxBytes of UTF-8", () => {
  const limit = 1_048_576;
  for (const unit of ["a", "é", "€", "😀", '"']) {
    const size = bytesOf(JSON.stringify(unit)) - 2;
    const text = unit.repeat(Math.floor((limit - 2) / size));
    const fill = "b".repeat(limit - 2 - bytesOf(JSON.stringify(text)) + 2);
    assertEquals(bytesOf(encodeJson(text + fill)), limit);
    const message = messageOf(() => encodeJson(`${text}${fill}b`));
    assertEquals(message, "RangeError: Cannot store payload as JSON: it has 1048577 bytes, the limit is 1048576");
  }
  assertEquals(encodeJson({ a: "é" }, { maxBytes: 10 }), '{"a":"é"}');
  assertThrows(
    () => encodeJson({ a: "é" }, { maxBytes: 9, what: "result" }),
    RangeError,
    "has 10 bytes, the limit is 9",
  );
  const message = messageOf(() => encodeJson({ [CANARY]: CANARY.repeat(100) }, { maxBytes: 100 }));
  assertMatch(message, /^RangeError: Cannot store payload as JSON: it has at least \d+ bytes, the limit is 100$/);
});

test("encodeJson() ends on few objects whose text would be endless", () => {
  let value: unknown = "x";
  for (let level = 0; level < 60; level++) value = [value, value];
  assertThrows(() => encodeJson(value), RangeError, "the limit is 1048576");
});

test("encodeJson() refuses everything while a prototype has toJSON", () => {
  for (const prototype of [Object.prototype, Array.prototype]) {
    Object.defineProperty(prototype, "toJSON", { value: () => 1, configurable: true });
    try {
      assertThrows(() => encodeJson([1]), TypeError, "has a toJSON method");
    } finally {
      Reflect.deleteProperty(prototype, "toJSON");
    }
  }
});

test("encodeJson() round-trips every JSON value exactly or refuses it each time the same way", () => {
  const values = fc.oneof(
    fc.jsonValue(),
    fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: "small" },
        fc.constantFrom<unknown>(null, true, 0, -0, 1e21, 5e-324),
        wildText,
        fc.double({ noNaN: true, noDefaultInfinity: true }),
        fc.array(tie("value")),
        fc.dictionary(fc.oneof(wildText, fc.constant("__proto__")), tie("value"), { noNullPrototype: false }),
      ),
    })).value,
  );
  let refused = 0;
  fc.assert(
    fc.property(values, (value) => {
      if (!isStorable(value)) {
        refused++;
        assertEquals(messageOf(() => encodeJson(value)), messageOf(() => encodeJson(structuredClone(value))));
        return;
      }
      const text = encodeJson(value);
      assertEquals(text, JSON.stringify(value));
      assert(isSame(decodeJson(text), value));
      assert(isSame(decodeJson(canonicalJson(value)), value));
    }),
    { numRuns: 1_000 },
  );
  assert(refused > 20, "The values are too tame");
});

test("encodeJson() accepts of anything at all only what round-trips", () => {
  const anything = fc.anything({
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true,
    withObjectString: true,
    withSet: true,
    withSparseArray: true,
    withTypedArray: true,
    withUnicodeString: true,
  });
  let accepted = 0;
  fc.assert(
    fc.property(anything, (value) => {
      let text: string;
      try {
        text = encodeJson(value);
      } catch (error) {
        assert(error instanceof TypeError, String(error));
        return assertMatch(error.message, /^Cannot store payload.* as JSON: it is /s);
      }
      assert(isSame(decodeJson(text), value), text);
      accepted++;
    }),
    { numRuns: 1_000 },
  );
  assert(accepted > 50, "The values are too wild");
});

test("decodeJson() sets no prototype and quotes no text", () => {
  const value = decodeJson('{"__proto__":{"isAdmin":true}}');
  assertEquals(Reflect.get(Object(value), "isAdmin"), undefined);
  assertEquals(Object.keys(Object(value)), ["__proto__"]);
  const error = assertThrows(() => decodeJson(`{"a":"${CANARY}"`), SyntaxError, "characters that are not JSON");
  assert(!error.message.includes(CANARY));
});

test("canonicalJson() sorts keys by code unit at every depth", () => {
  const value = { b: [{ d: 1, c: 2 }], "10": 1, "9": 2, a: "x", "": 0, "😀": 1, "\uffff": 2 };
  assertEquals(canonicalJson(value), '{"":0,"10":1,"9":2,"a":"x","b":[{"c":2,"d":1}],"😀":1,"\uffff":2}');
  assertEquals(canonicalJson([1e21, 0.1, "é\n", null]), '[1e+21,0.1,"é\\n",null]');
});

test("hashPayload() depends on the value and not on the order of its keys", async () => {
  const digest = "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777";
  assertEquals(await hashPayload({ b: 2, a: 1 }), digest);
  assertEquals(await hashPayload({ a: 1, b: 2 }), digest);
  assertNotEquals(await hashPayload({ a: 1, b: "2" }), digest);
  await fc.assert(fc.asyncProperty(fc.dictionary(fc.string(), fc.integer()), async (value) => {
    if (!isStorable(value)) return;
    const reversed = Object.fromEntries(Object.entries(value).reverse());
    assertEquals(await hashPayload(reversed), await hashPayload(value));
  }));
});

test("encodeError() keeps name, message, stack, code, cause and errors", () => {
  const cause = Object.assign(new TypeError("the cause"), { code: "ECONNREFUSED" });
  const error = new AggregateError([new Error("one"), "two"], "all failed", { cause });
  const stored = storedOf(Object.assign(error, { code: 42, secret: CANARY }));
  assertEquals([stored.name, stored.message, stored.code], ["AggregateError", "all failed", "42"]);
  assertEquals([stored.cause?.name, stored.cause?.code], ["TypeError", "ECONNREFUSED"]);
  assertEquals(stored.errors?.map((inner) => inner.message), ["one", "two"]);
  assert(stored.stack !== undefined && stored.stack.length > 0);
  assert(!encodeError(error).includes(CANARY));
});

test("encodeError() finds words for everything that can be thrown", () => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  const cases: [unknown, StoredError][] = [
    [undefined, { name: "Error", message: "undefined" }],
    [null, { name: "Error", message: "null" }],
    ["boom", { name: "Error", message: "boom" }],
    [42n, { name: "Error", message: "42" }],
    [Symbol("s"), { name: "Error", message: "Symbol(s)" }],
    [() => CANARY, { name: "Error", message: "A function was thrown" }],
    [{ status: 404 }, { name: "Error", message: "An object without a message was thrown" }],
    [{ name: "HttpError", message: "not found", code: "404" }, {
      name: "HttpError",
      message: "not found",
      code: "404",
    }],
    [proxy, { name: "Error", message: "An object without a message was thrown" }],
    [{ name: "", message: "\ud800\0", cause: null }, { name: "Error", message: "\uFFFD\uFFFD" }],
    [{
      message: "m",
      get stack() {
        throw new Error(CANARY);
      },
    }, { name: "Error", message: "m" }],
  ];
  for (const [thrown, expected] of cases) assertEquals(storedOf(thrown), expected);
});

test("encodeError() cuts at a character, and holds every bound", () => {
  const { message } = storedOf({ message: "😀".repeat(5_000) });
  assert(bytesOf(message) <= 4_096 && bytesOf(message) > 4_080);
  assertMatch(message, /^(😀)+…$/u);
  assertEquals(storedOf({ message: "a".repeat(4_096) }).message, "a".repeat(4_096));
  assertEquals(storedOf({ message: "a".repeat(4_097) }).message, `${"a".repeat(4_093)}…`);

  let chain: unknown = new Error("innermost");
  for (let level = 0; level < 20; level++) chain = new Error(`level ${level}`, { cause: chain });
  const loop: { message: string; cause?: unknown } = { message: "loop" };
  loop.cause = loop;
  const tree = (depth: number): unknown => ({
    message: "\u0001".repeat(9_999),
    stack: "\u0002".repeat(9_999),
    errors: depth === 0 ? [] : Array.from({ length: 9 }, () => tree(depth - 1)),
    cause: depth === 0 ? undefined : tree(depth - 1),
  });
  for (const error of [chain, loop, tree(4)]) checkBounds(encodeError(error));
  assertEquals(storedOf(loop).cause?.cause?.cause?.cause, { name: "Error", message: "loop" });
  assertEquals(storedOf(tree(1)).errors?.length, 5);
});

test("encodeError() never throws, and holds every bound whatever was thrown", () => {
  const part = fc.oneof(fc.anything(), wildText, fc.string({ minLength: 2_000, maxLength: 9_000, unit: "binary" }));
  const record = fc.record(
    { name: part, message: part, stack: part, code: part, cause: fc.anything(), errors: part },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(fc.anything(), record, fc.array(record).map((errors) => ({ errors }))), (thrown) => {
      checkBounds(encodeError(thrown));
    }),
    { numRuns: 500 },
  );
});

function storedOf(thrown: unknown): StoredError {
  return decodeJson(encodeError(thrown)) as StoredError;
}

function checkBounds(text: string): void {
  assert(bytesOf(text) <= 16_384, `${bytesOf(text)} bytes`);
  checkError(JSON.parse(text), 1);
}

function checkError(error: StoredError, depth: number): void {
  assert(depth <= 5, "The chain is too long");
  assert(typeof error.name === "string" && error.name !== "" && typeof error.message === "string");
  for (const text of [error.name, error.message, error.stack ?? "", error.code ?? ""]) {
    assert(bytesOf(text) <= 4_096 && text.isWellFormed() && !text.includes("\0"));
  }
  for (const inner of [...error.errors ?? [], ...error.cause === undefined ? [] : [error.cause]]) {
    checkError(inner, depth + 1);
  }
}
