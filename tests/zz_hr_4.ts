import { all, each, tryIt, connect, backends } from "./zz_hr_lib.ts";
import postgres from "postgres";
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));
globalThis.addEventListener("unhandledrejection", (e: any) => { console.log("UNHANDLED", e.reason); e.preventDefault(); });
async function life(s: any, label: string) {
  await s.admin.install(); await s.admin.verify(); await s.admin.createQueue("q'\"$1é");
  const p = s.producer("q'\"$1é"), c = s.consumer("q'\"$1é", { name: "n#'\"" });
  await p.enqueueMany([1, 2, 3]); const e = await p.enqueue(4, { key: "k'\"" , headers: { type: "t'" }});
  const ms = await c.dequeue({ limit: 10 }); await c.archive(ms[0], { result: { a: "'" }, reason: "r'" }); await c.delete(ms[1]); await c.release(ms[2]); await c.fail(ms[3], new Error("x'"), { retry: false });
  await s.admin.dead.replay({}); await s.admin.metrics(); await s.admin.workers.list(); await s.admin.verify();
  await s.admin.queues.delete("q'\"$1é", { force: true });
  return label + " ok " + (await s.admin.uninstall()).length;
}
const db = await backends.pg();
for (const schema of ["we\"ird'sch$pgqrs$ema\\ é", "a$1b", "x".repeat(63), "%s;--", "Größe", " ", "a.b", "$pgqrs", "pgqrs$", "$$", "/* */", "a\nb", "*/ drop"]) {
  const s = await connect(db.dsn, { schema }); await tryIt(JSON.stringify(schema), () => life(s, "life")); await s.close();
}
console.log("### search_path & verify");
{
  const s = await connect(db.dsn, { schema: "jobs" }); await s.admin.install(); await s.close();
  const sql = postgres(db.dsn, { max: 1, onnotice() {} });
  const name = new URL(db.dsn).pathname.slice(1);
  await sql.unsafe(`alter database ${name} set search_path = jobs, public`);
  const s2 = await connect(db.dsn, { schema: "jobs" }); await tryIt("verify with jobs in search_path", () => s2.admin.verify()); await s2.close();
  await sql.unsafe(`alter database ${name} set search_path = ''`);
  const s3 = await connect(db.dsn, { schema: "jobs" }); await tryIt("verify with empty path", () => s3.admin.verify()); await s3.close();
  await sql.unsafe(`alter database ${name} reset search_path`);
  // least privileges
  await sql.unsafe(`create role app${name} login; grant usage on schema jobs to app${name}; grant select, insert, update, delete on all tables in schema jobs to app${name}; grant usage on all sequences in schema jobs to app${name};`);
  const u = new URL(db.dsn); u.username = `app${name}`;
  const s4 = await connect(u.href, { schema: "jobs" }); await tryIt("life as app", async () => { await s4.admin.createQueue("z"); const p = s4.producer("z"), c = s4.consumer("z"); await p.enqueueMany([1, 2, 3]); await p.enqueue(4, { key: "k" }); const ms = await c.dequeue({ limit: 10 }); await c.archiveMany(ms); await s4.admin.verify(); await s4.admin.install(); return "ok"; });
  await tryIt("new schema as app", async () => { const s = await connect(u.href, { schema: "nope" }); try { await s.admin.install(); } finally { await s.close(); } });
  await tryIt("public as app", async () => { const s = await connect(u.href); try { await s.admin.install(); } finally { await s.close(); } });
  await tryIt("uninstall as app", () => s4.admin.uninstall());
  await s4.close();
  // migrate print
  const s5 = await connect(db.dsn, { schema: "pr\"int" });
  const steps = await s5.admin.migrate({ print: true });
  await tryIt("printed", async () => { for (const st of steps) for (const t of st.statements) await sql.unsafe(t); await s5.admin.verify(); return await s5.admin.migrate(); });
  // foreign objects in ours
  await sql.unsafe(`create table "pr""int".pgqrs_mine(a int); create function "pr""int".pgqrs_enqueue(a int) returns int language sql as 'select 1'`);
  await tryIt("verify with extra", () => s5.admin.verify());
  await tryIt("uninstall", () => s5.admin.uninstall());
  console.log((await sql.unsafe(`select relname from pg_class c join pg_namespace n on n.oid=relnamespace where nspname='pr"int'`)).map((x: any) => x.relname));
  await tryIt("reinstall beside foreign", () => s5.admin.install());
  await s5.close();
  // drift: drop a trigger fn / alter
  const s6 = await connect(db.dsn, { schema: "jobs" });
  await sql.unsafe(`alter table jobs.pgqrs_messages alter column priority type int`); await tryIt("verify altered col", () => s6.admin.verify());
  await sql.unsafe(`alter table jobs.pgqrs_messages add column zzz int not null default 0`); await tryIt("verify extra col", () => s6.admin.verify());
  await sql.unsafe(`alter table jobs.pgqrs_messages alter column id drop identity`); await tryIt("verify", () => s6.admin.verify());
  await sql.unsafe(`alter table jobs.pgqrs_messages reset (autovacuum_vacuum_threshold)`);
  await s6.close();
  await sql.end();
}
await db.close();
console.log("### verify sqlite drift");
await each(["file"], async (store, db2) => {
  const { DatabaseSync } = await import("node:sqlite"); const d = new DatabaseSync(db2.file);
  d.exec("drop trigger pgqrs_archive_takes"); await tryIt("verify no trigger", () => store.admin.verify());
  d.exec("drop index pgqrs_messages_ready"); await tryIt("verify no index", () => store.admin.verify()); d.close();
});
console.log("### concurrent install/uninstall mix");
{
  const db = await backends.pg(); const stores = await Promise.all(Array.from({ length: 8 }, () => connect(db.dsn, { schema: "mix" })));
  const rs = await Promise.allSettled(stores.flatMap((s, i) => [s.admin.install(), i % 2 ? s.admin.uninstall() : s.admin.install(), s.admin.install()]));
  console.log(rs.filter((r) => r.status === "rejected").map((r: any) => r.reason.message));
  await Promise.all(stores.map((s) => s.close())); await db.close();
}
{
  const db = await backends.file(); const stores = await Promise.all(Array.from({ length: 8 }, () => connect(db.dsn)));
  const rs = await Promise.allSettled(stores.flatMap((s, i) => [s.admin.install(), i % 2 ? s.admin.uninstall() : s.admin.install(), s.admin.install()]));
  console.log(rs.filter((r) => r.status === "rejected").map((r: any) => r.reason.message));
  await Promise.all(stores.map((s) => s.close())); await db.close();
}
console.log("### reinstall under open store");
for (const b of ["pg", "file", "libsql"]) {
  const db = await backends[b](); const a = await connect(db.dsn), z = await connect(db.dsn);
  await a.admin.install(); await a.admin.createQueue("q"); await a.producer("q").enqueue(1); const c = a.consumer("q"); await c.archiveMany(await c.dequeue({ limit: 5 }));
  await z.admin.uninstall(); await z.admin.install(); await z.admin.createQueue("q");
  await tryIt(b + " reuse", async () => { for (let i = 0; i < 4; i++) await a.producer("q").enqueue(1); const ms = await c.dequeue({ limit: 5 }); return await c.archiveMany(ms); });
  await a.close(); await z.close(); await db.close();
}
