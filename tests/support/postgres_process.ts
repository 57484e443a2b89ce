/** The child of the test that kills a process with a server. */
import { startPostgres } from "./postgres_server.ts";

const server = await startPostgres();
console.log(`folder ${server.folder}`);
setTimeout(() => {}, 60_000);
