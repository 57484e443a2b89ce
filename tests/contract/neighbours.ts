/** What of a schema is ours, and that whatever else is there stays its owner's. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, test } from "node:test";
import { DatabaseError, SchemaError } from "../../mod.ts";
import type { Context } from "./context.ts";
import { inSite, objectsIn, type Site, useQueue } from "./schema.ts";

/** Defines the tests for one backend. */
export function neighboursContract(context: Context): void {
  describe(`objects of others on ${context.name}`, () => {
    describing(context);
    removing(context);
  });
}

/** What others have in our schema under names like ours, in the order in which it can be made. `%` is the schema. */
const THEIRS: Readonly<Record<Context["dialect"], readonly string[]>> = {
  postgres: [
    "create table %pgqrs_reports (id integer primary key, day date not null)",
    "create index pgqrs_reports_day on %pgqrs_reports (day)",
    "create view %pgqrs_report_days as select day from %pgqrs_reports",
    "create function %pgqrs_report() returns integer language sql as 'select 1'",
    "create function %pgqrs_claim(a text) returns integer language sql as 'select 1'",
  ],
  sqlite: [
    "create table pgqrs_reports (id integer primary key, day text not null)",
    "create index pgqrs_reports_day on pgqrs_reports (day)",
    "create view pgqrs_report_days as select day from pgqrs_reports",
    "create trigger pgqrs_reports_made after insert on pgqrs_reports begin select 1; end",
  ],
};

/** What they do with it later. */
const CHANGES: Readonly<Record<Context["dialect"], readonly string[]>> = {
  postgres: [
    "drop index %pgqrs_reports_day",
    "drop function %pgqrs_report",
    "drop function %pgqrs_claim(text)",
    "alter table %pgqrs_reports add column more text",
  ],
  sqlite: [
    "drop index pgqrs_reports_day",
    "drop trigger pgqrs_reports_made",
    "alter table pgqrs_reports add column more text",
  ],
};

async function described({ execute, named }: Site): Promise<string[]> {
  const [row] = await execute(
    `select cast(objects as text) as objects from ${named("pgqrs_migrations")} order by version desc`,
  );
  return Object.keys(JSON.parse(String(row?.objects)));
}

function describing(context: Context): void {
  test(
    "install() describes every object that it has made, and nothing else",
    inSite(context, async (site) => {
      await site.store.admin.install();
      const names = (await described(site)).filter((name) => /^(function|index|table|trigger|view) /.test(name));
      const bare = names.map((name) => name.replace(/^\w+ ([^(]*).*$/s, "$1"));
      assertEquals(bare.sort(), await objectsIn(context, site));
    }),
  );

  test(
    "what others make between two steps of the schema is not taken for ours",
    inSite(context, async (site) => {
      const { store, execute, named } = site;
      const [first] = await store.admin.migrate({ print: true });
      for (const statement of first?.statements ?? []) await execute(statement);
      const before = await objectsIn(context, site);
      for (const statement of THEIRS[context.dialect]) await execute(statement.replaceAll("%", named("")));
      const theirs = (await objectsIn(context, site)).filter((name) => !before.includes(name));
      assertEquals((await store.admin.migrate()).map(({ version }) => version), [2, 3]);
      assertEquals((await described(site)).filter((name) => /report|\(a text\)/.test(name)), []);
      await store.admin.verify();
      await useQueue(store);
      await store.admin.uninstall();
      assertEquals(await objectsIn(context, site), theirs);
    }),
  );

  test(
    "verify() does not mind what others do with objects of theirs",
    inSite(context, async ({ store, execute, named }) => {
      const [first] = await store.admin.migrate({ print: true });
      for (const statement of first?.statements ?? []) await execute(statement);
      for (const statement of THEIRS[context.dialect]) await execute(statement.replaceAll("%", named("")));
      await store.admin.migrate();
      for (const statement of CHANGES[context.dialect]) await execute(statement.replaceAll("%", named("")));
      await store.admin.verify();
    }),
  );
}

function removing(context: Context): void {
  test(
    "uninstall() never removes a view of others on our tables",
    inSite(context, async (site) => {
      const { store, execute, named } = site;
      await store.admin.install();
      await execute(`create view ${named("backlog")} as select count(*) as n from ${named("pgqrs_messages")}`);
      if (context.dialect === "sqlite") {
        // There a view is only a text, which may name what is not there.
        await store.admin.uninstall();
        assertEquals(await objectsIn(context, site), ["backlog"]);
        return await execute("drop view backlog").then(() => {});
      }
      const before = await objectsIn(context, site);
      const error = await assertRejects(() => store.admin.uninstall(), DatabaseError);
      assertStringIncludes(error.message, `view ${named("backlog").replaceAll('"', "")} depends on table`);
      assertEquals([error.sqlState, error.outcome], ["2BP01", "not_applied"]);
      assertEquals(await objectsIn(context, site), before);
      await store.admin.verify();
    }),
  );

  test(
    "uninstall() refuses while there are triggers of others on our tables, and names them",
    inSite(context, async (site) => {
      const { store, execute, named } = site;
      await store.admin.install();
      await execute(`create table ${named("counts")} (n integer)`);
      if (context.dialect === "postgres") {
        await execute(`create function ${named("count_one")}() returns trigger language plpgsql as
          'begin return null; end'`);
      }
      for (const [trigger, table] of [["pgqrs_count", "pgqrs_archive"], ["told", "pgqrs_messages"]]) {
        await execute(
          context.dialect === "postgres"
            ? `create trigger ${trigger} after insert on ${named(String(table))} execute function ${
              named("count_one")
            }()`
            : `create trigger ${trigger} after insert on ${table} begin insert into counts values (1); end`,
        );
      }
      const before = await objectsIn(context, site);
      const error = await assertRejects(() => store.admin.uninstall(), SchemaError);
      assert(error.message.endsWith("pgqrs_count on pgqrs_archive, told on pgqrs_messages"), error.message);
      assertEquals(await objectsIn(context, site), before);
      await store.admin.verify();
      for (const [trigger, table] of [["pgqrs_count", "pgqrs_archive"], ["told", "pgqrs_messages"]]) {
        await execute(`drop trigger ${trigger}${context.dialect === "postgres" ? ` on ${named(String(table))}` : ""}`);
      }
      await store.admin.uninstall();
      const left = await objectsIn(context, site);
      assertEquals(left, context.dialect === "postgres" ? ["count_one", "counts"] : ["counts"]);
    }),
  );
}
