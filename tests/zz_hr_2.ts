import { all, each, tryIt, connect, backends } from "./zz_hr_lib.ts";
import postgres from "postgres";
import { startPostgres } from "./support/postgres_server.ts";
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));
console.log("### concurrent in tx");
await each(all, async (store, db, n) => {
  await store.admin.createQueue("q"); const p = store.producer("q");
  await p.enqueue(1, { key: "taken" });
  let res: any;
  await tryIt(n + " tx", () => store.transaction(async (tx: any) => {
    res = await Promise.allSettled([
      p.enqueue("A", { tx, key: { value: "taken", onConflict: "reject" } }),
      p.enqueue("B", { tx, key: "b" }), p.enqueue("C", {tx}), p.enqueue("D", {tx, key: "d"}),
    ]);
    return "committed";
  }));
  console.log(n, res.map((r: any) => r.status === "fulfilled" ? [r.value.id, r.value.payload] : String(r.reason.message).slice(0, 120)), "stored:", (await store.admin.messages.list()).items.map((m: any) => [m.id, m.payload]));
});
console.log("### ALS leak");
await each(["file","pg"], async (store, db, n) => {
  await store.admin.createQueue("q"); const p = store.producer("q");
  let later: any;
  await store.transaction(async (tx: any) => { later = (async () => { await sleep(200); return (await p.enqueue(1)).id; })(); later.catch(()=>{}); });
  await tryIt(n + " enqueue after tx ended from same async context", () => later);
});
console.log("### connect timeoutMs overflow");
for (const b of ["pg", "file", "libsql"]) {
  const db = await backends[b]();
  const s = await connect(db.dsn, { timeoutMs: 2 ** 31 + 10_000 });
  await tryIt(b + " ping", () => s.ping());
  await tryIt(b + " install", () => s.admin.install());
  await tryIt(b + " transaction", () => s.transaction(async (tx: any) => { await sleep(50); return "ok"; }));
  await s.close(); await db.close();
}
console.log("### sqlite deadline in enqueueMany");
await each(["file", "mem"], async (store, db, n) => {
  await store.admin.createQueue("q"); const p = store.producer("q");
  const list = Array.from({ length: 100_000 }, (_, i) => ({ i }));
  const t = performance.now();
  await tryIt(n + " 100k timeoutMs 50", () => p.enqueueMany(list, { timeoutMs: 50 }).then((x: any) => x.length));
  console.log("took", performance.now() - t);
  const ac = new AbortController(); setTimeout(() => ac.abort(), 30);
  await tryIt(n + " 100k abort 30", () => p.enqueueMany(list, { signal: ac.signal }).then((x: any) => x.length));
});
console.log("### settle chunk");
await each(["file"], async (store, db, n) => {
  await store.admin.createQueue("q"); const p = store.producer("q"), c = store.consumer("q");
  await p.enqueueMany(Array.from({ length: 4000 }, (_, i) => i));
  const ms = await c.dequeue({ limit: 4000, leaseMs: 60000 });
  const ac = new AbortController();
  const { DatabaseSync } = await import("node:sqlite");
  const other = new DatabaseSync(db.file);
  const pr = c.archiveMany(ms, { timeoutMs: 300 });
  // lock right after the first batch
  let locked = false; const iv = setInterval(() => { if (locked) return; try { const n2 = (other.prepare("select count(*) n from pgqrs_archive").get() as any).n; if (n2 >= 2000) { other.exec("begin immediate"); locked = true; } } catch {} }, 0);
  await tryIt("archiveMany 4000", () => pr.then((x: any) => x.filter(Boolean).length));
  clearInterval(iv); if (locked) other.exec("rollback");
  console.log("locked", locked, "archived", await store.admin.archive.count());
  other.close();
});
console.log("### unlogged crash");
{
  const s = await startPostgres({ version: 18 });
  const st = await connect(s.dsn());
  await st.admin.install({ unlogged: true }); await st.admin.createQueue("q"); await st.producer("q").enqueue(1);
  await st.close();
  await s.stop("immediate"); await s.start();
  const st2 = await connect(s.dsn());
  await tryIt("verify", () => st2.admin.verify());
  await tryIt("install", () => st2.admin.install({ unlogged: true }));
  await tryIt("enqueue", () => st2.producer("q").enqueue(1));
  await tryIt("uninstall", () => st2.admin.uninstall());
  await tryIt("install", () => st2.admin.install());
  await st2.close(); await s.close();
}
