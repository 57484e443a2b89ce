import { all, each, tryIt, connect, backends } from "./zz_hr_lib.ts";
import postgres from "postgres";
import { queue } from "@pgqrs/pgqrs";
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));
globalThis.addEventListener("unhandledrejection", (e: any) => { console.log("UNHANDLED", e.reason); e.preventDefault(); });
await each(all, async (store, db, n) => {
  console.log("=====", n);
  await store.admin.createQueue("q", { maxAttempts: 2, maxCrashes: 2, backoff: { kind: "fixed", baseMs: 0, jitter: 0 } });
  const p = store.producer("q"), c = store.consumer("q", { name: "w" }), c2 = store.consumer("q", { name: "w" });
  // fences
  await p.enqueue(1); const [m] = await c.dequeue({ leaseMs: 30 }); await sleep(60);
  const [m2] = await c.dequeue({ leaseMs: 30 });
  console.log("same consumer re-lease: old/new", await c.archive(m), await c.extend(m, 50), await c2.archive(m2.id), await c.extend(m2, 5), await c.archiveMany([m, m2, m2, 999, m2.id]));
  // crashes dead letter
  await p.enqueue(2); await c.dequeue({ leaseMs: 1 }); await sleep(20); await c.dequeue({ leaseMs: 1 }); await sleep(20); await c.dequeue();
  let d = (await store.admin.dead.list()).items[0]; console.log("dead", d.reason, d.attempts, d.crashes, d.archivedBy, d.processingMs, d.error);
  await store.admin.dead.replay(d.id); let [r] = await c.dequeue(); console.log("replayed", r.attempts, r.crashes, r.id === d.id);
  console.log(await c.fail(r, new Error("a")), await c.fail(r, new Error("stale"))); [r] = await c.dequeue(); console.log(r?.attempts, r?.error?.message, await c.fail(r, "str")); d = (await store.admin.dead.list()).items[0]; console.log("dead", d.reason, d.attempts, d.crashes, d.error?.message);
  // bad by-id
  for (const bad of [0, -1, 1.5, "1", null, undefined, {}, { id: "1" }]) await tryIt("archive " + JSON.stringify(bad), () => c.archive(bad));
  await tryIt("archiveMany non array", () => c.archiveMany("12" as any));
  await tryIt("archiveMany empty", () => c.archiveMany([]));
  await tryIt("fail retry 'false'", async () => { await p.enqueue(5); const [x] = await c.dequeue(); return await c.fail(x, new Error("q"), { retry: "false" }); });
  await store.admin.queues.purge("q", { force: true });
  await tryIt("maxBytes 0", () => store.producer(queue("q", { maxBytes: 0 })).enqueue("xx").then((x: any) => x.id));
  await tryIt("maxDepth NaN", () => store.producer(queue("q", { maxDepth: NaN })).enqueue([[1]]).then((x: any) => x.id));
  await tryIt("schema bogus", () => store.producer(queue("q", { schema: {} as any })).enqueue("xx").then((x: any) => x.id));
  await tryIt("headers array", () => p.enqueue(1, { headers: ["a"] }).then((x: any) => x.headers));
  await tryIt("headers null", () => p.enqueue(1, { headers: null }));
  await tryIt("key null", () => p.enqueue(1, { key: null }));
  await tryIt("key ''", () => p.enqueue(1, { key: "" }));
  await tryIt("options null", () => p.enqueue(1, null));
  await tryIt("priority '5'", () => p.enqueue(1, { priority: "5" }));
  await tryIt("at string", () => p.enqueue(1, { at: "2030-01-01" }));
  await tryIt("at 9999 + delay overflow", () => p.enqueue(1, { at: new Date(Date.UTC(9999, 11, 31)) }).then((x: any) => x.visibleAt));
  await tryIt("list limit '5'", () => store.admin.messages.list({ limit: "5" }));
  await tryIt("cursor ''", () => store.admin.messages.list({ cursor: "" }).then((x: any) => x.items.length));
  await tryIt("cursor null", () => store.admin.messages.list({ cursor: null }));
  await tryIt("archive cursor '5.'", () => store.admin.archive.list({ cursor: "5." }).then((x: any) => x.items.length));
  await tryIt("get unknown opt", () => store.admin.messages.get(1, { timeoutMS: 5 }).then(() => "silently accepted"));
  await tryIt("waitMs '50'", () => c.dequeue({ waitMs: "50" }));
  await tryIt("expired 'false'", () => store.admin.archive.purge({ expired: "false" }));
  // existing message shape
  await p.enqueue({ a: 1 }, { key: "kk", headers: { type: "one" }, priority: 2 }); const [lk] = await c.dequeue({ type: "one", leaseMs: 60000 });
  const ex = await p.enqueue({ a: 1 }, { key: "kk", headers: { type: "two" } }); console.log("existing:", ex.state, ex.headers, ex.worker, ex.leaseUntil, "| stored:", (await store.admin.messages.get(ex.id)).headers);
  await store.admin.messages.delete(lk.id); const gone = await p.enqueue({ a: 1 }, { key: "kk" }); console.log("after operator delete:", gone.id, gone.state);
  // key hostile
  // pagination
  await store.admin.archive.purge(); await store.admin.queues.purge("q", { force: true });
  const many = await p.enqueueMany(Array.from({ length: 25 }, (_, i) => i)); await c.archiveMany(await c.dequeue({ limit: 25 }));
  const seen: number[] = []; let cur: any; do { const pg: any = await store.admin.archive.list({ limit: 4, cursor: cur ?? undefined }); seen.push(...pg.items.map((x: any) => x.id)); cur = pg.cursor; } while (cur);
  console.log("pages", seen.length, new Set(seen).size);
});
