/** Takes messages off a queue under a lease, and settles them. */
import { type CallLimits, type Database, partlyApplied, type QueryLimits } from "./database.ts";
import { NotFoundError } from "./errors.ts";
import { encodeError, encodeJson } from "./json.ts";
import { leaseOf, type Message, newHolder, toMessage } from "./message.ts";
import {
  checkBoolean,
  checkDuration,
  checkInteger,
  checkLimits,
  checkName,
  checkOptions,
  checkTimeout,
  idOf,
  LIMITS,
} from "./options.ts";
import type { Queue } from "./queue.ts";
import { type Backoff, resolveBackoff, retryDelay } from "./retry.ts";
import {
  archiveLeased,
  claimMessages,
  deleteLeased,
  extendLeased,
  failLeased,
  listAttempts,
  releaseLeased,
  type SettleItem,
} from "./sql/leases.ts";
import { decodeLive, type LiveRecord } from "./sql/record.ts";
import { sequence, type Statement } from "./sql/sql.ts";
import type { TransactionLike } from "./transaction.ts";

/** Options of a consumer. */
export interface ConsumerOptions {
  /** A name for whoever looks at leases and at the archive. @default "consumer" */
  readonly name?: string;
}

/** Options of {@linkcode Consumer.dequeue}. */
export interface DequeueOptions extends CallLimits {
  /** The largest number of messages to take. @default 1 */
  readonly limit?: number;
  /** For how long the messages are leased, in milliseconds. @default the queue's, else the store's (5000) */
  readonly leaseMs?: number;
  /** For how long to wait for a message when there is none, in milliseconds. @default 0 */
  readonly waitMs?: number;
  /** Takes only messages whose header `type` is this. A long backlog of other types makes that slow. */
  readonly type?: string;
}

/** Options of every settling of a message. */
export interface SettleOptions extends CallLimits {
  /** Settles if and only if this transaction commits. */
  readonly tx?: TransactionLike;
}

/** Options of {@linkcode Consumer.archive}. */
export interface ArchiveOptions extends SettleOptions {
  /** Why it ended, in a word or two. */
  readonly reason?: string;
  /** What came of it; anything that JSON can represent. */
  readonly result?: unknown;
}

/** Options of {@linkcode Consumer.release}. */
export interface ReleaseOptions extends SettleOptions {
  /** Not delivered again before so many milliseconds have passed. @default 0 */
  readonly delayMs?: number;
}

/** Options of {@linkcode Consumer.fail}. */
export interface FailOptions extends SettleOptions {
  /** Not delivered again before so many milliseconds have passed. @default what the queue's back-off says */
  readonly delayMs?: number;
  /** Whether another attempt makes sense; with `false` the message becomes a dead letter at once. @default true */
  readonly retry?: boolean;
}

/** A message, or the id of one that this consumer has leased. */
export type Leased = Message<unknown> | number;

/**
 * Takes messages off one queue.
 *
 * A message is delivered at least once: whoever does not settle it in time loses its lease, and it is delivered again. Every
 * settling is fenced by the lease: it resolves to false, and changes nothing, when the message has been given to somebody
 * else in the meantime. A lease that has run out may still be used as long as nobody has.
 *
 * @example Usage
 * ```ts
 * import { connect } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * await store.admin.createQueue("tasks");
 * await store.producer("tasks").enqueueMany([{ n: 1 }, { n: 2 }]);
 *
 * const consumer = store.consumer("tasks", { name: "host-1" });
 * for (const message of await consumer.dequeue({ limit: 10, leaseMs: 30_000 })) {
 *   assert.ok(await consumer.archive(message, { reason: "completed" }));
 * }
 * assert.equal(await store.admin.archive.count({ queue: "tasks" }), 2);
 * ```
 */
export class Consumer<T = unknown> {
  readonly #database: Database;
  readonly #queue: Queue<T>;
  readonly #name: string;
  readonly #holder: string;
  #isKnown = false;

  /** Made by `store.consumer`. */
  constructor(database: Database, queue: Queue<T>, options: ConsumerOptions = {}) {
    checkOptions("consumer", options, ["name"]);
    const { name = "consumer" } = options;
    checkName("the name of a consumer", name, 200);
    this.#database = database;
    this.#queue = queue;
    this.#name = name;
    this.#holder = newHolder(name);
  }

  /** The name that is recorded as `worker` and as `archivedBy`. */
  get name(): string {
    return this.#name;
  }

  /** The name of the queue. */
  get queue(): string {
    return this.#queue.name;
  }

  /**
   * Takes up to `limit` messages under a lease: those of the highest priority first, in order of the time from which they
   * were due, ties by id. Resolves to none when there are none or the queue is paused.
   *
   * @throws {NotFoundError} when there is no such queue.
   */
  async dequeue(options: DequeueOptions = {}): Promise<Message<T>[]> {
    checkOptions("dequeue", options, [...LIMITS, "leaseMs", "limit", "type", "waitMs"]);
    const { limit = 1, leaseMs, waitMs = 0, type, signal, timeoutMs } = options;
    checkInteger("limit", limit, 1, 10_000);
    if (leaseMs !== undefined) checkDuration("leaseMs", leaseMs, 1);
    if (type !== undefined) checkName("type", type, 16_384);
    checkTimeout("waitMs", waitMs, 0);
    checkLimits(options);
    const waitUntil = performance.now() + waitMs;
    for (;;) {
      signal?.throwIfAborted();
      const messages = await this.#claim({ limit, leaseMs, type }, { signal, timeoutMs });
      const left = waitUntil - performance.now();
      const { closing, settings } = this.#database;
      if (messages.length > 0 || left <= 0 || closing.aborted) return messages;
      await pause(Math.min(left, settings.pollIntervalMs), signal, closing);
      if (closing.aborted) return [];
    }
  }

  /** Ends a message as succeeded and keeps it in the archive. False: its lease was lost. */
  async archive(message: Leased, options: ArchiveOptions = {}): Promise<boolean> {
    return (await this.archiveMany([message], options))[0] === true;
  }

  /** Ends messages as {@linkcode archive} does, and tells of each whether its lease held. */
  async archiveMany(messages: readonly Leased[], options: ArchiveOptions = {}): Promise<boolean[]> {
    checkOptions("archive", options, [...LIMITS, "reason", "result", "tx"]);
    if (options.reason !== undefined) checkName("reason", options.reason, 1_000);
    const reason = options.reason ?? null;
    const result = options.result === undefined ? null : encodeJson(options.result, { what: "result" });
    return await this.#settle(
      messages,
      options,
      (items, holder) => archiveLeased(items.map((item) => ({ ...item, reason, result })), holder, this.#name),
    );
  }

  /** Deletes a message without a trace. False: its lease was lost. */
  async delete(message: Leased, options: SettleOptions = {}): Promise<boolean> {
    return (await this.deleteMany([message], options))[0] === true;
  }

  /** Deletes messages, and tells of each whether its lease held. */
  async deleteMany(messages: readonly Leased[], options: SettleOptions = {}): Promise<boolean[]> {
    checkOptions("delete", options, [...LIMITS, "tx"]);
    return await this.#settle(messages, options, (items, holder) => deleteLeased(items, holder));
  }

  /** Gives a message back without counting a failure. False: its lease was lost. */
  async release(message: Leased, options: ReleaseOptions = {}): Promise<boolean> {
    return (await this.releaseMany([message], options))[0] === true;
  }

  /** Gives messages back as {@linkcode release} does, and tells of each whether its lease held. */
  async releaseMany(messages: readonly Leased[], options: ReleaseOptions = {}): Promise<boolean[]> {
    checkOptions("release", options, [...LIMITS, "delayMs", "tx"]);
    const { delayMs = 0 } = options;
    checkDuration("delayMs", delayMs);
    return await this.#settle(
      messages,
      options,
      (items, holder) => releaseLeased(items.map((item) => ({ ...item, delay_ms: delayMs })), holder),
    );
  }

  /**
   * Reports a failed attempt: the message is due again after a pause, or becomes a dead letter when it has had all its
   * attempts. The error is kept with name, message, stack and causes, each within bounds. False: its lease was lost.
   */
  async fail(message: Leased, error: unknown, options: FailOptions = {}): Promise<boolean> {
    return (await this.failMany([message], error, options))[0] === true;
  }

  /** Reports a failed attempt for each message, and tells of each whether its lease held. */
  async failMany(messages: readonly Leased[], error: unknown, options: FailOptions = {}): Promise<boolean[]> {
    checkOptions("fail", options, [...LIMITS, "delayMs", "retry", "tx"]);
    const { delayMs, retry = true } = options;
    if (delayMs !== undefined) checkDuration("delayMs", delayMs);
    checkBoolean("retry", retry);
    const text = encodeError(error);
    return await this.#database.call(options, async (call) => {
      const hasPause = delayMs === undefined && retry && messages.length > 0;
      const pauseOf = hasPause ? await this.#pauses(messages, call) : (): number => delayMs ?? 0;
      return await this.#settle(messages, call, (items, holder) =>
        failLeased(
          items.map((item) => ({ ...item, error: text, delay_ms: pauseOf(item.id), is_final: retry ? 0 : 1 })),
          holder,
          this.#name,
        ));
    });
  }

  /**
   * Sets the end of a lease to `leaseMs` from now, by the database's clock; a lease never becomes shorter by it. False: the
   * lease was lost.
   */
  async extend(message: Leased, leaseMs: number, options: CallLimits = {}): Promise<boolean> {
    return (await this.extendMany([message], leaseMs, options))[0] === true;
  }

  /** Extends leases as {@linkcode extend} does, and tells of each whether it held. */
  async extendMany(messages: readonly Leased[], leaseMs: number, options: CallLimits = {}): Promise<boolean[]> {
    checkOptions("extend", options, LIMITS);
    checkDuration("leaseMs", leaseMs, 1);
    return await this.#settle(
      messages,
      options,
      (items, holder) => extendLeased(items.map((item) => ({ ...item, lease_ms: leaseMs })), holder),
    );
  }

  async #claim(
    { limit, leaseMs, type }: { limit: number; leaseMs: number | undefined; type: string | undefined },
    limits: CallLimits,
  ): Promise<Message<T>[]> {
    const { settings } = this.#database;
    const claim = {
      queue: this.#queue.name,
      limit,
      leaseMs,
      defaultLeaseMs: settings.leaseMs,
      holder: this.#holder,
      type,
    };
    const rows = await this.#database.call(limits, async (call) => {
      const claimed = await this.#database.query(claimMessages(claim), call);
      if (claimed.length === 0 && !this.#isKnown) await this.#database.queueNamed(this.#queue.name, call);
      return claimed;
    });
    this.#isKnown = true;
    return rows.map(decodeLive).sort(inClaimOrder).map((record) => toMessage<T>(record, true));
  }

  /** For how long each message has to wait after another failure. */
  async #pauses(messages: readonly Leased[], call: QueryLimits): Promise<(id: number) => number> {
    const ids = messages.map(idOfLeased);
    const backoff = await this.#backoff(call);
    const attempts = new Map(messages.map((one, i) => [ids[i], typeof one === "number" ? 0 : one.attempts]));
    const bare = messages.filter((one) => typeof one === "number");
    if (bare.length > 0) {
      // Who gives an id alone has not told how many attempts there were.
      const rows = await this.#database.query(listAttempts(bare), call);
      for (const [id, count] of rows) attempts.set(Number(id), Number(count));
    }
    return (id) => retryDelay(backoff, (attempts.get(id) ?? 0) + 1);
  }

  /** The pauses that the queue prescribes. One that is gone has taken all leases with it, so that any will do. */
  async #backoff(limits: QueryLimits): Promise<Required<Backoff>> {
    try {
      return resolveBackoff((await this.#database.queueNamed(this.#queue.name, limits)).backoff as Backoff);
    } catch (error) {
      if (error instanceof NotFoundError) return resolveBackoff({});
      throw error;
    }
  }

  /** Runs a settling for messages of one or several holders, and puts the answers in the order of the messages. */
  async #settle(
    messages: readonly Leased[],
    options: QueryLimits,
    toStatement: (items: SettleItem[], holder: string) => Statement,
  ): Promise<boolean[]> {
    const ids = messages.map(idOfLeased);
    const batches: Batch[] = [];
    const places = messages.map((message, i) => placeIn(batches, message, ids[i] as number, this.#holder));
    await this.#database.call(options, async (call) => {
      for (const [i, { holder, items, held }] of batches.entries()) {
        const statement = inStretches(
          [...items.values()],
          this.#database.target.dialect.listLimit,
          (chunk) => toStatement(chunk, holder),
        );
        const rows = await this.#database.query(statement, call).catch((error) => {
          throw i === 0 ? error : partlyApplied(error);
        });
        for (const [id] of rows) held.add(Number(id));
      }
    });
    return places.map(({ held }, i) => held.has(ids[i] as number));
  }
}

/** One atomic statement for a list, in parts that a synchronous database executes without holding the event loop. */
function inStretches(
  items: readonly SettleItem[],
  limit: number,
  toStatement: (chunk: SettleItem[]) => Statement,
): Statement {
  const statements: [Statement, ...Statement[]] = [toStatement(items.slice(0, limit))];
  for (let i = limit; i < items.length; i += limit) statements.push(toStatement(items.slice(i, i + limit)));
  return sequence(statements);
}

/** What one statement settles: the messages of one holder, each id once. */
interface Batch {
  readonly holder: string;
  readonly items: Map<number, SettleItem>;
  readonly held: Set<number>;
}

/** The batch for a message. A list may name one twice, and even two deliveries of it, of which at most one holds. */
function placeIn(batches: Batch[], message: Leased, id: number, ownHolder: string): Batch {
  const { holder, token } = (typeof message === "number" ? undefined : leaseOf(message)) ??
    { holder: ownHolder, token: null };
  let batch = batches.find(({ holder: other, items }) =>
    other === holder && (!items.has(id) || items.get(id)?.token === token)
  );
  if (batch === undefined) batches.push(batch = { holder, items: new Map(), held: new Set() });
  batch.items.set(id, { id, token });
  return batch;
}

function idOfLeased(message: Leased): number {
  return idOf(typeof message === "number" ? message : message?.id);
}

/** By priority, then by due time, then by id: the order of the claim, which an UPDATE does not keep. */
function inClaimOrder(a: LiveRecord, b: LiveRecord): number {
  return b.priority - a.priority || a.dueAt.getTime() - b.dueAt.getTime() || a.id - b.id;
}

/** Waits, no longer than until the store is closed, or rejects with the signal's reason. */
function pause(ms: number, signal: AbortSignal | undefined, closing: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", end);
      closing.removeEventListener("abort", end);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end);
    closing.addEventListener("abort", end);
  });
}
