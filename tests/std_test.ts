/** What pgqrs relies on in @std. The stand-ins of dev/std pass it in every run, the real packages before a release. */
import {
  assert,
  assertEquals,
  AssertionError,
  assertMatch,
  assertNotEquals,
  assertObjectMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { parseArgs } from "@std/cli/parse-args";
import { parse, stringify } from "@std/yaml";
import { test } from "node:test";

test("@std/assert compares deeply and returns what was thrown", async () => {
  assertEquals<unknown>({ list: [1, { at: new Date(5) }], set: new Set([1n]) }, {
    list: [1, { at: new Date(5) }],
    set: new Set([1n]),
  });
  assertEquals<unknown>(Object.assign(Object.create(null), { id: 1 }), { id: 1 });
  assertEquals(new Uint8Array([1, 2]), new Uint8Array([1, 2]));
  assertEquals(NaN, NaN);
  assertNotEquals<unknown>({ a: 1 }, { a: 1, b: undefined });
  assertNotEquals<unknown>([1], [1, 2]);
  assertNotEquals<unknown>(1, 1n);
  assertNotEquals(new Map([["a", 1]]), new Map([["a", 2]]));
  assertObjectMatch({ a: 1, b: { c: [1], d: 2 } }, { b: { c: [1] } });
  assertStringIncludes("a longer text", "longer");
  assertMatch("id 17", /\d+/);
  const failure = assertThrows(() => assertEquals({ a: 1 }, { a: 2 }), AssertionError);
  assert(failure.message.length > 0);
  const error = await assertRejects(() => Promise.reject(new RangeError("too far")), RangeError, "too");
  assertEquals(error.message, "too far");
  await assertRejects(() => assertRejects(() => Promise.resolve()), AssertionError);
  assertThrows(() => assertThrows(() => {}), AssertionError);
  assertThrows(() => assertThrows(() => assert(false), RangeError), AssertionError);
});

test("@std/cli parses what the command line needs", () => {
  const args = parseArgs(
    [
      "enqueue",
      "mail",
      "--payload={}",
      "-n",
      "5",
      "--key",
      "07",
      "--header",
      "a=1",
      "--header",
      "b=2",
      "--no-color",
      "-v",
    ],
    {
      string: ["key", "payload", "header"],
      boolean: ["color", "verbose", "json"],
      collect: ["header"],
      negatable: ["color"],
      alias: { verbose: "v", limit: "n" },
      default: { color: true, timeout: 10 },
    },
  );
  assertEquals<unknown>(args, {
    _: ["enqueue", "mail"],
    payload: "{}",
    limit: 5,
    n: 5,
    key: "07",
    header: ["a=1", "b=2"],
    color: false,
    verbose: true,
    v: true,
    json: false,
    timeout: 10,
  });
});

test("@std/cli stops, keeps the rest and reports what it does not know", () => {
  const unknown: string[] = [];
  const report = (arg: string) => {
    unknown.push(arg);
    return false;
  };
  assertEquals<unknown>(parseArgs(["-a", "queue", "--b", "3"], { boolean: ["a"], stopEarly: true }), {
    _: ["queue", "--b", "3"],
    a: true,
  });
  assertEquals<unknown>(parseArgs(["1", "--", "--x", "2"], { "--": true }), { _: [1], "--": ["--x", "2"] });
  assertEquals<unknown>(parseArgs(["1", "--", "2"], { string: ["_"] }), { _: ["1", "2"] });
  assertEquals<unknown>(parseArgs(["--known=1", "--typo", "word"], { string: ["known"], unknown: report }), {
    _: [],
    known: "1",
  });
  // The value of an unknown option goes with it.
  assertEquals(unknown, ["--typo"]);
});

test("@std/yaml reads and writes plain documents", () => {
  const text = "queues:\n  - name: mail\n    maxAttempts: 3\n    ratio: 0.5\nisOn: true\nempty: null\n";
  const value = { queues: [{ name: "mail", maxAttempts: 3, ratio: 0.5 }], isOn: true, empty: null };
  assertEquals<unknown>(parse(text), value);
  assertEquals(stringify(value), text);
  assertEquals<unknown>(parse("a: yes\nb: on\nc: 2020-01-01\n"), { a: "yes", b: "on", c: new Date("2020-01-01") });
  assertThrows(() => parse("a: 1\na: 2\n"), Error);
  assertThrows(() => parse("a: [1\n"), Error);
});
