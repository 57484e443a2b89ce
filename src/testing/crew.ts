/** The workers of a test kit: they run what is due, and the clock is put forward whenever all runs wait. */
import { AsyncLocalStorage } from "node:async_hooks";
import { StateError, TimeoutError } from "../errors.ts";
import type { Message } from "../message.ts";
import type { Driver } from "../sql/driver.ts";
import type { Store } from "../store.ts";
import type { Workflow } from "../workflow.ts";
import type { VirtualClock } from "./clock.ts";
import { liveMessages } from "./live.ts";
import { TestProcess, type Trip } from "./process.ts";

/** A round trip of a worker, and what can be let happen at it. */
export interface KitTrip extends Trip {
  /** The store of the kit, whose own round trips do not count. */
  readonly store: Store;
  /** Has another worker claim what is being executed; false when nothing is. */
  steal(): Promise<boolean>;
}

/** Lets something happen at a round trip. */
export type OnTrip = (trip: KitTrip) => Promise<void> | void;

/** What workers are made with. */
export interface CrewParts {
  readonly driver: Driver;
  readonly clock: VirtualClock;
  readonly store: Store;
  readonly workflows: readonly Workflow[];
  readonly timeoutMs: number;
  readonly onTrip: OnTrip | undefined;
}

/** What is due from here on waits for something else than time. */
const NEVER_MS = Date.UTC(9_999, 0);

/** The workers of a kit. */
export class Crew {
  readonly #given: CrewParts;
  readonly #processes: TestProcess[] = [];
  /** Workers that were added while others work, and have not finished. */
  readonly #others = new Set<Promise<void>>();
  /** Runs something outside of whatever step is being done: what another worker does is no part of that. */
  readonly #outside = AsyncLocalStorage.snapshot() as <T>(work: () => T) => T;
  #isWorking = false;
  /** How many round trips they have made. */
  trips = 0;

  constructor(parts: CrewParts) {
    this.#given = parts;
  }

  /** Ends what they do. */
  async close(): Promise<void> {
    await Promise.all(this.#processes.map((one) => one.close()));
  }

  /**
   * Runs what is due, and what comes due while the clock is put forward by so many milliseconds. What flows by itself does not
   * count: a timer that was set in the meantime for all of that time is to go off. Resolves to what is left of the time.
   */
  async work(ms: number): Promise<number> {
    if (this.#isWorking) throw new StateError("Cannot run the test kit: it is running already");
    this.#isWorking = true;
    const timeout = Promise.withResolvers<never>();
    timeout.promise.catch(() => {});
    let leftMs = ms;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      timeout.reject(new TimeoutError(`Runs are still being executed after ${this.#given.timeoutMs} ms of real time`));
    }, this.#given.timeoutMs);
    try {
      while (!isLate) {
        const beganAt = this.#given.clock.now();
        await Promise.race([this.#drain(), timeout.promise]);
        const next = await this.#nextAfter(beganAt);
        const awayMs = next === undefined ? Number.POSITIVE_INFINITY : Math.max(0, next - this.#given.clock.now());
        if (next === undefined || awayMs > leftMs) return leftMs;
        this.#given.clock.jumpTo(next);
        leftMs -= awayMs;
      }
      return await timeout.promise;
    } finally {
      clearTimeout(timer);
      this.#isWorking = false;
    }
  }

  /** Has workers run what is due. Where one has crashed another goes on. */
  async #drain(): Promise<void> {
    const stop = this.#given.clock.flow();
    try {
      for (;;) {
        const last = this.#processes.at(-1);
        const worker = last === undefined || last.isDead ? this.#newProcess() : last;
        await worker.drain();
        while (this.#others.size > 0) await Promise.all(this.#others);
        if (!worker.isDead) return;
      }
    } finally {
      stop();
    }
  }

  /**
   * Lets the leases of all runs run out that are being executed, and another worker go on with them, while the one that had
   * them does not know. Resolves when the other has claimed them; to false when none is being executed.
   */
  async #steal(): Promise<boolean> {
    const leased = (await this.#messages()).filter(({ state }) => state === "leased");
    if (leased.length === 0) return false;
    this.#given.clock.jumpTo(Math.max(...leased.map(({ leaseUntil }) => leaseUntil?.getTime() ?? 0)) + 1);
    const thief = this.#newProcess();
    const working = thief.drain().finally(() => this.#others.delete(working));
    working.catch(() => {});
    this.#others.add(working);
    await thief.claimed;
    return true;
  }

  #newProcess(): TestProcess {
    const { onTrip, store } = this.#given;
    const shared = {
      driver: this.#given.driver,
      clock: this.#given.clock.now,
      nextTrip: () => ++this.trips,
      onTrip: onTrip &&
        ((trip: Trip) => this.#outside(() => onTrip({ ...trip, store, steal: () => this.#steal() }))),
    };
    const worker = new TestProcess(shared, this.#given.workflows);
    this.#processes.push(worker);
    return worker;
  }

  /** When the next thing comes due, or the next lease ends. What was due before and has not been run, no worker takes. */
  async #nextAfter(time: number): Promise<number | undefined> {
    const times = (await this.#messages()).flatMap(({ state, leaseUntil, visibleAt }) => {
      if (state === "leased") return leaseUntil?.getTime() ?? [];
      return ["delayed", "ready", "waiting"].includes(state) ? visibleAt.getTime() : [];
    }).filter((at) => at > time && at < NEVER_MS);
    return times.length === 0 ? undefined : Math.min(...times);
  }

  /** Everything that has not ended, of the queues that the kit serves. */
  async #messages(): Promise<Message[]> {
    const names = new Set(this.#given.workflows.map(({ queue }) => queue.name));
    return (await liveMessages(this.#given.store)).filter(({ queue }) => names.has(queue));
  }
}
