/**
 * The whole way of a message: `deno run -A examples/basic_usage.ts [dsn]`. Without a DSN the queues live in memory.
 *
 * @module
 */
import process from "node:process";
import { connect, queue } from "@pgqrs/pgqrs";

interface Email {
  to: string;
  subject: string;
}

await using store = await connect(process.argv[2] ?? "sqlite::memory:");
await store.admin.install();

// A queue may be named by a string, or once and for all together with the type of its payloads.
const emails = queue<Email>("email_queue");
await store.admin.createQueue(emails, { maxAttempts: 3, ifMissing: true });
await store.admin.createQueue("task_queue", { ifMissing: true });

const producer = store.producer(emails);
const welcome = await producer.enqueue({ to: "ada@example.com", subject: "Welcome!" }, { priority: 5 });
console.log(`Sent message ${welcome.id}`);
// The key makes the call repeatable: whoever sends the same reminder again gets the message that is there.
await producer.enqueue({ to: "alan@example.com", subject: "A reminder" }, { key: "reminder-alan", delayMs: 50 });
await store.producer("task_queue").enqueueMany([{ task: "tidy" }, { task: "count" }, { task: "sort" }]);

const consumer = store.consumer(emails, { name: "mailer" });
for (const message of await consumer.dequeue({ limit: 10, leaseMs: 30_000 })) {
  console.log(`Sending "${message.payload.subject}" to ${message.payload.to}`);
  const isRecorded = await consumer.archive(message, { reason: "sent", result: { server: "smtp-1" } });
  console.log(isRecorded ? `Archived message ${message.id}` : `Lost the lease of message ${message.id}`);
}

// The reminder is delayed by the database's clock; `waitMs` waits until it is due. This attempt fails, for once.
const [reminder] = await consumer.dequeue({ waitMs: 5_000 });
if (reminder !== undefined) {
  await consumer.fail(reminder, new Error("mailbox is full"), { delayMs: 0 });
  const [again] = await consumer.dequeue();
  console.log(`Attempt ${(again?.attempts ?? 0) + 1} after "${again?.error?.message}"`);
  if (again !== undefined) await consumer.archive(again);
}

for (const { queue, ready, delayed, leased, succeeded, failed } of await store.admin.metrics()) {
  console.log(
    `${queue}: ${ready} ready, ${delayed} delayed, ${leased} leased, ${succeeded} succeeded, ${failed} failed`,
  );
}
const { items } = await store.admin.archive.list({ queue: emails });
for (const { id, archivedBy, processingMs } of items) console.log(`${id} by ${archivedBy} in ${processingMs} ms`);
