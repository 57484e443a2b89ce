import { all, each, tryIt, connect, backends } from "./zz_hr_lib.ts";
import postgres from "postgres";
import { startPostgres } from "./support/postgres_server.ts";
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));
globalThis.addEventListener("unhandledrejection", (e: any) => { console.log("UNHANDLED", e.reason); e.preventDefault(); });
console.log("### close while in flight");
await each(all, async (store, db, n) => {
  await store.admin.createQueue("q"); const s = await connect(db.dsn); if (n === "mem") { await s.admin.install(); await s.admin.createQueue("q"); }
  const p = s.producer("q");
  const calls = Array.from({ length: 20 }, (_, i) => p.enqueue(i));
  const w = s.consumer("q").dequeue({ waitMs: 5000, type: "none" });
  const tx = s.transaction(async (t: any) => { await sleep(100); await p.enqueue("t", { tx: t }); return "committed"; }); tx.catch(() => {}); w.catch(() => {});
  await sleep(1); const t0 = performance.now();
  await tryIt(n + " close", () => s.close());
  const rs = await Promise.allSettled(calls); const count: any = {};
  for (const r of rs) { const k = r.status === "fulfilled" ? "ok" : `${(r.reason as any).outcome}/${(r.reason as any).reason}`; count[k] = (count[k] ?? 0) + 1; }
  console.log(n, count);
  await tryIt(n + " waiting dequeue", () => w); await tryIt(n + " tx", () => tx); await tryIt(n + " after close", () => p.enqueue(1));
  if (n !== "mem") { await sleep(200); console.log(n, "stored", await store.admin.messages.count()); }
});
console.log("### close inside tx");
await each(["file", "pg", "libsql"], async (store, db, n) => { const s = await connect(db.dsn); await tryIt(n, () => s.transaction(async () => { await s.close(); return "x"; })); await s.close(); });
console.log("### foreign tx hangs");
await each(["pg"], async (store) => { await store.admin.createQueue("q"); await tryIt("fn tx timeoutMs 200", () => Promise.race([store.producer("q").enqueue(1, { timeoutMs: 200, tx: () => new Promise(() => {}) }), sleep(1500).then(() => "STILL PENDING after 1500 ms")])); });
console.log("### tx misc");
await each(["file", "pg", "libsql"], async (store, db, n) => {
  await store.admin.createQueue("q"); const p = store.producer("q"), c = store.consumer("q"); let kept: any;
  await store.transaction(async (tx: any) => { kept = tx; });
  await tryIt(n + " kept", () => p.enqueue(1, { tx: kept })); await tryIt(n + " kept q", () => kept.query("select 1"));
  await tryIt(n + " timeout", () => store.transaction(async (tx: any) => { await p.enqueue("to", { tx }); await sleep(500); }, { timeoutMs: 100 }));
  console.log(n, "count", await store.admin.messages.count());
  await tryIt(n + " user commit inside", () => store.transaction(async (tx: any) => { await tx.query("commit"); await p.enqueue("x", { tx }); throw new Error("roll"); }));
  console.log(n, "count", await store.admin.messages.count(), await store.ping().then(() => "alive"));
  await tryIt(n + " throws undefined", () => store.transaction(() => Promise.reject(undefined)));
  await tryIt(n + " sync throw", () => store.transaction(() => { throw new Error("sync"); }));
  await tryIt(n + " non-fn", () => store.transaction(5));
  await tryIt(n + " nested", () => store.transaction(() => store.transaction(async () => 1)));
  await tryIt(n + " secret in error", () => store.transaction((tx: any) => tx.query(n === "pg" ? "insert into pgqrs_queues(id,name) overriding system value values (1,$1)" : "insert into pgqrs_queues(id,name) values (1,?)", ["hunter2"])));
  await tryIt(n + " literal secret", () => store.transaction((tx: any) => tx.query("select hunter2 from nowhere where pw = hunter2")));
  await tryIt(n + " archive in tx then rollback", async () => { await p.enqueue("z"); const [m] = await c.dequeue({ leaseMs: 60000 }); await store.transaction(async (tx: any) => { console.log("held", await c.archive(m, { tx }), await c.fail(m.id, 1, { tx })); throw new Error("rb"); }).catch(() => {}); return [await c.archive(m), await store.admin.archive.count()]; });
});
console.log("### adopted DatabaseSync: caller statements during our long enqueueMany");
{
  const { DatabaseSync } = await import("node:sqlite"); const d = new DatabaseSync(":memory:"); d.exec("create table mine(x)");
  const s = await connect(d as any); await s.admin.install(); await s.admin.createQueue("q");
  const list: any[] = Array.from({ length: 60_000 }, (_, i) => ({ i })); 
  // last item refuses -> everything is rolled back
  await s.producer("q").enqueue("z", { key: "z" });
  let n = 0; const iv = setInterval(() => { try { d.exec("insert into mine values (1)"); n++; } catch (e: any) { console.log("caller's insert failed:", e.message); } }, 0);
  await tryIt("enqueueMany", () => s.producer("q").enqueueMany(list, { each: (_: any, i: number) => i === 59_999 ? { key: { value: "z", onConflict: "reject" } } : {} }));
  clearInterval(iv);
  console.log("caller's acknowledged inserts", n, "present", (d.prepare("select count(*) n from mine").get() as any).n);
  await s.close(); d.close();
}
