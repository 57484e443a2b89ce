/**
 * Programs that a test runs to their end, as a user does at a prompt.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { type ProcessOptions, startProcess } from "./processes.ts";

/** What a program has said, and how it ended. */
export interface Ending {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where and with what a program runs. */
export type Place = Pick<ProcessOptions, "cwd" | "env" | "input">;

/** Runs a program to its end; the event loop goes on meanwhile, so that a server of the test can answer it. */
export async function endingOf([program = "", ...args]: readonly string[], place: Place = {}): Promise<Ending> {
  const [first = "", ...rest] = args;
  await using child = startProcess(first, { ...place, runtime: [program], args: rest });
  const { code } = await child.exited;
  return { code, stdout: child.stdout, stderr: child.stderr };
}

/** Runs a program that has to succeed, and returns what it wrote to its standard output. */
export async function outputOf(command: readonly string[], place: Place = {}): Promise<string> {
  const { code, stdout, stderr } = await endingOf(command, place);
  assertEquals(code, 0, `${command.join(" ")}\n${stdout}\n${stderr}`);
  return stdout;
}
