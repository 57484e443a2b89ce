/** The `pgqrs` command, through main() on a SQLite file, and as a real process. */
import { assert, assertEquals, assertMatch, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { connect, SchemaError } from "@pgqrs/pgqrs";
import { VERSION } from "../src/cli/version.ts";
import { commands } from "../src/cli/commands.ts";
import { parse } from "../src/cli/parse.ts";
import { json, run as runFrom, withDatabase } from "./support/cli.ts";
import { freshSqliteFile } from "./support/databases.ts";
import { startProcess } from "./support/processes.ts";

const run = (...argv: string[]) => runFrom(argv);

/** What a usage error says; nothing else may have been printed. */
async function usageError(...argv: string[]): Promise<string> {
  const { code, out, err } = await run("-d", "sqlite::memory:", ...argv);
  assertEquals({ code, out }, { code: 2, out: "" }, err);
  assertMatch(err, /^pgqrs: [^\n]+\n$/);
  return err;
}

describe("parse()", () => {
  test("takes global flags before and after the command", () => {
    for (
      const argv of [["-d", "x:", "queue", "list"], ["queue", "--dsn=x:", "list"], ["queue", "list", "--dsn", "x:"]]
    ) {
      const request = parse(argv);
      assert(request.kind === "run");
      assertEquals([request.command.usage, request.call.flags.dsn], ["queue list", "x:"]);
    }
  });

  test("binds arguments by name and makes milliseconds of seconds", () => {
    const request = parse(["message", "send", "7", "8", "--delay", "1.5", "--priority", "3"]);
    assert(request.kind === "run");
    assertEquals(request.call.args, { queue: "7", payload: "8" });
    assertEquals(request.call.flags, { delay: 1_500, priority: 3 });
  });

  test("takes a payload that looks like a flag after --", () => {
    const request = parse(["message", "send", "tasks", "--", "-5"]);
    assert(request.kind === "run");
    assertEquals(request.call.args, { queue: "tasks", payload: "-5" });
  });

  test("refuses what no command takes", () => {
    assertThrows(() => parse(["message", "send", "q", "1", "--force"]), Error, "message send takes no --force");
    assertThrows(() => parse(["queue", "list", "extra"]), Error, 'queue list takes no "extra"');
    assertThrows(() => parse(["queue", "get"]), Error, "queue get needs <name>");
    assertThrows(() => parse(["queue", "list", "--nope=secret"]), Error, "unknown option --nope; see pgqrs --help");
  });

  test("shows help for all, for a noun and for a command", () => {
    const usages = (...argv: string[]) => {
      const request = parse(argv);
      return request.kind === "help" ? request.of.map(({ usage }) => usage) : [];
    };
    assertEquals(usages(), commands.map(({ usage }) => usage));
    assertEquals(usages("dead", "--help"), [
      "dead list [queue]",
      "dead show <id>",
      "dead replay [id...]",
      "dead purge [queue]",
    ]);
    assertEquals(usages("queue", "create", "-h"), ["queue create <name>"]);
  });
});

describe("pgqrs", () => {
  test("sends, reads, shows, counts, archives and deletes", async () => {
    await withDatabase(async (pgqrs) => {
      const [sent] = await json(pgqrs, "message", "send", "tasks", '{"n":1}', "--priority", "5", "--key", "k");
      assertEquals([sent?.id, sent?.state, sent?.priority, sent?.payload], [1, "ready", 5, { n: 1 }]);
      const headers = ["--headers", '{"type":"late"}'];
      const [late] = await json(pgqrs, "message", "send", "tasks", "2", "--delay", "60", ...headers);
      assertEquals([late?.state, late?.headers], ["delayed", { type: "late" }]);
      const [then] = await json(pgqrs, "message", "send", "tasks", "3", "--at", "2999-01-01T00:00:00Z");
      assertEquals(then?.visibleAt, "2999-01-01T00:00:00.000Z");
      assertEquals(await json(pgqrs, "message", "count", "tasks"), [{ queue: "tasks", count: 3 }]);

      const read = await json(pgqrs, "message", "read", "tasks", "--count", "10", "--lock-time", "600");
      assertEquals(read.map(({ id, state }) => [id, state]), [[1, "leased"]]);
      const [shown] = await json(pgqrs, "message", "show", "tasks", "1");
      const leasedMs = Date.parse(String(shown?.leaseUntil)) - Date.parse(String(shown?.enqueuedAt));
      assert(leasedMs >= 600_000, `${leasedMs}`);

      assertEquals((await pgqrs("message", "archive", "tasks", "1", "--reason", "by hand")).code, 0);
      const [archived] = await json(pgqrs, "message", "show", "tasks", "1", "--archive");
      assertEquals([archived?.outcome, archived?.reason, archived?.archivedBy], ["succeeded", "by hand", "pgqrs-cli"]);
      assertEquals(await pgqrs("message", "delete", "tasks", "2"), { code: 0, out: "", err: "Deleted message 2\n" });
      assertEquals((await json(pgqrs, "message", "list", "tasks")).map(({ id }) => id), [3]);
      assertEquals((await json(pgqrs, "message", "list", "tasks", "--archive")).map(({ id }) => id), [1]);
      assertEquals(await json(pgqrs, "message", "count", "tasks", "--archive"), [{ queue: "tasks", count: 1 }]);
    });
  });

  test("dequeues one message of a type, and consumes it", async () => {
    await withDatabase(async (pgqrs) => {
      await pgqrs("message", "send", "tasks", '"other"');
      await pgqrs("message", "send", "tasks", '"mail"', "--headers", '{"type":"mail"}');
      const [taken] = await json(pgqrs, "message", "dequeue", "tasks", "-t", "mail");
      assertEquals(taken?.payload, "mail");
      assertEquals((await json(pgqrs, "message", "show", "tasks", "2", "--archive"))[0]?.reason, "dequeued");
      const { code, out, err } = await pgqrs("message", "dequeue", "tasks", "-t", "mail", "--format", "json");
      assertEquals({ code, out, err }, { code: 0, out: "null\n", err: "There is no message\n" });
    });
  });

  test("creates, lists, pauses, resumes, purges and deletes queues", async () => {
    await withDatabase(async (pgqrs) => {
      const [made] = await json(pgqrs, "queue", "create", "slow", "--lease", "90", "--max-attempts", "2", "--paused");
      assertEquals([made?.leaseMs, made?.maxAttempts, typeof made?.pausedAt], [90_000, 2, "string"]);
      assertEquals((await json(pgqrs, "queue", "list")).map(({ name }) => name), ["slow", "tasks"]);
      const [updated] = await json(pgqrs, "queue", "update", "slow", "--concurrency", "3", "--max-attempts", "4");
      assertEquals([updated?.leaseMs, updated?.maxAttempts, updated?.concurrency], [90_000, 4, 3]);
      const [open] = await json(pgqrs, "queue", "update", "slow", "--no-concurrency");
      assertEquals([open?.maxAttempts, open?.concurrency], [4, null]);
      const contrary = await pgqrs("queue", "update", "slow", "--no-concurrency", "--concurrency", "3");
      assertEquals(contrary.code, 2);
      assertEquals((await json(pgqrs, "queue", "resume", "slow"))[0]?.pausedAt, null);
      assertEquals(typeof (await json(pgqrs, "queue", "pause", "slow"))[0]?.pausedAt, "string");
      await pgqrs("message", "send", "slow", "1");
      const refused = await pgqrs("queue", "delete", "slow", "--yes");
      assertEquals([refused.code, refused.out], [1, ""]);
      assertStringIncludes(refused.err, "it has live messages");
      assertEquals((await json(pgqrs, "queue", "metrics", "slow"))[0]?.ready, 1);
      assertEquals((await json(pgqrs, "queue", "metrics")).map(({ queue }) => queue), ["slow", "tasks"]);
      assertEquals((await json(pgqrs, "queue", "purge", "slow", "--yes"))[0]?.deleted, 1);
      await pgqrs("message", "send", "slow", "1");
      assertEquals((await pgqrs("queue", "delete", "slow", "--force", "--yes")).code, 0);
      assertEquals((await pgqrs("queue", "get", "slow")).code, 3);
      assertEquals((await pgqrs("queue", "create", "tasks")).code, 1);
    });
  });

  test("sets for how long what has ended is kept, and deletes what is kept no longer", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      const kept = (row?: Record<string, unknown>) => [row?.retentionMs, row?.deadRetentionMs];
      const [made] = await json(pgqrs, "queue", "create", "short", "--retention", "0", "--no-dead-retention");
      assertEquals(kept(made), [0, null]);
      const [updated] = await json(pgqrs, "queue", "update", "tasks", "--no-retention", "--dead-retention", "60");
      assertEquals(kept(updated), [null, 60_000]);
      assertEquals((await pgqrs("queue", "update", "tasks", "--no-retention", "--retention", "1")).code, 2);
      await using store = await connect(dsn);
      await store.producer("short").enqueueMany([1, 2]);
      const consumer = store.consumer("short");
      const [first, second] = await consumer.dequeue({ limit: 2 });
      await consumer.archive(first ?? 0);
      await consumer.fail(second ?? 0, new Error("no"), { retry: false });
      const { now } = await store.ping();
      while ((await store.ping()).now.getTime() === now.getTime());
      assertEquals(await json(pgqrs, "maintain"), [{ messages: 1, keys: 0, workers: 0, isDone: true }]);
      assertEquals((await json(pgqrs, "dead", "list", "short")).length, 1);
    });
  });

  test("lists dead letters and brings them back", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      await using store = await connect(dsn);
      await store.producer("tasks").enqueueMany([1, 2, 3]);
      const consumer = store.consumer("tasks");
      await consumer.failMany(await consumer.dequeue({ limit: 3 }), new Error("no"), { retry: false });
      const dead = await json(pgqrs, "dead", "list", "tasks", "--limit", "2");
      assertEquals(dead.map(({ id }) => id), [3, 2]);
      assertEquals(await json(pgqrs, "dead", "replay", "2"), [{ id: 2 }]);
      const missing = await pgqrs("dead", "replay", "2");
      assertEquals([missing.code, missing.err], [3, "pgqrs: There is no dead letter 2\n"]);
      assertEquals(await json(pgqrs, "dead", "replay", "--queue", "tasks"), [{ id: 1 }, { id: 3 }]);
      assertEquals(await json(pgqrs, "dead", "replay", "--all"), []);
      assertMatch((await pgqrs("dead", "replay")).err, /needs ids, --queue or --all/);
      assertEquals((await pgqrs("dead", "list", "nope")).code, 3);
    });
  });

  test("verifies, prints its migrations, and uninstalls only when told twice", async () => {
    const { dsn, close } = freshSqliteFile();
    try {
      {
        await using store = await connect(dsn);
        await assertRejects(() => store.admin.verify(), SchemaError, "pgqrs is not installed");
      }
      const before = await run("-d", dsn, "verify");
      assertEquals([before.code, before.out], [1, ""]);
      assertStringIncludes(before.err, 'run "pgqrs install"');
      const printed = await run("-d", dsn, "migrate", "--print");
      assertStringIncludes(printed.out, 'create table "pgqrs_messages"');
      assertEquals((await run("-d", dsn, "verify")).code, 1);
      assertEquals((await run("-d", dsn, "migrate")).err, "Applied 1 tables, 2 functions, 3 runs\n");
      assertEquals((await run("-d", dsn, "migrate")).err, "Nothing is pending\n");
      assertEquals((await run("-d", dsn, "verify")).code, 0);
      const refused = await run("-d", dsn, "uninstall");
      assertEquals(refused.code, 5);
      assertStringIncludes(refused.err, "--yes");
      assertEquals((await run("-d", dsn, "verify")).code, 0);
      assertMatch((await run("-d", dsn, "uninstall", "--yes")).err, /^Removed .*table pgqrs_messages/);
      assertEquals((await run("-d", dsn, "uninstall", "--yes")).err, "There was nothing to remove\n");
    } finally {
      await close();
    }
  });

  test("prints tables whose cells cannot control the terminal", async () => {
    await withDatabase(async (pgqrs) => {
      await pgqrs("message", "send", "tasks", '"\\u001b[31m\\u202e"', "--key", "\u001b]0;x\u0007");
      const table = await pgqrs("message", "list", "tasks");
      assertMatch(table.out, /^id +state +priority +attempts/);
      assertStringIncludes(table.out, "\\u001b]0;x\\u0007");
      const record = await pgqrs("message", "show", "tasks", "1");
      assertMatch(record.out, /^id +1\nqueue +tasks\nstate +ready\n/);
      const asJson = await pgqrs("message", "show", "tasks", "1", "--format", "json");
      assertEquals(JSON.parse(asJson.out).payload, "\u001b[31m\u202e");
      for (const { out } of [table, record, asJson]) {
        // deno-lint-ignore no-control-regex -- What must not be there.
        assertEquals(out.match(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/g), null);
      }
    });
  });

  test("tells bad usage with 2, in one sentence", async () => {
    assertStringIncludes(await usageError("queu", "list"), 'unknown command "queu"; did you mean pgqrs queue?');
    assertStringIncludes(
      await usageError("queue", "lst"),
      'unknown command "queue lst"; did you mean pgqrs queue list?',
    );
    assertStringIncludes(await usageError("queue", "list", "--format", "xml"), "--format is table, json, ndjson, not");
    assertStringIncludes(await usageError("message", "send", "q", "{oops"), "the payload is not JSON");
    assertStringIncludes(
      await usageError("message", "send", "q", "1", "--delay", "soon"),
      "--delay is a duration such as",
    );
    assertStringIncludes(await usageError("message", "send", "q", "1", "--at", "soon"), "--at is an instant such as");
    assertStringIncludes(await usageError("message", "send", "q", "1", "--headers", "{"), "--headers is not JSON");
    assertStringIncludes(await usageError("message", "send", "q", "1", "--key"), "--key needs a value");
    assertStringIncludes(await usageError("message", "send", "q", "1", "--priority", "12"), "from 0 to 9");
    assertStringIncludes(await usageError("message", "delete", "q", "one"), '"one" is not the id of a message');
  });

  test("tells with 3 what is not there", async () => {
    await withDatabase(async (pgqrs) => {
      await pgqrs("queue", "create", "other");
      await pgqrs("message", "send", "tasks", "1");
      for (const verb of ["show", "delete", "archive"]) {
        const { code, err } = await pgqrs("message", verb, "other", "1");
        assertEquals([code, err], [3, 'pgqrs: Message 1 is not in queue "other"\n']);
      }
      assertEquals((await pgqrs("message", "show", "tasks", "1", "--archive")).code, 3);
      assertEquals((await pgqrs("message", "send", "nope", "1")).code, 3);
      assertEquals((await pgqrs("message", "count", "nope")).code, 3);
      assertEquals((await pgqrs("queue", "metrics", "nope")).code, 3);
    });
  });

  test("tells with 4 and without the password that the database cannot be reached", async () => {
    const folder = mkdtempSync(join(tmpdir(), "pgqrs-cli-"));
    try {
      const file = join(folder, "pgqrs.yaml");
      writeFileSync(file, "dsn: postgres://me:hush@127.0.0.1:1/none\nconnection_timeout_seconds: 0.05\n");
      const { code, out, err } = await run("queue", "list", "--config", file);
      assertEquals([code, out], [4, ""]);
      assertMatch(err, /^pgqrs: Cannot connect to the database: [^\n]+\n$/);
      assertEquals(err.includes("hush"), false);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("has the version of the package", async () => {
    const file = new URL("../deno.json", import.meta.url);
    assertEquals(JSON.parse(readFileSync(file, "utf8")).version, VERSION);
    assertEquals((await run("--version")).out, `pgqrs ${VERSION}\n`);
  });

  test("names every command and flag in its help", async () => {
    const { code, out } = await run("--help");
    assertEquals(code, 0);
    for (const { usage } of commands) assert(/ |\n/.test(out.split(`pgqrs ${usage}`)[1]?.[0] ?? ""), usage);
    for (const { usage, flags = [] } of commands) {
      const words = usage.split(" ").filter((word) => /^\w/.test(word));
      const own = (await run(...words, "--help")).out;
      for (const { name } of flags) assertStringIncludes(own, `--${name}`);
    }
  });
});

test("cli.ts works as a process, configured by the environment", async () => {
  const { dsn, close } = freshSqliteFile();
  const file = new URL("../cli.ts", import.meta.url);
  const start = async (...args: string[]) => {
    await using child = startProcess(file, { args, env: { PGQRS_DSN: dsn } });
    const { code } = await child.exited;
    return { code, out: child.stdout, err: child.stderr };
  };
  try {
    assertEquals(await start("install"), { code: 0, out: "", err: "Installed\n" });
    assertEquals(await start("queue", "get", "nope"), {
      code: 3,
      out: "",
      err: 'pgqrs: Queue "nope" does not exist: create it with "pgqrs queue create nope"\n',
    });
  } finally {
    await close();
  }
});
