/** `pgqrs worker run --exec` as real processes: any program is the handler of a job. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, test } from "node:test";
import { codeOf, gone, isAlive, kill, openYard, stop } from "./support/cli_yard.ts";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";

/** Writes its process id to a file, and stays. */
const HANG = "echo $$ >> pids; exec sleep 300";

describe("worker run --exec", () => {
  for (const [backend, open] of [["SQLite", freshSqliteFile], ["Postgres", freshPostgres]] as const) {
    test(`gives a program the message, and archives what it prints, on ${backend}`, async () => {
      await using yard = await openYard(await open());
      const producer = yard.store.producer("tasks");
      const first = await producer.enqueue({ n: 1, text: "é\n" }, { key: "k 1", headers: { type: "mail", to: "a'b" } });
      const second = await producer.enqueue([2]);
      const exec = `cat > in.$PGQRS_ID; echo "$PGQRS_QUEUE|$PGQRS_ATTEMPT|$PGQRS_KEY|$PGQRS_TYPE|$PGQRS_HEADERS" ` +
        `> env.$PGQRS_ID; if [ -n "$PGQRS_KEY" ]; then echo '{"done": [1]}'; else echo two words; fi`;
      const worker = yard.worker(exec, "--drain", "--format", "json", "--name", "w");
      assertEquals(await codeOf(worker), 0, worker.stderr);
      assertEquals(JSON.parse(worker.stdout), { queue: "tasks", completed: 2, failed: 0, dead: 0 });
      assertStringIncludes(worker.stderr, "Handled 2 messages; 0 attempts failed, 0 dead letters\n");
      assertEquals(JSON.parse(yard.read(`in.${first.id}`)), { n: 1, text: "é\n" });
      const [queue, attempt, key, type, headers = ""] = yard.read(`env.${first.id}`).split("|");
      assertEquals([queue, attempt, key, type], ["tasks", "1", "k 1", "mail"]);
      assertEquals(JSON.parse(headers), { type: "mail", to: "a'b" });
      assertEquals([yard.read(`in.${second.id}`), yard.read(`env.${second.id}`)], ["[2]", "tasks|1|||{}\n"]);
      const archived = await yard.end(first.id);
      assertEquals([archived.outcome, archived.result, archived.archivedBy], ["succeeded", { done: [1] }, "w"]);
      assertEquals((await yard.end(second.id)).result, "two words");
    });
  }

  test("tries a program that fails again, and keeps its last words with the dead letter", async () => {
    await using yard = await openYard();
    const id = await yard.send();
    const worker = yard.worker(
      'echo "$PGQRS_ATTEMPT" >> attempts; echo first >&2; printf "\\033[31mno disk" >&2; exit 7',
    );
    const { outcome, attempts, error } = await yard.end(id);
    assertEquals([outcome, attempts, yard.read("attempts")], ["failed", 2, "1\n2\n"]);
    assertEquals(error?.message, "exit code 7: first\n\u001b[31mno disk");
    assertEquals(await stop(worker), 0);
    // They are shown as well, and do not control the terminal.
    assertEquals(worker.stderr.match(/^first\n\\u001b\[31mno disk$/gm)?.length, 2, worker.stderr);
    assertStringIncludes(worker.stderr, "Handled 0 messages; 2 attempts failed, 1 dead letter\n");
    assertEquals(worker.stdout, "");
  });

  test("makes a dead letter at once of an exit code that --dead-on names", async () => {
    await using yard = await openYard();
    const [one, other] = [await yard.send(65), await yard.send(1)];
    const worker = yard.worker("exit $(cat)", "--dead-on", "64, 65");
    assertEquals([(await yard.end(one)).attempts, (await yard.end(other)).attempts], [1, 2]);
    assertEquals((await yard.end(one)).error?.message, "exit code 65");
    assertEquals(await stop(worker), 0);
  });

  test("runs as many programs at once as --concurrency says, and no more", async () => {
    await using yard = await openYard();
    for (let i = 0; i < 6; i++) await yard.send(i);
    // The first two wait for each other, so that they have to run at once.
    const exec = "echo + >> log; until [ $(wc -l < log) -ge 2 ]; do sleep 0.01; done; echo - >> log";
    assertEquals(await codeOf(yard.worker(exec, "--concurrency", "2", "--drain", "--job-timeout", "20s")), 0);
    let [running, most] = [0, 0];
    for (const mark of yard.read("log").trim().split("\n")) most = Math.max(most, running += mark === "+" ? 1 : -1);
    assertEquals([running, most], [0, 2]);
  });

  test("ends a program with all it has started after --job-timeout", async () => {
    await using yard = await openYard();
    await yard.store.admin.queues.update("tasks", { maxAttempts: 1 });
    const id = await yard.send();
    const background = "(trap '' TERM HUP; echo started > child; exec sleep 300) & echo $! >> pids";
    const worker = yard.worker(`${background}; echo $$ >> pids; wait`, "--job-timeout", "1s");
    const { outcome, error } = await yard.end(id);
    assertEquals(outcome, "failed");
    assertStringIncludes(`${error?.message}`, "took longer than 1000 ms");
    await gone(...await yard.pids(2));
    assertEquals(await stop(worker), 0);
  });

  test("ends a program whose lease was taken away, or whose message was cancelled", async () => {
    await using yard = await openYard();
    const id = await yard.send();
    const worker = yard.worker(HANG, "--lease", "1s");
    const [first = 0] = await yard.pids(1);
    await yard.store.admin.messages.release(id);
    const [, second = 0] = await yard.pids(2);
    await gone(first);
    assert(isAlive(second));
    assertEquals(await yard.store.admin.messages.cancel(id), true);
    await gone(second);
    assertEquals((await yard.end(id)).outcome, "cancelled");
    assertEquals(await stop(worker), 0);
    assertEquals((await yard.pids(2)).length, 2);
  });

  test("does not wait for what a program leaves behind, and ends it", async () => {
    await using yard = await openYard();
    const id = await yard.send();
    // It has the output of the program, and so keeps it open.
    const exec = "(trap '' TERM HUP; exec sleep 300) & echo $! >> pids; echo kept";
    assertEquals(await codeOf(yard.worker(exec, "--drain")), 0);
    assertEquals((await yard.end(id)).result, "kept");
    await gone(...await yard.pids(1));
  });
});

describe("a worker that is told to stop", () => {
  for (const [signal, code] of [["SIGTERM", 0], ["SIGINT", 130]] as const) {
    test(`lets its program finish within --grace, begins no other, and ends with ${code} on ${signal}`, async () => {
      await using yard = await openYard();
      const [id, next] = [await yard.send(1), await yard.send(2)];
      const worker = yard.worker("echo $$ >> pids; until [ -e go ]; do sleep 0.02; done; echo done", "--grace", "60s");
      const pids = await yard.pids(1);
      kill(worker.pid, signal);
      yard.write("go");
      assertEquals(await codeOf(worker), code, worker.stderr);
      assertEquals((await yard.end(id)).result, "done");
      assertEquals((await yard.store.admin.messages.get(next))?.state, "ready");
      assertEquals(await yard.store.admin.workers.list(), []);
      await gone(...pids);
    });
  }

  test("ends its program when --grace is over, and gives the message back", async () => {
    await using yard = await openYard();
    const id = await yard.send();
    const worker = yard.worker(HANG, "--grace", "100ms");
    const pids = await yard.pids(1);
    assertEquals(await stop(worker), 0, worker.stderr);
    await gone(...pids);
    const message = await yard.store.admin.messages.get(id);
    assertEquals([message?.state, message?.attempts], ["ready", 0]);
  });

  test("ends at once at the second signal, and leaves no program behind", async () => {
    await using yard = await openYard();
    await yard.send();
    const deaf =
      "trap '' TERM INT; echo $$ >> pids; (echo $$; exec sleep 300) & echo $! >> pids; while :; do wait; done";
    const worker = yard.worker(deaf, "--grace", "300s");
    const pids = await yard.pids(2);
    // Two of one kind may arrive as one.
    kill(worker.pid, "SIGINT");
    kill(worker.pid, "SIGTERM");
    assertEquals(await codeOf(worker), 130, worker.stderr);
    await gone(...pids);
  });
});

test("what a worker did that was killed is done again by another", async () => {
  await using yard = await openYard();
  const id = await yard.send({ n: 1 });
  const killed = yard.worker(HANG, "--lease", "1s", "--name", "killed");
  await yard.pids(1);
  kill(killed.pid, "SIGKILL");
  await killed.exited;
  const other = yard.worker("echo $$ >> pids; echo again: $(cat)", "--lease", "1s", "--name", "other");
  const { outcome, result, archivedBy } = await yard.end(id);
  assertEquals([outcome, result, archivedBy], ["succeeded", 'again: {"n":1}', "other"]);
  assertEquals(await stop(other), 0, other.stderr);
  const [, second = 0] = await yard.pids(2);
  await gone(second);
});
