/** What a worker is not told: which of its statements was applied, or that a lease is not its own any more. */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import {
  DatabaseError,
  job,
  LeaseLostError,
  type Message,
  NonRetryableError,
  type Outcome,
  type Store,
} from "../mod.ts";
import { type Context, memoryContext, postgresContext } from "./contract/context.ts";
import { startWorker, until } from "./support/running_worker.ts";
import { openWatched } from "./support/watched_store.ts";

/** A store of which answers can be lost. */
interface Doubtful {
  readonly store: Store;
  /** What the worker was told to tell: the names of events with the ids of their messages. */
  readonly heard: readonly string[];
  /** The next statements of these names are executed and not answered, or not even executed. */
  lose(outcome: Outcome, ...names: readonly string[]): void;
  /** Does something between the execution of the next statement that is not answered and its error. */
  meanwhile(work: () => Promise<unknown>): void;
}

function inDoubt(context: Context, work: (doubtful: Doubtful) => Promise<void>): () => Promise<void> {
  return async () => {
    const place = await context.place();
    const lost = new Map<string, Outcome>();
    let meanwhile = (): Promise<unknown> => Promise.resolve();
    try {
      await using store = await openWatched(place.dsn, place.schema, (driver) => ({
        async query(rendered, options) {
          const outcome = lost.get(rendered.name);
          lost.delete(rendered.name);
          const rows = outcome === "not_applied" ? [] : await driver.query(rendered, options);
          if (outcome === undefined) return rows;
          await meanwhile();
          throw new DatabaseError(`no answer to ${rendered.name}`, { outcome, reason: "connection" });
        },
        transaction: (work, limits) => driver.transaction(work, limits),
      }));
      await store.admin.install();
      await store.admin.createQueue("tasks", { backoff: { kind: "fixed", baseMs: 0, jitter: 0 } });
      const heard: string[] = [];
      for (const name of ["completed", "failed", "dead", "lost"] as const) {
        store.on(name, ({ message }: { message: Message }) => void heard.push(`${name} ${message.id}`));
      }
      await work({
        store,
        heard,
        lose: (outcome, ...names) => names.forEach((name) => lost.set(name, outcome)),
        meanwhile: (work) => void (meanwhile = work),
      });
      assertEquals([...lost.keys()], []);
    } finally {
      await place.close();
    }
  };
}

/** Both forms of a settling: the last one of a drain may be without a claim. */
const SETTLINGS = ["settleAndClaim"];

function doubtContract(context: Context): void {
  for (const outcome of ["unknown", "not_applied"] as const) {
    test(
      `a settling without an answer, ${outcome}, ends its message once, and as completed`,
      inDoubt(context, async ({ store, heard, lose }) => {
        const { id } = await store.producer("tasks").enqueue(1);
        let count = 0;
        const tasks = job("tasks", () => ++count);
        lose(outcome, ...SETTLINGS);
        assertEquals(await store.worker([tasks]).drain(), { completed: 1, failed: 0, dead: 0 });
        assertEquals([count, heard], [1, [`completed ${id}`]]);
        assertEquals((await store.admin.archive.get(id))?.result, 1);
      }),
    );

    test(
      `a failure without an answer, ${outcome}, is counted once`,
      inDoubt(context, async ({ store, heard, lose }) => {
        const { id } = await store.producer("tasks").enqueue(1);
        const seen: number[] = [];
        const tasks = job("tasks", ({ attempts }) => {
          seen.push(attempts);
          if (attempts === 0) throw new Error("no");
        });
        lose(outcome, "failLeased");
        await using _running = startWorker(store, [tasks], { pollIntervalMs: 20 });
        await until(() => heard.length === 2);
        // That it was counted may be known only when the next attempt is over.
        assertEquals([seen, [...heard].sort()], [[0, 1], [`completed ${id}`, `failed ${id}`]]);
        assertEquals((await store.admin.archive.get(id))?.attempts, 1);
      }),
    );

    test(
      `a claim without an answer, ${outcome}, leaves nothing lying until its lease ends`,
      inDoubt(context, async ({ store, heard, lose }) => {
        const { id } = await store.producer("tasks").enqueue(1);
        lose(outcome, "claimMessages");
        await using _running = startWorker(store, [job("tasks", () => {}, { leaseMs: 3_600_000 })]);
        await until(() => heard.length === 1);
        assertEquals(heard, [`completed ${id}`]);
        assertEquals((await store.admin.archive.get(id))?.crashes, 0);
      }),
    );
  }

  test(
    "a last failure without an answer is a dead letter that is told of once",
    inDoubt(context, async ({ store, heard, lose }) => {
      const { id } = await store.producer("tasks").enqueue(1);
      const tasks = job("tasks", () => {
        throw new NonRetryableError("no");
      });
      lose("unknown", "failLeased");
      assertEquals(await store.worker([tasks]).drain(), { completed: 0, failed: 1, dead: 1 });
      assertEquals(heard, [`failed ${id}`, `dead ${id}`]);
    }),
  );

  test(
    "a lease that somebody takes away is noticed, and its handler aborted",
    inDoubt(context, async ({ store, heard }) => {
      const { id } = await store.producer("tasks").enqueue(1);
      const reasons: unknown[] = [];
      const tasks = job("tasks", async (_message, { signal }) => {
        const aborted = new Promise((resolve) => signal.addEventListener("abort", resolve));
        await store.admin.messages.release(id, { delayMs: 3_600_000 });
        await aborted;
        reasons.push(signal.reason instanceof LeaseLostError);
      }, { leaseMs: 300 });
      await using _running = startWorker(store, [tasks]);
      await until(() => reasons.length > 0);
      assertEquals([reasons, heard], [[true], [`lost ${id}`]]);
    }),
  );

  test(
    "a settling that was not applied, of a message that somebody has taken away meanwhile, is told of as lost",
    inDoubt(context, async ({ store, heard, lose, meanwhile }) => {
      const { id } = await store.producer("tasks").enqueue(1);
      lose("not_applied", ...SETTLINGS);
      meanwhile(() => store.admin.messages.release(id, { delayMs: 3_600_000 }));
      assertEquals(await store.worker([job("tasks", () => {})]).drain(), { completed: 0, failed: 0, dead: 0 });
      assertEquals(heard, [`lost ${id}`]);
      assert(await store.admin.messages.get(id) !== null);
    }),
  );
}

for (const context of [memoryContext(), postgresContext()]) {
  describe(`a worker in doubt on ${context.name}`, () => doubtContract(context));
}
