/** Lists that are stored in several pieces, and work that is done batch by batch. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { test } from "node:test";
import postgres from "postgres";
import { connect, NotFoundError, StateError, type Store } from "../mod.ts";
import { freshPostgres } from "./support/databases.ts";
import { BACKENDS } from "./support/model_run.ts";

const LONG = "x".repeat(700_000);
const NOW = Date.UTC(2030, 0, 1);

for (const [name, open] of Object.entries(BACKENDS)) {
  const inStore = (work: (store: Store) => Promise<void>) => async (): Promise<void> => {
    const database = await open();
    try {
      await using store = await connect(database.dsn, { timeoutMs: 60_000, clock: () => NOW });
      await store.admin.install();
      await store.admin.createQueue("tasks");
      await work(store);
    } finally {
      await database.close();
    }
  };

  test(
    `enqueueMany() of payloads too long for one piece keeps their order, on ${name}`,
    inStore(async (store) => {
      const payloads = Array.from({ length: 7 }, (_, n) => ({ n, text: LONG }));
      const stored = await store.producer<{ n: number }>("tasks").enqueueMany(payloads);
      const ids = stored.map(({ id }) => id);
      assertEquals(ids, [...ids].sort((a, b) => a - b));
      const delivered = await store.consumer<{ n: number }>("tasks").dequeue({ limit: 7 });
      assertEquals(delivered.map(({ id, payload }) => [id, payload.n]), ids.map((id, n) => [id, n]));
    }),
  );

  test(
    `enqueueMany() of keyed payloads too long for one piece finds each its message, on ${name}`,
    inStore(async (store) => {
      const producer = store.producer<{ n: number; text: string }>("tasks");
      const payloads = Array.from({ length: 7 }, (_, n) => ({ n, text: LONG }));
      // In descending order, which is not that in which the keys are locked; the fourth has none.
      const each = ({ n }: { n: number }): { key?: string } => n === 3 ? {} : { key: `key ${9 - n}` };
      const known = await producer.enqueue({ n: 5, text: LONG }, { key: "key 4" });
      const stored = await producer.enqueueMany(payloads, { each });
      assertEquals(stored[5]?.id, known.id);
      for (const [n, { id, key }] of stored.entries()) {
        const found = await store.admin.messages.get<{ n: number }>(id);
        assertEquals([found?.payload.n, found?.key, key], [n, each({ n }).key ?? null, found?.key]);
      }
      assertEquals(await store.admin.messages.count(), 7);
    }),
  );

  test(
    `enqueueMany() that is refused in its last piece stores nothing of the others, on ${name}`,
    inStore(async (store) => {
      const producer = store.producer<{ n: number; text: string }>("tasks");
      const payloads = Array.from({ length: 7 }, (_, n) => ({ n, text: LONG }));
      const each = ({ n }: { n: number }): { key: string } => ({ key: `key ${n}` });
      const { id } = await producer.enqueue({ n: 0, text: "other" }, { key: "key 6" });
      const refused = `item 6 belongs to message ${id} with another payload`;
      await assertRejects(() => producer.enqueueMany(payloads, { each }), StateError, refused);
      assertEquals(await store.admin.messages.count(), 1);
      await store.transaction(async (tx) => {
        await producer.enqueue({ n: 8, text: "" }, { tx });
        await assertRejects(() => producer.enqueueMany(payloads, { each, tx }), StateError, refused);
      }, { timeoutMs: 30_000 });
      assertEquals(await store.admin.messages.count(), 2);
      // The keys of the pieces that were undone are free.
      await producer.enqueueMany(payloads.slice(0, 6).map((payload) => ({ ...payload, text: "" })), { each });
      assertEquals(await store.admin.messages.count(), 8);
    }),
  );

  test(
    `queues.purge() deletes more than one batch, and only what it should, on ${name}`,
    inStore(async (store) => {
      await store.admin.createQueue("other");
      for (const queue of ["tasks", "other"]) {
        await store.producer(queue).enqueueMany(Array.from({ length: 4_500 }, (_, n) => n));
        await store.consumer(queue, { name: "one" }).dequeue({ limit: 2 });
      }
      assertEquals(await store.admin.queues.purge("tasks"), 4_498);
      assertEquals(await store.admin.messages.count({ queue: "tasks" }), 2);
      assertEquals(await store.admin.queues.purge("other", { force: true }), 4_500);
      assertEquals(await store.admin.messages.count(), 2);
    }),
  );

  test(
    `archive.list() goes through several queues by cursor and by offset when times are equal, on ${name}`,
    inStore(async (store) => {
      const ids: number[] = [];
      for (let i = 0; i < 12; i++) {
        const queue = `queue ${i % 3}`;
        await store.admin.createQueue(queue, { ifMissing: true });
        ids.push((await store.producer(queue).enqueue(i)).id);
      }
      for (const id of ids) await store.admin.messages.archive(id);
      const expected = [...ids].sort((a, b) => b - a);
      const { archive } = store.admin;
      const byCursor: number[] = [];
      let cursor: string | undefined;
      do {
        const page = await archive.list({ limit: 5, ...(cursor !== undefined && { cursor }) });
        byCursor.push(...page.items.map(({ id }) => id));
        cursor = page.cursor ?? undefined;
      } while (cursor !== undefined);
      assertEquals(byCursor, expected);
      for (const offset of [0, 4, 11, 12]) {
        const page = await archive.list({ limit: 5, offset });
        assertEquals(page.items.map(({ id }) => id), expected.slice(offset, offset + 5));
      }
    }),
  );
}

test("enqueueMany() of several pieces stores nothing when the queue is created between two of them", async () => {
  const database = await freshPostgres();
  const client = postgres(database.dsn, { max: 1, onnotice() {} });
  try {
    await using store = await connect(database.dsn, { timeoutMs: 60_000 });
    await store.admin.install();
    const payloads = Array.from({ length: 7 }, (_, n) => ({ n, text: LONG }));
    for (const [name, hasKeys] of [["plain", false], ["keyed", true]] as const) {
      const session = await client.reserve();
      await session`begin`;
      let pieces = 0;
      const tx = async (text: string, values: unknown[]): Promise<readonly unknown[]> => {
        try {
          return await session.unsafe(text, values as never[]);
        } finally {
          // On a connection of its own, and committed before the next piece is sent.
          if (text.includes("pgqrs_enqueue_many") && pieces++ === 0) await store.admin.createQueue(name);
        }
      };
      const each = hasKeys ? { each: ({ n }: { n: number }) => ({ key: `key ${n}` }) } : {};
      const producer = store.producer<{ n: number; text: string }>(name);
      await assertRejects(() => producer.enqueueMany(payloads, { ...each, tx }), NotFoundError, name);
      assertEquals(pieces, 1);
      // The transaction goes on, and now the queue is there.
      assertEquals((await producer.enqueueMany(payloads, { ...each, tx })).length, 7);
      assertEquals(await store.admin.messages.count({ queue: name }), 0);
      await session`commit`;
      session.release();
      assertEquals(await store.admin.messages.count({ queue: name }), 7);
    }
    await assertRejects(() => store.producer("none").enqueueMany(payloads), NotFoundError, "none");
    await assertRejects(
      () => store.transaction((tx) => store.producer("none").enqueueMany(payloads, { tx })),
      NotFoundError,
      "none",
    );
  } finally {
    await client.end({ timeout: 5 });
    await database.close();
  }
});

test("enqueueMany() of two large lists with the same keys in another order wait for each other, and not in a circle", async () => {
  const database = await freshPostgres();
  try {
    await using store = await connect(database.dsn, { timeoutMs: 60_000 });
    await using other = await connect(database.dsn, { timeoutMs: 60_000 });
    await store.admin.install();
    await store.admin.createQueue("tasks");
    const payloads = Array.from({ length: 14 }, (_, n) => ({ n, text: LONG }));
    for (let round = 0; round < 3; round++) {
      const each = ({ n }: { n: number }): { key: string } => ({ key: `key ${round} ${String.fromCharCode(97 + n)}` });
      // In a transaction nobody but the caller could try again.
      const [first, second] = await Promise.all([
        store.transaction((tx) => store.producer<{ n: number }>("tasks").enqueueMany(payloads, { each, tx })),
        other.transaction((tx) =>
          other.producer<{ n: number }>("tasks").enqueueMany([...payloads].reverse(), { each, tx })
        ),
      ]);
      assertEquals(first.map(({ id }) => id), second.map(({ id }) => id).reverse());
    }
    assertEquals(await store.admin.messages.count(), 14 * 3);
  } finally {
    await database.close();
  }
});

test("enqueueMany() sends headers in pieces too, on Postgres", async () => {
  const database = await freshPostgres();
  const client = postgres(database.dsn, { max: 1, onnotice() {} });
  try {
    await using store = await connect(database.dsn);
    await store.admin.install();
    await store.admin.createQueue("tasks");
    const session = await client.reserve();
    let longest = 0;
    const tx = async (text: string, values: unknown[]): Promise<readonly unknown[]> => {
      for (const value of values) longest = Math.max(longest, String(value).length);
      return await session.unsafe(text, values as never[]);
    };
    const headers = { text: "x".repeat(16_000) };
    const payloads = Array.from({ length: 300 }, (_, n) => n);
    await session`begin`;
    const stored = await store.producer<number>("tasks").enqueueMany(payloads, { each: () => ({ headers }), tx });
    await session`commit`;
    session.release();
    assertEquals(stored.map(({ payload }) => payload), payloads);
    assertEquals(await store.admin.messages.count(), 300);
    assert(longest < 3_000_000, `a text of ${longest} characters`);
  } finally {
    await client.end({ timeout: 5 });
    await database.close();
  }
});
