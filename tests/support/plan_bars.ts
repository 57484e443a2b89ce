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
/** The bar for a claim. What ends or moves a message writes a second table or index, and may touch a little more. */
const BUFFERS_EACH = 25;
const BUFFERS_EACH_SETTLED = 32;
const GROWTH = 1.6;
/** Under a snapshot the rows that earlier measurements have moved lie in the way, so that the figure scatters. */
const GROWTH_UNDER_SNAPSHOT = 2;
const MODES = ["force_generic_plan", "force_custom_plan"];
/** A list that comes in the order of its keys is sorted in memory, and nothing else may be. */
const SORTS_ITS_LIST = ["enqueue under a new key", "enqueue under a taken key"];

type Work = (session: PlanSession) => Promise<Probe>;

/** What is looked at. Each takes ten messages that it has claimed just before. */
const WORKS: Readonly<Record<string, Work>> = {
  claim: (session) => claim(session),
  archive: (session) => settle(session, "archive_leased", `'${HOLDER}', 'me', null`, { reason: "done", result: {} }),
  fail: (session) => settle(session, "fail_leased", `'${HOLDER}', 'me', null`, { error: {}, delay_ms: 0, is_final: 0 }),
  "final fail": (session) =>
    settle(session, "fail_leased", `'${HOLDER}', 'me', null`, { error: {}, delay_ms: 0, is_final: 1 }),
  extend: (session) => settle(session, "extend_leased", `'${HOLDER}', null`, { lease_ms: 60_000_000 }),
  release: (session) => settle(session, "release_leased", `'${HOLDER}', null`, { delay_ms: 0 }),
  delete: (session) => settle(session, "delete_leased", `'${HOLDER}'`, {}),
  "enqueue under a new key": (session) => enqueue(session, `new-${newKey++}`),
  "enqueue under a taken key": (session) => enqueue(session, "taken"),
};
let newKey = 0;

/** Measures all statements on small tables, then with `size` rows of each kind, in three situations. */
export async function checkPlans(size: number, server?: string): Promise<void> {
  const database = await freshPostgres(server);
  const sql = postgres(database.dsn, { max: 1, onnotice() {}, fetch_types: false });
  const sessions: PlanSession[] = [];
  try {
    await prepare(database.dsn, sql);
    // These make their plans while the tables are empty, and keep them.
    const old = await Promise.all(MODES.map((mode) => openWarm(database.dsn, mode)));
    sessions.push(...old);
    await fill(sql, 0, SMALL);
    const small = await Promise.all(old.map(measure));
    await fill(sql, SMALL, size);
    await checkAll(old, small, `plans of the empty tables on ${size} rows`);
    const fresh = await Promise.all(MODES.map((mode) => openWarm(database.dsn, mode)));
    sessions.push(...fresh);
    await checkAll(fresh, small, `statistics of the empty tables on ${size} rows`);
    await vacuumUnderSnapshot(database.dsn, sql);
    // VACUUM makes every session read the catalogues and make its plans anew; that is not what is measured.
    for (const session of [...old, ...fresh]) await measure(session);
    await checkAll([...old, ...fresh], [...small, ...small], `after VACUUM under a snapshot on ${size} rows`);
  } finally {
    await Promise.all(sessions.map((session) => session.close()));
    await sql.end({ timeout: 5 });
    await database.close();
  }
}

/** Delivers many messages while a snapshot keeps what is gone, and resolves to what the best of the next claims reads. */
export async function claimUnderSnapshot(): Promise<{ readonly buffers: number; readonly dead: number }> {
  const database = await freshPostgres();
  const sql = postgres(database.dsn, { max: 1, onnotice() {}, fetch_types: false });
  const holder = postgres(database.dsn, { max: 1, onnotice() {}, fetch_types: false });
  let dead = 0;
  try {
    await prepare(database.dsn, sql);
    await fill(sql, 0, 40_000);
    const session = await openWarm(database.dsn, "auto");
    let buffers = Number.POSITIVE_INFINITY;
    await holder.begin("isolation level repeatable read read only", async (held) => {
      await held`select count(*) from pgqrs_queues`;
      const gone = "state = 'ready' and due_at <= now() and (priority > 0 or id % 4 > 0)";
      dead = (await sql.unsafe(`delete from pgqrs_messages where ${gone}`)).count;
      // The first claim finds out that there is much to pass over; one that follows in time makes use of it.
      for (let i = 0; i < 20; i++) buffers = Math.min(buffers, (await claim(session)).buffers);
    });
    await session.close();
    return { buffers, dead };
  } finally {
    await Promise.all([sql.end({ timeout: 5 }), holder.end({ timeout: 5 })]);
    await database.close();
  }
}

/** Claims with a hint that leads past all messages but one. Resolves to how many come. */
export async function claimWithHint(count: number): Promise<number> {
  const database = await freshPostgres();
  const sql = postgres(database.dsn, { max: 1, onnotice() {}, fetch_types: false });
  try {
    await prepare(database.dsn, sql);
    await fill(sql, 0, count);
    const lanes = `array_fill((select max(due_at) from pgqrs_messages where due_at < now()), array[10])`;
    await sql.unsafe(`
      select set_config('pgqrs.claim_' || tableoid || '_' || id,
        (${lanes} || array[now(), now() + interval '1 hour'])::text, false)
      from pgqrs_queues where name = 'tasks'`);
    const rows = await sql.unsafe(
      `select * from pgqrs_claim('tasks', ${count + 1}, null, 1000, 'h#00000001', null, null)`,
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

/** A session that has executed everything once, so that a measurement has no reading of catalogues in it. */
async function openWarm(dsn: string, mode: string): Promise<PlanSession> {
  const session = await openPlanSession(dsn, [`set plan_cache_mode = ${mode}`]);
  for (const work of Object.values(WORKS)) await work(session);
  return session;
}

async function measure(session: PlanSession): Promise<Readonly<Record<string, Probe>>> {
  const probes: [string, Probe][] = [];
  for (const [name, work] of Object.entries(WORKS)) probes.push([name, await middleOf(session, work)]);
  return Object.fromEntries(probes);
}

/** The middle of three: now and then a call has to read the catalogues anew, or to make the table larger. */
async function middleOf(session: PlanSession, work: Work): Promise<Probe> {
  const probes = [await work(session), await work(session), await work(session)];
  return probes.sort((a, b) => a.buffers - b.buffers)[1] as Probe;
}

async function checkAll(
  sessions: readonly PlanSession[],
  small: readonly Readonly<Record<string, Probe>>[],
  situation: string,
): Promise<void> {
  for (const [i, session] of sessions.entries()) {
    const probes = await measure(session);
    for (const [name, probe] of Object.entries(probes)) {
      const what = `${name} (${MODES[i % MODES.length]}, ${situation}): ${probe.buffers} buffers, ${probe.nodes}`;
      check(name, probe, small[i]?.[name] as Probe, what);
    }
  }
}

function check(name: string, { rows, buffers, nodes }: Probe, small: Probe, what: string): void {
  assertEquals(rows.length, name.startsWith("enqueue") ? 1 : BATCH, what);
  const each = name.startsWith("claim") ? BUFFERS_EACH : BUFFERS_EACH_SETTLED;
  assert(buffers <= each * BATCH, `${what}: more than ${each} for each message`);
  const growth = what.includes("under a snapshot") ? GROWTH_UNDER_SNAPSHOT : GROWTH;
  assert(buffers <= small.buffers * growth, `${what}: more than ${growth} times the ${small.buffers} on small tables`);
  const bad = nodes.filter((node) => /Seq Scan|Hash|Merge|Bitmap/.test(node) || /Sort/.test(node));
  assertEquals(bad, SORTS_ITS_LIST.includes(name) ? ["Sort"] : [], what);
}

/** Rows of each kind: due, not due, leased by others, ended. One in ten of each has any given priority. */
async function fill(sql: postgres.Sql, from: number, to: number): Promise<void> {
  if (from >= to) return;
  const series = `generate_series(${from + 1}, ${to}) g`;
  const live = (state: string, due: string, lease: string) => `
    insert into pgqrs_messages (queue_id, state, priority, due_at, enqueued_at, token, holder, leased_at, lease_until,
      max_attempts, max_crashes, payload)
    select 1, '${state}', g % 10, ${due}, now(), ${lease}, 5, 10, '{"n": 1}' from ${series}`;
  await sql.unsafe(live("ready", "now() - interval '1 hour' + g * interval '1 ms'", "0, null, null, null"));
  await sql.unsafe(live("ready", "now() + interval '1 hour' + g * interval '1 ms'", "0, null, null, null"));
  await sql.unsafe(live("leased", "now()", "1, 'other#00000002', now(), now() + interval '1 hour'"));
  await sql.unsafe(`
    insert into pgqrs_archive (id, queue_id, outcome, priority, enqueued_at, archived_at, token, attempts, crashes,
      max_attempts, max_crashes, payload)
    select -g, 1, 'succeeded', 0, now(), now(), 1, 0, 0, 5, 10, '{"n": 1}' from ${series}`);
  await sql.unsafe(`
    insert into pgqrs_keys (queue_id, key, message_id, hash, hold, expires_at)
    select 1, 'filled-' || g, -g, 'js:0', 'default', now() + interval '1 day' from ${series}`);
}

/** Leaves dead rows of all kinds behind that VACUUM may count and not remove. */
async function vacuumUnderSnapshot(dsn: string, sql: postgres.Sql): Promise<void> {
  const holder = postgres(dsn, { max: 1, onnotice() {}, fetch_types: false });
  await holder.begin("isolation level repeatable read read only", async (held) => {
    await held`select count(*) from pgqrs_queues`;
    for (const state of ["state = 'leased'", "state = 'ready' and due_at > now()"]) {
      await sql.unsafe(`delete from pgqrs_messages where ${state} and id % 3 = 0`);
    }
    await sql.unsafe(`delete from pgqrs_messages where id in (
      select id from pgqrs_messages where state = 'ready' and due_at <= now() order by due_at limit ${BATCH * BATCH})`);
    for (const table of ["messages", "archive", "keys"]) await sql.unsafe(`vacuum pgqrs_${table}`);
  });
  await holder.end({ timeout: 5 });
}

async function claim(session: PlanSession): Promise<Probe> {
  return await session.probe(
    `select id, token from pgqrs_claim('tasks', ${BATCH}, null, 3600000, '${HOLDER}', null, null)`,
  );
}

async function settle(session: PlanSession, name: string, rest: string, fields: object): Promise<Probe> {
  const { rows } = await claim(session);
  const items = rows.map(({ id, token }) => ({ id: Number(id), token: Number(token), ...fields }));
  return await session.probe(`select * from pgqrs_${name}('${JSON.stringify(items)}', ${rest})`);
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
    `select e from pgqrs_enqueue_many('tasks', '[{"n":1}]', '${JSON.stringify([option])}', null) e`,
  );
}
