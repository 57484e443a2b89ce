/** Remote libSQL: what became of a call when the way to the server or the server itself fails. */
import { createClient } from "@libsql/client/web";
import { assert, assertEquals, assertRejects } from "@std/assert";
import process from "node:process";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { connect, DatabaseError, type LibsqlClient, type Store } from "../mod.ts";
import { freshLibsql, type TestLibsql } from "./support/databases.ts";
import { freePort } from "./support/postgres_server.ts";

/** How the driver sees a failure. */
async function failureOf(call: () => Promise<unknown>): Promise<string> {
  const error = await assertRejects(call, DatabaseError);
  return `${error.outcome} ${error.reason}`;
}

describe("remote libSQL", () => {
  let database: TestLibsql;
  let store: Store;
  let file: DatabaseSync;

  before(async () => {
    database = await freshLibsql({ busyMs: 0, idleMs: 2_000 });
    store = await connect(database.dsn);
    await store.admin.install();
    await store.admin.createQueue("tasks");
    file = new DatabaseSync(database.file);
  });

  after(async () => {
    file.close();
    await store.close();
    await database.close();
  });

  function count(): number {
    return Number(file.prepare("select count(*) as n from pgqrs_messages").get()?.n);
  }

  test("the bare client does not tell whether a dropped answer was applied, and on Deno applies it twice", async () => {
    const client = createClient({ url: database.dsn });
    await client.execute("create table bare (n integer)");
    database.server.inject({ kind: "dropAfter" }, /insert into bare/);
    const outcome = await client.execute("insert into bare values (1)").then(() => "fine", (error) => error.outcome);
    const { n } = file.prepare("select count(*) as n from bare").get() ?? {};
    // `fetch` of Deno sends a request again when its connection breaks, whatever its method.
    assertEquals([outcome, n], process.versions.deno === undefined ? [undefined, 1] : ["fine", 2]);
    client.close();
  });

  test("an answer that is dropped after the work is unknown, and the same key makes no second message", async () => {
    const before = count();
    const producer = store.producer("tasks");
    for (const kind of ["dropAfter", "dropBefore"] as const) {
      database.server.inject({ kind }, /enqueueMessages/);
      const key = { key: kind };
      assertEquals(await failureOf(() => producer.enqueue({}, key)), "unknown connection");
      assertEquals(count(), before + 1);
      await producer.enqueue({}, key);
    }
    assertEquals(count(), before + 2);
  });

  test("a refused connection is not applied", async () => {
    await using lost = await connect(`http://127.0.0.1:${await freePort()}`, { timeoutMs: 2_000 });
    assertEquals(await failureOf(() => lost.ping()), "not_applied connection");
  });

  test("an error page of the server is unknown, one that refuses is not applied", async () => {
    database.server.inject({ kind: "status", status: 500 });
    assertEquals(await failureOf(() => store.producer("tasks").enqueue({})), "unknown connection");
    database.server.inject({ kind: "status", status: 404 });
    assertEquals(await failureOf(() => store.producer("tasks").enqueue({})), "not_applied connection");
    const guarded = await freshLibsql({ token: "right-token" });
    await using stranger = await connect(guarded.dsn);
    assertEquals(await failureOf(() => stranger.ping()), "not_applied permission");
    await using friend = await connect(`${guarded.dsn}?authToken=right-token`);
    assert((await friend.ping()).roundTripMs > 0);
    await guarded.close();
  });

  test("a slow answer ends by the deadline as unknown, and a signal ends it at once", async () => {
    const producer = store.producer("tasks");
    database.server.inject({ kind: "delay", ms: 1_000 });
    const begin = performance.now();
    assertEquals(await failureOf(() => producer.enqueue({}, { timeoutMs: 200 })), "unknown timeout");
    database.server.inject({ kind: "delay", ms: 1_000 });
    assertEquals(await failureOf(() => producer.enqueue({}, { signal: AbortSignal.timeout(100) })), "unknown aborted");
    assert(performance.now() - begin < 1_300);
    await producer.enqueue({});
  });

  test("a list is stored as a whole or not at all", async () => {
    const before = count();
    const producer = store.producer("tasks");
    await producer.enqueue({ n: 0 }, { key: "taken" });
    await assertRejects(() =>
      producer.enqueueMany(Array.from({ length: 3_000 }, (_, n) => ({ n })), {
        each: (_, n) => n === 2_999 ? { key: { value: "taken", onConflict: "reject" } } : {},
      })
    );
    assertEquals(count(), before + 1);
  });

  test("a busy database is asked again until it is free, and fails by the deadline as not applied", async () => {
    const producer = store.producer("tasks");
    file.exec("begin immediate");
    setTimeout(() => file.exec("commit"), 150);
    await Promise.all([producer.enqueue({}), producer.enqueueMany([{}, {}])]);
    file.exec("begin immediate");
    const begin = performance.now();
    assertEquals(await failureOf(() => producer.enqueue({}, { timeoutMs: 200 })), "not_applied busy");
    assertEquals(
      await failureOf(() => store.transaction(() => Promise.resolve(), { timeoutMs: 200 })),
      "not_applied busy",
    );
    assert(performance.now() - begin < 1_400);
    file.exec("commit");
    await producer.enqueue({});
  });

  test("a transaction that takes too long is rolled back and leaves no stream behind", async () => {
    const before = count();
    const producer = store.producer("tasks");
    const slow = store.transaction(async (tx) => {
      await producer.enqueue({}, { tx });
      await new Promise(() => {});
    }, { timeoutMs: 150 });
    assertEquals(await failureOf(() => slow), "not_applied timeout");
    assertEquals(count(), before);
    assertEquals(database.server.streamCount, 0);
    await store.transaction((tx) => producer.enqueue({}, { tx }));
    assertEquals(count(), before + 1);
  });

  test("a transaction whose stream the server forgot is not applied; a commit without an answer is unknown", async () => {
    const before = count();
    const producer = store.producer("tasks");
    const forgotten = store.transaction(async (tx) => {
      await producer.enqueue({}, { tx });
      database.server.dropStreams();
      await producer.enqueue({}, { tx });
    });
    assert((await failureOf(() => forgotten)).startsWith("not_applied"));
    assertEquals(count(), before);
    database.server.inject({ kind: "dropAfter" }, /commit/i);
    const doubtful = store.transaction((tx) => producer.enqueue({}, { tx }));
    assertEquals(await failureOf(() => doubtful), "unknown connection");
    assertEquals(count(), before + 1);
  });

  test("whole numbers are bound as integers, ours and the caller's", async () => {
    await store.producer("tasks").enqueue({}, { delayMs: 5_000, priority: 7 });
    const kinds = file.prepare(
      "select distinct typeof(id) || typeof(due_at) || typeof(priority) || typeof(enqueued_at) as kinds from pgqrs_messages",
    ).all();
    assertEquals(kinds.map(({ kinds }) => kinds), ["integerintegerintegerinteger"]);
    const [row] = await store.transaction((tx) => tx.query("select typeof(?) as a, typeof(?) as b", [1, 1.5]));
    assertEquals({ ...row }, { a: "integer", b: "real" });
    const client = createClient({ url: database.dsn });
    assertEquals((await client.execute({ sql: "select typeof(?) as a", args: [1] })).rows[0]?.a, "real");
    client.close();
  });

  test("a client of the caller is used as it is and stays open", async () => {
    for (const intMode of ["number", "bigint", "string"] as const) {
      const client = createClient({ url: database.dsn, intMode });
      const adopted = await connect(client as unknown as LibsqlClient);
      const { id } = await adopted.producer("tasks").enqueue({ intMode }, { priority: 9 });
      assertEquals(typeof id, "number");
      const [message] = await adopted.consumer("tasks").dequeue();
      assertEquals([message?.id, message?.payload], [id, { intMode }]);
      await adopted.close();
      assertEquals((await client.execute("select 1 as one")).rows.length, 1);
      client.close();
    }
  });
});
