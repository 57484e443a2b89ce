/**
 * Installations in a process of its own, which may be killed.
 *
 * `together <dsn> <schema>` waits until everybody may begin, and installs. `stop <dsn> <schema> …` begins an installation
 * for every DSN and schema that follow, of which the first stops after its first statement, the second after its second,
 * and so on; then it waits to be killed.
 *
 * @module
 */
import process from "node:process";
import { connect } from "../../mod.ts";
import { openAround } from "./install_stops.ts";

/** The advisory lock that keeps processes from beginning. */
const BARRIER = 20_260_101;

const [mode = "", ...places] = process.argv.slice(2);
if (mode === "together") await installTogether(places[0] ?? "", places[1] ?? "");
else {
  for (let n = 1; 2 * n <= places.length; n++) stopAfter(n, places[2 * n - 2] ?? "", places[2 * n - 1] ?? "");
  // Nothing else holds a process open that waits for SQLite.
  setInterval(() => {}, 60_000);
}

async function installTogether(dsn: string, schema: string): Promise<void> {
  await using store = await connect(dsn, { schema, maxConnections: 1 });
  await store.ping();
  console.log("ready");
  await store.transaction((tx) => tx.query("select pg_advisory_xact_lock_shared($1::bigint)", [BARRIER]));
  await store.admin.install();
  await store.admin.verify();
}

/** Begins an installation that never gets beyond its n-th statement. */
function stopAfter(n: number, dsn: string, schema: string): void {
  let count = 0;
  const install = async (): Promise<void> => {
    const store = await openAround(dsn, schema, async (send) => {
      const answer = await send();
      if (++count < n) return answer;
      console.log(`stopped after ${n}`);
      return await new Promise<never>(() => {});
    });
    await store.admin.install();
    throw new Error(`The installation had fewer than ${n} statements`);
  };
  install().catch((error) => {
    console.error(error);
    process.exit(1);
  });
}
