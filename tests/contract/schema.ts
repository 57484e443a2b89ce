/** What `install`, `verify`, `migrate` and `uninstall` promise. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, test } from "node:test";
import { SchemaError, type Store } from "../../mod.ts";
import type { Context, Place } from "./context.ts";

/** A store on a place of its own, with nothing installed unless a test does so. */
export interface Site {
  readonly place: Place;
  readonly store: Store;
  /** Executes a statement beside the library, in a transaction of its own. */
  execute(text: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** The full name of an object in the schema of the place. */
  named(object: string): string;
}

/** Defines the tests for one backend. */
export function schemaContract(context: Context): void {
  describe(`schema on ${context.name}`, () => {
    installing(context);
    uninstalling(context);
    printing(context);
    refusing(context);
  });
}

/** A test on a place of its own. */
export function inSite(context: Context, work: (site: Site) => Promise<void>): () => Promise<void> {
  return async () => {
    const place = await context.place();
    try {
      await using store = await place.connect();
      const execute: Site["execute"] = (text, values) => store.transaction((tx) => tx.query(text, values));
      const prefix = context.dialect === "postgres" ? `"${place.schema.replaceAll('"', '""')}".` : "";
      await work({ place, store, execute, named: (object) => prefix + object });
    } finally {
      await place.close();
    }
  };
}

/** Passes one message through a queue, by which every kind of object of the schema is used. */
export async function useQueue(store: Store, queue = "smoke"): Promise<void> {
  await store.admin.createQueue(queue);
  const { id } = await store.producer(queue).enqueue({ n: 1 }, { key: "k" });
  assertEquals((await store.producer(queue).enqueue({ n: 1 }, { key: "k" })).id, id);
  await store.producer(queue).enqueueMany([1, 2]);
  const consumer = store.consumer(queue);
  const messages = await consumer.dequeue({ limit: 10 });
  assertEquals(await consumer.archiveMany(messages), [true, true, true]);
  assertEquals(await store.admin.archive.count({ queue }), 3);
}

/** The names of our objects that are there; without sequences, which come and go with their tables. */
export async function objectsIn(context: Context, { place, execute }: Site): Promise<string[]> {
  const rows = context.dialect === "postgres"
    ? await execute(
      `select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
       where n.nspname = $1 and c.relkind in ('r', 'v', 'i')
       union all
       select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = $1
       union all
       select t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
       join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and not t.tgisinternal
       order by name`,
      [place.schema],
    )
    : await execute("select name from sqlite_schema where name not like 'sqlite%' order by name");
  return rows.map(({ name }) => String(name));
}

function installing(context: Context): void {
  test(
    "install() may be repeated and keeps what is there",
    inSite(context, async ({ store }) => {
      await store.admin.install();
      await store.admin.createQueue("tasks");
      const { id } = await store.producer("tasks").enqueue("kept");
      await store.admin.install();
      assertEquals((await store.admin.messages.get(id))?.payload, "kept");
      assertEquals(await store.admin.migrate(), []);
      await store.admin.verify();
    }),
  );

  test(
    "install() by twenty stores at once makes one schema, and none of them fails",
    inSite(context, async ({ place, store, execute, named }) => {
      const stores = context.isAlone
        ? Array.from({ length: 20 }, () => store)
        : await Promise.all(Array.from({ length: 20 }, () => place.connect({ maxConnections: 1 })));
      try {
        await Promise.all(stores.map((one) => one.admin.install()));
        await Promise.all(stores.slice(0, 3).map((one) => one.admin.verify()));
      } finally {
        if (!context.isAlone) await Promise.all(stores.map((one) => one.close()));
      }
      const applied = await execute(`select version from ${named("pgqrs_migrations")} order by version`);
      assertEquals(applied.map(({ version }) => Number(version)), applied.map((_, i) => i + 1));
      await useQueue(store);
    }),
  );

  test(
    "every call before install() is a SchemaError with the step to take",
    inSite(context, async ({ store }) => {
      const calls: (() => Promise<unknown>)[] = [
        () => store.admin.createQueue("tasks"),
        () => store.producer("tasks").enqueue(1),
        () => store.producer("tasks").enqueueMany([1], { each: () => ({ key: "k" }) }),
        () => store.consumer("tasks").dequeue(),
        () => store.consumer("tasks").archive(1),
        () => store.admin.metrics(),
        () => store.admin.messages.list(),
        () => store.transaction((tx) => store.producer("tasks").enqueue(1, { tx })),
      ];
      for (const call of calls) await assertRejects(call, SchemaError, "run store.admin.install()", String(call));
      await assertRejects(() => store.admin.verify(), SchemaError, "is not installed");
      assertEquals(await store.admin.uninstall(), []);
      await store.ping();
    }),
  );

  test(
    "install() refuses an option that it does not know",
    inSite(context, async ({ store }) => {
      await assertRejects(() => store.admin.install({ unloged: true } as never), TypeError, 'did you mean "unlogged"?');
      await assertRejects(() => store.admin.migrate({ prin: true } as never), TypeError, 'did you mean "print"?');
      await assertRejects(() => store.admin.verify(), SchemaError, "is not installed");
    }),
  );

  test(
    "install({ unlogged }) makes every table of messages unlogged where there is that, and is a TypeError elsewhere",
    inSite(context, async ({ place, store, execute }) => {
      if (context.dialect === "sqlite") {
        await assertRejects(() => store.admin.install({ unlogged: true }), TypeError, "only Postgres");
        await assertRejects(() => store.admin.migrate({ unlogged: true, print: true }), TypeError, "only Postgres");
        return await store.admin.install({ unlogged: false });
      }
      await store.admin.install({ unlogged: true });
      const rows = await execute(
        `select c.relname, c.relpersistence from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = $1 and c.relkind = 'r'`,
        [place.schema],
      );
      const logged = rows.filter(({ relpersistence }) => relpersistence !== "u").map(({ relname }) => relname).sort();
      // What says that the tables are ours, how queues are set up, and whose turn it is, has to outlive a crash of the server.
      assertEquals(logged, ["pgqrs_maintenance", "pgqrs_migrations", "pgqrs_queues"]);
      assertEquals(rows.length, 9);
      await store.admin.verify();
      await useQueue(store);
    }),
  );
}

function uninstalling(context: Context): void {
  test(
    "uninstall() leaves the objects of others, whatever their names and what they are for",
    inSite(context, async (site) => {
      const { store, execute, named } = site;
      await store.admin.install();
      await useQueue(store);
      const theirs = ["customers", "customers_name", "pgqrs_of_theirs", "view_of_theirs"];
      await execute(`create table ${named("customers")} (id integer, name text)`);
      await execute(`create index customers_name on ${named("customers")} (name)`);
      await execute(`create table ${named("pgqrs_of_theirs")} (id integer)`);
      await execute(`create view ${named("view_of_theirs")} as select id from ${named("customers")}`);
      if (context.dialect === "postgres") {
        await execute(`create function ${named("pgqrs_claim")}() returns integer language sql as 'select 1'`);
        theirs.push("pgqrs_claim");
      }
      await store.admin.uninstall();
      assertEquals(await objectsIn(context, site), theirs.sort());
    }),
  );

  test(
    "a store that has used a schema goes on when it was removed and made again",
    inSite(context, async ({ store }) => {
      for (let round = 0; round < 2; round++) {
        await store.admin.install();
        await useQueue(store);
        await store.admin.verify();
        await store.admin.uninstall();
        await assertRejects(() => store.producer("smoke").enqueue(1), SchemaError, "not installed");
      }
    }),
  );
}

function printing(context: Context): void {
  test(
    "migrate({ print }) changes nothing, and what it prints makes the same schema statement by statement",
    inSite(context, async (site) => {
      const { store, execute } = site;
      const before = await objectsIn(context, site);
      const steps = await store.admin.migrate({ print: true });
      assertEquals(await objectsIn(context, site), before);
      for (const { statements } of steps) {
        for (const statement of statements) await execute(statement);
      }
      await store.admin.verify();
      await useQueue(store);
      const byHand = await objectsIn(context, site);
      await store.admin.uninstall();
      await store.admin.install();
      assertEquals(await objectsIn(context, site), byHand);
    }),
  );

  test(
    "migrate() applies what is pending and tells the steps",
    inSite(context, async ({ store }) => {
      const printed = await store.admin.migrate({ print: true });
      const applied = await store.admin.migrate();
      assertEquals(applied.map(({ name }) => name), printed.map(({ name }) => name));
      assertEquals(await store.admin.migrate(), []);
      await store.admin.verify();
    }),
  );
}

function refusing(context: Context): void {
  const foreign = context.dialect === "postgres"
    ? { table: "create table %pgqrs_messages (id integer)", function: FOREIGN_FUNCTION }
    : { table: "create table pgqrs_messages (id integer)", view: "create view pgqrs_runs as select 1 as id" };
  for (const [kind, text] of Object.entries(foreign)) {
    test(
      `install() refuses where there is a pgqrs_* ${kind} of somebody else, and leaves it alone`,
      inSite(context, async (site) => {
        const { store, execute, named } = site;
        if (context.dialect === "postgres") await execute(`create schema ${named("").slice(0, -1)}`);
        await execute(text.replaceAll("%", named("")));
        const before = await objectsIn(context, site);
        const error = await assertRejects(() => store.admin.install(), SchemaError, "did not make");
        const advice = context.dialect === "postgres" ? 'connect(dsn, { schema: "pgqrs" })' : "choose another file";
        assertStringIncludes(error.message, advice);
        await assertRejects(() => store.admin.migrate({ print: true }), SchemaError, "did not make");
        assertEquals(await store.admin.uninstall(), []);
        assertEquals(await objectsIn(context, site), before);
      }),
    );
  }

  test(
    "install() and verify() refuse a schema of a newer release",
    inSite(context, async ({ store, execute, named }) => {
      await store.admin.install();
      await execute(`insert into ${named("pgqrs_migrations")} (version, name, applied_at, objects)
        select 99, 'of the future', applied_at, objects from ${named("pgqrs_migrations")} where version = 1`);
      await assertRejects(() => store.admin.install(), SchemaError, "version 99 was made by a newer release");
      await assertRejects(() => store.admin.migrate(), SchemaError, "newer release");
      await assertRejects(() => store.admin.verify(), SchemaError, "version 99");
    }),
  );

  test(
    "connect() refuses the name of a schema that has 64 bytes, none, NUL or half a character",
    inSite(context, async ({ place }) => {
      const bad = ["x".repeat(64), `${"é".repeat(31)}xx`, "", "a\0b", "\ud800"];
      for (const schema of bad) {
        const error = await place.connect({ schema }).then(() => undefined, (error: unknown) => error);
        assert(error instanceof Error && error.message.includes("schema"), JSON.stringify(schema));
      }
    }),
  );
}

const FOREIGN_FUNCTION = "create function %pgqrs_enqueue(a text) returns integer language sql as 'select 1'";
