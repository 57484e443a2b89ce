/** How messages are settled: those of one holder in one statement, and together with what else it settles meanwhile. */
import { BATCH, type Combination } from "./combine.ts";
import { type Database, partlyApplied, type QueryLimits } from "./database.ts";
import { leaseOf, type Message } from "./message.ts";
import { idOf } from "./options.ts";
import type { SettleItem } from "./sql/leases.ts";
import { sequence, type Statement } from "./sql/sql.ts";
import type { Hint } from "./wake.ts";

/** A message, or the id of one that the consumer has leased. */
export type Leased = Message<unknown> | number;

/** A way to settle messages. */
export interface Settling<Item extends SettleItem> {
  /** The name of the statement: what has the same may leave together. */
  readonly statement: string;
  /** What those who wait in this process are told. */
  readonly hints?: readonly Hint[];
  /** Adds what is said of a message. */
  readonly toItem: (item: SettleItem) => Item;
  readonly toStatement: (items: readonly Item[], holder: string, patienceMs?: number) => Statement;
}

/** How long messages wait together for one that somebody has locked. */
const PATIENCE_MS = 500;
/** About how much text an item has beside what is said of it. */
const ITEM_LENGTH = 64;

/** Settles for one consumer. */
export class Settler {
  readonly #database: Database;
  /** What the consumer's statements differ by from those of others. */
  readonly #scope: string;
  readonly #holder: string;

  constructor(database: Database, scope: string, holder: string) {
    this.#database = database;
    this.#scope = scope;
    this.#holder = holder;
  }

  /** Settles messages of one or several holders, and puts the answers in the order of the messages. */
  async settle<Item extends SettleItem>(
    messages: readonly Leased[],
    options: QueryLimits,
    settling: Settling<Item>,
  ): Promise<boolean[]> {
    const ids = messages.map(idOfLeased);
    const batches: Batch[] = [];
    const places = messages.map((message, i) => placeIn(batches, message, ids[i] as number, this.#holder));
    await this.#database.call(options, async (call) => {
      for (const [i, { holder, items, held }] of batches.entries()) {
        const list = [...items.values()].map(settling.toItem);
        const isCombined = call.tx === undefined && list.length <= BATCH.items;
        const sent = isCombined
          ? this.#together(list, holder, call, settling)
          : this.#alone(list, holder, call, settling);
        const settled = await sent.catch((error) => {
          throw i === 0 ? error : partlyApplied(error);
        });
        for (const id of items.keys()) if (settled.has(id)) held.add(id);
      }
    });
    return places.map(({ held }, i) => held.has(ids[i] as number));
  }

  /** Settles a list in a statement of its own. */
  async #alone<Item extends SettleItem>(
    list: readonly Item[],
    holder: string,
    call: QueryLimits,
    { hints = [], toStatement }: Settling<Item>,
  ): Promise<ReadonlySet<number>> {
    const { listLimit } = this.#database.target.dialect;
    const statement = inStretches(list, listLimit, (chunk) => toStatement(chunk, holder));
    return idsOf(await this.#database.query(statement, { ...call, hints }));
  }

  /** Settles a list together with others, unless they name the same message: each has an answer of its own. */
  #together<Item extends SettleItem>(
    list: readonly Item[],
    holder: string,
    call: QueryLimits,
    { statement, hints = [], toStatement }: Settling<Item>,
  ): Promise<ReadonlySet<number>> {
    const { driver, target } = this.#database;
    const kind: Combination<readonly Item[], ReadonlySet<number>> = {
      statement,
      isSynchronous: driver.isSynchronous === true,
      patienceMs: target.dialect.name === "postgres" ? PATIENCE_MS : undefined,
      countOf: (items) => items.length,
      lengthOf,
      keysOf: (items) => items.map(({ id }) => id),
      send: async (lists, { signal, deadline, patienceMs }) => {
        const limits = { signal, deadline, hints, isLetIn: true, isImpatient: patienceMs !== undefined };
        const rows = await this.#database.query(toStatement(lists.flat(), holder, patienceMs), limits);
        const settled = idsOf(rows);
        return lists.map(() => settled);
      },
    };
    return this.#database.combine([statement, this.#scope, holder].join("\0"), kind, list, call);
  }
}

/** How much text a list has. */
function lengthOf(items: readonly SettleItem[]): number {
  let length = items.length * ITEM_LENGTH;
  for (const item of items) {
    for (const value of Object.values(item)) if (typeof value === "string") length += value.length;
  }
  return length;
}

function idsOf(rows: readonly (readonly unknown[])[]): ReadonlySet<number> {
  return new Set(rows.map(([id]) => Number(id)));
}

/** One atomic statement for a list, in parts that a synchronous database executes without holding the event loop. */
function inStretches<Item>(
  items: readonly Item[],
  limit: number,
  toStatement: (chunk: readonly Item[]) => Statement,
): Statement {
  const statements: [Statement, ...Statement[]] = [toStatement(items.slice(0, limit))];
  for (let i = limit; i < items.length; i += limit) statements.push(toStatement(items.slice(i, i + limit)));
  return sequence(statements);
}

/** What one statement settles: the messages of one holder, each id once. */
interface Batch {
  readonly holder: string;
  readonly items: Map<number, SettleItem>;
  readonly held: Set<number>;
}

/** The batch for a message. A list may name one twice, and even two deliveries of it, of which at most one holds. */
function placeIn(batches: Batch[], message: Leased, id: number, ownHolder: string): Batch {
  const { holder, token } = (typeof message === "number" ? undefined : leaseOf(message)) ??
    { holder: ownHolder, token: null };
  let batch = batches.find(({ holder: other, items }) =>
    other === holder && (!items.has(id) || items.get(id)?.token === token)
  );
  if (batch === undefined) batches.push(batch = { holder, items: new Map(), held: new Set() });
  batch.items.set(id, { id, token });
  return batch;
}

/** The id of a message. @throws {TypeError} */
export function idOfLeased(message: Leased): number {
  return idOf(typeof message === "number" ? message : message?.id);
}
