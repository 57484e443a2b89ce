/** What was claimed for one job and is not begun yet, and the places for it. */
import type { Delivery } from "./delivery.ts";
import type { Handlers } from "./handlers.ts";
import type { Slots } from "./slots.ts";

/** About how long a message waits that may be what ends processes, while another such one is handled. */
const SUSPECT_MS = 500;
/** What was claimed ahead should be begun within some milliseconds. What waits for so long is for others, who may be idle. */
const STALE_MS = 1_000;

/** What it needs of the worker. */
export interface WaitingHost {
  readonly slots: Slots;
  readonly isDraining: boolean;
  readonly isStopping: boolean;
  readonly isPaused: boolean;
}

/** What it needs of its lane. */
export interface WaitingLane {
  /** Whether a claim would be made now, if there was a place. */
  readonly isAsking: boolean;
  /** Told that so many messages were begun in so many milliseconds, while others that had been claimed ahead waited. */
  slowedDown(count: number, elapsedMs: number): void;
  /** Takes a message that is not to be begun here. */
  returned(delivery: Delivery): void;
  /** Looks soon what there is to do. */
  schedule(): void;
}

/** How much a job may do at once. */
export interface WaitingLimits {
  readonly concurrency: number;
  /** How many messages one call of the handler gets, for a handler of batches. */
  readonly batch: number | undefined;
}

/** What was claimed for one job and is not begun yet, in the order in which it is to be begun. */
export class Waiting {
  readonly #lane: WaitingLane;
  readonly #host: WaitingHost;
  readonly #handlers: Handlers;
  readonly #concurrency: number;
  readonly #size: number | undefined;
  readonly #list: Delivery[] = [];
  readonly #takeTurn = (): boolean => this.#isCalled();
  readonly #look = (): void => this.#lane.schedule();
  /** How many places for handlers were taken for messages that are yet to come. */
  #places = 0;
  #watch: ReturnType<typeof setTimeout> | undefined;
  /** How many messages were begun since that timer was set. */
  #begun = 0;

  constructor(lane: WaitingLane, host: WaitingHost, handlers: Handlers, { concurrency, batch }: WaitingLimits) {
    this.#lane = lane;
    this.#host = host;
    this.#handlers = handlers;
    this.#concurrency = concurrency;
    this.#size = batch;
  }

  /** How many messages wait. */
  get length(): number {
    return this.#list.length;
  }

  /** How many calls of the handler could be begun, if there were messages for them. */
  get room(): number {
    return Math.min(this.#concurrency - this.#handlers.count, this.#host.slots.free + this.#places);
  }

  /**
   * Adds a message. A suspect that comes in risky company, with others that have crashed, goes away for a while: they have
   * perhaps crashed together, and if one of them is the reason they would do so again and again.
   */
  push(delivery: Delivery, isRisky: boolean): void {
    if (delivery.isSuspect && isRisky && !this.#host.isDraining) this.#sendAway(delivery);
    else {
      this.#list.push(delivery);
      this.#watchOver();
    }
  }

  /** Watches no more. */
  close(): void {
    clearTimeout(this.#watch);
  }

  /** Takes a message out. */
  drop(delivery: Delivery): void {
    const index = this.#list.indexOf(delivery);
    if (index >= 0) this.#list.splice(index, 1);
  }

  /** Gives everything back. */
  giveBack(): void {
    for (const delivery of this.#list.splice(0)) this.#lane.returned(delivery);
  }

  /** Takes places for messages that are asked for, so that no more are claimed than begun. */
  reserve(places: number): void {
    this.#places += this.#host.slots.takeSome(places - this.#places);
  }

  /** Gets in line for a place, unless the job itself does all it may. */
  queueUp(): void {
    if (this.#handlers.count < this.#concurrency) this.#host.slots.take(this.#takeTurn);
  }

  /** Gives the places back of messages that did not come. */
  giveUp(): void {
    const places = this.#places;
    this.#places = 0;
    if (places > 0) this.#host.slots.give(places);
  }

  /** Begins what was claimed, as far as there are places. */
  begin(): boolean {
    const { slots } = this.#host;
    const size = this.#size;
    let hasBegun = false;
    while (this.#list.length > 0 && this.#handlers.count < this.#concurrency) {
      const now = performance.now();
      this.#expire(now, size ?? 1);
      if (this.#list.length === 0) break;
      // On a lease that may have ended nothing is begun; the next heartbeat tells whether it has.
      if (this.#host.isStopping || this.#host.isPaused || now > (this.#list[0] as Delivery).safeUntil) break;
      const next = this.#list[0] as Delivery;
      if (next.isSuspect && !slots.suspect(next, this.#look)) {
        if (this.#host.isDraining) break;
        this.#sendAway(this.#list.shift() as Delivery);
        continue;
      }
      if (this.#places > 0) this.#places--;
      else if (!slots.take(this.#takeTurn)) {
        slots.clear(next);
        return hasBegun;
      }
      hasBegun = true;
      const list = this.#list.splice(0, size === undefined ? 1 : this.#batchOf(size));
      this.#begun += list.length;
      if (size === undefined) this.#handlers.begin(list[0] as Delivery, now);
      else this.#handlers.beginBatch(list, now);
    }
    return hasBegun;
  }

  /** Gives a suspect to whoever has a place for one, or to the next claim here. */
  #sendAway(delivery: Delivery): void {
    delivery.returnMs = Math.ceil(SUSPECT_MS * (0.5 + Math.random()));
    this.#lane.returned(delivery);
  }

  #watchOver(): void {
    if (this.#watch !== undefined) return;
    this.#begun = 0;
    this.#watch = setTimeout(() => this.#giveBackStale(), STALE_MS);
  }

  /** Those before were fast and these are slow: keeps about as many as are begun until the next look, and gives back the others. */
  #giveBackStale(): void {
    this.#watch = undefined;
    const begun = this.#begun;
    const now = performance.now();
    const stale = this.#list.slice(begun).filter(({ claimedAt }) => now - claimedAt >= STALE_MS);
    if (stale.length > 0) this.#lane.slowedDown(begun, STALE_MS);
    for (const delivery of stale) {
      this.drop(delivery);
      this.#lane.returned(delivery);
    }
    if (this.#list.length > 0) this.#watchOver();
  }

  /** How many of those that wait are the next batch: a suspect has one of its own. */
  #batchOf(size: number): number {
    const suspect = this.#list.slice(0, size).findIndex(({ isSuspect }) => isSuspect);
    return suspect < 0 ? size : Math.max(1, suspect);
  }

  /** Gives back those of the next `count` messages that are too late to be begun; the next claim drops them. */
  #expire(now: number, count: number): void {
    for (let i = 0; i < Math.min(count, this.#list.length);) {
      if (now < (this.#list[i] as Delivery).beginBefore) i++;
      else this.#lane.returned(...this.#list.splice(i, 1) as [Delivery]);
    }
  }

  /** It is our turn to get a place: for a message that waits, or for one that is claimed now. */
  #isCalled(): boolean {
    if (this.begin()) return true;
    if (this.#list.length > 0 || !this.#lane.isAsking || !this.#host.slots.take(this.#takeTurn)) return false;
    this.#places++;
    this.#lane.schedule();
    return true;
  }
}
