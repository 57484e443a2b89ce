/** What a transaction's handle promises beyond commit and rollback: values, calls made at once, and who may still use it. */
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import postgres from "postgres";
import { DatabaseError, type Message, StateError } from "../../mod.ts";
import { type Context, inStore } from "./context.ts";
import { Undo } from "./transaction.ts";

/** Defines the tests for one backend. */
export function handlesContract(context: Context): void {
  describe(`handles of transactions on ${context.name}`, () => {
    values(context);
    together(context);
    scopes(context);
    limits(context);
    if (context.dialect === "postgres") sessions(context);
  });
}

const AT = new Date("2031-02-03T04:05:06.789Z");

/** An expression, the value for its placeholder, and what comes back. */
const VALUES: Readonly<Record<Context["dialect"], readonly (readonly [string, unknown, unknown])[]>> = {
  postgres: [
    ["$1::timestamptz", AT, AT],
    ["$1::text", null, null],
    ["$1::int", undefined, null],
    ["$1::bigint::text", 9_007_199_254_740_993n, "9007199254740993"],
    ["$1::boolean", true, true],
    ["$1::boolean", false, false],
    ["$1::int", -7, -7],
    ["$1::float8", 0.5, 0.5],
    ["$1::text", "it's $1 ? \\ é", "it's $1 ? \\ é"],
    ["$1::json", { a: [1, null] }, { a: [1, null] }],
    ["$1::jsonb", [1, "two"], [1, "two"]],
    ["$1::int[]::text", [1, 2], "{1,2}"],
    ["encode($1::bytea, 'hex')", new Uint8Array([0, 1, 255]), "0001ff"],
  ],
  sqlite: [
    ["?", AT, AT.getTime()],
    ["?", null, null],
    ["?", undefined, null],
    ["cast(? as text)", 9_007_199_254_740_993n, "9007199254740993"],
    ["?", true, 1],
    ["?", false, 0],
    ["typeof(?)", -7, "integer"],
    ["typeof(?)", 0.5, "real"],
    ["?", "it's $1 ? \\ é", "it's $1 ? \\ é"],
    ["?", { a: [1, null] }, '{"a":[1,null]}'],
    ["hex(?)", new Uint8Array([0, 1, 255]), "0001FF"],
  ],
};

function values(context: Context): void {
  test(
    "tx.query() sends every value in the form that the database has for it",
    inStore(context, async ({ store }) => {
      await store.transaction(async (tx) => {
        for (const [expression, value, expected] of VALUES[context.dialect]) {
          const rows = await tx.query(`select ${expression} as value`, [value]);
          assertEquals(rows.map((row) => ({ ...row })), [{ value: expected }], `${expression} of ${String(value)}`);
        }
        assertEquals(await tx.query("select 1 as one where 1 = 0"), []);
      });
    }),
  );

  test(
    "tx.query() refuses a value that has no text before anything is sent, and the transaction goes on",
    inStore(context, async ({ store, producer }) => {
      const cycle: Record<string, unknown> = {};
      cycle.self = cycle;
      await store.transaction(async (tx) => {
        const text = context.dialect === "postgres" ? "select $1::text" : "select ?";
        for (const value of [cycle, { n: 1n }, new Date(NaN)]) {
          const error = await tx.query(text, [value]).then(() => undefined, (error: unknown) => error);
          assert(error instanceof TypeError || error instanceof RangeError, String(error));
        }
        await producer.enqueue("after", { tx });
      });
      assertEquals(await store.admin.messages.count(), 1);
    }),
  );

  test(
    "tx.query() tells of a statement that fails without its values",
    inStore(context, async ({ store }) => {
      const secret = "s3cret";
      const text = context.dialect === "postgres" ? "select $1::int" : "select abs(?), json(?)";
      const error = await assertRejects(
        () => store.transaction((tx) => tx.query(text, context.dialect === "postgres" ? [secret] : [1, secret])),
        DatabaseError,
      );
      assertEquals(error.outcome, "not_applied");
      assert(!`${error.message} ${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`.includes(secret));
    }),
  );
}

function together(context: Context): void {
  test(
    "calls that are made at once in one transaction each get their own message",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueueMany(["a", "b"]);
      const leased = await consumer.dequeue({ limit: 2 });
      const made = await store.transaction((tx) =>
        Promise.all([
          producer.enqueue("one", { tx }),
          producer.enqueue("two", { tx, key: "k" }),
          consumer.archive(leased[0] as Message, { tx }),
          producer.enqueueMany(["three", "four"], { tx }),
          consumer.fail(leased[1] as Message, new Error("no"), { tx, retry: false }),
          producer.enqueue("two", { tx, key: "k" }),
          producer.enqueue("five", { tx }),
        ])
      );
      const [one, two, archived, many, failed, again, five] = made;
      assertEquals([archived, failed, again.id], [true, true, two.id]);
      for (const message of [one, two, ...many, five]) {
        assertEquals((await store.admin.messages.get(message.id))?.payload, message.payload);
      }
      assertEquals(await store.admin.messages.count(), 5);
      assertEquals(await store.admin.archive.count(), 2);
    }),
  );

  test(
    "a call that fails takes none of those with it that were made at once",
    inStore(context, async ({ store, producer }) => {
      await producer.enqueue("old", { key: "taken" });
      await store.transaction(async (tx) => {
        const results = await Promise.allSettled([
          producer.enqueue("one", { tx, key: "k1" }),
          producer.enqueue("two", { tx, key: "taken" }),
          producer.enqueue("three", { tx, key: "k3" }),
          producer.enqueue("four", { tx }),
        ]);
        assertEquals(results.map(({ status }) => status), ["fulfilled", "rejected", "fulfilled", "fulfilled"]);
      });
      const { items } = await store.admin.messages.list();
      // What has a key is hashed first, so that the order is not that of the calls.
      assertEquals(items.map(({ payload }) => payload).sort(), ["four", "old", "one", "three"]);
    }),
  );

  test(
    "nothing is stored by calls that are still on their way when the callback rejects",
    inStore(context, async ({ store, producer }) => {
      const late: Promise<unknown>[] = [];
      await assertRejects(() =>
        store.transaction(async (tx) => {
          for (let n = 0; n < 5; n++) late.push(producer.enqueue(n, { tx }), producer.enqueue(n, { tx, key: `k${n}` }));
          late.push(...late.map((promise) => promise.catch(() => {})));
          await Promise.resolve();
          throw new Undo();
        }), Undo);
      await Promise.allSettled(late);
      assertEquals(await store.admin.messages.count(), 0);
      await producer.enqueue("the store goes on", { key: "k0" });
    }),
  );
}

function scopes(context: Context): void {
  test(
    "a call without tx is refused however deep inside a transaction it is made",
    inStore(context, async ({ store, producer }) => {
      const deep = async (levels: number): Promise<unknown> =>
        levels === 0 ? await producer.enqueue("no") : await deep(levels - 1);
      const ways: (() => Promise<unknown>)[] = [
        () => deep(5),
        () => Promise.resolve().then(() => deep(1)),
        () => new Promise((resolve, reject) => setTimeout(() => deep(1).then(resolve, reject), 1)),
        () => new Promise((resolve, reject) => queueMicrotask(() => deep(1).then(resolve, reject))),
        () => Promise.all([deep(1), deep(2)]),
      ];
      await store.transaction(async (tx) => {
        for (const way of ways) await assertRejects(way, StateError, "pass the transaction along");
        await producer.enqueue("yes", { tx });
      });
      assertEquals((await store.admin.messages.list()).items.map(({ payload }) => payload), ["yes"]);
    }),
  );

  test(
    "what was begun inside a transaction may use the store once the transaction has ended",
    inStore(context, async ({ store, producer }) => {
      let end = (): void => {};
      const hasEnded = new Promise<void>((resolve) => end = resolve);
      let begun: Promise<Message> | undefined;
      await store.transaction((_tx) => {
        begun = hasEnded.then(() => producer.enqueue("afterwards"));
        return Promise.resolve();
      });
      end();
      assertEquals((await begun)?.payload, "afterwards");
    }),
  );

  test(
    "transactions of one store that are begun at once are all committed",
    inStore(context, async ({ store, producer }) => {
      await Promise.all(Array.from({ length: 5 }, (_, n) =>
        store.transaction(async (tx) => {
          await producer.enqueue(n, { tx });
          await tx.query("select 1");
          await producer.enqueue(n, { tx });
        })));
      assertEquals(await store.admin.messages.count(), 10);
    }),
  );
}

function limits(context: Context): void {
  test(
    "a function of the caller that never answers holds a call no longer than its limits allow",
    inStore(context, async ({ producer }) => {
      const tx = () => new Promise<never>(() => {});
      const late = await assertRejects(() => producer.enqueue(1, { tx, timeoutMs: 50 }), DatabaseError);
      assertEquals([late.outcome, late.reason], ["unknown", "timeout"]);
      const signal = AbortSignal.timeout(50);
      const aborted = await assertRejects(() => producer.enqueue(1, { tx, signal }), DatabaseError);
      assertEquals([aborted.outcome, aborted.reason], ["unknown", "aborted"]);
    }),
  );
}

function sessions(context: Context): void {
  test(
    "a reserved connection of postgres may be used as tx",
    inStore(context, async ({ place, producer, consumer }) => {
      const sql = postgres(place.dsn, { max: 1, onnotice() {} });
      try {
        const reserved = await sql.reserve();
        await reserved`begin`;
        await producer.enqueue("gone", { tx: reserved });
        await reserved`rollback`;
        await reserved`begin`;
        const { id } = await producer.enqueue("kept", { tx: reserved });
        assertEquals(await consumer.dequeue(), []);
        await reserved`commit`;
        reserved.release();
        assertEquals((await consumer.dequeue()).map((message) => message.id), [id]);
      } finally {
        await sql.end({ timeout: 5 });
      }
    }),
  );

  test(
    "a transaction is not reported as committed when a statement of it failed, though the callback went on",
    inStore(context, async ({ store, producer }) => {
      const error = await assertRejects(() =>
        store.transaction(async (tx) => {
          await producer.enqueue("lost", { tx });
          await assertRejects(() => tx.query("select 1 / 0"), DatabaseError);
        }), DatabaseError);
      assertEquals(error.outcome, "not_applied");
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );

  test(
    "a transaction whose connection is lost is not applied, and the store opens another",
    inStore(context, async ({ store, producer }) => {
      const error = await assertRejects(() =>
        store.transaction(async (tx) => {
          const [before] = await tx.query("select pg_backend_pid() as pid");
          await producer.enqueue("lost", { tx });
          await tx.query("select pg_terminate_backend(pg_backend_pid())").catch(() => {});
          const [after] = await tx.query("select pg_backend_pid() as pid");
          assertNotEquals(before, after);
        }), DatabaseError);
      assertEquals(error.outcome, "not_applied");
      assertEquals(await store.admin.messages.count(), 0);
      await store.transaction((tx) => producer.enqueue("kept", { tx }));
      assertEquals(await store.admin.messages.count(), 1);
    }),
  );
}
