/** What is known of a queue without asking: whether there is something to claim, and when there will be. Pure. */
import type { Exchange } from "../sql/leases.ts";

const NEVER = Number.POSITIVE_INFINITY;

/** What is known of a queue. */
export class Outlook {
  /** Whether the last claim found fewer than it asked for and nobody has said that there are more. */
  isDry = false;
  /** When the next message is due, by the monotonic clock. */
  dueAt = NEVER;
  /** Whether the queue limits how many may be leased at once by everybody together. */
  hasLimit = false;
  /** Whether the last claim has reached that limit: what is given up next makes a place for another one. */
  isLimited = false;
  /** When the first of those is due again that were given back since the last claim was sent. */
  #expectedAt = NEVER;
  /** When the last hint came while a claim was under way. */
  #hintedAt = -NEVER;
  /** When the last claim was sent of which the answer is known. */
  #asOf = -NEVER;

  /** Told that there may be something, and the time if claims are under way: what they have seen may be older. */
  wake(claimingAt: number | undefined): void {
    this.isDry = false;
    this.dueAt = NEVER;
    if (claimingAt !== undefined) this.#hintedAt = claimingAt;
  }

  /** Told that a message was given back which is due then. */
  expect(at: number): void {
    this.#expectedAt = Math.min(this.#expectedAt, at);
    this.dueAt = Math.min(this.dueAt, at);
  }

  /** Told when the next message is due, as far as was known when the database was asked. A claim may know better by now. */
  isDueAt(at: number, askedAt: number): void {
    if (askedAt >= this.#asOf) this.dueAt = Math.min(at, this.#expectedAt);
  }

  /** A claim is sent: it sees whatever was given back before. */
  asks(): void {
    this.#expectedAt = NEVER;
  }

  /** A claim that found less than it asked for has emptied the queue, unless something came meanwhile. */
  answers({ claimed, ended, nextMs, isFull }: Exchange, want: number, sentAt: number): void {
    this.hasLimit = isFull !== undefined;
    this.isLimited = isFull === true;
    this.#asOf = Math.max(this.#asOf, sentAt);
    // It drops only some of those that are too late: behind these there may be others.
    const isShort = claimed.length < want && !ended.some(({ state }) => state === "cancelled");
    if (!isShort) {
      this.isDry = false;
      return;
    }
    const nextAt = nextMs === null ? NEVER : sentAt + nextMs;
    this.dueAt = Math.min(this.isDry ? this.dueAt : NEVER, nextAt, this.#expectedAt);
    // Several claims may be under way of which none has seen what the hint was about.
    this.isDry = sentAt > this.#hintedAt;
  }
}
