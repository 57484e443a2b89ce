/**
 * One of the consumer processes that `demo.ts` starts: takes messages that name files, measures the files, archives the
 * messages with what it found.
 *
 *   PGQRS_DSN=… demo_consumer.ts <queue> <name> <folder> <batch> <lease in ms> [--stall]
 *
 * It begins when a line comes on its standard input and ends when that input is closed. With `--stall` it comes to a halt
 * in the middle of its first batch, as a process does that is stuck, and waits to be killed.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { connect } from "@pgqrs/pgqrs";

/** What is found out of a file. */
export interface Measure {
  readonly bytes: number;
  readonly lines: number;
  readonly words: number;
  readonly sha256: string;
}

if (import.meta.main) await main(process.argv.slice(2));

async function main([queue = "", name = "", folder = "", batch = "1", leaseMs = "5000", ...flags]: string[]) {
  await using store = await connect(process.env.PGQRS_DSN ?? "");
  const consumer = store.consumer<{ path: string }>(queue, { name });
  await store.ping();
  const stop = await begin();

  while (!stop.aborted) {
    const messages = await consumer.dequeue({ limit: Number(batch), leaseMs: Number(leaseMs), waitMs: 100 });
    if (messages.length > 0) console.log(`took ${messages.length}`);
    for (const [index, message] of messages.entries()) {
      if (flags.includes("--stall") && index === Math.floor(messages.length / 2)) await stall(messages.length - index);
      try {
        const result = measure(await readFile(join(folder, message.payload.path)));
        await consumer.archive(message, { reason: "measured", result });
      } catch (error) {
        // Most likely the file has gone since it was listed; another attempt would not find it either.
        await consumer.fail(message, error, { retry: false });
      }
    }
  }
}

/** Says that this process is ready, and waits for the word to begin; the signal tells when to end. */
function begin(): Promise<AbortSignal> {
  const end = new AbortController();
  const input = createInterface({ input: process.stdin });
  input.once("close", () => end.abort());
  return new Promise((resolve) => {
    input.once("line", () => resolve(end.signal));
    input.once("close", () => resolve(end.signal));
    console.log("ready");
  });
}

/** Holds what was leased and does nothing more. */
async function stall(held: number): Promise<never> {
  console.log(`stalled ${held}`);
  setInterval(() => {}, 1_000);
  return await new Promise<never>(() => {});
}

/** Counts as `wc` does: a word is a run of bytes that are not white space. */
export function measure(content: Uint8Array): Measure {
  let lines = 0;
  let words = 0;
  let isInWord = false;
  for (const byte of content) {
    if (byte === 10) lines++;
    const isSpace = byte === 32 || (byte >= 9 && byte <= 13);
    if (!isSpace && !isInWord) words++;
    isInWord = !isSpace;
  }
  return { bytes: content.length, lines, words, sha256: createHash("sha256").update(content).digest("hex") };
}
