/** Renews what a worker has leased, on a timer of its own that no handler's `await` delays. */
import { LONGEST_TIMER_MS } from "../options.ts";
import { beat, type Fate } from "../sql/workers.ts";
import { cancelled, type Delivery, leaseLost } from "./delivery.ts";
import type { Lane } from "./lane.ts";

/** What the heartbeat needs of its worker. */
export interface HeartbeatHost {
  readonly holder: string;
  readonly lanes: readonly Lane[];
  /**
   * Sends a statement on the way that is kept free for it. Resolves to the fates of messages that are not ours any
   * more.
   */
  beat(statement: ReturnType<typeof beat>, timeoutMs: number): Promise<Fate[]>;
  onLag(lagMs: number): void;
  onError(error: unknown): void;
}

/** A late timer is worth telling of from here on. */
const LAG_MS = 1_000;
/** A heartbeat without an answer is given up, so that the next one goes by another connection while leases last. */
const SHORTEST_TIMEOUT_MS = 1_000;
/** And while somebody waits to hear that a message was cancelled, however long the leases are. */
const LONGEST_TIMEOUT_MS = 30_000;

/** Renews leases and learns which are lost. */
export class Heartbeat {
  readonly #host: HeartbeatHost;
  readonly #intervalMs: number;
  #timer: ReturnType<typeof setInterval> | undefined;
  #dueAt = 0;
  #isBeating = false;
  /** Whether the last heartbeat got no answer. */
  #isFailing = false;
  #isAskedAgain = false;

  constructor(host: HeartbeatHost) {
    this.#host = host;
    const thirdMs = Math.floor(Math.min(...host.lanes.map(({ leaseMs }) => leaseMs)) / 3);
    this.#intervalMs = Math.min(Math.max(20, thirdMs), LONGEST_TIMER_MS);
  }

  /** Begins. */
  start(): void {
    this.#dueAt = performance.now() + this.#intervalMs;
    this.#timer = setInterval(() => this.#tick(), this.#intervalMs);
  }

  /** Ends. */
  stop(): void {
    clearInterval(this.#timer);
  }

  /** Renews all leases now. */
  async beat(): Promise<void> {
    if (this.#isBeating) {
      this.#isAskedAgain = true;
      return;
    }
    const held = new Map<number, { readonly lane: Lane; readonly delivery: Delivery }>();
    for (const lane of this.#host.lanes) {
      // What a transaction has ended is nobody's any more.
      for (const [id, delivery] of lane.held) if (!delivery.isSettled) held.set(id, { lane, delivery });
    }
    if (held.size === 0) return;
    const items = [...held.values()].map(({ delivery: { message, token, leaseMs } }) => ({
      id: message.id,
      token,
      lease_ms: leaseMs,
    }));
    this.#isBeating = true;
    const sentAt = performance.now();
    try {
      const timeoutMs = Math.min(Math.max(SHORTEST_TIMEOUT_MS, this.#intervalMs), LONGEST_TIMEOUT_MS);
      const answer = await this.#host.beat(beat(items, this.#host.holder), timeoutMs);
      const fates = new Map(answer.map(({ id, fate }) => [id, fate]));
      this.#isFailing = false;
      for (const [id, { lane, delivery }] of held) {
        const fate = fates.get(id);
        if (fate === undefined) delivery.renewed(sentAt);
        else if (fate !== "locked") this.#lose(lane, delivery, fate);
      }
    } catch (error) {
      this.#isFailing = true;
      this.#host.onError(error);
    }
    this.#isBeating = false;
    for (const lane of this.#host.lanes) lane.schedule();
    if (!this.#isAskedAgain) return;
    this.#isAskedAgain = false;
    await this.beat();
  }

  /**
   * Tells whether the event loop stood still. Whoever is about to write something asks, because after such a time it
   * may be their turn before that of the timer.
   */
  catchUp(now: number): void {
    const lagMs = now - this.#dueAt;
    if (lagMs <= 0) return;
    if (lagMs > Math.min(LAG_MS, this.#intervalMs)) this.#host.onLag(Math.round(lagMs));
    // It stood still for longer than leases last: somebody else may be at it. Nothing more is written for them. While the
    // database does not answer that they are over is no reason yet, and only a standstill as long as a lease is one.
    if (lagMs > this.#intervalMs * (this.#isFailing ? 2 : 1)) {
      for (const lane of this.#host.lanes) lane.dropLapsed(now);
    }
    if (lagMs > this.#intervalMs) this.#dueAt = now + this.#intervalMs;
  }

  #tick(): void {
    const now = performance.now();
    this.catchUp(now);
    this.#dueAt = now + this.#intervalMs;
    void this.beat();
  }

  #lose(lane: Lane, delivery: Delivery, fate: Fate["fate"]): void {
    // What is being settled is gone when that was done, which its own answer tells.
    const isEnding = delivery.state === "settling" || delivery.state === "sent" || delivery.transactions > 0;
    if (isEnding && fate !== "cancelled") return;
    const { message } = delivery;
    lane.lose(delivery, fate === "cancelled" ? cancelled(message) : leaseLost(message));
  }
}
