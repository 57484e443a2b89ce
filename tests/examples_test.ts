/** Runs the examples for real, on SQLite and where it matters on Postgres. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import process from "node:process";
import { test } from "node:test";
import { connect, job } from "@pgqrs/pgqrs";
import { monitor } from "../examples/monitor.ts";
import { freshPostgres, freshSqliteFile, memory, type TestDatabase } from "./support/databases.ts";
import { startProcess, type TestProcess } from "./support/processes.ts";

/** The output of an example that is expected to succeed. */
async function runExample(name: string, dsn: string): Promise<string> {
  await using child = startProcess(new URL(`../examples/${name}.ts`, import.meta.url), { args: [dsn] });
  const { code } = await child.exited;
  assertEquals({ code, stderr: child.stderr }, { code: 0, stderr: "" }, child.stdout);
  return child.stdout;
}

/** Not by `child.kill`: after it Deno tells no exit code, whatever the process made of the signal. */
function signal({ pid }: TestProcess, name: NodeJS.Signals): void {
  process.kill(pid, name);
}

const databases: readonly (readonly [string, () => Promise<TestDatabase> | TestDatabase])[] = [
  ["SQLite", () => memory],
  ["Postgres", freshPostgres],
];

for (const [backend, open] of databases) {
  test(`examples/basic_usage.ts goes the whole way of a message on ${backend}`, async () => {
    const database = await open();
    try {
      const lines = await runExample("basic_usage", database.dsn);
      assertStringIncludes(lines, 'Sending "Welcome!" to ada@example.com');
      assertStringIncludes(lines, 'Attempt 2 after "mailbox is full"');
      assertStringIncludes(lines, "email_queue: 0 ready, 0 delayed, 0 leased, 2 succeeded, 0 failed");
      assertStringIncludes(lines, "task_queue: 3 ready, 0 delayed, 0 leased, 0 succeeded, 0 failed");
      assertMatch(lines, /^2 by mailer in \d+ ms$/m);
    } finally {
      await database.close();
    }
  });

  test(`examples/transaction.ts stores an order and its message together on ${backend}`, async () => {
    const database = await open();
    try {
      assertEquals((await runExample("transaction", database.dsn)).trim().split("\n"), [
        "Order 2 was rolled back: the card was declined",
        "Messages that wait: 1",
        "Order 1 is invoiced",
      ]);
    } finally {
      await database.close();
    }
  });
}

for (const [backend, open] of [["SQLite", freshSqliteFile], ["Postgres", freshPostgres]] as const) {
  test(`examples/workflow.ts goes on in another process after SIGKILL, and does each step once on ${backend}`, async () => {
    const database = await open();
    try {
      const lines = (await runExample("workflow", database.dsn)).trim().split("\n");
      const [, killed] = /^Killed process (\d+) with SIGKILL after 3 of 5 steps$/.exec(lines[0] ?? "") ?? [];
      const [, second] = /^Process (\d+) went on with run 1: Order 42 is on its way$/.exec(lines[1] ?? "") ?? [];
      assert(killed !== undefined && second !== undefined && killed !== second, lines.join("\n"));
      assertEquals(lines.slice(2), [
        `reserve  1 time, by process ${killed}`,
        `charge   1 time, by process ${killed}`,
        `pack     1 time, by process ${killed}`,
        `ship     1 time, by process ${second}`,
        `thank    1 time, by process ${second}`,
        "Every step ran once.",
      ]);
      await using store = await connect(database.dsn);
      assertEquals(await store.admin.queues.list(), []);
    } finally {
      await database.close();
    }
  });
}

/** What the examples of workflows print, which is the same on every database. */
const printed: Readonly<Record<string, readonly string[]>> = {
  approval: [
    "Order 1: may it be sent?",
    "Order 2: may it be sent?",
    "Order 3: may it be sent?",
    "Order 3 is dropped: nobody has answered",
    "The others are waiting and waiting",
    "Order 1 is sent: Ada has said yes",
    "Order 2 is dropped: Alan has said no",
  ],
  fan_out: [
    "The sum is 1001000",
    "1000 items were measured, at most 50 at once; 1003 steps are recorded",
    "One of them is items/999/measure",
  ],
  agent: [
    "Searching trains to Vienna",
    "The agent is waiting; the model was asked 2 times",
    "Searching trains to Vienna, morning",
    "Take the one at 7:42",
    "The function was called 2 times, the model was asked 4 times",
  ],
  transactional_step: [
    "Ada has 995 cents; the booking was begun 2 times",
    "Step book is succeeded after 1 failed attempt",
    "The ledger has 1 row: Ada 995",
  ],
};

for (const [backend, open] of databases) {
  for (const [name, lines] of Object.entries(printed)) {
    test(`examples/${name}.ts does what it says on ${backend}`, async () => {
      const database = await open();
      try {
        const actual = (await runExample(name, database.dsn)).trim().split("\n");
        // Runs that are executed side by side ask in any order.
        const asking = actual.filter((line) => line.endsWith("?")).length;
        assertEquals([...actual.slice(0, asking).sort(), ...actual.slice(asking)], lines);
      } finally {
        await database.close();
      }
    });
  }
}

for (const [backend, open] of databases) {
  test(`examples/worker.ts runs two jobs and stops cleanly on a signal on ${backend}`, async () => {
    const database = await open();
    try {
      await using child = startProcess(new URL("../examples/worker.ts", import.meta.url), { args: [database.dsn] });
      await child.waitFor("Page ");
      signal(child, "SIGINT");
      const { code } = await child.exited;
      assertEquals({ code, stderr: child.stderr }, { code: 0, stderr: "" }, child.stdout);
      const lines = child.stdout.trim().split("\n");
      for (
        const line of [
          "Mail to ada@example.com, attempt 1",
          "Message 2 is tried again in 200 ms",
          'Message 3 is a dead letter: "nobody" is no address',
          "Stopping, once more to leave at once",
          'The report "All quiet" has 20 pages. Ctrl-C ends the worker.',
        ]
      ) assert(lines.includes(line), `${line} is missing in\n${child.stdout}`);
      assertEquals(lines.at(-1), "Stopped");
    } finally {
      await database.close();
    }
  });
}

test("examples/worker.ts leaves at once on the second signal", async () => {
  await using child = startProcess(new URL("../examples/worker.ts", import.meta.url), { args: [memory.dsn] });
  await child.waitFor("A report of 20 pages begins");
  signal(child, "SIGTERM");
  await child.waitFor("Stopping");
  signal(child, "SIGTERM");
  assertEquals((await child.exited).code, 130);
  assertEquals(child.stdout.includes("The report"), false);
});

test("monitor() answers /health, /queues and /metrics, and 404 to all else", async () => {
  await using store = await connect(memory.dsn);
  await store.admin.install();
  await store.admin.createQueue('mail "urgent"');
  await store.producer('mail "urgent"').enqueueMany([1, 2], { each: (n) => ({ delayMs: n === 2 ? 60_000 : 0 }) });
  const handle = monitor(store);
  const get = async (path: string) => await handle(new Request(`http://localhost${path}`));

  const health = await get("/health");
  assertEquals(health.status, 200);
  assertEquals((await health.json()).status, "up");
  const [queue] = await (await get("/queues")).json();
  assertEquals({ ready: queue.ready, delayed: queue.delayed }, { ready: 1, delayed: 1 });
  const text = await (await get("/metrics")).text();
  assertStringIncludes(text, 'pgqrs_messages{queue="mail \\"urgent\\"",state="ready"} 1\n');
  assertStringIncludes(text, 'pgqrs_messages{queue="mail \\"urgent\\"",state="delayed"} 1\n');
  assertMatch(text, /^pgqrs_oldest_ready_seconds\{[^}]*\} [\d.]+$/m);
  assertEquals((await get("/else")).status, 404);
});

test("monitor() tells how workers are, and answers 503 when one has stopped", async () => {
  await using store = await connect(memory.dsn);
  await store.admin.install();
  const worker = store.worker([job("tasks", () => {})], { name: "host-1" });
  const health = async () => await monitor(store, [worker])(new Request("http://localhost/health"));
  const controller = new AbortController();
  const running = worker.run({ signal: controller.signal });
  const during = await health();
  assertEquals([during.status, (await during.json()).workers[0].name], [200, "host-1"]);
  controller.abort();
  await running;
  const after = await health();
  assertEquals([after.status, (await after.json()).status], [503, "stopped"]);
});

test("monitor() answers 503 without a secret when the database is down", async () => {
  await using store = await connect("postgres://me:hush@127.0.0.1:1/none", { connectTimeoutMs: 50 });
  const response = await monitor(store)(new Request("http://localhost/health"));
  const body = await response.text();
  assertEquals(response.status, 503);
  assertMatch(body, /^\{"status":"down","reason":"Cannot connect to the database: [^"]*"\}$/);
  assertEquals(body.includes("hush"), false);
});

test("examples/monitor.ts serves over HTTP", async () => {
  const file = new URL("../examples/monitor.ts", import.meta.url);
  await using child = startProcess(file, { args: [memory.dsn, "0"] });
  const url = await child.waitFor("/health");
  const health = await fetch(url);
  assertEquals([health.status, (await health.json()).status], [200, "up"]);
  const other = await fetch(new URL("/%", url));
  assertEquals(other.status, 404);
  await other.body?.cancel();
  const again = await fetch(url);
  assertEquals(again.status, 200);
  await again.body?.cancel();
});
