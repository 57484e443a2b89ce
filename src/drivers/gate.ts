/** Lets one in at a time, in the order of arrival. */
import type { DatabaseError } from "../errors.ts";
import type { CallOptions } from "../sql/driver.ts";
import { unsent } from "./failure.ts";
import { endWithin } from "./transaction.ts";

/** A queue in front of a connection that can do one thing at a time. */
export class Gate {
  readonly #waiting: (() => void)[] = [];
  #isTaken = false;
  #isClosed = false;

  /** Whether somebody is in. */
  get isTaken(): boolean {
    return this.#isTaken;
  }

  /** Resolves when it is the caller's turn. Rejects with *not applied* when that is not in time. */
  async enter(statement: string, limits: CallOptions): Promise<void> {
    if (this.#isClosed) throw failure(statement, "closed");
    if (limits.signal?.aborted) throw failure(statement, "aborted");
    if (!this.#isTaken) {
      this.#isTaken = true;
      return;
    }
    let wake = (): void => {};
    const turn = new Promise<void>((resolve) => wake = resolve);
    this.#waiting.push(wake);
    try {
      await endWithin(turn, limits, (reason) => failure(statement, reason));
    } catch (error) {
      const index = this.#waiting.indexOf(wake);
      // The turn came together with the deadline: it goes to the next in the line.
      if (index >= 0) this.#waiting.splice(index, 1);
      else this.leave();
      throw error;
    }
    if (this.#isClosed) {
      this.leave();
      throw failure(statement, "closed");
    }
  }

  /** Lets the next one in. */
  leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#isTaken = false;
    else next();
  }

  /** Lets nobody in any more, and resolves when the last one has left. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    await this.enter("close", {});
    this.#isClosed = true;
    this.leave();
  }
}

function failure(statement: string, reason: "aborted" | "closed" | "timeout"): DatabaseError {
  return unsent(statement, reason, reason === "closed" ? "the store is closed" : "the database is busy");
}
