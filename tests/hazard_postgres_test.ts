/** What the bare client `postgres` does wrong on the wire, shown first, and then its absence in ours. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type AddressInfo, createServer } from "node:net";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import postgres from "postgres";
import { connect, type ConnectOptions, DatabaseError, type Store } from "../mod.ts";
import { freshPostgres, type TestDatabase } from "./support/databases.ts";
import { startProxy } from "./support/tcp_proxy.ts";

/** A bare client that speaks through one connection, as an application would set it up. */
function bareClient(dsn: string, options: Record<string, unknown> = {}): postgres.Sql {
  return postgres(dsn, { max: 1, fetch_types: false, onnotice() {}, ...options } as never);
}

/** What became of a promise after some time: a bare call may never settle. */
function within<T>(promise: PromiseLike<T>, ms: number): Promise<{ value?: T; error?: unknown } | "pending"> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve("pending"), ms);
    promise.then((value) => {
      clearTimeout(timer);
      resolve({ value });
    }, (error) => {
      clearTimeout(timer);
      resolve({ error });
    });
  });
}

let schemaCount = 0;

/** A store with its own schema, in which there is a queue. */
async function openStore(dsn: string, options: ConnectOptions = {}): Promise<Store> {
  const store = await connect(dsn, { schema: `s${++schemaCount}`, ...options });
  await store.admin.install();
  await store.admin.createQueue("tasks");
  return store;
}

/** Whatever a client throws behind the back of its caller ends a Node process by default. */
const unhandled: unknown[] = [];
const keep = (error: unknown): void => void unhandled.push(error);

describe("the client postgres and ours on the wire", () => {
  let database: TestDatabase;

  before(async () => {
    database = await freshPostgres();
    process.on("unhandledRejection", keep).on("uncaughtException", keep);
  });

  after(async () => {
    process.off("unhandledRejection", keep).off("uncaughtException", keep);
    await database.close();
  });

  test("F1: a serialiser that throws hands answers of the bare client to the wrong callers", async () => {
    const sql = bareClient(database.dsn);
    await sql`create table f1 (n integer, payload jsonb)`;
    const insert = (n: number, payload: unknown) => sql`insert into f1 values (${n}, ${payload as never}) returning n`;
    await insert(-1, { warm: true });
    const results = await Promise.all([
      within(insert(0, { n: 0 }), 500),
      within(insert(1, { n: 1n }), 500),
      within(insert(2, { n: 2 }), 500),
      within(insert(3, { n: 3 }), 500),
    ]);
    const isRight = results.every((result, i) =>
      i === 1
        ? result !== "pending" && result.error instanceof TypeError
        : result !== "pending" && (result.value as { n: number }[] | undefined)?.[0]?.n === i
    );
    assert(!isRight, "the bare client is right now: the rule of encoding before the driver may be looked at again");
    sql.end({ timeout: 0 }).catch(() => {});
  });

  test("F2: two serialisation errors wedge a connection of the bare client for ever", async () => {
    const sql = bareClient(database.dsn);
    await sql`create table f2 (payload jsonb)`;
    const insert = (payload: unknown) => sql`insert into f2 values (${payload as never})`;
    await insert({ warm: true });
    await within(insert({ n: 1n }), 300);
    await within(insert({ n: 2n }), 300);
    assertEquals(await within(sql`select 1`, 1_000), "pending");
    sql.end({ timeout: 0 }).catch(() => {});
  });

  test("enqueue() refuses what JSON cannot hold before any I/O, and concurrent calls get their own answers", async () => {
    await using store = await openStore(database.dsn, { maxConnections: 1 });
    const producer = store.producer("tasks");
    await producer.enqueue({ warm: true });
    const cycle: Record<string, unknown> = {};
    cycle.self = cycle;
    const results = await Promise.allSettled(
      Array.from({ length: 40 }, (_, i) => producer.enqueue({ n: i % 4 === 1 ? BigInt(i) : i % 4 === 3 ? cycle : i })),
    );
    for (const [i, result] of results.entries()) {
      if (i % 2 === 1) {
        assert(result.status === "rejected" && result.reason instanceof TypeError, `call ${i} was not refused`);
        continue;
      }
      assert(result.status === "fulfilled", `call ${i} failed`);
      const stored = await store.admin.messages.get(result.value.id);
      assertEquals(stored?.payload, { n: i });
    }
    assertEquals(await store.admin.messages.count({ queue: "tasks" }), 21);
  });

  test("tx.query() refuses what it cannot serialise before any I/O, and its connection goes on", async () => {
    await using store = await openStore(database.dsn);
    await store.transaction(async (tx) => {
      await tx.query("create table own (payload jsonb, at timestamptz)");
      const insert = (payload: unknown, at: unknown) => tx.query("insert into own values ($1, $2)", [payload, at]);
      await insert({ n: 0 }, new Date(0));
      const results = await Promise.allSettled([
        insert({ n: 1 }, null),
        insert({ n: 2n }, null),
        insert(null, new Date(Number.NaN)),
        insert({ n: 4 }, null),
      ]);
      assertEquals(results.map(({ status }) => status), ["fulfilled", "rejected", "rejected", "fulfilled"]);
      assertEquals(await tx.query("select payload ->> 'n' as n from own order by 1"), [{ n: "0" }, { n: "1" }, {
        n: "4",
      }]);
    });
  });

  test("F3: a half-open connection never rejects on the bare client", async () => {
    await using proxy = await startProxy(database.dsn);
    const sql = bareClient(proxy.through(database.dsn), { keep_alive: 1, idle_timeout: 1, connect_timeout: 1 });
    await sql`select 1`;
    proxy.freeze();
    assertEquals(await within(sql`select 2`, 3_000), "pending");
    sql.end({ timeout: 0 }).catch(() => {});
  });

  test("a call on a half-open connection ends by its deadline as unknown, and the next one works", async () => {
    await using proxy = await startProxy(database.dsn);
    await using store = await openStore(proxy.through(database.dsn), { connectTimeoutMs: 5_000 });
    const producer = store.producer("tasks");
    await Promise.all([producer.enqueue({ n: 0 }), producer.enqueue({ n: 0 })]);
    proxy.freeze();
    const begin = performance.now();
    const error = await assertRejects(() => producer.enqueue({ n: 1 }, { timeoutMs: 500 }), DatabaseError);
    assert(performance.now() - begin < 1_500, "the call settled later than its deadline and a second");
    assertEquals([error.outcome, error.reason], ["unknown", "timeout"]);
    proxy.pass();
    assertEquals((await producer.enqueue({ n: 2 })).payload, { n: 2 });
    await assertRejects(() => {
      proxy.freeze();
      return store.transaction(() => new Promise(() => {}), { timeoutMs: 300 });
    }, DatabaseError);
    proxy.pass();
  });

  test("F4: a peer that accepts and closes drives the bare client into a hot loop", async () => {
    await using peer = await startClosingPeer();
    const sql = bareClient(peer.dsn);
    const query = within(sql`select 1`, 1_000);
    assertEquals(await query, "pending");
    assert(peer.count() > 16, `only ${peer.count()} connections in a second`);
    peer.close();
    await sql.end({ timeout: 0 }).catch(() => {});
  });

  test("a peer that accepts and closes is asked with growing pauses until connectTimeoutMs", async () => {
    await using peer = await startClosingPeer();
    await using store = await connect(peer.dsn, { connectTimeoutMs: 1_000 });
    const begin = performance.now();
    const error = await assertRejects(() => store.ping(), DatabaseError);
    assert(performance.now() - begin < 2_000);
    assertEquals([error.outcome, error.reason], ["not_applied", "connection"]);
    // 20, 40, 80, 160, 320, 640 ms, each at least halved by chance.
    assert(peer.count() >= 2 && peer.count() <= 14, `${peer.count()} connections in a second`);
  });

  test("nothing is rejected behind a caller's back", () => {
    // The bare client does so in the case of 101 and after crashes, which have tests of their own.
    assertEquals(unhandled, []);
  });
});

/** A server that closes every connection at once. */
async function startClosingPeer(): Promise<
  { dsn: string; count: () => number; close: () => void } & AsyncDisposable
> {
  let count = 0;
  const server = createServer((socket) => {
    count++;
    socket.on("error", () => {});
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = (): void => void server.close();
  return {
    dsn: `postgres://user:hidden@127.0.0.1:${port}/db`,
    count: () => count,
    close,
    [Symbol.asyncDispose]: () => Promise.resolve(close()),
  };
}
