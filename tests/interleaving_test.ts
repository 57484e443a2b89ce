/**
 * Two operations on one message at the same moment, on two real connections: whatever the order in which they meet, the
 * outcome is the one of doing them one after the other.
 *
 * The first operation is held inside an open transaction while the second starts; the second is let go on only when it
 * waits for a lock or has ended. The library's own statements run on bare connections, so that no retry hides a deadlock.
 */
import { assert, assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import type postgres from "postgres";
import { connect } from "../mod.ts";
import { postgres as dialect } from "../src/sql/dialect.ts";
import { replayArchived } from "../src/sql/archive.ts";
import { type EnqueueItem, enqueueMessages } from "../src/sql/enqueue.ts";
import {
  archiveLeased,
  claimMessages,
  deleteLeased,
  extendLeased,
  failLeased,
  releaseLeased,
} from "../src/sql/leases.ts";
import { deleteMessages, endMessages, updateMessage } from "../src/sql/messages.ts";
import { purgeQueue } from "../src/sql/queues.ts";
import { render, type Statement } from "../src/sql/sql.ts";
import { bareClient, freshPostgres, type TestDatabase } from "./support/databases.ts";

/** The id of the message that is fought for; ids that the sequence gives are far above it. */
const ID = 777;
const TOKEN = 5;
const EPOCH = Date.UTC(2030, 0, 1);
const HOLDER = "me#00000001";
const item = { id: ID, token: TOKEN };
const again: EnqueueItem = { key: "k", hash: "js:1", conflict: "existing", hold: "finished" };

const OPERATIONS: Readonly<Record<string, Statement>> = {
  claim: claim(),
  // Nothing is of this type, so that it only takes back what has run out.
  "expired sweep": claim("none"),
  archive: archiveLeased([{ ...item, reason: "done", result: "1" }], HOLDER, "me"),
  delete: deleteLeased([item], HOLDER),
  release: releaseLeased([{ ...item, delay_ms: 10 }], HOLDER),
  fail: failLeased([{ ...item, error: "{}", delay_ms: 10, is_final: 0 }], HOLDER, "me"),
  "final fail": failLeased([{ ...item, error: "{}", delay_ms: 10, is_final: 1 }], HOLDER, "me"),
  extend: extendLeased([{ ...item, lease_ms: 500_000 }], HOLDER),
  "operator's delete": deleteMessages([ID]),
  "operator's cancel": endMessages([ID], { outcome: "cancelled", reason: "cancelled", by: "operator" }),
  "operator's update": updateMessage(ID, { priority: 7 }),
  "operator's release": updateMessage(ID, { delayMs: 0 }),
  replay: replayArchived({ ids: [ID] }, 1),
  "enqueue existing": enqueueMessages("q", ['{"n":1}'], [again]),
  "enqueue replace": enqueueMessages("q", ['{"n":2}'], [{ ...again, hash: "js:2", conflict: "replace" }]),
};

/** What does not wait for a locked row but passes it over. */
const SKIPS = ["claim", "expired sweep"];

/** The states in which the two may find the message. */
const STARTS: Readonly<Record<string, string>> = {
  ready: live("'ready', 0, null, null, null, 10"),
  leased: live(`'leased', ${TOKEN}, '${HOLDER}', ${at(0)}, ${at(100_000)}, 10`),
  expired: live(`'leased', ${TOKEN}, '${HOLDER}', ${at(-2)}, ${at(-1)}, 10`),
  "expired for the last time": live(`'leased', ${TOKEN}, '${HOLDER}', ${at(-2)}, ${at(-1)}, 1`),
  failed:
    `insert into pgqrs_archive (id, queue_id, outcome, reason, priority, enqueued_at, archived_at, token, attempts,
    crashes, max_attempts, max_crashes, key, payload)
  values (${ID}, 1, 'failed', 'attempts', 0, ${at(0)}, ${at(0)}, ${TOKEN}, 5, 0, 5, 10, 'k', '{"n":1}')`,
};

/** What gives a lease, or takes one away and leaves the message. */
const LEASE_CHANGES = [
  ["ready", "claim"],
  ["leased", "release"],
  ["leased", "fail"],
  ["leased", "operator's update"],
  ["leased", "operator's release"],
  ["expired", "expired sweep"],
] as const;

const NOTHING = "[]";
const UNCOMMITTED = new Error("rolled back on purpose");

describe("interleaving on one message", () => {
  let arena: Arena;
  before(async () => {
    arena = await openArena();
  });
  after(async () => await arena.close());

  test("a claim passes over a locked message, and a settling waits for it", async () => {
    assertEquals((await arena.atOnce("ready", "operator's update", "claim", true)).hasWaited, false);
    assertEquals((await arena.atOnce("leased", "extend", "archive", true)).hasWaited, true);
  });

  test("every change of a lease raises the token", async () => {
    for (const [start, operation] of LEASE_CHANGES) {
      const before = tokenIn(await arena.inTurn(start, []));
      const after = tokenIn(await arena.inTurn(start, [operation]));
      assert(after > before, `${operation} of a message that is ${start}: from ${before} to ${after}`);
    }
  });

  for (const start of Object.keys(STARTS)) {
    for (const first of Object.keys(OPERATIONS)) {
      test(`${first} of a message that is ${start} and each other operation act as one after the other`, async () => {
        const alone = await arena.inTurn(start, [first]);
        const before = await arena.inTurn(start, []);
        // What does nothing in this state holds no lock either.
        if (alone.state === before.state && alone.results[0] === NOTHING) return;
        for (const second of Object.keys(OPERATIONS)) await checkPair(arena, start, first, second);
      });
    }
  }
});

async function checkPair(arena: Arena, start: string, first: string, second: string): Promise<void> {
  const what = `${start}: ${first}, then ${second}`;
  const forward = await arena.inTurn(start, [first, second]);
  const backward = await arena.inTurn(start, [second, first], true);
  const alone = await arena.inTurn(start, [first]);
  const allowed = [forward, backward];
  if (SKIPS.includes(second)) allowed.push({ state: alone.state, results: [alone.results[0] ?? "", NOTHING] });
  const met = await arena.atOnce(start, first, second, true);
  assert(allowed.some((one) => isEqual(one, met)), `${what}: ${show(met)} is none of\n${allowed.map(show).join("\n")}`);
  // Whoever waited has to see what was committed meanwhile.
  if (met.hasWaited) assertEquals(plain(met), plain(forward), what);

  const undone = await arena.atOnce(start, first, second, false);
  const only = await arena.inTurn(start, [second]);
  const nothing = { state: (await arena.inTurn(start, [])).state, results: [NOTHING] };
  const own = { state: undone.state, results: undone.results.slice(1) };
  const expected = SKIPS.includes(second) && isEqual(own, nothing) ? nothing : only;
  assertEquals(own, plain(expected), `${what}, and the first rolled back`);
}

interface Outcome {
  /** All rows of all tables that matter, as text in which ids and nothing else are made comparable. */
  readonly state: string;
  /** The rows of each operation. */
  readonly results: readonly string[];
}

interface Arena {
  /** Runs operations one after the other; in the opposite order each keeps its time and its place among the results. */
  inTurn(start: string, operations: readonly string[], isReversed?: boolean): Promise<Outcome>;
  /** Holds the first in a transaction, starts the second, then commits or rolls back. */
  atOnce(
    start: string,
    first: string,
    second: string,
    isCommitted: boolean,
  ): Promise<Outcome & { readonly hasWaited: boolean }>;
  close(): Promise<void>;
}

async function openArena(): Promise<Arena> {
  const { database, connections: [one, two, watcher], close } = await openConnections();
  await prepare(database);
  const known = new Map<string, Outcome>();
  const pid = await pidOf(two);

  async function inTurn(start: string, operations: readonly string[], isReversed = false): Promise<Outcome> {
    const name = [start, ...operations, isReversed].join();
    const found = known.get(name);
    if (found !== undefined) return found;
    await reset(one, start);
    const results: string[] = [];
    for (const [i, operation] of operations.entries()) {
      results.push(await execute(one, operation, EPOCH + 1_000 * (isReversed ? operations.length - i : i + 1)));
    }
    const outcome = { state: await read(one), results: isReversed ? results.reverse() : results };
    known.set(name, outcome);
    return outcome;
  }

  async function atOnce(start: string, first: string, second: string, isCommitted: boolean) {
    await reset(one, start);
    let pending: Promise<string> | undefined;
    let hasWaited = false;
    let own = "";
    const work = async (held: postgres.Sql) => {
      own = await execute(held, first, EPOCH + 1_000);
      pending = execute(two, second, EPOCH + (isCommitted ? 2_000 : 1_000));
      hasWaited = await waitsForLock(watcher, pid, pending);
      if (!isCommitted) throw UNCOMMITTED;
    };
    await one.begin((held) => work(held as unknown as postgres.Sql)).catch((error) => {
      if (error !== UNCOMMITTED) throw error;
    });
    return { results: [own, await pending ?? ""], state: await read(one), hasWaited };
  }

  return { inTurn, atOnce, close };
}

describe("many-forms on lists in opposite orders", () => {
  const ids = Array.from({ length: 20 }, (_, i) => i + 1);
  // A list whose messages have one token in common takes a way of its own.
  const even = (list: typeof ids) => list.filter((id) => id % 2 === 0);
  const leased = ids.map((id) => ({
    id,
    token: 1 + id % 2,
    reason: null,
    result: null,
    delay_ms: 0,
    lease_ms: 500_000,
  }));
  const keyed = (conflict: "existing" | "replace") => (list: typeof ids) =>
    enqueueMessages("q", list.map(() => "1"), list.map((id) => ({ ...again, key: `k${100 + id}`, conflict })));
  const forms: Readonly<Record<string, (list: typeof ids) => Statement>> = {
    archiveMany: (list) => archiveLeased(inOrder(leased, list), HOLDER, "me"),
    "archiveMany of one token": (list) => archiveLeased(inOrder(leased, even(list)), HOLDER, "me"),
    deleteMany: (list) => deleteLeased(inOrder(leased, list), HOLDER),
    releaseMany: (list) => releaseLeased(inOrder(leased, list), HOLDER),
    extendMany: (list) => extendLeased(inOrder(leased, list), HOLDER),
    failMany: (list) =>
      failLeased(inOrder(leased, list).map((i) => ({ ...i, error: "{}", is_final: i.id % 2 as 0 | 1 })), HOLDER, "me"),
    "enqueueMany under taken keys": keyed("existing"),
    "enqueueMany that replaces": keyed("replace"),
    "dead.replay": (list) => replayArchived({ ids: list }, list.length),
    "messages.cancel": (list) => endMessages(list, { outcome: "cancelled", reason: "cancelled", by: "operator" }),
    "queues.purge": () => purgeQueue("q", true),
  };
  let connections: Connections;
  before(async () => {
    connections = await openConnections();
    await prepare(connections.database);
  });
  after(async () => await connections.close());

  for (const [name, make] of Object.entries(forms)) {
    test(`${name} locks in one order, whatever the order of the list`, async () => {
      const [one, two, watcher] = connections.connections;
      const isReplay = name === "dead.replay";
      const fill = `${CLEAR}; ${isReplay ? FILL_ARCHIVE : name.startsWith("enqueue") ? FILL_READY : FILL_LEASED}`;
      await one.unsafe(fill);
      // The row in the middle is held until both wait: in opposite orders each would then have what the other needs.
      let pending: Promise<string>[] = [];
      const middle = isReplay ? "pgqrs_archive" : name.startsWith("enqueue") ? "pgqrs_keys" : "pgqrs_messages";
      const pids = [await pidOf(one), await pidOf(two)];
      await watcher.begin(async (tx) => {
        const held = tx as unknown as postgres.Sql;
        await held.unsafe(
          `select from ${middle} where ${middle === "pgqrs_keys" ? "message_id" : "id"} = 10 for update`,
        );
        pending = [run(one, make(ids)), run(two, make([...ids].reverse()))];
        for (const [i, pid] of pids.entries()) {
          assert(await waitsForLock(held, pid, pending[i] as Promise<string>), "the row was not waited for");
        }
      });
      assertEquals((await Promise.all(pending)).filter(isFailure), []);
      for (let round = 0; round < 200; round++) {
        await one.unsafe(fill);
        const results = await Promise.all([run(one, make(ids)), run(two, make([...ids].reverse()))]);
        assertEquals(results.filter(isFailure), [], `round ${round}`);
      }
    });
  }
});

const CLEAR = `delete from pgqrs_messages; delete from pgqrs_archive; delete from pgqrs_keys`;
const FILL_LEASED =
  `insert into pgqrs_messages (id, queue_id, state, priority, due_at, enqueued_at, token, holder, leased_at,
    lease_until, max_attempts, max_crashes, payload)
  select g, 1, 'leased', 0, ${at(0)}, ${at(0)}, 1 + g % 2, '${HOLDER}', ${at(0)}, ${at(100_000)}, 5, 10, '1'
  from generate_series(1, 20) g`;
const FILL_READY =
  `insert into pgqrs_messages (id, queue_id, state, priority, due_at, enqueued_at, max_attempts, max_crashes,
    key, payload)
  select g, 1, 'ready', 0, ${at(0)}, ${at(0)}, 5, 10, 'k' || 100 + g, '1' from generate_series(1, 20) g;
  insert into pgqrs_keys (queue_id, key, message_id, hash, hold)
  select 1, 'k' || 100 + g, g, 'js:1', 'finished' from generate_series(1, 20) g`;
const FILL_ARCHIVE =
  `insert into pgqrs_archive (id, queue_id, outcome, priority, enqueued_at, archived_at, token, attempts,
    crashes, max_attempts, max_crashes, payload)
  select g, 1, 'failed', 0, ${at(0)}, ${at(0)}, 1, 5, 0, 5, 10, '1' from generate_series(1, 20) g`;

interface Connections {
  readonly database: TestDatabase;
  readonly connections: readonly [postgres.Sql, postgres.Sql, postgres.Sql];
  close(): Promise<void>;
}

/** Three connections to a database of their own. */
async function openConnections(): Promise<Connections> {
  const database = await freshPostgres();
  const open = () => bareClient(database.dsn);
  const connections = [open(), open(), open()] as const;
  const close = async () => {
    await Promise.all(connections.map((connection) => connection.end({ timeout: 5 })));
    await database.close();
  };
  return { database, connections, close };
}

async function prepare({ dsn }: TestDatabase): Promise<void> {
  await using store = await connect(dsn);
  await store.admin.install();
  await store.admin.createQueue("q");
  await store.admin.createQueue("empty");
}

function claim(type?: string): Statement {
  return claimMessages({
    queue: "q",
    limit: 5,
    leaseMs: 60_000,
    defaultLeaseMs: 1,
    holder: "other#00000002",
    type,
  });
}

async function reset(sql: postgres.Sql, start: string): Promise<void> {
  const held =
    `insert into pgqrs_keys (queue_id, key, message_id, hash, hold) values (1, 'k', ${ID}, 'js:1', 'finished')`;
  await sql.unsafe(`${CLEAR}; select setval('pgqrs_messages_id_seq', 999999); ${STARTS[start]}; ${held}`);
}

/** Runs an operation of the table at a time of its own. Resolves to its rows, or to the error's code. */
async function execute(sql: postgres.Sql, operation: string, now: number): Promise<string> {
  return await run(sql, OPERATIONS[operation] as Statement, now);
}

async function run(sql: postgres.Sql, statement: Statement, now = EPOCH): Promise<string> {
  const { parts } = render(statement, { dialect, schema: "public", clock: () => now });
  try {
    const rows: unknown[] = [];
    // One after the other: what comes before the last part is a lock against those who delete queues.
    for (const part of parts) rows.push(...await sql.unsafe(part.text, part.values as string[]).values());
    return comparable(JSON.stringify(rows));
  } catch (error) {
    return `failed: ${(error as postgres.PostgresError).code}`;
  }
}

function isFailure(result: string): boolean {
  return result.startsWith("failed");
}

/** Everything that is stored. Times are those of the clock, so they say which of the operations wrote them. */
async function read(sql: postgres.Sql): Promise<string> {
  const rows = await sql.unsafe(`
    select 'message', to_jsonb(m) from pgqrs_messages m union all
    select 'archive', to_jsonb(a) from pgqrs_archive a union all
    select 'key', to_jsonb(k) from pgqrs_keys k order by 1, 2`).values();
  return comparable(JSON.stringify(rows));
}

/** Ids of new messages depend on how many attempts were made before. */
function comparable(text: string): string {
  return text.replaceAll(/\b1000\d{3}\b/g, "new");
}

async function pidOf(sql: postgres.Sql): Promise<number> {
  const [row] = await sql`select pg_backend_pid() as pid`;
  return Number(row?.pid);
}

/** Resolves as soon as the session waits for a lock (true), or the work has ended without (false). */
async function waitsForLock(sql: postgres.Sql, pid: number, work: Promise<unknown>): Promise<boolean> {
  let hasEnded = false;
  void work.then(() => hasEnded = true);
  for (;;) {
    const [row] = await sql`select wait_event_type = 'Lock' as waits from pg_stat_activity where pid = ${pid}`;
    if (hasEnded) return false;
    if (row?.waits === true) return true;
  }
}

function tokenIn({ state }: Outcome): number {
  return Number(/"token":(\d+)/.exec(state)?.[1]);
}

function live(values: string): string {
  return `insert into pgqrs_messages (id, queue_id, priority, due_at, enqueued_at, max_attempts, key, payload,
    state, token, holder, leased_at, lease_until, max_crashes)
  values (${ID}, 1, 0, ${at(0)}, ${at(0)}, 5, 'k', '{"n":1}', ${values})`;
}

function at(offsetMs: number): string {
  return `timestamptz '${new Date(EPOCH + offsetMs).toISOString()}'`;
}

function inOrder<T extends { id: number }>(items: readonly T[], ids: readonly number[]): T[] {
  return ids.map((id) => items[id - 1] as T);
}

function plain({ state, results }: Outcome): Outcome {
  return { state, results: [...results] };
}

function isEqual(a: Outcome, b: Outcome): boolean {
  return show(a) === show(b);
}

function show({ state, results }: Outcome): string {
  return JSON.stringify({ results, state });
}
