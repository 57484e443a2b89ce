/** The contract on SQLite, in a file and in memory. */
import { contract } from "./contract/all.ts";
import { memoryContext, sqliteFileContext } from "./contract/context.ts";

contract(memoryContext());
contract(sqliteFileContext());
