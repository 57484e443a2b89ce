/** A process that enqueues one message for each line it reads: nothing but the database is between it and its worker. */
import process from "node:process";
import { connect } from "../../mod.ts";

const [dsn = "", schema = "", count = "1"] = process.argv.slice(2);
await using store = await connect(dsn, { schema });
for (let n = 0; n < Number(count); n++) await store.producer("tasks").enqueue({ n });
