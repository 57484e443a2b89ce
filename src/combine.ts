/**
 * Write combining: calls of one kind that are made while a statement of that kind is under way gather, and leave together as
 * one. A lone call leaves at once, so nothing becomes slower by it.
 */
import { DatabaseError } from "./errors.ts";
import { LONGEST_TIMER_MS } from "./options.ts";
import { nextTurn } from "./turn.ts";

/** What calls of one kind have in common, and how they are sent. */
export interface Combination<Item, Result> {
  /** What a call is named in errors: the statement that it becomes. */
  readonly statement: string;
  /** Whether the database works on the event loop, so that nobody could call while a statement is under way. */
  readonly isSynchronous: boolean;
  /**
   * After how long the next calls may leave although a lone one before them has no answer, and how long several may wait for
   * a lock together. Without it a statement is waited for, however long it takes.
   */
  readonly patienceMs?: number | undefined;
  /** How many rows one call is about. @default 1 */
  countOf?(item: Item): number;
  /** How much text one call has. */
  lengthOf(item: Item): number;
  /** What a call is about: calls with a key in common never travel together, so that they keep their order. */
  keysOf?(item: Item): readonly (number | string)[];
  /** Whether a later call with the same key would get what the earlier one gets, so that they are one. */
  isSame?(earlier: Item, later: Item): boolean;
  /** Sends calls as one statement, and resolves to what came of each, in their order. An error is that of its call alone. */
  send(items: readonly Item[], limits: BatchLimits): Promise<readonly (Error | Result)[]>;
}

/** Limits of a statement for several calls. */
export interface BatchLimits {
  /** Aborted when nobody waits for an answer any more. */
  readonly signal?: AbortSignal | undefined;
  /** When the last of those who wait gives up. */
  readonly deadline: number;
  /** After how long a lock that is not to be had ends the statement with SQLSTATE 55P03. */
  readonly patienceMs?: number | undefined;
}

/** How much one statement may have. */
export interface BatchSize {
  readonly items: number;
  readonly length: number;
}

/** Few enough that a statement never stands long in the way of others. */
export const BATCH: BatchSize = { items: 500, length: 262_144 };

/** How long calls may wait for a lock together after it has been found that one of them has to wait. */
const SHORT_PATIENCE_MS = 50;
/** The lock that one of several calls needs is not to be had. */
const HELD = "55P03";

/** A call, from when it is made until its caller has an answer. */
interface Call<Item, Result> {
  readonly item: Item;
  readonly deadline: number;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
  /** Ends the wait because of the signal. */
  readonly abort: () => void;
  /** The statement that it was sent with, together with others. */
  batch: Batch | undefined;
  /** Its caller does not wait any more, and is about to be told so. */
  hasGivenUp: boolean;
  isOver: boolean;
}

/** How long a driver has to say what became of a statement that was given up. */
const VERDICT_MS = 100;

/** One row of a statement, and who waits for what comes of it. */
interface Entry<Item, Result> {
  readonly item: Item;
  readonly calls: Call<Item, Result>[];
}

/** How many wait for a statement. */
interface Batch {
  readonly abandoned: AbortController;
  waiting: number;
}

/** Gathers calls of one kind. One statement is under way at a time, so calls made in order are committed in order. */
export class Combiner<Item, Result> {
  readonly #kind: Combination<Item, Result>;
  readonly #size: BatchSize;
  readonly #onIdle: () => void;
  readonly #waiting = new Set<Call<Item, Result>>();
  /** Those under way whose deadline and signal are not those of their statement. */
  readonly #flying = new Set<Call<Item, Result>>();
  #isBusy = false;
  #watch: ReturnType<typeof setTimeout> | undefined;
  #watchAt = Number.POSITIVE_INFINITY;
  /** When the next statement may leave although the one under way has no answer, and how to let it. */
  #yieldsAt = Number.POSITIVE_INFINITY;
  #yield = (): void => {};

  constructor(kind: Combination<Item, Result>, onIdle: () => void = () => {}, size: BatchSize = BATCH) {
    this.#kind = kind;
    this.#onIdle = onIdle;
    this.#size = size;
  }

  /**
   * Makes a call, which resolves when what it has stored is committed. Its deadline and its signal end its own wait: as *not
   * applied* while it has not been sent, as *unknown* afterwards.
   */
  add(item: Item, { deadline, signal }: Pick<BatchLimits, "deadline" | "signal">): Promise<Result> {
    return new Promise((resolve, reject) => {
      const abort = (): void => this.#giveUp(call, "aborted");
      const call: Call<Item, Result> = {
        item,
        deadline,
        signal,
        resolve,
        reject,
        abort,
        batch: undefined,
        hasGivenUp: false,
        isOver: false,
      };
      signal?.addEventListener("abort", abort);
      this.#waiting.add(call);
      if (this.#isBusy) return this.#watchFor(Math.min(deadline, this.#yieldsAt));
      this.#isBusy = true;
      // Those who call in the same breath leave together.
      const begin = (): void => void this.#run();
      if (this.#kind.isSynchronous) nextTurn(begin);
      else queueMicrotask(begin);
    });
  }

  async #run(): Promise<void> {
    while (this.#waiting.size > 0) {
      const { isSynchronous, patienceMs } = this.#kind;
      const [first] = this.#waiting;
      if (first === undefined || this.#waiting.size > 1) await this.#send(this.#gather(), patienceMs);
      else await this.#inPatience(this.#sendLone(first), patienceMs);
      // Those who call again because of the answers join the others.
      if (isSynchronous && this.#waiting.size > 0) await new Promise<void>(nextTurn);
    }
    this.#isBusy = false;
    this.#rest();
    this.#onIdle();
  }

  /** What leaves next: in the order of the calls, except that those which must not travel together wait for one another. */
  #gather(): Entry<Item, Result>[] {
    const { countOf, lengthOf, keysOf, isSame } = this.#kind;
    const entries: Entry<Item, Result>[] = [];
    const taken = new Map<number | string, Entry<Item, Result>>();
    const blocked = new Set<number | string>();
    let items = 0;
    let length = 0;
    for (const call of this.#waiting) {
      const keys = keysOf?.(call.item) ?? [];
      const [key] = keys;
      const earlier = key === undefined || blocked.has(key) ? undefined : taken.get(key);
      if (earlier !== undefined && isSame?.(earlier.item, call.item) === true) {
        earlier.calls.push(call);
        this.#waiting.delete(call);
        continue;
      }
      if (keys.some((one) => taken.has(one) || blocked.has(one))) {
        for (const one of keys) blocked.add(one);
        continue;
      }
      items += countOf?.(call.item) ?? 1;
      length += lengthOf(call.item);
      if (entries.length > 0 && (items > this.#size.items || length > this.#size.length)) break;
      const entry = { item: call.item, calls: [call] };
      entries.push(entry);
      for (const one of keys) taken.set(one, entry);
      this.#waiting.delete(call);
    }
    return entries;
  }

  /** Sends a statement, and resolves when the next one may leave. */
  async #send(entries: readonly Entry<Item, Result>[], patienceMs: number | undefined): Promise<void> {
    const wanted = entries.filter(({ calls }) => calls.some(({ isOver }) => !isOver));
    const calls = wanted.flatMap(({ calls }) => calls.filter(({ isOver }) => !isOver));
    const [first] = calls;
    if (first === undefined) return;
    if (calls.length === 1) return await this.#inPatience(this.#sendLone(first), patienceMs);
    if (wanted.length === 1) return await this.#inPatience(this.#exchange(wanted, calls), patienceMs);
    const error = await this.#exchange(wanted, calls, patienceMs);
    if (error === undefined) return;
    // One of them is to blame. The others must not suffer for it, so the two halves are sent separately, and theirs.
    const middle = Math.ceil(wanted.length / 2);
    for (const half of [wanted.slice(0, middle), wanted.slice(middle)]) {
      // Whoever waits for a lock does so alone, as long as it takes and in nobody's way.
      if (half.length === 1 && isHeld(error)) void this.#send(half, undefined);
      else await this.#send(half, patienceMs === undefined ? undefined : SHORT_PATIENCE_MS);
    }
  }

  /** Sends a call with which no other leaves, by its own limits and with as little ado as there would be without us. */
  async #sendLone(call: Call<Item, Result>): Promise<void> {
    const { item, deadline, signal } = call;
    this.#end(call);
    try {
      const [result] = await this.#kind.send([item], { deadline, signal });
      answer(call, result as Error | Result);
    } catch (error) {
      call.reject(error);
    }
  }

  /** Sends several calls and tells each what came of it; or resolves to an error for which one of them is to blame. */
  async #exchange(
    entries: readonly Entry<Item, Result>[],
    calls: readonly Call<Item, Result>[],
    patienceMs?: number,
  ): Promise<unknown> {
    const limits = this.#track(calls);
    try {
      const results = await this.#kind.send(entries.map(({ item }) => item), { ...limits, patienceMs });
      for (const [i, { calls }] of entries.entries()) {
        for (const call of calls) if (this.#end(call)) answer(call, results[i] as Error | Result);
      }
    } catch (error) {
      if (entries.length > 1 && isDivisible(error)) {
        for (const call of calls) call.batch = undefined;
        return error;
      }
      for (const call of calls) if (this.#end(call)) call.reject(error);
    } finally {
      this.#rest();
    }
  }

  /** Waits for a statement; but when it takes long and others wait behind it, no longer. */
  async #inPatience(sent: Promise<unknown>, patienceMs: number | undefined): Promise<void> {
    if (patienceMs === undefined) return void await sent;
    const long = new Promise<void>((resolve) => this.#yield = resolve);
    this.#yieldsAt = performance.now() + patienceMs;
    if (this.#waiting.size > 0) this.#watchFor(this.#yieldsAt);
    await Promise.race([sent, long]);
    this.#yieldsAt = Number.POSITIVE_INFINITY;
  }

  /** The limits of a statement for several calls, whose own are watched here from now on. */
  #track(calls: readonly Call<Item, Result>[]): BatchLimits {
    const batch: Batch = { abandoned: new AbortController(), waiting: calls.length };
    let last = 0;
    for (const call of calls) {
      call.batch = batch;
      this.#flying.add(call);
      this.#watchFor(call.deadline);
      last = Math.max(last, call.deadline);
    }
    return { deadline: last, signal: batch.abandoned.signal };
  }

  /** Ends the watch over a call. False: its caller has given up before. */
  #end(call: Call<Item, Result>): boolean {
    if (call.isOver) return false;
    call.isOver = true;
    call.signal?.removeEventListener("abort", call.abort);
    this.#waiting.delete(call);
    this.#flying.delete(call);
    return true;
  }

  #giveUp(call: Call<Item, Result>, reason: "aborted" | "timeout"): void {
    const { batch } = call;
    if (batch === undefined) {
      if (this.#end(call)) call.reject(gaveUp(this.#kind.statement, reason, false));
      return;
    }
    if (call.isOver || call.hasGivenUp) return;
    call.hasGivenUp = true;
    if (--batch.waiting === 0) batch.abandoned.abort();
    // When all give up together, the statement itself is given up, and the driver knows better what became of it.
    const end = (): void => {
      if (this.#end(call)) call.reject(gaveUp(this.#kind.statement, reason, true));
    };
    queueMicrotask(() => batch.waiting > 0 ? end() : setTimeout(end, VERDICT_MS));
  }

  /** One timer serves all calls, because hardly any of them has to wait so long. */
  #watchFor(deadline: number): void {
    if (deadline >= this.#watchAt) return;
    clearTimeout(this.#watch);
    this.#watchAt = deadline;
    const ms = Math.min(Math.max(0, deadline - performance.now()), LONGEST_TIMER_MS);
    this.#watch = setTimeout(() => this.#checkDeadlines(), ms);
  }

  #checkDeadlines(): void {
    this.#watchAt = Number.POSITIVE_INFINITY;
    const time = performance.now();
    if (this.#yieldsAt <= time) this.#yield();
    else this.#watchFor(this.#yieldsAt);
    for (const calls of [this.#waiting, this.#flying]) {
      for (const call of calls) {
        if (call.deadline <= time) this.#giveUp(call, "timeout");
        else this.#watchFor(call.deadline);
      }
    }
  }

  /** A timer without a call would keep the process from ending. */
  #rest(): void {
    if (this.#waiting.size > 0 || this.#flying.size > 0) return;
    clearTimeout(this.#watch);
    this.#watchAt = Number.POSITIVE_INFINITY;
  }
}

function answer<Result>({ resolve, reject }: Call<unknown, Result>, result: Error | Result): void {
  if (result instanceof Error) reject(result);
  else resolve(result);
}

/** Whether one call of several has made a statement fail that was not applied, so that the others can do without it. */
function isDivisible(error: unknown): boolean {
  if (!(error instanceof DatabaseError) || error.outcome !== "not_applied") return false;
  return error.reason === "constraint" || /^2[23]/.test(error.sqlState ?? "") || isHeld(error);
}

function isHeld(error: unknown): boolean {
  return error instanceof DatabaseError && error.sqlState === HELD;
}

/** The error of a call that ended its wait for a statement that it shares with others. */
function gaveUp(statement: string, reason: "aborted" | "timeout", isSent: boolean): DatabaseError {
  const why = reason === "aborted" ? "was aborted" : "took too long";
  const effect = isSent ? "it may or may not have been applied" : "nothing was changed";
  const outcome = isSent ? "unknown" : "not_applied";
  return new DatabaseError(`Waiting for ${statement} ${why}: ${effect}`, { outcome, reason, statement });
}
