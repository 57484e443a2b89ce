/**
 * Installations that stop in the middle.
 *
 * @module
 */
import type { Store } from "../../mod.ts";
import type { Connection } from "../../src/sql/driver.ts";
import { openWatched } from "./watched_store.ts";

/** What is done around a statement: it is sent by calling `send`. */
export type Around = <T>(send: () => Promise<T>, connection: Connection) => Promise<T>;

/** Opens a store whose driver sends every statement, inside transactions as well, through `around`. */
export async function openAround(dsn: string, schema: string, around: Around): Promise<Store> {
  return await openWatched(dsn, schema, (driver) => ({
    query: (rendered, options) => around(() => driver.query(rendered, options), driver),
    transaction: (work, limits) =>
      driver.transaction((tx) =>
        work({
          query: (rendered, options) => around(() => tx.query(rendered, options), tx),
          run: (text, values) => tx.run(text, values),
        }), limits),
  }));
}

/** Installs as a whole, and resolves to the number of statements that it took. */
export async function countStatements(dsn: string, schema: string): Promise<number> {
  let count = 0;
  await using store = await openAround(dsn, schema, (send) => (count++, send()));
  await store.admin.install();
  return count;
}
