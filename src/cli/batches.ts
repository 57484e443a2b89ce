/** Messages to be sent, read from a file or a pipe: in batches, with the lines on which they are. */
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { MessageOptions } from "../../mod.ts";
import { type Shell, UsageError } from "./command.ts";
import { isJson, readJson } from "./json.ts";
import { type Line, linesOf, NotTextError } from "./lines.ts";

/** How much of a file is sent by one statement; one is under way while the next is read. More is larger, but not faster. */
const BATCH_LINES = 1_000;
/** Keys take memory of their own. */
const KEYED_LINES = 500;
const BATCH_CHARS = 1024 * 1024;
/** The most that is read for one message that goes over several lines. */
const LONGEST_JSON = 64 * 1024 * 1024;
/** How somebody goes on whose text is not JSON. */
export const TEXT_HINT = `; a text is written as '"text"'`;

/** Where messages come from. */
export interface Source {
  readonly bytes: AsyncIterable<Uint8Array>;
  /** How much there is, if that is known. */
  readonly size?: number;
}

/** What is sent at once. */
export interface Batch {
  readonly payloads: unknown[];
  /** What is said of each. */
  readonly each: MessageOptions[];
  /** The number of the line on which each of them is. */
  readonly lines: number[];
  /** How many bytes have been read up to its end. */
  readonly bytes: number;
}

/**
 * Reads lines of JSON; if the first line is none by itself, everything together has to be. What is before a line that
 * cannot be used is a batch as well. @throws {UsageError}
 */
export async function* batchesOf(stream: AsyncIterable<Uint8Array>, field: string | undefined): AsyncGenerator<Batch> {
  let batch: Batch = emptyBatch(0);
  let [chars, isFirst] = [0, true];
  const most = field === undefined ? BATCH_LINES : KEYED_LINES;
  const lines = linesOf(stream, LONGEST_JSON);
  try {
    for await (const line of lines) {
      if (line.text.trim() === "") continue;
      const payload = isFirst ? await firstOf(line, lines) : parseLine(line);
      isFirst = false;
      batch.each.push(keyOf(payload, field, `line ${line.number}`));
      batch.payloads.push(payload);
      batch.lines.push(line.number);
      chars += line.text.length;
      if (batch.payloads.length < most && chars < BATCH_CHARS) continue;
      yield { ...batch, bytes: line.bytes };
      [batch, chars] = [emptyBatch(line.bytes), 0];
    }
  } catch (error) {
    if (batch.payloads.length > 0) yield batch;
    throw error instanceof NotTextError ? new UsageError(error.message) : error;
  }
  if (batch.payloads.length > 0) yield { ...batch, bytes: Infinity };
}

function emptyBatch(bytes: number): Batch {
  return { payloads: [], each: [], lines: [], bytes };
}

function parseLine({ text, number }: Line): unknown {
  return readJson(`line ${number}`, text);
}

/** The first line, or one JSON text that goes over several lines. */
async function firstOf(first: Line, rest: AsyncIterable<Line>): Promise<unknown> {
  if (isJson(first.text)) return parseLine(first);
  let text = first.text;
  for await (const line of rest) {
    text += `\n${line.text}`;
    if (text.length > LONGEST_JSON) throw new UsageError(`line ${first.number} is not JSON`);
  }
  if (text === first.text) return readJson(`line ${first.number}`, text, TEXT_HINT);
  return readJson(isJson(text) ? "what was read" : `line ${first.number}`, text, ", nor are all lines together");
}

/** Where messages come from, if not from the command line. @throws {UsageError} */
export async function sourceOf(
  payload: string | undefined,
  file: string | undefined,
  { input }: Shell,
): Promise<Source | undefined> {
  if ((payload === undefined) === (file === undefined)) {
    throw new UsageError("message send needs a payload, - for what is piped in, or --file, and one of them only");
  }
  if (payload === "-" || file === "-") return { bytes: input };
  if (file === undefined) return undefined;
  try {
    const found = await stat(file);
    if (found.isDirectory()) throw Object.assign(new Error("a folder"), { code: "EISDIR" });
    const bytes = createReadStream(file);
    // What may not be opened is known here, before anything is sent.
    await once(bytes, "open");
    return { bytes, ...(found.isFile() && { size: found.size }) };
  } catch (error) {
    const { code }: { code?: unknown } = Object(error);
    throw new UsageError(`cannot read ${file}: ${code ?? error}`);
  }
}

/** The key that a payload has in a field. @throws {UsageError} */
export function keyOf(payload: unknown, field: string | undefined, where: string): MessageOptions {
  if (field === undefined) return {};
  const isObject = typeof payload === "object" && payload !== null && Object.hasOwn(payload, field);
  const key: unknown = isObject ? (payload as Record<string, unknown>)[field] : undefined;
  if (typeof key === "string" || typeof key === "number") return { key: String(key) };
  throw new UsageError(`${where} has neither a text nor a number in the field ${JSON.stringify(field)}`);
}
