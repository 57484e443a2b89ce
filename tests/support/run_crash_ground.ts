/**
 * Where the crash tests take place.
 *
 * @module
 */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "../../mod.ts";
import { freshPostgres } from "./databases.ts";

/** Where the crash tests of one backend take place. */
export interface Ground extends AsyncDisposable {
  readonly name: string;
  /** The SQL that puts two values into the table of the user. */
  readonly insert: string;
  /** Where a scene takes place. */
  place(scene: string): { readonly dsn: string; close(): void };
}

const TABLE = "create table effects (run bigint, nonce text)";

/** SQLite: a file for each scene, each the copy of one. */
export async function sqliteGround(): Promise<Ground> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-crash-"));
  const template = join(folder, "template.db");
  await prepare(`sqlite:${template}`);
  return {
    name: "SQLite",
    insert: "insert into effects values (?, ?)",
    place(scene) {
      const file = join(folder, `${scene}.db`);
      copyFileSync(template, file);
      // No power fails here.
      return {
        dsn: `sqlite:${file}?synchronous=normal`,
        close: () => ["", "-wal", "-shm"].forEach((end) => rmSync(file + end, { force: true })),
      };
    },
    [Symbol.asyncDispose]: () => Promise.resolve(rmSync(folder, { recursive: true, force: true, maxRetries: 5 })),
  };
}

/** Postgres: one database for all scenes, which have queues of their own. */
export async function postgresGround(): Promise<Ground> {
  const { dsn, close } = await freshPostgres();
  await prepare(dsn);
  return {
    name: "Postgres",
    insert: "insert into effects values ($1, $2)",
    place: () => ({ dsn, close() {} }),
    [Symbol.asyncDispose]: close,
  };
}

async function prepare(dsn: string): Promise<void> {
  await using store = await connect(dsn);
  await store.admin.install();
  await store.transaction((tx) => tx.query(TABLE));
}
