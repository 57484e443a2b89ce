/** Many claimers on one queue: each message is delivered once, in batches no larger than asked for. */
import { assert, assertEquals } from "@std/assert";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { describe, test } from "node:test";
import { connect, type Message, type Store } from "../mod.ts";
import { sqlite } from "../src/sql/dialect.ts";
import type { Row } from "../src/sql/driver.ts";
import { claimMessages, decodeExchange } from "../src/sql/leases.ts";
import { render } from "../src/sql/sql.ts";
import { freshPostgres, freshSqliteFile, type TestDatabase } from "./support/databases.ts";
import { startProcess, type TestProcess } from "./support/processes.ts";

const MESSAGES = 20_000;
/** Each claimer asks for another number, so that their statements overlap in ever new ways. */
const LIMITS = [1, 3, 10, 17, 50, 50, 100, 200];

interface Numbered {
  readonly n: number;
}

const BACKENDS: Readonly<Record<string, () => Promise<TestDatabase> | TestDatabase>> = {
  Postgres: freshPostgres,
  "a SQLite file": freshSqliteFile,
};

for (const [backend, open] of Object.entries(BACKENDS)) {
  describe(`dequeue() on ${backend}`, () => {
    test("delivers each message once to eight claimers, never more than their limit", async () => {
      await using arena = await openArena(open, () => ({}));
      const delivered = (await Promise.all(LIMITS.map((limit) => drain(arena, limit)))).flat();
      assertEquals(numbersOf(delivered), allNumbers());
      assertEquals(await arena.store.admin.archive.count({ queue: "tasks", outcome: "succeeded" }), MESSAGES);
      assertEquals(await arena.store.admin.messages.count({ queue: "tasks" }), 0);
    });

    test("delivers each message once with all priorities in between", async () => {
      await using arena = await openArena(open, ({ n }) => ({ priority: (n * 7) % 10 }));
      const delivered = (await Promise.all(LIMITS.map((limit) => drain(arena, limit)))).flat();
      assertEquals(numbersOf(delivered), allNumbers());
    });

    test("gives a single claimer everything by priority, then by age", async () => {
      await using arena = await openArena(open, ({ n }) => ({ priority: (n * 7) % 10 }), 2_000);
      const order = (await drain(arena, 37)).map(({ payload: { n }, priority }) => ({ n, priority }));
      assertEquals(order.length, 2_000);
      const sorted = [...order].sort((a, b) => b.priority - a.priority || a.n - b.n);
      assertEquals(order, sorted);
    });

    test("delivers each message once to eight processes", async () => {
      await using arena = await openArena(open, ({ n }) => ({ priority: n % 3 }), MESSAGES / 4);
      // They may begin when all of them are there: otherwise the first would have it all to itself.
      await arena.store.admin.queues.pause("tasks");
      await using claimers = startClaimers(arena.dsn);
      await claimers.areReady();
      await arena.store.admin.queues.resume("tasks");
      const lists = await claimers.finish();
      assertEquals(lists.flat().sort((a, b) => a - b), allNumbers(MESSAGES / 4));
    });
  });
}

test("a message that falls due between the parts of a claim on SQLite is claimed, or due at once", async () => {
  await using arena = await openArena(freshSqliteFile, () => ({}), 0);
  using database = new DatabaseSync(new URL(arena.dsn.replace(/^sqlite:/, "file:")).pathname);
  const begin = Date.now();
  let isClaimed = false;
  for (let ms = 0; !isClaimed || ms < 100; ms++) {
    await arena.store.producer("tasks").enqueue({ n: ms }, { at: new Date(begin + 100 - ms) });
    // One more millisecond has gone by whenever a part asks for the time.
    let at = begin;
    const claim = claimMessages({
      queue: "tasks",
      limit: 5,
      leaseMs: 60_000,
      defaultLeaseMs: 1,
      holder: "host#00000002",
      type: undefined,
      isAhead: true,
    });
    const { parts } = render(claim, { dialect: sqlite, schema: "public", clock: () => at++ });
    const rows = parts.flatMap(({ text, values }) => {
      const prepared = database.prepare(text);
      (prepared as unknown as { setReturnArrays(isOn: boolean): void }).setReturnArrays(true);
      return prepared.all(...values as SQLInputValue[]);
    });
    const { claimed, nextMs } = decodeExchange(rows as unknown as Row[]);
    isClaimed = claimed.length > 0;
    if (!isClaimed) assert(nextMs !== null && nextMs <= 100 - ms, `due after ${100 - ms} ms, told: ${nextMs}`);
    database.exec("delete from pgqrs_messages");
  }
});

interface Arena extends AsyncDisposable {
  readonly dsn: string;
  readonly store: Store;
}

/** A database with a queue full of numbered messages. */
async function openArena(
  open: () => Promise<TestDatabase> | TestDatabase,
  each: (payload: Numbered) => { priority?: number },
  count = MESSAGES,
): Promise<Arena> {
  const database = await open();
  const store = await connect(database.dsn, { maxConnections: 2 });
  await store.admin.install();
  await store.admin.createQueue("tasks");
  const list = Array.from({ length: count }, (_, n) => ({ n }));
  await store.producer<Numbered>("tasks").enqueueMany(list, { each });
  return {
    dsn: database.dsn,
    store,
    async [Symbol.asyncDispose]() {
      await store.close();
      await database.close();
    },
  };
}

/** Claims and archives, on a store of its own, until nothing is left. Resolves to what it was given. */
async function drain({ dsn }: Arena, limit: number): Promise<Message<Numbered>[]> {
  await using store = await connect(dsn, { maxConnections: 2 });
  const consumer = store.consumer<Numbered>("tasks", { name: `limit-${limit}` });
  const all: Message<Numbered>[] = [];
  for (;;) {
    const messages = await consumer.dequeue({ limit, leaseMs: 600_000 });
    assert(messages.length <= limit, `${messages.length} messages came where ${limit} were asked for`);
    // None came: they are gone, or others are just taking them.
    if (messages.length === 0 && await store.admin.messages.count({ queue: "tasks", state: "ready" }) === 0) break;
    all.push(...messages);
    assert(!(await consumer.archiveMany(messages)).includes(false));
  }
  return all;
}

interface Claimers extends AsyncDisposable {
  /** Resolves when all of them have opened the database. */
  areReady(): Promise<void>;
  /** Waits for their end and reads what each was given. */
  finish(): Promise<number[][]>;
}

function startClaimers(dsn: string): Claimers {
  const file = new URL("./support/claim_process.ts", import.meta.url);
  const children = LIMITS.map((limit) => startProcess(file, { args: [dsn, "tasks", String(Math.max(limit, 10))] }));
  return {
    async areReady() {
      await Promise.all(children.map((child) => child.waitFor("ready")));
    },
    finish: () => Promise.all(children.map(batchesOf)),
    async [Symbol.asyncDispose]() {
      await Promise.all(children.map((child) => child[Symbol.asyncDispose]()));
    },
  };
}

async function batchesOf(child: TestProcess): Promise<number[]> {
  const { code } = await child.exited;
  assertEquals(code, 0, child.stderr);
  const batches = child.stdout.split("\n").filter((line) => line.startsWith("batch"));
  return batches.flatMap((line) => line.split(" ").slice(1).filter((n) => n !== "").map(Number));
}

function numbersOf(messages: readonly Message<Numbered>[]): number[] {
  return messages.map(({ payload }) => payload.n).sort((a, b) => a - b);
}

function allNumbers(count = MESSAGES): number[] {
  return Array.from({ length: count }, (_, n) => n);
}
