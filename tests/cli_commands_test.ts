/** Every command, in every format, where it finds something, finds nothing, is misused, and has no database. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { commands } from "../src/cli/commands.ts";
import { type Answer, run, type Seat } from "./support/cli.ts";
import { cases, type CommandCase } from "./support/cli_cases.ts";
import { columnsOf, type Format, FORMATS, readData, steady } from "./support/cli_data.ts";
import { backends, openScene, type Scene, withWorker } from "./support/cli_scene.ts";
import type { TestDatabase } from "./support/databases.ts";
import { startProcess } from "./support/processes.ts";

/** What must never reach a terminal, line feeds aside. */
// deno-lint-ignore no-control-regex -- That is what is looked for.
const CONTROL = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/u;
const STACK = /^\s+at .+[:(]/m;
/** How long a command may take altogether when a call may take 300 ms. */
const LONGEST_MS = 5_000;
const UNREACHABLE = "postgres://me:hush@127.0.0.1:1/none";

test("every command has a case", () => {
  assertEquals(cases.map(({ usage }) => usage).sort(), commands.map(({ usage }) => usage).sort());
  const asks = commands.flatMap((command) => "preview" in command && command.preview ? [command.usage] : []);
  assertEquals(cases.flatMap(({ usage, preview }) => preview === undefined ? [] : [usage]).sort(), asks.sort());
});

for (const backend of backends) {
  describe(`on ${backend.name}`, () => {
    let scene: Scene;
    let bare: TestDatabase;
    // What fails is told alike in all of them; on the slower backend one is enough.
    const formats = backend.name === "Postgres" ? FORMATS.slice(0, 1) : FORMATS;
    before(async () => {
      [scene, bare] = [await openScene(backend), await backend.bare()];
    });
    after(async () => {
      await scene?.close();
      await bare?.close();
    });

    for (const one of cases) {
      test(`${one.usage} finds`, async () => {
        const rows = await Promise.all(FORMATS.map(async (format) => {
          const answer = await onScene(scene, one, (dsn) => tryOn(dsn, `${agreed(one)} --format ${format}`));
          assertEquals(answer.code, 0, answer.err);
          const isSilent = one.isSilent === true && format === "table";
          assertEquals(answer.out === "", isSilent, answer.out);
          return readData(answer.out, format, isSilent ? "" : one.shows);
        }));
        assertEquals(steady(rows[1]), steady(rows[0]));
        if (one.isSilent !== true) assertEquals(rows[2], rows[0] && [rows[0]].flat().length);
      });

      test(`${one.usage} finds nothing`, async () => {
        for (const format of formats) {
          for (const line of one.missing ?? []) {
            const { code, out, err } = await tryOn(scene.dsn, `${line} --format ${format}`);
            assertEquals({ code, out }, { code: 3, out: "" }, `${line}: ${err}`);
            assertMatch(err, /^pgqrs: [^\n]+\n$/);
          }
          if (one.nothing === undefined) continue;
          const { code, out, err } = await tryOn(scene.dsn, `${one.nothing} --format ${format}`);
          assertEquals(code, 0, err);
          if (format === "json") JSON.parse(out);
          assertEquals(isListed(one) ? out : "", isListed(one) && format === "json" ? "[]\n" : "");
        }
      });

      test(`${one.usage} refuses bad input`, async () => {
        for (const format of formats) {
          for (const line of [one.bad, `${one.found} --no-such-flag`, `${one.found} --timeout soon`]) {
            const { code, out, err } = await tryOn(scene.dsn, `${line} --format ${format}`);
            assertEquals({ code, out }, { code: 2, out: "" }, `${line}: ${err}`);
            assertMatch(err, /^pgqrs: [^\n]+\n$/);
          }
        }
      });

      test(`${one.usage} says how to install where nothing is`, async () => {
        if (one.works !== undefined) return;
        for (const format of formats) {
          const { code, out, err } = await tryOn(bare.dsn, `${agreed(one)} --format ${format}`);
          assertEquals(code, 1, err);
          // The doctor tells everything that it finds as data.
          assertStringIncludes(one.usage === "doctor" ? out : err, "pgqrs install");
          if (one.usage !== "doctor") assertEquals(out, "");
        }
      });

      if (one.preview !== undefined) {
        test(`${one.usage} destroys only what it may`, () => destroys(scene, one, formats));
      }
    }

    test("what was only looked at is as it was", async () => {
      const copy = await scene.copy();
      try {
        assertEquals(await lookAt(scene.dsn), await lookAt(copy.dsn));
      } finally {
        await copy.close();
      }
    });

    for (const columns of [80, 200]) {
      test(`lists fit ${columns} columns`, async () => {
        for (const one of cases.filter((one) => isListed(one) && one.usage !== "message dequeue <queue>")) {
          const { code, out, err } = await onScene(scene, one, (dsn) => tryOn(dsn, agreed(one), { columns }));
          assertEquals(code, 0, err);
          for (const line of out.split("\n")) assert(columnsOf(line) <= columns, `${columnsOf(line)}: ${line}`);
        }
      });
    }
  });
}

for (const format of FORMATS) {
  test(`every command tells in ${format} that the database cannot be reached`, async () => {
    const others = cases.filter(({ usage, works }) => works !== "without a database" && usage !== "worker run <queue>");
    await Promise.all(others.map((one) => tellsUnreachable(one, format)));
    const { code, out } = await tryOn(UNREACHABLE, `config --format ${format}`);
    assertEquals(code, 0);
    assertStringIncludes(out, "me:***@");
  });

  test(`worker run tells in ${format} that the database cannot be reached`, async () => {
    const runs = cases.filter(({ usage }) => usage === "worker run <queue>");
    await Promise.all(runs.map((one) => tellsUnreachable(one, format)));
  });

  test(`without a database the three ways are shown, in ${format}`, async () => {
    const cwd = mkdtempSync(join(tmpdir(), "pgqrs-cli-"));
    try {
      const args = ["queue", "list", "--format", format];
      const env = { PGQRS_DSN: undefined, PGQRS_CONFIG_FILE: undefined };
      await using child = startProcess(new URL("../cli.ts", import.meta.url), { args, env, cwd });
      assertEquals((await child.exited).code, 2, child.stderr);
      assertEquals(child.stdout, "");
      for (const way of ["--dsn sqlite:", "PGQRS_DSN=", "pgqrs.yaml"]) assertStringIncludes(child.stderr, way);
    } finally {
      rmSync(cwd, { recursive: true });
    }
  });
}

describe("global flags", () => {
  let scene: Scene;
  let folder: string;
  before(async () => {
    scene = await openScene(backends[0] as typeof backends[0]);
    folder = mkdtempSync(join(tmpdir(), "pgqrs-cli-"));
  });
  after(async () => {
    await scene?.close();
    rmSync(folder, { recursive: true });
  });

  for (const format of FORMATS) {
    test(`--out writes ${format} to a file`, async () => {
      const file = join(folder, `out-${format}`);
      const shown = await tryOn(scene.dsn, `message list tasks --format ${format}`);
      const { code, out } = await tryOn(scene.dsn, `message list tasks --format ${format} --out ${file}`);
      assertEquals({ code, out }, { code: 0, out: "" });
      assert(shown.out.length > 100);
      assertEquals(readFileSync(file, "utf8"), shown.out);
    });
  }

  test("--log-dest writes words to a file, and adds to it", async () => {
    const file = join(folder, "log");
    assertEquals((await tryOn(scene.dsn, `verify --log-dest ${file}`)).err, "");
    const failed = await tryOn(scene.dsn, `queue get nope --log-dest ${file}`);
    assertEquals(failed, { code: 3, out: "", err: "" });
    assertMatch(readFileSync(file, "utf8"), /^\d{4}-[^ ]+Z INFO [^\n]+\n\d{4}-[^ ]+Z ERROR [^\n]*"nope"[^\n]+\n$/);
  });

  test("files that cannot be written are bad usage", async () => {
    for (const flag of ["--out", "--log-dest"]) {
      const { code, out, err } = await tryOn(scene.dsn, `queue list ${flag} ${join(folder, "no", "folder")}`);
      assertEquals({ code, out }, { code: 2, out: "" });
      assertMatch(err, /^pgqrs: cannot write to [^\n]+\n$/);
    }
  });

  test("--quiet tells errors only", async () => {
    assertEquals(await tryOn(scene.dsn, "verify --quiet"), { code: 0, out: "", err: "" });
    assert((await tryOn(scene.dsn, "verify")).err !== "");
    assertMatch((await tryOn(scene.dsn, "queue get nope --quiet")).err, /^pgqrs: [^\n]+\n$/);
  });

  test("a stack is told at --log-level debug only", async () => {
    for (const level of ["error", "warn", "info"]) {
      assert(!STACK.test((await run(["-d", scene.dsn, "queue", "get", "nope", "--log-level", level])).err));
    }
    for (const level of ["debug", "trace"]) {
      const { code, err } = await run(["-d", scene.dsn, "queue", "get", "nope", "--log-level", level]);
      assertEquals(code, 3);
      assertMatch(err, STACK);
    }
    const { err } = await run(["-d", UNREACHABLE, "queue", "list", "--log-level", "debug", "--timeout", "300ms"]);
    assertMatch(err, STACK);
    assert(!err.includes("hush"));
  });

  test("there are colors only where a terminal has them", async () => {
    const isColored = async (line: string, seat: Seat): Promise<boolean[]> => {
      const { out, err } = await run(["-d", scene.dsn, ...line.split(" ")], seat);
      return [out.includes("\x1b["), err.includes("\x1b[")];
    };
    const terminal: Seat = { columns: 80, hasColor: true };
    assertEquals(await isColored("message list tasks", terminal), [true, false]);
    assertEquals(await isColored("message show tasks 1", terminal), [true, false]);
    assertEquals(await isColored("queue get nope", terminal), [false, true]);
    assertEquals(await isColored("message list tasks --no-color", terminal), [false, false]);
    assertEquals(await isColored("queue get nope --no-color", terminal), [false, false]);
    assertEquals(await isColored("message list tasks", { columns: 80 }), [false, false]);
    assertEquals(await isColored("message list tasks", { hasColor: true }), [false, false]);
    assertEquals(await isColored("message list tasks --format json", terminal), [false, false]);
    assertEquals(await isColored("message list tasks --format ndjson", terminal), [false, false]);
  });
});

/** Runs a line, of which nothing may be seen that must never be. */
async function tryOn(dsn: string, line: string, seat?: Seat): Promise<Answer> {
  const answer = await run(["--dsn", dsn, ...line.split(" ")], seat);
  const { out, err } = answer;
  for (const text of [out, err]) {
    assertEquals(CONTROL.exec(text), null, line);
    assert(!text.includes("hush"), line);
    assert(text === "" || text.endsWith("\n") || seat?.answer !== undefined, line);
  }
  assert(!STACK.test(err), err);
  return answer;
}

/** Runs work on the database of a scene that a command needs. */
async function onScene<T>(scene: Scene, one: CommandCase, work: (dsn: string) => Promise<T>): Promise<T> {
  if (one.isChange !== true && one.needsWorker !== true) return await work(scene.dsn);
  const { dsn, close } = await scene.copy();
  try {
    return one.needsWorker === true ? await withWorker(dsn, () => work(dsn)) : await work(dsn);
  } finally {
    await close();
  }
}

async function tellsUnreachable(one: CommandCase, format: Format): Promise<void> {
  const line = `${agreed(one)} --timeout 300ms --format ${format}`;
  const controller = new AbortController();
  // What does not end by itself is ended, and has then another exit code.
  const timer = setTimeout(() => controller.abort("SIGTERM"), LONGEST_MS);
  const { code, out, err } = await tryOn(UNREACHABLE, line, { signal: controller.signal });
  clearTimeout(timer);
  assertEquals({ code, out }, { code: 4, out: "" }, `${one.usage}: ${err}`);
  assertMatch(err, /^warning: [^\n]+PGQRS_DSN[^\n]+\npgqrs: [^\n]+\n$/);
}

async function destroys(scene: Scene, one: CommandCase, formats: readonly Format[]): Promise<void> {
  await onScene(scene, one, async (dsn) => {
    const was = await lookAt(dsn);
    for (const format of formats) {
      const line = `${one.found} --format ${format}`;
      const unasked = await tryOn(dsn, line);
      assertEquals([unasked.code, unasked.out], [5, ""]);
      assertMatch(unasked.err, /^pgqrs: [^\n]*--yes[^\n]*\n$/);
      for (const answer of ["n", "", "yikes"]) {
        const denied = await tryOn(dsn, line, { answer });
        assertEquals([denied.code, denied.out], [5, ""]);
        assertMatch(denied.err, /^This will [^\n]+\? \[y\/N\] pgqrs: nothing was done\n$/);
      }
      const dry = await tryOn(dsn, `${line} --dry-run`);
      assertEquals(dry.code, 0, dry.err);
      assertMatch(dry.err, /^This would [^\n]+\n$/);
      readData(dry.out, format, one.preview ?? "");
    }
    assertEquals(await lookAt(dsn), was);
    assertEquals((await tryOn(dsn, one.found, { answer: "y" })).code, 0);
    assert(JSON.stringify(await lookAt(dsn)) !== JSON.stringify(was));
  });
}

/** What is in a database, as far as a command that destroys something changes it. */
async function lookAt(dsn: string): Promise<unknown[]> {
  const answers = ["stats", "queue metrics"].map((line) => run(["-d", dsn, ...line.split(" "), "--format", "ndjson"]));
  return (await Promise.all(answers)).map(({ code, out }) => [code, steady(readData(out, "ndjson", ""))]);
}

function agreed({ found, preview }: CommandCase): string {
  return preview === undefined ? found : `${found} --yes`;
}

/** Whether a command prints a list, and so possibly an empty one. */
function isListed({ usage }: CommandCase): boolean {
  return /^(doctor|config|queue metrics|message read|dead replay|worker (get|health|release|pause|resume)|workflow runs)\b| list\b/
    .test(usage);
}
