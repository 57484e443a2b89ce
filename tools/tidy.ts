/**
 * Reads our own sources and tells what has rotted: `deno run -A tools/tidy.ts`, and as a test.
 *
 * What is simply wrong is a problem and fails: an import that goes up a layer, a statement, column, option or error that
 * nothing uses, a word that does not belong where it stands. What is a matter of degree is only printed.
 *
 * It reads text and not syntax trees, because the sources are formatted by one formatter and need nothing more.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** A source file. */
export interface Source {
  /** Its path from the root of the repository. */
  readonly path: string;
  readonly text: string;
}

/** What was found. */
export interface Report {
  /** What has to be repaired: one sentence each. */
  readonly problems: readonly string[];
  /** What may be looked at. */
  readonly notes: readonly string[];
}

/** An import of a source. */
interface Import {
  /** The path of the file, or the name of the package. */
  readonly target: string;
  readonly isTypeOnly: boolean;
  readonly isDynamic: boolean;
  readonly names: readonly string[];
}

/** Reads the sources of the repository. */
export function readSources(root: string): Source[] {
  const paths = ["mod.ts", "cli.ts", ...filesIn(join(root, "src"), "src"), ...filesIn(join(root, "tests"), "tests")];
  return paths.filter((path) => existsSync(join(root, path)))
    .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") }));
}

/** Checks sources. Pure, so that the test can show it a fault. */
export function tidy(sources: readonly Source[]): Report {
  const own = sources.filter(({ path }) => !path.startsWith("tests/"));
  // The test of this very tool names what does not exist.
  const tests = sources.filter(({ path }) => path.startsWith("tests/") && path !== "tests/tidy_test.ts");
  return {
    problems: [
      ...own.flatMap(checkLayers),
      ...checkCycles(own),
      ...checkClients(own),
      ...own.flatMap(checkWords),
      ...checkStatements(own),
      ...checkColumns(own),
      ...checkErrors(own, tests),
      ...checkOptions(own),
    ],
    notes: [...longest("function", own.flatMap(functionsOf)), ...longest("file", own.map(fileLength))],
  };
}

/** Which folders and files a file may import from, the first rule that fits. A rule for types goes beside it. */
const LAYERS: readonly (readonly [from: RegExp, to: RegExp])[] = [
  [/^cli\.ts$/, /^src\/cli\//],
  // The command sees what every user sees; only what a slip of the pen was meant for is guessed alike in both.
  [/^src\/cli\//, /^(mod\.ts|src\/nearest\.ts|src\/cli\/)/],
  [/^mod\.ts$/, /^src\/(?!cli\/)/],
  [/^src\/errors\.ts$/, /^$/],
  [/^src\/(json|options|retry)\.ts$/, /^src\/(errors|nearest|options|retry)\.ts$/],
  [/^src\/config\.ts$/, /^src\/(errors|nearest|options|retry)\.ts$/],
  [/^src\/sql\//, /^src\/(sql\/|errors\.ts$|json\.ts$)/],
  [/^src\/drivers\//, /^src\/(drivers\/|sql\/|errors\.ts$)/],
  [/^src\/connect\.ts$/, /^src\/(?!cli\/|admin\/|sql\/)/],
  [/^src\//, /^src\/(?!cli\/|drivers\/|connect\.ts$|config\.ts$)/],
];

/** The files that speak to a client; none knows of another. */
const DRIVERS = ["postgres", "postgres_client", "sqlite", "libsql"].map((name) => `src/drivers/${name}.ts`);
const CLIENTS: readonly (readonly [name: RegExp, ...files: string[]])[] = [
  [/^postgres$/, "src/drivers/postgres_lane.ts"],
  // The second is the text of a thread.
  [/^node:sqlite$/, "src/drivers/sqlite.ts", "src/drivers/sqlite_log.ts"],
  [/^@libsql\/client/, "src/drivers/libsql.ts"],
  [/^@std\/yaml$/, "src/config.ts"],
  [/^@std\/cli\//, "src/cli/parse.ts"],
];

/** Words that do not belong in a place, and what to write instead. */
const BANNED: readonly (readonly [where: RegExp, word: RegExp, instead: string])[] = [
  [/^src\/(?!cli\/)|^mod\.ts$/, /\bDeno\./, "a node: module; Bun and Node have no Deno"],
  [/^src\/(?!cli\/|drivers\/)|^mod\.ts$/, /\bprocess\./, "an option; the environment is read in config.ts"],
  [/^src\/|^mod\.ts$/, /\bconsole\./, "the logger of the store, or the Io of a command"],
  [/^src\/sql\//, /\bDate\.now\(|\bnew Date\(\)/, "the `now` fragment"],
  [/^src\/|^mod\.ts$|^cli\.ts$/, /^export default\b/m, "a named export"],
  [/^src\//, /^(export )?(const )?enum\b/m, "a union of texts"],
  [/^src\/(?!sql\/)/, /\bperDialect\(/, "a statement in src/sql"],
  [/^src\/(?!sql\/|cli\/)/, /`(select|insert|update|delete) /, "a statement in src/sql"],
];

function checkLayers(source: Source): string[] {
  const { path } = source;
  const problems: string[] = [];
  for (const { target, isTypeOnly } of importsOf(source)) {
    if (!/^(src\/|mod\.ts$|cli\.ts$)/.test(target)) continue;
    const [, allowed] = LAYERS.find(([from]) => from.test(path)) ?? [];
    // A type leaves nothing behind in the program, and some types of clients are public.
    if (isTypeOnly && path.startsWith("src/") && target.startsWith("src/") && !path.startsWith("src/sql/")) continue;
    if (allowed?.test(target) !== true) problems.push(`${path} imports ${target}, which is not below it`);
    if (DRIVERS.includes(path) && DRIVERS.includes(target)) problems.push(`${path} imports another driver, ${target}`);
  }
  return problems;
}

/** No file may need itself. Types and what is loaded later do not count. */
function checkCycles(sources: readonly Source[]): string[] {
  const edges = new Map(sources.map((source) => [
    source.path,
    importsOf(source).filter(({ isTypeOnly, isDynamic }) => !isTypeOnly && !isDynamic).map(({ target }) => target),
  ]));
  const problems: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, way: readonly string[]): void => {
    if (way.includes(path)) {
      problems.push(`${[...way.slice(way.indexOf(path)), path].join(" -> ")} is a circle of imports`);
      return;
    }
    if (done.has(path)) return;
    for (const next of edges.get(path) ?? []) visit(next, [...way, path]);
    done.add(path);
  };
  for (const path of edges.keys()) visit(path, []);
  return problems;
}

function checkClients(sources: readonly Source[]): string[] {
  return sources.flatMap((source) =>
    importsOf(source).flatMap(({ target }) =>
      CLIENTS.filter(([name, ...files]) => name.test(target) && !files.includes(source.path))
        .map(([, file]) => `${source.path} imports ${target}, which only ${file} may`)
    )
  );
}

function checkWords({ path, text }: Source): string[] {
  const code = withoutTexts(withoutComments(text));
  return BANNED.filter(([where, word]) => where.test(path) && word.test(code))
    .map(([, word, instead]) => `${path} contains ${word.exec(code)?.[0]?.trim()}: use ${instead}`);
}

/** Every function of the catalogue is used by another file of ours. */
function checkStatements(sources: readonly Source[]): string[] {
  const problems: string[] = [];
  for (const { path, text } of sources.filter(({ path }) => path.startsWith("src/sql/"))) {
    for (const [, name = ""] of withoutComments(text).matchAll(/^export (?:async )?(?:function|const|class) (\w+)/gm)) {
      const users = sources.filter((other) =>
        other.path !== path &&
        importsOf(other).some(({ target, names }) => target === path && names.includes(name))
      );
      if (users.length === 0) problems.push(`${path} exports ${name}, which nothing imports`);
    }
  }
  return problems;
}

/** Every column is named by some statement besides the one that creates it. */
function checkColumns(sources: readonly Source[]): string[] {
  const tables = sources.find(({ path }) => path === "src/sql/migrations/0001_tables.ts");
  const others = sources.filter(({ path }) => path.startsWith("src/sql/") && path !== tables?.path)
    .map(({ text }) => withoutComments(text)).join("\n");
  const columns = new Set(
    [...(tables?.text ?? "").matchAll(/^ {2}([a-z_]+) (?:bigint|integer|json|smallint|text|timestamptz)\b/gm)]
      .map(([, name = ""]) => name),
  );
  return [...columns].filter((name) => !new RegExp(`\\b${name}\\b`).test(others))
    .map((name) => `the column ${name} is in no statement`);
}

/** Every error is made somewhere, unless it is handlers who make it, and expected by some test, and so is every code. */
function checkErrors(sources: readonly Source[], tests: readonly Source[]): string[] {
  const errors = withoutComments(sources.find(({ path }) => path === "src/errors.ts")?.text ?? "");
  const code = sources.map(({ text }) => withoutComments(text)).join("\n");
  const tested = tests.map(({ text }) => text).join("\n");
  const problems: string[] = [];
  for (const [, name = ""] of errors.matchAll(/^export class (\w+)/gm)) {
    const isRoot = new RegExp(`extends ${name}\\b`).test(errors);
    const isOfHandlers = /^(RetryError|NonRetryableError)$/.test(name);
    if (!isRoot && !isOfHandlers && !code.includes(`new ${name}(`)) problems.push(`${name} is never made`);
    if (!isRoot && !new RegExp(`\\b${name}\\b`).test(tested)) problems.push(`${name} is expected by no test`);
  }
  const [, codes = ""] = /export type ErrorCode =([^;]*);/.exec(errors) ?? [];
  for (const [, name = ""] of codes.matchAll(/"(\w+)"/g)) {
    if (!errors.includes(`super("${name}"`)) problems.push(`no error has the code "${name}"`);
  }
  return problems;
}

/** Every field of an options object is read outside of where it is declared. */
function checkOptions(sources: readonly Source[]): string[] {
  const declaration =
    /^export interface (\w*(?:Options|Limits|Query|Values|Update|Settings))\b[^{]*\{\n([\s\S]*?)^\}/gm;
  const code = sources.filter(({ path }) => path.startsWith("src/"))
    .map(({ text }) => withoutTexts(withoutComments(text).replaceAll(declaration, ""))).join("\n");
  return sources.flatMap(({ path, text }) =>
    [...withoutComments(text).matchAll(declaration)].flatMap(([, name = "", body = ""]) =>
      [...body.matchAll(/^ {2}(?:readonly )?(\w+)\??:/gm)].map(([, field = ""]) => field)
        // A field is read when it is taken out of the object or asked for by name; being set somewhere is not enough.
        .filter((field) => !new RegExp(`\\.${field}\\b|[{,(]\\s*${field}\\b(?!:\\s*\\w+[,;]?$)`, "m").test(code))
        .map((field) => `${path}: ${name}.${field} is never read`)
    )
  );
}

const imports = new WeakMap<Source, Import[]>();

function importsOf(source: Source): Import[] {
  const known = imports.get(source) ?? findImports(source);
  imports.set(source, known);
  return known;
}

function findImports({ path, text }: Source): Import[] {
  const code = withoutComments(text);
  const resolve = (specifier: string): string =>
    specifier.startsWith(".") ? posix.join(posix.dirname(path), specifier) : specifier;
  const found: Import[] = [];
  for (const [, kind, clause = "", specifier = ""] of code.matchAll(/^(import|export) ([^;"']*?)\bfrom "([^"]+)"/gm)) {
    const parts = clause.replace(/[{}]/g, ",").split(",").map((part) => part.trim()).filter((part) => part !== "");
    const isType = (part: string): boolean => part.startsWith("type ");
    found.push({
      target: resolve(specifier),
      isDynamic: false,
      isTypeOnly: clause.startsWith("type ") || (kind === "import" && parts.length > 0 && parts.every(isType)),
      names: parts.map((part) => part.replace(/^type /, "").split(" as ")[0]?.trim() ?? ""),
    });
  }
  for (const [, specifier = ""] of code.matchAll(/\bimport\("([^"]+)"\)/g)) {
    found.push({ target: resolve(specifier), isDynamic: true, isTypeOnly: false, names: [] });
  }
  return found;
}

interface Length {
  readonly name: string;
  readonly lines: number;
}

/** The functions and methods: the formatter puts their end below their beginning. */
function functionsOf({ path, text }: Source): Length[] {
  const lines = text.split("\n");
  return lines.flatMap((line, i) => {
    const [, indent = "", name = ""] =
      /^( {0,2})(?:export )?(?:static )?(?:async )?(?:function )?\*?(#?\w+)(?:<.*>)?\(.*$/.exec(line) ?? [];
    if (name === "" || /^(if|for|while|switch|return|super)$/.test(name)) return [];
    const end = lines.indexOf(`${indent}}`, i);
    const body = lines.slice(i + 1, end);
    const isOne = end > i && body.every((inner) => inner === "" || inner.startsWith(indent));
    return isOne ? [{ name: `${path} ${name}`, lines: end - i + 1 }] : [];
  });
}

function fileLength({ path, text }: Source): Length {
  return { name: path, lines: text.split("\n").length - 1 };
}

function longest(what: string, lengths: readonly Length[]): string[] {
  return lengths.toSorted((a, b) => b.lines - a.lines).slice(0, 5)
    .map(({ name, lines }) => `${String(lines).padStart(4)} lines: ${what} ${name}`);
}

/** Leaves the lines where they are. */
function withoutComments(text: string): string {
  return text.replaceAll(/\/\*(?! pgqrs)[\s\S]*?\*\//g, (comment) => comment.replaceAll(/[^\n]/g, ""))
    .replaceAll(/(^|\s)\/\/ .*$/gm, "$1");
}

function withoutTexts(code: string): string {
  return code.replaceAll(/"(?:[^"\\\n]|\\.)*"/g, '""');
}

function filesIn(folder: string, as: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"))
    .map((name) => posix.join(as, name.replaceAll("\\", "/"))).sort();
}

if (import.meta.main) {
  const { problems, notes } = tidy(readSources(fileURLToPath(new URL("../", import.meta.url))));
  for (const line of [...notes, ...problems]) console.log(line);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
