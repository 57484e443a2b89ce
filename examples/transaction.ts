/**
 * An order and its message, stored together or not at all: `deno run -A examples/transaction.ts [dsn]`.
 *
 * Without a DSN everything lives in memory. On Postgres the table `demo_orders` is created and dropped again.
 *
 * @module
 */
import process from "node:process";
import { connect } from "@pgqrs/pgqrs";

const dsn = process.argv[2] ?? "sqlite::memory:";
// The placeholders of your own statements are those of the database.
const values = dsn.startsWith("postgres") ? "$1, $2" : "?, ?";

await using store = await connect(dsn);
await store.admin.install();
await store.admin.createQueue("invoices", { ifMissing: true });
const producer = store.producer<{ order: number }>("invoices");
const consumer = store.consumer<{ order: number }>("invoices", { name: "accounting" });

await store.transaction(async (tx) => {
  await tx.query("create table demo_orders (id integer primary key, state text not null)");
});

async function placeOrder(order: number, isPaid: boolean): Promise<void> {
  await store.transaction(async (tx) => {
    await tx.query(`insert into demo_orders (id, state) values (${values})`, [order, "placed"]);
    await producer.enqueue({ order }, { tx, key: `invoice-${order}` });
    if (!isPaid) throw new Error("the card was declined");
  });
}

await placeOrder(1, true);
await placeOrder(2, false).catch((error) => console.log(`Order 2 was rolled back: ${error.message}`));
console.log(`Messages that wait: ${await store.admin.messages.count({ queue: "invoices" })}`);

// The other half: what the message causes and its end commit together, so the invoice is written exactly once.
for (const message of await consumer.dequeue({ limit: 10 })) {
  await store.transaction(async (tx) => {
    const { order } = message.payload;
    await tx.query(`update demo_orders set state = 'invoiced' where id = ${values.split(",")[0]}`, [order]);
    if (!await consumer.archive(message, { tx })) throw new Error("the lease was lost: somebody else does it");
  });
}

await store.transaction(async (tx) => {
  const orders = await tx.query<{ id: number; state: string }>("select id, state from demo_orders order by id");
  for (const { id, state } of orders) console.log(`Order ${id} is ${state}`);
  await tx.query("drop table demo_orders");
});
await store.admin.queues.delete("invoices", { force: true });
