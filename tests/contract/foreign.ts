/** What `{ tx }` promises with a transaction that the caller began with a client of their own. */
import { createClient } from "@libsql/client/web";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import pg from "pg";
import postgres from "postgres";
import { DatabaseError, StateError, type TransactionLike } from "../../mod.ts";
import { type Context, inStore, type Place } from "./context.ts";
import { checkOperation, OPERATIONS } from "./transaction.ts";

/** Begins a transaction with a client of its own, runs the work in it, and commits unless the work rejects. */
type Begin = (place: Place, work: (tx: TransactionLike) => Promise<void>) => Promise<void>;

/** What we use of `pg`, which has no types of its own. */
interface PgClient {
  connect(): Promise<void>;
  query(text: string, values?: unknown[]): Promise<{ rows: Record<string, unknown>[] }>;
  end(): Promise<void>;
}

async function withPostgres({ dsn }: Place, work: (tx: TransactionLike) => Promise<void>): Promise<void> {
  // Whoever transforms names or parses types for themselves shall not disturb us.
  const bigint = { to: 20, from: [20], serialize: String, parse: () => "mine" };
  const sql = postgres(dsn, { max: 1, onnotice() {}, transform: postgres.camel, types: { bigint } });
  try {
    await sql.begin((tx) => work(tx));
  } finally {
    await sql.end({ timeout: 5 });
  }
}

async function withPg({ dsn }: Place, toTx: (client: PgClient) => TransactionLike, work: Parameters<Begin>[1]) {
  const client: PgClient = new pg.Client({ connectionString: dsn });
  await client.connect();
  try {
    await client.query("begin");
    await work(toTx(client));
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    await client.end();
  }
}

async function withSqlite({ file = "" }: Place, work: (tx: TransactionLike) => Promise<void>): Promise<void> {
  const database = new DatabaseSync(file);
  try {
    database.exec("begin immediate");
    await work((text, values) => Promise.resolve(database.prepare(text).all(...values)));
    database.exec("commit");
  } finally {
    // Closing rolls back.
    database.close();
  }
}

async function withLibsql({ dsn }: Place, work: (tx: TransactionLike) => Promise<void>): Promise<void> {
  const client = createClient({ url: dsn });
  const transaction = await client.transaction("write");
  try {
    await work((text, values) => transaction.execute({ sql: text, args: values }));
    await transaction.commit();
  } finally {
    transaction.close();
    client.close();
  }
}

const CLIENTS: Readonly<Record<string, Readonly<Record<string, Begin>>>> = {
  Postgres: {
    "a transaction of postgres": withPostgres,
    "a function over pg": (place, work) => withPg(place, (pg) => (text, values) => pg.query(text, values), work),
    "a function over pg that gives bare rows": (place, work) =>
      withPg(place, (pg) => async (text, values) => (await pg.query(text, values)).rows, work),
  },
  "SQLite file": { "a function over node:sqlite": withSqlite },
  libSQL: { "a function over @libsql/client": withLibsql },
};

/** Defines the tests for one backend. In memory nobody else can begin a transaction. */
export function foreignContract(context: Context): void {
  const clients = CLIENTS[context.name.replace(/ \d+$/, "")] ?? {};
  describe(`transactions of the caller on ${context.name}`, () => {
    for (const [name, begin] of Object.entries(clients)) withClient(context, name, begin);
  });
}

function withClient(context: Context, client: string, begin: Begin): void {
  test(
    `every operation in ${client} is stored if and only if it commits`,
    inStore(context, async (scene) => {
      const { place, store } = scene;
      for (const operation of Object.entries(OPERATIONS)) {
        await checkOperation(scene, operation, (work) => begin(place, work));
        await store.admin.queues.delete("tasks", { force: true });
        await store.admin.createQueue("tasks");
      }
    }),
  );

  test(
    `a key that is refused in ${client} leaves the transaction usable`,
    inStore(context, async ({ place, store, producer }) => {
      const { id } = await producer.enqueue("old", { key: "k" });
      await begin(place, async (tx) => {
        await producer.enqueue("before", { tx });
        const error = await assertRejects(() => producer.enqueue("other", { tx, key: "k" }), StateError);
        assert(error.message.includes(`belongs to message ${id} with another payload`));
        assertEquals((await producer.enqueue("old", { tx, key: "k" })).id, id);
        await producer.enqueue("after", { tx });
      });
      const { items } = await store.admin.messages.list();
      assertEquals(items.map(({ payload }) => payload), ["old", "before", "after"]);
    }),
  );

  test(
    `an error of the database in ${client} is a DatabaseError without the payload`,
    inStore(context, async ({ place, store, producer }) => {
      await store.admin.uninstall();
      const error = await assertRejects(() =>
        begin(place, async (tx) => {
          await producer.enqueue("s3cret", { tx });
        })
      );
      assert(!`${error.message} ${error.stack} ${String(error.cause)}`.includes("s3cret"));
      assert(error.name === "SchemaError" || error instanceof DatabaseError, String(error));
    }),
  );
}
