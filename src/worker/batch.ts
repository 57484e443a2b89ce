/** The messages of one handler of batches, and what it said of each. */
import type { BatchContext, BatchHandler } from "../job.ts";
import type { Message } from "../message.ts";
import type { Delivery } from "./delivery.ts";

/** Where the outcomes of a batch go. */
export interface BatchEnds {
  succeed(delivery: Delivery, result: unknown): void;
  fail(delivery: Delivery, error: unknown): void;
}

/** One call of a handler of batches. */
export class Batch implements BatchContext {
  readonly worker: string;
  readonly #deliveries: readonly Delivery[];
  readonly #ends: BatchEnds;
  readonly #outcomes = new Map<Message, (delivery: Delivery) => void>();
  #signal: AbortSignal | undefined;
  /** How many of the messages are still being handled. */
  left: number;

  constructor(deliveries: readonly Delivery[], worker: string, ends: BatchEnds) {
    this.worker = worker;
    this.#deliveries = deliveries;
    this.#ends = ends;
    this.left = deliveries.length;
  }

  get message(): Message {
    return (this.#deliveries[0] as Delivery).message;
  }

  /** Aborted as soon as one message of the batch is of no use any more. */
  get signal(): AbortSignal {
    return this.#signal ??= AbortSignal.any(this.#deliveries.map(({ signal }) => signal));
  }

  get archive(): BatchContext["archive"] {
    return (message, result) => this.#note(message, (delivery) => this.#ends.succeed(delivery, result));
  }

  get fail(): BatchContext["fail"] {
    return (message, error) => this.#note(message, (delivery) => this.#ends.fail(delivery, error));
  }

  /** Whether the handler has said what became of a message. */
  hasSaid({ message }: Delivery): boolean {
    return this.#outcomes.has(message);
  }

  /** Hands on what the handler has said of a message, before it has ended. */
  settle(delivery: Delivery): void {
    this.#outcomes.get(delivery.message)?.(delivery);
  }

  /** Runs the handler and hands on what became of each message. */
  async run(handler: BatchHandler): Promise<void> {
    let otherwise = (delivery: Delivery): void => this.#ends.succeed(delivery, undefined);
    try {
      await handler(this.#deliveries.map(({ message }) => message), this);
    } catch (error) {
      otherwise = (delivery) => this.#ends.fail(delivery, error);
    }
    for (const delivery of this.#deliveries) (this.#outcomes.get(delivery.message) ?? otherwise)(delivery);
  }

  #note(message: Message, outcome: (delivery: Delivery) => void): void {
    if (!this.#deliveries.some((delivery) => delivery.message === message)) {
      throw new TypeError("Cannot settle the message: it does not belong to this batch");
    }
    this.#outcomes.set(message, outcome);
  }
}
