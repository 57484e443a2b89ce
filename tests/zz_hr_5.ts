import { all, each, tryIt, connect, backends } from "./zz_hr_lib.ts";
import postgres from "postgres";
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));
globalThis.addEventListener("unhandledrejection", (e: any) => { console.log("UNHANDLED", e.reason); e.preventDefault(); });
async function lag(f: () => Promise<any>) { let last = performance.now(), worst = 0; const iv = setInterval(() => { const t = performance.now(); worst = Math.max(worst, t - last - 5); last = t; }, 5); await sleep(20); const t = performance.now(); let err = ""; try { await f(); } catch (e: any) { err = e.message.slice(0, 200); } const took = performance.now() - t; await sleep(10); clearInterval(iv); return `took ${Math.round(took)} worst lag ${Math.round(worst)} ms ${err}`; }
await each(["file", "pg"], async (store, db, n) => {
  await store.admin.createQueue("q"); const p = store.producer("q"), c = store.consumer("q");
  const big = Array.from({ length: 20_000 }, (_, i) => ({ i }));
  console.log(n, "enqueueMany 20k small:", await lag(() => p.enqueueMany(big)));
  console.log(n, "enqueueMany 20k each:", await lag(() => p.enqueueMany(big, { each: (_: any, i: number) => ({ priority: i % 10 }) })));
  console.log(n, "enqueueMany 20k keys:", await lag(() => p.enqueueMany(big, { each: (x: any) => ({ key: "k" + x.i }) })));
  console.log(n, "same keys again:", await lag(() => p.enqueueMany(big, { each: (x: any) => ({ key: "k" + x.i }) })));
  const fat = Array.from({ length: 11_000 }, (_, i) => ({ i, s: "x".repeat(4000) }));
  console.log(n, "enqueueMany 11k x 4kB:", await lag(() => p.enqueueMany(fat)));
  let ms: any; console.log(n, "dequeue 10000:", await lag(async () => { ms = await c.dequeue({ limit: 10000, leaseMs: 600000 }); }), ms?.length);
  console.log(n, "archiveMany 10000:", await lag(() => c.archiveMany(ms)));
  console.log(n, "metrics:", await lag(() => store.admin.metrics()));
  console.log(n, "list 10000:", await lag(() => store.admin.messages.list({ limit: 10000 })));
  console.log(n, "purge queue 60k:", await lag(() => store.admin.queues.purge("q")));
  console.log(n, "archive.purge 10k:", await lag(() => store.admin.archive.purge()));
}, );
console.log("### 600 x 1 MiB");
await each(["pg", "file"], async (store, db, n) => {
  await store.admin.createQueue("q"); const s = "x".repeat(1048570);
  await tryIt(n + " 600MiB", () => store.producer("q").enqueueMany(Array(600).fill(s)).then((r: any) => r.length));
  await tryIt(n + " alive", () => store.ping());
  await tryIt(n + " 300MiB", () => store.producer("q").enqueueMany(Array(300).fill(s)).then((r: any) => r.length));
  await tryIt(n + " alive", () => store.ping());
});
