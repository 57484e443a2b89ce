/** Runs every TypeScript block of the pages and of the documentation comments, as a reader would paste it. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import process from "node:process";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
/** Blocks that need a package which we do not have; each is known by its first line. */
const NOT_RUN = ['import { sql } from "drizzle-orm";'];

const pages = [
  ...readdirSync(ROOT).filter((name) => name.endsWith(".md")),
  ...["docs", "examples"].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).map((name) => join(folder, name))
  ),
].filter((name) => name.endsWith(".md")).sort();

interface Block {
  readonly page: string;
  readonly info: string;
  readonly code: string;
}

function blocksOf(page: string): Block[] {
  const text = readFileSync(join(ROOT, page), "utf8");
  return [...text.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map(([, info = "", code = ""]) => ({ page, info, code }));
}

/** Runs `deno test --doc` and returns how many blocks passed. */
function runBlocks(paths: readonly string[]): number {
  const args = ["test", "-A", "--quiet", "--doc", ...paths];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: ROOT,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  assertEquals(status, 0, `${stdout}\n${stderr}`);
  const [, passed] = /ok \| (\d+) passed/.exec(stdout) ?? [];
  return Number(passed);
}

test("every TypeScript block of the pages and every example of a documentation comment runs", () => {
  const blocks = pages.flatMap(blocksOf).filter(({ info }) => /^(ts|typescript|js|javascript)\b/.test(info));
  const isRun = ({ info }: Block): boolean => info === "ts";
  const notRun = blocks.filter((block) => !isRun(block));
  assertEquals(notRun.map(({ code }) => code.split("\n")[0]), NOT_RUN, "each block is `ts` and nothing else");

  const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" });
  const files = [
    "mod.ts",
    "testing.ts",
    ...sources.filter((name) => name.endsWith(".ts")).map((name) => join("src", name)),
  ];
  const examples = files.flatMap((file) => readFileSync(join(ROOT, file), "utf8").match(/^ *\* ```ts$/gm) ?? []);

  const expected = blocks.filter(isRun).length + examples.length;
  assert(expected >= 20, `${expected} blocks`);
  // A block that is spelled so that the runner passes it over would make the numbers differ.
  assertEquals(
    runBlocks([
      "README.md",
      "docs",
      ...pages.filter((page) => page.startsWith("examples")),
      "mod.ts",
      "testing.ts",
      "src",
    ]),
    expected,
  );
});

test("every link between the pages leads somewhere", () => {
  const links = pages.flatMap((page) =>
    [...readFileSync(join(ROOT, page), "utf8").matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = ""]) => ({ page, link }))
  );
  for (const { page, link } of links) {
    if (/^https?:/.test(link)) continue;
    const [path = "", anchor] = link.split("#");
    const target = path === "" ? page : join(dirname(page), path);
    assert(existsSync(join(ROOT, target)), `${page} links to ${link}`);
    if (anchor === undefined) continue;
    const headings = readFileSync(join(ROOT, target), "utf8").match(/^#+ .*$/gm) ?? [];
    const anchors = headings.map((heading) => heading.replace(/^#+ /, "").toLowerCase().replaceAll(" ", "-"));
    assert(anchors.includes(anchor), `${page} links to ${link}`);
  }
  assert(links.length > 10);
});

test("README.md names the tasks that exist", () => {
  const { tasks } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8")) as { tasks: Record<string, unknown> };
  const text = readFileSync(join(ROOT, "README.md"), "utf8") + readFileSync(join(ROOT, "CONTRIBUTING.md"), "utf8");
  const named = [...text.matchAll(/deno task ([\w:]+)/g)].map(([, name = ""]) => name);
  assertMatch(text, /npx -y deno task demo\nnpx -y deno task test\n/);
  for (const name of named) assert(name in tasks, `deno task ${name}`);
});
