/** Proves that the fixtures of tests/support do what the other tests trust them to do. */
import { createClient } from "@libsql/client/web";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import postgres from "postgres";
import { freshLibsql, freshPostgres, freshSqliteFile } from "./support/databases.ts";
import { makeCertificates } from "./support/certificates.ts";
import { NO_PGBOUNCER, startPgBouncer } from "./support/pgbouncer.ts";
import { hasPostgres, startPostgres } from "./support/postgres_server.ts";
import { startProcess } from "./support/processes.ts";
import { startProxy } from "./support/tcp_proxy.ts";

function client(dsn: string): postgres.Sql {
  return postgres(dsn, { max: 1, onnotice() {}, connect_timeout: 5 });
}

/** Sends a request one time: Deno's own `fetch` repeats a POST after a reset, unless its body is a stream. */
async function fetchOnce(input: Request): Promise<Response> {
  const text = await input.text();
  const body = new Blob([text]).stream();
  const init: RequestInit & { duplex: "half" } = { method: input.method, headers: input.headers, body, duplex: "half" };
  return await fetch(input.url, init);
}

test("freshPostgres() gives an empty database and removes it", async () => {
  const [one, two] = [await freshPostgres(), await freshPostgres()];
  const [first, second] = [client(one.dsn), client(two.dsn)];
  await first`create table only_here (id int)`;
  assertEquals([...await second`select to_regclass('only_here') as found`], [{ found: null }]);
  await one.close();
  await assertRejects(async () => await first`select 1`);
  await Promise.all([first.end({ timeout: 1 }), second.end({ timeout: 1 })]);
  await two.close();
});

test("startPostgres() starts the oldest supported major", { skip: !hasPostgres(14) }, async () => {
  await using server = await startPostgres({ version: 14, settings: { work_mem: "1234kB" }, password: "s3cr&t" });
  const sql = client(server.dsn());
  const [row] = await sql`select current_setting('server_version_num')::int / 10000 as major,
    current_setting('work_mem') as memory`;
  assertEquals({ ...row }, { major: 14, memory: "1234kB" });
  await sql.end();
  const stranger = client(server.dsn().replace("s3cr", "wrong"));
  await assertRejects(async () => await stranger`select 1`, Error, "password authentication failed");
  await stranger.end();
});

test("PostgresServer keeps port and data over a crash", async () => {
  const server = await startPostgres();
  const before = client(server.dsn());
  await before`create table kept as select 7 as value`;
  await server.restart("immediate");
  await before.end({ timeout: 1 });
  const after = client(server.dsn());
  assertEquals([...await after`select value from kept`], [{ value: 7 }]);
  await after.end();
  await server.close();
  assert(!existsSync(server.folder));
});

test("freshSqliteFile() removes its folder", async () => {
  const database = freshSqliteFile();
  assert(database.dsn.startsWith("sqlite:/"));
  await database.close();
  assert(!existsSync(database.file));
});

test("the Hrana server serves statements, batches and transactions", async () => {
  const database = await freshLibsql();
  const libsql = createClient({ url: database.dsn });
  await libsql.executeMultiple(`
    create table t (id integer primary key, v text); -- a comment; with a semicolon
    create trigger u after insert on t begin select 1; select 2; end;
    /* nothing more */
  `);
  const inserted = await libsql.execute({ sql: "insert into t (v) values (?) returning id, v as id", args: ["a"] });
  assertEquals(Array.from(inserted.rows[0] ?? []), [1, "a"]);
  assertEquals(inserted.rowsAffected, 1);
  await assertRejects(() => libsql.execute("select 1; select 2"), Error, "more than one statement");
  await assertRejects(() => libsql.batch(["insert into t values (2, 'b')", "insert into t values (2, 'c')"], "write"));
  const transaction = await libsql.transaction("write");
  await transaction.execute({ sql: "insert into t values (:id, :v)", args: { id: 3, v: "d" } });
  assertEquals(database.server.streamCount, 1);
  await transaction.rollback();
  assertEquals((await libsql.execute("select count(*) from t")).rows[0]?.[0], 1);
  libsql.close();
  await database.close();
});

test("the Hrana server lets writers wait for each other", async () => {
  const database = await freshLibsql();
  const libsql = createClient({ url: database.dsn });
  await libsql.execute("create table t (id integer primary key)");
  const first = await libsql.transaction("write");
  const second = libsql.batch(["insert into t values (2)"], "write");
  await first.execute("insert into t values (1)");
  await first.commit();
  await second;
  assertEquals((await libsql.execute("select id from t order by id")).rows.map((row) => row.id), [1, 2]);
  libsql.close();
  await database.close();
});

test("the Hrana server fails when told to", async () => {
  const database = await freshLibsql({ token: "t0ken" });
  const { server } = database;
  await assertRejects(() => createClient({ url: database.dsn, authToken: "other" }).execute("select 1"));
  const libsql = createClient({ url: database.dsn, authToken: "t0ken", fetch: fetchOnce });
  await libsql.execute("create table t (id integer)");
  server.inject({ kind: "dropAfter" }, /insert/);
  assertEquals((await libsql.execute("select 1 as one")).rows[0]?.one, 1);
  await assertRejects(() => libsql.execute("insert into t values (1)"));
  server.inject({ kind: "dropBefore" });
  await assertRejects(() => libsql.execute("insert into t values (2)"));
  server.inject({ kind: "status", status: 500 });
  await assertRejects(() => libsql.execute("insert into t values (3)"));
  server.inject({ kind: "delay", ms: 50 });
  const before = Date.now();
  assertEquals((await libsql.execute("select id from t")).rows.map((row) => row.id), [1]);
  assert(Date.now() - before >= 45);
  const transaction = await libsql.transaction("write");
  await transaction.execute("select 1");
  server.dropStreams();
  await assertRejects(() => transaction.execute("insert into t values (4)"));
  libsql.close();
  await database.close();
});

test("startPostgres() speaks TLS with the given certificate", async (t) => {
  const certificates = makeCertificates();
  if (certificates === undefined) return t.skip("needs the openssl program");
  await using server = await startPostgres({ tls: certificates.server, isTlsRequired: true });
  const ca = readFileSync(certificates.authority, "utf8");
  const trusting = postgres(server.dsn(), { max: 1, ssl: { ca } });
  assertEquals([...await trusting`select ssl from pg_stat_ssl where pid = pg_backend_pid()`], [{ ssl: true }]);
  await trusting.end();
  const plain = client(server.dsn());
  await assertRejects(async () => await plain`select 1`, Error, "no pg_hba.conf entry");
  await plain.end();
  certificates.close();
});

test("makeCertificates() makes certificates that fail in the ways they say", async (t) => {
  const certificates = makeCertificates();
  if (certificates === undefined) return t.skip("needs the openssl program");
  const ca = readFileSync(certificates.authority, "utf8");
  for (const bad of [certificates.wrongHost, certificates.untrusted]) {
    await using server = await startPostgres({ tls: bad });
    const careful = postgres(server.dsn(), { max: 1, ssl: { ca, servername: "localhost" } });
    await assertRejects(async () => await careful`select 1`);
    await careful.end();
  }
  certificates.close();
});

test("the proxy counts, cuts, delays, tears and refuses", async () => {
  const database = await freshPostgres();
  await using proxy = await startProxy(database.dsn);
  const sql = client(proxy.through(database.dsn));
  assertEquals((await sql`select 1 as one`)[0]?.one, 1);
  assertEquals([proxy.connectCount, proxy.openCount], [1, 1]);
  const sleeping = assertRejects(async () => await sql`select pg_sleep(10)`);
  await new Promise((done) => setTimeout(done, 50));
  proxy.cut();
  await sleeping;
  proxy.delay(30);
  const before = Date.now();
  await sql`select 1`;
  assert(Date.now() - before >= 55);
  proxy.pass();
  proxy.truncate(10);
  await assertRejects(async () => await sql`select repeat('x', 1000)`);
  proxy.refuse();
  await assertRejects(() => fetch(`http://127.0.0.1:${proxy.port}/`));
  proxy.pass();
  assertEquals((await sql`select 2 as two`)[0]?.two, 2);
  await sql.end();
  await database.close();
});

test("the proxy freezes without closing", async () => {
  const database = await freshPostgres();
  await using proxy = await startProxy(database.dsn);
  const sql = client(proxy.through(database.dsn));
  await sql`select 1`;
  proxy.freeze();
  const outcome = sql`select 1`.then(() => "answered", () => "failed");
  const silence = new Promise((done) => setTimeout(done, 200, "silence"));
  assertEquals(await Promise.race([outcome, silence]), "silence");
  assertEquals(proxy.openCount, 1);
  proxy.pass();
  assertEquals(await outcome, "failed");
  await sql.end({ timeout: 1 });
  await database.close();
});

test("startPgBouncer() pools a database by transaction", async (t) => {
  const database = await freshPostgres();
  const pooler = await startPgBouncer(database.dsn, { default_pool_size: 1 });
  if (pooler === undefined) {
    await database.close();
    return t.skip(NO_PGBOUNCER);
  }
  const clients = [1, 2].map(() => postgres(pooler.dsn, { max: 1, prepare: false, fetch_types: false }));
  const rows = await Promise.all(clients.map((sql) => sql`select pg_backend_pid() as pid, current_database() as name`));
  const [first, second] = rows.map((found) => found[0]);
  assertEquals({ ...first }, { ...second });
  assertEquals(first?.name, new URL(database.dsn).pathname.slice(1));
  await Promise.all(clients.map((sql) => sql.end()));
  await pooler.close();
  await database.close();
});

test("startProcess() runs a file on this runtime and reads its lines", async () => {
  const file = new URL("./support/echo_process.ts", import.meta.url);
  const child = startProcess(file, { args: ["a", "b"], env: { PGQRS_ECHO: "set" }, input: "word" });
  const lines = [];
  for await (const line of child.lines) lines.push(line);
  assertEquals(lines, ["arguments a b", "variable set", "input word"]);
  assertEquals(await child.exited, { code: 3, signal: null });
  assertEquals(child.stderr.trim(), "to standard error");
  await using waiting = startProcess(file, { args: ["wait"] });
  await waiting.waitFor("waiting");
  waiting.kill("SIGKILL");
  assertEquals(await waiting.exited, { code: null, signal: "SIGKILL" });
});

test("a killed process leaves no server behind", async () => {
  const file = new URL("./support/postgres_process.ts", import.meta.url);
  const child = startProcess(file);
  const folder = (await child.waitFor("folder ")).slice("folder ".length);
  assert(existsSync(folder));
  child.kill("SIGKILL");
  await child.exited;
  for (const deadline = Date.now() + 10_000; existsSync(folder) && Date.now() < deadline;) {
    await new Promise((done) => setTimeout(done, 50));
  }
  assert(!existsSync(folder));
});
