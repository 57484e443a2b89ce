/** What `verify` finds out: damage to the schema, and messages that nobody will ever claim. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, test } from "node:test";
import { SchemaError } from "../../mod.ts";
import type { Context } from "./context.ts";
import { inSite, useQueue } from "./schema.ts";

/** Defines the tests for one backend. */
export function driftContract(context: Context): void {
  describe(`drift of the schema on ${context.name}`, () => {
    verifying(context);
    orphans(context);
  });
}

/** What somebody does to an installed schema, and what `verify` says of it. `%` stands before the names of objects. */
const DAMAGE: Readonly<Record<Context["dialect"], readonly (readonly [string, string, ...string[]])[]>> = {
  postgres: [
    ["missing index pgqrs_messages_ready", "drop index %pgqrs_messages_ready"],
    ["missing column pgqrs_archive.result", "alter table %pgqrs_archive drop column result"],
    [
      "missing constraint pgqrs_keys.pgqrs_keys_hold_check",
      "alter table %pgqrs_keys drop constraint pgqrs_keys_hold_check",
    ],
    ["altered table pgqrs_keys", "alter table %pgqrs_keys set unlogged"],
    ["altered column pgqrs_archive.type", "alter table %pgqrs_archive alter column type type varchar(10)"],
    ["altered column pgqrs_archive.payload", "alter table %pgqrs_archive alter column payload drop not null"],
    ["altered column pgqrs_messages.token", "alter table %pgqrs_messages alter column token drop default"],
    ["altered column pgqrs_messages.attempts", "alter table %pgqrs_messages alter column attempts set default 1"],
    ["altered column pgqrs_messages.id", "alter table %pgqrs_messages alter column id drop identity"],
    [
      "altered index pgqrs_messages_ready",
      "drop index %pgqrs_messages_ready",
      "create index pgqrs_messages_ready on %pgqrs_messages (queue_id, priority, due_at) where state = 'ready'",
    ],
    [
      "altered constraint pgqrs_keys.pgqrs_keys_hold_check",
      "alter table %pgqrs_keys drop constraint pgqrs_keys_hold_check",
      "alter table %pgqrs_keys add constraint pgqrs_keys_hold_check check (hold <> 'never')",
    ],
    ["missing function pgqrs_enqueue(queue text, payload json, options json)", "drop function %pgqrs_enqueue"],
    [
      "altered function pgqrs_delete_leased(p_items json, p_holder text)",
      "create or replace function %pgqrs_delete_leased(p_items json, p_holder text) returns setof bigint " +
      "language sql as 'select 1::bigint'",
    ],
    [
      "altered function pgqrs_delete_leased(p_items json, p_holder text)",
      "alter function %pgqrs_delete_leased reset plan_cache_mode",
    ],
    ["missing trigger pgqrs_archive_tells", "drop trigger pgqrs_archive_tells on %pgqrs_archive"],
    ["altered trigger pgqrs_archive_forgets", "alter table %pgqrs_archive disable trigger pgqrs_archive_forgets"],
    ["missing view pgqrs_runs", "drop view %pgqrs_runs"],
    ["altered view pgqrs_runs", "drop view %pgqrs_runs", "create view %pgqrs_runs as select 1 as id"],
  ],
  sqlite: [
    ["missing index pgqrs_messages_ready", "drop index pgqrs_messages_ready"],
    ["missing table pgqrs_keys", "drop table pgqrs_keys"],
    ["missing trigger pgqrs_archive_takes", "drop trigger pgqrs_archive_takes"],
    ["altered table pgqrs_archive", "alter table pgqrs_archive drop column processing_ms"],
    ["altered table pgqrs_archive", "alter table pgqrs_archive rename column type to kind"],
    ["altered table pgqrs_messages", "alter table pgqrs_messages add column more text"],
    [
      "altered index pgqrs_messages_ready",
      "drop index pgqrs_messages_ready",
      "create index pgqrs_messages_ready on pgqrs_messages (queue_id, priority, due_at) where state = 'ready'",
    ],
    [
      "altered trigger pgqrs_archive_takes",
      "drop trigger pgqrs_archive_takes",
      "create trigger pgqrs_archive_takes after insert on pgqrs_archive begin select 1; end",
    ],
    ["missing view pgqrs_runs", "drop view pgqrs_runs"],
    ["altered view pgqrs_runs", "drop view pgqrs_runs", "create view pgqrs_runs as select 1 as id"],
  ],
};

function verifying(context: Context): void {
  for (const [told, ...statements] of DAMAGE[context.dialect]) {
    test(
      `verify() says "${told}" of: ${statements.at(-1)?.replaceAll("%", "")}`,
      inSite(context, async ({ store, execute, named }) => {
        await store.admin.install();
        await store.admin.verify();
        for (const statement of statements) await execute(statement.replaceAll("%", named("")));
        const error = await assertRejects(() => store.admin.verify(), SchemaError);
        assert(error.message.endsWith(`is not as installed: ${told}`), error.message);
      }),
    );
  }

  test(
    "verify() passes on a schema that is in use, beside objects of others",
    inSite(context, async ({ store, execute, named }) => {
      await store.admin.install();
      await useQueue(store);
      await execute(`create table ${named("pgqrs_of_theirs")} (id integer)`);
      await execute(`create index orders_of_theirs on ${named("pgqrs_archive")} (reason)`);
      await store.admin.verify();
    }),
  );

  test(
    "verify() names all damage at once",
    inSite(context, async ({ store, execute, named }) => {
      await store.admin.install();
      await execute(`drop index ${named("pgqrs_messages_ready")}`);
      await execute(`drop table ${named("pgqrs_keys")}`);
      const error = await assertRejects(() => store.admin.verify(), SchemaError, "missing table pgqrs_keys");
      assertStringIncludes(error.message, "missing index pgqrs_messages_ready");
    }),
  );
}

function orphans(context: Context): void {
  test(
    "verify() names queues that are gone but have ready, delayed or leased messages",
    inSite(context, async ({ store, execute, named }) => {
      await store.admin.install();
      for (const queue of ["kept", "ready", "delayed", "leased", "empty"]) await store.admin.createQueue(queue);
      for (const queue of ["kept", "ready", "leased"]) await store.producer(queue).enqueueMany([1, 2]);
      await store.producer("delayed").enqueue(1, { delayMs: 60_000 });
      await store.consumer("leased").dequeue({ limit: 2 });
      await store.admin.verify();
      const rows = await execute(`select id, name from ${named("pgqrs_queues")} order by id`);
      await execute(`delete from ${named("pgqrs_queues")} where name <> 'kept'`);
      const error = await assertRejects(() => store.admin.verify(), SchemaError, "orphaned messages");
      const gone = rows.filter(({ name }) => ["ready", "delayed", "leased"].includes(String(name)));
      const told = gone.map(({ id }) => `orphaned messages: the queue with id ${id} is gone`);
      assertEquals(error.message.slice(error.message.indexOf("orphaned")).split("; "), told);
    }),
  );
}
