/** What `install` promises on Postgres: any name for the schema, and help for those who may not make it. */
import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import postgres from "postgres";
import { connect, DatabaseError, SchemaError } from "../../mod.ts";
import { freshPostgres } from "../support/databases.ts";
import type { Context } from "./context.ts";
import { useQueue } from "./schema.ts";

/** Names that are taken literally only if every statement quotes them in the way of the place where they stand. */
const NAMES = [
  'we"ird',
  "it's",
  "back\\slash",
  "/* c */ */",
  "$pgqrs$",
  "$pgqrs$ $pgqrs_$ $$",
  "%s %I $1 ?1",
  "Grüße 東京 🐘",
  "select",
  `${"é".repeat(31)}x`,
];

/** Defines the tests for one server. */
export function privilegesContract(context: Context): void {
  if (context.dialect !== "postgres") return;
  describe(`names and privileges on ${context.name}`, () => {
    names(context);
    paths(context);
    privileges(context);
  });
}

function names(context: Context): void {
  for (const name of NAMES) {
    test(`install() takes ${JSON.stringify(name)} for the name of a schema, and all calls work in it`, async () => {
      const place = await context.place();
      await using store = await place.connect({ schema: name });
      await store.admin.install();
      await store.admin.verify();
      await useQueue(store);
      const quoted = `"${name.replaceAll('"', '""')}"`;
      await store.transaction(async (tx) => {
        await tx.query(`select ${quoted}.pgqrs_enqueue('smoke', '{"by": "SQL"}')`);
        assertEquals((await tx.query("select 1 from pg_tables where schemaname = $1", [name])).length, 9);
      });
      await store.admin.queues.delete("smoke", { force: true });
      await store.admin.uninstall();
      await assertRejects(() => store.admin.verify(), SchemaError, "not installed");
      await store.transaction((tx) => tx.query(`drop schema ${quoted}`));
      await place.close();
    });
  }
}

function paths(context: Context): void {
  test("no statement depends on the search path", async () => {
    const place = await context.place();
    const sql = postgres(place.dsn, { max: 2, onnotice() {}, connection: { search_path: "" } });
    try {
      await using store = await connect(sql as never, { schema: place.schema });
      await store.admin.install();
      await store.admin.verify();
      await useQueue(store);
      const consumer = store.consumer("smoke");
      await store.producer("smoke").enqueueMany([1, 2], { each: (_, i) => ({ key: `${i}` }) });
      const [first, second] = await consumer.dequeue({ limit: 2 });
      assertEquals(await consumer.fail(first ?? 0, new Error("no"), { retry: false }), true);
      assertEquals(await consumer.extend(second ?? 0, 60_000), true);
      assertEquals(await consumer.release(second ?? 0), true);
      const { failed, ready } = await store.admin.metrics("smoke");
      assertEquals([failed, ready], [1, 1]);
      const [row] = await sql.unsafe(`select "${place.schema}".pgqrs_enqueue('smoke', '2', '{"key": "x"}') as id`);
      assertEquals((await store.admin.messages.get(Number(row?.id)))?.key, "x");
      await store.admin.uninstall();
    } finally {
      await sql.end({ timeout: 5 });
      await place.close();
    }
  });

  test("two schemas of one database know nothing of each other", async () => {
    const place = await context.place();
    await using one = await place.connect({ schema: `${place.schema}_1` });
    await using two = await place.connect({ schema: `${place.schema}_2` });
    await Promise.all([one.admin.install(), two.admin.install()]);
    await one.admin.createQueue("tasks");
    await one.producer("tasks").enqueue(1);
    assertEquals(await two.admin.queues.list(), []);
    await one.admin.uninstall();
    await two.admin.verify();
    await place.close();
  });
}

/** A database of its own, owned by a role without any other right, and another role that may do nothing in it. */
interface Office {
  readonly dsn: string;
  /** The DSN of the role that may do nothing. */
  readonly roleDsn: string;
  /** That role, quoted. */
  readonly role: string;
  /** Executes as a superuser. */
  execute(text: string): Promise<unknown>;
  /** Executes as the owner, as somebody would who pastes the line into psql. */
  executeAsOwner(text: string): Promise<void>;
}

function inOffice(context: Context, work: (office: Office) => Promise<void>): () => Promise<void> {
  return async () => {
    const place = await context.place();
    const { dsn, close } = await freshPostgres(place.dsn);
    // Roles belong to the whole server, so their names have to be new.
    const mark = randomUUID().slice(0, 8);
    const [role, owner] = [`"app ""${mark}"""`, `owner_${mark}`];
    const [server, sql] = [place.dsn, dsn].map((address) => postgres(address, { max: 1, onnotice() {} }));
    if (server === undefined || sql === undefined) throw new TypeError("no connections");
    const roleDsn = new URL(dsn);
    roleDsn.username = encodeURIComponent(`app "${mark}"`);
    roleDsn.password = "secret";
    try {
      await server.unsafe(`create role ${owner}`);
      await server.unsafe(`create role ${role} login password 'secret'`);
      await server.unsafe(`alter database ${new URL(dsn).pathname.slice(1)} owner to ${owner}`);
      await sql.unsafe(`alter schema public owner to ${owner}`);
      await sql.unsafe("revoke all on schema public from public");
      await work({
        dsn,
        roleDsn: roleDsn.href,
        role,
        execute: async (text) => await sql.unsafe(text),
        executeAsOwner: async (text) => void await sql.unsafe(`set role ${owner}; ${text}; reset role`),
      });
    } finally {
      await sql.end({ timeout: 5 });
      await close();
      await server.unsafe(`drop role if exists ${role}, ${owner}`);
      await server.end({ timeout: 5 });
      await place.close();
    }
  };
}

/** What a message says that somebody has to run. */
function remedyOf({ message }: Error): string {
  const [, remedy = ""] = /has to run: (.*)$/.exec(message) ?? [];
  assertMatch(remedy, /^(create|grant) /);
  return remedy;
}

function privileges(context: Context): void {
  test(
    "install() names what the owner of the database has to run where it may not create the schema",
    inOffice(context, async ({ roleDsn, executeAsOwner, role }) => {
      await using store = await connect(roleDsn, { schema: 'que"ue' });
      const error = await assertRejects(() => store.admin.install(), SchemaError, 'Cannot create schema "que""ue"');
      assertStringIncludes(error.message, role);
      await executeAsOwner(remedyOf(error));
      await store.admin.install();
      await store.admin.verify();
      await useQueue(store);
    }),
  );

  for (const granted of ["nothing", "usage", "create"]) {
    test(
      `install() names what the owner of a schema has to run where it was granted ${granted}`,
      inOffice(context, async ({ roleDsn, executeAsOwner, role }) => {
        if (granted !== "nothing") await executeAsOwner(`grant ${granted} on schema public to ${role}`);
        await using store = await connect(roleDsn);
        const error = await assertRejects(() => store.admin.install(), SchemaError, 'install in schema "public"');
        await executeAsOwner(remedyOf(error));
        await store.admin.install();
        await store.admin.verify();
        await useQueue(store);
      }),
    );
  }

  test(
    "install() names what has to be run where the tables are there but may not be read, and no more than that",
    inOffice(context, async ({ dsn, roleDsn, execute }) => {
      await using operator = await connect(dsn, { schema: "jobs" });
      await operator.admin.install();
      await execute("create table jobs.secrets (id integer)");
      await using store = await connect(roleDsn, { schema: "jobs" });
      const error = await assertRejects(() => store.admin.install(), SchemaError, 'tables in schema "jobs"');
      await execute(remedyOf(error));
      await store.admin.install();
      await store.admin.verify();
      await useQueue(store);
      const peek = () => store.transaction((tx) => tx.query("select * from jobs.secrets"));
      const denied = await assertRejects(peek, DatabaseError);
      assertEquals([denied.reason, denied.sqlState], ["permission", "42501"]);
    }),
  );
}
