/** What a handler is given beside its message. */
import type { Database } from "../database.ts";
import { DatabaseError, LeaseLostError, StateError } from "../errors.ts";
import type { JobContext } from "../job.ts";
import { encodeJson } from "../json.ts";
import type { Message } from "../message.ts";
import { checkOptions, checkTimeout } from "../options.ts";
import type { Recorder } from "../run/recorder.ts";
import { archiveLeased } from "../sql/leases.ts";
import type { Transaction } from "../transaction.ts";
import type { Delivery } from "./delivery.ts";

/** What a context needs of the worker. */
export interface ContextHost {
  readonly name: string;
  readonly holder: string;
  readonly database: Database;
  /** Writes for runs. */
  readonly recorder: Recorder;
  /** Whether nothing is to be begun any more. */
  readonly isStopping: boolean;
  /** Tells whether the event loop stood still: before anything is written, leases that may have ended are given up. */
  catchUp(): void;
  /** Stores how far a message has come. */
  progress(delivery: Delivery, value: unknown): Promise<boolean>;
}

/**
 * The context of a handler. A class, because one is made for every delivery and an object of closures costs more; its
 * functions are made when they are asked for, so that a handler may take the context apart.
 */
export class DeliveryContext<T> implements JobContext<T> {
  readonly #delivery: Delivery<T>;
  readonly #host: ContextHost;

  constructor(delivery: Delivery<T>, host: ContextHost) {
    this.#delivery = delivery;
    this.#host = host;
  }

  /** The delivery behind a context, and its worker: what a run is executed with. */
  static internalsOf(context: JobContext): { readonly delivery: Delivery; readonly host: ContextHost } {
    if (!(context instanceof DeliveryContext)) throw new TypeError("Cannot execute a run: a worker has to do it");
    return { delivery: context.#delivery, host: context.#host };
  }

  get message(): Message<T> {
    return this.#delivery.message;
  }

  get attempt(): number {
    return this.#delivery.message.attempts + 1;
  }

  get worker(): string {
    return this.#host.name;
  }

  get signal(): AbortSignal {
    return this.#delivery.signal;
  }

  get progress(): JobContext<T>["progress"] {
    return (value) => {
      this.#host.catchUp();
      const stored = this.#host.progress(this.#delivery, value);
      // Most handlers do not wait for it; for these an error must not end the process.
      stored.catch(() => {});
      return stored;
    };
  }

  get transaction(): JobContext<T>["transaction"] {
    return (work, options) => transact(this.#delivery, this.#host, work, options);
  }
}

/** Runs the user's work and ends the message, in one transaction. */
async function transact<R>(
  delivery: Delivery,
  host: ContextHost,
  work: (tx: Transaction) => Promise<R>,
  options: { readonly timeoutMs?: number } = {},
): Promise<R> {
  checkOptions("transaction", options, ["timeoutMs"]);
  const { database, holder, name } = host;
  const { timeoutMs = database.transactionMs } = options;
  checkTimeout("timeoutMs", timeoutMs);
  host.catchUp();
  const { message, token, signal } = delivery;
  if (delivery.isSettled) throw new StateError(`Cannot end message ${message.id} twice: a transaction has ended it`);
  if (delivery.state !== "running") throw abortedBy(signal) ?? nothingChanged(message);
  delivery.transactions++;
  try {
    const value = await database.transaction(async (tx) => {
      const result = await work(tx);
      const text = result === undefined ? null : encodeJson(result, { what: "result" });
      const items = [{ id: message.id, token, reason: null, result: text }];
      const rows = await database.query(archiveLeased(items, holder, name), { tx });
      if (rows.length === 0) throw nothingChanged(message);
      return delivery.value = result;
    }, { timeoutMs, signal, isLetIn: true });
    delivery.isSettled = true;
    return value;
  } catch (error) {
    if (error instanceof DatabaseError && error.outcome === "unknown") delivery.isInDoubt = true;
    // The lease was lost, the time is over, or somebody has cancelled: that is why the transaction was.
    if (error instanceof DatabaseError && error.reason === "aborted") throw abortedBy(signal) ?? error;
    throw error;
  } finally {
    delivery.transactions--;
  }
}

function abortedBy(signal: AbortSignal): unknown {
  return signal.aborted ? signal.reason : undefined;
}

function nothingChanged({ id }: Message): LeaseLostError {
  return new LeaseLostError(`Lease of message ${id} was lost: nothing was changed`);
}
