/** What is read from the output of a runner when tests fail. */
import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { failuresIn } from "../tools/failures.ts";

const importers = (path: string): string[] => path === "tests/contract/x.ts" ? ["tests/a_test.ts"] : [];

test("failures of Deno are read with their files, coloured or not", () => {
  const output = `./tests/a_test.ts => flow on A ... adds ... \x1b[31mFAILED\x1b[0m (1ms)
./tests/a_test.ts => flow on A ... subtracts ... ok (0ms)
./tests/a_test.ts => flow on A ... FAILED (due to 1 failed step) (4ms)
./tests/b_test.ts => fail() of what is FAILED ... ok (2ms)
./tests/c_test.ts (uncaught error)

 ERRORS 

flow on A ... adds => ext:deno_node/testing.ts:1:23191
error: Error: no
    test("adds", () => { throw new Error("no"); });

 FAILURES 

flow on A ... adds => ext:deno_node/testing.ts:1:23191

FAILED | 1 passed (1 step) | 2 failed (1 step) (68ms)`;
  assertEquals(failuresIn("deno", output, importers), {
    tests: ["flow on A ... adds => ext:deno_node/testing.ts:1:23191: error: Error: no"],
    files: ["tests/a_test.ts", "tests/c_test.ts"],
  });
});

test("failures of Bun are read with the file above them", () => {
  const output = `tests/b_test.ts:
(pass) fine [0.11ms]

tests/a_test.ts:
error: no
(fail) flow on A > adds [0.24ms]
(pass) flow on A > subtracts [0.12ms]

 2 pass
 1 fail`;
  assertEquals(failuresIn("bun", output, importers), {
    tests: ["tests/a_test.ts: (fail) flow on A > adds [0.24ms]"],
    files: ["tests/a_test.ts"],
  });
});

test("failures of Node are read where they are written, and run where that is imported", () => {
  const output = `▶ flow on A
  ✖ adds (0.834929ms)

✖ failing tests:

test at tests/contract/x.ts:4:5
✖ adds (0.834929ms)
  Error: no
      at TestContext.<anonymous> (tests/contract/x.ts:4:32)

test at tests/b_test.ts:2:1
✖ alone (0.705607ms)
  TypeError [Error]: never`;
  assertEquals(failuresIn("node", output, importers), {
    tests: [
      "tests/contract/x.ts: ✖ adds (0.834929ms): Error: no",
      "tests/b_test.ts: ✖ alone (0.705607ms): TypeError [Error]: never",
    ],
    files: ["tests/a_test.ts", "tests/b_test.ts"],
  });
});
