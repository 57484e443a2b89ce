/** A million lines through `pgqrs message send --file`: speed, memory and a kill in the middle; every figure is printed. */
import { test } from "node:test";
import { checkSending, type SendSize } from "./support/cli_send.ts";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";

const size: SendSize = { lines: 1_000_000, isTimed: true, longestMs: 600_000 };

test("a file of a million lines is sent to Postgres", async () => {
  await checkSending("Postgres", () => freshPostgres(), size);
});

test("a file of a million lines is sent to a SQLite file", async () => {
  await checkSending("SQLite", freshSqliteFile, size);
});
