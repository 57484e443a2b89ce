import { startPostgres } from "./support/postgres_server.ts";
const s = await startPostgres({ version: 18 });
await Deno.writeTextFile("/tmp/hr/dsn", s.dsn());
setInterval(()=>{}, 1000);
