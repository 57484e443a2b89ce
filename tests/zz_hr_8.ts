import { all, each, tryIt, connect, backends } from "./zz_hr_lib.ts";
import postgres from "postgres";
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));
globalThis.addEventListener("unhandledrejection", (e: any) => { console.log("UNHANDLED", e.reason); e.preventDefault(); });
console.log("### pgqrs_enqueue");
await each(["pg"], async (store, db) => {
  await store.admin.createQueue("q"); const sql = postgres(db.dsn, { max: 1, onnotice() {} });
  const q = async (args: string) => await tryIt(args, async () => (await sql.unsafe(`select pgqrs_enqueue(${args}) id`))[0].id);
  await q(`'q', '{"a":1}', '{"key":"k","delayMs":5}'`); await q(`'q', '{"a" : 1}', '{"key":"k"}'`); await q(`'q', '{"a":2}', '{"key":"k"}'`);
  await q(`'q', '1', '{"priority":11}'`); await q(`'q', '1', '{"priority":"x"}'`); await q(`'q', '1', '{"delayMs":-5000}'`); await q(`'q', '1', '{"headers":[1]}'`); await q(`'q', '1', '{"headers":{"type":5}}'`); await q(`'q', '1', '{"headers":"str"}'`); await q(`'q', '1', '{"key":""}'`); await q(`'q', null`); await q(`'q', '1', null`); await q(`'q','"\\u0000"'`); await q(`'q','"\\ud800"'`); await q(`'q','{"__proto__":1}'`); await q(`'q', '1', '{"maxAttempts":0}'`); await q(`'nope','1'`); await q(`'q', '1', '{"key":5}'`); await q(`'q', '1', '{"at":"infinity"}'`); await q(`null, '1'`); await q(`'q', '1', '[]'`);
  await tryIt("dequeue all", async () => (await store.consumer("q").dequeue({ limit: 100 })).map((m: any) => [m.id, m.payload, m.headers]));
  await tryIt("list", async () => (await store.admin.messages.list()).items.map((m: any) => [m.id, m.visibleAt]));
  const js = await store.producer("q").enqueue({ a: 3 }, { key: "k" }).then((m: any) => [m.id, m.payload], (e: any) => e.message); console.log("js same key, other payload than the SQL one:", js);
  await sql.end();
});
console.log("### deleteQueue waiting behind an open tx stalls others");
await each(["pg"], async (store, db) => {
  await store.admin.createQueue("q"); const other = await connect(db.dsn); await other.ping(); await store.ping();
  const tx = store.transaction(async (tx: any) => { await store.producer("q").enqueue(1, { tx }); await sleep(2500); });
  await sleep(200); const del = other.admin.queues.delete("q", { timeoutMs: 10000 }).then(() => "deleted", (e: any) => e.message);
  await sleep(200); const t = performance.now(); await tryIt("plain enqueue by a third", () => other.producer("q").enqueue(2).then((m: any) => m.id)); console.log("took", Math.round(performance.now() - t)); console.log(await del); await tx; await other.close();
});
console.log("### until/replace");
await each(all, async (store, db, n) => {
  let t = 1_800_000_000_000; const s = await connect(db.dsn, { clock: () => t }); if (n === "mem") await s.admin.install();
  await s.admin.createQueue("q", { backoff: { kind: "fixed", baseMs: 0, jitter: 0 } }); const p = s.producer("q"), c = s.consumer("q");
  const k = (o: any) => ({ key: { value: "k", ...o } }); const out: any[] = [];
  const e = async (v: any, o: any) => { try { const m = await p.enqueue(v, k(o)); return [m.id, m.state, m.payload]; } catch (x: any) { return x.constructor.name; } };
  out.push(await e(1, { until: 1000 }), await e(1, { until: 1000 }), await e(2, {})); t += 1001; out.push(await e(2, { until: "started" }));
  const [a] = await c.dequeue(); out.push(["claimed", a.id, a.payload]); const [b] = await c.dequeue(); out.push(["claimed", b.id]); out.push(await e(3, { until: "finished" })); 
  out.push(await e(4, { onConflict: "replace" })); const [d] = await c.dequeue(); out.push(["d", d.id, d.payload]); out.push(await e(5, { onConflict: "replace" }), await e(4, { onConflict: "replace" })); out.push(await c.fail(d, 1)); out.push(await e(6, { onConflict: "replace" })); const [f] = await c.dequeue(); out.push(["f", f.id === d.id, f.payload, f.attempts]); await c.archive(f); out.push(await e(6, {}), await e(6, {until:"finished"}), await e(7, { onConflict: "replace" })); t += 86_400_001; out.push(await e(9, {}));
  console.log(n, JSON.stringify(out)); await s.close();
});
console.log("### paused + parallel claims + order");
await each(all, async (store, db, n) => {
  await store.admin.createQueue("q"); const p = store.producer("q"); await p.enqueueMany(Array.from({ length: 3000 }, (_, i) => i), { each: (_: any, i: number) => ({ priority: i % 10 }) });
  const cs = Array.from({ length: 6 }, () => store.consumer("q")); const got: number[] = []; let dup = 0; const seen = new Set();
  await Promise.all(cs.map(async (c) => { for (;;) { const ms = await c.dequeue({ limit: 37, leaseMs: 60000 }); if (!ms.length) return; for (const m of ms) { if (seen.has(m.id)) dup++; seen.add(m.id); } const r = await c.archiveMany(ms); if (r.includes(false)) console.log("lost"); } }));
  console.log(n, seen.size, dup, await store.admin.metrics("q"));
});
