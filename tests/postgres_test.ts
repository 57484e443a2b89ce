/** The contract on the newest PostgreSQL. */
import { contract } from "./contract/all.ts";
import { postgresContext } from "./contract/context.ts";

contract(postgresContext());
