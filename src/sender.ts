/** Sends what producers have checked: a list in a statement of its own, single messages together with others that come meanwhile. */
import type { Combination } from "./combine.ts";
import { type Database, type QueryLimits, unknownQueue } from "./database.ts";
import { DatabaseError, StateError } from "./errors.ts";
import { type EnqueueItem, enqueueMessages, findRefusal } from "./sql/enqueue.ts";
import { decodeEnqueued, type Enqueued, lacksQueue, type Refused } from "./sql/enqueued.ts";
import type { Row } from "./sql/driver.ts";
import type { Statement } from "./sql/sql.ts";
import { type Hint, hintOf } from "./wake.ts";

/** A payload and its options, checked and encoded. */
export interface Encoded {
  readonly text: string;
  readonly item: EnqueueItem;
  readonly atMs: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
}

/** What was sent, and what came of it. With equal keys that is what another call has sent. */
export interface Stored {
  readonly encoded: Encoded;
  readonly enqueued: Enqueued;
}

/** How a message is to be sent. */
export interface SendLimits extends QueryLimits {
  /** Whether those who wait for messages get a hint. */
  readonly notify: boolean;
}

/** A message on its way. */
interface Outgoing {
  readonly encoded: Encoded;
  readonly notify: boolean;
}

/** From how many messages on a list is too long to stand in the way of short statements. */
const LONG_LIST = 500;
/** How long messages with keys wait for a key together that an open transaction holds. */
const PATIENCE_MS = 500;

/** Sends messages to one queue. */
export class Sender {
  readonly #database: Database;
  readonly #queue: string;
  readonly #hints: readonly Hint[];
  /** The lanes and what makes them. Messages with keys have their own, because a key may be held by an open transaction. */
  readonly #plain: readonly [string, Combination<Outgoing, Stored>];
  readonly #keyed: readonly [string, Combination<Outgoing, Stored>];

  constructor(database: Database, queue: string) {
    this.#database = database;
    this.#queue = queue;
    this.#hints = [hintOf(queue)];
    this.#plain = [`enqueue\0${queue}`, this.#kind(false)];
    this.#keyed = [`enqueue with a key\0${queue}`, this.#kind(true)];
  }

  /** Sends one message: in the transaction that is given, else with those of others. */
  async one(encoded: Encoded, limits: SendLimits): Promise<Stored> {
    const hasKey = encoded.item.key !== undefined;
    if (limits.tx !== undefined) {
      const [enqueued] = await this.all([encoded.text], hasKey ? [encoded.item] : encoded.item, limits);
      return { encoded, enqueued: enqueued as Enqueued };
    }
    const [lane, kind] = hasKey ? this.#keyed : this.#plain;
    return await this.#database.combine(lane, kind, { encoded, notify: limits.notify }, limits);
  }

  /** Sends a list, all or none. */
  async all(
    texts: readonly string[],
    items: EnqueueItem | readonly EnqueueItem[],
    limits: SendLimits,
  ): Promise<Enqueued[]> {
    const statement = enqueueMessages(this.#queue, texts, items, this.#hintText(limits));
    // A key may be held by an open transaction. Whoever waits for it must not stand in the way of short statements.
    const isLong = texts.length >= LONG_LIST || Array.isArray(items);
    let answer: ReturnType<typeof decodeEnqueued>;
    try {
      answer = decodeEnqueued(await this.#query(statement, { ...limits, isLong }), texts.length);
    } catch (error) {
      if (lacksQueue(error)) throw unknownQueue(this.#queue);
      // SQLite, and Postgres a large list, refuse by violating a constraint; which key it was is asked afterwards.
      const list = Array.isArray(items) ? items as readonly EnqueueItem[] : [];
      const isRefusal = error instanceof DatabaseError && error.reason === "constraint" &&
        list.some(({ key }) => key !== undefined);
      if (!isRefusal) throw error;
      answer = await this.#explainRefusal(list, limits);
      if (answer === undefined) throw error;
    }
    if (answer === undefined) throw unknownQueue(this.#queue);
    if (!Array.isArray(answer)) throw refusal(this.#queue, answer);
    return answer as Enqueued[];
  }

  #kind(hasKey: boolean): Combination<Outgoing, Stored> {
    const { driver, target } = this.#database;
    const kind: Combination<Outgoing, Stored> = {
      statement: "enqueueMessages",
      isSynchronous: driver.isSynchronous === true,
      lengthOf: ({ encoded: { text, item } }) => text.length + (item.headers?.length ?? 0),
      send: (list, limits) => this.#together(list, hasKey, limits),
    };
    if (!hasKey) return kind;
    return {
      ...kind,
      patienceMs: target.dialect.name === "postgres" ? PATIENCE_MS : undefined,
      keysOf: ({ encoded }) => [encoded.item.key as string],
      isSame: (earlier, later) => isSame(earlier.encoded.item, later.encoded.item),
    };
  }

  /** Sends messages of several calls in one statement, each of which is stored or refused by itself. */
  async #together(
    list: readonly Outgoing[],
    hasKeys: boolean,
    limits: QueryLimits & { readonly patienceMs?: number | undefined },
  ): Promise<(Error | Stored)[]> {
    const texts = list.map(({ encoded }) => encoded.text);
    const items = list.map(({ encoded: { item } }) => hasKeys ? { ...item, is_alone: 1 as const } : item);
    const [first = {}] = items;
    const options = hasKeys || items.some((item) => !isAlike(first, item)) ? items : first;
    const { signal, deadline, patienceMs } = limits;
    const notify = list.some(({ notify }) => notify);
    const statement = enqueueMessages(this.#queue, texts, options, this.#hintText({ notify }), patienceMs);
    const rows = await this.#query(statement, {
      signal,
      deadline,
      notify,
      isLong: hasKeys,
      isImpatient: patienceMs !== undefined,
      isLetIn: true,
    });
    const answers = decodeEnqueued(rows, list.length);
    if (!Array.isArray(answers)) throw unknownQueue(this.#queue);
    return answers.map((answer, i) =>
      "reason" in answer
        ? refusal(this.#queue, { ...answer, index: 0 })
        : { encoded: (list[i] as Outgoing).encoded, enqueued: answer }
    );
  }

  #query(statement: Statement, { notify, ...limits }: SendLimits): Promise<readonly Row[]> {
    return this.#database.query(statement, { ...limits, hints: notify ? this.#hints : [] });
  }

  #hintText({ notify, tx }: Pick<SendLimits, "notify" | "tx">): string | null {
    return notify ? this.#database.hintText(this.#hints[0] as Hint, tx) : null;
  }

  async #explainRefusal(items: readonly EnqueueItem[], { tx, isLetIn }: SendLimits): Promise<Refused | undefined> {
    const [row] = await this.#database.query(findRefusal(this.#queue, items), { tx, isLetIn });
    if (row === undefined) return undefined;
    return { index: Number(row[0]) - 1, id: Number(row[1]), reason: Number(row[2]) === 1 ? "taken" : "payload" };
  }
}

/** Whether all that is said of two messages is the same. */
function isAlike(one: EnqueueItem, other: EnqueueItem): boolean {
  if (one === other) return true;
  for (const name of Object.keys(one) as (keyof EnqueueItem)[]) if (one[name] !== other[name]) return false;
  return true;
}

/** Whether the later of two messages with one key gets the message that the earlier one makes or finds. */
function isSame(earlier: EnqueueItem, later: EnqueueItem): boolean {
  return earlier.hash === later.hash && earlier.conflict === "existing" && later.conflict === "existing";
}

function refusal(queue: string, { index, id, reason }: Refused): StateError {
  const why = reason === "taken" ? `belongs to message ${id}` : `belongs to message ${id} with another payload`;
  return new StateError(`Cannot enqueue to ${JSON.stringify(queue)}: the key of item ${index} ${why}`, {
    from: "taken",
    to: "enqueued",
  });
}
