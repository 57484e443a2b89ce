/** Puts messages on a queue. */
import type { CallLimits, Database, LetIn } from "./database.ts";
import { StateError } from "./errors.ts";
import { decodeValue, encodeValue } from "./codec.ts";
import { decodeJson, encodeJson, hashPayload } from "./json.ts";
import type { Message, MessageState } from "./message.ts";
import { checkBoolean, checkDuration, checkInteger, checkName, checkOptions, instantOf } from "./options.ts";
import { checkPayload, type Queue } from "./queue.ts";
import { type Backoff, resolveBackoff } from "./retry.ts";
import { type Encoded, Sender, type Stored } from "./sender.ts";
import type { EnqueueItem } from "./sql/enqueue.ts";
import type { Enqueued } from "./sql/enqueued.ts";
import type { TransactionLike } from "./transaction.ts";

/** An idempotency key: any number of attempts under the same key make one message. */
export interface Key {
  /** The key, unique in its queue; at most 255 bytes. */
  readonly value: string;
  /**
   * What happens when the key is taken. `"existing"`: the message that has it is returned. `"reject"`: a `StateError`.
   * `"replace"`: as long as nobody has that message leased and it has not ended, it gets the new
   * payload and options and keeps its id.
   *
   * @default "existing"
   */
  readonly onConflict?: "existing" | "reject" | "replace";
  /**
   * For how long the key is taken: until the message was delivered for the first time, until it has ended, or for so many
   * milliseconds. Unless said, for 24 hours and at least until the message has ended.
   */
  readonly until?: number | "finished" | "started";
}

/** What is said of one message. */
export interface MessageOptions {
  /** Not delivered before so many milliseconds have passed, by the database's clock. @default 0 */
  readonly delayMs?: number;
  /** Not delivered before this instant, by the database's clock. */
  readonly at?: Date;
  /** From 0 to 9; larger ones are delivered first. @default 0 */
  readonly priority?: number;
  /** An idempotency key. */
  readonly key?: string | Key;
  /** Text that travels beside the payload; `type` can be asked for by `dequeue`. At most 16 kB. */
  readonly headers?: Readonly<Record<string, string>>;
  /** After how many failed attempts the message becomes a dead letter. @default the job's, else the queue's */
  readonly maxAttempts?: number;
  /** The pause after a failed attempt of this message. @default the job's, else the queue's */
  readonly backoff?: Backoff;
  /**
   * For how long after it was first due a delivery may begin, in milliseconds. Later the message is dropped instead: it ends
   * as `cancelled` with the reason `"expired"`. That holds for every delivery, also of another attempt; what has begun in
   * time may take as long as it needs.
   *
   * @default for ever
   */
  readonly ttlMs?: number;
}

/** Options of {@linkcode Producer.enqueue}. */
export interface EnqueueOptions extends MessageOptions, CallLimits {
  /**
   * Whether to give those who wait for messages a hint, which they get at the commit. Without it they find the message when
   * they look next. @default true
   */
  readonly notify?: boolean;
  /** Stores the message if and only if this transaction commits. */
  readonly tx?: TransactionLike;
}

/** Options of {@linkcode Producer.enqueueMany}. */
export interface EnqueueManyOptions<T> extends Omit<EnqueueOptions, "key"> {
  /** What is said of each message, over what is said of all. */
  readonly each?: (payload: T, index: number) => MessageOptions;
}

const MESSAGE_OPTIONS: readonly string[] = [
  "at",
  "backoff",
  "delayMs",
  "headers",
  "key",
  "maxAttempts",
  "priority",
  "ttlMs",
];
const ENQUEUE_OPTIONS = [...MESSAGE_OPTIONS, "notify", "signal", "timeoutMs", "tx"];
const MANY_OPTIONS = [...ENQUEUE_OPTIONS.filter((name) => name !== "key"), "each"];
const DAY_MS = 86_400_000;
const HEADERS_BYTES = 16_384;
/** How the names of headers begin that only the library sets. */
const OURS = "pgqrs-";
/** For how long a long list is encoded or decoded before timers get their turn. */
const STRETCH_MS = 8;

/**
 * Puts messages on one queue. A message is as durable as the database's commit when a call resolves.
 *
 * @example Usage
 * ```ts
 * import { connect } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * await store.admin.createQueue("tasks");
 *
 * const producer = store.producer("tasks");
 * const first = await producer.enqueue({ task: "greet" }, { key: "greet-ada" });
 * const again = await producer.enqueue({ task: "greet" }, { key: "greet-ada" });
 * assert.equal(again.id, first.id);
 * ```
 */
export class Producer<T = unknown> {
  readonly #database: Database;
  readonly #queue: Queue<T>;
  readonly #sender: Sender;

  /** Made by `store.producer`. */
  constructor(database: Database, queue: Queue<T>) {
    this.#database = database;
    this.#queue = queue;
    this.#sender = new Sender(database, queue.name);
  }

  /** The name of the queue. */
  get queue(): string {
    return this.#queue.name;
  }

  /**
   * Stores one message and resolves to it. When the key is taken it resolves to the message that has it.
   *
   * @throws {TypeError | RangeError} when the payload or an option cannot be stored exactly; nothing was sent.
   * @throws {NotFoundError} when there is no such queue.
   * @throws {StateError} when the key is taken for another payload, or is taken and `onConflict` is `"reject"`.
   */
  async enqueue(payload: T, options: EnqueueOptions = {}): Promise<Message<T>> {
    checkOptions("enqueue", options, ENQUEUE_OPTIONS);
    return await this.#database.letIn(async (letIn) => {
      const { notify = true } = options;
      checkBoolean("notify", notify);
      const encoded = await this.#encode(payload, options, "payload");
      const stored = await this.#sender.one(encoded, { ...options, ...letIn, notify });
      return this.#toMessage(stored, this.#decode(stored.encoded.text));
    }, options);
  }

  /**
   * Stores all messages or none, in one statement, and resolves to them in the order of the list, which is also the order
   * of their first delivery.
   *
   * @throws as {@linkcode enqueue} does; the message names the place in the list.
   */
  async enqueueMany(payloads: readonly T[], options: EnqueueManyOptions<T> = {}): Promise<Message<T>[]> {
    checkOptions("enqueueMany", options, MANY_OPTIONS);
    if (!Array.isArray(payloads)) throw new TypeError("Cannot enqueue: the payloads must be an array");
    if (payloads.length === 0) return [];
    return await this.#database.letIn((letIn) => this.#enqueueAll(payloads, { ...options, ...letIn }), options);
  }

  async #enqueueAll(payloads: readonly T[], options: EnqueueManyOptions<T> & LetIn): Promise<Message<T>[]> {
    const { notify = true } = options;
    checkBoolean("notify", notify);
    const list = await this.#encodeAll(payloads, options);
    const { unique, places } = foldKeys(list);
    const texts = unique.map(({ text }) => text);
    const common = options.each === undefined ? (unique[0] as Encoded).item : unique.map(({ item }) => item);
    // The payloads of the messages are read back while the database works.
    const [stored, copies] = await Promise.all([
      this.#sender.all(texts, common, { ...options, notify }),
      inStretches(places, (place) => this.#decode(texts[place] as string)),
    ]);
    return await inStretches(places, (place, i) => {
      const sent = { encoded: unique[place] as Encoded, enqueued: stored[place] as Enqueued };
      return this.#toMessage(sent, copies[i]);
    });
  }

  async #encodeAll(payloads: readonly T[], options: EnqueueManyOptions<T>): Promise<Encoded[]> {
    const { each, ...common } = options;
    const shared = each === undefined ? encodeOptions(common) : undefined;
    const list: Encoded[] = [];
    const stretch = new Stretch();
    for (let i = 0; i < payloads.length; i++) {
      const payload = payloads[i] as T;
      const what = `payloads[${i}]`;
      if (shared !== undefined && this.#queue.schema === undefined) {
        list.push({ text: this.#text(payload, what), ...shared });
      } else {
        const own = each?.(payload, i);
        checkOptions("each", own, MESSAGE_OPTIONS);
        list.push(await this.#encode(payload, { ...common, ...given(own) }, what));
      }
      if (stretch.isOver) await stretch.takeTurns();
    }
    return list;
  }

  async #encode(payload: T, options: MessageOptions & CallLimits, what: string): Promise<Encoded> {
    const { signal, timeoutMs = this.#database.settings.timeoutMs } = options;
    const checked = await checkPayload(this.#queue, payload, what, { signal, timeoutMs });
    const text = this.#text(checked, what);
    const encoded = { text, ...encodeOptions(options) };
    if (encoded.item.key === undefined) return encoded;
    return { ...encoded, item: { ...encoded.item, hash: `js:${await this.#hash(checked, text)}` } };
  }

  /** Of what only tags can tell, the hash is that of its text as JSON. */
  async #hash(payload: unknown, text: string): Promise<string> {
    return await hashPayload(this.#queue.codec === "tagged" ? decodeJson(text) : payload);
  }

  #text(payload: unknown, what: string): string {
    const { maxBytes, maxDepth, codec } = this.#queue;
    const encode = codec === "tagged" ? encodeValue : encodeJson;
    return encode(payload, { what, ...(maxBytes && { maxBytes }), ...(maxDepth && { maxDepth }) });
  }

  #decode(text: string): unknown {
    return this.#queue.codec === "tagged" ? decodeValue(text) : decodeJson(text);
  }

  #toMessage({ encoded, enqueued: { id, at, maxAttempts, found } }: Stored, payload: unknown): Message<T> {
    const { item, atMs, headers } = encoded;
    const dueAt = found?.dueAt ?? atMs ?? at + (item.delay_ms ?? 0);
    const state: MessageState = found?.state ?? (dueAt > at ? "delayed" : "ready");
    return {
      id,
      queue: this.#queue.name,
      payload: payload as T,
      state,
      priority: found?.priority ?? item.priority ?? 0,
      key: item.key ?? null,
      headers,
      attempts: found?.attempts ?? 0,
      maxAttempts: found?.maxAttempts ?? maxAttempts ?? this.#database.settings.maxAttempts,
      crashes: 0,
      enqueuedAt: new Date(found?.enqueuedAt ?? at),
      visibleAt: new Date(dueAt),
      leaseUntil: null,
      expiresAt: found !== undefined
        ? found.expiresAt
        : item.ttl_ms === undefined
        ? null
        : new Date(dueAt + item.ttl_ms),
      worker: null,
      error: null,
      progress: null,
    };
  }
}

/** How long a list has been worked on without a pause. */
class Stretch {
  #endsAt = performance.now() + STRETCH_MS;

  get isOver(): boolean {
    return performance.now() > this.#endsAt;
  }

  async takeTurns(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.#endsAt = performance.now() + STRETCH_MS;
  }
}

/** Maps a list; a long one lets timers have their turn meanwhile. */
async function inStretches<T, R>(list: readonly T[], map: (item: T, index: number) => R): Promise<R[]> {
  const out: R[] = [];
  const stretch = new Stretch();
  for (let i = 0; i < list.length; i++) {
    out.push(map(list[i] as T, i));
    if (stretch.isOver) await stretch.takeTurns();
  }
  return out;
}

/**
 * Equal keys in one list are one message: what is to be stored, and for each item of the list its place in that.
 *
 * @throws {StateError} when payloads under one key differ.
 */
function foldKeys(list: readonly Encoded[]): { readonly unique: Encoded[]; readonly places: number[] } {
  const unique: Encoded[] = [];
  const byKey = new Map<string, number>();
  const places = list.map((encoded, i) => {
    const { key, hash } = encoded.item;
    const known = key === undefined ? undefined : byKey.get(key);
    if (known === undefined) {
      if (key !== undefined) byKey.set(key, unique.length);
      return unique.push(encoded) - 1;
    }
    if (unique[known]?.item.hash === hash) return known;
    throw new StateError(
      `Cannot enqueue: payloads[${i}] has the key of an earlier payload of the list and differs from it`,
    );
  });
  return { unique, places };
}

/** The options that are given: one that is undefined leaves what is said of all messages as it is. */
function given(options: MessageOptions | undefined): MessageOptions {
  return Object.fromEntries(Object.entries(options ?? {}).filter(([, value]) => value !== undefined));
}

function encodeOptions(options: MessageOptions): Omit<Encoded, "text"> {
  const { delayMs, at, priority, ttlMs, headers = {} } = options;
  if (delayMs !== undefined && at !== undefined) throw new TypeError("Cannot use delayMs and at together");
  if (delayMs !== undefined) checkDuration("delayMs", delayMs);
  if (priority !== undefined) checkInteger("priority", priority, 0, 9);
  if (ttlMs !== undefined) checkDuration("ttlMs", ttlMs, 1);
  const atMs = at === undefined ? undefined : instantOf("at", at);
  const item: EnqueueItem = {
    delay_ms: delayMs,
    at_ms: atMs,
    priority,
    ttl_ms: ttlMs,
    headers: encodeHeaders(headers),
    retry: encodeRetry(options),
    ...encodeKey(options.key),
  };
  return { item, atMs, headers };
}

/** Headers that the library sets, by which a child is known to its parent. */
const own = new WeakSet<object>();

/** Marks headers as set by the library itself. */
export function ownHeaders<H extends object>(headers: H): H {
  own.add(headers);
  return headers;
}

function isOurs(headers: object): boolean {
  return own.has(headers);
}

function encodeHeaders(headers: Readonly<Record<string, string>>): string | undefined {
  if (typeof headers !== "object" || headers === null || !isPlain(headers)) {
    throw new TypeError("Cannot use headers: they must be a plain object");
  }
  const names = Object.keys(headers);
  if (names.length === 0) return undefined;
  for (const name of names) {
    if (name.startsWith(OURS) && !isOurs(headers)) {
      throw new TypeError(`Cannot use headers.${name}: names that begin with ${OURS} are the library's own`);
    }
    if (typeof headers[name] !== "string") throw new TypeError(`Cannot use headers.${name}: it must be a string`);
  }
  return encodeJson(headers, { what: "headers", maxBytes: HEADERS_BYTES, maxDepth: 1 });
}

/** What a message says of its own attempts. */
function encodeRetry({ maxAttempts, backoff }: MessageOptions): string | undefined {
  if (maxAttempts === undefined && backoff === undefined) return undefined;
  if (maxAttempts !== undefined) checkInteger("maxAttempts", maxAttempts, 1, 10_000);
  checkOptions("backoff", backoff, ["baseMs", "jitter", "kind", "maxMs"]);
  return JSON.stringify({ maxAttempts, backoff: backoff && resolveBackoff(backoff) });
}

/** A map, a list or `Headers` has no names of its own, so that all in it would be lost. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function encodeKey(key: string | Key | undefined): Pick<EnqueueItem, "conflict" | "hold" | "hold_ms" | "key"> {
  if (key === undefined) return {};
  if (typeof key === "string") return encodeKey({ value: key });
  checkOptions("key", key, ["onConflict", "until", "value"]);
  checkName("key", key.value);
  const { value, onConflict = "existing", until } = key;
  if (!["existing", "reject", "replace"].includes(onConflict)) {
    throw new TypeError('Cannot use key.onConflict: it must be "existing", "reject" or "replace"');
  }
  if (until === undefined) return { key: value, conflict: onConflict, hold: "default", hold_ms: DAY_MS };
  if (until === "started" || until === "finished") return { key: value, conflict: onConflict, hold: until };
  if (typeof until !== "number") {
    throw new TypeError('Cannot use key.until: it must be "started", "finished" or a number of milliseconds');
  }
  checkDuration("key.until", until, 1);
  return { key: value, conflict: onConflict, hold: "time", hold_ms: until };
}
