/**
 * Runs the tests: `deno task test`, `test:long`, `test:bun`, `test:node`.
 *
 * One PostgreSQL serves all test files of a run. Existing files and folders among the arguments select what runs; all
 * other arguments go to the runner of the tests.
 *
 *   --bun, --node       another runtime than Deno
 *   --long              only the `*_long_test.ts` files, which otherwise do not run
 *   --postgres=14       the oldest supported server instead of the newest
 *
 * @module
 */
import { spawn } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, relative } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { type PostgresVersion, startPostgres } from "../tests/support/postgres_server.ts";
import { guard } from "../tests/support/watchdog.ts";
import { failuresIn, type Runtime } from "./failures.ts";

interface Plan {
  runtime: Runtime;
  files: string[];
  /** Flags for the runner of the tests. */
  flags: string[];
  postgres: PostgresVersion;
  /** Whether the files run one after the other. */
  isSerial: boolean;
}

interface Outcome {
  passed: number;
  failed: number;
  exitCode: number;
  /** What the runner printed. */
  output: string;
}

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const BUN = "bun@1.4.5";
const NODE = "node@26";
/**
 * What a runtime cannot change is tested on Deno alone: the plans and locks of the database, the older server, libSQL, which
 * is asked over HTTP everywhere, the text of statements and sources, the command as far as it calls nothing of a runtime, and
 * what tries the same again and again or kills processes of all runtimes: crashes, kills, storms, and the kit for them.
 */
const ON_DENO_ALONE =
  /(_deno|bench|plan|plan_sqlite|interleaving|postgres14|libsql|render|migrations|tidy|failures|cli_(commands|fuzz|mended_[ab]|page|print|process|send|workflow)|run_(crash|kill)|seeds|storm|testing|worker_kill)_test\.ts$/;
/** How many test files run at once. Most of them wait for something half of the time. */
const JOBS = Math.min(4, availableParallelism() + 1);
/** Where more files than these fail it is not for want of a quiet moment. */
const MOST_AGAIN = 4;

if (import.meta.main) {
  process.chdir(ROOT);
  const outcome = await run(planFrom(process.argv.slice(2)));
  console.log(`${outcome.passed} passed, ${outcome.failed} failed`);
  process.exit(outcome.exitCode);
}

function planFrom(args: readonly string[]): Plan {
  const own = new Set(["--bun", "--node", "--long", "--postgres=14", "--postgres=18"]);
  const chosen = args.filter((arg) => !own.has(arg) && isTestPath(arg));
  const runtime = args.includes("--bun") ? "bun" : args.includes("--node") ? "node" : "deno";
  const files = (chosen.length > 0 ? chosen : ["tests"]).flatMap(testFilesIn);
  // A file that is named by itself runs whatever its name says.
  const isWanted = (file: string) => chosen.includes(file) || runsHere(file, runtime, args.includes("--long"));
  return {
    runtime,
    files: files.filter(isWanted),
    flags: args.filter((arg) => !own.has(arg) && !chosen.includes(arg)),
    postgres: args.includes("--postgres=14") ? 14 : 18,
    isSerial: false,
  };
}

function isTestPath(arg: string): boolean {
  return !arg.startsWith("-") && existsSync(arg) && (statSync(arg).isDirectory() || arg.endsWith(".ts"));
}

function testFilesIn(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  const entries = readdirSync(path, { recursive: true, encoding: "utf8" });
  return entries.filter((entry) => entry.endsWith("_test.ts")).map((entry) => join(path, entry)).sort();
}

function runsHere(file: string, runtime: Runtime, isLong: boolean): boolean {
  const isForRuntime = runtime === "deno" || !ON_DENO_ALONE.test(file) || /hazard/.test(file);
  return isForRuntime && file.endsWith("_long_test.ts") === isLong;
}

/** Runs the plan on one server, which is gone when this returns or this process ends. */
async function run(plan: Plan): Promise<Outcome> {
  if (plan.files.length === 0) return { passed: 0, failed: 0, exitCode: 0, output: "" };
  const folder = ownTemporaryFolder();
  try {
    const given = process.env.PGQRS_TEST_PG_URL;
    if (given) return await runUpToTwice(plan, given, folder.pidFile);
    await using server = await startPostgres({ version: plan.postgres });
    return await runUpToTwice(plan, server.dsn(), folder.pidFile);
  } finally {
    folder.remove();
  }
}

/**
 * Runs the tests, and in CI the files in which something failed once more, one after the other: tests that measure times
 * share a machine with others there. What passes then is named as unsteady, for somebody to look into.
 */
async function runUpToTwice(plan: Plan, postgresUrl: string, pidFile: string): Promise<Outcome> {
  const first = await runTests(plan, postgresUrl, pidFile);
  if (first.exitCode === 0) return first;
  const { tests, files } = failuresIn(plan.runtime, first.output, (path) => importers(plan.files, path));
  const isAgain = Boolean(process.env.CI) && files.length > 0 && files.length <= MOST_AGAIN;
  if (!isAgain) {
    for (const test of tests) console.log(`failed: ${test}`);
    return first;
  }
  console.log(`\nOnce more, one after the other: ${files.join(", ")}`);
  const second = await runTests({ ...plan, files: [...files], isSerial: true }, postgresUrl, pidFile);
  const word = second.exitCode === 0 ? "unsteady" : "failed";
  for (const test of tests) console.log(`${word}: ${test}`);
  return second.exitCode === 0 ? { ...second, passed: first.passed + first.failed } : first;
}

/** The test files that run what a module of tests defines. */
function importers(files: readonly string[], module: string): string[] {
  return files.filter((file) => readFileSync(file, "utf8").includes(`"./${module.split("/")[1]}/`));
}

/** Moves the temporary files of this process and its tests into one folder, so that none outlives the run. */
function ownTemporaryFolder(): { pidFile: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-"));
  // Servers that root starts run as nobody, who must be able to walk through it.
  chmodSync(folder, 0o755);
  process.env.TMPDIR = folder;
  const pidFile = join(folder, "runner.pid");
  const watchdog = guard(folder, pidFile);
  return {
    pidFile,
    remove() {
      rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
      watchdog.dismiss();
    },
  };
}

async function runTests(plan: Plan, postgresUrl: string, pidFile: string): Promise<Outcome> {
  const [program = "", ...args] = command(plan);
  const env = { DENO_JOBS: String(JOBS), ...process.env, PGQRS_TEST_PG_URL: postgresUrl };
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  // A process group of its own, because npx does not pass every signal on to what it runs.
  const group = -(child.pid ?? NaN);
  writeFileSync(pidFile, String(group));
  // Ctrl-C and time limits reach this process first; the tests must not run on without their database.
  const stop = (signal: NodeJS.Signals) => child.pid !== undefined && process.kill(group, signal);
  process.on("SIGINT", stop).on("SIGTERM", stop);
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
    process.stdout.write(chunk);
  });
  child.stderr.on("data", (chunk) => {
    output += chunk;
    process.stderr.write(chunk);
  });
  const exitCode = await new Promise<number>((done, fail) => {
    child.once("error", fail);
    child.once("close", (code) => done(code ?? 1));
  });
  process.off("SIGINT", stop).off("SIGTERM", stop);
  return { ...totals(plan.runtime, output), exitCode, output };
}

function command({ runtime, files, flags, isSerial }: Plan): string[] {
  const paths = files.map((file) => `./${relative(ROOT, join(ROOT, file))}`);
  switch (runtime) {
    case "deno":
      return [process.execPath, "test", "-A", ...isSerial ? [] : ["--parallel"], ...flags, ...paths];
    case "bun":
      return [
        "npx",
        "-y",
        BUN,
        "test",
        "--timeout=60000",
        ...isSerial ? [] : [`--parallel=${JOBS}`],
        ...flags,
        ...paths,
      ];
    case "node": {
      const fixed = ["--test", "--test-force-exit", "--test-reporter=spec", "--import", "./dev/node-hooks.mjs"];
      return ["npx", "-y", NODE, ...fixed, `--test-concurrency=${isSerial ? 1 : JOBS}`, ...flags, ...paths];
    }
  }
}

/** The numbers of the summary that each runner prints; a run that broke before its summary counts as one failure. */
function totals(runtime: Runtime, output: string): { passed: number; failed: number } {
  // deno-lint-ignore no-control-regex -- The escape codes of colours.
  const plain = output.replace(/\x1b\[[0-9;]*m/g, "");
  const patterns = {
    deno: [/\| (\d+) passed/g, /\| (\d+) failed/g],
    bun: [/^ *(\d+) pass$/gm, /^ *(\d+) fail$/gm],
    node: [/^ℹ pass (\d+)$/gm, /^ℹ fail (\d+)$/gm],
  } as const;
  const [passed, failed] = patterns[runtime].map((pattern) => [...plain.matchAll(pattern)].at(-1)?.[1]);
  return { passed: Number(passed ?? 0), failed: Number(failed ?? 1) };
}
