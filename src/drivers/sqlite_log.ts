/**
 * The write-ahead log of a file while a large list is stored. A commit waits for the disk until everything the
 * transaction wrote is there, and every so often it copies the log into the database; SQLite does both on the event loop.
 * For a large list the waiting is done beforehand by the runtime's file threads, and the copying by a thread of its own.
 */
import type { CallOptions } from "../sql/driver.ts";
import { unsent } from "./failure.ts";
import type { SqliteClient } from "./sqlite.ts";
import { endWithin } from "./transaction.ts";

/** From how many characters of values on a transaction is large: the commit of a smaller one is short enough. */
const LARGE_CHARACTERS = 400_000;
/** After how many pages in the log SQLite copies it by itself: its own default. */
const LOG_PAGES = 1_000;

/** Keeps large transactions of one connection from waiting for the disk on the event loop. */
export class WriteAheadLog {
  readonly #path: string;
  readonly #client: SqliteClient;
  /** How much the open transaction has written; nothing while none is open. */
  #characters = 0;
  #isOpen = false;
  /** Whether the open transaction began while the log was copied, so that the log does not begin anew with it. */
  #isLate = false;
  /** Whether a large transaction was late: the next one has to let the copying come to its end. */
  #isBehind = false;
  #isHeld = false;
  #thread: CopyThread | undefined;
  #copying: Promise<void> | undefined;

  /** The path has to be absolute: the working directory of the process may be another one by the time it is used. */
  constructor(path: string, client: SqliteClient) {
    this.#path = path;
    this.#client = client;
  }

  /** Resolves when a transaction may begin: at once, unless large ones follow so closely that the log only grows. */
  async wait(statement: string, limits: CallOptions): Promise<void> {
    if (!this.#isBehind || this.#copying === undefined) return;
    await endWithin(this.#copying, limits, (reason) => unsent(statement, reason, "the log is being copied"));
  }

  /** Told when a transaction has begun. */
  begin(): void {
    this.#isOpen = true;
    this.#isLate = this.#copying !== undefined;
  }

  /** Told what a statement writes. From a certain size on, the commit of the transaction leaves everything in the log. */
  count(values: readonly unknown[]): void {
    if (!this.#isOpen || this.#isLarge) return;
    for (const value of values) this.#characters += typeof value === "string" ? value.length : 0;
    if (!this.#isLarge || this.#isHeld) return;
    this.#isHeld = true;
    this.#client.exec("pragma wal_autocheckpoint = 0");
  }

  /** Waits for the disk before the commit of a large transaction. */
  async sync(): Promise<void> {
    if (!this.#isLarge) return;
    // To begin a thread takes its time too, so it is done while the event loop is idle anyway.
    this.#thread ??= await startThread(this.#path);
    try {
      const { open } = await import("node:fs/promises");
      const log = await open(`${this.#path}-wal`, "r+");
      try {
        await log.datasync();
      } finally {
        await log.close();
      }
    } catch {
      // The commit waits for the disk itself, so this only makes it shorter.
    }
  }

  /** Told when the transaction has ended. After a large one the log is copied, and until then by no commit. */
  end(): void {
    if (this.#isLarge) this.#isBehind = this.#isLate;
    this.#isOpen = false;
    this.#characters = 0;
    if (this.#isHeld) this.#copying ??= this.#copy();
  }

  /** Copies until nothing of a large transaction is left, except of one that is open: its own end goes on from here. */
  async #copy(): Promise<void> {
    do {
      const thread = this.#thread;
      this.#thread = undefined;
      await thread?.copy();
    } while (this.#thread !== undefined && !this.#isLarge);
    this.#copying = undefined;
    if (this.#isLarge) return;
    this.#isHeld = false;
    this.#client.exec(`pragma wal_autocheckpoint = ${LOG_PAGES}`);
  }

  get #isLarge(): boolean {
    return this.#characters >= LARGE_CHARACTERS;
  }

  /** Resolves when nothing is being copied. */
  async close(): Promise<void> {
    await this.#copying;
  }
}

/** A thread that copies the log once, when it is told to. */
interface CopyThread {
  /** Resolves when the thread has ended, whatever came of it: what is not copied now is copied by a later commit. */
  copy(): Promise<void>;
}

const COPY = `
(async () => {
  const { existsSync } = await import("node:fs");
  const { DatabaseSync } = await import("node:sqlite");
  const { parentPort, workerData } = await import("node:worker_threads");
  parentPort.on("message", () => {
    try {
      // To open a file that is gone would make an empty one that everybody may read.
      if (!existsSync(workerData)) return;
      const client = new DatabaseSync(workerData);
      client.exec("pragma busy_timeout = 0; pragma wal_checkpoint(passive)");
      client.close();
    } finally {
      parentPort.postMessage(null);
    }
  });
})();
`;

async function startThread(path: string): Promise<CopyThread | undefined> {
  try {
    const { Worker } = await import("node:worker_threads");
    const thread = new Worker(COPY, { eval: true, workerData: path });
    const ended = new Promise<void>((resolve) => {
      for (const event of ["message", "error", "exit"]) thread.on(event, () => resolve());
    });
    return {
      copy: async () => {
        thread.postMessage(null);
        await ended;
        await thread.terminate();
      },
    };
  } catch {
    // Where no thread can be had, the next commit copies.
    return undefined;
  }
}
