/** What Deno has to allow for each database, and that the library runs where there is nothing but the network. */
import { assert, assertEquals } from "@std/assert";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { freshLibsql, freshPostgres, freshSqliteFile } from "./support/databases.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const CHILD = fileURLToPath(new URL("./support/edge_process.ts", import.meta.url));
const WORKER = fileURLToPath(new URL("./support/edge_worker.ts", import.meta.url));

function deno(...args: string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: ROOT, env: { ...process.env, NO_COLOR: "1" } });
    let output = "";
    child.stdout.on("data", (chunk) => output += chunk);
    child.stderr.on("data", (chunk) => output += chunk);
    child.on("close", (code) => resolve({ code, output }));
  });
}

const RUN = ["run", "--no-prompt", "--quiet", "--no-check"];

test("mod.ts needs the network and the environment alone for Postgres", async () => {
  const database = await freshPostgres();
  const { output } = await deno(...RUN, "--allow-net", "--allow-env", CHILD, database.dsn);
  assertEquals(output, "archived\n");
  await database.close();
});

test("mod.ts needs its folder alone for SQLite", async () => {
  const database = freshSqliteFile();
  const folder = dirname(database.file);
  const { output } = await deno(...RUN, `--allow-read=${folder}`, `--allow-write=${folder}`, CHILD, database.dsn);
  assertEquals(output, "archived\n");
  await database.close();
});

test("mod.ts needs nothing at all for SQLite in memory", async () => {
  const { output } = await deno(...RUN, CHILD, "sqlite::memory:");
  assertEquals(output, "archived\n");
});

describe("a bundle for browsers", () => {
  let folder = "";
  let bundle = "";

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "pgqrs-bundle-"));
    bundle = join(folder, "edge.js");
    const { code, output } = await deno("bundle", "--platform", "browser", "-o", bundle, CHILD);
    assertEquals(code, 0, output);
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  test("imports nothing of node: at its top, and neither does one of mod.ts", async () => {
    const library = join(folder, "mod.js");
    const { code, output } = await deno("bundle", "--platform", "browser", "-o", library, join(ROOT, "mod.ts"));
    assertEquals(code, 0, output);
    for (const file of [bundle, library]) {
      const text = readFileSync(file, "utf8");
      assert(text.includes("node:sqlite"), "the drivers are in the bundle");
      const found = text.match(
        /^(import|export)\b[^;]*\bfrom\s*["'][^"']+["']|^import\s*["'][^"']+["']|\brequire\(["'].*$/gm,
      );
      // Examples in comments begin with an asterisk and do not match.
      assertEquals(found ?? [], []);
    }
  });

  for (const platform of ["a process", "a worker"]) {
    test(`runs through http: libSQL in ${platform} that may use the network alone`, async () => {
      const database = await freshLibsql();
      const { output } = platform === "a process"
        ? await deno(...RUN, "--no-config", "--allow-net", bundle, database.dsn)
        : await deno(...RUN, "--unstable-worker-options", "-A", WORKER, database.dsn, `file://${bundle}`);
      assertEquals(output, "archived\n");
      await database.close();
    });
  }

  test("the sources run through http: libSQL with the network alone as well", async () => {
    const database = await freshLibsql();
    const { output } = await deno(...RUN, "--allow-net", CHILD, database.dsn);
    assertEquals(output, "archived\n");
    await database.close();
  });
});
