/** The tests can fail: each fault of tools/sabotage.ts turns the test red that is meant to see it. */
import { assertEquals } from "@std/assert";
import { test } from "node:test";
import process from "node:process";
import { FAULTS, sabotage } from "../tools/sabotage.ts";

// The copies of the tree are tested on Deno.
const skip = process.versions.deno === undefined;

test("every fault of tools/sabotage.ts turns a named test red", { skip }, async () => {
  const verdicts = await sabotage(FAULTS, console.log);
  assertEquals(verdicts.filter(({ isCaught }) => !isCaught).map(({ fault }) => fault.name), []);
});
