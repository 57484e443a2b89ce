/** What may be stored: the same verdict in the same words on every backend, and exactly what was given comes back. */
import { assert, assertEquals, assertInstanceOf, assertNotMatch, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { DatabaseError, type Message } from "../../mod.ts";
import { type Context, inStore, takeOne } from "./context.ts";

/** Defines the tests for one backend. */
export function valuesContract(context: Context): void {
  describe(`values on ${context.name}`, () => {
    refused(context);
    accepted(context);
    limits(context);
  });
}

/** A value that is refused, and what is said of it after "Cannot store ". */
type Refusal = readonly [value: () => unknown, message: string];

const CYCLE: unknown[] = [{ s3cret: 1 }];
CYCLE.push({ back: CYCLE });

/** Hides the class of a value from TypeScript, which would not let some of these be written. */
function nested(depth: number): unknown {
  let value: unknown = 0;
  for (let i = 0; i < depth; i++) value = [value];
  return value;
}

function withGetter(): unknown {
  return {
    get s3cret(): never {
      throw new Error("a getter was called");
    },
  };
}

const REFUSED: Readonly<Record<string, Refusal>> = {
  undefined: [() => undefined, "payload as JSON: it is undefined"],
  "undefined inside": [() => ({ a: [1, { b: undefined }] }), "payload.a[1].b as JSON: it is undefined"],
  NaN: [() => ({ n: NaN }), "payload.n as JSON: it is NaN"],
  Infinity: [() => [Infinity], "payload[0] as JSON: it is Infinity"],
  "-Infinity": [() => -Infinity, "payload as JSON: it is -Infinity"],
  "-0": [() => ({ n: -0 }), "payload.n as JSON: it is -0"],
  BigInt: [() => ({ n: 1n }), "payload.n as JSON: it is a bigint"],
  Date: [() => ({ at: new Date(0) }), "payload.at as JSON: it is an instance of Date"],
  "invalid Date": [() => new Date(NaN), "payload as JSON: it is an instance of Date"],
  Map: [() => new Map([["s3cret", 1]]), "payload as JSON: it is an instance of Map"],
  Set: [() => new Set(["s3cret"]), "payload as JSON: it is an instance of Set"],
  RegExp: [() => /s3cret/, "payload as JSON: it is an instance of RegExp"],
  Error: [() => new Error("s3cret"), "payload as JSON: it is an instance of Error"],
  Uint8Array: [() => new Uint8Array(2), "payload as JSON: it is an instance of Uint8Array"],
  function: [() => ({ f: () => "s3cret" }), "payload.f as JSON: it is a function"],
  symbol: [() => [Symbol("s3cret")], "payload[0] as JSON: it is a symbol"],
  "symbol key": [() => ({ [Symbol("s3cret")]: 1 }), "payload as JSON: it is an object with a symbol key"],
  "boxed string": [() => Object("s3cret"), "payload as JSON: it is an instance of String"],
  "class instance": [() => new (class Card {})(), "payload as JSON: it is an instance of Card"],
  toJSON: [() => ({ toJSON: () => "s3cret" }), "payload.toJSON as JSON: it is a function"],
  getter: [withGetter, "payload.s3cret as JSON: it is a getter or setter"],
  "array hole": [() => [1, , 3], "payload[1] as JSON: it is an array hole"],
  "array property": [
    () => Object.assign([1], { s3cret: 1 }),
    "payload as JSON: it is an array with a property besides its elements",
  ],
  NUL: [() => ({ text: "s3cret\0" }), "payload.text as JSON: it is a string with the character U+0000"],
  "NUL in a key": [() => ({ "a\0": 1 }), 'payload["a\\u0000"] as JSON: it is a key with the character U+0000'],
  "lone surrogate": [() => ["s3cret\ud800"], "payload[0] as JSON: it is a string with a lone surrogate"],
  "lone surrogate in a key": [() => ({ "\udc00": 1 }), 'payload["\\udc00"] as JSON: it is a key with a lone surrogate'],
  __proto__: [
    () => JSON.parse('{"a":{"__proto__":{"s3cret":1}}}'),
    "payload.a.__proto__ as JSON: it is a key that sets the prototype elsewhere",
  ],
  cycle: [() => CYCLE, "payload[1].back as JSON: it is a cycle"],
  "65 levels": [() => nested(65), "payload as JSON: it is nested deeper than 64 levels"],
  "10 000 levels": [() => nested(10_000), "payload as JSON: it is nested deeper than 64 levels"],
};

const ACCEPTED: readonly unknown[] = [
  null,
  true,
  false,
  0,
  "",
  [],
  {},
  [[], {}, [[{}]], null],
  { "": "", a: { "": [] } },
  -1,
  0.1,
  1 / 3,
  5e-324,
  1.7976931348623157e308,
  Number.MAX_SAFE_INTEGER,
  -Number.MAX_SAFE_INTEGER,
  2 ** 53 + 2,
  2 ** 63,
  2 ** 64,
  1e21,
  1e-7,
  "null",
  "'; drop table x; -- \" \\ / $1 ?1 :a @b",
  "\u0001\b\t\n\f\r\u001f\u007f\u0080\u2028\u2029\ufeff\ufffe\uffff",
  "\\u0000 \\ud800 is text",
  "Grüße, 世界, 👩‍🚀, e\u0301 and \u00e9, שלום",
  { "ключ": "значение", "👍": 1, "a.b": { "c d": 1 }, "\"'\\": 2, $ref: 3, constructor: 4, toString: 5, 10: 6, 9: 7 },
  { z: 1, a: 2, m: { z: 1, a: 2 } },
  Object.assign(Object.create(null), { bare: true }),
  [1, "1", true, null, { 1: 1 }],
];

function refused(context: Context): void {
  test(
    "enqueue() refuses what JSON cannot represent with its path, and sends nothing",
    inStore(context, async ({ store, producer }) => {
      // Whatever were sent would fail otherwise.
      await store.close();
      for (const [name, [value, message]] of Object.entries(REFUSED)) {
        for (const key of [undefined, "k"]) {
          const error = await assertRejects(() => producer.enqueue(value(), key === undefined ? {} : { key }), Error);
          assertEquals(error.message, `Cannot store ${message}`, name);
          assert(error instanceof TypeError || error instanceof RangeError, name);
          if (!message.includes("s3cret")) assertNotMatch(`${error.stack}${error.cause}`, /s3cret/);
        }
        const inList = message.replace("payload", "payloads[1]");
        const error = await assertRejects(() => producer.enqueueMany([1, value()]), Error);
        assertEquals(error.message, `Cannot store ${inList}`, name);
      }
      assertInstanceOf(await assertRejects(() => producer.enqueue(1)), DatabaseError);
    }),
  );

  test(
    "archive() refuses such a result in the same words",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueue(1);
      const message = await takeOne(consumer);
      for (const [name, [value, text]] of Object.entries(REFUSED)) {
        if (name === "undefined") continue;
        const expected = `Cannot store ${text.replace("payload", "result")}`;
        const error = await assertRejects(() => consumer.archive(message, { result: value() }), Error);
        assertEquals(error.message, expected, name);
      }
      assertEquals((await store.admin.messages.get(message.id))?.state, "leased");
    }),
  );
}

function accepted(context: Context): void {
  test(
    "enqueue() stores exactly what it accepts, by each of its ways",
    inStore(context, async ({ store, producer, consumer }) => {
      const texts = ACCEPTED.map((value) => JSON.stringify(value));
      const textsOf = (messages: readonly { payload: unknown }[]) => messages.map((m) => JSON.stringify(m.payload));
      for (const value of ACCEPTED) await producer.enqueue(value);
      await producer.enqueueMany(ACCEPTED);
      await producer.enqueueMany(ACCEPTED, { each: (_, i) => ({ key: `k${i}` }) });
      const list = (await store.admin.messages.list({ limit: 1_000 })).items;
      assertEquals(textsOf(list), [...texts, ...texts, ...texts]);
      const messages = await consumer.dequeue({ limit: 1_000 });
      assertEquals(textsOf(messages), [...texts, ...texts, ...texts]);
      await consumer.archiveMany(messages);
      const archived = await Promise.all(messages.map(({ id }) => store.admin.archive.get(id)));
      assertEquals(textsOf(archived as Message[]), [...texts, ...texts, ...texts]);
    }),
  );

  test(
    "archive() stores exactly the result that it is given",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueueMany(ACCEPTED);
      for (const message of await consumer.dequeue({ limit: 1_000 })) {
        assert(await consumer.archive(message, { result: message.payload }));
        const archived = await store.admin.archive.get(message.id);
        assertEquals(JSON.stringify(archived?.result), JSON.stringify(message.payload));
      }
    }),
  );

  test(
    "enqueue() takes one object in several places and leaves the caller's value alone",
    inStore(context, async ({ producer, consumer }) => {
      const shared = Object.freeze({ n: 1 });
      const payload = Object.freeze({ a: shared, b: [shared, shared] });
      const message = await producer.enqueue(payload);
      assert(message.payload !== payload);
      assertEquals((await consumer.dequeue())[0]?.payload, { a: { n: 1 }, b: [{ n: 1 }, { n: 1 }] });
    }),
  );
}

function limits(context: Context): void {
  test(
    "enqueue() takes 1 MiB of UTF-8 and not a byte more",
    inStore(context, async ({ producer, consumer }) => {
      const exact = "x".repeat(1_048_574);
      const wide = `${"é".repeat(524_286)}xx`;
      for (const text of [exact, wide, exact.slice(1)]) {
        await producer.enqueue(text);
        const [message] = await consumer.dequeue();
        assert(message?.payload === text);
        assert(await consumer.archive(message, { result: text }));
      }
      for (const text of [`${exact}x`, `${wide}x`]) {
        const error = await assertRejects(() => producer.enqueue(text), RangeError, "the limit is 1048576");
        assert(error.message.length < 200);
        await assertRejects(() => producer.enqueueMany([1, text]), RangeError, "payloads[1]");
      }
      assertEquals(await consumer.dequeue(), []);
    }),
  );

  test(
    "enqueue() takes 64 levels of nesting",
    inStore(context, async ({ producer, consumer }) => {
      await producer.enqueue(nested(64));
      await producer.enqueueMany([nested(64)], { each: () => ({ key: "k" }) });
      const messages = await consumer.dequeue({ limit: 2 });
      assertEquals(messages.map(({ payload }) => JSON.stringify(payload).length), [129, 129]);
    }),
  );
}
