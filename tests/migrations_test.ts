/** The migrations as a list: released entries never change, and both dialects make the same tables. */
import { assert, assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import { connect } from "../mod.ts";
import { type Dialect, type DialectName, postgres, sqlite } from "../src/sql/dialect.ts";
import { type Migration, migrations, migrationStatements, schemaVersion } from "../src/sql/migrations.ts";
import { render } from "../src/sql/sql.ts";
import { freshPostgres } from "./support/databases.ts";

/**
 * The SHA-256 of the text of each migration.
 *
 * A migration that was released is never changed, because databases that have it would differ from new ones without
 * anybody's notice: a change is a new migration, with a new line here. Until 0.1.0 is released the first two may change;
 * the failure of this test then shows the new values to put here.
 */
const HASHES: Readonly<Record<string, Readonly<Record<DialectName, string>>>> = {
  "1 tables": {
    postgres: "6d51fbb1a33e3f3f403b48dee2a9ae055eb1713dafc93c0c267aa26c1398da50",
    sqlite: "9f37d518bd46705cf7d951c2dd2615cb1d9f160929886e0bf1434fa499c78765",
  },
  "2 functions": {
    postgres: "b8e4c998ce2b53e62356eff00cbf68fcc0cf6a6f9641548fb759d9f8c21a8fde",
    sqlite: "76b68c20eb88d24600a0c207cc5d6b2c49c5793950d4ba9178ec3b2978efc82e",
  },
  "3 runs": {
    postgres: "869baabba0f1527bcd761b4e78be612d3452648625b3d3395433e9be7a2abf22",
    sqlite: "de6227261ef419b746c077bf58651b31a05d1cb748f9e26877633355875e4240",
  },
};

/** What a type of Postgres is on SQLite: instants are whole milliseconds there, JSON is text, and false is 0. */
const KINDS: Readonly<Record<string, string>> = {
  bigint: "integer",
  boolean: "integer",
  integer: "integer",
  smallint: "integer",
  "timestamp with time zone": "integer",
  json: "text",
  text: "text",
};

describe("migrations", () => {
  test("are those that were released", () => {
    const hashes = migrations.map((migration) => [
      `${migration.version} ${migration.name}`,
      { postgres: hashOf(migration, postgres), sqlite: hashOf(migration, sqlite) },
    ]);
    assertEquals(Object.fromEntries(hashes), HASHES);
  });

  test("are numbered from one, and the last one is the version of the schema", () => {
    assertEquals(migrations.map(({ version }) => version), migrations.map((_, i) => i + 1));
    assertEquals(migrations.at(-1)?.version, schemaVersion);
  });

  test("bind no values, so that they can be printed", () => {
    for (const dialect of [postgres, sqlite]) {
      for (const migration of migrations) {
        for (const { text, values } of partsOf(migration, dialect)) assertEquals(values, [], text);
      }
    }
  });

  test("make the same tables with the same columns on both dialects", async () => {
    const [onPostgres, onSqlite] = [await postgresColumns(), await sqliteColumns()];
    assert(onPostgres.length > 30);
    assertEquals(onPostgres, onSqlite);
  });
});

function partsOf(migration: Migration, dialect: Dialect): ReturnType<typeof render>["parts"] {
  const target = { dialect, schema: "public" };
  return migrationStatements(migration, { isUnlogged: false }, target).flatMap((one) => render(one, target).parts);
}

function hashOf(migration: Migration, dialect: Dialect): string {
  const texts = partsOf(migration, dialect).map(({ text }) => text);
  return createHash("sha256").update(texts.join(";\n")).digest("hex");
}

/** Table, column, kind, whether it must be given or has a default: a line each, in alphabetical order. */
async function postgresColumns(): Promise<string[]> {
  const database = await freshPostgres();
  try {
    await using store = await connect(database.dsn, { schema: "jobs" });
    await store.admin.install();
    const rows = await store.transaction((tx) =>
      tx.query(`select c.table_name, c.column_name, c.data_type, c.is_nullable, c.column_default
        from information_schema.columns c join information_schema.tables t using (table_schema, table_name)
        where c.table_schema = 'jobs' and t.table_type = 'BASE TABLE'`)
    );
    return rows.map((row) =>
      lineOf(row.table_name, row.column_name, row.data_type, row.is_nullable === "NO", row.column_default)
    ).sort();
  } finally {
    await database.close();
  }
}

async function sqliteColumns(): Promise<string[]> {
  await using store = await connect("sqlite::memory:");
  await store.admin.install();
  const rows = await store.transaction((tx) =>
    tx.query(`select t.name as "table", c.name, c.type, c."notnull" or c.pk as must, c.dflt_value
      from sqlite_schema t, pragma_table_info(t.name) c where t.type = 'table' and t.name like 'pgqrs%'`)
  );
  return rows.map((row) => lineOf(row.table, row.name, String(row.type).toLowerCase(), row.must, row.dflt_value))
    .sort();
}

function lineOf(table: unknown, column: unknown, type: unknown, isNeeded: unknown, preset: unknown): string {
  const kind = KINDS[String(type)] ?? `unknown type ${type}`;
  return `${table}.${column} ${kind}${isNeeded ? " not null" : ""}${
    preset === null ? "" : ` default ${preset === "false" ? 0 : preset}`
  }`;
}
