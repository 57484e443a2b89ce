/** What `admin.doctor` finds: everything that is broken, and nothing where nothing is. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { type Finding, job, SchemaError, type Store } from "../../mod.ts";
import { startWorker } from "../support/running_worker.ts";
import { until } from "../support/until.ts";
import { type Context, inTime } from "./context.ts";

const DAY_MS = 86_400_000;

/** Defines the tests for one backend. */
export function doctorContract(context: Context): void {
  describe(`doctor on ${context.name}`, () => {
    healthy(context);
    ill(context);
  });
}

function healthy(context: Context): void {
  test("doctor() looks at everything, and finds nothing in a new database", async () => {
    await using store = await context.connect();
    await store.admin.createQueue("tasks");
    const findings = await store.admin.doctor();
    const privileges = context.dialect === "postgres" ? ["privileges"] : [];
    const checks = [
      "connection",
      "clock",
      "schema",
      ...privileges,
      "queues",
      "leases",
      "dead letters",
      "workers",
      "server",
    ];
    assertEquals([...new Set(findings.map(({ check }) => check))], checks);
    const warnings = findings.filter(({ level, check }) => level !== "ok" && check !== "connection");
    // The servers of the tests are faster than safe, and that is told.
    const expected = context.dialect === "postgres" ? ["fsync is off: a crash loses what was committed"] : [];
    assertEquals(warnings.map(({ text }) => text), expected);
    assertEquals(await store.admin.messages.count(), 0);
  });

  test("doctor() refuses an option that it does not know", async () => {
    await using store = await context.connect();
    await assertRejects(() => store.admin.doctor({ timeout: 1 } as never), TypeError, 'unknown option "timeout"');
  });
}

function ill(context: Context): void {
  test(
    "doctor() tells of clocks that differ, of a message that nobody takes, of leases that have run out and of dead letters",
    inTime(context, async ({ store, producer, consumer, clock }) => {
      await producer.enqueueMany([1, 2, 3]);
      const [first] = await consumer.dequeue({ leaseMs: 1_000 });
      await consumer.fail(first ?? 0, new Error("no"), { retry: false });
      await consumer.dequeue({ leaseMs: 1_000 });
      clock.advance(2 * DAY_MS);
      const found = await warningsOf(store);
      assertMatch(found.clock ?? "", /^differs from that of the database by \d+ s/);
      assertEquals(found.queues, '"tasks" has had a message ready for 2 days; no worker serves it');
      assertEquals(found.leases, '1 of queue "tasks" have run out; the next claim takes them back');
      assertMatch(found["dead letters"] ?? "", /^1 of queue "tasks": look with "pgqrs dead list"/);
    }),
  );

  test(
    "doctor() tells of a queue that is paused, and of a worker that was not heard of",
    inTime(context, async ({ store, producer, clock }) => {
      await using _running = startWorker(store, [job("tasks", () => {})], { name: "host-1" });
      await until("it is registered", async () => (await store.admin.workers.list()).length === 1);
      await store.admin.queues.pause("tasks");
      await producer.enqueue(1);
      clock.advance(10 * 60_000);
      const found = await warningsOf(store);
      assertEquals(found.queues, '"tasks" is paused, with 1 ready');
      assertMatch(found.workers ?? "", /^"host-1" was not heard of for \d+ minutes$/);
    }),
  );

  test(
    "doctor() tells of a schema that is not as it was installed, and asks nothing else of it",
    inTime(context, async ({ store, place }) => {
      const prefix = context.dialect === "postgres" ? `"${place.schema}".` : "";
      await store.transaction((tx) => tx.query(`drop table ${prefix}pgqrs_keys`));
      const findings = await store.admin.doctor();
      const last = findings.at(-1) as Finding;
      assertEquals([last.check, last.level], ["schema", "failure"]);
      assert(last.text.includes("missing table pgqrs_keys"), last.text);
      await assertRejects(() => store.admin.verify(), SchemaError);
    }),
  );
}

/** The warning of each check that has one. */
async function warningsOf(store: Store): Promise<Partial<Record<Finding["check"], string>>> {
  const findings = await store.admin.doctor();
  assertEquals(findings.filter(({ level }) => level === "failure"), []);
  return Object.fromEntries(
    findings.filter(({ level }) => level === "warning").map(({ check, text }) => [check, text]),
  );
}
