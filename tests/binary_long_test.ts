/** How long `pgqrs --version` takes beside an empty program that is linked the same way. */
import { assert } from "@std/assert";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { outputOf } from "./support/command.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const RUNS = 11;
const MOST = 1.5;

function millisecondsOf(program: string, args: readonly string[]): number {
  const begin = performance.now();
  spawnSync(program, args, { stdio: "ignore" });
  return performance.now() - begin;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;
}

test("pgqrs --version starts at most half as slow again as an empty program", async () => {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-start-"));
  try {
    const empty = join(folder, "empty");
    const pgqrs = join(folder, "pgqrs");
    writeFileSync(`${empty}.ts`, "export {};\n");
    for (const [source, program] of [[`${empty}.ts`, empty], ["cli.ts", pgqrs]] as const) {
      const link = ["build", "--compile", "--minify", "--splitting", source, "--outfile", program];
      await outputOf(["npx", "-y", "bun@1.4.5", ...link], { cwd: ROOT });
    }
    // Taken in turns, so that what else the machine does hits both.
    const pairs = Array.from(
      { length: RUNS },
      () => [millisecondsOf(empty, []), millisecondsOf(pgqrs, ["--version"])] as const,
    );
    const [base, start] = [median(pairs.map(([each]) => each)), median(pairs.map(([, each]) => each))];
    console.log(`start of pgqrs --version: ${start.toFixed(1)} ms, of an empty program ${base.toFixed(1)} ms`);
    assert(start <= MOST * base, `${(start / base).toFixed(1)} times as long`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
