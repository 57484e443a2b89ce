/**
 * The runtimes that can be had here, so that processes of different ones work on one database.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/** A runtime and the words with which it runs a TypeScript file. */
export interface Runtime {
  readonly name: "bun" | "deno" | "node";
  readonly command: readonly string[];
}

const HOOKS = new URL("../../dev/node-hooks.mjs", import.meta.url).href;

/** Each runtime with what asks it for the path of its program, and with its arguments before the file. */
const KNOWN: readonly [Runtime["name"], readonly string[], readonly string[]][] = [
  ["deno", ["deno@2.9.6", "eval", "console.log(Deno.execPath())"], ["run", "-A", "--quiet", "--no-check"]],
  ["bun", ["bun@1.4.5", "-e", "console.log(process.execPath)"], ["run"]],
  ["node", ["node@26", "-p", "process.execPath"], ["--import", HOOKS]],
];

/**
 * The runtimes that npm can provide. Their programs are named by path, because a signal to `npx` would not reach what it
 * has started.
 */
export function availableRuntimes(): Runtime[] {
  const cwd = fileURLToPath(new URL("../../", import.meta.url));
  return KNOWN.flatMap(([name, question, args]) => {
    const { status, stdout } = spawnSync("npx", ["-y", ...question], { cwd, encoding: "utf8", timeout: 60_000 });
    const program = stdout?.trim().split("\n").at(-1);
    return status === 0 && program ? [{ name, command: [program, ...args] }] : [];
  });
}
