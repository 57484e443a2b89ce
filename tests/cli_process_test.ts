/** The `pgqrs` command as real processes: exit codes, streams, signals, settings, a terminal. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { connect } from "@pgqrs/pgqrs";
import {
  atTerminal,
  forAll,
  hasTerminal,
  interrupt,
  inTurn,
  NO_SETTINGS,
  openInstalled,
  openPlace,
  type Place,
  startSilence,
} from "./support/cli_place.ts";
import { freshPostgres } from "./support/databases.ts";
import { type ProcessOptions, runtimeCommand } from "./support/processes.ts";
import { until } from "./support/until.ts";

/** A database that nobody can reach, with a password that nobody may see. */
const UNREACHABLE = "postgres://me:hush@127.0.0.1:1/none";

describe("pgqrs as a process", () => {
  test("shows help on every level, and its version", async () => {
    using place = openPlace();
    const pages: [args: string[], usage: string][] = [
      [[], "pgqrs message send <queue>"],
      [["--help"], "pgqrs worker run <queue>"],
      [["queue", "--help"], "pgqrs queue update <name>"],
      [["message", "-h"], "pgqrs message dequeue <queue>"],
      [["dlq", "--help"], "pgqrs dead replay [id...]"],
      [["archive", "--help"], "pgqrs archive purge [queue]"],
      [["queue", "create", "--help"], "--max-attempts <integer>"],
      [["message", "send", "-h"], "--key-field <text>"],
      [["worker", "run", "--help"], "--exec <text>"],
      [["uninstall", "--help"], "--dry-run"],
    ];
    await forAll(pages, async ([args, usage]) => {
      const { code, out, err } = await place.pgqrs(args, { env: NO_SETTINGS });
      assertEquals({ code, err }, { code: 0, err: "" });
      assertStringIncludes(out, usage);
      assertMatch(out, /^Example\n {2}pgqrs \S/m);
      assertStringIncludes(out, "--log-level");
    });
    const { code, out, err } = await place.pgqrs(["--version"], { env: NO_SETTINGS });
    assertEquals([code, err], [0, ""]);
    assertMatch(out, /^pgqrs \d+\.\d+\.\d+\n$/);
  });

  test("ends with 2 when the command line cannot be used", async () => {
    using place = openPlace();
    place.write("jobs.db", "");
    const cases: [args: string[], says: RegExp][] = [
      [["queu", "list"], /did you mean pgqrs queue\?/],
      [["queue", "creat", "x"], /did you mean pgqrs queue create\?/],
      [["queue", "list", "--fromat", "json"], /unknown option --fromat; did you mean --format\?/],
      [["queue", "list", "--format", "xml"], /--format is table, json, ndjson/],
      [["message", "send", "tasks", "{oops"], /the payload is not JSON/],
      [["message", "send", "tasks", "1", "--delay", "soon"], /--delay is a duration such as/],
      [["message", "send", "tasks"], /needs a payload/],
      [["message", "send", "tasks", "--file", "none.json"], /cannot read none\.json: ENOENT/],
      [["message", "show", "tasks", "one"], /not the id of a message/],
      [["worker", "run", "tasks"], /worker run needs --exec/],
      [["queue", "list", "--config", "none.yaml"], /none\.yaml/],
      [["queue", "list", "--out", "no/such/folder"], /cannot write to no\/such\/folder/],
      [["queue", "list", "--dsn", "mysql://me:hush@host/db"], /DSN/],
    ];
    await forAll(cases, async ([args, says]) => {
      const { code, out, err } = await place.pgqrs(args);
      assertEquals({ code, out }, { code: 2, out: "" }, err);
      assertMatch(err, says);
      assertMatch(err, /^pgqrs: [^\n]+\n$/);
      assertEquals(err.includes("hush"), false);
    });
    const { code, out, err } = await place.pgqrs(["queue", "list"], { env: NO_SETTINGS });
    assertEquals({ code, out }, { code: 2, out: "" });
    for (const way of ["--dsn sqlite:", "export PGQRS_DSN=", "> pgqrs.yaml"]) assertStringIncludes(err, way);
  });

  test("ends with 1, 3, 4 or 5 when it failed, found nothing, reached nothing or was refused", async () => {
    using place = await openInstalled();
    using empty = openPlace();
    empty.write("jobs.db", "");
    await place.json("message", "send", "tasks", "1");
    await using silence = await startSilence();
    const cases: [code: number, args: string[], says: RegExp, place?: Place][] = [
      [1, ["queue", "create", "tasks"], /exists/],
      [1, ["queue", "delete", "tasks", "--yes"], /it has live messages/],
      [1, ["verify"], /run "pgqrs install"/, empty],
      [1, ["queue", "list"], /pgqrs install/, empty],
      [1, ["doctor"], /pgqrs: 1 failure/, empty],
      [3, ["queue", "get", "nope"], /Queue "nope" does not exist: create it with "pgqrs queue create nope"/],
      [3, ["message", "send", "nope", "1"], /"nope" does not exist/],
      [3, ["message", "show", "tasks", "99"], /Message 99 is not in queue "tasks"/],
      [3, ["dead", "replay", "99"], /There is no dead letter 99/],
      [
        4,
        ["queue", "list", "--dsn", UNREACHABLE, "--timeout", "1s", "--quiet"],
        /^pgqrs: Cannot connect to the database/,
      ],
      [
        4,
        ["message", "send", "tasks", "1", "-d", silence.dsn, "--timeout", "300ms"],
        /no connection to the database in time/,
      ],
      [4, ["worker", "list", "-d", silence.dsn, "--timeout", "300ms"], /in time/],
      [5, ["uninstall"], /remove 1 queue with 1 live message .*--yes/],
      [5, ["queue", "purge", "tasks"], /delete 1 message of queue tasks; say --yes/],
      [5, ["queue", "delete", "tasks", "--force"], /--yes/],
      [5, ["archive", "purge", "--all"], /--yes/],
    ];
    await forAll(cases, async ([code, args, says, where = place]) => {
      const answer = await where.pgqrs(args);
      assertEquals(answer.code, code, `${args.join(" ")}: ${answer.err}`);
      assertMatch(answer.err, says);
      if (args[0] !== "doctor") assertEquals(answer.out, "");
    });
    assertEquals((await place.json("message", "count", "tasks"))[0]?.count, 1);
  });

  test("ends with 4 when the file of the database cannot be opened", async () => {
    using place = openPlace();
    place.write("plain", "");
    await forAll(["sqlite:.", "sqlite:plain/jobs.db"], async (dsn) => {
      const { code, err } = await place.pgqrs(["queue", "list", "--dsn", dsn]);
      assertMatch(err, /^pgqrs: Cannot open the database file: [^\n]+\n$/);
      assertEquals(code, 4, err);
    });
  });

  test("ends with 4 when there is no file of the database, says what makes one, and does not do so itself", async () => {
    using place = openPlace();
    const lines: [line: string, dsn: string, name?: string][] = [
      ["queue list", "sqlite:slip.db"],
      ["stats", "sqlite:slip.db", "slip.db"],
      ["doctor", "file:slip.db?synchronous=normal", "slip.db"],
      ["verify", `sqlite:${join(place.folder, "slip.db")}`, join(place.folder, "slip.db")],
      ["migrate --print", "file:a%20slip.db", "a slip.db"],
      ["uninstall --yes", "sqlite:no/such/folder/jobs.db", "no/such/folder/jobs.db"],
      ["queue create tasks", "file:slip.db"],
      ["message send tasks 1", "sqlite:slip.db"],
      ["worker run tasks --exec cat --drain", "sqlite:slip.db"],
    ];
    await forAll(lines, async ([line, dsn, name = "slip.db"]) => {
      const { code, out, err } = await place.pgqrs([...line.split(" "), "--dsn", dsn]);
      const told = `pgqrs: Cannot open the database file: there is no file ${name}; run "pgqrs install" to make it\n`;
      assertEquals({ code, out, err }, { code: 4, out: "", err: told });
    });
    const secret = await place.pgqrs(["queue", "list", "--dsn", "sqlite:me:hush@host/jobs.db"]);
    assertEquals([secret.code, secret.err.includes("hush")], [4, false], secret.err);
    const memory = await place.pgqrs(["queue", "list", "--dsn", "sqlite::memory:"]);
    assertEquals(memory.code, 1);
    assertMatch(memory.err, /pgqrs is not installed/);
    assertEquals((await place.pgqrs(["config", "--dsn", "sqlite:slip.db"])).code, 0);
    assertEquals(readdirSync(place.folder), []);

    for (const [command, dsn] of [["install", "file:jobs.db?synchronous=normal"], ["migrate", "sqlite:more/jobs.db"]]) {
      assertEquals((await place.pgqrs([String(command), "--dsn", String(dsn)])).code, 0);
      assertEquals((await place.pgqrs(["verify", "--dsn", String(dsn)])).code, 0);
    }
  });

  test("works a queue from the first command to the last", async () => {
    using place = openPlace();
    const { pgqrs, json } = place;
    assertEquals(await pgqrs(["install"]), { code: 0, out: "", err: "Installed\n" });
    assertEquals((await json("queue", "create", "tasks", "--lease", "2m"))[0]?.leaseMs, 120_000);
    assertEquals((await json("message", "send", "tasks", '{"n":1}', "--priority", "5"))[0]?.id, 1);
    const piped = await pgqrs(["message", "send", "tasks", "-", "--format", "json"], { input: '{"n":2}\n{"n":3}\n' });
    assertEquals(JSON.parse(piped.out), { queue: "tasks", sent: 2 });
    const whole = await pgqrs(["message", "send", "tasks", "-"], { input: '{\n  "n": 4\n}\n' });
    assertEquals([whole.code, whole.err], [0, "Sent 1 message\n"]);
    place.write("more.ndjson", '"five"\n"six"');
    assertEquals((await json("message", "send", "tasks", "--file", "more.ndjson"))[0]?.sent, 2);
    const nothing = await pgqrs(["message", "send", "tasks", "-"]);
    assertEquals([nothing.code, nothing.err], [0, "Sent 0 messages\n"]);
    const broken = await pgqrs(["message", "send", "tasks", "-"], { input: "7\noops\n" });
    assertEquals([broken.code, broken.out], [2, ""]);
    assertMatch(broken.err, /1 message of before was sent\npgqrs: line 2 is not JSON\n$/);

    const { out } = await pgqrs(["message", "list", "tasks", "--format", "ndjson"]);
    const listed = out.trimEnd().split("\n").map((line) => JSON.parse(line).payload);
    assertEquals(listed, [{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }, "five", "six", 7]);
    assertEquals((await json("message", "read", "tasks", "--lock-time", "10m"))[0]?.state, "leased");
    assertEquals((await json("message", "dequeue", "tasks"))[0]?.payload, { n: 2 });
    assertEquals((await pgqrs(["archive", "tasks", "1"])).err, "Archived message 1\n");
    assertEquals((await json("archive", "list", "tasks")).map(({ id }) => id), [1, 2]);
    assertMatch((await pgqrs(["queue", "metrics"])).out, /^queue +isPaused +ready.*\ntasks +false +5 /);
    const dry = await pgqrs(["uninstall", "--dry-run", "--format", "json"]);
    assertEquals([dry.code, JSON.parse(dry.out)], [0, [{ queue: "tasks", live: 5, ended: 2 }]]);
    const log = join(place.folder, "words.log");
    const quiet = await pgqrs(["uninstall", "--yes", "--log-dest", log]);
    assertEquals(quiet, { code: 0, out: "", err: "" });
    assertMatch(readFileSync(log, "utf8"), /^\d{4}-\S+Z INFO Removed /);
    assertEquals((await pgqrs(["verify"])).code, 1);
  });

  test("works with Postgres, in a schema of one's own", async () => {
    const database = await freshPostgres();
    try {
      using place = openPlace(database.dsn);
      const { pgqrs } = place;
      const json = (...args: string[]) => place.json("--schema", "jobs", ...args);
      assertEquals((await pgqrs(["install", "-s", "jobs"])).code, 0);
      assertEquals((await pgqrs(["verify"])).code, 1);
      assertEquals((await json("queue", "create", "tasks"))[0]?.name, "tasks");
      assertEquals((await json("message", "send", "tasks", '{"n":1}', "--key", "k"))[0]?.key, "k");
      assertEquals((await json("message", "count", "tasks"))[0]?.count, 1);
      assertEquals((await pgqrs(["uninstall", "-s", "jobs", "--yes"])).code, 0);
    } finally {
      await database.close();
    }
  });

  test("takes the database from --dsn, else from PGQRS_DSN, else from the file, and names what it found", async () => {
    using place = openPlace();
    place.write("pgqrs.yaml", "dsn: sqlite:found.db\n");
    place.write("other.yaml", "dsn: sqlite:named.db\n");
    const found = "Settings are read from ./pgqrs.yaml\n";
    const without = { PGQRS_DSN: undefined };
    const cases: [args: string[], env: ProcessOptions["env"], dsn: string, source: string, err: string][] = [
      [[], without, "sqlite:found.db", "pgqrs.yaml", found],
      [["--quiet"], without, "sqlite:found.db", "pgqrs.yaml", ""],
      [["-c", "other.yaml"], without, "sqlite:named.db", "other.yaml", ""],
      [[], { ...without, PGQRS_CONFIG_FILE: "other.yaml" }, "sqlite:named.db", "other.yaml", ""],
      [[], { PGQRS_DSN: "sqlite:env.db" }, "sqlite:env.db", "PGQRS_DSN", ""],
      [["--dsn", "sqlite:flag.db"], { PGQRS_DSN: "sqlite:env.db" }, "sqlite:flag.db", "argument", ""],
      [["-d", "sqlite:flag.db", "-c", "other.yaml"], without, "sqlite:flag.db", "argument", ""],
    ];
    await forAll(cases, async ([args, env, dsn, source, err]) => {
      const answer = await place.pgqrs(["config", "--format", "json", ...args], { env });
      const settings: Record<string, unknown>[] = JSON.parse(answer.out);
      assertEquals(settings.find(({ setting }) => setting === "dsn"), { setting: "dsn", value: dsn, source });
      assertEquals([answer.code, answer.err], [0, err]);
    });
  });

  test("warns once of a password on the command line, and shows it nowhere", async () => {
    using place = openPlace();
    place.write("secret.yaml", `dsn: ${UNREACHABLE}\n`);
    const cases: [args: string[], dsn: string | undefined, warnings: number, code: number][] = [
      [["queue", "list", "-d", UNREACHABLE], undefined, 1, 4],
      [["queue", "list", "-d", UNREACHABLE, "--log-level", "trace"], undefined, 1, 4],
      [["config", "--dsn", UNREACHABLE], undefined, 1, 0],
      [["queue", "list", "--log-level", "trace"], UNREACHABLE, 0, 4],
      [["queue", "list", "-c", "secret.yaml"], undefined, 0, 4],
    ];
    await forAll(cases, async ([args, dsn, warnings, code]) => {
      // A stack may be shown at that level, so that these do not go by `pgqrs`.
      await inTurn(async () => {
        await using child = place.start([...args, "--timeout", "1s"], { env: { PGQRS_DSN: dsn } });
        assertEquals((await child.exited).code, code, child.stderr);
        assertEquals(child.stderr.match(/^warning: .*set PGQRS_DSN/gm)?.length ?? 0, warnings, child.stderr);
        assertEquals(`${child.stdout}${child.stderr}`.includes("hush"), false);
      });
    });
  });

  test("ends at once without a word when its reader has seen enough", async () => {
    using place = await openInstalled();
    {
      await using store = await connect(place.dsn);
      const payloads = Array.from({ length: 3_000 }, (_, i) => ({ i, text: "x".repeat(200) }));
      await store.producer("tasks").enqueueMany(payloads);
    }
    const script = '{ "$@"; echo $? > code; } | head -n 1';
    await forAll(["ndjson", "json", "table"], (format) =>
      inTurn(async () => {
        using folder = openPlace();
        await using child = place.start(["message", "list", "tasks", "--limit", "3000", "--format", format], {
          runtime: ["sh", "-c", script, "sh", ...runtimeCommand()],
          cwd: folder.folder,
        });
        assertEquals((await child.exited).code, 0);
        assertEquals([child.stdout.split("\n").length, child.stderr], [2, ""]);
        assertEquals(readFileSync(join(folder.folder, "code"), "utf8"), "0\n");
      }));
  });
});

describe("Ctrl-C", () => {
  for (const line of ["queue list", "install", "message send tasks 1", "worker run tasks --exec cat"]) {
    test(`ends "${line}" at once while the database does not answer`, async () => {
      using place = openPlace();
      await using silence = await startSilence();
      await using child = place.start([...line.split(" "), "--timeout", "60s"], { env: { PGQRS_DSN: silence.dsn } });
      await silence.taken;
      await interrupt(child);
      assertEquals(child.stdout, "");
    });
  }

  test("ends a worker that waits for messages", async () => {
    using place = await openInstalled();
    await using child = place.start(["worker", "run", "tasks", "--exec", "cat", "--name", "one"]);
    await using store = await connect(place.dsn);
    await until("the worker is there", async () => (await store.admin.workers.list()).length === 1);
    await interrupt(child);
    assertStringIncludes(child.stderr, "Handled 0 messages; 0 attempts failed, 0 dead letters\n");
    assertEquals(await store.admin.workers.list(), []);
  });

  test("ends a command that waits for what is piped in", async () => {
    using place = await openInstalled();
    // Large enough to leave by itself, so that the command is seen to be in the middle.
    const input = `${JSON.stringify("x".repeat(1_000))}\n`.repeat(11_000);
    await using child = place.start(["message", "send", "tasks", "-"], { input, keepInput: true });
    await using store = await connect(place.dsn);
    await until("something was sent", async () => (await store.admin.metrics("tasks")).ready > 0);
    await interrupt(child);
  });
});

describe("at a terminal", { skip: hasTerminal() ? false : "the program script of util-linux is missing" }, () => {
  test("asks before it destroys, and does it only after y", async () => {
    using place = await openInstalled();
    const question = "This will delete queue tasks with 0 live messages and 0 in its archive. Go on? [y/N]";
    for (const answer of ["n\r", "\r"]) {
      const { code, out } = await atTerminal(place, ["queue", "delete", "tasks"], { question, answer });
      assertEquals(code, 5, out);
      assertStringIncludes(out, "nothing was done");
      assertEquals((await place.pgqrs(["queue", "get", "tasks"])).code, 0);
    }
    const interrupted = await atTerminal(place, ["queue", "delete", "tasks"], { question, answer: "\x03" });
    assertEquals(interrupted.code, 130, interrupted.out);
    const agreed = await atTerminal(place, ["queue", "delete", "tasks"], { question, answer: "y\r" });
    assertEquals(agreed.code, 0, agreed.out);
    assertStringIncludes(agreed.out, "Deleted queue tasks");
    assertEquals((await place.pgqrs(["queue", "get", "tasks"])).code, 3);
  });
});
