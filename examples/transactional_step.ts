/**
 * A step that writes into your own table exactly once: `deno run -A examples/transactional_step.ts [dsn]`.
 *
 * The record of the step is committed by the same transaction as the booking: there is never one without the other, whenever
 * the process dies. Without a DSN everything lives in memory. On Postgres the table `demo_ledger` is created and dropped again.
 *
 * @module
 */
import process from "node:process";
import { connect, workflow } from "@pgqrs/pgqrs";

const dsn = process.argv[2] ?? "sqlite::memory:";
// The placeholders of your own statements are those of the database.
const values = dsn.startsWith("postgres") ? "$1, $2" : "?, ?";

interface Payment {
  readonly account: string;
  readonly cents: number;
}

/** Of this process: a variable of the function would begin anew with it, after each wait. */
let begun = 0;

const pay = workflow("transactional_payments", async (run, { account, cents }: Payment) => {
  const booked = await run.transaction("book", async (tx) => {
    await tx.query(`insert into demo_ledger (account, cents) values (${values})`, [account, cents]);
    // Too late for the insert above to be undone by hand; the transaction does it.
    if (++begun === 1) throw new Error("The connection to the bank was lost");
    const [row] = await tx.query<{ total: number | string }>("select sum(cents) as total from demo_ledger");
    return Number(row?.total);
  }, { retry: { maxAttempts: 3, backoff: { kind: "fixed", baseMs: 50 } } });
  await run.sleep("until the bank is open", 100); // here the function begins anew; the booking does not
  return `${account} has ${booked} cents; the booking was begun ${begun} times`;
});

await using store = await connect(dsn);
await store.admin.install();
await store.transaction(async (tx) => {
  await tx.query("create table demo_ledger (account text not null, cents integer not null)");
});

const run = await store.start(pay, { account: "Ada", cents: 995 });
const stop = new AbortController();
const working = store.worker([pay]).run({ signal: stop.signal });
console.log(await run.result());
stop.abort();
await working;

const [step] = await run.steps();
console.log(`Step ${step?.key} is ${step?.state} after ${step?.attempts} failed attempt`);
await store.transaction(async (tx) => {
  const rows = await tx.query<{ account: string; cents: number }>("select account, cents from demo_ledger");
  console.log(`The ledger has ${rows.length} row: ${rows.map(({ account, cents }) => `${account} ${cents}`).join()}`);
  await tx.query("drop table demo_ledger");
});
await store.admin.queues.delete(pay.name, { force: true });
