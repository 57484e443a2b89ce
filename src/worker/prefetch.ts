/** How many messages to hold beyond those that are being handled. Pure. */

/** For how long the messages that are held should last, in milliseconds: a few round trips of a claim. */
const HORIZON_MS = 40;
/** How much the last observation counts against all before it. */
const WEIGHT = 0.5;

/**
 * Watches how fast messages are handled, and says how many to hold: as many as are going to be begun within some
 * milliseconds. Of slow jobs that is none, so that other workers get them; of fast ones some hundreds, so that a
 * claim is worth its statement.
 */
export class Prefetch {
  readonly #most: number;
  #perMs = 0;
  #count = 0;
  #since: number;

  constructor(most: number, now: number) {
    this.#most = most;
    this.#since = now;
  }

  /** Told of each message that has been handled. */
  count(): void {
    this.#count++;
  }

  /** Told when a claim is about to be sent. */
  observe(now: number): void {
    const elapsed = now - this.#since;
    if (elapsed < 1) return;
    this.#perMs += WEIGHT * (this.#count / elapsed - this.#perMs);
    this.#count = 0;
    this.#since = now;
  }

  /** Told that messages which were held are handled much slower than those before them: as many in so many milliseconds. */
  slowedDown(count: number, elapsedMs: number, now: number): void {
    this.#perMs = Math.min(this.#perMs, count / elapsedMs);
    this.#count = 0;
    this.#since = now;
  }

  /** How many messages to hold. */
  get target(): number {
    return Math.min(this.#most, Math.round(this.#perMs * HORIZON_MS));
  }
}
