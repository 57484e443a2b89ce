/** `pgqrs message send`: one message from the command line, or any number from a file or a pipe. */
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { EnqueueManyOptions, EnqueueOptions, MessageOptions, Producer } from "../../mod.ts";
import { type Call, type Command, counted, given, type Output, type Shell, UsageError } from "./command.ts";
import { AT, DELAY, PRIORITY, TYPE } from "./flags.ts";
import { type Line, linesOf, NotTextError } from "./lines.ts";
import { liveRow } from "./rows.ts";

/** How much of a file is sent by one statement; one is under way while the next is read. More is larger, but not faster. */
const BATCH_LINES = 1_000;
/** Keys take memory of their own. */
const KEYED_LINES = 500;
const BATCH_CHARS = 1024 * 1024;
/** The most that is read for one message that goes over several lines. */
const LONGEST_JSON = 64 * 1024 * 1024;
const BAR_WIDTH = 20;
/** How long a batch that is under way may take when the user wants it to stop. */
const PATIENCE_MS = 2_000;

/** Where messages come from. */
interface Source {
  readonly bytes: AsyncIterable<Uint8Array>;
  /** How much there is, if that is known. */
  readonly size?: number;
}

interface Batch {
  readonly payloads: unknown[];
  /** What is said of each. */
  readonly each: MessageOptions[];
  /** How many bytes have been read up to its end. */
  readonly bytes: number;
}

export const sendCommand: Command = {
  usage: "message send <queue> [payload]",
  about: "Put a message, written as JSON, on a queue; or one for each line of a file, or of what is piped in (-)",
  example: `message send tasks '{"task": "send_email"}' --delay 30`,
  flags: [
    { name: "file", letter: "f", type: "text", about: "A file with one JSON text, or with one on each line" },
    DELAY,
    AT,
    PRIORITY,
    { name: "key", letter: "k", type: "text", about: "Any number of sends under one key make one message" },
    { name: "key-field", type: "text", about: "The key of each message is in this field of its payload" },
    { name: "header", letter: "H", type: "list", about: "A header, as name=value" },
    { name: "headers", type: "json", about: "Headers, as an object of texts" },
    { ...TYPE, about: "The header type, by which consumers can choose" },
    { name: "ttl", type: "duration", about: "Dropped unless it is begun within this time" },
    { name: "max-attempts", type: "integer", about: "After how many failures it is dead; else as the queue says" },
  ],
  endsItself: true,
  async run(store, call, shell) {
    const { args: { queue = "", payload }, flags } = call;
    const producer = store.producer(queue);
    const options = optionsOf(call);
    const field = flags["key-field"] as string | undefined;
    if (field !== undefined && options.key !== undefined) {
      throw new UsageError("--key and --key-field exclude each other");
    }
    const source = await sourceOf(payload, flags.file as string | undefined, shell);
    if (source === undefined) {
      const one = { ...options, signal: shell.signal };
      return await sendOne(producer, parseJson("the payload", payload as string), field, one);
    }
    return await sendAll(producer, source, { field, options, shell, queue });
  },
};

async function sendOne(
  producer: Producer,
  payload: unknown,
  field: string | undefined,
  options: EnqueueOptions,
): Promise<Output> {
  const message = await producer.enqueue(payload, { ...options, ...keyOf(payload, field, "the payload") });
  return { data: liveRow(message), note: `Sent message ${message.id}` };
}

/** Sends what comes in batches, so that any amount takes little memory. What was sent before an error stays sent. */
async function sendAll(
  producer: Producer,
  source: Source,
  { field, options, shell, queue }: {
    readonly field: string | undefined;
    readonly options: MessageOptions;
    readonly shell: Shell;
    readonly queue: string;
  },
): Promise<Output> {
  const begin = performance.now();
  const signal = later(shell.signal, PATIENCE_MS);
  let sent = 0;
  let last: Promise<unknown> = Promise.resolve();
  try {
    for await (const { payloads, each, bytes } of untilAborted(batchesOf(source.bytes, field), shell.signal)) {
      await last;
      if (shell.signal.aborted) break;
      const many: EnqueueManyOptions<unknown> = field === undefined
        ? { ...options, signal }
        : { ...options, signal, each: (_, i) => each[i] as MessageOptions };
      last = producer.enqueueMany(payloads, many).then(() => {
        sent += payloads.length;
        shell.progress(progressOf(sent, bytes, source.size, performance.now() - begin));
      });
      // It is waited for behind the next batch.
      last.catch(() => {});
    }
    await last;
  } catch (error) {
    // What was on its way when a line could not be read is waited for as well.
    await last.catch(() => {});
    shell.progress("");
    shell.log.warn(`${counted(sent, "message")} of before ${sent === 1 ? "was" : "were"} sent`);
    throw error;
  }
  shell.progress("");
  const note = `Sent ${counted(sent, "message")}${shell.signal.aborted ? " before the interruption" : ""}`;
  return { data: { queue, sent }, note };
}

/** Aborted some time after another one is: what is under way may come to its end. */
function later(signal: AbortSignal, ms: number): AbortSignal {
  const controller = new AbortController();
  const abort = (): void => controller.abort(signal.reason);
  signal.addEventListener("abort", () => setTimeout(abort, ms).unref?.(), { once: true });
  return controller.signal;
}

/** Ends when the user wants it to stop, also while nothing comes. */
async function* untilAborted<T>(items: AsyncGenerator<T>, signal: AbortSignal): AsyncGenerator<T> {
  try {
    for (;;) {
      const next = await nextOf(items, signal);
      if (next === undefined || next.done === true) return;
      yield next.value;
    }
  } finally {
    // Not waited for: it is behind what does not come.
    items.return(undefined).catch(() => {});
  }
}

/** The next item, or `undefined` when the user wants it to stop. A race with one promise would keep all items in memory. */
function nextOf<T>(items: AsyncGenerator<T>, signal: AbortSignal): Promise<IteratorResult<T> | undefined> {
  if (signal.aborted) return Promise.resolve(undefined);
  return new Promise((resolve, reject) => {
    const stop = (): void => resolve(undefined);
    signal.addEventListener("abort", stop, { once: true });
    items.next().then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

/**
 * Reads lines of JSON; if the first line is none by itself, everything together has to be. What is before a line that
 * cannot be used is a batch as well. @throws {UsageError}
 */
async function* batchesOf(stream: AsyncIterable<Uint8Array>, field: string | undefined): AsyncGenerator<Batch> {
  let batch: Batch = { payloads: [], each: [], bytes: 0 };
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
      chars += line.text.length;
      if (batch.payloads.length < most && chars < BATCH_CHARS) continue;
      yield { ...batch, bytes: line.bytes };
      [batch, chars] = [{ payloads: [], each: [], bytes: line.bytes }, 0];
    }
  } catch (error) {
    const { payloads, each: { length }, bytes } = batch;
    if (length > 0) yield { payloads: payloads.slice(0, length), each: batch.each, bytes };
    throw error instanceof NotTextError ? new UsageError(error.message) : error;
  }
  if (batch.payloads.length > 0) yield { ...batch, bytes: Infinity };
}

function parseLine({ text, number }: Line): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`line ${number} is not JSON`);
  }
}

/** The first line, or one JSON text that goes over several lines. */
async function firstOf(first: Line, rest: AsyncIterable<Line>): Promise<unknown> {
  try {
    return JSON.parse(first.text);
  } catch {
    let text = first.text;
    for await (const line of rest) {
      text += `\n${line.text}`;
      if (text.length > LONGEST_JSON) throw new UsageError(`line ${first.number} is not JSON`);
    }
    return parseJson("what was read", text);
  }
}

/** Where messages come from, if not from the command line. @throws {UsageError} */
async function sourceOf(
  payload: string | undefined,
  file: string | undefined,
  { input }: Shell,
): Promise<Source | undefined> {
  if ((payload === undefined) === (file === undefined)) {
    throw new UsageError("message send needs a payload, - for what is piped in, or --file, and one of them only");
  }
  if (payload === "-") return { bytes: input };
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

function optionsOf({ flags }: Call): MessageOptions {
  const headers: Record<string, string> = { ...flags.headers as Record<string, string> };
  for (const header of flags.header as string[] ?? []) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(header) ?? [];
    if (name === undefined || value === undefined) throw new UsageError("--header is name=value");
    headers[name] = value;
  }
  if (flags["message-type"] !== undefined) headers.type = flags["message-type"] as string;
  if (flags.headers !== undefined && (typeof flags.headers !== "object" || Array.isArray(flags.headers))) {
    throw new UsageError("--headers is an object of texts");
  }
  return given({
    delayMs: flags.delay as number,
    at: flags.at as Date,
    priority: flags.priority as number,
    key: flags.key as string,
    ttlMs: flags.ttl as number,
    maxAttempts: flags["max-attempts"] as number,
    headers: Object.keys(headers).length === 0 ? undefined : headers,
  });
}

/** The key that a payload has in a field. @throws {UsageError} */
function keyOf(payload: unknown, field: string | undefined, where: string): MessageOptions {
  if (field === undefined) return {};
  const isObject = typeof payload === "object" && payload !== null && Object.hasOwn(payload, field);
  const key: unknown = isObject ? (payload as Record<string, unknown>)[field] : undefined;
  if (typeof key === "string" || typeof key === "number") return { key: String(key) };
  throw new UsageError(`${where} has neither a text nor a number in the field ${JSON.stringify(field)}`);
}

function progressOf(sent: number, bytes: number, size: number | undefined, ms: number): string {
  const speed = Math.round(sent / Math.max(ms, 1) * 1_000).toLocaleString("en-US");
  const told = `${sent.toLocaleString("en-US")} messages, ${speed} a second`;
  if (size === undefined || size === 0) return told;
  const part = Math.min(1, bytes / size);
  const full = Math.floor(part * BAR_WIDTH);
  return `[${"#".repeat(full)}${"-".repeat(BAR_WIDTH - full)}] ${Math.floor(part * 100)} %  ${told}`;
}

function parseJson(what: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`${what} is not JSON; a text is written as '"text"'`);
  }
}
