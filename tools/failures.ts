/** Reads from the output of a runner of tests what has failed. Pure. */

/** A runtime that runs tests. */
export type Runtime = "bun" | "deno" | "node";

/** What has failed in a run. */
export interface Failures {
  /** A line for each test: its name, its place, and what it said, as far as the runner tells. */
  readonly tests: readonly string[];
  /** The test files in which something has failed. */
  readonly files: readonly string[];
}

/**
 * Reads what has failed. Node tells only where a test is written: of one that is written in a module, `importers` names the
 * test files that run it.
 */
export function failuresIn(runtime: Runtime, output: string, importers: (path: string) => readonly string[]): Failures {
  // deno-lint-ignore no-control-regex -- The escape codes of colours.
  const lines = output.replace(/\x1b\[[0-9;]*m/g, "").split("\n");
  const { tests, files } = READERS[runtime](lines, importers);
  return { tests: [...new Set(tests)], files: [...new Set(files)].sort() };
}

const READERS = { deno: failuresOfDeno, bun: failuresOfBun, node: failuresOfNode } as const;

function failuresOfDeno(lines: readonly string[]): Failures {
  const files = lines.flatMap((line) =>
    /^\.?\/?(tests\/\S+_test\.ts) (?:=> .* \.\.\. FAILED\b|\(uncaught error\))/.exec(line)?.[1] ?? []
  );
  const errors = lines.lastIndexOf(" ERRORS ");
  const end = lines.lastIndexOf(" FAILURES ");
  const tests = errors < 0 ? [] : lines.slice(errors, end < 0 ? undefined : end).flatMap((line, i, all) => {
    const isHead = / => \S+:\d+:\d+$/.test(line) || line.endsWith("(uncaught error)");
    return isHead ? `${line}: ${all[i + 1] ?? ""}` : [];
  });
  return { tests, files };
}

function failuresOfBun(lines: readonly string[]): Failures {
  let file = "";
  const tests: string[] = [];
  const files: string[] = [];
  for (const line of lines) {
    file = /^\.?\/?(tests\/\S+_test\.ts):$/.exec(line)?.[1] ?? file;
    if (!line.startsWith("(fail) ") || file === "") continue;
    tests.push(`${file}: ${line}`);
    files.push(file);
  }
  return { tests, files };
}

function failuresOfNode(lines: readonly string[], importers: (path: string) => readonly string[]): Failures {
  const tests: string[] = [];
  const files: string[] = [];
  lines.forEach((line, i) => {
    const place = /^test at \.?\/?(tests\/\S+?\.ts):\d+:\d+$/.exec(line)?.[1];
    if (place === undefined) return;
    tests.push(`${place}: ${lines.slice(i + 1, i + 3).map((said) => said.trim()).join(": ")}`);
    files.push(...place.endsWith("_test.ts") ? [place] : importers(place));
  });
  return { tests, files };
}
