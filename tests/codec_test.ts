/** What a workflow may take, return, record and send, and how it is stored: `src/codec.ts`, without errors. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { test } from "node:test";
import { runInNewContext } from "node:vm";
import { decodeValue, encodeValue } from "../src/codec.ts";
import { encodeJson } from "../src/json.ts";
import { anyValue, bytesOf, facts, stored } from "./support/codec.ts";

const CANARY = "canary-2718281828";

test("encodeValue() writes plain JSON as encodeJson does", () => {
  const texts: unknown[] = ["", '"$pgqrs":', "\u001b", [1, "é😀", { a: null, "": [true] }], {
    2: 1,
    1: 2,
    b: { toJSON: "x" },
  }];
  for (const value of texts) assertEquals(encodeValue(value), encodeJson(value));
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    let plain: string;
    try {
      plain = encodeJson(value);
    } catch {
      return;
    }
    if (!plain.includes('"$pgqrs":')) assertEquals(encodeValue(value), plain);
    assertEquals(stored(value), JSON.parse(plain));
  }));
});

test("encodeValue() writes every value beyond JSON in its documented form", () => {
  const tag = (...parts: unknown[]) => JSON.stringify({ $pgqrs: parts });
  const cases: [unknown, string][] = [
    [undefined, tag("undefined")],
    [{ a: undefined }, `{"a":${tag("undefined")}}`],
    [[undefined, null], `[${tag("undefined")},null]`],
    [NaN, tag("number", "NaN")],
    [-0, tag("number", "-0")],
    [[Infinity, -Infinity], `[${tag("number", "Infinity")},${tag("number", "-Infinity")}]`],
    [-42n, tag("bigint", "-42")],
    [2n ** 200n, tag("bigint", `${2n ** 200n}`)],
    [new Date(0), tag("Date", "1970-01-01T00:00:00.000Z")],
    [new Date(-8.64e15), tag("Date", "-271821-04-20T00:00:00.000Z")],
    [new Date(NaN), tag("Date", null)],
    [new Map<unknown, unknown>([["a", 1], [{}, []]]), tag("Map", [["a", 1], [{}, []]])],
    [new Set([1, "1"]), tag("Set", [1, "1"])],
    [/a\/"/gi, tag("RegExp", 'a\\/"', "gi")],
    [new URL("https://example.org/ü?q#f"), tag("URL", "https://example.org/%C3%BC?q#f")],
    [Uint8Array.of(1, 2, 255), tag("Uint8Array", "AQL/")],
    [Uint8Array.of(9, 1, 2, 255, 9).subarray(1, 4), tag("Uint8Array", "AQL/")],
    [Uint16Array.of(1, 513), tag("Uint16Array", "AQABAg==")],
    [new DataView(Uint8Array.of(9, 1, 2).buffer, 1), tag("DataView", "AQI=")],
    [Uint8Array.of(1, 2).buffer, tag("ArrayBuffer", "AQI=")],
    ["\ud800", tag("string", "ANg=")],
    ["a\0", tag("string", "YQAAAA==")],
    [{ "\0": 1 }, tag("Object", [[{ $pgqrs: ["string", "AAA="] }, 1]])],
    [JSON.parse('{"__proto__":{"a":1}}'), tag("Object", [["__proto__", { a: 1 }]])],
    [{ b: 1, $pgqrs: ["Date", null] }, tag("Object", [["b", 1], ["$pgqrs", ["Date", null]]])],
  ];
  for (const [value, text] of cases) {
    assertEquals(encodeValue(value), text);
    assertEquals(facts(stored(value)), facts(value));
  }
});

test("encodeValue() and decodeValue() round-trip every value, and its text", () => {
  fc.assert(fc.property(anyValue, (value) => assertEquals(facts(stored(value)), facts(value))), { numRuns: 1_000 });
});

test("encodeValue() stores a view of each type as that type, with its own bytes only", () => {
  const types = [Int8Array, Uint8ClampedArray, Int16Array, Int32Array, Uint32Array, Float32Array, Float64Array];
  for (const View of types) {
    const whole = new View([7, 1, 2, 3, 7]);
    const read = stored(whole.subarray(1, 4));
    assert(read instanceof View);
    assertEquals([...read], [1, 2, 3]);
    assertEquals(read.buffer.byteLength, 3 * View.BYTES_PER_ELEMENT);
  }
  assertEquals([...stored(BigUint64Array.of(2n ** 64n - 1n)) as BigUint64Array], [2n ** 64n - 1n]);
  assertEquals(stored(new Float32Array(0)) instanceof Float32Array, true);
  const read = stored(Buffer.from("text"));
  assertEquals([Object.getPrototypeOf(read) === Uint8Array.prototype, new TextDecoder().decode(read as Uint8Array)], [
    true,
    "text",
  ]);
});

test("encodeValue() repeats what is shared, and forgets prototypes, frozenness and realms", () => {
  const shared = { at: new Date(0) };
  const read = stored(Object.freeze([shared, shared])) as { at: Date }[];
  assert(read[0] !== read[1] && !Object.isFrozen(read));
  const bare = stored(Object.assign(Object.create(null), { a: 1n }));
  assertEquals(Object.getPrototypeOf(bare), Object.prototype);
  const FakeDate = Object.defineProperty(class extends Date {}, "name", { value: "Date" });
  assertEquals(Object.getPrototypeOf(stored(new FakeDate(0))), Date.prototype);
  const foreign = stored(runInNewContext(
    "({ at: new Date(0), map: new Map([[1, new Set([2])]]), bytes: Uint8Array.of(1), e: new TypeError('x') })",
  )) as Record<string, unknown>;
  assert(foreign.at instanceof Date && foreign.map instanceof Map && foreign.bytes instanceof Uint8Array);
  assert(foreign.e instanceof TypeError && foreign.map.get(1) instanceof Set);
});

test("encodeValue() keeps the order of keys and an own __proto__, and sets no prototype", () => {
  const value = JSON.parse('{"z":1,"__proto__":{"isAdmin":true},"a":2}');
  const read = stored({ ...value, n: 1n });
  assertEquals(Object.keys(Object(read)), ["z", "__proto__", "a", "n"]);
  const kept = stored([value, 1n]) as object[];
  assertEquals(Object.keys(kept[0]!), ["z", "__proto__", "a"]);
  assertEquals(Object.getPrototypeOf(kept[0]), Object.prototype);
  assertEquals(Reflect.get(kept[0]!, "isAdmin"), undefined);
  // Others may have written the key as it is, beside a tag.
  const plain = decodeValue('{"__proto__":{"isAdmin":true,"n":{"$pgqrs":["bigint","1"]}}}');
  assertEquals([Object.getPrototypeOf(plain), Object.keys(Object(plain))], [Object.prototype, ["__proto__"]]);
});

test("encodeValue() names path and type of what cannot be stored", () => {
  class Point {
    x = CANARY;
  }
  class Dates extends Date {}
  const cycle: unknown[] = [];
  cycle.push(new Map([["a", { cycle }]]));
  const loop: Error & { self?: unknown } = new Error(CANARY);
  loop.self = loop;
  const cases: [unknown, string][] = [
    [() => CANARY, " as JSON: it is a function"],
    [{ n: 1n, f: () => CANARY }, ".f as JSON: it is a function"],
    [[1n, Symbol(CANARY)], "[1] as JSON: it is a symbol"],
    [new Map<unknown, unknown>([[1, 2], [{ f: () => 1 }, 2]]), "[1][0].f as JSON: it is a function"],
    [{ m: new Map([["k", new Set([1, new Point()])]]) }, ".m[0][1][1] as JSON: it is an instance of Point"],
    [{ a: new Dates() }, ".a as JSON: it is an instance of Dates"],
    [Object.create(Date.prototype), " as JSON: it is an object that cannot be read"],
    [{ a: Object.create(Uint8Array.prototype) }, ".a as JSON: it is no real Uint8Array"],
    [{ a: Object.create(ArrayBuffer.prototype) }, ".a as JSON: it is an object that cannot be read"],
    [{ a: Object.create(URL.prototype) }, ".a as JSON: it is an object that cannot be read"],
    [Object.assign(new Map(), { x: CANARY }), " as JSON: it is a Map with a property of its own"],
    [[Promise.resolve()], "[0] as JSON: it is an instance of Promise"],
    [[new WeakMap()], "[0] as JSON: it is an instance of WeakMap"],
    [[Object(1n)], "[0] as JSON: it is an instance of BigInt"],
    [[new SharedArrayBuffer(1)], "[0] as JSON: it is an instance of SharedArrayBuffer"],
    // deno-lint-ignore no-sparse-arrays -- The hole is the case.
    [[1n, , 3], "[1] as JSON: it is an array hole"],
    [{
      a: 1n,
      get b() {
        throw new Error(CANARY);
      },
    }, ".b as JSON: it is a getter or setter"],
    [Object.defineProperty({ a: 1n }, "b", { value: 1 }), ".b as JSON: it is a property that is not enumerable"],
    [{ a: 1n, [Symbol("s")]: 1 }, " as JSON: it is an object with a symbol key"],
    [Object.assign([1n], { extra: 1 }), " as JSON: it is an array with a property besides its elements"],
    [cycle, "[0][0][1].cycle as JSON: it is a cycle"],
    [loop, ".self as JSON: it is a cycle"],
    [new Error("m", { cause: { f: () => 1 } }), ".cause.f as JSON: it is a function"],
    [new AggregateError([1, () => 1]), ".errors[1] as JSON: it is a function"],
    [[1n, new Proxy({}, { ownKeys: fail })], "[1] as JSON: it is an object that cannot be read"],
    [[1n, new Proxy({}, { getPrototypeOf: fail })], "[1] as JSON: it is an object that cannot be read"],
    [{ m: new Proxy(new Map(), {}) }, ".m as JSON: it is an object that cannot be read"],
  ];
  for (const [value, expected] of cases) {
    const error = assertThrows(() => encodeValue(value, { what: "result" }), TypeError);
    assertEquals(error.message, `Cannot store result${expected}`);
  }
  const long = assertThrows(() => encodeValue({ n: 1n, ["k".repeat(9_999)]: fail }), TypeError);
  assert(long.message.length < 400);
});

test("encodeValue() holds its limits with tags as without", () => {
  const text = encodeValue([1n, "é"]);
  assertEquals(encodeValue([1n, "é"], { maxBytes: bytesOf(text) }), text);
  assertThrows(
    () => encodeValue([1n, "é"], { maxBytes: bytesOf(text) - 1, what: "result" }),
    RangeError,
    `Cannot store result as JSON: it has ${bytesOf(text)} bytes, the limit is ${bytesOf(text) - 1}`,
  );
  assertThrows(() => encodeValue(new Uint8Array(1_000_000)), RangeError, "the limit is 1048576");
  let shared: unknown = 1n;
  for (let level = 0; level < 60; level++) shared = [shared, shared];
  assertThrows(() => encodeValue(shared), RangeError, "the limit is 1048576");
  const nested = (depth: number, innermost: unknown) => {
    let value = innermost;
    for (let level = 0; level < depth; level++) value = level % 2 === 0 ? [value] : new Map([[1, value]]);
    return value;
  };
  stored(nested(64, 1n));
  assertThrows(() => encodeValue(nested(65, 1n)), RangeError, "it is nested deeper than 64 levels");
  assertThrows(() => encodeValue(nested(64, new Date())), RangeError, "it is nested deeper than 64 levels");
  const depthOf = (text: string) =>
    Math.max(...Array.from(
      text,
      ((depth) => (unit) => {
        if ("[{".includes(unit)) depth++;
        return "]}".includes(unit) ? depth-- : depth;
      })(0),
    ));
  const deep = encodeValue(nested(398, 1n), { maxDepth: 1_000 });
  assert(depthOf(deep) <= 1_000 && depthOf(deep) > 900, `${depthOf(deep)}`);
  assertEquals(encodeValue(decodeValue(deep), { maxDepth: 1_000 }), deep);
  assertThrows(() => encodeValue(nested(700, 1n), { maxDepth: 1_000 }), RangeError, "deeper than 1000 levels");
  const megabytes = encodeValue(new Uint8Array(10_000_000), { maxBytes: 2 ** 24 });
  assertEquals((decodeValue(megabytes) as Uint8Array).length, 10_000_000);
});

function fail(): never {
  throw new Error(CANARY);
}
