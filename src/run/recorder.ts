/**
 * What a worker writes on behalf of its runs. What several runs write at the same time leaves as one statement, and what
 * got no answer is sent again as long as the lease holds: every write says what is to be, and may be repeated.
 */
import type { Combination } from "../combine.ts";
import type { Database } from "../database.ts";
import { DatabaseError } from "../errors.ts";
import {
  decodeStep,
  listLargeValues,
  listSteps,
  type ParkItem,
  parkRuns,
  type ReceiveItem,
  receiveMail,
  recordSteps,
  redoStep,
  type RunToken,
  type StepItem,
  type StepRecord,
  type StepState,
} from "../sql/runs.ts";
import type { Row } from "../sql/driver.ts";
import type { Statement } from "../sql/sql.ts";
import type { Transaction } from "../transaction.ts";
import { pause } from "../turn.ts";
import { RunLostError } from "./lost.ts";

/** What came of taking mail. */
export interface Received {
  readonly state: StepState;
  /** A JSON text, once something was received. */
  readonly value: string | null;
  /** In how many milliseconds the time is over; null: never. */
  readonly dueMs: number | null;
  /** What somebody wishes of the run. */
  readonly wish: string | null;
}

/** How many steps one statement reads. */
const PAGE = 1_000;
/** From how many characters on a value is read only when its step is reached, and how many are read at once then. */
const LARGE = 8_192;
const LARGE_AT_ONCE = 8;
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1_000;

/** Writes for all runs of one worker. */
export class Recorder {
  readonly #database: Database;
  readonly #holder: string;
  readonly #record: Combination<StepItem, { readonly wish: string | null }>;
  readonly #park: Combination<ParkItem, { readonly dueMs: number | null }>;
  readonly #receive: Combination<ReceiveItem, Received>;

  constructor(database: Database, holder: string) {
    this.#database = database;
    this.#holder = holder;
    this.#record = this.#kind("recordSteps", recordSteps, ({ value, error }) => (value ?? error ?? "").length, {
      isOf: ([, token], item) => Number(token) === item.token,
      decode: ([, , wish]) => ({ wish: wish === null ? null : String(wish) }),
    });
    this.#park = this.#kind("parkRuns", parkRuns, ({ waits }) => waits.length * 100, {
      isOf: ([, token], item) => Number(token) === item.token,
      decode: ([, , dueMs]) => ({ dueMs: dueMs === null ? null : Number(dueMs) }),
    });
    this.#receive = this.#kind("receiveMail", receiveMail, ({ topic }) => topic.length, {
      isOf: ([, token, key], item) => Number(token) === item.token && key === item.key,
      // Two that wait for the same would find the same.
      keysOf: ({ id, topic }) => [`${id}/${topic}`],
      decode: ([, , , state, value, dueMs, wish]) => ({
        state: String(state) as StepState,
        value: value === null ? null : String(value),
        dueMs: dueMs === null ? null : Number(dueMs),
        wish: wish === null ? null : String(wish),
      }),
    });
  }

  /** Records a step. Resolves to what somebody wishes of the run. @throws {LeaseLostError} */
  async record(item: StepItem, signal: AbortSignal): Promise<string | null> {
    const { wish } = await this.insist(signal, () => this.#send("record", this.#record, sized(item)));
    return wish;
  }

  /** Records a step as part of a transaction, and tells whether it was recorded before. @throws {LeaseLostError} */
  async recordIn(tx: Transaction, item: StepItem): Promise<{ readonly wish: string | null; readonly written: number }> {
    const [row] = await this.#database.query(recordSteps([sized(item)], this.#holder), { tx, isLetIn: true });
    if (row === undefined) throw new RunLostError(item.id);
    return { wish: row[2] === null ? null : String(row[2]), written: Number(row[3]) };
  }

  /** Forgets a step that had failed before the run was brought back. Resolves to whether there was something to forget. */
  async redo(item: RunToken & { readonly key: string }, signal: AbortSignal): Promise<boolean> {
    const statement = redoStep(item, this.#holder);
    return (await this.insist(signal, () => this.#database.query(statement, { isLetIn: true }))).length > 0;
  }

  /** Gives a run back. Resolves to in how many milliseconds it is due; null: not by itself. @throws {LeaseLostError} */
  async park(item: ParkItem, signal: AbortSignal): Promise<number | null> {
    const { dueMs } = await this.insist(signal, () => this.#send("park", this.#park, item));
    return dueMs;
  }

  /** Takes mail. @throws {LeaseLostError} */
  async receive(item: ReceiveItem, signal: AbortSignal): Promise<Received> {
    return await this.insist(signal, () => this.#send("receive", this.#receive, item));
  }

  /** Reads everything that is recorded of a run, but values that are large. */
  async history(id: number, signal: AbortSignal): Promise<StepRecord[]> {
    const steps: StepRecord[] = [];
    for (let after: string | undefined;; after = steps.at(-1)?.key) {
      const statement = listSteps(id, PAGE, { after, most: LARGE });
      const rows = await this.insist(signal, () => this.#database.query(statement, { isLetIn: true }));
      steps.push(...rows.map(decodeStep));
      if (rows.length < PAGE) return steps;
    }
  }

  /** Reads large values of a run, by their keys: some from a place on, which are the next to be asked for. */
  async largeValues(id: number, from: number, signal: AbortSignal): Promise<Map<string, string>> {
    const statement = listLargeValues(id, LARGE, from, LARGE_AT_ONCE);
    const rows = await this.insist(signal, () => this.#database.query(statement, { isLetIn: true }));
    return new Map(rows.map(([key, value]) => [String(key), String(value)]));
  }

  #send<Item, Result>(name: string, kind: Combination<Item, Result>, item: Item): Promise<Result> {
    return this.#database.combine(`${name} ${this.#holder}`, kind, item, { isLetIn: true });
  }

  #kind<Item extends RunToken, Result>(
    name: string,
    toStatement: (items: readonly Item[], holder: string) => Statement,
    lengthOf: (item: Item) => number,
    { isOf, decode, keysOf }: {
      isOf(row: Row, item: Item): boolean;
      decode(row: Row): Result;
      keysOf?(item: Item): readonly string[];
    },
  ): Combination<Item, Result> {
    return {
      statement: name,
      isSynchronous: this.#database.driver.isSynchronous === true,
      lengthOf,
      ...(keysOf !== undefined && { keysOf }),
      send: async (items, { signal, deadline }) => {
        const statement = toStatement(items, this.#holder);
        const rows = await this.#database.query(statement, { isLetIn: true, signal, deadline });
        const byId = Map.groupBy(rows, ([id]) => Number(id));
        return items.map((item) => {
          const row = byId.get(item.id)?.find((row) => isOf(row, item));
          return row === undefined ? new RunLostError(item.id) : decode(row);
        });
      },
    };
  }

  /** Tries again while the database cannot answer. The signal is aborted when the lease is lost. */
  async insist<T>(signal: AbortSignal, send: () => Promise<T>): Promise<T> {
    for (let pauseMs = FIRST_PAUSE_MS;; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      signal.throwIfAborted();
      try {
        return await send();
      } catch (error) {
        if (!(error instanceof DatabaseError) || !mayPass(error)) throw error;
      }
      await pause(pauseMs * (0.5 + Math.random() / 2), signal);
    }
  }
}

function sized(item: StepItem): StepItem {
  return item.value === undefined ? item : { ...item, size: item.value.length };
}

/** Whether the same may succeed later. What the database refuses it will refuse again. */
function mayPass({ reason, sqlState }: DatabaseError): boolean {
  return reason === "busy" || reason === "connection" || reason === "timeout" ||
    /^(40|53|55|57|58)/.test(sqlState ?? "");
}
