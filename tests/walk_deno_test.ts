/** A stranger's walk: the shell blocks of the pages, pasted in order into an empty folder. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
/** Blocks of which other tests or the gate take care: they need a network, or the whole of the tests. */
const ELSEWHERE = /\b(npx -y deno|deno add|deno task|docker|git clone)\b/;

/** The blocks of a page that call the command. */
function blocksOf(page: string): string[] {
  const text = readFileSync(join(ROOT, page), "utf8");
  const blocks = [...text.matchAll(/^```(?:sh|bash)\n([\s\S]*?)^```$/gm)].map(([, code = ""]) => code);
  return blocks.filter((code) => !ELSEWHERE.test(code) && /^pgqrs /m.test(code));
}

/** Runs lines as a shell does that has a `pgqrs`, in an empty folder with an empty home. */
function walk(script: string): { readonly code: number | null; readonly out: string; readonly err: string } {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-walk-"));
  try {
    mkdirSync(join(folder, "bin"));
    const command = join(folder, "bin", "pgqrs");
    writeFileSync(
      command,
      `#!/bin/sh\nexec '${process.execPath}' run -A --quiet --no-check '${join(ROOT, "cli.ts")}' "$@"\n`,
    );
    chmodSync(command, 0o755);
    const home = join(folder, "home");
    mkdirSync(home);
    const { PGQRS_DSN: _none, ...env } = process.env;
    const { status, stdout, stderr } = spawnSync("sh", ["-e", "-c", script], {
      cwd: home,
      encoding: "utf8",
      env: { ...env, PATH: `${join(folder, "bin")}:${env.PATH}`, NO_COLOR: "1" },
    });
    return { code: status, out: stdout, err: stderr };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

for (const page of ["README.md", "docs/programs.md"]) {
  test(`the shell blocks of ${page} work when they are pasted in order`, () => {
    const blocks = blocksOf(page);
    assert(blocks.length > 0, "there is none");
    const { code, out, err } = walk(blocks.join("\n"));
    assertEquals(code, 0, err);
    assertStringIncludes(out, page === "README.md" ? "send_email" : '"result":"DURABLE"');
  });
}
