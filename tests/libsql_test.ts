/** The contract on libSQL over HTTP. */
import { contract } from "./contract/all.ts";
import { libsqlContext } from "./contract/context.ts";

contract(libsqlContext());
