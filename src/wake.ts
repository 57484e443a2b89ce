/**
 * Hints that there is something to do. A hint may be lost, come late or come for nothing: whoever gets one looks for himself,
 * and whoever gets none looks from time to time.
 */
import type { Driver } from "./sql/driver.ts";

/** What a hint is about. */
export type Hint =
  /** There may be something to claim in this queue. */
  | { readonly kind: "queue"; readonly name: string }
  /** There may be something to claim in any queue. */
  | { readonly kind: "any" }
  /** A lease was taken away, or a worker paused or resumed. */
  | { readonly kind: "control" }
  /** A message has ended. */
  | { readonly kind: "ended" };

/** There may be something to claim in any queue. */
export const ANY: Hint = { kind: "any" };
/** A lease was taken away, or a worker paused or resumed. */
export const CONTROL: Hint = { kind: "control" };
/** A message has ended. */
export const ENDED: Hint = { kind: "ended" };

/** There may be something to claim in a queue. */
export function hintOf(queue: string): Hint {
  return { kind: "queue", name: queue };
}

/** The text in which a hint travels between processes. */
export function encodeHint(hint: Hint): string {
  return hint.kind === "queue" ? `queue:${hint.name}` : hint.kind;
}

/** Reads a hint. What cannot be read, perhaps from a later release, may be about anything. */
export function decodeHint(text: string): Hint {
  if (text.startsWith("queue:")) return hintOf(text.slice(6));
  return text === "control" ? CONTROL : text === "ended" ? ENDED : ANY;
}

/** Hands hints of this process and of others to those who wait. */
export class Wake {
  readonly #driver: Driver;
  readonly #channel: string;
  readonly #isListening: boolean;
  /** What the hints begin with of which those who wait here are told without the way by the database. */
  readonly #mark = `${crypto.randomUUID().slice(0, 8)}/`;
  readonly #sleepers = new Set<(hint: Hint) => void>();
  /** Those who do without hints of other processes. */
  readonly #locals = new Set<(hint: Hint) => void>();
  #stop: (() => void) | undefined;
  #isHeard = false;
  #isClosed = false;

  constructor(driver: Driver, channel: string, isListening: boolean) {
    this.#driver = driver;
    this.#channel = channel;
    this.#isListening = isListening;
  }

  /** Whether hints of other processes arrive here. */
  get isHeard(): boolean {
    return this.#isHeard;
  }

  /**
   * Calls back for every hint until the function it returns is called. Whoever subscribes looks for himself after it: only
   * what comes later is told.
   */
  subscribe(sleeper: (hint: Hint) => void): () => void {
    if (this.#isListening && !this.#isClosed) {
      this.#stop ??= this.#driver.listen?.(this.#channel, {
        onHint: (text) => this.#hear(text),
        onChange: (isHeard) => this.#change(isHeard),
      });
    }
    const own = (hint: Hint): void => sleeper(hint);
    this.#sleepers.add(own);
    return () => {
      this.#sleepers.delete(own);
      if (this.#sleepers.size === 0) this.#listenNoMore();
    };
  }

  /** Hears nothing of other processes any more, whoever subscribes. */
  close(): void {
    this.#isClosed = true;
    this.#listenNoMore();
  }

  #listenNoMore(): void {
    this.#stop?.();
    this.#stop = undefined;
    this.#isHeard = false;
  }

  /** The same for hints of this process alone: no connection is taken for those of others. */
  subscribeHere(sleeper: (hint: Hint) => void): () => void {
    const own = (hint: Hint): void => sleeper(hint);
    this.#locals.add(own);
    return () => void this.#locals.delete(own);
  }

  /** Tells those who wait in this process. */
  tell(hint: Hint): void {
    for (const sleeper of [...this.#sleepers, ...this.#locals]) sleeper(hint);
  }

  /** The text of a hint for other processes, of which this one tells those who wait here by itself once it is committed. */
  encode(hint: Hint): string {
    return `${this.#mark}${encodeHint(hint)}`;
  }

  /**
   * After how many milliseconds to look without a hint, having looked in vain so many times. Where every look is a request
   * over the network it is less and less often.
   */
  pauseMs(intervalMs: number, inVain: number): number {
    const { polling } = this.#driver;
    if (polling === undefined) return intervalMs;
    const { shortestMs, longestMs } = polling;
    return Math.min(Math.max(intervalMs, shortestMs) * 2 ** Math.min(inVain, 10), Math.max(intervalMs, longestMs));
  }

  #hear(text: string): void {
    if (text.startsWith(this.#mark)) return;
    this.tell(decodeHint(text.replace(/^[0-9a-f]{8}\//, "")));
  }

  /** While nobody listened hints were lost, so that everybody looks once. */
  #change(isHeard: boolean): void {
    this.#isHeard = isHeard;
    if (isHeard) this.tell(ANY);
  }
}
