/** What `context.transaction` promises: what the handler writes and the end of its message are committed together. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import {
  DatabaseError,
  job,
  type JobContext,
  LeaseLostError,
  StateError,
  type Store,
  type Transaction,
} from "../../mod.ts";
import { gate, startWorker, until } from "../support/running_worker.ts";
import { type Context, inStore, type Scene } from "./context.ts";

/** Defines the tests for one backend. */
export function workerTransactionContract(context: Context): void {
  describe(`context.transaction on ${context.name}`, () => {
    together(context);
    neither(context);
    single(context);
  });
}

/** A test with a table of the user's beside ours. */
function withOrders(
  context: Context,
  work: (
    scene: Scene & { readonly add: (tx: Transaction) => Promise<unknown>; orders(): Promise<number> },
  ) => Promise<void>,
): () => Promise<void> {
  return inStore(context, async (scene) => {
    const { store, place } = scene;
    const table = context.dialect === "postgres" ? `"${place.schema}".orders` : "orders";
    await store.transaction((tx) => tx.query(`create table ${table} (id integer)`));
    const add = (tx: Transaction) => tx.query(`insert into ${table} (id) values (7)`);
    const orders = async (): Promise<number> => {
      const [row] = await store.transaction((tx) => tx.query(`select count(*) as n from ${table}`));
      return Number(row?.n);
    };
    await work({ ...scene, add, orders });
  });
}

/** Handles one message. */
async function handle(store: Store, handler: (context: JobContext) => unknown): Promise<number> {
  const { id } = await store.producer("tasks").enqueue(1);
  const retry = { maxAttempts: 1 };
  await store.worker([job("tasks", (_message, context) => handler(context), { retry })]).drain();
  return id;
}

function together(context: Context): void {
  test(
    "the result and the user's rows are committed together, and what the callback gives is the result",
    withOrders(context, async ({ store, add, orders }) => {
      const told: unknown[] = [];
      store.on("completed", ({ result }) => void told.push(result));
      let given: unknown;
      const id = await handle(store, async ({ transaction }) => {
        given = await transaction(async (tx) => {
          await add(tx);
          await store.producer("tasks").enqueue("follows", { tx, delayMs: 60_000 });
          return { order: 7 };
        });
        assertEquals(
          (await store.admin.archive.get((await store.admin.archive.list()).items[0]?.id as number))?.result,
          {
            order: 7,
          },
        );
        return "not this";
      });
      const ended = await store.admin.archive.get(id);
      assertEquals([ended?.outcome, ended?.result, given], ["succeeded", { order: 7 }, { order: 7 }]);
      assertEquals([await orders(), told, await store.admin.messages.count()], [1, [{ order: 7 }], 1]);
    }),
  );

  test(
    "what a handler does after its transaction changes nothing: it may throw or hang, its message has succeeded",
    withOrders(context, async ({ store, producer, add, orders }) => {
      const id = await handle(store, async ({ transaction }) => {
        await transaction(add);
        throw new Error("too late");
      });
      assertEquals((await store.admin.archive.get(id))?.outcome, "succeeded");
      await producer.enqueue(2);
      const end = gate();
      const hanging = job("tasks", async (_message, { transaction, signal }) => {
        await transaction(add);
        await end.passed;
        assertEquals(signal.reason?.name, "TimeoutError");
      }, { timeoutMs: 500 });
      await using running = startWorker(store, [hanging]);
      await until(() => running.worker.health().overdue === 1);
      const { completed, failed } = running.worker.health();
      assertEquals([completed, failed, await orders()], [1, 0, 2]);
      end.open();
      await until(() => running.worker.health().overdue === 0);
      assertEquals(await store.admin.archive.count({ outcome: "succeeded" }), 2);
    }),
  );

  test(
    "a second transaction is refused, and a wrong option too",
    withOrders(context, async ({ store, add, orders }) => {
      const id = await handle(store, async ({ transaction }) => {
        await assertRejects(() => transaction(add, { timeout: 1 } as never), TypeError, "timeoutMs");
        await assertRejects(() => transaction(add, { timeoutMs: 0 }), RangeError, "timeoutMs");
        await transaction(add);
        await assertRejects(() => transaction(add), StateError, "twice");
      });
      assertEquals([(await store.admin.archive.get(id))?.outcome, await orders()], ["succeeded", 1]);
    }),
  );
}

function neither(context: Context): void {
  test(
    "a callback that throws, a result that cannot be stored, or too long a time rolls everything back",
    withOrders(context, async ({ store, add, orders }) => {
      const wrong: [(context: JobContext) => Promise<unknown>, string][] = [
        [
          ({ transaction }) =>
            transaction(async (tx) => {
              await add(tx);
              throw new Error("a change of mind");
            }),
          "a change of mind",
        ],
        [({ transaction }) => transaction((tx) => add(tx).then(() => ({ deep: [1n] }))), "result.deep[0]"],
        [
          ({ transaction }) => transaction((tx) => add(tx).then(() => new Promise(() => {})), { timeoutMs: 100 }),
          "too long",
        ],
      ];
      for (const [work, text] of wrong) {
        const id = await handle(store, work);
        const ended = await store.admin.archive.get(id);
        assertEquals([ended?.outcome, ended?.attempts, await orders()], ["failed", 1, 0]);
        assert(ended?.error?.message.includes(text), ended?.error?.message);
      }
    }),
  );

  test(
    "a transaction that was rolled back may be tried again by its handler",
    withOrders(context, async ({ store, add, orders }) => {
      const id = await handle(store, async ({ transaction }) => {
        await assertRejects(
          () => transaction((tx) => add(tx).then(() => Promise.reject(new Error("once")))),
          Error,
          "once",
        );
        return await transaction(add).then(() => "not this");
      });
      assertEquals([(await store.admin.archive.get(id))?.outcome, await orders()], ["succeeded", 1]);
    }),
  );

  test(
    "with a lease that was lost it throws LeaseLostError and rolls back",
    withOrders(context, async ({ store, add, orders }) => {
      const lost: number[] = [];
      store.on("lost", ({ message }) => void lost.push(message.id));
      let error: unknown;
      let calls = 0;
      const id = await handle(store, async ({ transaction, message }) => {
        if (++calls > 1) return "again";
        await store.admin.messages.release(message.id);
        error = await assertRejects(() => transaction(add), LeaseLostError);
        throw error;
      });
      assertEquals([lost, await orders()], [[id], 0]);
      const ended = await store.admin.archive.get(id);
      assertEquals([ended?.result, ended?.attempts], ["again", 0]);
    }),
  );

  test(
    "a transaction is rolled back when its message is cancelled or its handler has taken too long, and says so",
    withOrders(context, async ({ store, producer, add, orders }) => {
      const inside = gate();
      await producer.enqueue(1);
      const reason = gate<unknown>();
      const tasks = job("tasks", async (_message, { transaction }) => {
        await transaction(async (tx) => {
          await add(tx);
          inside.open();
          await new Promise(() => {});
        }, { timeoutMs: 20_000 }).catch((error) => {
          reason.open(error);
          throw error;
        });
      }, { timeoutMs: 60, retry: { maxAttempts: 1 } });
      await using running = startWorker(store, [tasks]);
      await inside.passed;
      assertEquals((await reason.passed as Error).name, "TimeoutError");
      await until(() => running.worker.health().dead === 1 && running.worker.health().overdue === 0);
      assertEquals(await orders(), 0);
    }),
  );
}

function single(context: Context): void {
  test(
    "with a single connection handlers, transactions, progress and heartbeats do not wait for each other for ever",
    async () => {
      const place = await context.place();
      try {
        await using store = await place.connect({ maxConnections: 1, timeoutMs: 20_000 });
        await store.admin.install();
        await store.admin.createQueue("tasks");
        const producer = store.producer("tasks");
        await producer.enqueueMany(Array.from({ length: 40 }, (_, n) => n));
        const errors: unknown[] = [];
        store.on("error", ({ error }) => void errors.push(error));
        const tasks = job<number>("tasks", async ({ payload }, { transaction, progress }) => {
          await progress(payload);
          await transaction(async (tx) => {
            await tx.query("select 1");
            await new Promise((resolve) => setTimeout(resolve, 5));
            await assertRejects(() => progress(1), StateError);
            await assertRejects(() => producer.enqueue(1), StateError);
          });
          await store.ping();
        }, { concurrency: 8, leaseMs: 5_000 });
        assertEquals(await store.worker([tasks]).drain(), { completed: 40, failed: 0, dead: 0 });
        assertEquals(errors.filter((error) => error instanceof DatabaseError), []);
        assertEquals(await store.admin.archive.count({ outcome: "succeeded" }), 40);
      } finally {
        await place.close();
      }
    },
  );
}
