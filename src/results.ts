/**
 * Waits for what comes of messages.
 *
 * All who wait in one store share one statement: it asks for those messages of which something was told in this process at
 * once, and for all of them after an interval that grows while nothing happens. While nobody waits nothing is asked.
 */
import { type CallLimits, type Database, storeClosed } from "./database.ts";
import {
  CancelledError,
  DatabaseError,
  type DatabaseReason,
  FailedError,
  NotFoundError,
  TimeoutError,
} from "./errors.ts";
import { checkLimits, checkOptions, LIMITS } from "./options.ts";
import { decodeEndings, type Ending, listEndings } from "./sql/archive.ts";
import { sequence, type Statement } from "./sql/sql.ts";

/** Options of `store.result`. */
export interface ResultOptions extends CallLimits {
  /** How long to wait, in milliseconds. @default as long as it takes */
  readonly timeoutMs?: number;
}

/** The events after which a message that is waited for lives no more. */
const ENDS = ["cancelled", "completed", "dead", "expired"] as const;
/** After these the database is asked again. */
const PASSING: readonly DatabaseReason[] = ["aborted", "busy", "connection", "timeout"];
const SHORTEST_MS = 10;
const LONGEST_MS = 1_000;
const GROWTH = 1.5;

/** One call that waits. */
interface Waiter {
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

/** Those who wait for results in one store. */
export class Results {
  readonly #database: Database;
  readonly #waiters = new Map<number, Set<Waiter>>();
  /** Of these something was told, or nobody has asked for them yet. */
  readonly #asked = new Set<number>();
  #isRunning = false;
  #intervalMs = SHORTEST_MS;
  #lookedAt = Number.NEGATIVE_INFINITY;
  /** When to ask for all the next time. */
  #lookAt = 0;
  #failingSince: number | undefined;
  #failure: DatabaseError | undefined;
  #goOn = (): void => {};

  constructor(database: Database) {
    this.#database = database;
  }

  /** Waits until a message has ended. */
  async wait(id: number, options: ResultOptions): Promise<unknown> {
    checkOptions("result", options, LIMITS);
    checkLimits(options);
    const { signal, timeoutMs } = options;
    signal?.throwIfAborted();
    this.#database.assertOutside("wait for a result");
    if (this.#database.closing.aborted) throw storeClosed();
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const waiter: Waiter = { resolve, reject };
    const onAbort = (): void => reject(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    const timer = timeoutMs === undefined ? undefined : setTimeout(() => {
      const cause = this.#failure;
      const late = `Message ${id} has not ended within ${timeoutMs} ms: it goes on, and may be waited for again`;
      reject(new TimeoutError(late, cause === undefined ? {} : { cause }));
    }, timeoutMs);
    this.#add(id, waiter);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      this.#remove(id, waiter);
    }
  }

  #add(id: number, waiter: Waiter): void {
    const waiters = this.#waiters.get(id);
    if (waiters === undefined) this.#waiters.set(id, new Set([waiter]));
    else waiters.add(waiter);
    this.#asked.add(id);
    this.#intervalMs = SHORTEST_MS;
    this.#lookAt = Math.min(this.#lookAt, performance.now() + SHORTEST_MS);
    if (this.#isRunning) return this.#goOn();
    this.#isRunning = true;
    void this.#run();
  }

  #remove(id: number, waiter: Waiter): void {
    const waiters = this.#waiters.get(id);
    if (waiters?.delete(waiter) !== true || waiters.size > 0) return;
    this.#waiters.delete(id);
    this.#asked.delete(id);
    if (this.#waiters.size === 0) this.#goOn();
  }

  /** Asks again and again as long as anybody waits. */
  async #run(): Promise<void> {
    const { closing, events, wake } = this.#database;
    const onClose = (): void => this.#rejectAll(storeClosed());
    const unsubscribe = [
      ...ENDS.map((name) => events.on(name, ({ message: { id } }) => this.#tell(id))),
      wake.subscribeHere(({ kind }) => {
        if (kind === "any" || kind === "ended") this.#hurry();
      }),
    ];
    closing.addEventListener("abort", onClose);
    this.#lookAt = performance.now() + this.#intervalMs;
    // Those who begin to wait in the same turn are asked for together.
    await undefined;
    while (this.#waiters.size > 0) {
      await this.#look();
      // Those who got their answer leave first.
      await undefined;
      if (this.#waiters.size > 0) await this.#pause();
    }
    closing.removeEventListener("abort", onClose);
    for (const stop of unsubscribe) stop();
    this.#failingSince = this.#failure = undefined;
    this.#isRunning = false;
  }

  async #look(): Promise<void> {
    const now = performance.now();
    const isForAll = now >= this.#lookAt;
    const ids = isForAll ? [...this.#waiters.keys()] : [...this.#asked];
    this.#asked.clear();
    if (ids.length === 0) return;
    if (isForAll) this.#lookedAt = now;
    try {
      const rows = await this.#database.query(this.#statement(ids));
      this.#failingSince = this.#failure = undefined;
      for (const ending of decodeEndings(rows)) this.#settle(ending);
    } catch (error) {
      this.#fail(error, now);
      if (!isForAll) this.#hurry();
    }
    if (!isForAll) return;
    this.#lookAt = performance.now() + this.#intervalMs;
    this.#intervalMs = Math.min(this.#intervalMs * GROWTH, LONGEST_MS);
  }

  /** One statement; a long list in parts between which a synchronous database lets the event loop go on. */
  #statement(ids: readonly number[]): Statement {
    const { listLimit } = this.#database.target.dialect;
    const statements: [Statement, ...Statement[]] = [listEndings(ids.slice(0, listLimit))];
    for (let i = listLimit; i < ids.length; i += listLimit) statements.push(listEndings(ids.slice(i, i + listLimit)));
    return sequence(statements);
  }

  /** A database that does not answer is asked again, for as long as a call of its own would try. */
  #fail(error: unknown, sentAt: number): void {
    this.#failingSince ??= sentAt;
    const isOver = performance.now() - this.#failingSince >= this.#database.settings.timeoutMs;
    const isPassing = error instanceof DatabaseError && PASSING.includes(error.reason);
    if (!isPassing || isOver) return this.#rejectAll(error);
    this.#failure = error;
  }

  #settle({ id, outcome, reason, result, error }: Ending): void {
    for (const { resolve, reject } of this.#waiters.get(id) ?? []) {
      if (outcome === "succeeded") resolve(result);
      else if (outcome === "failed") {
        reject(new FailedError(`Message ${id} has failed: ${reason ?? "no reason is known"}`, reason, error));
      } else if (outcome === "cancelled") {
        reject(new CancelledError(`Message ${id} was cancelled: ${reason ?? "no reason is known"}`, reason));
      } else {reject(
          new NotFoundError(`Message ${id} does not exist: it was deleted, or its transaction is not committed`),
        );}
    }
  }

  #rejectAll(error: unknown): void {
    for (const waiters of this.#waiters.values()) for (const { reject } of waiters) reject(error);
  }

  /** Something was told of one message. */
  #tell(id: number): void {
    if (!this.#waiters.has(id)) return;
    this.#asked.add(id);
    this.#goOn();
  }

  /** Something has ended, nobody knows what. */
  #hurry(): void {
    this.#intervalMs = SHORTEST_MS;
    this.#lookAt = Math.min(this.#lookAt, this.#lookedAt + SHORTEST_MS);
    this.#goOn();
  }

  /** Rests until it is time to ask for all, or there is something to ask for now, or nobody waits. */
  #pause(): Promise<void> {
    return new Promise((resolve) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const rest = (): void => {
        clearTimeout(timer);
        const ms = this.#lookAt - performance.now();
        if (this.#waiters.size > 0 && this.#asked.size === 0 && ms > 0) {
          timer = setTimeout(rest, ms);
          return;
        }
        this.#goOn = () => {};
        resolve();
      };
      this.#goOn = rest;
      rest();
    });
  }
}
