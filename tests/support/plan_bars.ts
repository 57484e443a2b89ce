/**
 * The bars on what the hot statements read, whatever the size of the tables, the statistics and the plans in the cache.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import postgres from "postgres";
import { connect } from "../../mod.ts";
import { freshPostgres } from "./databases.ts";
import { openPlanSession, type PlanSession, type Probe } from "./plan_probe.ts";

const HOLDER = "me#00000001";
const SMALL = 1_000;
const BATCH = 10;
const ROUNDS = 3;
/** How much more may be read on large tables than on small ones, in the same situation after the same calls. */
const GROWTH = 1.6;
/**
 * Buffers for each message. Those of the claims are what was asked for; the others are a fifth above what is read at
 * worst, whatever the size and the version of the server. Finding a row by its id takes up to four at a million rows,
 * and writing a version of it one for the row and up to three for each index. `fail` finds each row three times: to
 * lock it, and for each way out.
 */
const BUFFERS_EACH: Readonly<Record<string, number>> = {
  claim: 25,
  "claim by its own clock": 25,
  archive: 14,
  fail: 32,
  "final fail": 22,
  extend: 17,
  release: 19,
  delete: 9.5,
  "enqueue under a new key": 21,
  "enqueue under a taken key": 22,
};
const MODES = ["force_generic_plan", "force_custom_plan"];
/** A list that comes in the order of its keys is sorted in memory, and nothing else may be. */
const SORTS_ITS_LIST = ["enqueue under a new key", "enqueue under a taken key"];

type Figures = Readonly<Record<string, Probe>>;
type Work = (session: PlanSession, claimed: Probe) => Promise<Probe>;

/** What is done with ten messages that have been claimed just before. */
const SETTLES: Readonly<Record<string, Work>> = {
  archive: settle("archive_leased", `'${HOLDER}', 'me', null`, { reason: "done", result: {} }),
  fail: settle("fail_leased", `'${HOLDER}', 'me', null`, { error: {}, delay_ms: 0, is_final: 0 }),
  "final fail": settle("fail_leased", `'${HOLDER}', 'me', null`, { error: {}, delay_ms: 0, is_final: 1 }),
  extend: settle("extend_leased", `'${HOLDER}', null`, { lease_ms: 60_000_000 }),
  release: settle("release_leased", `'${HOLDER}', null`, { delay_ms: 0 }),
  delete: settle("delete_leased", `'${HOLDER}'`, {}),
};
let newKey = 0;

/**
 * Measures all statements with `size` rows of each kind and with 1 000, in four situations.
 *
 * Both times the same calls are made in the same order on tables of their own, and figures of the same place in it are
 * compared. So what earlier calls and VACUUM have left is in both, and the sizes are all that differs.
 */
export async function checkPlans(size: number, server?: string): Promise<void> {
  const small = await measureAt(SMALL, server);
  const large = await measureAt(size, server);
  for (const [situation, figures] of large) {
    for (const [name, probe] of Object.entries(figures)) {
      const what = `${name} (${situation}, ${size} rows): ${probe.buffers} buffers, ${probe.nodes}`;
      check(name, probe, small.get(situation)?.[name] as Probe, what);
    }
  }
}

async function measureAt(size: number, server?: string): Promise<Map<string, Figures>> {
  const database = await freshPostgres(server);
  const sql = postgres(database.dsn, { max: 1, onnotice() {}, fetch_types: false });
  const sessions: PlanSession[] = [];
  const figures = new Map<string, Figures>();
  const measureEach = async (some: readonly PlanSession[], situation: string) => {
    for (const [i, session] of some.entries()) figures.set(`${situation}, ${MODES[i]}`, await measure(session));
  };
  const openEach = async () => {
    const settings = MODES.map((mode) => [`set plan_cache_mode = ${mode}`]);
    const opened = await Promise.all(settings.map((own) => openPlanSession(database.dsn, own)));
    sessions.push(...opened);
    return opened;
  };
  try {
    await prepare(database.dsn, sql);
    // These make their plans while the tables are empty, and keep them.
    const old = await openEach();
    for (const session of old) await round(session);
    await fill(sql, size);
    await measureEach(old, "plans of the empty tables");
    const fresh = await openEach();
    await measureEach(fresh, "statistics of the empty tables");
    await fillLane(sql, "90 minutes");
    await underSnapshot(database.dsn, async () => {
      await vacuumInVain(sql);
      await measureEach(old, "VACUUM under a snapshot");
    });
    await sql.unsafe("analyze");
    await measureEach(fresh, "ANALYZE after a snapshot");
    return figures;
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
    await sql.end({ timeout: 5 });
    await database.close();
  }
}

/** Delivers many messages while a snapshot keeps what is gone. Resolves to what the best of the next claims reads. */
export async function claimUnderSnapshot(): Promise<{ readonly buffers: number; readonly dead: number }> {
  const database = await freshPostgres();
  const sql = postgres(database.dsn, { max: 1, onnotice() {}, fetch_types: false });
  let dead = 0;
  try {
    await prepare(database.dsn, sql);
    await fill(sql, 40_000);
    const session = await openPlanSession(database.dsn);
    await round(session);
    let buffers = Number.POSITIVE_INFINITY;
    await underSnapshot(database.dsn, async () => {
      const gone = "state = 'ready' and due_at <= now() and (priority > 0 or id % 4 > 0)";
      dead = (await sql.unsafe(`delete from pgqrs_messages where ${gone}`)).count;
      // The first claim finds out that there is much to pass over; one that follows in time makes use of it.
      for (let i = 0; i < 20; i++) buffers = Math.min(buffers, (await claim(session, "null")).buffers);
    });
    await session.close();
    return { buffers, dead };
  } finally {
    await sql.end({ timeout: 5 });
    await database.close();
  }
}

/** Claims with a hint that leads past all messages but one. Resolves to how many come. */
export async function claimWithHint(count: number): Promise<number> {
  const database = await freshPostgres();
  const sql = postgres(database.dsn, { max: 1, onnotice() {}, fetch_types: false });
  try {
    await prepare(database.dsn, sql);
    await fill(sql, count);
    const lanes = `array_fill((select max(due_at) from pgqrs_messages where due_at < now()), array[10])`;
    await sql.unsafe(`
      select set_config('pgqrs.claim_' || tableoid || '_' || id,
        (${lanes} || array[now(), now() + interval '1 hour'])::text, false)
      from pgqrs_queues where name = 'tasks'`);
    const rows = await sql.unsafe(
      `select * from pgqrs_claim('tasks', ${count + 1}, null, 1000, 'h#00000001', null, null, false, null)`,
    );
    return rows.length;
  } finally {
    await sql.end({ timeout: 5 });
    await database.close();
  }
}

async function prepare(dsn: string, sql: postgres.Sql): Promise<void> {
  await using store = await connect(dsn, { maxConnections: 2 });
  await store.admin.install();
  await store.admin.createQueue("tasks");
  // Only this test says when statistics are taken.
  for (const table of ["messages", "archive", "keys"]) {
    await sql.unsafe(`alter table pgqrs_${table} set (autovacuum_enabled = off)`);
  }
  await sql.unsafe("analyze");
}

/** The middle of three rounds for each statement, after one in which catalogues are read and plans are made. */
async function measure(session: PlanSession): Promise<Figures> {
  await round(session);
  const probes: Record<string, Probe[]> = {};
  for (let i = 0; i < ROUNDS; i++) {
    for (const [name, probe] of await round(session)) (probes[name] ??= []).push(probe);
  }
  return Object.fromEntries(Object.entries(probes).map(([name, list]) => [name, middleOf(list)]));
}

function middleOf(probes: Probe[]): Probe {
  return probes.sort((a, b) => a.buffers - b.buffers)[probes.length >> 1] as Probe;
}

/** Executes every statement once, and a claim for each that needs one. */
async function round(session: PlanSession): Promise<[string, Probe][]> {
  const probes: [string, Probe][] = [];
  for (const [name, settled] of Object.entries(SETTLES)) {
    // By its own clock, a claim that a busy machine held up leaves a hint, and reads more for that.
    const isTimed = name === "delete";
    const claimed = await claim(session, isTimed ? "null" : "now()");
    probes.push([isTimed ? "claim by its own clock" : "claim", claimed], [name, await settled(session, claimed)]);
  }
  probes.push(["enqueue under a new key", await enqueue(session, `new-${newKey++}`)]);
  probes.push(["enqueue under a taken key", await enqueue(session, "taken")]);
  return probes;
}

function check(name: string, { rows, buffers, nodes }: Probe, small: Probe, what: string): void {
  assertEquals(rows.length, name.startsWith("enqueue") ? 1 : BATCH, what);
  const each = BUFFERS_EACH[name] as number;
  assert(buffers <= each * rows.length, `${what}: more than ${each} for each message`);
  const isSteady = name !== "claim by its own clock";
  const most = isSteady ? small.buffers * GROWTH : Number.POSITIVE_INFINITY;
  assert(buffers <= most, `${what}: more than ${GROWTH} times the ${small.buffers} on small tables`);
  const bad = nodes.filter((node) => /Seq Scan|Hash|Merge|Bitmap/.test(node) || /Sort/.test(node));
  assertEquals(bad, SORTS_ITS_LIST.includes(name) ? ["Sort"] : [], what);
}

/**
 * Rows of each kind: due, not due, leased by others, ended. One in ten of each has any given priority, but for those
 * that are due first: they come first at any size.
 */
async function fill(sql: postgres.Sql, count: number): Promise<void> {
  await fillLane(sql, "2 hours", Math.min(count, SMALL));
  const series = `generate_series(1, ${count}) g`;
  const due = "now() - interval '1 hour' + g * interval '1 ms'";
  await sql.unsafe(liveRows("ready", "g % 10", due, `generate_series(${SMALL + 1}, ${count}) g`));
  await sql.unsafe(liveRows("ready", "g % 10", due.replace("-", "+"), series));
  await sql.unsafe(liveRows("leased", "g % 10", "now()", series));
  await sql.unsafe(`
    insert into pgqrs_archive (id, queue_id, outcome, priority, enqueued_at, archived_at, token, attempts, crashes,
      max_attempts, max_crashes, payload)
    select -g, 1, 'succeeded', 0, now(), now(), 1, 0, 0, 5, 10, '{"n": 1}' from ${series}`);
  await sql.unsafe(`
    insert into pgqrs_keys (queue_id, key, message_id, hash, hold, expires_at)
    select 1, 'filled-' || g, -g, 'js:0', 'default', now() + interval '1 day' from ${series}`);
}

/** Messages of the highest priority that have been due for so long. */
async function fillLane(sql: postgres.Sql, since: string, count: number = SMALL): Promise<void> {
  const due = `now() - interval '${since}' + g * interval '1 ms'`;
  await sql.unsafe(liveRows("ready", "9", due, `generate_series(1, ${count}) g`));
}

function liveRows(state: string, priority: string, due: string, series: string): string {
  const lease = state === "ready" ? "0, null, null, null" : "1, 'other#00000002', now(), now() + interval '1 hour'";
  return `
    insert into pgqrs_messages (queue_id, state, priority, due_at, enqueued_at, token, holder, leased_at, lease_until,
      max_attempts, max_crashes, payload)
    select 1, '${state}', ${priority}, ${due}, now(), ${lease}, 5, 10, '{"n": 1}' from ${series}`;
}

/** Leaves dead rows of all kinds behind that VACUUM may count and not remove. */
async function vacuumInVain(sql: postgres.Sql): Promise<void> {
  for (const state of ["state = 'leased'", "state = 'ready' and due_at > now()"]) {
    await sql.unsafe(`delete from pgqrs_messages where ${state} and id % 3 = 0`);
  }
  await sql.unsafe(`delete from pgqrs_messages where id in (
    select id from pgqrs_messages where state = 'ready' order by priority desc, due_at limit ${BATCH * BATCH})`);
  // What was gone before the snapshot goes from the indexes at every size; by itself VACUUM saves the work at some.
  for (const table of ["messages", "archive", "keys"]) await sql.unsafe(`vacuum (index_cleanup) pgqrs_${table}`);
}

async function underSnapshot(dsn: string, work: () => Promise<void>): Promise<void> {
  const holder = postgres(dsn, { max: 1, onnotice() {}, fetch_types: false });
  try {
    await holder.begin("isolation level repeatable read read only", async (held) => {
      await held`select count(*) from pgqrs_queues`;
      await work();
    });
  } finally {
    await holder.end({ timeout: 5 });
  }
}

async function claim(session: PlanSession, now: "now()" | "null"): Promise<Probe> {
  return await session.probe(
    `select id, token from pgqrs_claim('tasks', ${BATCH}, null, 3600000, '${HOLDER}', null, null, false, ${now}) where state = 'leased'`,
  );
}

function settle(name: string, rest: string, fields: object): Work {
  return async (session, { rows }) => {
    const items = rows.map(({ id, token }) => ({ id: Number(id), token: Number(token), ...fields }));
    return await session.probe(`select * from pgqrs_${name}('${JSON.stringify(items)}', ${rest})`);
  };
}

async function enqueue(session: PlanSession, key: string): Promise<Probe> {
  const option = {
    key,
    hash: "js:1",
    conflict: "existing",
    hold: "default",
    hold_ms: 86_400_000,
    delay_ms: 36_000_000,
  };
  return await session.probe(
    `select e from pgqrs_enqueue_many('tasks', '[{"n":1}]', '${JSON.stringify([option])}', null, null) e`,
  );
}
