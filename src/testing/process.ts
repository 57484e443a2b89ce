/** A process of a test kit: a store and a worker of its own on a database that all share, which can die at any round trip. */
import { AsyncLocalStorage } from "node:async_hooks";
import { Database, type OpenTransaction, type Settings } from "../database.ts";
import { DatabaseError } from "../errors.ts";
import type { Driver, Row, TransactionConnection } from "../sql/driver.ts";
import { Store } from "../store.ts";
import type { Worker } from "../worker.ts";
import type { Workflow } from "../workflow.ts";

/** A round trip to the database. */
export interface Trip {
  /** Its number among all of the kit, from 1. */
  readonly number: number;
  /** The name of its statement; `begin`, `commit` and `query` for what happens around and in a transaction. */
  readonly statement: string;
  /** Whether it is part of a transaction, while nobody else gets at the database. */
  readonly isInside: boolean;
  /** Whether it is about to be sent, or was applied and its answer is about to come. */
  readonly when: When;
  /** Lets the process die that makes it. */
  crash(): void;
}

/** Whether something happens before a round trip is sent, or after it was applied and before the answer comes. */
export type When = "after" | "before";

/** What a round trip is. */
type Passage = Omit<Trip, "crash" | "number" | "when">;

/** What processes of one kit share. */
export interface Shared {
  readonly driver: Driver;
  readonly clock: () => number;
  readonly nextTrip: () => number;
  readonly onTrip?: ((trip: Trip) => Promise<void> | void) | undefined;
}

/** For how long a worker that is told to stop is waited for: what hangs in a handler is left behind. */
const STOP_MS = 1_000;
const SETTINGS: Settings = {
  leaseMs: 30_000,
  maxAttempts: 5,
  maxBatchSize: 100,
  pollIntervalMs: 250,
  timeoutMs: 30_000,
};
const CLAIMS: readonly string[] = ["claimMessages", "settleAndClaim"];
/** A statement of the user in a transaction. */
const OWN = "query";
/** Whose answers the code of a workflow sees: it would go on with any. */
const SEEN: readonly string[] = [OWN, "progressLeased"];
const scope = new AsyncLocalStorage<OpenTransaction>();

/** Makes a store on a driver that is shared. */
export function openStore(driver: Driver, clock: () => number): Store {
  const options = {
    isListening: false,
    scope: {
      run: <T>(value: OpenTransaction, work: () => T): T => scope.run(value, work),
      getStore: () => scope.getStore(),
      snapshot: () => AsyncLocalStorage.snapshot() as <T>(work: () => T) => T,
    },
  };
  return new Store(new Database(driver, { dialect: driver.dialect, schema: "public", clock }, SETTINGS, options));
}

/** The same driver, closed by somebody else, and with other ways to the database if they are given. */
export function borrow(driver: Driver, ways: Partial<Pick<Driver, "query" | "transaction">> = {}): Driver {
  return {
    dialect: driver.dialect,
    ...(driver.isSynchronous !== undefined && { isSynchronous: driver.isSynchronous }),
    query: (rendered, options) => driver.query(rendered, options),
    transaction: (work, limits) => driver.transaction(work, limits),
    join: (tx) => driver.join(tx),
    close: () => Promise.resolve(),
    ...ways,
  };
}

/** A process with one worker. */
export class TestProcess {
  readonly #shared: Shared;
  readonly #store: Store;
  readonly #worker: Worker;
  readonly #stop = new AbortController();
  readonly #died = Promise.withResolvers<void>();
  readonly #buried = Promise.withResolvers<void>();
  readonly #claimed = Promise.withResolvers<void>();
  #working: Promise<void> = Promise.resolve();
  #isDead = false;

  constructor(shared: Shared, workflows: readonly Workflow[]) {
    this.#shared = shared;
    this.#store = openStore(this.#wire(), shared.clock);
    this.#worker = this.#store.worker(workflows, { maintenance: false, stopTimeoutMs: 0 });
  }

  /** Whether it has crashed. */
  get isDead(): boolean {
    return this.#isDead;
  }

  /** Resolves when its worker has got an answer to a claim. */
  get claimed(): Promise<void> {
    return this.#claimed.promise;
  }

  /** Works until nothing is left that is due, or until it crashes. */
  async drain(): Promise<void> {
    this.#working = this.#worker.drain({ signal: this.#stop.signal }).then(() => {});
    // Of one that was buried nobody wants to know what became of it.
    this.#working.catch(() => {});
    try {
      await Promise.race([this.#working, this.#died.promise]);
    } finally {
      this.#claimed.resolve();
    }
  }

  /** Dies: nothing of it reaches the database any more, and no answer arrives. */
  crash(): void {
    this.#isDead = true;
    this.#died.resolve();
  }

  /**
   * Ends what is left of it. What still waits for an answer learns that it holds nothing any more: then no code of a workflow
   * goes on.
   */
  async close(): Promise<void> {
    const hasDied = this.#isDead;
    this.crash();
    this.#buried.resolve();
    this.#stop.abort();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, STOP_MS));
    const working = this.#working.catch(() => {});
    // A call of one that has died may never end.
    await Promise.race([hasDied ? working : working.then(() => this.#store.close()), late]);
    clearTimeout(timer);
  }

  #wire(): Driver {
    const { driver } = this.#shared;
    return borrow(driver, {
      query: (rendered, options) => this.#query(rendered.name, () => driver.query(rendered, options)),
      transaction: (work, limits) => this.#transaction(work, (cut) => driver.transaction(cut, limits)),
    });
  }

  async #query(statement: string, send: () => Promise<readonly Row[]>): Promise<readonly Row[]> {
    try {
      const rows = await this.#pass({ statement, isInside: false }, send);
      if (CLAIMS.includes(statement)) this.#claimed.resolve();
      return rows;
    } catch (error) {
      if (!(error instanceof Died)) throw error;
    }
    // Without its history a run would begin anew.
    if (SEEN.includes(statement) || statement === "listSteps") return await this.#lost(statement);
    await this.#buried.promise;
    return [];
  }

  /** What dies in the middle is rolled back, as a server does it. */
  async #transaction<T>(
    work: (tx: TransactionConnection) => Promise<T>,
    execute: (work: (tx: TransactionConnection) => Promise<T>) => Promise<T>,
  ): Promise<T> {
    try {
      await this.#pass({ statement: "begin", isInside: false }, () => Promise.resolve());
      const commit = { statement: "commit", isInside: true };
      let number = 0;
      const value = await execute(async (tx) => {
        const value = await Promise.race([work(this.#inside(tx)), this.#died.promise.then(die)]);
        number = this.#shared.nextTrip();
        await this.#at(commit, number, "before");
        return value;
      });
      await this.#at({ ...commit, isInside: false }, number, "after");
      return value;
    } catch (error) {
      if (!this.#isDead) throw error;
    }
    return await this.#lost("transaction");
  }

  #inside(tx: TransactionConnection): TransactionConnection {
    const pass = <T>(statement: string, send: () => Promise<T>): Promise<T> =>
      this.#pass({ statement, isInside: true }, send).catch((error) =>
        error instanceof Died ? this.#lost(statement) : Promise.reject(error)
      );
    return {
      query: (rendered, options) => pass(rendered.name, () => tx.query(rendered, options)),
      run: (text, values) => pass(OWN, () => tx.run(text, values)),
    };
  }

  /** What becomes of a call that gets no answer. The code of a workflow is not to see it. */
  async #lost(statement: string): Promise<never> {
    if (SEEN.includes(statement)) return await new Promise<never>(() => {});
    await this.#buried.promise;
    throw new DatabaseError("The process has died", { outcome: "not_applied", reason: "closed" });
  }

  async #pass<T>(what: Passage, send: () => Promise<T>): Promise<T> {
    if (this.#isDead) die();
    const number = this.#shared.nextTrip();
    await this.#at(what, number, "before");
    const answer = await send().catch((error) => this.#isDead ? die() : Promise.reject(error));
    await this.#at(what, number, "after");
    return answer;
  }

  /** Lets something happen. Of one that has died nothing goes on from here. */
  async #at(what: Passage, number: number, when: When): Promise<void> {
    if (!this.#isDead) await this.#shared.onTrip?.({ ...what, number, when, crash: () => this.crash() });
    if (this.#isDead) die();
  }
}

/** A process has died: never seen outside of this file. */
class Died extends Error {}

function die(): never {
  throw new Died();
}
