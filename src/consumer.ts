/** Takes messages off a queue under a lease, and settles them. */
import type { CallLimits, Database, QueryLimits } from "./database.ts";
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
  LIMITS,
} from "./options.ts";
import type { Queue } from "./queue.ts";
import { type Backoff, resolveBackoff, retryDelay } from "./retry.ts";
import {
  archiveLeased,
  claimMessages,
  decodeAttempts,
  decodeExchange,
  deleteLeased,
  extendLeased,
  type FailItem,
  failLeased,
  listAttempts,
  releaseLeased,
} from "./sql/leases.ts";
import { idOfLeased, type Leased, Settler } from "./settle.ts";
import type { TransactionLike } from "./transaction.ts";
import { ENDED, hintOf } from "./wake.ts";

export type { Leased } from "./settle.ts";

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
  /**
   * For how long to wait for a message when there is none, in milliseconds. It comes at once where hints arrive, see the
   * option `listen` of `connect`, and otherwise within the store's `pollIntervalMs`. @default 0
   */
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
  /** Not delivered again before so many milliseconds have passed. @default what the back-off of the message or the queue says */
  readonly delayMs?: number;
  /** Whether another attempt makes sense; with `false` the message becomes a dead letter at once. @default true */
  readonly retry?: boolean;
}

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
  readonly #settler: Settler;
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
    this.#settler = new Settler(database, `${queue.name}\0${name}`, this.#holder);
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
    const claim = (): Promise<Message<T>[]> => this.#claim({ limit, leaseMs, type }, { signal, timeoutMs });
    signal?.throwIfAborted();
    return waitMs === 0 ? await claim() : await this.#await(claim, performance.now() + waitMs, signal);
  }

  /** Claims whenever there is a hint, and from time to time without one, until there is something or the time is up. */
  async #await(
    claim: () => Promise<Message<T>[]>,
    waitUntil: number,
    signal: AbortSignal | undefined,
  ): Promise<Message<T>[]> {
    const { closing, settings, wake } = this.#database;
    let isHinted = false;
    let hear = (): void => {};
    const unsubscribe = wake.subscribe((hint) => {
      if (hint.kind !== "any" && !(hint.kind === "queue" && hint.name === this.#queue.name)) return;
      isHinted = true;
      hear();
    });
    try {
      for (let inVain = 0;; inVain++) {
        signal?.throwIfAborted();
        // What is hinted at from here on, the claim may not have seen.
        isHinted = false;
        const messages = await claim();
        const left = waitUntil - performance.now();
        if (messages.length > 0 || left <= 0 || closing.aborted) return messages;
        const hint = isHinted ? Promise.resolve() : new Promise<void>((resolve) => hear = resolve);
        await pause(Math.min(left, wake.pauseMs(settings.pollIntervalMs, inVain)), signal, closing, hint);
        if (closing.aborted) return [];
      }
    } finally {
      unsubscribe();
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
    return await this.#settler.settle(messages, options, {
      statement: "archiveLeased",
      hints: [ENDED],
      toItem: (item) => ({ ...item, reason, result }),
      toStatement: (items, holder, patienceMs) => archiveLeased(items, holder, this.#name, patienceMs),
    });
  }

  /** Deletes a message without a trace. False: its lease was lost. */
  async delete(message: Leased, options: SettleOptions = {}): Promise<boolean> {
    return (await this.deleteMany([message], options))[0] === true;
  }

  /** Deletes messages, and tells of each whether its lease held. */
  async deleteMany(messages: readonly Leased[], options: SettleOptions = {}): Promise<boolean[]> {
    checkOptions("delete", options, [...LIMITS, "tx"]);
    return await this.#settler.settle(messages, options, {
      statement: "deleteLeased",
      hints: [ENDED],
      toItem: (item) => item,
      toStatement: deleteLeased,
    });
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
    return await this.#settler.settle(messages, options, {
      statement: "releaseLeased",
      hints: [hintOf(this.#queue.name)],
      toItem: (item) => ({ ...item, delay_ms: delayMs }),
      toStatement: releaseLeased,
    });
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
      return await this.#settler.settle(messages, call, {
        statement: "failLeased",
        hints: [hintOf(this.#queue.name), ENDED],
        toItem: (item): FailItem => ({ ...item, error: text, delay_ms: pauseOf(item.id), is_final: retry ? 0 : 1 }),
        toStatement: (items, holder, patienceMs) => failLeased(items, holder, this.#name, patienceMs),
      });
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
    return await this.#settler.settle(messages, options, {
      statement: "extendLeased",
      toItem: (item) => ({ ...item, lease_ms: leaseMs }),
      toStatement: extendLeased,
    });
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
    const claimed = await this.#database.call(limits, async (call) => {
      for (;;) {
        const rows = await this.#database.query(claimMessages(claim), call);
        if (rows.length === 0 && !this.#isKnown) await this.#database.queueNamed(this.#queue.name, call);
        const exchange = decodeExchange(rows);
        // A claim drops only some of those that are too late; behind these there may be others.
        const isDropping = exchange.ended.some(({ state }) => state === "cancelled");
        if (exchange.claimed.length > 0 || !isDropping) return exchange.claimed;
      }
    });
    this.#isKnown = true;
    return claimed.map((record) => toMessage<T>(record, true));
  }

  /** For how long each message has to wait after another failure. */
  async #pauses(messages: readonly Leased[], call: QueryLimits): Promise<(id: number) => number> {
    const known = new Map<number, { readonly attempts: number; readonly backoff: Backoff | undefined }>();
    const bare: number[] = [];
    for (const message of messages) {
      const id = idOfLeased(message);
      const lease = typeof message === "number" ? undefined : leaseOf(message);
      if (lease === undefined) bare.push(id);
      else known.set(id, { attempts: (message as Message).attempts, backoff: lease.backoff });
    }
    const ofQueue = await this.#backoff(call);
    if (bare.length > 0) {
      // Who gives an id alone has not told how many attempts there were, and which pauses the message asks for.
      const rows = await this.#database.query(listAttempts(bare), call);
      for (const row of rows) known.set(Number(row[0]), decodeAttempts(row));
    }
    return (id) => {
      const { attempts, backoff } = known.get(id) ?? { attempts: 0, backoff: undefined };
      return retryDelay(backoff === undefined ? ofQueue : resolveBackoff(backoff), attempts + 1);
    };
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
}

/** Waits, no longer than until there is a hint or the store is closed, or rejects with the signal's reason. */
function pause(
  ms: number,
  signal: AbortSignal | undefined,
  closing: AbortSignal,
  hint: Promise<void>,
): Promise<void> {
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
    void hint.then(end);
  });
}
