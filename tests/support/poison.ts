/**
 * The messages of the kill test: good ones, and every kind of poison.
 *
 * @module
 */
import process from "node:process";

/** What a message does to the worker that handles it. */
export const POISONS = [
  "throws",
  "throws_undefined",
  "hangs",
  "cannot_be_stored",
  "exits",
  "kills_itself",
  "blocks",
] as const;

/** A kind of poison. */
export type Poison = typeof POISONS[number];

/** What is enqueued. */
export interface Dose {
  readonly n: number;
  readonly kind: Poison | "good";
}

/** Whether a kind ends with its process, or keeps it from renewing its leases: nobody can report a failure of it. */
export function isDeadly(kind: Dose["kind"]): boolean {
  return kind === "exits" || kind === "kills_itself" || kind === "blocks";
}

/** What a good message has to result in. */
export function resultOf(n: number): { readonly square: number } {
  return { square: n * n };
}

/** Does what the kind says. A good one takes up to some milliseconds. */
export async function take({ n, kind }: Dose, signal: AbortSignal, blockMs: number): Promise<unknown> {
  switch (kind) {
    case "good":
      if (n % 2 === 0) await sleep(n % 10);
      return resultOf(n);
    case "throws":
      throw new Error(`poison ${n}`);
    case "throws_undefined":
      // deno-lint-ignore no-throw-literal
      throw undefined;
    case "hangs":
      return await hang(n, signal);
    case "cannot_be_stored":
      return { big: BigInt(n) };
    case "exits":
      return process.exit(7);
    case "kills_itself":
      process.kill(process.pid, "SIGKILL");
      return await new Promise(() => {});
    case "blocks":
      // Without using up the processor, of which the other workers need their part.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, blockMs);
      return resultOf(n);
  }
}

/** Half of them never settle, the others do so when nobody waits for it any more. */
async function hang(n: number, signal: AbortSignal): Promise<unknown> {
  if (n % 2 === 0) return await new Promise(() => {});
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  await sleep(5);
  throw new Error(`poison ${n}, too late`);
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
