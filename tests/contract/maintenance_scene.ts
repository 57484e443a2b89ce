/**
 * What a test of maintenance gets: a store whose statements are counted and can be held up, by a clock that is set.
 *
 * @module
 */
import { type Consumer, type Producer, Store } from "../../mod.ts";
import type { Database } from "../../src/database.ts";
import type { Rendered } from "../../src/sql/sql.ts";
import { maintain, type Maintained } from "../../src/worker/maintenance.ts";
import { openWatchedDatabase } from "../support/watched_store.ts";
import { type Context, TestClock } from "./context.ts";

/** A test with a store of its own whose statements are counted, and with a queue `tasks`. */
export interface Scene {
  readonly context: Context;
  readonly schema: string;
  readonly database: Database;
  readonly store: Store;
  readonly producer: Producer;
  readonly consumer: Consumer;
  readonly clock: TestClock;
  /** What the test does before a statement is sent. */
  before: (rendered: Rendered) => Promise<void> | void;
  /** What the test does after a statement was applied. */
  after: (rendered: Rendered) => void;
  /** How many statements of a name were sent. */
  count(name: string): number;
  /** The limits of the statements of a name. */
  limits(name: string): number[];
}

/** A test on such a store. */
export function inRound(context: Context, work: (scene: Scene) => Promise<void>): () => Promise<void> {
  return async () => {
    const { dsn, schema, close } = await context.place();
    const clock = new TestClock();
    const sent: Rendered[] = [];
    try {
      const database = await openWatchedDatabase(dsn, schema, (driver) => ({
        async query(rendered, options) {
          sent.push(rendered);
          await scene.before(rendered);
          const rows = await driver.query(rendered, options);
          scene.after(rendered);
          return rows;
        },
        transaction: (run, limits) => driver.transaction(run, limits),
      }), () => clock.now);
      await using store = new Store(database);
      const ofName = (name: string) => sent.filter((rendered) => rendered.name === name);
      const scene: Scene = {
        context,
        schema,
        database,
        store,
        producer: store.producer("tasks"),
        consumer: store.consumer("tasks"),
        clock,
        before() {},
        after() {},
        count: (name) => ofName(name).length,
        limits: (name) => ofName(name).map(limitOf),
      };
      await store.admin.install();
      await store.admin.createQueue("tasks");
      await work(scene);
    } finally {
      await close();
    }
  };
}

/** The value that is bound behind the word "limit". */
function limitOf({ parts }: Rendered): number {
  for (const { text, values } of parts) {
    const [, place] = /limit [$?](\d+)/.exec(text) ?? [];
    if (place !== undefined) return Number(values[Number(place) - 1]);
  }
  return Number.NaN;
}

/** What a worker does once a minute. */
export async function round(
  { database }: Scene,
  signal = new AbortController().signal,
): Promise<Maintained | undefined> {
  return await maintain(database, { isForced: false, signal });
}

/** Puts rows into the archive of the queue `tasks`, many at once. */
export async function fill(
  scene: Scene,
  { count, archivedAt, outcome = "succeeded", from = 1 }: {
    readonly count: number;
    readonly archivedAt: number;
    readonly outcome?: string;
    readonly from?: number;
  },
): Promise<void> {
  const at = instantOf(scene, archivedAt);
  const last = from + count - 1;
  const series = `with recursive s(n) as (select ${from} union all select n + 1 from s where n < ${last})`;
  const columns = "id, queue_id, outcome, priority, enqueued_at, archived_at, token, attempts, crashes, max_attempts";
  await scene.store.transaction((tx) =>
    tx.query(`${series} insert into ${nameIn(scene, "archive")} (${columns}, max_crashes, payload)
    select n, (select id from ${
      nameIn(scene, "queues")
    } where name = 'tasks'), '${outcome}', 0, ${at}, ${at}, 1, 0, 0, 5,
      10, '{}' from s`)
  );
}

/** Puts a worker into the register that was seen at some time. */
export async function insertWorker(scene: Scene, holder: string, seenAt: number, isPaused = false): Promise<void> {
  const at = instantOf(scene, seenAt);
  await scene.store.transaction((tx) =>
    tx.query(`insert into ${nameIn(scene, "workers")} (holder, name, queues, started_at, seen_at, paused_at)
    values ('${holder}', 'some', '["tasks", "gone"]', ${at}, ${at}, ${isPaused ? at : "null"})`)
  );
}

/** Reads a column of a table. */
export async function select(scene: Scene, column: string, from: string): Promise<string[]> {
  const text = `select ${column} as value from ${nameIn(scene, from)}`;
  return (await scene.store.transaction((tx) => tx.query<{ value: string }>(text))).map(({ value }) => value).sort();
}

function nameIn({ context, schema }: Scene, table: string): string {
  return context.dialect === "postgres" ? `${schema}.pgqrs_${table}` : `pgqrs_${table}`;
}

function instantOf({ context }: Scene, ms: number): string {
  return context.dialect === "postgres" ? `to_timestamp(${ms / 1_000})` : String(ms);
}
