import { all, each, tryIt, connect } from "./zz_hr_lib.ts";
await each(all, async (store, db, n) => {
  console.log("=====", n);
  await store.admin.createQueue("q");
  const p = store.producer("q"), c = store.consumer("q");
  // fold ids
  const r = await p.enqueueMany(["a", "a", "b", "c"], { each: (x: string) => x === "a" ? { key: "k" } : {} });
  console.log("fold", r.map((m: any) => [m.id, m.payload]), (await store.admin.messages.list()).items.map((m: any) => [m.id, m.payload]));
  await tryIt("refusal index", () => p.enqueueMany(["x","x","y"], { each: (v: string)=> v==="x"?{key:"kx"}:{key:{value:"k",onConflict:"reject"}} }));
  await store.admin.queues.purge("q");
  // until started
  const m1 = await p.enqueue({v:1}, { key: { value: "s", until: "started" }, delayMs: 60000 });
  await store.admin.messages.update(m1.id, { priority: 3 });
  const m2 = await p.enqueue({v:1}, { key: { value: "s", until: "started" }, delayMs: 60000 });
  console.log("started dup", m1.id, m2.id);
  await store.admin.queues.purge("q");
  // undefined options
  await tryIt("createQueue maxAttempts undefined", () => store.admin.createQueue("q2", { maxAttempts: undefined }));
  await tryIt("createQueue retention undefined", async () => (await store.admin.createQueue("q3", { retentionMs: undefined })).retentionMs);
  await tryIt("createQueue backoff undefined", () => store.admin.createQueue("q4", { backoff: undefined }));
  await tryIt("createQueue backoff.kind undefined", () => store.admin.createQueue("q5", { backoff: {kind: undefined, baseMs: 5} }));
  const d = await p.enqueue(1, { delayMs: 60000 });
  await tryIt("release undefined", async () => (await store.admin.messages.release(d.id, { delayMs: undefined }))?.state);
  // filters
  await tryIt("key number", () => store.admin.messages.list({ key: 5 }));
  await tryIt("type null", () => store.admin.messages.list({ type: null }));
  await tryIt("inject", async () => (await store.admin.messages.count({ key: { kind: "fragment", strings: ["'zz' or true"], values: [] } })));
  await tryIt("nomatch", async () => (await store.admin.messages.count({ key: "zz" })));
  await tryIt("archive key number", () => store.admin.archive.list({ key: 5 }));
  for (const t of [NaN, -1, "5", null, {}, 2**31, Number.MAX_SAFE_INTEGER]) await tryIt("timeoutMs " + String(t), () => p.enqueue(1, { timeoutMs: t }).then((m: any) => m.id));
  await tryIt("signal wrong", () => p.enqueue(1, { signal: "x" }));
  await tryIt("force 'false'", () => store.admin.queues.delete("q", { force: "false" }));
  await tryIt("close twice", () => Promise.all([store.close(), store.close()]));
});
await tryIt("connect(5)", async () => { const s = await connect(5 as any); await s.admin.install(); await s.close(); return "opened"; });
await tryIt("connect(true)", async () => { const s = await connect(true as any); await s.admin.install(); await s.close(); return "opened"; });
await tryIt("connect(null)", () => connect(null as any));
