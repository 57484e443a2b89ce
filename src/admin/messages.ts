/** Live messages, seen and changed by an operator. Every change takes a lease away: its holder learns that it lost it. */
import type { CallLimits, Database } from "../database.ts";
import { type Message, toMessage } from "../message.ts";
import {
  checkDuration,
  checkInteger,
  checkName,
  checkOptions,
  checkTexts,
  idOf,
  instantOf,
  LIMITS,
} from "../options.ts";
import {
  countMessages,
  deleteMessages,
  endMessages,
  findMessage,
  listMessages,
  type MessageFilter,
  updateMessage,
} from "../sql/messages.ts";
import { decodeLive } from "../sql/record.ts";
import type { TransactionLike } from "../transaction.ts";
import { type Page, PAGE_OPTIONS, pageLimit, type PageOptions, parseCursor, toPage } from "./page.ts";
import { nameOf, type QueueName } from "./queues.ts";
import { ANY, CONTROL, ENDED } from "../wake.ts";

/** Which live messages are meant. */
export interface MessageQuery {
  /** Only those of this queue. */
  readonly queue?: QueueName;
  /** Only those in this state. */
  readonly state?: "delayed" | "leased" | "ready";
  /** Only those whose header `type` is this. */
  readonly type?: string;
  /** Only the one with this key. */
  readonly key?: string;
}

/** What an operator changes of a message. */
export interface MessageUpdate extends CallLimits {
  /** Due so many milliseconds from now. */
  readonly delayMs?: number;
  /** Due at this instant. */
  readonly at?: Date;
  /** The new priority, from 0 to 9. */
  readonly priority?: number;
}

/** Options of operations on a message by its id. */
export interface ByIdOptions extends CallLimits {
  /** Why, for the archive. @default "archived" or "cancelled" */
  readonly reason?: string;
  /** Who, for the archive. @default "operator" */
  readonly by?: string;
  /** Does it if and only if this transaction commits. */
  readonly tx?: TransactionLike;
}

const QUERY: readonly string[] = ["key", "queue", "state", "type"];
const STATES: readonly string[] = ["delayed", "leased", "ready"];

/** Administers live messages. */
export class MessageAdmin {
  readonly #database: Database;

  /** Made by the store. */
  constructor(database: Database) {
    this.#database = database;
  }

  /** Reads a live message; null when there is none of that id. */
  async get<T = unknown>(id: number, limits: CallLimits = {}): Promise<Message<T> | null> {
    checkOptions("messages.get", limits, LIMITS);
    const [row] = await this.#database.query(findMessage(idOf(id)), limits);
    return row === undefined ? null : toMessage<T>(decodeLive(row));
  }

  /** Lists live messages in the order of their ids. */
  async list<T = unknown>(options: MessageQuery & PageOptions = {}): Promise<Page<Message<T>>> {
    checkOptions("messages.list", options, [...QUERY, ...PAGE_OPTIONS]);
    const limit = pageLimit(options.limit, this.#database);
    const [afterId] = parseCursor(options.cursor, 1) ?? [];
    const rows = await this.#database.query(listMessages({ ...filterOf(options), afterId }, limit + 1), options);
    return toPage(rows.map((row) => toMessage<T>(decodeLive(row))), limit, ({ id }) => String(id));
  }

  /** Counts live messages. */
  async count(options: MessageQuery & CallLimits = {}): Promise<number> {
    checkOptions("messages.count", options, [...QUERY, ...LIMITS]);
    const [row] = await this.#database.query(countMessages(filterOf(options)), options);
    return Number(row?.[0] ?? 0);
  }

  /** Ends a message as succeeded. False: there is no live message of that id. */
  async archive(id: number, options: ByIdOptions = {}): Promise<boolean> {
    return await this.#end(id, "succeeded", "archived", options);
  }

  /** Ends a message as cancelled. False: there is no live message of that id. */
  async cancel(id: number, options: ByIdOptions = {}): Promise<boolean> {
    return await this.#end(id, "cancelled", "cancelled", options);
  }

  /** Deletes a message without a trace. False: there is no live message of that id. */
  async delete(id: number, options: Omit<ByIdOptions, "by" | "reason"> = {}): Promise<boolean> {
    checkOptions("messages.delete", options, [...LIMITS, "tx"]);
    return (await this.#database.query(deleteMessages([idOf(id)]), { ...options, hints: [CONTROL, ENDED] })).length > 0;
  }

  /** Makes a message ready, whoever has it. Null: there is no live message of that id. */
  async release<T = unknown>(
    id: number,
    options: CallLimits & { readonly delayMs?: number } = {},
  ): Promise<Message<T> | null> {
    checkOptions("messages.release", options, [...LIMITS, "delayMs"]);
    const { delayMs = 0, ...limits } = options;
    return await this.update<T>(id, { delayMs, ...limits });
  }

  /** Changes due time and priority. Null: there is no live message of that id. */
  async update<T = unknown>(id: number, options: MessageUpdate): Promise<Message<T> | null> {
    checkOptions("messages.update", options, [...LIMITS, "at", "delayMs", "priority"]);
    const { at, delayMs, priority, ...limits } = options;
    if (at !== undefined && delayMs !== undefined) throw new TypeError("Cannot use delayMs and at together");
    if (delayMs !== undefined) checkDuration("delayMs", delayMs);
    if (priority !== undefined) checkInteger("priority", priority, 0, 9);
    const dueAt = at === undefined ? undefined : instantOf("at", at);
    const change = updateMessage(idOf(id), { dueAt, delayMs, priority });
    // Whoever had it shall know, and whoever waits for the queue may take it.
    const [row] = await this.#database.query(change, { ...limits, hints: [CONTROL, ANY] });
    return row === undefined ? null : toMessage<T>(decodeLive(row));
  }

  async #end(id: number, outcome: "cancelled" | "succeeded", why: string, options: ByIdOptions): Promise<boolean> {
    checkOptions(`messages.${outcome === "cancelled" ? "cancel" : "archive"}`, options, [
      ...LIMITS,
      "by",
      "reason",
      "tx",
    ]);
    const { reason = why, by = "operator", ...limits } = options;
    checkName("reason", reason, 1_000);
    checkName("by", by, 200);
    const end = endMessages([idOf(id)], { outcome, reason, by });
    return (await this.#database.query(end, { ...limits, hints: [CONTROL, ENDED] })).length > 0;
  }
}

function filterOf({ queue, state, type, key }: MessageQuery): MessageFilter {
  if (state !== undefined && !STATES.includes(state)) {
    throw new TypeError(`Cannot use state: it must be one of ${STATES.join(", ")}`);
  }
  checkTexts({ type, key });
  return { queue: queue === undefined ? undefined : nameOf(queue), state, type, key };
}
