/** How long `pgqrs --version` takes beside an empty program that is run the same way. */
import { assert } from "@std/assert";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { outputOf } from "./support/command.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const BUN = ["npx", "-y", "bun@1.4.5"];
const RUNS = 21;
const MOST = 1.5;
const MOST_FROM_SOURCES = 2;

let folder = "";
let empty = "";

before(() => {
  folder = mkdtempSync(join(tmpdir(), "pgqrs-start-"));
  empty = join(folder, "empty.ts");
  writeFileSync(empty, "export {};\n");
});

after(() => rmSync(folder, { recursive: true, force: true }));

function millisecondsOf([program = "", ...args]: readonly string[]): number {
  const begin = performance.now();
  const { status } = spawnSync(program, args, { cwd: ROOT, stdio: "ignore" });
  const took = performance.now() - begin;
  assert(status === 0, `${program} ${args.join(" ")}: ${status}`);
  return took;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
}

/** Takes them in turns, so that what else the machine does hits both. */
function compare(what: string, base: readonly string[], pgqrs: readonly string[], most = MOST): void {
  const pair = () => [millisecondsOf(base), millisecondsOf([...pgqrs, "--version"])] as const;
  // The first of each fills caches.
  pair();
  const pairs = Array.from({ length: RUNS }, pair);
  const [least, start] = [median(pairs.map(([each]) => each)), median(pairs.map(([, each]) => each))];
  const times = (start / least).toFixed(2);
  console.log(`${what}: ${start.toFixed(1)} ms, an empty program ${least.toFixed(1)} ms, ${times} times as long`);
  assert(start <= most * least, `${times} times as long`);
}

describe("pgqrs --version starts hardly later than an empty program", () => {
  test("linked by Bun", async () => {
    const programs = [[empty, join(folder, "empty")], ["cli.ts", join(folder, "pgqrs")]] as const;
    for (const [source, program] of programs) {
      const link = ["build", "--compile", "--minify", "--splitting", source, "--outfile", program];
      await outputOf([...BUN, ...link], { cwd: ROOT });
    }
    compare("linked by Bun", [programs[0][1]], [programs[1][1]]);
  });

  // `deno compile` needs a part that cannot be had everywhere; what it embeds also runs without it.
  test("bundled by Deno", async () => {
    const args = [
      "bundle",
      "--quiet",
      "--platform",
      "deno",
      "--minify",
      "--code-splitting",
      "--outdir",
      folder,
      "cli.ts",
    ];
    await outputOf([process.execPath, ...args], { cwd: ROOT });
    const deno = [process.execPath, "run", "-A"];
    compare("bundled by Deno", [...deno, empty], [...deno, join(folder, "cli.js")]);
  });

  // Deno reads all sources that may be imported later before it begins, some ten milliseconds for these.
  test("from its sources by Deno", () => {
    const deno = [process.execPath, "run", "-A", "--no-check"];
    compare("from its sources on Deno", [...deno, empty], [...deno, "cli.ts"], MOST_FROM_SOURCES);
  });
});
