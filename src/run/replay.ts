/**
 * In which order what is recorded is given to the code again.
 *
 * Branches of a run tell each other things: which of two was first decides a race. So in replay the outcomes of steps
 * arrive in the order in which they were recorded, whatever the order in which the code asks for them. A sleep that
 * has ended while nothing else was under way leaves no mark of when that was: it comes when nothing else can go on.
 */
import { nextTurn } from "../turn.ts";

/** A branch that waits for an outcome which is recorded. */
interface Waiter {
  /** Its place among the outcomes; of a sleep, none. */
  readonly ending: number | undefined;
  /** When a sleep was over, by whatever clock, as long as it is the same for all. */
  readonly dueMs: number;
  readonly goOn: () => void;
}

/** After how long without anything it is clear that the code does not come to what is recorded. */
const STALL_MS = 2_000;

/** Gives recorded outcomes out, each at its turn. */
export class Replay {
  /** The places of outcomes, in their order, and how many of them were given out. */
  readonly #endings: readonly number[];
  #next = 0;
  readonly #waiters = new Set<Waiter>();
  #changes = 0;
  /** Called when the code comes to nothing but new steps, although not everything that is recorded was given out. */
  readonly #onStall: () => void;
  readonly #fresh = new Set<() => void>();
  #stall: ReturnType<typeof setTimeout> | undefined;
  #isStopped = false;

  constructor(endings: readonly (number | null)[], onStall: () => void) {
    this.#endings = endings.filter((ending) => ending !== null).sort((a, b) => a - b);
    this.#onStall = onStall;
  }

  /** Whether everything that is recorded was given out. */
  get isOver(): boolean {
    return this.#expected === Number.POSITIVE_INFINITY && this.#waiters.size === 0;
  }

  /** Waits until all outcomes that were recorded before this one were given out. */
  async outcome(ending: number | null): Promise<void> {
    if (ending === null || ending < this.#expected) return;
    await this.#wait(ending, 0);
    this.#pass(ending);
  }

  /** Waits until everything recorded that can be reached was given out. */
  async sleep(dueMs: number): Promise<void> {
    if (this.#expected < Number.POSITIVE_INFINITY) await this.#wait(undefined, dueMs);
  }

  /** Waits until everything recorded was given out: only behind it there can be something new. */
  async fresh(): Promise<void> {
    if (this.#expected === Number.POSITIVE_INFINITY) return;
    await new Promise<void>((resolve) => {
      this.#fresh.add(resolve);
      this.#look();
    });
  }

  /** Lets everything go on that waits for its turn. */
  giveUp(): void {
    this.#isStopped = true;
    this.#look();
  }

  /** Waits once more whether the code comes to what is recorded. */
  wait(): void {
    this.#look();
  }

  /** Lets nothing go on any more. */
  close(): void {
    clearTimeout(this.#stall);
    this.#waiters.clear();
    this.#fresh.clear();
    this.#changes++;
  }

  get #expected(): number {
    if (this.#isStopped) return Number.POSITIVE_INFINITY;
    return this.#endings[this.#next] ?? Number.POSITIVE_INFINITY;
  }

  #pass(ending: number): void {
    while (this.#expected <= ending) this.#next++;
    this.#look();
  }

  async #wait(ending: number | undefined, dueMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#waiters.add({ ending, dueMs, goOn: resolve });
      this.#look();
    });
  }

  /** When the code has come to rest: lets the next one go on, or, where that is not reached any more, whoever can. */
  #look(): void {
    const changes = ++this.#changes;
    clearTimeout(this.#stall);
    if (this.#expected === Number.POSITIVE_INFINITY) {
      for (const goOn of this.#fresh) goOn();
      this.#fresh.clear();
    }
    if (this.#waiters.size === 0) {
      if (this.#fresh.size > 0) this.#stall = setTimeout(this.#onStall, STALL_MS);
      return;
    }
    nextTurn(() => {
      if (changes !== this.#changes) return;
      const waiters = [...this.#waiters];
      const next = waiters.find(({ ending }) => ending === this.#expected) ?? firstOf(waiters);
      if (next === undefined) return;
      this.#waiters.delete(next);
      next.goOn();
      this.#look();
    });
  }
}

/** The sleep that was over first; without one, the outcome that was recorded first. */
function firstOf(waiters: readonly Waiter[]): Waiter | undefined {
  const sleeps = waiters.filter(({ ending }) => ending === undefined).sort((a, b) => a.dueMs - b.dueMs);
  return sleeps[0] ?? [...waiters].sort((a, b) => Number(a.ending) - Number(b.ending))[0];
}
