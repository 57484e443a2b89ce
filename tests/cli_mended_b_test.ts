/** What a hostile review of the command has found: what is typed and piped in, what is refused, and what is told of it. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { connect, job } from "@pgqrs/pgqrs";
import postgres from "postgres";
import { main } from "../cli.ts";
import { type Answer, json, type Pgqrs, run, withDatabase } from "./support/cli.ts";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";
import { startWorker } from "./support/running_worker.ts";
import { until } from "./support/until.ts";

/** Beyond what a double tells apart from its neighbours. */
const LONG_ID = "9007199254740993";
const BACKENDS = [["SQLite", freshSqliteFile], ["Postgres", freshPostgres]] as const;
/** A day that there is not. */
const NO_DAY = "2030-02-31";

/** Checks that a command line is refused in one sentence, whatever the database is. */
async function refused(argv: readonly string[], sentence: string, code = 2): Promise<void> {
  const answer = await run(["--dsn", "sqlite::memory:", ...argv]);
  assertEquals({ code: answer.code, out: answer.out, err: answer.err }, { code, out: "", err: `pgqrs: ${sentence}\n` });
}

/** Sends what is piped in. */
async function pipe(dsn: string, input: string | AsyncIterable<Uint8Array>, ...args: string[]): Promise<Answer> {
  return await run(["--dsn", dsn, "message", "send", "tasks", ...(args.includes("--file") ? [] : ["-"]), ...args], {
    input,
  });
}

async function payloads(pgqrs: Pgqrs): Promise<unknown[]> {
  const messages = await json(pgqrs, "message", "list", "tasks", "--limit", "10000");
  return messages.sort((a, b) => Number(a.id) - Number(b.id)).map(({ payload }) => payload);
}

describe("the command line", () => {
  test("refuses another value of a switch than true and false", async () => {
    for (const value of ["no", "0", "off"]) {
      await refused(["uninstall", `--yes=${value}`], "--yes is either given or not: it takes no value");
    }
    await refused(["uninstall", "-y=no"], "--yes is either given or not: it takes no value");
    await withDatabase(async (pgqrs) => {
      assertEquals((await pgqrs("queue", "delete", "tasks", "--yes=false")).code, 5);
      assertEquals((await pgqrs("queue", "delete", "tasks", "--yes=true")).code, 0);
    });
  });

  test("takes a value that is glued to its letter, and tells of one that is empty", async () => {
    await withDatabase(async (_, dsn) => {
      const sent = await run([`-d${dsn}`, "message", "send", "tasks", "1", "-kmy_key", "--format", "json"]);
      assertEquals([sent.code, JSON.parse(sent.out).key], [0, "my_key"], sent.err);
      assertEquals((await run(["-d", dsn, "message", "read", "tasks", "-n1", "--format", "json"])).code, 0);
    });
    await refused(["queue", "list", "-s", ""], "--schema needs a value");
    await refused(["queue", "list", "--schema="], "--schema needs a value");
  });

  test("takes - for the standard input and output", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      assertEquals((await pipe(dsn, "1\n2\n", "--file", "-")).err, "Sent 2 messages\n");
      assertEquals(
        JSON.parse((await pgqrs("message", "count", "tasks", "--out", "-", "--format", "json")).out).count,
        2,
      );
    });
  });

  test("guesses what was meant: a swap, a beginning, and only flags that the command takes", async () => {
    await refused(["queue", "list", "--dns", "x"], "unknown option --dns; did you mean --dsn?");
    await refused(["que", "list"], 'unknown command "que"; did you mean pgqrs queue?');
    await refused(["message", "sned"], 'unknown command "message sned"; did you mean pgqrs message send?');
    await refused(["queue", "list", "--forse"], "unknown option --forse; see pgqrs --help");
    await refused(["queue", "delete", "x", "--forse"], "unknown option --forse; did you mean --force?");
    const [help, same] = [await run(["help", "queue"]), await run(["queue", "--help"])];
    assertEquals(help, same);
    assertStringIncludes(help.out, "pgqrs queue create <name>");
  });

  test("refuses days that there are not, and numbers that mean nothing", async () => {
    for (const instant of [NO_DAY, `${NO_DAY}T12:00:00Z`, "2029-02-29", "2030-04-31T00:00:00+02:00"]) {
      const { code, err } = await run(["--dsn", "sqlite::memory:", "archive", "list", "x", "--since", instant]);
      assertEquals([code, err.includes("--since is an instant such as")], [2, true], err);
    }
    await refused(["message", "list", "x", "--limit", "0"], '--limit is a whole number from 1 on, not "0"');
    await refused(["message", "read", "x", "--count", "0"], '--count is a whole number from 1 on, not "0"');
  });

  test("refuses two ways to say until when", async () => {
    const both = ["--before", "2030-01-01", "--older-than", "1d"];
    await withDatabase(async (pgqrs) => {
      for (const line of ["archive purge tasks --yes", "dead replay --queue tasks", "dead purge tasks --yes"]) {
        const { code, err } = await pgqrs(...line.split(" "), ...both);
        assertEquals([code, err], [2, "pgqrs: --before and --older-than exclude each other\n"]);
      }
      assertEquals((await pgqrs("archive", "purge", "tasks", "--older-than", "99999d", "--yes")).code, 2);
    });
  });

  test("counts an age once, for what is asked about and for what is done", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      await pgqrs("message", "send", "tasks", "1");
      await pgqrs("message", "archive", "tasks", "1");
      // While the question stands, the message becomes old enough.
      const begin = Date.now();
      const argv = ["--dsn", dsn, "archive", "purge", "tasks", "--older-than", "2s"];
      let question = "";
      const code = await main(argv, {
        out: () => {},
        err: () => {},
        async ask(text) {
          question = text;
          await until("it is old enough", () => Date.now() > begin + 3_000);
          return "y";
        },
      });
      assertEquals([code, question.includes("delete 0 ended messages")], [0, true], question);
      assertEquals((await json(pgqrs, "archive", "count", "tasks"))[0]?.count, 1);
    });
  });

  test("warns of every secret in the address of a database", async () => {
    const secrets = [
      "postgres://me:pw@127.0.0.1:1/none",
      "http://127.0.0.1:1?authToken=abc",
      "http://u:pw@127.0.0.1:1",
    ];
    for (const dsn of secrets) {
      const { err } = await run(["--dsn", dsn, "config"]);
      assertStringIncludes(err, "warning: others on this machine can read a password on the command line");
      assert(!/abc|pw/.test(err.replace("password", "")), err);
    }
    for (const dsn of ["postgres://me@127.0.0.1/none", "sqlite:jobs.db", "http://127.0.0.1:1"]) {
      assertEquals((await run(["--dsn", dsn, "config"])).err, "");
    }
  });

  test("tells an error of its own from a wrong argument", async () => {
    const out = (): never => {
      throw new TypeError("Cannot read properties of undefined (reading 'x')");
    };
    assertEquals(await main(["--dsn", "sqlite::memory:", "config"], { out, err: () => {} }), 1);
  });
});

describe("message send", () => {
  for (const [name, open] of BACKENDS) {
    test(`names the line that is refused, and sends all before it, on ${name}`, async () => {
      await withDatabase(async (pgqrs, dsn) => {
        const keyed = ["--key-field", "id"];
        const bad: readonly [line: string, sentence: RegExp, args?: readonly string[]][] = [
          ['"\\u0000"', /^line 701: Cannot store the payload as JSON: it is a string with the character U\+0000$/],
          ['"\\ud800"', /^line 701: .* a lone surrogate$/],
          ["[1e400]", /^line 701 has the number 1e400, which would be stored as Infinity: write it as a text$/],
          [
            LONG_ID,
            new RegExp(`^line 701 has the number ${LONG_ID}, which would be stored as \\d+: write it as a text$`),
          ],
          [
            `"${"x".repeat(1_100_000)}"`,
            /^line 701: Cannot store the payload as JSON: it has .* bytes, the limit is \d+$/,
          ],
          [`{"id":"${"k".repeat(300)}"}`, /^line 701: Cannot use its key: it must have 1 to 255 bytes/, keyed],
          [`{"id":"${name}","n":2}`, /^line 701: .*key.*/, keyed],
        ];
        let total = 0;
        for (const [at, [line, sentence, args = []]] of bad.entries()) {
          const own = (i: number): string => args.length === 0 ? `${i}` : `{"id":"${at}-${i}"}`;
          const first = args.length === 0 ? "0" : `{"id":"${name}","n":1}`;
          const lines = [first, ...Array.from({ length: 699 }, (_, i) => own(i)), line, "1"];
          // The first of the lines with keys is sent again, as the same message.
          const { code, out, err } = await pipe(dsn, lines.join("\n"), ...args);
          const [warning, told] = err.split("\npgqrs: ");
          assertEquals([code === 0, out, warning], [false, "", "warning: 700 messages of before were sent"], err);
          assertMatch((told ?? "").trimEnd(), sentence);
          total += args.length > 0 && at === bad.length - 1 ? 699 : 700;
          assertEquals((await json(pgqrs, "message", "count", "tasks"))[0]?.count, total, line.slice(0, 80));
        }
      }, await open());
    });
  }

  test("changes no number", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      const ids = [LONG_ID, "9007199254740992"].map((id) => `{"id":${id}}\n`).join("");
      const { code, err } = await pipe(dsn, ids, "--key-field", "id");
      assertEquals(code, 2);
      assertStringIncludes(err, `line 1 has the number ${LONG_ID}`);
      for (const payload of [LONG_ID, `-${LONG_ID}`, `{"a":[${LONG_ID}]}`, "1e999", "[123456789012345678]"]) {
        const one = await pgqrs("message", "send", "tasks", "--", payload);
        assertEquals([one.code, one.err.startsWith("pgqrs: the payload has the number ")], [2, true], one.err);
      }
      // What a double holds, and what is no number.
      const held = [
        "9007199254740992",
        "1e22",
        `"${LONG_ID}"`,
        `{"${LONG_ID}":"\\"${LONG_ID}"}`,
        "0.1234567890123456789",
      ];
      for (const payload of held) assertEquals((await pgqrs("message", "send", "tasks", payload)).code, 0, payload);
      assertEquals(await payloads(pgqrs), held.map((text) => JSON.parse(text)));
      const header = await pgqrs("message", "send", "tasks", "1", "--headers", `{"a":${LONG_ID}}`);
      assertEquals([header.code, header.err.includes("--headers has the number")], [2, true]);
    });
  });

  test("names the first line when that is broken, and a line that is no text", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      const told = async (input: string | AsyncIterable<Uint8Array>) => (await pipe(dsn, input)).err.split("\n").at(-2);
      assertEquals(await told("{oops\n1\n2\n"), "pgqrs: line 1 is not JSON, nor are all lines together");
      assertEquals(await told("\n\n{oops\n1\n"), "pgqrs: line 3 is not JSON, nor are all lines together");
      assertEquals(await told("oops\n"), `pgqrs: line 1 is not JSON; a text is written as '"text"'`);
      async function* packed() {
        yield await Promise.resolve(new Uint8Array([0x1f, 0x8b, 8, 0, 0x0a, 3]));
      }
      assertEquals(await told(packed()), "pgqrs: line 1 is not UTF-8");
      // The lines before it are in the same piece of what is read.
      async function* late() {
        yield await Promise.resolve(new Uint8Array([0x31, 0x0a, 0x32, 0x0a, 0x22, 0xff, 0x22, 0x0a, 0x33]));
      }
      assertEquals(await told(late()), "pgqrs: line 3 is not UTF-8");
      assertEquals(await payloads(pgqrs), [1, 2]);
    });
  });

  test("says in flags what is wrong", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      const wrong: readonly [args: string, sentence: string][] = [
        ["message send tasks 1 --priority 12", "Cannot use --priority: it must be a whole number from 0 to 9"],
        ["message send tasks 1 --delay 99999d", "Cannot use --delay: it must be from 0ms to 36525d"],
        ["message send tasks 1 --delay 1 --at 2030-01-01", "Cannot use --delay and --at together"],
        ["message read tasks --count 20000", "Cannot use --count: it must be a whole number from 1 to 10000"],
        ["message read tasks --lock-time 0", "Cannot use --lock-time: it must be from 1ms to 36525d"],
        ["queue update tasks --lease 0", "Cannot use --lease: it must be from 1ms to 36525d"],
        ["queue list --timeout 0", "Cannot use --timeout: it must be from 1ms to 24d, not 0"],
        ["message list tasks --cursor x", "Cannot use --cursor: it was not given by a page of this list"],
      ];
      for (const [line, sentence] of wrong) {
        const { code, err } = await pgqrs(...line.split(" "));
        assertEquals([code, err], [2, `pgqrs: ${sentence}\n`], line);
      }
      const key = await pipe(dsn, "1\n", "--key", "a");
      assertEquals([key.code, key.err.includes("--key is for one message; --key-field")], [2, true], key.err);
      const nobody = await pgqrs("worker", "get", "nobody");
      assertEquals(nobody.err, 'pgqrs: Worker "nobody" is not there: "pgqrs worker list" tells who is\n');
      const missing = await pgqrs("message", "send", "nope", "1");
      assertStringIncludes(missing.err, 'create it with "pgqrs queue create nope"');
      const bare = await run(["--dsn", freshSqliteFile().dsn, "queue", "list"]);
      assert(!bare.err.includes("store."), bare.err);
    });
  });
});

describe("what a command says", () => {
  test("is not that of a queue that can be deleted, where it cannot", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      await pgqrs("message", "send", "tasks", "1");
      const sentence = 'pgqrs: Cannot delete queue "tasks": it has live messages; use --force\n';
      for (const args of [["--dry-run"], ["--yes"], []]) {
        assertEquals(await pgqrs("queue", "delete", "tasks", ...args), { code: 1, out: "", err: sentence });
      }
      const asked = await run(["--dsn", dsn, "queue", "delete", "tasks"], { answer: "y" });
      assertEquals(asked, { code: 1, out: "", err: sentence });
      assertEquals((await pgqrs("queue", "delete", "tasks", "--force", "--dry-run")).code, 0);
      assertEquals((await pgqrs("queue", "delete", "tasks", "--force", "--yes")).code, 0);
    });
  });

  test("is which queue or worker is not there", async () => {
    await withDatabase(async (pgqrs) => {
      const lines = ["worker health --queue nope", "worker list --queue nope", "worker release nobody"];
      for (const line of lines) assertEquals((await pgqrs(...line.split(" "))).code, 3, line);
    });
  });

  test("is what was replayed, also where something is missing", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      await using store = await connect(dsn);
      await store.producer("tasks").enqueue(1);
      const [message] = await store.consumer("tasks").dequeue();
      await store.consumer("tasks").fail(message ?? 0, new Error("no"), { retry: false });
      const { code, out, err } = await pgqrs("dead", "replay", "1", "99999", "--format", "json");
      assertEquals([code, JSON.parse(out)], [3, [{ id: 1 }]]);
      assertEquals(err, "Brought 1 message back\npgqrs: There is no dead letter 99999\n");
    });
  });

  for (const [name, open] of BACKENDS) {
    test(`is how many messages a queue keeps no longer, on ${name}`, async () => {
      await withDatabase(async (pgqrs, dsn) => {
        await pgqrs("queue", "update", "tasks", "--retention", "1ms", "--no-dead-retention");
        await pgqrs("queue", "create", "kept");
        for (const queue of ["tasks", "tasks", "kept"]) await pgqrs("message", "send", queue, "1");
        await using store = await connect(dsn);
        for (const id of [1, 3]) await store.admin.messages.archive(id);
        const [message] = await store.consumer("tasks").dequeue();
        await store.consumer("tasks").fail(message ?? 0, new Error("no"), { retry: false });
        const count = async () =>
          (await json(pgqrs, "archive", "purge", "--all", "--expired", "--dry-run"))[0]?.messages;
        await until("its time is over", async () => await count() === 1);
        const { err } = await pgqrs("archive", "purge", "tasks", "--expired", "--dry-run");
        assertEquals(err, "This would delete 1 ended message of queue tasks, kept for their time\n");
        const deleted = await json(pgqrs, "archive", "purge", "--all", "--expired", "--yes");
        assertEquals(deleted, [{ deleted: 1 }]);
      }, await open());
    });
  }

  test("shows what would be invisible", async () => {
    await withDatabase(async (pgqrs) => {
      const hidden = ["\u034f", "\ufe00", "\u115f", "\u3164", "\uffa0", "\u180b", "\u{e0100}"];
      await pgqrs("message", "send", "tasks", JSON.stringify(`${hidden.join("|")}|❤️`));
      for (const format of ["table", "json", "ndjson"]) {
        const { out } = await pgqrs("message", "list", "tasks", "--format", format);
        for (const char of hidden) assert(!out.includes(char), `${format}: ${char.codePointAt(0)?.toString(16)}`);
        assertStringIncludes(out, "\\u034f|\\ufe00|\\u115f|\\u3164|\\uffa0|\\u180b|\\udb40\\udd00|❤️");
        if (format !== "table") assertEquals([JSON.parse(out)].flat()[0].payload, `${hidden.join("|")}|❤️`);
      }
    });
  });

  test("is one line, whatever a name has in it", async () => {
    await withDatabase(async (pgqrs) => {
      const { err } = await pgqrs("queue", "create", "a\npgqrs: all is lost");
      assertEquals(err, "There is a queue a\\u000apgqrs: all is lost\n");
    });
  });

  test("fits 80 columns, with whole instants, and tells behind a table that there is more", async () => {
    await withDatabase(async (pgqrs, dsn) => {
      await pgqrs("queue", "create", "a_queue_with_a_long_name");
      for (let i = 0; i < 3; i++) {
        await pgqrs("message", "send", "tasks", `"${"x".repeat(90)}"`, "--key", `key-number-${i}`);
      }
      await using store = await connect(dsn);
      await store.consumer("tasks", { name: "a-consumer-with-a-long-name" }).dequeue({ leaseMs: 60_000 });
      await using _running = startWorker(store, [job("a_queue_with_a_long_name", () => {})], {
        name: "host-with-name",
      });
      await until("it is registered", async () => (await store.admin.workers.list()).length === 2);
      const at = /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/;
      for (const line of ["queue metrics", "message list tasks --limit 2", "worker list"]) {
        let heard = "";
        const { out, err } = await run(["--dsn", dsn, ...line.split(" ")], {
          columns: 80,
          hear: (text) => heard += text,
        });
        for (const one of out.split("\n")) assert(one.length <= 80, `${one.length}: ${one}`);
        if (line !== "queue metrics") assertMatch(out, at);
        if (line.startsWith("message")) assertStringIncludes(err, "There is more: --cursor ");
        assertEquals(heard, out + err);
      }
    });
    for (const page of ["", "queue", "message send", "worker run", "archive"]) {
      const { out } = await run([...page.split(" ").filter(Boolean), "--help"]);
      for (const line of out.split("\n")) assert(line.length <= 80, `${line.length}: ${line}`);
    }
  });

  test("is how long it lets a database take", async () => {
    const show = async (...args: string[]) => {
      const { out } = await run(["--dsn", "sqlite::memory:", "config", "--format", "json", ...args]);
      const rows = JSON.parse(out) as { setting: string; value: unknown; source: string }[];
      return rows.filter(({ setting }) => /timeoutMs$/i.test(setting)).map(({ value, source }) => `${value} ${source}`);
    };
    assertEquals(await show(), ["10000 default", "30000 default"]);
    assertEquals(await show("--timeout", "3s"), ["3000 --timeout", "3000 --timeout"]);
  });

  test("is what was not changed of a queue", async () => {
    await withDatabase(async (pgqrs) => {
      const { code, err } = await pgqrs("queue", "update", "tasks");
      assertEquals([code, err.startsWith("pgqrs: queue update needs a setting to change")], [2, true], err);
      const same = await pgqrs("queue", "create", "tasks", "--if-missing", "--max-attempts", "5");
      assertEquals(same.err, "There is a queue tasks\n");
      const other = await pgqrs("queue", "create", "tasks", "--if-missing", "--lease", "2m", "--paused");
      assertEquals(
        other.err,
        'There is a queue tasks already, with another lease, paused; "pgqrs queue update" changes that\n',
      );
    });
  });
});

/** An installed database of its own, and a role that may do nothing in it. */
async function withRole(
  work: (office: { pgqrs: Pgqrs; role: string; execute: (text: string) => Promise<unknown> }) => Promise<void>,
): Promise<void> {
  const database = await freshPostgres();
  // Roles belong to the whole server, so their names have to be new.
  const role = `app_${randomUUID().slice(0, 8)}`;
  const sql = postgres(database.dsn, { max: 1, onnotice() {} });
  const dsn = new URL(database.dsn);
  [dsn.username, dsn.password] = [role, "secret"];
  try {
    const admin: Pgqrs = (...argv) => run(["--dsn", database.dsn, "--schema", "jobs", ...argv]);
    assertEquals((await admin("install")).code, 0);
    assertEquals((await admin("queue", "create", "tasks")).code, 0);
    await sql.unsafe(`create role ${role} login password 'secret'`);
    await work({
      pgqrs: (...argv) => run(["--dsn", dsn.href, "--schema", "jobs", ...argv]),
      role,
      execute: async (text) => await sql.unsafe(text),
    });
  } finally {
    await sql.unsafe(`drop owned by ${role}; drop role ${role}`);
    await sql.end({ timeout: 5 });
    await database.close();
  }
}

describe("doctor on Postgres", () => {
  test("finds what a role may not do, down to nothing", async () => {
    await withRole(async ({ pgqrs, role, execute }) => {
      const failures = async () => {
        const { code, out, err } = await pgqrs("doctor", "--format", "json");
        const found = (JSON.parse(out) as { level: string; text: string }[]).filter(({ level }) => level === "failure");
        assertEquals(code, found.length > 0 ? 1 : 0, err);
        return found.map(({ text }) => text);
      };
      assertStringIncludes((await failures()).join(), "usage on schema jobs is missing");
      await execute(`grant usage on schema jobs to ${role}`);
      assertStringIncludes((await failures()).join(), "select on table pgqrs_migrations is missing");
      await execute(`grant select on all tables in schema jobs to ${role}`);
      assertEquals(await failures(), [
        "cannot claim messages: insert on table pgqrs_archive is missing, delete on table pgqrs_messages is missing, " +
        "update on table pgqrs_messages is missing",
        "cannot send messages: delete on table pgqrs_keys is missing, insert on table pgqrs_keys is missing, " +
        "update on table pgqrs_keys is missing, insert on table pgqrs_messages is missing",
      ]);
      await execute(`grant insert, update, delete on all tables in schema jobs to ${role}`);
      assertEquals(await failures(), []);
      await execute(`revoke execute on all functions in schema jobs from public`);
      assertStringIncludes((await failures()).join(), "execute on function pgqrs_claim is missing");
      await execute(`grant execute on all functions in schema jobs to ${role}`);
      assertEquals((await pgqrs("message", "send", "tasks", "1")).code, 0);
      assertEquals((await pgqrs("message", "dequeue", "tasks")).code, 0);
      await execute(`alter role ${role} set default_transaction_read_only = on`);
      assertEquals(await failures(), ["cannot send or claim messages: nothing may be written here"]);
    });
  });
});
