import { connect, tryIt, each, backends } from "./zz_hr_lib.ts";
import postgres from "postgres";
const sleep = (ms: number) => new Promise((r) => setTimeout(r, ms));
for (const d of ["http://127.0.0.1:39999", "http://no-such-host.invalid"]) { const s = await connect(d); await tryIt(d, () => s.ping()); await s.close(); }
// multi-statement deadlines: fail by id = up to 3 statements; purge loop
console.log("### deadline per batch, purge");
await each(["pg"], async (store, db) => {
  const sql = postgres(db.dsn, { max: 1, onnotice() {} });
  await store.admin.createQueue("q");
  await sql.unsafe(`insert into pgqrs_archive(id,queue_id,outcome,priority,enqueued_at,archived_at,token,attempts,crashes,max_attempts,max_crashes,payload) select i,1,'succeeded',0,now(),now(),1,0,0,5,10,'1' from generate_series(1,300000) i`);
  const t = performance.now(); await tryIt("archive.purge timeoutMs 300", () => store.admin.archive.purge({ timeoutMs: 300 })); console.log("took", Math.round(performance.now() - t), "left", await store.admin.archive.count());
  await sql.end();
});
// adopted postgres client + tx + listeners
console.log("### signal listeners");
await each(["file", "pg", "libsql"], async (store, db, n) => {
  await store.admin.createQueue("q"); const ac = new AbortController(); let add = 0, rem = 0; const s: any = ac.signal; const oa = s.addEventListener.bind(s), or = s.removeEventListener.bind(s);
  s.addEventListener = (...a: any[]) => { add++; return oa(...a); }; s.removeEventListener = (...a: any[]) => { rem++; return or(...a); };
  for (let i = 0; i < 50; i++) await store.producer("q").enqueue(i, { signal: s }); await store.consumer("q").dequeue({ waitMs: 100, type: "zz", signal: s });
  console.log(n, add, rem);
});
console.log("### readonly / not a db");
await Deno.writeTextFile("/tmp/hr/notdb", "hello world this is not a database at all .................................................................................................");
await tryIt("notadb", () => connect("sqlite:/tmp/hr/notdb"));
await tryIt("dir", () => connect("sqlite:/tmp"));
console.log("### infinity poison");
await each(["pg"], async (store, db) => { const sql = postgres(db.dsn, { max: 1 }); await store.admin.createQueue("q"); await sql`select pgqrs_enqueue('q','1','{"at":"-infinity"}')`; const c = store.consumer("q"); await store.producer("q").enqueue("good");
  for (let i = 0; i < 3; i++) await tryIt("dequeue", () => c.dequeue({ limit: 1 }).then((m: any) => m.map((x: any) => x.payload))); await tryIt("metrics", () => store.admin.metrics("q")); await sql.end(); });
