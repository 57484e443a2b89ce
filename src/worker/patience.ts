/** The pauses of whoever got errors from the database: longer and longer, until there is an answer. */

const FIRST_MS = 50;
const LONGEST_MS = 2_000;

/** Counts the pauses of one lane. */
export class Patience {
  readonly #resume: () => void;
  #pauseMs = 0;
  #until = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param resume Called when a pause is over. */
  constructor(resume: () => void) {
    this.#resume = resume;
  }

  /** Whether it is still the time of a pause. */
  get isPausing(): boolean {
    return performance.now() < this.#until;
  }

  /** Begins a pause, and tells how long it is. */
  pause(): number {
    this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, FIRST_MS), LONGEST_MS);
    const pauseMs = Math.ceil(this.#pauseMs * (0.5 + Math.random() / 2));
    this.#until = performance.now() + pauseMs;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#resume, pauseMs + 1);
    return pauseMs;
  }

  /** There was an answer: the next pause is short again. */
  answered(): void {
    this.#pauseMs = 0;
  }

  /** Ends the pause for good. */
  close(): void {
    clearTimeout(this.#timer);
  }
}
