/** The handlers of one job that run in one worker: begun, watched, and left when their time is over. */
import type { EventHub } from "../events.ts";
import type { BatchHandler, Job, JobHandler } from "../job.ts";
import { Batch } from "./batch.ts";
import { type ContextHost, DeliveryContext } from "./context.ts";
import type { Delivery } from "./delivery.ts";
import type { Slots } from "./slots.ts";

const TIMEOUT_MS = 900_000;

/** What handlers need of their worker. */
export interface HandlersHost extends ContextHost {
  readonly events: EventHub;
  readonly slots: Slots;
}

/** Where deliveries go whose handlers are not waited for any more. */
export interface HandlerEnds {
  /** The handler has resolved. */
  succeeded(delivery: Delivery, value: unknown): void;
  /** The attempt has failed. */
  failed(delivery: Delivery, error: unknown): void;
  /** The message is to be given back without a failure being counted. */
  returned(delivery: Delivery): void;
  /** Notes in the database that handlers are begun now; false for those that may not be. Never rejects. */
  prove(list: readonly Delivery[]): Promise<boolean>;
  /** A handler has ended that nobody waited for. */
  late(): void;
}

/** The handlers of one job that run in one worker. */
export class Handlers {
  readonly #job: Job;
  readonly #host: HandlersHost;
  readonly #ends: HandlerEnds;
  readonly #timeoutMs: number | null;
  /** What is being handled, in the order in which it was begun. */
  readonly #running = new Set<Delivery>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** How many calls of the handler are under way: of a batch one for all its messages. */
  count = 0;
  /** How many messages handlers go on with although nobody waits for them any more. */
  overdue = 0;

  constructor(job: Job, host: HandlersHost, ends: HandlerEnds) {
    this.#job = job;
    this.#host = host;
    this.#ends = ends;
    this.#timeoutMs = job.options.timeoutMs === undefined ? TIMEOUT_MS : job.options.timeoutMs;
  }

  /** How many messages are being handled. */
  get size(): number {
    return this.#running.size;
  }

  /** Begins the handler of one message. The caller has taken a place for it. */
  begin(delivery: Delivery, now: number): void {
    this.count++;
    delivery.state = "running";
    this.#running.add(delivery);
    // Only a proof that it was begun may blame this message for a crash.
    if (delivery.isProofNeeded) void this.#prove([delivery], (at) => this.#run(delivery, at));
    else this.#run(delivery, now);
  }

  /** Begins one call of a handler of batches. The caller has taken a place for it. */
  beginBatch(list: readonly Delivery[], now: number): void {
    this.count++;
    const batch = new Batch(list, this.#host.name, {
      succeed: (delivery, result) => this.#succeed(delivery, result),
      fail: (delivery, error) => this.#fail(delivery, error),
    });
    for (const delivery of list) {
      delivery.batch = batch;
      delivery.state = "running";
      this.#running.add(delivery);
    }
    const run = (at: number): void => {
      for (const delivery of list) this.#start(delivery, at);
      void batch.run(this.#job.handler as BatchHandler);
    };
    if (list.some(({ isProofNeeded }) => isProofNeeded)) void this.#prove(list, run);
    else run(now);
  }

  /** Does not wait for the handler of a delivery any more. Tells whether there was one. */
  drop(delivery: Delivery): boolean {
    if (!this.#leave(delivery)) return false;
    if (delivery.startedAt !== undefined) this.overdue++;
    return true;
  }

  /** Aborts all handlers, and gives their messages back. */
  abandon(reason: Error): void {
    for (const delivery of [...this.#running]) {
      delivery.abort(reason);
      if (this.#endAsSaid(delivery) || !this.drop(delivery)) continue;
      // What a transaction has committed stays.
      if (delivery.isSettled) this.#ends.succeeded(delivery, delivery.value);
      else this.#ends.returned(delivery);
    }
  }

  /** Watches no more. */
  close(): void {
    clearTimeout(this.#timer);
  }

  #run(delivery: Delivery, now: number): void {
    this.#start(delivery, now);
    let result: unknown;
    let isPending: boolean;
    try {
      result = (this.#job.handler as JobHandler)(delivery.message, new DeliveryContext(delivery, this.#host));
      isPending = typeof (result as PromiseLike<unknown> | null | undefined)?.then === "function";
    } catch (error) {
      return this.#fail(delivery, error);
    }
    if (!isPending) return this.#succeed(delivery, result);
    // Whatever it is, it settles once.
    Promise.resolve(result).then(
      (value) => this.#succeed(delivery, value),
      (error) => this.#fail(delivery, error),
    );
  }

  async #prove(list: readonly Delivery[], run: (now: number) => void): Promise<void> {
    const isProven = await this.#ends.prove(list);
    if (!isProven || list.some(({ state }) => state !== "running")) {
      for (const delivery of list) if (this.#leave(delivery)) this.#ends.returned(delivery);
      return;
    }
    for (const delivery of list) {
      // Others that came later have begun meanwhile.
      this.#running.delete(delivery);
      this.#running.add(delivery);
    }
    run(performance.now());
  }

  #start(delivery: Delivery, now: number): void {
    delivery.startedAt = now;
    const { events } = this.#host;
    if (events.has("started")) events.emit("started", { message: delivery.message });
    if (this.#timeoutMs === null) return;
    this.#timer ??= setTimeout(() => this.#checkTimeouts(), this.#timeoutMs);
  }

  /** The handler is not waited for any more. A batch has one place for all its messages. */
  #leave(delivery: Delivery): boolean {
    if (!this.#running.delete(delivery)) return false;
    if (delivery.isSuspect) this.#host.slots.clear(delivery);
    if (delivery.batch !== undefined && --delivery.batch.left > 0) return true;
    this.count--;
    this.#host.slots.give();
    return true;
  }

  #succeed(delivery: Delivery, value: unknown): void {
    if (this.#leave(delivery)) this.#ends.succeeded(delivery, value);
    else this.#isLate();
  }

  #fail(delivery: Delivery, error: unknown): void {
    if (!this.#leave(delivery)) return this.#isLate();
    // What a transaction has committed stays, whatever the handler did after it.
    if (delivery.isSettled) this.#ends.succeeded(delivery, delivery.value);
    else this.#ends.failed(delivery, error);
  }

  /** What a handler of batches has said of a message counts, although it is not waited for any more. Tells whether it has. */
  #endAsSaid(delivery: Delivery): boolean {
    if (delivery.batch?.hasSaid(delivery) !== true) return false;
    this.overdue++;
    delivery.batch.settle(delivery);
    return true;
  }

  #isLate(): void {
    this.overdue--;
    this.#ends.late();
  }

  /** All handlers of a lane have the same time, so the first that was begun is the first to be late. */
  #checkTimeouts(): void {
    this.#timer = undefined;
    const timeoutMs = this.#timeoutMs as number;
    const now = performance.now();
    for (const delivery of this.#running) {
      if (delivery.startedAt === undefined) continue;
      const left = delivery.startedAt + timeoutMs - now;
      if (left > 0) {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#checkTimeouts(), Math.ceil(left));
        return;
      }
      const error = new DOMException(`Handler took longer than ${timeoutMs} ms`, "TimeoutError");
      delivery.abort(error);
      if (this.#endAsSaid(delivery)) continue;
      this.overdue++;
      this.#fail(delivery, error);
    }
  }
}
