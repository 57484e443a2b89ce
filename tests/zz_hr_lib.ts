import { connect } from "@pgqrs/pgqrs";
import { freshPostgres, freshSqliteFile, freshLibsql, memory } from "./support/databases.ts";
export { connect };
export const backends: Record<string, () => Promise<any>> = {
  pg: () => freshPostgres(), file: async () => freshSqliteFile(), mem: async () => memory, libsql: () => freshLibsql(),
};
export async function each(names: string[], fn: (store: any, db: any, name: string) => Promise<void>, opt: any = {}) {
  for (const n of names) {
    const db = await backends[n]();
    const store = await connect(db.dsn, opt);
    try { await store.admin.install(); await fn(store, db, n); }
    catch (e) { console.log(`[${n}] THROWN`, e); }
    finally { await store.close(); await db.close(); }
  }
}
export const all = ["pg", "file", "mem", "libsql"];
export async function tryIt(label: string, f: () => any) {
  const t = performance.now();
  try { const r = await f(); console.log(label, "=>", Deno.inspect(r, {depth: 3, breakLength: 200})); }
  catch (e: any) { console.log(label, "=> ERR", e?.constructor?.name, e?.code ?? "", e?.outcome ?? "", e?.reason ?? "", "|", e?.message, `(${Math.round(performance.now()-t)}ms)`); }
}
