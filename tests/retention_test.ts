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

  test(`archive.purge({ expired }) deletes the keys that hold no more, and no others, on ${name}`, async () => {
    const database = await open();
    let now = Date.UTC(2030, 0, 1);
    try {
      await using store = await connect(database.dsn, { clock: () => now });
      await store.admin.install();
      for (const queue of ["a", "b"]) {
        await store.admin.createQueue(queue, { retentionMs: null });
        const consumer = store.consumer(queue);
        for (const until of [undefined, "started", "finished", 5_000] as const) {
          const key = { value: `ended ${until}`, ...(until !== undefined && { until }) };
          await store.producer(queue).enqueue(1, { key });
          await consumer.archiveMany(await consumer.dequeue());
          await store.producer(queue).enqueue(1, { key: { ...key, value: `live ${until}` }, delayMs: 10 * DAY_MS });
        }
      }
      const keys = async (): Promise<string[]> => {
        const text = `select q.name || ' ' || k.key as key from pgqrs_keys k
          join pgqrs_queues q on q.id = k.queue_id order by q.name, k.key`;
        return (await store.transaction((tx) => tx.query<{ key: string }>(text))).map(({ key }) => key);
      };
      assertEquals((await keys()).length, 16);
      await store.admin.archive.purge();
      assertEquals((await keys()).length, 16);
      const live = ["live 5000", "live finished", "live started", "live undefined"];
      const lasting = ["ended 5000", "ended undefined"];
      assertEquals(await store.admin.archive.purge({ expired: true, queue: "a" }), 0);
      const sorted = [...lasting, ...live].sort().map((key) => `a ${key}`);
      assertEquals((await keys()).filter((key) => key.startsWith("a")).sort(), sorted);
      assertEquals((await keys()).filter((key) => key.startsWith("b")).length, 8);
      now += DAY_MS;
      await store.admin.archive.purge({ expired: true });
      const rest = live.slice(1);
      assertEquals(await keys(), [...rest.map((key) => `a ${key}`), ...rest.map((key) => `b ${key}`)]);
    } finally {
      await database.close();
    }
  });
}
