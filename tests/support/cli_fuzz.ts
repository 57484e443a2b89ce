/**
 * Random command lines, DSNs and configuration files: what comes of them is a result or a typed error, soon, and no
 * secret is told.
 *
 * @module
 */
import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import fc from "fast-check";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { type FlagType, UsageError } from "../../src/cli/command.ts";
import { commands } from "../../src/cli/commands.ts";
import { globalFlags } from "../../src/cli/flags.ts";
import { ALIASES, ownFlagsOf, parse, type Request, wordsOf } from "../../src/cli/parse.ts";
import { Config, redactDsn } from "../../src/config.ts";
import { ConfigError } from "../../src/errors.ts";
import { assertAllBars, type Bar } from "./bars.ts";
import { type Answer, run } from "./cli.ts";
import { freshSqliteFile } from "./databases.ts";

/** How many of each are tried. */
export interface FuzzSize {
  readonly vectors: number;
  readonly dsns: number;
  readonly files: number;
  /** Of each, so many go through the whole command. */
  readonly runs: number;
}

/** What happened how often. */
type Outcomes = Map<string, number>;

/** In every place where a password may be. */
const SECRET = "s3cr3t";
const SEED = 20_260_401;
/** No call takes longer, on however busy a machine. */
const LONGEST_MS = 10_000;
/** After so many command lines the database is made whole again. */
const REPAIR_EVERY = 50;
/** Random text must not name a file to write, another database or a program to start. */
const DANGEROUS = ["dsn", "config", "out", "log-dest", "exec"];

const schemes = ["postgres", "postgresql", "libsql", "turso", "http", "https", "sqlite", "file", "redis", "Postgres"];
const noise = fc.oneof(
  fc.constantFrom(
    "",
    "@",
    "/",
    "?",
    "#",
    ":",
    "&",
    "=",
    "%",
    "%40",
    " ",
    "\\",
    "[",
    "'",
    '"',
    "{",
    "$(x)",
    "é",
    "\x1b",
  ),
  fc.string({ maxLength: 6 }),
);
const password = fc.tuple(noise, noise).map(([before, behind]) => `${before}${SECRET}${behind}`);
const host = fc.constantFrom("localhost", "h:5432", "127.0.0.1:1", "h1:1,h2", "[::1]:5432", "");
const tail = fc.constantFrom("", "/", "/db", "/db?sslmode=require", "?a=b&mode=c", "/db#x");
const user = fc.oneof(fc.constantFrom("", "me", "a%20b"), fc.string({ maxLength: 5 }));

const secretDsn = fc.oneof(
  fc.tuple(fc.constantFrom(...schemes), user, password, host, tail).map(([scheme, name, hidden, at, rest]) =>
    `${scheme}://${name}:${hidden}@${at}${rest}`
  ),
  fc.tuple(fc.constantFrom(...schemes), host, fc.constantFrom("authToken", "password", "key"), password)
    .map(([scheme, at, name, hidden]) =>
      `${scheme}://${at}/db?mode=a&${name}=${encodeURIComponent(hidden.toWellFormed())}`
    ),
);
const anyDsn = fc.oneof(
  { weight: 6, arbitrary: secretDsn },
  { weight: 2, arbitrary: fc.constantFrom(":memory:", "sqlite::memory:", "sqlite:a.db", "file:b", "postgres://h/d") },
  { weight: 1, arbitrary: fc.string({ unit: "binary" }) },
  { weight: 1, arbitrary: fc.tuple(secretDsn, noise).map(([dsn, other]) => `${other}${dsn}`) },
);

/** Random command lines through the parser, and some through the command. */
export async function fuzzVectors({ vectors, runs }: FuzzSize): Promise<void> {
  const parsed: Outcomes = new Map();
  const times = [0];
  const parsing = fc.check(
    fc.property(vector, (argv) => {
      const begin = performance.now();
      const request = parseTyped(argv);
      times[0] = Math.max(times[0] as number, performance.now() - begin);
      count(parsed, request instanceof Error ? "refused" : request.kind);
    }),
    { numRuns: vectors, seed: SEED },
  );
  const done = new Map<string, number>();
  const running = await runVectors(runs, done);
  assertAllBars("Argument vectors", [
    barOf("through the parser without a fault", vectors, parsing, parsed),
    ...["refused", "help", "version", "run"].map((kind) =>
      atLeast(`parsed as ${kind}`, vectors / 500, parsed.get(kind))
    ),
    [`slowest, under ${LONGEST_MS} ms`, `${Math.round(times[0] as number)} ms`, (times[0] as number) < LONGEST_MS],
    barOf("through the command without a fault", runs, running, done),
    ...["0", "2", "3"].map((code) => atLeast(`exit code ${code}`, runs / 50, done.get(code))),
    atLeast("exit code 5", Math.floor(runs / 1_000), done.get("5")),
  ]);
}

/** Random DSNs through the settings, and some through the command. */
export async function fuzzDsns({ dsns, runs }: FuzzSize): Promise<void> {
  const [made, done, reached]: [Outcomes, Outcomes, Outcomes] = [new Map(), new Map(), new Map()];
  const reading = fc.check(
    fc.property(anyDsn, (dsn) => {
      assertHidden(redactDsn(dsn));
      count(made, readTyped(() => Config.fromDsn(dsn)) instanceof Error ? "refused" : "read");
    }),
    { numRuns: dsns, seed: SEED },
  );
  const showing = await fc.check(
    fc.asyncProperty(anyDsn, async (dsn) => {
      const answer = await runInTime(["config", "--format", "json", `--dsn=${dsn}`]);
      assertHidden(answer.out);
      count(done, checkAnswer(answer, [0, 2]));
    }),
    { numRuns: runs, seed: SEED },
  );
  const nowhere = fc.tuple(fc.constantFrom("postgres", "libsql", "http"), user, password).map((
    [scheme, name, hidden],
  ) => `${scheme}://${name}:${encodeURIComponent(hidden.toWellFormed())}@127.0.0.1:1/db`);
  const connecting = await fc.check(
    fc.asyncProperty(nowhere, async (dsn) => {
      const answer = await runInTime(["queue", "list", "--timeout", "50ms", `--dsn=${dsn}`]);
      count(reached, checkAnswer(answer, [2, 4]));
    }),
    { numRuns: Math.ceil(runs / 20), seed: SEED },
  );
  assertAllBars("DSNs", [
    barOf("through Config.fromDsn without a fault", dsns, reading, made),
    barOf("through the command without a fault", runs, showing, done),
    barOf("where no database is", Math.ceil(runs / 20), connecting, reached),
  ]);
}

/** Random files through the settings, and some through the command. */
export async function fuzzFiles({ files, runs }: FuzzSize): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-fuzz-"));
  const path = join(folder, "pgqrs.yaml");
  try {
    const [made, done]: [Outcomes, Outcomes] = [new Map(), new Map()];
    const reading = await fc.check(
      fc.asyncProperty(yamlFile, async (text) => {
        writeFileSync(path, text);
        const read = await Config.fromFile(path).then((config) => readTyped(() => config), checkError);
        count(made, read instanceof Error ? "refused" : "read");
      }),
      { numRuns: files, seed: SEED },
    );
    const showing = await fc.check(
      fc.asyncProperty(yamlFile, async (text) => {
        writeFileSync(path, text);
        const answer = await runInTime(["config", "--config", path]);
        assertHidden(answer.out);
        count(done, checkAnswer(answer, [0, 2]));
      }),
      { numRuns: runs, seed: SEED },
    );
    assertAllBars("YAML files", [
      barOf("through Config.fromFile without a fault", files, reading, made),
      ...["read", "refused"].map((kind) => atLeast(kind, files / 50, made.get(kind))),
      barOf("through the command without a fault", runs, showing, done),
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const flags = [...new Map([...globalFlags, ...commands.flatMap(ownFlagsOf)].map((flag) => [flag.name, flag])).values()];
const usages = [...commands.map(({ usage }) => usage), ...ALIASES.map(([words]) => words)];
const knownWord = fc.constantFrom(...new Set(usages.flatMap((usage) => usage.match(/\w[\w-]*/g) ?? [])));
const misspelled = fc.tuple(knownWord, fc.nat({ max: 8 }), fc.constantFrom("", "x", "-")).map(([word, at, by]) =>
  word.slice(0, at) + by + word.slice(at + 1)
);
const plainValue = fc.constantFrom(
  "tasks",
  "1",
  "7",
  "0",
  "-1",
  "1e3",
  "30s",
  "2h30m",
  "2030-01-31T12:00:00Z",
  "json",
  "a=b",
);
const oddValue = fc.constantFrom(
  "",
  "-",
  "--",
  "-5",
  "=",
  "__proto__",
  "constructor",
  "toString",
  "\0",
  "\ud800",
  "💥".repeat(40),
);
const value = fc.oneof(plainValue, knownWord, oddValue, secretDsn, fc.string({ unit: "binary", maxLength: 12 }));
const flagged = fc.tuple(fc.constantFrom(...flags), value, fc.nat({ max: 5 })).map((
  [{ name, letter = "z" }, text, how],
) =>
  [[`--${name}`], [`--${name}`, text], [`--${name}=${text}`], [`-${letter}`, text], [`-${letter}${text}`], [
    `--no-${name}`,
  ]][how] ?? []
);
const wild = fc.oneof(
  fc.constantFrom(
    "--__proto__=1",
    "--constructor",
    "--hasOwnProperty=x",
    "--toString.a=b",
    "--a.b.c=1",
    "-",
    "---",
    "--=",
    "-=a",
  ),
  fc.tuple(fc.constantFrom("-", "--", "--no-"), misspelled, fc.constantFrom("", "=", `=${SECRET}`)).map((parts) =>
    parts.join("")
  ),
);
const piece = fc.oneof(
  { weight: 4, arbitrary: flagged },
  { weight: 3, arbitrary: fc.oneof(value, misspelled).map((text) => [text]) },
  { weight: 1, arbitrary: wild.map((text) => [text]) },
);
const command = fc.constantFrom(...usages.map((usage) => usage.split(" ").filter((word) => /^\w/.test(word))));
const apt: Readonly<Record<FlagType, readonly string[]>> = {
  boolean: [""],
  duration: ["=30", "=1.5s", "=2h30m"],
  instant: ["=2030-01-31T12:00:00Z", "=2030-01-31"],
  integer: ["=1", "=9", "=100"],
  json: ["={}", '={"type":"mail"}', "=1"],
  list: ["=a=b", "=x"],
  text: ["=tasks", "=json", "=1", "=info"],
};
/** What could well be meant. */
const plausible = fc.constantFrom(...commands).chain((command) => {
  const words = wordsOf(command.usage).map((word) => fc.constant(word));
  const args = (command.usage.match(/[<[]/g) ?? []).map((_, i) =>
    fc.constantFrom(["tasks", "1"][i] ?? "1", "1", "tasks")
  );
  const flags = [...ownFlagsOf(command), ...globalFlags].filter(({ name }) => name !== "help" && name !== "version");
  const some = fc.subarray(flags, { maxLength: 3 }).chain((chosen) =>
    fc.tuple(...chosen.map(({ name, type }) => fc.constantFrom(...apt[type]).map((text) => `--${name}${text}`)))
  );
  return fc.tuple(fc.tuple(...words, ...args), some).map((parts) => parts.flat());
});
/** JSON that is broken, or that a shell has taken apart. */
const sending = fc.tuple(
  fc.constantFrom([`{"password":"${SECRET}"`], [`{password: "${SECRET}"}`], ["{password:", `${SECRET}}`], [
    `"${SECRET}`,
  ]),
  fc.constantFrom([], ["--headers", `{"password":"${SECRET}"`], [`--headers=["${SECRET}"]`]),
).map((parts) => ["message", "send", "tasks", ...parts.flat()]);
const meant = fc.oneof(plausible, plausible, plausible, sending);
const vector = fc.oneof(
  fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.flat()),
  fc.tuple(
    fc.array(flagged, { maxLength: 1 }),
    command,
    fc.array(fc.oneof(plainValue, value), { maxLength: 3 }),
    fc.array(piece, { maxLength: 3 }),
  ).map(([before, words, args, behind]) => [...before.flat(), ...words, ...args, ...behind.flat()]),
  meant,
);

const yamlKey = fc.constantFrom(
  ...["dsn", "schema", "sqlite", "max_connections", "connection_timeout_seconds", "default_lock_time_seconds", "<<"],
  ...[
    "default_max_batch_size",
    "max_read_ct",
    "heartbeat_interval_seconds",
    "poll_interval_ms",
    "heartbeat_interval",
    "dns",
  ],
);
const yamlValue = fc.oneof(
  fc.constantFrom(
    "1",
    "0.5",
    "-1",
    "true",
    "~",
    "",
    "jobs",
    ":memory:",
    '"sqlite::memory:"',
    "{ use_wal: false }",
    "[1]",
    "&a [*a]",
    "*a",
  ),
  fc.constantFrom(
    "!!js/function 'x'",
    "!!binary aGk=",
    "!!set {a}",
    "2030-01-31",
    "0x1f",
    "1e999",
    ".nan",
    "|\n  text",
    ">-\n  text",
  ),
  secretDsn.map((dsn) => JSON.stringify(dsn)),
  secretDsn,
  fc.jsonValue({ maxDepth: 2 }).map((json) => JSON.stringify(json)),
);
const yamlLine = fc.tuple(yamlKey, yamlValue)
  // The name of a schema is shown, whatever it is.
  .filter(([key, text]) => key !== "schema" || !text.includes(SECRET))
  .map(([key, text]) => `${key}: ${text}\n`);
const yamlText = fc.string({
  unit: fc.constantFrom(
    "a",
    "dsn",
    ":",
    " ",
    "\n",
    "-",
    "[",
    "{",
    "}",
    "&a",
    "*a",
    "|",
    "!!",
    "'",
    '"',
    "#",
    "\t",
    "%",
    "---\n",
  ),
});
const yamlFile = fc.oneof(
  { weight: 6, arbitrary: fc.array(yamlLine, { maxLength: 4 }).map((lines) => lines.join("")) },
  { weight: 6, arbitrary: fc.array(yamlLine, { maxLength: 2 }).map((lines) => `dsn: ":memory:"\n${lines.join("")}`) },
  { weight: 2, arbitrary: fc.tuple(yamlText, yamlLine).map((parts) => parts.join("")) },
  { weight: 1, arbitrary: fc.string({ unit: "binary" }) },
  { weight: 1, arbitrary: fc.nat({ max: 20_000 }).map((deep) => `dsn: ${"[".repeat(deep)}`) },
);

/** Runs command lines on a file that has a queue "tasks" with some messages. */
async function runVectors(runs: number, done: Outcomes): Promise<fc.RunDetails<[string[]]>> {
  const { dsn, close } = freshSqliteFile();
  let ran = 0;
  try {
    return await fc.check(
      fc.asyncProperty(vector.filter(isHarmless), async (argv) => {
        if (ran++ % REPAIR_EVERY === 0) await repair(dsn);
        const answer = await runInTime(["--dsn", dsn, ...argv]);
        const request = parseTyped(["--dsn", dsn, ...argv]);
        count(
          done,
          checkAnswer(answer, request instanceof Error ? [2] : request.kind === "run" ? [0, 1, 2, 3, 4, 5] : [0]),
        );
      }),
      { numRuns: runs, seed: SEED },
    );
  } finally {
    await close();
  }
}

/** Installs, and puts something there that can be found. */
async function repair(dsn: string): Promise<void> {
  for (const argv of [["install"], ["queue", "create", "tasks"], ["message", "send", "tasks", "1"]]) {
    await run(["--dsn", dsn, ...argv]);
  }
}

/** Whether a command line stays in the database that it is run on. */
function isHarmless(argv: readonly string[]): boolean {
  try {
    const request = parse(argv);
    return request.kind !== "run" || !DANGEROUS.some((name) => Object.hasOwn(request.call.flags, name));
  } catch {
    return true;
  }
}

function parseTyped(argv: readonly string[]): Request | Error {
  try {
    return parse(argv);
  } catch (error) {
    assertInstanceOf(error, UsageError, inspect(error));
    assertHidden(error.message);
    return error;
  }
}

/** Reads settings, which show no secret in any way. */
function readTyped(read: () => Config): Config | Error {
  try {
    const config = read();
    for (const shown of [JSON.stringify(config), inspect(config), JSON.stringify({ ...config.sources })]) {
      assertHidden(shown);
    }
    return config;
  } catch (error) {
    return checkError(error);
  }
}

function checkError(error: unknown): Error {
  assertInstanceOf(error, ConfigError, inspect(error));
  assertHidden(inspect(error));
  return error;
}

/** Runs a command line, which must end by itself. */
async function runInTime(argv: readonly string[]): Promise<Answer> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`This has not ended: ${JSON.stringify(argv)}`)), LONGEST_MS);
  });
  try {
    return await Promise.race([run(argv), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Checks what was told, and returns the exit code. */
function checkAnswer({ code, err }: Answer, codes: readonly number[]): string {
  assert(codes.includes(code), `exit code ${code}: ${err}`);
  assertEquals(/^pgqrs: ./m.test(err), code !== 0, `exit code ${code}: ${err}`);
  assertHidden(err);
  const isDebug = /^(debug|trace): /m.test(err);
  assert(isDebug || !/^\s+at .*:\d+/m.test(err), `a stack: ${err}`);
  return String(code);
}

function assertHidden(text: string): void {
  assert(!text.includes(SECRET), `a secret is told: ${text}`);
}

function count(outcomes: Outcomes, kind: string): void {
  outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1);
}

/** The bar of a property: all of it was tried, and nothing was wrong. */
function barOf<T>(bar: string, wanted: number, details: fc.RunDetails<T>, outcomes: Outcomes): Bar {
  const told = [...outcomes].sort().map(([kind, times]) => `${kind} ${times}`).join(", ");
  if (details.failed) return [`${wanted} ${bar}`, fc.defaultReportMessage(details) ?? "failed", false];
  return [`${wanted} ${bar}`, `${details.numRuns} (${told})`, details.numRuns === wanted];
}

/** A kind of outcome that has to be there, or what is random is too wild or too tame. */
function atLeast(what: string, least: number, times = 0): Bar {
  return [`${what}, at least ${least}`, times, times >= least];
}
