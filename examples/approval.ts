/**
 * Orders that wait for a person: `deno run -A examples/approval.ts [dsn]`. Without a DSN everything lives in memory.
 *
 * A run that waits takes no place in a worker and no connection, however long it takes, and survives restarts.
 *
 * @module
 */
import process from "node:process";
import { connect, workflow } from "@pgqrs/pgqrs";

interface Answer {
  readonly isApproved: boolean;
  readonly by: string;
}

const order = workflow("approval_orders", async (run, { id, patienceMs }: { id: number; patienceMs: number }) => {
  await run.step("ask", () => console.log(`Order ${id}: may it be sent?`));
  const answer = await run.receive<Answer>("answer", { timeoutMs: patienceMs });
  if (answer === undefined) return `Order ${id} is dropped: nobody has answered`;
  if (!answer.isApproved) return `Order ${id} is dropped: ${answer.by} has said no`;
  return await run.step("send", () => `Order ${id} is sent: ${answer.by} has said yes`);
});

await using store = await connect(process.argv[2] ?? "sqlite::memory:");
await store.admin.install();
const [first, second, third] = await Promise.all([
  store.start(order, { id: 1, patienceMs: 86_400_000 }),
  store.start(order, { id: 2, patienceMs: 86_400_000 }),
  store.start(order, { id: 3, patienceMs: 300 }),
]);

const stop = new AbortController();
const working = store.worker([order]).run({ signal: stop.signal });
console.log(await third.result()); // by then the other two wait as well
console.log(`The others are ${await first.status()} and ${await second.status()}`);

// Anybody may answer, from any process, by the id of the run. Under one key an answer counts once, however often it is sent.
await store.run(first.id).send("answer", { isApproved: true, by: "Ada" }, { key: "ada" });
await store.run(first.id).send("answer", { isApproved: true, by: "Ada" }, { key: "ada" });
await store.run(second.id).send("answer", { isApproved: false, by: "Alan" });
console.log(await first.result());
console.log(await second.result());

stop.abort();
await working;
await store.admin.queues.delete(order.name, { force: true });
