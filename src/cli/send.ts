/** `pgqrs message send`: one message from the command line, or any number from a file or a pipe. */
import { type EnqueueOptions, type MessageOptions, type Producer, StateError } from "../../mod.ts";
import { type Batch, batchesOf, keyOf, type Source, sourceOf, TEXT_HINT } from "./batches.ts";
import { type Call, type Command, counted, given, type Output, type Shell, UsageError } from "./command.ts";
import { AT, DELAY, PRIORITY, TYPE } from "./flags.ts";
import { readJson } from "./json.ts";
import { liveRow } from "./rows.ts";
import { isArgumentError } from "./wording.ts";

const BAR_WIDTH = 20;
/** How long a batch that is under way may take when the user wants it to stop. */
const PATIENCE_MS = 2_000;

export const sendCommand: Command = {
  usage: "message send <queue> [payload]",
  about: "Put a message, written as JSON, on a queue; or one for each line of a file, or of what is piped in (-)",
  example: `message send tasks '{"task": "send_email"}' --delay 30`,
  flags: [
    {
      name: "file",
      letter: "f",
      type: "text",
      about: "A file (- for what is piped in) with one JSON text, or with one on each line",
    },
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
      return await sendOne(producer, readJson("the payload", payload as string, TEXT_HINT), field, one);
    }
    if (options.key !== undefined) {
      throw new UsageError("--key is for one message; --key-field tells in which field each of many has its own");
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
    for await (const batch of untilAborted(batchesOf(source.bytes, field), shell.signal)) {
      await last;
      if (shell.signal.aborted) break;
      last = sendBatch(producer, batch, { ...options, signal }, (count) => {
        sent += count;
        shell.progress(progressOf(sent, batch.bytes, source.size, performance.now() - begin));
      });
      // It is waited for behind the next batch.
      last.catch(() => {});
    }
    await last;
  } catch (error) {
    // What was on its way when a line could not be read is waited for as well; if it fails, that was the earlier line.
    const earlier = await last.then(() => undefined, (failed) => ({ failed }));
    shell.progress("");
    shell.log.warn(`${counted(sent, "message")} of before ${sent === 1 ? "was" : "were"} sent`);
    throw earlier === undefined ? error : earlier.failed;
  }
  shell.progress("");
  const note = `Sent ${counted(sent, "message")}${shell.signal.aborted ? " before the interruption" : ""}`;
  return { data: { queue, sent }, note };
}

/**
 * Sends a batch. If one of its lines is refused, all before that are sent: a call stores all or none, so the half with the
 * line in it is found by sending halves. @throws {UsageError | Error} naming the line.
 */
async function sendBatch(
  producer: Producer,
  { payloads, each, lines, bytes }: Batch,
  options: EnqueueOptions,
  tell: (count: number) => void,
): Promise<void> {
  // Without keys nothing is said of each, which is faster.
  const isKeyed = each.some(({ key }) => key !== undefined);
  try {
    await producer.enqueueMany(payloads, { ...options, ...(isKeyed && { each: (_, i) => each[i] as MessageOptions }) });
    tell(payloads.length);
  } catch (error) {
    if (!isOfLine(error)) throw error;
    if (payloads.length === 1) throw lineError(lines[0] as number, error);
    const half = payloads.length >> 1;
    for (const [from, to] of [[0, half], [half, payloads.length]] as const) {
      const [some, own, numbers] = [payloads.slice(from, to), each.slice(from, to), lines.slice(from, to)];
      await sendBatch(producer, { payloads: some, each: own, lines: numbers, bytes }, options, tell);
    }
  }
}

/** Whether a line is to blame, and not what was said of all of them. */
function isOfLine(error: unknown): error is Error {
  if (error instanceof StateError) return true;
  return isArgumentError(error) && /payloads\[\d+\]|^Cannot use key:/.test(error.message);
}

function lineError(line: number, error: Error): Error {
  const message = error.message.replace("payloads[0]", "the payload").replace("use key:", "use its key:");
  const text = `line ${line}: ${message}`;
  return error instanceof StateError ? new StateError(text) : new UsageError(text);
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

function progressOf(sent: number, bytes: number, size: number | undefined, ms: number): string {
  const speed = Math.round(sent / Math.max(ms, 1) * 1_000).toLocaleString("en-US");
  const told = `${sent.toLocaleString("en-US")} messages, ${speed} a second`;
  if (size === undefined || size === 0) return told;
  const part = Math.min(1, bytes / size);
  const full = Math.floor(part * BAR_WIDTH);
  return `[${"#".repeat(full)}${"-".repeat(BAR_WIDTH - full)}] ${Math.floor(part * 100)} %  ${told}`;
}
