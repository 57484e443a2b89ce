/** What happens to messages and workers, for whoever wants to hear of it. The list for users is docs/events.md. */
import type { Message } from "./message.ts";
import { nearestOf } from "./nearest.ts";

/** The events of a store, by name. They tell of what this store's workers do; not of other processes. */
export interface StoreEvents {
  /** A handler is about to be begun. */
  readonly started: { readonly message: Message };
  /** A message has ended as succeeded; that is committed. */
  readonly completed: { readonly message: Message; readonly result: unknown };
  /** An attempt has failed and that was stored. `retryAfterMs` is null when there is no other attempt. */
  readonly failed: { readonly message: Message; readonly error: unknown; readonly retryAfterMs: number | null };
  /** A message has become a dead letter: its attempts or crashes are used up, or another attempt makes no sense. */
  readonly dead: {
    readonly message: Message;
    readonly reason: "attempts" | "crashes" | "not_retryable";
  };
  /** A message was dropped because it was not begun within its `ttlMs`. */
  readonly expired: { readonly message: Message };
  /** Somebody cancelled a message while it was handled here. */
  readonly cancelled: { readonly message: Message };
  /** The lease of a message was lost: what its handler did is dropped, and it is delivered again. */
  readonly lost: { readonly message: Message };
  /** A worker got an error of the database and goes on after a pause. */
  readonly error: { readonly worker: string; readonly error: unknown; readonly retryAfterMs: number };
  /** The event loop stood still for so long that heartbeats were late. */
  readonly lag: { readonly worker: string; readonly lagMs: number };
  /** A worker has begun. */
  readonly workerStarted: { readonly worker: string };
  /** Somebody has paused a worker: it begins nothing, and what it held and had not begun is given back. */
  readonly workerPaused: { readonly worker: string };
  /** A worker that was paused goes on. */
  readonly workerResumed: { readonly worker: string };
  /** A worker was told to stop, or has drained its queues: it begins nothing more. `running` handlers are waited for. */
  readonly workerStopping: { readonly worker: string; readonly running: number };
  /** A worker has stopped, and what its handlers have done is stored. */
  readonly workerStopped: { readonly worker: string };
}

/** The name of an event. */
export type EventName = keyof StoreEvents;

/** Hears of an event. What it throws, or rejects with, is only logged. */
export type EventListener<Name extends EventName> = (event: StoreEvents[Name]) => unknown;

/** Every name, and that no other is one: a name that is missing here does not compile. */
const NAMES: Readonly<Record<EventName, true>> = {
  cancelled: true,
  completed: true,
  dead: true,
  error: true,
  expired: true,
  failed: true,
  lag: true,
  lost: true,
  started: true,
  workerPaused: true,
  workerResumed: true,
  workerStarted: true,
  workerStopped: true,
  workerStopping: true,
};

/** Hands events to those who listen. */
export class EventHub {
  /** The lists are never changed: whoever comes or goes while an event is handed out does not disturb that. */
  readonly #listeners = new Map<EventName, readonly ((event: never) => unknown)[]>();
  readonly #onThrow: (name: EventName, error: unknown) => void;

  constructor(onThrow: (name: EventName, error: unknown) => void) {
    this.#onThrow = onThrow;
  }

  /** Whether anybody listens: an event that nobody hears need not be made. */
  has(name: EventName): boolean {
    return this.#listeners.has(name);
  }

  /** Adds a listener; the function it returns takes it away again. @throws {TypeError} */
  on<Name extends EventName>(name: Name, listener: EventListener<Name>): () => void {
    if (!Object.hasOwn(NAMES, name)) throw unknownEvent(name);
    if (typeof listener !== "function") throw new TypeError("Cannot listen: the listener must be a function");
    // The same function may listen twice, and each time is taken away by itself.
    const own = (event: never): unknown => listener(event);
    this.#listeners.set(name, [...this.#listeners.get(name) ?? [], own]);
    return () => {
      const others = (this.#listeners.get(name) ?? []).filter((other) => other !== own);
      if (others.length > 0) this.#listeners.set(name, others);
      else this.#listeners.delete(name);
    };
  }

  /** Tells all listeners. */
  emit<Name extends EventName>(name: Name, event: StoreEvents[Name]): void {
    const listeners = this.#listeners.get(name);
    if (listeners === undefined) return;
    for (const listener of listeners) {
      try {
        const returned = listener(event as never) as PromiseLike<unknown> | null | undefined;
        if (typeof returned?.then === "function") {
          Promise.resolve(returned).catch((error) => this.#onThrow(name, error));
        }
      } catch (error) {
        this.#onThrow(name, error);
      }
    }
  }
}

function unknownEvent(name: unknown): TypeError {
  const known = Object.keys(NAMES);
  const nearest = typeof name === "string" ? nearestOf(name, known) : undefined;
  const hint = nearest === undefined ? `known are ${known.join(", ")}` : `did you mean "${nearest}"?`;
  return new TypeError(`Cannot listen to an event of that name; ${hint}`);
}
