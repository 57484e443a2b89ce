/** The page of the command says what the command can do. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { commands } from "../src/cli/commands.ts";
import { parse } from "../src/cli/parse.ts";
import { cliPage } from "../tools/cli_page.ts";
import { run } from "./support/cli.ts";

test("docs/cli.md is what tools/cli_page.ts writes", () => {
  const page = readFileSync(new URL("../docs/cli.md", import.meta.url), "utf8");
  assertEquals(page, cliPage(), "run `deno run -A tools/cli_page.ts`");
});

test("every example of a command is one of that command", () => {
  for (const { usage, example } of commands) {
    const request = parse(wordsOf(example));
    assertEquals(request.kind === "run" ? request.command.usage : request.kind, usage);
  }
});

test("every level of the help has an example", async () => {
  for (const words of [[], ["queue"], ["archive"], ["queue", "create"], ["worker", "run"]]) {
    const { code, out } = await run([...words, "--help"]);
    assertEquals(code, 0);
    assertStringIncludes(out, "\nExample\n  pgqrs ");
  }
});

/** The words of a line as a shell would make them, as far as the examples need it. */
function wordsOf(line: string): string[] {
  const words = line.replace(/ > .*$/, "").match(/'[^']*'|"[^"]*"|\S+/g) ?? [];
  return words.map((word) => word.replace(/^(['"])(.*)\1$/s, "$2"));
}
