/** The contract on SQLite, in a file and in memory. */
import process from "node:process";
import { contract } from "./contract/all.ts";
import { memoryContext, sqliteFileContext } from "./contract/context.ts";

// In memory it is the same driver: there once is enough.
if (process.versions.deno !== undefined) contract(memoryContext());
contract(sqliteFileContext());
