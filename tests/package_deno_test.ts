/** The package as users get it: published to a registry and used from there, and packed for npm. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { VERSION } from "../src/cli/version.ts";
import { endingOf, outputOf, type Place } from "./support/command.ts";
import { freshPostgres } from "./support/databases.ts";
import { type JsrServer, startJsr } from "./support/jsr.ts";
import { availableRuntimes } from "./support/runtimes.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const QUIET = { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", DENO_NO_PROMPT: "1", PGQRS_DSN: undefined };
const STANDARD = ["assert", "cli", "yaml"];
/** What `publish.include` of deno.json means, written down once more so that a slip there is seen here. */
const PUBLISHED =
  /^\/((mod|cli|testing)\.ts|src\/[\w/]+\.ts|dev\/std\/(assert|cli|yaml)\/(mod\.ts|deno\.json)|(README|CHANGELOG)\.md|LICENSE-(MIT|APACHE)|deno\.json)$/;
/** A message from one end to the other, in words that every runtime understands. */
const WORK = `
  await store.admin.install();
  await store.admin.createQueue("tasks");
  await store.producer("tasks").enqueue({ n: 1 });
  const consumer = store.consumer("tasks");
  const [message] = await consumer.dequeue();
  console.log("archived", message !== undefined && await consumer.archive(message));
  await store.close();
`;

let folder = "";

/** Runs the Deno that runs this. */
function deno(args: readonly string[], place: Place): Promise<string> {
  return outputOf([process.execPath, ...args], { ...place, env: { ...QUIET, ...place.env } });
}

/** An empty folder. */
function emptyFolder(name: string): string {
  return mkdtempSync(join(folder, `${name}-`));
}

/** Copies of our stand-ins for @std, which nobody else has; the registry wants a licence in them. */
function copyStandIns(): void {
  for (const name of STANDARD) {
    const copy = join(folder, "std", name);
    cpSync(join(ROOT, "dev/std", name), copy, { recursive: true });
    const config = join(copy, "deno.json");
    writeFileSync(config, JSON.stringify({ license: "MIT", ...JSON.parse(readFileSync(config, "utf8")) }));
  }
}

before(() => {
  folder = mkdtempSync(join(tmpdir(), "pgqrs-package-"));
  copyStandIns();
});

after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

describe("the package on JSR", () => {
  let jsr: JsrServer;
  let env: Place["env"] = {};

  before(async () => {
    jsr = await startJsr();
    const cache = join(folder, "deno");
    mkdirSync(cache);
    // Nothing is known of any JSR package; what came from npm before need not come again.
    const { npmCache } = JSON.parse(await deno(["info", "--json"], { cwd: folder })) as { npmCache: string };
    if (existsSync(npmCache)) symlinkSync(npmCache, join(cache, "npm"));
    env = { JSR_URL: jsr.url, DENO_DIR: cache };
    // Slow types are looked for all the same; the others are checked by who imports the package.
    const publish = ["publish", "--allow-dirty", "--no-provenance", "--no-check", "--token=any"];
    const folders = [ROOT, ...STANDARD.map((name) => join(folder, "std", name))];
    await Promise.all(folders.map((cwd) => deno(publish, { cwd, env })));
  });

  after(() => jsr.close());

  function published() {
    const found = jsr.published.find(({ name }) => name === "@pgqrs/pgqrs");
    assert(found);
    return found;
  }

  test("has its version, its exports, its sources and what explains them, and nothing else", () => {
    const { version, exports, files } = published();
    assertEquals([version, exports], [VERSION, { ".": "./mod.ts", "./cli": "./cli.ts", "./testing": "./testing.ts" }]);
    const paths = [...files.keys()];
    assertEquals(paths.filter((path) => !PUBLISHED.test(path) || /_test\.|\/(tests|tools)\//.test(path)), []);
    const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ts")).map((path) => `/src/${path}`);
    for (
      const path of ["/mod.ts", "/cli.ts", "/testing.ts", "/README.md", "/LICENSE-MIT", "/LICENSE-APACHE", ...sources]
    ) {
      assert(files.has(path), path);
    }
  });

  test("imports nothing by a bare name, and every source is reached from an export", async () => {
    const reached = new Set<string>();
    const base = `${jsr.url}@pgqrs/pgqrs/${VERSION}`;
    for (const name of ["jsr:@pgqrs/pgqrs", "jsr:@pgqrs/pgqrs/cli", "jsr:@pgqrs/pgqrs/testing"]) {
      const text = await deno(["info", "--json", name], { cwd: emptyFolder("info"), env });
      const { modules } = JSON.parse(text) as {
        modules: { specifier: string; error?: string; dependencies?: { specifier: string }[] }[];
      };
      for (const { specifier, error, dependencies = [] } of modules) {
        assertEquals(error, undefined, specifier);
        if (!specifier.startsWith(base)) continue;
        reached.add(specifier.slice(base.length));
        for (const { specifier: wanted } of dependencies) assertMatch(wanted, /^(npm:|jsr:|node:|\.\.?\/)/, specifier);
      }
    }
    const sources = [...published().files.keys()].filter((path) => /^\/(src\/.*|mod|cli|testing)\.ts$/.test(path));
    assertEquals(sources.filter((path) => !reached.has(path)), []);
  });

  test("works a message in a script that imports it, types included", async () => {
    const cwd = emptyFolder("import");
    const script = `import { connect } from "jsr:@pgqrs/pgqrs";
      const store = await connect("sqlite::memory:");${WORK}`;
    writeFileSync(join(cwd, "main.ts"), script);
    assertEquals(await deno(["run", "--check", "--no-prompt", "main.ts"], { cwd, env }), "archived true\n");
  });

  test("is a command by deno x", async () => {
    const cwd = emptyFolder("x");
    const pgqrs = (...args: string[]) => deno(["x", "-A", "jsr:@pgqrs/pgqrs/cli", ...args], { cwd, env });
    assertEquals(await pgqrs("--version"), `pgqrs ${VERSION}\n`);
    await pgqrs("-d", "sqlite:jobs.db", "install");
    assert(existsSync(join(cwd, "jobs.db")));
  });

  test("is a command by deno install -g", async () => {
    const cwd = emptyFolder("install");
    const root = join(cwd, "root");
    await deno(["install", "-g", "-A", "-n", "pgqrs", "--root", root, "jsr:@pgqrs/pgqrs/cli"], { cwd, env });
    // The command calls `deno` by its name.
    const place = { cwd, env: { ...QUIET, ...env, PATH: `${join(process.execPath, "..")}:${process.env.PATH}` } };
    const pgqrs = (...args: string[]) =>
      outputOf([join(root, "bin/pgqrs"), "-d", "sqlite:jobs.db", "--format", "json", ...args], place);
    await pgqrs("install");
    await pgqrs("queue", "create", "tasks");
    await pgqrs("message", "send", "tasks", '{"n":1}');
    assertEquals([JSON.parse(await pgqrs("message", "dequeue", "tasks"))].flat()[0]?.payload, { n: 1 });
    // A configuration file goes through @std/yaml as the registry has it.
    writeFileSync(join(cwd, "pgqrs.yaml"), "dsn: sqlite:jobs.db\n");
    assertMatch(await outputOf([join(root, "bin/pgqrs"), "queue", "list"], place), /tasks/);
  });
});

describe("what JSR scores", () => {
  interface Documented {
    readonly jsDoc?: { readonly doc?: string };
  }
  interface Doc {
    readonly module_doc?: { readonly doc?: string };
    readonly symbols: readonly { readonly name: string; readonly declarations: readonly Documented[] }[];
  }

  test("every export of the package and every symbol is documented", async () => {
    const { exports } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8")) as {
      exports: Record<string, string>;
    };
    const files = Object.values(exports);
    const text = await deno(["doc", "--json", ...files], { cwd: ROOT });
    const docs = Object.values((JSON.parse(text) as { nodes: Record<string, Doc> }).nodes);
    assertEquals(docs.length, files.length);
    for (const { module_doc: about, symbols } of docs) {
      assert((about?.doc ?? "").length > 100, "a module doc");
      assert(symbols.length > 0);
      // JSR is content with four out of five; we are not.
      const bare = symbols.filter(({ declarations }) => declarations.every(({ jsDoc }) => !jsDoc?.doc));
      assertEquals(bare.map(({ name }) => name), []);
    }
  });

  test("README.md has an example, and deno.json names a licence", () => {
    assertMatch(readFileSync(join(ROOT, "README.md"), "utf8"), /^```ts\n[^]*?^```$/m);
    const { license } = JSON.parse(readFileSync(join(ROOT, "deno.json"), "utf8")) as { license: string };
    assertEquals(license, "MIT OR Apache-2.0");
  });
});

describe("the package packed for npm", () => {
  const npm = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"];
  const pgqrs = () => join(folder, "pgqrs.tgz");
  let library = "";
  let command = "";

  before(async () => {
    const pack = (name: string, cwd: string) =>
      deno(["pack", "--allow-dirty", "-o", join(folder, `${name}.tgz`)], { cwd });
    await Promise.all([pack("pgqrs", ROOT), ...STANDARD.map((name) => pack(name, join(folder, "std", name)))]);
    [library, command] = [emptyFolder("library"), emptyFolder("command")];
    // The library needs nothing of @std but for a file of settings; npm has none of it, so the tarball cannot name it.
    const standard = ["cli", "yaml"].map((name) => join(folder, `${name}.tgz`));
    await Promise.all([
      outputOf([...npm, pgqrs()], { cwd: library }),
      outputOf([...npm, pgqrs(), ...standard], { cwd: command }),
    ]);
    writeFileSync(join(library, "main.mjs"), MAIN);
    writeFileSync(join(command, "pgqrs.yaml"), 'dsn: "sqlite::memory:"\n');
  });

  for (const { name, program } of programs()) {
    test(`the library works on ${name}`, async () => {
      const database = await freshPostgres();
      try {
        const file = `${name}.db`;
        const output = await outputOf([program, "main.mjs", database.dsn, file], { cwd: library });
        const hasSqlite = name !== "Node 20";
        const sqlite = hasSqlite ? "sqlite" : NO_SQLITE;
        assertEquals(output.trim().split("\n"), ["postgres://a:***@h/db", "ConfigError true", sqlite, "archived true"]);
        assertEquals(existsSync(join(library, file)), hasSqlite);
      } finally {
        await database.close();
      }
    });

    test(`the command works on ${name}`, async () => {
      const cli = join(command, "node_modules/@pgqrs/pgqrs/cli.js");
      const { code, stdout, stderr } = await endingOf([program, cli, "--version"], { cwd: command, env: QUIET });
      assertEquals({ code, stdout }, { code: 0, stdout: `pgqrs ${VERSION}\n` }, stderr);
      const config = await endingOf([program, cli, "config", "--format", "json"], { cwd: command, env: QUIET });
      assertMatch(config.stdout, /"sqlite::memory:"/, config.stderr);
    });
  }
});

const NO_SQLITE =
  "ConfigError: Cannot use the SQLite DSN: on Node it needs version 22.16 or newer, for its node:sqlite true";
const MAIN = `import { Config, ConfigError, connect } from "@pgqrs/pgqrs";
  console.log(Config.fromDsn("postgres://a:b@h/db").toJSON().dsn);
  try { Config.fromDsn("nowhere:"); } catch (error) { console.log(error.name, error instanceof ConfigError); }
  try {
    await (await connect(\`sqlite:\${process.argv[3]}\`)).close();
    console.log("sqlite");
  } catch (error) {
    console.log(String(error), error instanceof ConfigError);
  }
  const store = await connect(process.argv[2]);${WORK}`;

/** The Node of this machine, whatever it is, and those runtimes that npm has. */
function programs(): { name: string; program: string }[] {
  const others = availableRuntimes().filter(({ name }) => name !== "deno");
  return [
    { name: "Node 20", program: "node" },
    ...others.map(({ name, command: [program = ""] }) => ({ name: name === "bun" ? "Bun" : "Node 26", program })),
  ];
}
