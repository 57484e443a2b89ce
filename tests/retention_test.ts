/** What has ended is kept for as long as its queue says. */
import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { connect } from "../mod.ts";
import { BACKENDS } from "./support/model_run.ts";

const DAY_MS = 86_400_000;

for (const [name, open] of Object.entries(BACKENDS)) {
  test(`archive.purge({ expired }) deletes what its queue keeps no longer, and nothing else, on ${name}`, async () => {
    const database = await open();
    let now = Date.UTC(2030, 0, 1);
    try {
      await using store = await connect(database.dsn, { clock: () => now });
      await store.admin.install();
      await store.admin.createQueue("short", { retentionMs: 1_000 });
      await store.admin.createQueue("month");
      await store.admin.createQueue("ever", { retentionMs: null });
      for (const queue of ["short", "month", "ever"]) {
        await store.producer(queue).enqueue({});
        const consumer = store.consumer(queue);
        await consumer.archiveMany(await consumer.dequeue({ leaseMs: 60_000 }));
      }
      assertEquals(await store.admin.archive.purge({ expired: true }), 0);
      now += 1_001;
      assertEquals(await store.admin.archive.purge({ expired: true }), 1);
      assertEquals(await store.admin.archive.count({ queue: "short" }), 0);
      now += 30 * DAY_MS;
      assertEquals(await store.admin.archive.purge({ expired: true, queue: "ever" }), 0);
      assertEquals(await store.admin.archive.purge({ expired: true }), 1);
      now += 1_000 * DAY_MS;
      assertEquals(await store.admin.archive.purge({ expired: true }), 0);
      assertEquals(await store.admin.archive.count({ queue: "ever" }), 1);
    } finally {
      await database.close();
    }
  });
}
