/**
 * The queue as a few lines of plain TypeScript over a list: what every database has to agree with.
 *
 * @module
 */

/** Puts a message on the queue. */
export interface EnqueueCommand {
  readonly kind: "enqueue";
  readonly n: number;
  readonly delayMs: number;
  readonly priority: number;
}

/** Puts a message on the queue under a key. */
export interface KeyedCommand {
  readonly kind: "enqueueKeyed";
  readonly n: number;
  readonly delayMs: number;
  readonly key: string;
  readonly onConflict: "existing" | "reject" | "replace";
  readonly until: number | "finished" | "started" | undefined;
}

/** Takes messages. */
export interface DequeueCommand {
  readonly kind: "dequeue";
  readonly consumer: number;
  readonly limit: number;
  readonly leaseMs: number;
}

/** What a consumer does with a delivery. Places (`at`) are counted from the last one that there is. */
export type SettleCommand =
  | { readonly kind: "archive"; readonly at: number }
  | { readonly kind: "delete"; readonly at: number }
  | { readonly kind: "extend"; readonly at: number; readonly ms: number }
  | { readonly kind: "fail"; readonly at: number; readonly ms: number; readonly retry: boolean }
  | { readonly kind: "release"; readonly at: number; readonly ms: number };

/** What an operator does with any message. */
export type OperateCommand =
  | { readonly kind: "cancel"; readonly at: number }
  | { readonly kind: "remove"; readonly at: number }
  | { readonly kind: "replay"; readonly at: number }
  | {
    readonly kind: "update";
    readonly at: number;
    readonly delayMs: number | undefined;
    readonly priority: number | undefined;
  };

/** One thing that is done to the queue. */
export type Command =
  | DequeueCommand
  | EnqueueCommand
  | KeyedCommand
  | OperateCommand
  | SettleCommand
  | { readonly kind: "advance"; readonly ms: number }
  | { readonly kind: "crash"; readonly consumer: number }
  | { readonly kind: "pause" }
  | { readonly kind: "resume" };

/** What can be seen of a message. */
export interface ModelMessage {
  readonly index: number;
  payload: number;
  priority: number;
  key: string | null;
  state: "ready" | "leased" | "succeeded" | "failed" | "cancelled" | "deleted";
  dueAt: number;
  enqueuedAt: number;
  token: number;
  holder: number | null;
  leasedAt: number;
  leaseUntil: number;
  attempts: number;
  crashes: number;
  isErroneous: boolean;
  reason: string | null;
  archivedAt: number;
  archivedBy: string | null;
  processingMs: number | null;
}

/** A message in somebody's hands, perhaps no longer rightly. */
export interface ModelDelivery {
  readonly index: number;
  readonly token: number;
  readonly consumer: number;
}

interface ModelKey {
  message: ModelMessage;
  payload: number;
  hold: number | "finished" | "started" | undefined;
  expiresAt: number;
}

/** The limits of the queue under test: small, so that they are reached. */
export const LIMITS = { maxAttempts: 2, maxCrashes: 2 } as const;
const DAY_MS = 86_400_000;

/** The queue. */
export class QueueModel {
  readonly messages: ModelMessage[] = [];
  deliveries: ModelDelivery[] = [];
  now: number;
  readonly #keys = new Map<string, ModelKey>();
  #isPaused = false;

  constructor(now: number) {
    this.now = now;
  }

  /** Does what a command says and tells what its call has to resolve to. */
  run(command: Command): unknown {
    switch (command.kind) {
      case "enqueue":
        return this.#insert(command.n, command.delayMs, command.priority, null).index;
      case "enqueueKeyed":
        return this.#enqueueKeyed(command);
      case "dequeue":
        return this.#dequeue(command);
      case "archive":
      case "delete":
      case "release":
      case "extend":
      case "fail":
        return this.#settle(command);
      case "cancel":
      case "remove":
      case "replay":
      case "update":
        return this.#operate(command);
      case "advance":
        this.now += command.ms;
        return null;
      case "crash":
        this.deliveries = this.deliveries.filter(({ consumer }) => consumer !== command.consumer);
        return null;
      case "pause":
      case "resume":
        this.#isPaused = command.kind === "pause";
        return null;
    }
  }

  /** Everything that can be seen, in the order of the ids. */
  seen(): unknown[] {
    return this.messages.filter(({ state }) => state !== "deleted").map((message) => this.see(message));
  }

  /** What can be seen of one message. */
  see(message: ModelMessage): unknown {
    const { index, payload, priority, key, attempts, crashes, enqueuedAt, isErroneous, state } = message;
    const common = { index, payload, priority, key, attempts, crashes, enqueuedAt, isErroneous };
    if (state === "ready") {
      return { ...common, state: message.dueAt > this.now ? "delayed" : state, dueAt: message.dueAt };
    }
    if (state === "leased") {
      return { ...common, state, dueAt: message.dueAt, leaseUntil: message.leaseUntil, worker: `c${message.holder}` };
    }
    const { reason, archivedAt, archivedBy, processingMs } = message;
    return { ...common, state, reason, archivedAt, archivedBy, processingMs };
  }

  #insert(payload: number, delayMs: number, priority: number, key: string | null): ModelMessage {
    const message: ModelMessage = {
      index: this.messages.length,
      payload,
      priority,
      key,
      state: "ready",
      dueAt: this.now + delayMs,
      enqueuedAt: this.now,
      token: 0,
      holder: null,
      leasedAt: 0,
      leaseUntil: 0,
      attempts: 0,
      crashes: 0,
      isErroneous: false,
      reason: null,
      archivedAt: 0,
      archivedBy: null,
      processingMs: null,
    };
    this.messages.push(message);
    return message;
  }

  #enqueueKeyed({ n, delayMs, key, onConflict, until }: KeyedCommand): unknown {
    const known = this.#keys.get(key);
    if (known === undefined || !this.#counts(known)) {
      const message = this.#insert(n, delayMs, 0, key);
      const expiresAt = this.now + (typeof until === "number" ? until : DAY_MS);
      this.#keys.set(key, { message, payload: n, hold: until, expiresAt });
      return message.index;
    }
    if (onConflict === "reject") return "refused";
    if (onConflict === "replace" && known.message.state === "ready") {
      Object.assign(known.message, { payload: n, priority: 0, dueAt: this.now + delayMs });
      known.payload = n;
      return known.message.index;
    }
    return known.payload === n ? known.message.index : "refused";
  }

  #counts({ message, hold, expiresAt }: ModelKey): boolean {
    const isLive = message.state === "ready" || message.state === "leased";
    if (hold === "started") return isLive && message.token === 0;
    if (hold === "finished") return isLive;
    return expiresAt > this.now || (hold === undefined && isLive);
  }

  #dequeue({ consumer, limit, leaseMs }: DequeueCommand): unknown {
    for (const message of this.messages) {
      if (message.state !== "leased" || message.leaseUntil > this.now) continue;
      message.crashes++;
      if (message.crashes >= LIMITS.maxCrashes) this.#end(message, "failed", "crashes", `c${message.holder}`);
      else this.#giveBack(message, message.leaseUntil);
    }
    if (this.#isPaused) return [];
    const due = this.messages.filter(({ state, dueAt }) => state === "ready" && dueAt <= this.now);
    due.sort((a, b) => b.priority - a.priority || a.dueAt - b.dueAt || a.index - b.index);
    return due.slice(0, limit).map((message) => {
      Object.assign(message, { state: "leased", holder: consumer, leasedAt: this.now });
      message.token++;
      message.leaseUntil = this.now + leaseMs;
      this.deliveries.push({ index: message.index, token: message.token, consumer });
      return this.see(message);
    });
  }

  #settle(command: SettleCommand): unknown {
    const delivery = pick(this.deliveries, command.at);
    if (delivery === undefined) return null;
    const message = this.messages[delivery.index] as ModelMessage;
    const by = `c${delivery.consumer}`;
    if (message.state !== "leased" || message.token !== delivery.token) return false;
    if (command.kind === "archive") this.#end(message, "succeeded", "done", by);
    else if (command.kind === "delete") message.state = "deleted";
    else if (command.kind === "release") this.#giveBack(message, this.now + command.ms);
    else if (command.kind === "extend") message.leaseUntil = Math.max(message.leaseUntil, this.now + command.ms);
    else {
      message.attempts++;
      message.isErroneous = true;
      const isLast = message.attempts >= LIMITS.maxAttempts;
      if (isLast || !command.retry) this.#end(message, "failed", isLast ? "attempts" : "not_retryable", by);
      else this.#giveBack(message, this.now + command.ms);
    }
    return true;
  }

  #operate(command: OperateCommand): unknown {
    const message = pick(this.messages, command.at);
    if (message === undefined) return null;
    const isLive = message.state === "ready" || message.state === "leased";
    if (command.kind === "replay") {
      if (isLive || message.state === "deleted") return false;
      this.#giveBack(message, this.now);
      Object.assign(message, { attempts: 0, crashes: 0 });
      return true;
    }
    if (!isLive) return false;
    if (command.kind === "cancel") this.#end(message, "cancelled", "cancelled", "operator");
    else if (command.kind === "remove") message.state = "deleted";
    else {
      const { delayMs, priority } = command;
      const kept = message.state === "leased" ? this.now : message.dueAt;
      const dueAt = delayMs === undefined ? kept : this.now + delayMs;
      // Only a lease that is taken away is a delivery that has ended.
      if (message.state === "leased") this.#giveBack(message, dueAt);
      else message.dueAt = dueAt;
      message.priority = priority ?? message.priority;
    }
    return true;
  }

  #giveBack(message: ModelMessage, dueAt: number): void {
    Object.assign(message, { state: "ready", dueAt, holder: null });
    message.token++;
  }

  #end(message: ModelMessage, state: "cancelled" | "failed" | "succeeded", reason: string, by: string): void {
    const processingMs = message.state === "leased" ? this.now - message.leasedAt : null;
    Object.assign(message, { state, reason, archivedAt: this.now, archivedBy: by, processingMs });
  }
}

/** The element at a place, counted from the last to the first and round and round. */
export function pick<T>(list: readonly T[], at: number): T | undefined {
  return list[list.length - 1 - (at % Math.max(list.length, 1))];
}
