/** The least that Deno has to allow for each backend, and what is said when it is less: docs/operations.md, Permissions. */
import { assertEquals, assertMatch } from "@std/assert";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Ending, endingOf } from "./support/command.ts";
import { freshLibsql, freshPostgres, freshSqliteFile, type TestDatabase } from "./support/databases.ts";

const LIBRARY = fileURLToPath(new URL("./support/edge_process.ts", import.meta.url));
const CLI = fileURLToPath(new URL("../cli.ts", import.meta.url));
/** Where no flag speaks of permissions, `node:child_process` of Deno gives the child all that its parent has. */
const DENO = [process.execPath, "run", "--quiet", "--no-check", "--no-prompt", "--deny-ffi"];

/** A database, all that its backend needs, and what is said without one of these. */
interface Backend {
  readonly database: TestDatabase;
  readonly needs: readonly string[];
  readonly without: Readonly<Record<string, RegExp>>;
}

const backends: Readonly<Record<string, () => Promise<Backend>>> = {
  async Postgres() {
    const database = await freshPostgres();
    const { host } = new URL(database.dsn);
    return {
      database,
      needs: [`--allow-net=${host}`, "--allow-env"],
      without: { "--allow-net": /net access|--allow-net/, "--allow-env": /env access|--allow-env/ },
    };
  },
  SQLite() {
    const database = freshSqliteFile();
    const folder = dirname(database.file);
    return Promise.resolve({
      database,
      needs: [`--allow-read=${folder}`, `--allow-write=${folder}`],
      without: { "--allow-read": /read access|--allow-read/, "--allow-write": /write access|--allow-write/ },
    });
  },
  async libSQL() {
    const database = await freshLibsql();
    const { host } = new URL(database.dsn);
    const without = { "--allow-net": /Cannot \w+: Deno needs the permission --allow-net; nothing was changed/ };
    return { database, needs: [`--allow-net=${host}`], without };
  },
};

let folder = "";

before(() => folder = mkdtempSync(join(tmpdir(), "pgqrs-permissions-")));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the command with these flags alone. */
function pgqrs(flags: readonly string[], dsn: string, args: readonly string[], cwd = folder): Promise<Ending> {
  const env = { NO_COLOR: "1", PGQRS_DSN: dsn };
  return endingOf([...DENO, ...flags, CLI, "--timeout", "5s", ...args], { cwd, env });
}

/** What a failure has to be: said in a few lines, and no stack of ours. */
function assertTold({ code, stderr }: Ending, expected: RegExp, what: string): void {
  assertMatch(stderr, expected, what);
  assertEquals(code === 0, false, what);
}

for (const [name, open] of Object.entries(backends)) {
  describe(`on ${name}`, () => {
    let backend: Backend;

    before(async () => {
      backend = await open();
    });
    after(() => backend.database.close());

    test("the library works a message with what it needs and nothing else", async () => {
      const { database, needs } = backend;
      const { stdout, stderr } = await endingOf([...DENO, ...needs, LIBRARY, database.dsn], { cwd: folder });
      assertEquals(stdout, "archived\n", stderr);
    });

    test("the command works one with these and the environment, where it has its DSN", async () => {
      const { database: { dsn }, needs } = backend;
      const flags = [...new Set([...needs, "--allow-env"])];
      const commands = [["install"], ["queue", "create", "tasks"], ["message", "send", "tasks", "1"]];
      for (const args of commands) {
        const { code, stderr } = await pgqrs(flags, dsn, args);
        assertEquals(code, 0, `${args.join(" ")}: ${stderr}`);
      }
      const { code, stdout, stderr } = await pgqrs(flags, dsn, ["message", "dequeue", "tasks", "--format", "json"]);
      assertEquals(code, 0, stderr);
      assertMatch(stdout, /"payload": ?1\b/);
    });

    test("each of them is missed by name", async () => {
      const { database: { dsn }, needs, without } = backend;
      for (const [flag, expected] of Object.entries(without)) {
        const rest = needs.filter((need) => !need.startsWith(flag));
        assertTold(await endingOf([...DENO, ...rest, LIBRARY, dsn], { cwd: folder }), expected, flag);
        if (flag === "--allow-env") continue;
        const told = await pgqrs([...rest, "--allow-env"], dsn, ["queue", "list"]);
        assertTold(told, expected, `pgqrs without ${flag}`);
        assertMatch(told.stderr, /^(pgqrs: [^\n]+\n)+$/, flag);
      }
    });
  });
}

describe("the command", () => {
  test("reads a configuration file only where it may, and says so", async () => {
    const cwd = join(folder, "configured");
    mkdirSync(cwd);
    writeFileSync(join(cwd, "jobs.yaml"), 'dsn: "sqlite::memory:"\n');
    const config = (...flags: string[]) =>
      endingOf([...DENO, ...flags, CLI, "config", "--config", "jobs.yaml"], { cwd, env: { PGQRS_DSN: undefined } });
    const allowed = await config("--allow-env", `--allow-read=${cwd}`);
    assertEquals(allowed.code, 0, allowed.stderr);
    assertTold(await config("--allow-env"), /read access|--allow-read/, "--allow-read");
  });

  test("tells its version and explains itself with no permission at all", async () => {
    for (const args of [["--version"], ["--help"], ["queue", "--help"]]) {
      const { code, stderr } = await endingOf([...DENO, CLI, ...args], { cwd: folder });
      assertEquals(code, 0, `${args.join(" ")}: ${stderr}`);
    }
  });

  test("needs --allow-run for programs as workers, and says so", async () => {
    const database = freshSqliteFile();
    const { dsn, file } = database;
    const flags = [
      "--allow-env",
      "--allow-sys=hostname",
      `--allow-read=${dirname(file)}`,
      `--allow-write=${dirname(file)}`,
    ];
    for (const args of [["install"], ["queue", "create", "tasks"], ["message", "send", "tasks", "1"]]) {
      assertEquals((await pgqrs(flags, dsn, args)).code, 0);
    }
    const work = ["worker", "run", "tasks", "--exec", "cat", "--drain"];
    const done = await pgqrs([...flags, "--allow-run"], dsn, work);
    assertEquals(done.code, 0, done.stderr);
    const [succeeded] = [JSON.parse((await pgqrs(flags, dsn, ["archive", "list", "tasks", "--format", "json"])).stdout)]
      .flat();
    assertEquals(succeeded?.outcome, "succeeded");
    await database.close();
  });
});
