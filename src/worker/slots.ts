/** The limit on handlers of one worker, shared fairly among its queues. */

/** Called when it is somebody's turn. Tells whether a place was taken: who takes none has left the line. */
export type Turn = () => boolean;

/** Counts the places for handlers. Whoever finds none is called in turn, so that no queue starves another. */
export class Slots {
  #free: number;
  readonly #line = new Set<Turn>();
  #suspect: object | undefined;
  readonly #calls = new Set<() => void>();
  #isCalling = false;

  constructor(count: number) {
    this.#free = count;
  }

  /** How many places are free. */
  get free(): number {
    return this.#free;
  }

  /** Takes a place; or gets in line, to be called when there is one. */
  take(turn: Turn): boolean {
    if (this.#free > 0 && this.#isNext(turn)) {
      this.#line.delete(turn);
      this.#free--;
      return true;
    }
    this.#line.add(turn);
    return false;
  }

  /** Takes as many of some places as are free, without getting in line. */
  takeSome(count: number): number {
    const taken = Math.max(0, Math.min(count, this.#free));
    this.#free -= taken;
    return taken;
  }

  /** Gives places back, and calls those who wait as long as there are places. */
  give(count = 1): void {
    this.#free += count;
    // A handler that ends at once gives its place back from inside a turn; the loop below goes on with it.
    if (this.#isCalling) return;
    this.#isCalling = true;
    for (let [turn] = this.#line; turn !== undefined && this.#free > 0; [turn] = this.#line) {
      if (!turn()) this.#line.delete(turn);
    }
    this.#isCalling = false;
  }

  /** Takes the only place for a message that may be what ends processes; or else calls when it is free. */
  suspect(suspect: object, call: () => void): boolean {
    if (this.#suspect !== undefined) {
      this.#calls.add(call);
      return false;
    }
    this.#suspect = suspect;
    return true;
  }

  /** Gives that place back, if it is the owner's. */
  clear(suspect: object): void {
    if (this.#suspect !== suspect) return;
    this.#suspect = undefined;
    const calls = [...this.#calls];
    this.#calls.clear();
    for (const call of calls) call();
  }

  #isNext(turn: Turn): boolean {
    if (this.#line.size === 0) return true;
    const [first] = this.#line;
    return first === turn;
  }
}
