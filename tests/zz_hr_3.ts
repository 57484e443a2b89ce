import { all, each, tryIt, connect, backends } from "./zz_hr_lib.ts";
import postgres from "postgres";
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));
// races with deleteQueue on PG: hold a row lock with a raw connection
console.log("### replay vs deleteQueue");
await each(["pg"], async (store, db, n) => {
  const sql = postgres(db.dsn, { max: 2, onnotice() {} });
  await store.admin.createQueue("q"); const p = store.producer("q"), c = store.consumer("q");
  const m = await p.enqueue(1); await c.archive((await c.dequeue())[0]);
  // replay inside an open transaction (same statement as the library sends), then delete, then commit
  const r = await sql.reserve();
  await r.unsafe("begin");
  await r.unsafe(`with target as materialized (select id from pgqrs_archive where id = ${m.id} for update), gone as (delete from pgqrs_archive where id in (select id from target) returning *)
   insert into pgqrs_messages (id, queue_id, state, priority, due_at, enqueued_at, token, max_attempts, max_crashes, payload) select id, queue_id, 'ready', priority, now(), enqueued_at, token+1, max_attempts, max_crashes, payload from gone`);
  const del = store.admin.queues.delete("q").then(() => "deleted", (e: any) => e.message);
  await sleep(300);
  await r.unsafe("commit"); r.release();
  console.log("delete (unforced):", await del, "live:", (await store.admin.messages.list()).items.map((x: any) => [x.id, x.queue, x.state]));
  await tryIt("verify", () => store.admin.verify());
  await sql.end();
});
console.log("### replay vs deleteQueue, library only, storm");
await each(["pg"], async (store, db, n) => {
  const s2 = await connect(db.dsn); let bad = 0;
  for (let k = 0; k < 60; k++) {
    await store.admin.createQueue("q", { ifMissing: true }); const p = store.producer("q"), c = store.consumer("q");
    await p.enqueueMany(Array.from({ length: 50 }, (_, i) => i)); await c.archiveMany(await c.dequeue({ limit: 50, leaseMs: 60000 }));
    const ids = (await store.admin.archive.list()).items.map((x: any) => x.id);
    const [a, b] = await Promise.allSettled([store.admin.queues.delete("q"), (async () => { let t = 0; for (const id of ids) if (await s2.admin.archive.replay(id)) t++; return t; })()]);
    const live = await store.admin.messages.list();
    const orphans = live.items.filter((x: any) => x.queue === "null").length;
    if (orphans) bad++;
    const sql = postgres(db.dsn, { max: 1, onnotice() {} }); await sql.unsafe("truncate pgqrs_messages, pgqrs_archive, pgqrs_keys"); await sql.end();
  }
  console.log("rounds with orphans", bad); await s2.close();
});
console.log("### archive_leased vs forced deleteQueue");
await each(["pg"], async (store, db, n) => {
  const s2 = await connect(db.dsn); let bad = 0, ex: any;
  for (let k = 0; k < 60; k++) {
    await store.admin.createQueue("q", { ifMissing: true }); const p = store.producer("q"), c = s2.consumer("q");
    await p.enqueueMany(Array.from({ length: 200 }, (_, i) => i)); const ms = await c.dequeue({ limit: 200, leaseMs: 60000 });
    const [a, b] = await Promise.allSettled([store.admin.queues.delete("q", { force: true }), Promise.all(ms.map((m: any) => c.archive(m)))]);
    const o = await store.admin.archive.list();
    if (o.items.some((x: any) => x.queue === "null")) { bad++; ex = o.items[0]; }
    const sql = postgres(db.dsn, { max: 1, onnotice() {} }); await sql.unsafe("truncate pgqrs_messages, pgqrs_archive, pgqrs_keys"); await sql.end();
  }
  console.log("rounds with orphaned archive rows", bad, ex && { id: ex.id, queue: ex.queue }); await s2.close();
});
console.log("### fail on deleted queue");
await each(all, async (store, db, n) => {
  await store.admin.createQueue("q"); const p = store.producer("q"), c = store.consumer("q");
  await p.enqueue(1); const [m] = await c.dequeue(); await store.admin.queues.delete("q", { force: true });
  await tryIt(n + " archive", () => c.archive(m)); await tryIt(n + " fail", () => c.fail(m, new Error("x")));
});
console.log("### keys growth");
await each(["file", "pg"], async (store, db, n) => {
  let t = 1_700_000_000_000; const s = await connect(db.dsn, { clock: () => t });
  await s.admin.createQueue("q"); const p = s.producer("q"), c = s.consumer("q");
  await p.enqueueMany(Array.from({ length: 1000 }, (_, i) => i), { each: (_: any, i: number) => ({ key: "k" + i }) });
  await c.archiveMany(await c.dequeue({ limit: 1000 }));
  t += 40 * 86_400_000;
  console.log(n, "purged", await s.admin.archive.purge({ expired: true }), await s.admin.queues.purge("q"));
  let cnt: any;
  if (n === "pg") { const sql = postgres(db.dsn, { max: 1 }); cnt = (await sql`select count(*)::int n from pgqrs_keys`)[0].n; await sql.end(); }
  else { const { DatabaseSync } = await import("node:sqlite"); const d = new DatabaseSync(db.file); cnt = (d.prepare("select count(*) n from pgqrs_keys").get() as any).n; d.close(); }
  console.log(n, "key rows 40 days later", cnt); await s.close();
});
console.log("### HOL blocking by key lock");
await each(["pg"], async (store, db, n) => {
  await store.admin.createQueue("q"); await store.admin.createQueue("other"); const p = store.producer("q"), c = store.consumer("other");
  await store.producer("other").enqueue(1); const [m] = await c.dequeue({ leaseMs: 60000 });
  await store.ping(); await Promise.all([store.ping(), store.ping()]);
  const tx = store.transaction(async (tx: any) => { await p.enqueue(1, { tx, key: "K" }); await sleep(3000); });
  await sleep(200);
  const a = p.enqueue(1, { key: "K" }), b = p.enqueue(1, { key: "K" });
  await sleep(20);
  const t = performance.now(); await c.extend(m, 60000); console.log("extend of another queue's message took", Math.round(performance.now() - t), "ms");
  await Promise.all([tx, a, b]);
});
