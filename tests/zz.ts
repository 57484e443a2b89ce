import { connect } from "../mod.ts";
import { freshPostgres } from "./support/databases.ts";
const db = await freshPostgres();
const s = await connect(db.dsn);
await s.admin.install(); await s.admin.createQueue("t");
console.log((await s.producer("t").enqueue({a:1})).id, await s.ping());
console.log(await s.transaction(async (tx) => {
  await tx.query("create table x (j jsonb, a int[], b bigint[], t timestamptz, y bytea, o boolean, s text[])");
  await tx.query("insert into x values ($1,$2,$3,$4,$5,$6,$7)", [[{ a: [1, "x"] }], [1, 2], [3n, 4n], new Date(0), new Uint8Array([1, 255]), true, ['a"b', "c\\d", null]]);
  await tx.query("insert into x values ($1)", ['{"p":1}']);
  const e = await Promise.all([tx.query("insert into x values ($1)", [{ n: 1n }]), tx.query("select 1 as a"), tx.query("insert into x(t) values ($1)", [new Date(NaN)])].map((p) => p.catch((e) => String(e))));
  console.log(e);
  return await tx.query("select * from x");
}));
await s.transaction(async (tx) => { await tx.query("nonsense").catch((e) => console.log(String(e))); }).catch((e) => console.log("commit:", String(e)));
await s.close(); await db.close();
