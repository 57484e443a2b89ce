/** The time of a test kit: it flows while something is executed, stands still otherwise, and can be put forward. */

/** A clock that only goes forward. */
export class VirtualClock {
  #time: number;
  /** Since when it flows, by the monotonic clock. */
  #flowsSince = 0;
  #flows = 0;

  constructor(startAt: number) {
    this.#time = startAt;
  }

  /** The time in whole milliseconds since the epoch. Bound, so that it can be handed on as a function. */
  readonly now = (): number => Math.floor(this.#exact());

  /**
   * Lets it flow until the function it returns is called. It has to while a run is executed: what waits for some milliseconds
   * is kept in memory, and looks again when they are over.
   */
  flow(): () => void {
    if (this.#flows++ === 0) this.#flowsSince = performance.now();
    let isFlowing = true;
    return () => {
      if (!isFlowing) return;
      isFlowing = false;
      this.#time = this.#exact();
      this.#flowsSince = performance.now();
      this.#flows--;
    };
  }

  /** Puts it forward. */
  jumpTo(time: number): void {
    this.#time += Math.max(0, time - this.#exact());
  }

  #exact(): number {
    return this.#flows === 0 ? this.#time : this.#time + performance.now() - this.#flowsSince;
  }
}
