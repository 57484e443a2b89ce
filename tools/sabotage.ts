/**
 * Proves that the tests can fail: `deno run -A tools/sabotage.ts [words of a fault…]`.
 *
 * Each fault is one change of one place of the sources. It is made in a copy of the tree, the test that is meant to see it
 * runs there, and has to turn red. First all of these tests have to be green without any fault. One line is printed per
 * fault; the exit code tells whether one survived.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { chmodSync, cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { sharedPostgres } from "../tests/support/databases.ts";
import { FLOW_FAULTS } from "./flow_faults.ts";
import { RUN_FAULTS } from "./run_faults.ts";
import { WORKER_FAULTS } from "./worker_faults.ts";

/** A fault and the test that has to see it. */
export interface Fault {
  /** What is broken. */
  readonly name: string;
  /** The file, and in it a text that occurs once. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** The file of the test, the suite that contains it if any, and its name. */
  readonly test: readonly [file: string, suite: string | undefined, name: string];
}

/** What became of a fault. */
export interface Verdict {
  readonly fault: Fault;
  readonly isCaught: boolean;
  readonly ms: number;
}

const FUNCTIONS = "src/sql/migrations/0002_functions.ts";
const CLAIM = "src/sql/migrations/0002_claim.ts";
const TABLES = "src/sql/migrations/0001_tables.ts";
const LEASES = "src/sql/leases.ts";
const MESSAGES = "src/sql/messages.ts";

/** All faults. */
export const FAULTS: readonly Fault[] = [
  {
    name: "the fence on Postgres ignores the token",
    file: FUNCTIONS,
    find: " and m.token = coalesce(i.token, m.token)",
    replace: "",
    test: onPostgres(
      "settling",
      "failMany() of a message twice in one list, or of two deliveries of it, settles it once",
    ),
  },
  {
    name: "the fence of one token on Postgres ignores it",
    file: FUNCTIONS,
    find: " and m.token = p_tokens[1]",
    replace: "",
    test: onPostgres(
      "settling",
      "archiveMany() of a message twice in one list, or of two deliveries of it, settles it once",
    ),
  },
  {
    name: "the fence on SQLite ignores the token",
    file: LEASES,
    find: " and m.token = coalesce(i.value ->> 'token', m.token)",
    replace: "",
    test: onSqlite(
      "settling",
      "archiveMany() of a message twice in one list, or of two deliveries of it, settles it once",
    ),
  },
  {
    name: "the fence on Postgres ignores the holder",
    file: FUNCTIONS,
    find: '"m.id = any (array[i.id]) and m.holder = p_holder and',
    replace: '"m.id = any (array[i.id]) and',
    test: onPostgres("settling", "archiveMany() by id alone is refused to another consumer of the same name"),
  },
  {
    name: "the fence on SQLite ignores the holder",
    file: LEASES,
    find: " and m.holder = ${holder} and",
    replace: " and",
    test: onSqlite("settling", "archiveMany() by id alone is refused to another consumer of the same name"),
  },
  {
    name: "the operator's update judges the state on an old snapshot",
    file: MESSAGES,
    find: 'with ${lockMessages(sql`id = ${id}`)}\nupdate ${table("messages")} ${change}',
    replace:
      'with ${lockMessages(sql`id = ${id} and state = (select m.state from ${table("messages")} m where m.id = ${id})`)}' +
      '\nupdate ${table("messages")} ${change}',
    test: interleaving("claim of a message that is ready and each other operation act as one after the other"),
  },
  {
    name: "a claim locks nothing",
    file: CLAIM,
    find: "        limit v_limit\n        for update skip locked\n",
    replace: "        limit v_limit\n",
    test: interleaving("claim of a message that is ready and each other operation act as one after the other"),
  },
  {
    name: "a claim waits for locked messages",
    file: CLAIM,
    find: "        limit v_limit\n        for update skip locked\n",
    replace: "        limit v_limit\n        for update\n",
    test: interleaving("a claim passes over a locked message, and a settling waits for it"),
  },
  {
    name: "lists are locked in the order of the caller",
    file: LEASES,
    find: "[...items].sort((a, b) => a.id - b.id);\n  const isPlain",
    replace: "[...items];\n  const isPlain",
    test: manyForms("failMany locks in one order, whatever the order of the list"),
  },
  {
    name: "plain lists are locked in the order of the caller",
    file: LEASES,
    find: "[...items].sort((a, b) => a.id - b.id);\n    const ids",
    replace: "[...items];\n    const ids",
    test: manyForms("archiveMany locks in one order, whatever the order of the list"),
  },
  {
    name: "keys are locked in the order of the caller",
    file: FUNCTIONS,
    find: "order by o.key, t.n",
    replace: "order by t.n",
    test: manyForms("enqueueMany under taken keys locks in one order, whatever the order of the list"),
  },
  {
    name: "a settling joins its list with all leases",
    file: FUNCTIONS,
    find: '"m.id = any (array[i.id]) and m.holder',
    replace: "\"m.id = i.id and m.state = 'leased' and m.holder",
    test: plans(),
  },
  {
    name: "the functions may read whole tables",
    file: "src/sql/migrations/0002_pinned.ts",
    find: "set enable_seqscan = off\n",
    replace: "",
    test: plans(),
  },
  {
    name: "an id is used again on SQLite",
    file: TABLES,
    find: "id integer primary key autoincrement,\n  queue_id",
    replace: "id integer primary key,\n  queue_id",
    test: onSqlite(
      "producer",
      "enqueue() never gives an id twice, not even that of the last message when it was deleted",
    ),
  },
  {
    name: "SQLite takes turns with microtasks",
    file: "src/drivers/sqlite.ts",
    find: "await new Promise<void>((resolve) => this.#nextMacrotask(resolve));",
    replace: "await Promise.resolve();",
    test: ["tests/hazard_sqlite_test.ts", undefined, "a loop of awaited calls lets timers run"],
  },
  {
    name: "a busy SQLite file is waited for beyond the deadline",
    file: "src/drivers/sqlite.ts",
    find: "performance.now() + pause > deadline",
    replace: "performance.now() + pause > deadline + 5_000",
    test: [
      "tests/hazard_sqlite_test.ts",
      undefined,
      "a busy file fails a call by its deadline as not applied, and then everything works and is seen",
    ],
  },
  {
    name: "small priorities go first",
    file: CLAIM,
    find: "generate_series(9, 0, -1)",
    replace: "generate_series(0, 9)",
    test: onPostgres("consumer", "dequeue() takes by priority, then by due time, then by id"),
  },
  {
    name: "a lane of SQLite is not in the order of due times",
    file: LEASES,
    find: "order by c.due_at, c.id limit",
    replace: "order by c.id limit",
    test: onSqlite("consumer", "dequeue() takes by priority, then by due time, then by id"),
  },
  {
    name: "a release leaves the token as it is",
    file: FUNCTIONS,
    find: "due_at = v_now + i.delay_ms * interval '1 millisecond', token = m.token + 1,\n      holder = null",
    replace: "due_at = v_now + i.delay_ms * interval '1 millisecond',\n      holder = null",
    test: interleaving("every change of a lease raises the token"),
  },
  {
    name: "a crash counts as a failed attempt",
    file: LEASES,
    find: "crashes = crashes + (is_started",
    replace: "attempts = attempts + (is_started",
    test: onSqlite("counts", "attempts count reported failures, crashes expired leases, and a release neither"),
  },
  {
    name: "a claim ignores the due time",
    file: CLAIM,
    find: "and c.due_at <= v_now and",
    replace: "and",
    test: onPostgres("producer", "enqueue() with delayMs or at is delivered at that instant and not before"),
  },
  {
    name: "each priority has the whole limit",
    file: CLAIM,
    find: "      limit v_limit\n    ) ready;",
    replace: "    ) ready;",
    test: onPostgres(
      "consumer",
      "dequeue() fills its limit over several priorities and passes over those that are not due",
    ),
  },
  {
    name: "a claim trusts its hint",
    file: CLAIM,
    find: "exit when v_hint is null or cardinality(v_ids) >= v_limit;",
    replace: "exit;",
    test: ["tests/plan_test.ts", undefined, "a claim with a hint that leads to too few messages begins anew"],
  },
  {
    name: "a claim leaves no hint",
    file: CLAIM,
    find: "perform set_config(v_hint_name, (",
    replace: "perform set_config('pgqrs.nothing', (",
    test: ["tests/plan_test.ts", undefined, "claims under an old snapshot do not read again what is gone"],
  },
  {
    name: "a paused queue is delivered",
    file: CLAIM,
    find: "  if v_is_paused then\n    return;",
    replace: "  if v_is_paused and false then\n    return;",
    test: onPostgres("consumer", "dequeue() of a paused queue takes nothing; what is leased goes on"),
  },
  {
    name: "what has ended stays live on SQLite",
    file: TABLES,
    find: 'delete from ${table("messages")} where id = new.id;',
    replace: "select 1;",
    test: ["tests/model_test.ts", "the queue and its model", "SQLite does what the model does"],
  },
  {
    name: "a key holds for a millisecond",
    file: "src/producer.ts",
    find: "const DAY_MS = 86_400_000;",
    replace: "const DAY_MS = 1;",
    test: onPostgres("keys", "a key holds for 24 hours when its message ends at once"),
  },
  {
    name: "extend shortens a lease",
    file: FUNCTIONS,
    find: "greatest(m.lease_until, ${NOW} + i.lease_ms * interval '1 millisecond')\n" +
      "  from json_to_recordset(p_items) as i(id bigint, token bigint, lease_ms bigint)",
    replace: "${NOW} + i.lease_ms * interval '1 millisecond'\n" +
      "  from json_to_recordset(p_items) as i(id bigint, token bigint, lease_ms bigint)",
    test: onPostgres("settling", "extend() counts from now and never shortens a lease"),
  },
  {
    name: "retention is ignored",
    file: "src/sql/archive.ts",
    find: "if (isExpired === true) condition = sql`${condition} and ${isKeptNoLonger(queue)}`;",
    replace: "",
    test: [
      "tests/retention_test.ts",
      undefined,
      "archive.purge({ expired }) deletes what its queue keeps no longer, and nothing else, on Postgres",
    ],
  },
  {
    name: "a failed attempt is not counted",
    file: FUNCTIONS,
    find: "attempts = m.attempts + 1, error",
    replace: "error",
    test: ["tests/model_test.ts", "the queue and its model", "Postgres does what the model does"],
  },
  ...FLOW_FAULTS,
  ...RUN_FAULTS,
  ...WORKER_FAULTS,
];

function onPostgres(suite: string, name: string): Fault["test"] {
  return ["tests/postgres_test.ts", `${suite} on Postgres`, name];
}

function onSqlite(suite: string, name: string): Fault["test"] {
  return ["tests/sqlite_test.ts", `${suite} on SQLite memory`, name];
}

function interleaving(name: string): Fault["test"] {
  return ["tests/interleaving_test.ts", "interleaving on one message", name];
}

function manyForms(name: string): Fault["test"] {
  return ["tests/interleaving_test.ts", "many-forms on lists in opposite orders", name];
}

function plans(): Fault["test"] {
  const name = "claim, settling and enqueue read as little at 100 000 rows of each kind as at 1 000";
  return ["tests/plan_test.ts", undefined, name];
}

const ROOT = fileURLToPath(new URL("../", import.meta.url));
/** What a copy of the tree does without, or has as a link. */
const LEFT_OUT = [".git", "node_modules", "dist"];
/** A test that hangs has not been turned red. */
const PATIENCE_MS = 120_000;

if (import.meta.main) {
  const words = process.argv.slice(2);
  const verdicts = await sabotage(FAULTS.filter(({ name }) => words.every((word) => name.includes(word))), console.log);
  const caught = verdicts.filter(({ isCaught }) => isCaught).length;
  console.log(`${caught} of ${verdicts.length} faults were caught`);
  process.exit(caught === verdicts.length ? 0 : 1);
}

/** Makes one fault after the other. @throws {Error} when a test is red without any, or a fault has lost its place. */
export async function sabotage(faults: readonly Fault[], tell: (line: string) => void): Promise<Verdict[]> {
  const tree = copyTree();
  try {
    const url = await sharedPostgres();
    await checkGreen(tree, faults, url);
    const verdicts: Verdict[] = [];
    for (const fault of faults) {
      const begin = performance.now();
      const output = await withFault(tree, fault, () => runTest(tree, fault.test, url));
      const isCaught = has(output, fault.test[2], "FAILED");
      const ms = Math.round(performance.now() - begin);
      verdicts.push({ fault, isCaught, ms });
      tell(`${isCaught ? "caught  " : "SURVIVED"} ${fault.name} (${fault.test[0]}: ${fault.test[2]}, ${ms} ms)`);
    }
    return verdicts;
  } finally {
    rmSync(tree, { recursive: true, force: true, maxRetries: 5 });
  }
}

function copyTree(): string {
  const tree = mkdtempSync(join(tmpdir(), "pgqrs-sabotage-"));
  // Servers that tests start as nobody read the binaries by way of this folder.
  chmodSync(tree, 0o755);
  cpSync(ROOT, tree, { recursive: true, filter: (path) => !LEFT_OUT.includes(basename(path)) });
  symlinkSync(join(ROOT, "node_modules"), join(tree, "node_modules"));
  return tree;
}

/** Runs each of the tests once on the sources as they are. */
async function checkGreen(tree: string, faults: readonly Fault[], url: string): Promise<void> {
  const outputs = new Map<string, string>();
  for (const { test } of faults) {
    const [file, suite, name] = test;
    const id = `${file} ${suite ?? name}`;
    const output = outputs.get(id) ?? await runTest(tree, test, url);
    outputs.set(id, output);
    if (!has(output, name, "ok")) throw new Error(`Test is not green without any fault: ${name}\n${output}`);
  }
}

/** Whether the output says this of a test. */
function has(output: string, name: string, verdict: "FAILED" | "ok"): boolean {
  return output.split("\n").some((line) => line.trim().startsWith(`${name} ... ${verdict}`));
}

async function withFault<T>(tree: string, { name, file, find, replace }: Fault, work: () => Promise<T>): Promise<T> {
  const path = join(tree, file);
  const source = readFileSync(path, "utf8");
  const count = source.split(find).length - 1;
  if (count !== 1) throw new Error(`Fault "${name}" needs its place once in ${file} and found it ${count} times`);
  writeFileSync(path, source.replace(find, () => replace));
  try {
    return await work();
  } finally {
    writeFileSync(path, source);
  }
}

/** Runs one test, or the suite that contains it. Resolves to what was printed. */
function runTest(tree: string, [file, suite, name]: Fault["test"], url: string): Promise<string> {
  const args = ["test", "-A", "--no-check", "--filter", suite ?? name, file];
  const env = { ...process.env, PGQRS_TEST_PG_URL: url, NO_COLOR: "1" };
  const child = spawn(process.execPath, args, { cwd: tree, env, stdio: ["ignore", "pipe", "pipe"] });
  const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => output += chunk);
  return new Promise((done, fail) => {
    child.once("error", fail);
    child.once("close", () => {
      clearTimeout(timer);
      done(output);
    });
  });
}
