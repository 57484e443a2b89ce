/**
 * One execution of a run: from a claim until its function has ended, waits, or has lost its lease.
 *
 * The function is called from its beginning; steps that are recorded yield what was recorded. The run is given back when
 * every branch of it waits: for a time, for mail, for a child. A branch that waits then simply never goes on here, so that no
 * exception passes through the user's code; the next execution begins anew.
 */
import { decodeThrown, decodeValue, encodeThrown } from "../codec.ts";
import type { Database } from "../database.ts";
import { InterruptedError, StateError } from "../errors.ts";
import { LONGEST_TIMER_MS } from "../options.ts";
import { nextTurn } from "../turn.ts";
import type { StepItem, StepKind, StepRecord, WaitItem } from "../sql/runs.ts";
import { Parked } from "./parked.ts";
import type { Recorder } from "./recorder.ts";
import { RunLostError } from "./lost.ts";
import { Replay } from "./replay.ts";

/** What an execution needs of the worker. */
export interface ExecutionHost {
  readonly database: Database;
  readonly recorder: Recorder;
  /** Whether nothing new is to be begun: then a run is given back at its next step. */
  readonly isStopping: boolean;
  /** Tells whether the event loop stood still: before anything is written, leases that may have ended are given up. */
  catchUp(): void;
}

/** The delivery by which a run is executed. */
export interface ExecutionLease {
  readonly id: number;
  readonly token: number;
  readonly signal: AbortSignal;
  /** Told that the run is being given back, so that nobody takes that for a loss. */
  parking(): void;
  /** Told which recorded steps are not reached any more. What it returns is the reason for which the run is blocked. */
  onUnreached(keys: readonly string[]): string | undefined;
}

/** A branch that waits. */
interface Wait {
  /** What is written when the run is given back; undefined: it only waits for that. */
  readonly item: WaitItem | undefined;
  timer?: ReturnType<typeof setTimeout>;
  readonly fail: (error: unknown) => void;
}

/** What is written when the run is given back. */
interface Parking {
  readonly state: "blocked" | "ready";
  readonly reason?: string;
  readonly waits: readonly WaitItem[];
  /** Whether it is due at once, whatever it waits for. */
  readonly at_once: 0 | 1;
  readonly look_ms?: number;
}

/**
 * For how long a run has to be at rest before it is given back: what the code does between its steps, such as a digest,
 * may take as long.
 */
const REST_MS = 10;
/**
 * The same when a branch has just got an answer and did not come back: perhaps it has ended, perhaps it is busy
 * elsewhere.
 */
const LONG_REST_MS = 100;
/** By how much a timer may be late before that says that the event loop stood still. */
const LATE_MS = 15;
/** After how long such a run is executed again, whatever it waits for: doubled with each delivery. */
const FIRST_LOOK_MS = 500;
const LAST_LOOK_MS = 3_600_000;

/** One execution of a run. */
export class Execution {
  readonly host: ExecutionHost;
  readonly lease: ExecutionLease;
  /** Aborted with the lease's, and when the function has ended or is given up. */
  readonly signal: AbortSignal;
  readonly replay: Replay;
  readonly #stopping = new AbortController();
  readonly #history: ReadonlyMap<string, StepRecord>;
  readonly #unvisited: Set<string>;
  readonly #waits = new Set<Wait>();
  readonly #end = Promise.withResolvers<unknown>();
  /** What is being done just now. */
  readonly #active = new Set<object>();
  /** The keys of steps that have not ended. */
  readonly #steps = new Map<object, string>();
  #lost: RunLostError | undefined;
  /** Whether the last thing that has happened was that a branch got an answer: it may be on its way to its next call. */
  #isLetGo = false;
  /** How many calls of the context are under way. */
  #calls = 0;
  #place = 0;
  #ending = 0;
  #large = new Map<string, string>();
  #mustYield = false;
  #isOver = false;
  #rest: ReturnType<typeof setTimeout> | undefined;
  #restSince = 0;
  #hasRested = (): void => {};
  /** What was recorded as thrown: whoever lets it through has failed for good. */
  readonly #final = new Map<unknown, string | undefined>();

  constructor(host: ExecutionHost, lease: ExecutionLease, history: readonly StepRecord[]) {
    this.host = host;
    this.lease = lease;
    this.signal = this.#stopping.signal;
    this.#history = new Map(history.map((step) => [step.key, step]));
    this.#unvisited = new Set([...history].sort((a, b) => a.place - b.place).map(({ key }) => key));
    const endings = history.map(({ ending }) => ending);
    this.replay = new Replay(endings, () => void this.#refuse());
    for (const { place, ending } of history) {
      this.#place = Math.max(this.#place, place);
      this.#ending = Math.max(this.#ending, ending ?? 0);
    }
    lease.signal.addEventListener("abort", this.#onAbort, { once: true });
    if (lease.signal.aborted) this.#onAbort();
  }

  /** Calls the function. Resolves to what it returns or to {@linkcode Parked}. */
  async run(work: () => unknown): Promise<unknown> {
    void this.#execute(work);
    return await this.#end.promise;
  }

  async #execute(work: () => unknown): Promise<void> {
    try {
      const value = await work();
      if (this.#isOver) return;
      // What only waits may be left behind: the loser of a race, whom nobody hears any more.
      const left = [...this.#steps.values()].find((key) => !hasEnded(this.#history.get(key)));
      if (left !== undefined) throw this.misuse(`Step ${JSON.stringify(left)} was not awaited before the run ended`);
      const reason = this.lease.onUnreached([...this.#unvisited]);
      if (reason !== undefined) return await this.block(reason);
      this.#over(() => this.#end.resolve(value));
    } catch (error) {
      if (this.#isOver) return;
      this.#over(() => {});
      const key = this.#culpritOf(error);
      if (key !== undefined && await this.#redo(key)) return;
      // What is still being done must not be done a second time beside the next attempt.
      if (!this.isFinal(error)) await this.#rested();
      this.#end.reject(error);
    }
  }

  /** Whether another attempt of the run would meet the same error again. */
  isFinal(error: unknown): boolean {
    for (let cause = error, depth = 0; depth < 10; depth++) {
      if (this.#final.has(cause)) return true;
      if (typeof cause !== "object" || cause === null) return false;
      cause = (cause as { cause?: unknown }).cause;
    }
    return false;
  }

  /** Remembers that an error will be met again by every attempt of the run. */
  asFinal<E>(error: E, key?: string): E {
    this.#final.set(error, key);
    return error;
  }

  /** The step whose failure an error is. */
  #culpritOf(error: unknown): string | undefined {
    for (let cause = error, depth = 0; depth < 10; depth++) {
      const key = this.#final.get(cause);
      if (key !== undefined || typeof cause !== "object" || cause === null) return key;
      cause = (cause as { cause?: unknown }).cause;
    }
    return undefined;
  }

  /** Has a step done again, in another execution, that had failed before somebody has brought the run back. */
  async #redo(key: string): Promise<boolean> {
    const { id, token, signal } = this.lease;
    try {
      this.host.catchUp();
      if (!await this.host.recorder.redo({ id, token, key }, signal)) return false;
      this.lease.parking();
      const item = { id, token, state: "ready", at_once: 1, waits: [] } as const;
      this.#end.resolve(new Parked(await this.host.recorder.park(item, signal)));
    } catch (error) {
      this.#end.reject(error);
    }
    return true;
  }

  /** The error of code that uses its context as nobody can. */
  misuse(message: string): StateError {
    return this.asFinal(new StateError(message));
  }

  /** The place of a step that was not recorded before. */
  nextPlace(): number {
    return ++this.#place;
  }

  /** The place of an outcome that is recorded now. */
  nextEnding(): number {
    return ++this.#ending;
  }

  /**
   * A call of the context. What it rejects with may be heard late, or never. The function has to wait for a step, which
   * says its key; not for what only waits.
   */
  call<T>(work: (isStep: (key: string) => void) => Promise<T>): Promise<T> {
    const mark = {};
    this.#calls++;
    this.#isLetGo = false;
    const called = work((key) => void this.#steps.set(mark, key)).finally(() => {
      this.#calls--;
      this.#isLetGo = true;
      this.#steps.delete(mark);
      this.#review();
    });
    called.catch(() => {});
    return called;
  }

  /** What is recorded of a step that is reached now. Never goes on when the run is to be given back, or does not fit. */
  async reach(key: string, kind: StepKind): Promise<StepRecord | undefined> {
    if (this.#lost !== undefined) throw this.#lost;
    this.lease.signal.throwIfAborted();
    if (this.#isOver) await never();
    this.#unvisited.delete(key);
    let known = this.#history.get(key);
    if (known !== undefined && known.kind !== kind) {
      await this.block(`step ${JSON.stringify(key)} was recorded as ${known.kind} and is ${kind} now`);
      await never();
    }
    if (!hasEnded(known) && (this.#mustYield || this.host.isStopping)) {
      await this.wait(undefined, Number.POSITIVE_INFINITY);
    }
    if (known?.isLarge === true) known = { ...known, value: await this.#loadValue(known) };
    if (known === undefined) await this.replay.fresh();
    else await this.replay.outcome(known.ending);
    if (this.#isOver) await never();
    return known;
  }

  /** The value of a step that was too large to be read with the others. A run need not fit into memory as a whole. */
  async #loadValue({ key, place }: StepRecord): Promise<string> {
    const { id, signal } = this.lease;
    return await this.busy(async () => {
      if (!this.#large.has(key)) this.#large = await this.host.recorder.largeValues(id, place, signal);
      const value = this.#large.get(key) ?? "null";
      this.#large.delete(key);
      return value;
    });
  }

  /** The value of a step that has ended, or its error, as they were recorded. */
  outcomeOf<T>(key: string, { state, value, error }: Pick<StepRecord, "error" | "state" | "value">): T {
    if (state === "succeeded") return (value === null ? null : decodeValue(value)) as T;
    throw this.asFinal(error === null ? new Error("The step has failed") : thrownOf(error), key);
  }

  /** Does something during which the run is not given back. */
  async busy<T>(work: () => Promise<T>): Promise<T> {
    const mark = {};
    this.#active.add(mark);
    this.#review();
    const [outcome] = await Promise.allSettled([work()]);
    this.#active.delete(mark);
    if (this.#active.size === 0) this.#hasRested();
    this.#review();
    const error: unknown = outcome.status === "rejected" ? outcome.reason : undefined;
    if (error instanceof RunLostError) {
      this.#lost = error;
      this.#over(() => this.#end.reject(error));
    } else if (this.#isOver && !this.lease.signal.aborted) await never();
    if (outcome.status === "rejected") throw error;
    return outcome.value;
  }

  /** Records a step. */
  async record(item: Omit<StepItem, "ending" | "id" | "token">): Promise<void> {
    this.host.catchUp();
    const { id, token, signal } = this.lease;
    const isEnd = item.state === "succeeded" || item.state === "failed";
    const ending = isEnd ? { ending: this.nextEnding() } : {};
    this.heed(await this.host.recorder.record({ id, token, ...item, ...ending }, signal));
  }

  /** Records what a step has thrown, and throws it as it was recorded. */
  async recordError(
    item: Omit<StepItem, "ending" | "error" | "id" | "state" | "token">,
    error: unknown,
  ): Promise<never> {
    const text = encodeThrown(error);
    await this.record({ ...item, state: "failed", error: text });
    return this.outcomeOf<never>(item.key, { state: "failed", value: null, error: text });
  }

  /** Notes what somebody wishes of the run. */
  heed(wish: string | null): void {
    if (wish === "pause") this.#mustYield = true;
  }

  /**
   * Waits until an instant of the monotonic clock. When all branches wait the run is given back, and what is waited for is
   * written down; while others go on a sleep is written down at once.
   */
  async wait(item: WaitItem | undefined, endsAt: number, isWritten = true): Promise<void> {
    if (this.#isOver) await never();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const wait: Wait = { item, fail: reject };
    this.#waits.add(wait);
    if (endsAt < Number.POSITIVE_INFINITY) setAlarm(wait, endsAt, this.#bellOf(wait, endsAt, resolve));
    this.#review();
    let writing = isWritten || this.#calls <= 1 ? undefined : this.#write(item, endsAt);
    // It is heard of below, unless the run is given back or lost before.
    writing?.catch(() => {});
    try {
      await promise;
    } finally {
      clearTimeout(wait.timer);
      this.#waits.delete(wait);
      this.#review();
    }
    if (this.#isOver && !this.lease.signal.aborted) await never();
    // A short one is over before the run is given back, and is recorded as any other.
    if (!isWritten) await (writing ??= this.#write(item, endsAt));
  }

  /** The code has come to a step that is not recorded, and others that are recorded will never be reached. */
  async #refuse(): Promise<void> {
    // Something recorded may be behind what is being done just now.
    if (this.#active.size > 0) return this.replay.wait();
    const reason = this.lease.onUnreached([...this.#unvisited]);
    if (reason === undefined) this.replay.giveUp();
    else await this.block(reason);
  }

  /** Gives the run back until somebody resumes it, because the code does not fit what is recorded. */
  async block(reason: string): Promise<void> {
    await this.#park({ state: "blocked", reason, waits: [], at_once: 0 });
  }

  /** What rings at the end of a wait. The clock of a test may stand still, and then nothing ends. */
  #bellOf(wait: Wait, endsAt: number, ring: () => void): () => void {
    const { clock } = this.host.database.target;
    if (clock === undefined) return ring;
    const until = clock() + endsAt - performance.now();
    const look = (): void => {
      if (clock() >= Math.ceil(until)) ring();
      else wait.timer = setTimeout(look, REST_MS);
    };
    return look;
  }

  /** Other branches go on, so that the run may stay here for long: what it sleeps for must survive that. */
  async #write(item: WaitItem | undefined, endsAt: number): Promise<void> {
    if (item === undefined) return;
    const { key, place, kind, at_ms } = item;
    const delay = { at_ms, delay_ms: Math.max(0, Math.ceil(endsAt - performance.now())) };
    const step = { key, place, kind, state: "waiting", attempts: 0, took_ms: 0, ...delay } as const;
    await this.busy(() => this.record(step));
  }

  /** A sleep is over. That is recorded where others go on, who may have been faster or slower. */
  async wake(step: Pick<StepItem, "key" | "kind" | "place">): Promise<void> {
    if (this.#calls <= 1) return;
    await this.busy(() => this.record({ ...step, state: "succeeded", attempts: 0, took_ms: 0 }));
  }

  /** Sets the time after which the run is given back, if nothing happens until then. */
  #review(): void {
    clearTimeout(this.#rest);
    if (this.#isOver || this.#active.size > 0 || this.#waits.size === 0) return;
    const since = performance.now();
    const restMs = this.#isLetGo ? LONG_REST_MS : REST_MS;
    this.#rest = setTimeout(() => {
      // What came late may have kept others from coming at all, and what is recorded may still lead somewhere.
      if (performance.now() - since > restMs + LATE_MS || !this.replay.isOver) return this.#review();
      nextTurn(() => void this.#giveBack(since));
    }, restMs);
    this.#restSince = since;
  }

  async #giveBack(since: number): Promise<void> {
    if (this.#isOver || this.#restSince !== since || this.#active.size > 0 || this.#waits.size === 0) return;
    const items = [...this.#waits].map(({ item }) => item);
    await this.#park({
      state: "ready",
      at_once: items.includes(undefined) ? 1 : 0,
      // A branch that is still on its way gets another chance, later and later.
      ...(this.#isLetGo && { look_ms: Math.min(FIRST_LOOK_MS * 2 ** this.lease.token, LAST_LOOK_MS) }),
      waits: items.filter((item) => item !== undefined),
    });
  }

  async #park(parking: Parking): Promise<void> {
    if (this.#isOver) return;
    this.#over(() => {});
    this.host.catchUp();
    const { id, token, signal } = this.lease;
    this.lease.parking();
    try {
      this.#end.resolve(new Parked(await this.host.recorder.park({ id, token, ...parking }, signal)));
    } catch (error) {
      this.#end.reject(error);
    }
  }

  /** Waits until no step is being done any more; all were told to stop. */
  async #rested(): Promise<void> {
    if (this.#active.size > 0) await new Promise<void>((resolve) => this.#hasRested = resolve);
  }

  #over(tell: () => void): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#rest);
    for (const { timer } of this.#waits) clearTimeout(timer);
    this.replay.close();
    this.lease.signal.removeEventListener("abort", this.#onAbort);
    const reason = this.#lost ?? new StateError(`Run ${this.lease.id} has ended, or is given back`);
    if (this.#active.size > 0) this.#stopping.abort(reason);
    tell();
  }

  /** Those who wait are told, so that the user's code can tidy up; nothing it does is recorded any more. */
  readonly #onAbort = (): void => {
    const { reason } = this.lease.signal;
    this.#stopping.abort(reason);
    clearTimeout(this.#rest);
    this.replay.close();
    for (const { fail } of [...this.#waits]) fail(reason);
  };
}

/**
 * What was recorded as thrown. The codec knows the errors of the language, and this is the only one of ours that steps
 * have.
 */
function thrownOf(text: string): unknown {
  const thrown = decodeThrown(text);
  const isOurs = thrown instanceof Error && (thrown as { code?: unknown }).code === "interrupted";
  return isOurs ? new InterruptedError(thrown.message) : thrown;
}

/** Calls back at an instant that may be farther away than a timer can be set. */
function setAlarm(wait: Wait, at: number, ring: () => void): void {
  const ms = Math.max(0, Math.ceil(at - performance.now()));
  const next = (): void => ms > LONGEST_TIMER_MS ? setAlarm(wait, at, ring) : ring();
  wait.timer = setTimeout(next, Math.min(ms, LONGEST_TIMER_MS));
}

function hasEnded(known: StepRecord | undefined): boolean {
  return known?.state === "succeeded" || known?.state === "failed";
}

/** What is left of a branch whose run is executed elsewhere. */
export function never(): Promise<never> {
  return new Promise<never>(() => {});
}
