/** Stores how far jobs have come, folding what comes while a statement is under way. */
import { progressLeased } from "../sql/leases.ts";
import type { Row } from "../sql/driver.ts";
import type { Statement } from "../sql/sql.ts";
import type { Delivery } from "./delivery.ts";

/** What it needs of its worker. */
export interface ProgressHost {
  readonly holder: string;
  query(statement: Statement): Promise<readonly Row[]>;
}

interface Entry {
  text: string;
  readonly stored: Promise<boolean>;
  readonly settle: { resolve(isHeld: boolean): void; reject(error: unknown): void };
}

/** Stores progress: one statement at a time for all jobs of a worker, of each job only the latest. */
export class Progress {
  readonly #host: ProgressHost;
  #waiting = new Map<Delivery, Entry>();
  #isSending = false;

  constructor(host: ProgressHost) {
    this.#host = host;
  }

  /** Stores a JSON text. Resolves to false when the lease was lost. */
  store(delivery: Delivery, text: string): Promise<boolean> {
    if (delivery.state !== "running") return Promise.resolve(false);
    const waiting = this.#waiting.get(delivery);
    if (waiting !== undefined) {
      waiting.text = text;
      return waiting.stored;
    }
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    this.#waiting.set(delivery, { text, stored: promise, settle: { resolve, reject } });
    void this.#send();
    return promise;
  }

  async #send(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    while (this.#waiting.size > 0) {
      const batch = this.#waiting;
      this.#waiting = new Map();
      try {
        const items = [...batch].map(([{ message, token }, { text }]) => ({ id: message.id, token, progress: text }));
        const rows = await this.#host.query(progressLeased(items, this.#host.holder));
        const held = new Set(rows.map(([id]) => Number(id)));
        for (const [{ message }, { settle }] of batch) settle.resolve(held.has(message.id));
      } catch (error) {
        for (const { settle } of batch.values()) settle.reject(error);
      }
    }
    this.#isSending = false;
  }
}
