/** The contract on the oldest supported PostgreSQL, where there are binaries of it for this machine. */
import { after } from "node:test";
import { contract } from "./contract/all.ts";
import { postgresContext } from "./contract/context.ts";
import { hasPostgres, type PostgresServer, startPostgres } from "./support/postgres_server.ts";

if (hasPostgres(14)) {
  let starting: Promise<PostgresServer> | undefined;
  // The database of the context is dropped before its server stops.
  const context = postgresContext(
    async () => (await (starting ??= startPostgres({ version: 14 }))).dsn(),
    "Postgres 14",
  );
  after(async () => await (await starting)?.close());
  contract(context);
}
