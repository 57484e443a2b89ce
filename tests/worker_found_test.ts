/** What a review has found of workers: messages that nobody looked at, were held back, or could not be stored. */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import { connect, job, type Store } from "../mod.ts";
import { EventHub } from "../src/events.ts";
import { newHolder, type toMessage } from "../src/message.ts";
import type { LiveRecord } from "../src/sql/record.ts";
import { Delivery } from "../src/worker/delivery.ts";
import { Settling, type SettlingHost } from "../src/worker/settling.ts";
import { type Context, memoryContext, postgresContext } from "./contract/context.ts";
import { gate, startWorker, until } from "./support/running_worker.ts";

for (const context of [memoryContext(), postgresContext()]) {
  describe(`a worker on ${context.name}`, () => {
    test(
      "looks for messages of a queue that was deleted and made again under it",
      inQuiet(context, async (store) => {
        const seen: unknown[] = [];
        const jobs = ["tasks", "others"].map((name) => job(name, ({ payload }) => void seen.push(payload)));
        await using _running = startWorker(store, jobs, { pollIntervalMs: 20 });
        await until(async () => (await store.admin.queues.list()).length === 2);
        await store.admin.queues.delete("tasks", { force: true });
        await store.admin.createQueue("tasks");
        const producer = store.producer("tasks");
        await producer.enqueue("unsaid", { notify: false });
        await until(() => seen.length === 1);
        await producer.enqueue("delayed", { delayMs: 200 });
        await until(() => seen.length === 2);
      }),
    );

    test(
      "tells others of the process at once of what it gives back",
      inQuiet(context, async (store) => {
        const hanging = gate();
        const begun: string[] = [];
        const make = (name: string) =>
          job("tasks", async () => {
            begun.push(name);
            if (name === "first") await hanging.passed;
          }, { batch: 2, concurrency: 1 });
        await store.admin.createQueue("tasks");
        await using first = startWorker(store, [make("first")], { pollIntervalMs: 600_000 });
        await store.producer("tasks").enqueueMany([1, 2]);
        await until(() => begun.length === 1);
        await using second = startWorker(store, [make("second")], { pollIntervalMs: 600_000 });
        await until(() => second.worker.health().lastAnswerAt !== null && second.worker.health().state === "idle");
        await store.ping();
        await first.stop();
        await until(() => begun.includes("second"));
        hanging.open();
      }),
    );

    test(
      "takes all leases back that have run out, however many it asks for at once",
      inQuiet(context, async (store) => {
        await store.admin.createQueue("tasks");
        await store.producer("tasks").enqueueMany(Array(2_000).fill(null));
        await store.consumer("tasks").dequeue({ limit: 2_000, leaseMs: 1 });
        await new Promise((resolve) => setTimeout(resolve, 20));
        let count = 0;
        const all = job("tasks", (list) => void (count += list.length), { batch: 500 });
        await using _running = startWorker(store, [all], { pollIntervalMs: 600_000 });
        await until(() => count === 2_000);
      }),
    );

    test(
      "gives back what it claimed ahead of slow messages that it had taken for fast ones",
      inQuiet(context, async (store) => {
        await store.admin.createQueue("tasks");
        await store.producer("tasks").enqueueMany(Array(3_300).fill(null));
        const hanging = gate();
        let count = 0;
        const mixed = job("tasks", async () => {
          if (++count > 3_000) await hanging.passed;
        });
        await using running = startWorker(store, [mixed], { pollIntervalMs: 600_000 });
        await until(() => running.worker.health().completed === 3_000);
        await until(() => running.worker.health().waiting > 0, "it holds some");
        await until(() => running.worker.health().waiting === 0, "it has given them back");
        await until(async () => (await store.admin.metrics("tasks")).ready === 290);
        assertEquals(running.worker.health().running, 10);
        hanging.open();
        await until(() => running.worker.health().completed === 3_300);
      }),
    );
  });
}

test("Settling takes as many results as fit into a statement, and one in any case", () => {
  const host = { events: new EventHub(() => {}) } as unknown as SettlingHost;
  const settling = new Settling(job("tasks", () => {}), host);
  const large = "x".repeat(1_000_000);
  for (let id = 1; id <= 20; id++) settling.succeeded(deliveryOf(id), large);
  const sizes: number[] = [];
  while (settling.ready > 0) sizes.push(settling.take().length);
  assertEquals(sizes, [8, 8, 4]);
  assert(sizes.every((size) => size > 0));
});

function deliveryOf(id: number): Delivery {
  const at = new Date(0);
  const record = {
    id,
    queue: "tasks",
    state: "leased",
    priority: 0,
    enqueuedAt: at,
    dueAt: at,
    token: 1,
    holder: newHolder("worker"),
    leaseUntil: at,
    attempts: 0,
    crashes: 0,
    maxAttempts: 5,
    maxCrashes: 10,
    key: null,
    headers: null,
    payload: "null",
    error: null,
    retry: null,
    expiresAt: null,
  } as unknown as LiveRecord;
  return new Delivery(record, { id } as ReturnType<typeof toMessage>, 30_000, performance.now() + 30_000);
}

/** Runs a test in a store that hears no hints of other processes. */
function inQuiet(context: Context, work: (store: Store) => Promise<void>): () => Promise<void> {
  return async () => {
    const place = await context.place();
    try {
      await using store = await connect(place.dsn, { schema: place.schema, listen: false });
      await store.admin.install();
      await work(store);
    } finally {
      await place.close();
    }
  };
}
