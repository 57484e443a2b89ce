/** A database with pgqrs in it. */
import { Admin } from "./admin.ts";
import { Consumer, type ConsumerOptions } from "./consumer.ts";
import type { CallLimits, Database } from "./database.ts";
import { checkLimits, checkOptions, LIMITS } from "./options.ts";
import { Producer } from "./producer.ts";
import { type Queue, resolveQueue } from "./queue.ts";
import { ping } from "./sql/metrics.ts";
import type { Transaction } from "./transaction.ts";

/** Options of {@linkcode Store.transaction}. */
export interface TransactionOptions {
  /**
   * Rolls back when the callback has not ended after this many milliseconds. On SQLite everything else of the store waits
   * meanwhile.
   *
   * @default 1000 on SQLite and libSQL, the store's `timeoutMs` on Postgres
   */
  readonly timeoutMs?: number;
  /** Rolls back when aborted. */
  readonly signal?: AbortSignal;
}

/** What {@linkcode Store.ping} tells. */
export interface Pong {
  /** How long the answer took, in milliseconds. */
  readonly roundTripMs: number;
  /** The database's clock. */
  readonly now: Date;
}

const SQLITE_TRANSACTION_MS = 1_000;

/**
 * A database with pgqrs in it: made by {@linkcode connect}, closed by `close` or by `await using`.
 *
 * @example Usage
 * ```ts
 * import { connect } from "@pgqrs/pgqrs";
 *
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * ```
 */
export class Store {
  readonly #database: Database;
  /** Installs and administers. */
  readonly admin: Admin;

  /** Made by `connect`. */
  constructor(database: Database) {
    this.#database = database;
    this.admin = new Admin(database);
  }

  /** Makes a producer for a queue. Nothing is sent. */
  producer<T = unknown>(queue: Queue<T> | string): Producer<T> {
    return new Producer<T>(this.#database, resolveQueue<T>(queue));
  }

  /** Makes a consumer for a queue. Nothing is sent. */
  consumer<T = unknown>(queue: Queue<T> | string, options: ConsumerOptions = {}): Consumer<T> {
    return new Consumer<T>(this.#database, resolveQueue<T>(queue), options);
  }

  /**
   * Runs a callback in a transaction that commits when it resolves and is rolled back when it rejects or takes too long.
   * Inside it every call of this store has to be given `{ tx }`; one without it is refused.
   *
   * @throws whatever the callback rejects with.
   * @throws {DatabaseError} when it took too long, was aborted or could not be committed.
   * @throws {StateError} inside another transaction of this store.
   *
   * @example Usage
   * ```ts
   * import { connect } from "@pgqrs/pgqrs";
   * import assert from "node:assert/strict";
   *
   * await using store = await connect("sqlite::memory:");
   * await store.admin.install();
   * await store.admin.createQueue("mails");
   * await store.transaction(async (tx) => {
   *   await tx.query("create table orders (id integer)");
   *   await tx.query("insert into orders (id) values (?)", [7]);
   *   await store.producer("mails").enqueue({ order: 7 }, { tx });
   * });
   * assert.equal(await store.admin.messages.count({ queue: "mails" }), 1);
   * ```
   */
  async transaction<T>(work: (tx: Transaction) => Promise<T>, options: TransactionOptions = {}): Promise<T> {
    checkOptions("transaction", options, LIMITS);
    checkLimits(options);
    const { settings, target } = this.#database;
    const { timeoutMs = target.dialect.name === "postgres" ? settings.timeoutMs : SQLITE_TRANSACTION_MS, signal } =
      options;
    signal?.throwIfAborted();
    return await this.#database.transaction(work, { timeoutMs, ...(signal !== undefined && { signal }) });
  }

  /** Asks the database for its time. */
  async ping(limits: CallLimits = {}): Promise<Pong> {
    checkOptions("ping", limits, LIMITS);
    const begin = performance.now();
    const [row] = await this.#database.query(ping(), limits);
    return { roundTripMs: performance.now() - begin, now: new Date(Number(row?.[0])) };
  }

  /**
   * Closes the connections that this store has opened; a client that was handed in stays open.
   *
   * From now on every call is refused as *not applied*. What is under way ends by itself, each call and transaction within
   * its own deadline, and then the connections are closed; a `dequeue` that waits for messages ends at once without any.
   */
  async close(): Promise<void> {
    await this.#database.close();
  }

  /** The same as `close`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
