/** Runs the demo for real: processes, a kill, a takeover, and the comparison at its end. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connect } from "@pgqrs/pgqrs";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";
import { type Exit, startProcess } from "./support/processes.ts";

interface Run extends Exit {
  readonly stdout: string;
  readonly stderr: string;
  /** What the run left behind in its folder for temporary files. */
  readonly left: readonly string[];
}

/** A folder with files of which every count is known: 7 files, 8 lines, 13 words, 64 bytes. */
function sampleFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-sample-"));
  const files = {
    "a.txt": "one two\nthree\n",
    "b.txt": "",
    "windows.txt": "one\r\ntwo\r\n",
    "no-newline.txt": "last word",
    "deep/er/spaces.txt": " \t one\u00a0two  \n\n",
    "deep/binary": new Uint8Array([0, 255, 10, 128, 32, 200]),
    "deep/c.txt": "alpha\nbeta",
    ".git/config": "not to be counted",
    "node_modules/x/index.js": "not to be counted",
  };
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(join(folder, name, ".."), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

async function runDemo(args: readonly string[]): Promise<Run> {
  const temporary = mkdtempSync(join(tmpdir(), "pgqrs-demo-test-"));
  try {
    await using child = startProcess(new URL("../examples/demo.ts", import.meta.url), {
      args,
      env: { TMPDIR: temporary },
      cwd: tmpdir(),
    });
    const exit = await child.exited;
    return { ...exit, stdout: child.stdout, stderr: child.stderr, left: readdirSync(temporary) };
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** The part with the workflow: one process was killed after three steps, and another one did only the rest. */
function assertOnce(stdout: string): void {
  const [, killed] = /^Killed process (\d+) with SIGKILL after 3 of 5 steps$/m.exec(stdout) ?? [];
  const [, second] = /^Process (\d+) went on with run \d+: Order 42 is on its way$/m.exec(stdout) ?? [];
  assert(killed !== undefined && second !== undefined && killed !== second, stdout);
  const steps = [...stdout.matchAll(/^(\w+) +1 time, by process (\d+)$/gm)].map(([, step, pid]) => [step, pid]);
  assertEquals(steps, [
    ["reserve", killed],
    ["charge", killed],
    ["pack", killed],
    ["ship", second],
    ["thank", second],
  ]);
  assertMatch(stdout, /^Every step ran once\.$/m);
}

test("demo counts the files of a folder, although a consumer is killed in the middle", async () => {
  const folder = sampleFolder();
  try {
    const { code, stdout, stderr, left } = await runDemo([folder, "--consumers", "3"]);
    assertEquals({ code, stderr }, { code: 0, stderr: "" }, stdout);
    assertStringIncludes(stdout, "7 messages on SQLite");
    assertMatch(stdout, /killed consumer-1 with SIGKILL; it held [1-9]/);
    assertMatch(stdout, /^files +7 +7$/m);
    assertMatch(stdout, /^lines +8 +8$/m);
    assertMatch(stdout, /^words +13 +13$/m);
    assertMatch(stdout, /^bytes +64 +64$/m);
    assertMatch(stdout, /^largest +deep\/er\/spaces.txt \(15\) +deep\/er\/spaces.txt \(15\)$/m);
    assertMatch(stdout, /^[1-9]\d* taken over from consumer-1, 0 failed/m);
    assertStringIncludes(stdout, "The counts agree.");
    assertOnce(stdout);
    assertEquals(left, []);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("demo runs on Postgres and leaves no queue there", async () => {
  const [folder, database] = [sampleFolder(), await freshPostgres()];
  try {
    const { code, stdout, stderr } = await runDemo([folder, "--dsn", database.dsn, "--consumers", "2"]);
    assertEquals({ code, stderr }, { code: 0, stderr: "" }, stdout);
    assertStringIncludes(stdout, "7 messages on postgres");
    assertMatch(stdout, /^[1-9]\d* taken over from consumer-1/m);
    assertOnce(stdout);
    await using store = await connect(database.dsn);
    assertEquals(await store.admin.queues.list(), []);
  } finally {
    await database.close();
    rmSync(folder, { recursive: true });
  }
});

test("demo ends with 1 when the archive and the folder do not agree", async () => {
  const [folder, database] = [sampleFolder(), freshSqliteFile()];
  try {
    {
      await using store = await connect(database.dsn);
      await store.admin.install();
      await store.transaction(async (tx) => {
        await tx.query(`create trigger forge after insert on pgqrs_archive begin
          update pgqrs_archive set result = replace(new.result, '"lines":', '"lines":1') where id = new.id; end`);
      });
    }
    const { code, stdout } = await runDemo([folder, "--dsn", database.dsn, "--consumers", "2"]);
    assertEquals(code, 1, stdout);
    assertMatch(stdout, /^lines .*<- differs$/m);
    assertMatch(stdout, /^words +13 +13$/m);
    assertStringIncludes(stdout, "The counts do NOT agree.");
  } finally {
    await database.close();
    rmSync(folder, { recursive: true });
  }
});

test("demo says in one sentence what it cannot use", async () => {
  const missing = join(tmpdir(), "pgqrs-no-such-folder");
  const { code, stdout, stderr, left } = await runDemo([missing]);
  assertEquals({ code, stdout, left }, { code: 1, stdout: "", left: [] });
  assertMatch(stderr, /^Demo failed: ENOENT[^\n]*\n$/);
});
