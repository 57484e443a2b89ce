/**
 * What stands between a worker and its database in the crash tests.
 *
 * @module
 */
import { DatabaseError } from "../../mod.ts";
import type { Driver, TransactionConnection } from "../../src/sql/driver.ts";

/** Whether it happens before the round trip is sent, or after it was applied. */
export type When = "after" | "before";

/** One round trip. */
export interface Point {
  readonly at: number;
  readonly when: When;
  /** Only those of these names count. @default all */
  readonly names?: readonly string[] | undefined;
}

/** So many looks in a row have found nothing. */
const IDLE = 4;

/** What stands between a worker and its driver: it counts, and lets something happen at one round trip. */
export class Wire {
  /** The names of all round trips so far. */
  readonly trips: string[] = [];
  readonly #point: Point;
  /** How many of those that count there were. */
  #count = 0;
  readonly #happen: () => Promise<void>;
  readonly #idle: () => void;
  readonly #dead = Promise.withResolvers<never>();
  readonly #back = Promise.withResolvers<never>();
  /** Steps of a process that has died do nothing any more, whatever becomes of its connection. */
  isDead = false;
  #isBack = false;

  /** `happen` may kill the wire. `idle` is called when the worker has had nothing to do for some time. */
  constructor(point: Point, happen: () => Promise<void>, idle: () => void) {
    this.#idle = idle;
    this.#point = point;
    this.#happen = happen;
    for (const { promise } of [this.#dead, this.#back]) promise.catch(() => {});
  }

  watch(driver: Driver): Pick<Driver, "query" | "transaction"> {
    return {
      query: (rendered, options) => this.#pass(rendered.name, () => driver.query(rendered, options)),
      transaction: (work, limits) => this.#transaction(work, (cut) => driver.transaction(cut, limits)),
    };
  }

  /** Nothing gets through any more, and nobody is told. */
  die(): void {
    this.isDead = true;
    this.#dead.reject(new Error("The process has died"));
  }

  /** Has it come back to life, to hear that it has lost everything. */
  haunt(): void {
    this.#isBack = true;
    this.#back.reject(new DatabaseError("no answer", { outcome: "unknown", reason: "connection" }));
  }

  get #isCut(): boolean {
    return this.isDead && !this.#isBack;
  }

  /** Whether it is there at last. */
  #isAt(name: string): boolean {
    this.trips.push(name);
    if (this.trips.slice(-IDLE).every((trip) => trip === "lookForWork")) this.#idle();
    const { at, names } = this.#point;
    return (names === undefined || names.includes(name)) && ++this.#count === at;
  }

  /** Whether the round trip was there. */
  get hasHappened(): boolean {
    return this.#count >= this.#point.at;
  }

  async #pass<T>(name: string, send: () => Promise<T>): Promise<T> {
    if (this.#isCut) return await this.#back.promise;
    const isIt = this.#isAt(name);
    if (isIt && this.#point.when === "before") await this.#happen();
    if (this.#isCut) return await this.#back.promise;
    try {
      const answer = await send();
      if (isIt && this.#point.when === "after") await this.#happen();
      return this.#isCut ? await this.#back.promise : answer;
    } catch (error) {
      return this.#isCut ? await this.#back.promise : Promise.reject(error);
    }
  }

  /** The begin and the commit are round trips as well. What dies in between is rolled back, as the server does it. */
  async #transaction<T>(
    work: (tx: TransactionConnection) => Promise<T>,
    execute: (work: (tx: TransactionConnection) => Promise<T>) => Promise<T>,
  ): Promise<T> {
    await this.#pass("begin", () => Promise.resolve());
    let isIt = false;
    const inside = async (tx: TransactionConnection): Promise<T> => {
      const cut: TransactionConnection = {
        query: (rendered, options) => this.#pass(rendered.name, () => tx.query(rendered, options)),
        run: (text, values) => this.#pass("run", () => tx.run(text, values)),
      };
      const value = await Promise.race([work(cut), this.#dead.promise]);
      isIt = this.#isAt("commit");
      if (isIt && this.#point.when === "before") await this.#happen();
      return this.#isCut ? await this.#dead.promise : value;
    };
    try {
      const value = await execute(inside);
      if (isIt && this.#point.when === "after") await this.#happen();
      return this.#isCut ? await this.#back.promise : value;
    } catch (error) {
      return this.#isCut ? await this.#back.promise : Promise.reject(error);
    }
  }
}

/** A driver with nothing in between. */
export function plain(driver: Driver): Pick<Driver, "query" | "transaction"> {
  return {
    query: (rendered, options) => driver.query(rendered, options),
    transaction: (work, limits) => driver.transaction(work, limits),
  };
}
