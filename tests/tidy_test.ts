/** Runs tools/tidy.ts over our own sources, and shows each of its checks a fault. */
import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { readSources, tidy } from "../tools/tidy.ts";

const sources = readSources(fileURLToPath(new URL("../", import.meta.url)));
const known = tidy(sources).problems;

/** The problems that a file would add to the sources, in place of the file of that path or beside all others. */
function problemsWith(path: string, change: (text: string) => string): string[] {
  const before = sources.find((source) => source.path === path)?.text ?? "";
  const changed = [...sources.filter((source) => source.path !== path), { path, text: change(before) }];
  return tidy(changed).problems.filter((problem) => !known.includes(problem));
}

/** What is added to a file. */
function adding(text: string): (before: string) => string {
  return (before) => `${text}\n${before}`;
}

test("tidy() finds nothing wrong with our own sources", () => {
  const { problems, notes } = tidy(sources);
  for (const note of notes) console.log(note);
  assert(sources.length > 40, `${sources.length} sources`);
  assertEquals(problems, []);
});

test("tidy() finds imports that go up a layer, and sideways", () => {
  const [problem] = problemsWith("src/sql/queues.ts", adding('import { Store } from "../store.ts";'));
  assertEquals(problem, "src/sql/queues.ts imports src/store.ts, which is not below it");
  assertEquals(problemsWith("src/producer.ts", adding('import { openSqlite } from "./drivers/sqlite.ts";')), [
    "src/producer.ts imports src/drivers/sqlite.ts, which is not below it",
  ]);
  assertEquals(problemsWith("src/cli/new.ts", () => 'import { Store } from "../store.ts";\n'), [
    "src/cli/new.ts imports src/store.ts, which is not below it",
  ]);
  assertEquals(problemsWith("src/drivers/libsql.ts", adding('import { openSqlite } from "./sqlite.ts";')), [
    "src/drivers/libsql.ts imports another driver, src/drivers/sqlite.ts",
  ]);
  assertEquals(problemsWith("src/retry.ts", adding('import { checkName } from "./options.ts";')), []);
});

test("tidy() finds circles of imports, but not of types", () => {
  const circle = problemsWith("src/admin/page.ts", adding('import { MessageAdmin } from "./messages.ts";'));
  assertEquals(circle, ["src/admin/page.ts -> src/admin/messages.ts -> src/admin/page.ts is a circle of imports"]);
  assertEquals(problemsWith("src/admin/page.ts", adding('import type { MessageAdmin } from "./messages.ts";')), []);
});

test("tidy() finds clients outside of their driver", () => {
  assertEquals(problemsWith("src/admin/new.ts", () => 'import postgres from "postgres";\n'), [
    "src/admin/new.ts imports postgres, which only src/drivers/postgres_lane.ts may",
  ]);
  assertEquals(problemsWith("src/admin/new.ts", () => 'const { DatabaseSync } = await import("node:sqlite");\n'), [
    "src/admin/new.ts imports node:sqlite, which only src/drivers/sqlite.ts may",
  ]);
});

test("tidy() finds words where they do not belong, and not in comments and texts", () => {
  const found = (path: string, text: string) => problemsWith(path, adding(text)).length;
  assertEquals(found("src/producer.ts", "const path = Deno.cwd();"), 1);
  assertEquals(found("src/producer.ts", "const path = process.cwd();"), 1);
  assertEquals(found("src/producer.ts", 'console.log("here");'), 1);
  assertEquals(found("src/sql/queues.ts", "const time = Date.now();"), 1);
  assertEquals(found("src/producer.ts", "export default 1;"), 1);
  assertEquals(found("src/producer.ts", "enum Kind { A }"), 1);
  assertEquals(found("src/producer.ts", "const text = `select 1`;"), 1);
  assertEquals(found("src/producer.ts", '// As Deno.cwd() and console.log() do.\nconst name = "Deno.cwd";'), 0);
});

test("tidy() finds statements and columns that nothing uses", () => {
  assertEquals(problemsWith("src/sql/queues.ts", adding("export function nobodyCallsMe(): void {}")), [
    "src/sql/queues.ts exports nobodyCallsMe, which nothing imports",
  ]);
  const withColumn = (before: string) =>
    before.replace("  retention_ms bigint", "  retention_ms bigint,\n  unread text");
  assertEquals(problemsWith("src/sql/migrations/0001_tables.ts", withColumn), ["the column unread is in no statement"]);
});

test("tidy() finds errors that are never made, and options that are never read", () => {
  const added = "export class LateError extends PgqrsError {}";
  assertEquals(problemsWith("src/errors.ts", (before) => `${before}${added}\n`), [
    "LateError is never made",
    "LateError is expected by no test",
  ]);
  assertEquals(problemsWith("src/errors.ts", (before) => before.replace('| "config"', '| "config"\n  | "unused"')), [
    'no error has the code "unused"',
  ]);
  const withOption = (before: string) =>
    before.replace("export interface DequeueOptions extends CallLimits {", "$&\n  readonly sideways?: boolean;");
  assertEquals(problemsWith("src/consumer.ts", withOption), ["src/consumer.ts: DequeueOptions.sideways is never read"]);
});
