/**
 * A transaction that is committed after it was looked whether it is.
 *
 * @module
 */
import { DatabaseError, workflow } from "../../mod.ts";
import type { Driver } from "../../src/sql/driver.ts";
import type { Ground } from "./run_crash_ground.ts";
import { plain } from "./run_crash_wire.ts";
import { startWorker } from "./running_worker.ts";
import { openWatched } from "./watched_store.ts";

const PATIENCE_MS = 15_000;
const POLL_MS = 40;

/**
 * Executes a run with one transaction of which nobody knows whether it is committed: the connection is gone while the
 * server is at it, and it is done only after the record of the step was looked for.
 */
export async function commitLate(ground: Ground): Promise<{ readonly rows: string[]; readonly value: string }> {
  const { dsn } = ground.place("late");
  const gone = Promise.withResolvers<never>();
  const looked = Promise.withResolvers<void>();
  // The connection on which the commit is late is not the one on which the record is looked for.
  let slow: Driver | undefined;
  await using _slow = await openWatched(dsn, "public", (driver) => plain(slow = driver));
  await using store = await openWatched(dsn, "public", (driver) => ({
    async query(rendered, options) {
      const rows = await driver.query(rendered, options);
      if (rendered.name === "listSteps") looked.resolve();
      return rows;
    },
    async transaction(work, limits) {
      if (slow === undefined) return await driver.transaction(work, limits);
      const committing = slow.transaction(async (tx) => {
        const value = await work(tx);
        gone.reject(new DatabaseError("no answer", { outcome: "unknown", reason: "connection" }));
        await looked.promise;
        return value;
      }, limits);
      slow = undefined;
      return await Promise.race([committing, gone.promise]);
    },
  }));
  let count = 0;
  const backoff = { kind: "fixed", baseMs: 1, jitter: 0 } as const;
  const flow = workflow<null, string>("late", (run) =>
    run.transaction("stored", async (tx) => {
      const nonce = String(++count);
      await tx.query(ground.insert, [run.id, nonce]);
      return nonce;
    }, { retry: { maxAttempts: 3, backoff } }));
  const run = await store.start(flow, null);
  await using _running = startWorker(store, [flow as never], { pollIntervalMs: POLL_MS });
  const value = await run.result({ timeoutMs: PATIENCE_MS });
  const rows = await store.transaction((tx) => tx.query("select nonce from effects where run = $1", [run.id]));
  return { rows: rows.map(({ nonce }) => String(nonce)), value };
}
