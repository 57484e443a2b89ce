/** What a hostile review of the command has found: programs, streams, files, signals, what is printed. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect } from "@pgqrs/pgqrs";
import postgres from "postgres";
import { DONE } from "../tools/cli_page.ts";
import { run, withDatabase } from "./support/cli.ts";
import { forAll, interrupt, openInstalled, openPlace, type Place } from "./support/cli_place.ts";
import { codeOf, gone, isAlive, openYard, stop } from "./support/cli_yard.ts";
import { freshPostgres, freshSqliteFile } from "./support/databases.ts";
import { runtimeCommand } from "./support/processes.ts";
import { TcpProxy } from "./support/tcp_proxy.ts";
import { until } from "./support/until.ts";

const CLI = fileURLToPath(new URL("../cli.ts", import.meta.url));
const IS_LINUX = process.platform === "linux";
/** The first one does not hear that it is to end. Each tells whether another is there when it begins. */
const DEAF = "for p in $(cat pids 2>/dev/null); do if kill -0 $p 2>/dev/null; then echo $p >> overlaps; fi; done; " +
  "echo $$ >> pids; [ $(wc -l < pids) = 1 ] || exit 0; trap '' TERM; while :; do sleep 0.05; done";
/** Has more room in a file than the database needs, and less than the data. */
const LITTLE_ROOM = "trap '' XFSZ; ulimit -f 300; exec \"$@\"";

/** Starts the command with streams that nobody reads. */
function startUnread(place: Place, args: readonly string[], closed: readonly ("stderr" | "stdout")[]): ChildProcess {
  const [program = "", ...words] = [...runtimeCommand(), CLI, ...args];
  const env = { ...process.env, PGQRS_DSN: place.dsn };
  const child = spawn(program, words, { cwd: place.folder, env, stdio: ["ignore", "pipe", "pipe"] });
  for (const name of ["stdout", "stderr"] as const) {
    // Long before anything is written.
    if (closed.includes(name)) child[name].destroy();
    else child[name].resume();
  }
  return child;
}

describe("a program of worker run", () => {
  test("that takes too long is gone before its message is tried again", async () => {
    await using yard = await openYard();
    const id = await yard.send();
    const worker = yard.worker(DEAF, "--job-timeout", "300ms");
    const { outcome, attempts } = await yard.end(id);
    assertEquals([outcome, attempts], ["succeeded", 1]);
    assertEquals([yard.read("pids").split("\n").length - 1, yard.read("overlaps")], [2, ""]);
    assertStringIncludes(worker.stderr, `warning: Message ${id} of queue "tasks": took longer than 300 ms\n`);
    assertEquals(await stop(worker), 0, worker.stderr);
  });

  test("whose lease was taken away has its place until it is gone", async () => {
    await using yard = await openYard();
    const [id, next] = [await yard.send(), await yard.send()];
    const worker = yard.worker(DEAF, "--lease", "1s", "--concurrency", "1");
    await yard.pids(1);
    await yard.store.admin.messages.cancel(id);
    assertEquals((await yard.end(next)).outcome, "succeeded");
    assertEquals([yard.read("pids").split("\n").length - 1, yard.read("overlaps")], [2, ""]);
    assertEquals(await stop(worker), 0, worker.stderr);
  });

  test("that leaves a daemon with its output behind has ended all the same", async () => {
    await using yard = await openYard();
    const id = await yard.send();
    // In a session of its own it is not of the group.
    const exec = "setsid sh -c 'echo $$ >> pids; while :; do echo noise >&2; sleep 0.05; done' & " +
      "until [ -s pids ]; do sleep 0.01; done; echo done";
    const worker = yard.worker(exec, "--drain", "--job-timeout", "30s");
    const { outcome, result, attempts } = await yard.end(id);
    assertEquals([outcome, result, attempts], ["succeeded", "done", 0]);
    assertEquals(await codeOf(worker), 0, worker.stderr);
  });

  test("never runs again because of what it has printed", async () => {
    await using yard = await openYard();
    const prints: [print: string, result: unknown][] = [
      ["printf 'a\\000b'", "a\uFFFDb"],
      [`printf '%s' '{"a":"\\u0000"}'`, '{"a":"\\u0000"}'],
      [`printf '%s' '["\\ud800"]'`, '["\\ud800"]'],
      ["printf '%s' '[1e400]'", "[1e400]"],
      ["printf '%s' 12345678901234567890", "12345678901234567890"],
      [
        "head -c 100 /dev/zero | tr '\\000' '['; head -c 100 /dev/zero | tr '\\000' ']'",
        "[".repeat(100) + "]".repeat(100),
      ],
      [`printf '%s' '{"a":[1,"é"]}'`, { a: [1, "é"] }],
    ];
    const large = "head -c 1048577 /dev/zero | tr '\\000' x";
    const parts: string[] = [];
    for (const print of [...prints.map(([print]) => print), large]) parts.push(`${await yard.send()}) ${print};;`);
    const exec = `case $PGQRS_ID in ${parts.join(" ")} esac`;
    const worker = yard.worker(exec, "--drain");
    assertEquals(await codeOf(worker), 0, worker.stderr);
    for (const [i, [print, result]] of prints.entries()) {
      const ended = await yard.end(i + 1);
      assertEquals([ended.outcome, ended.result, ended.attempts], ["succeeded", result, 0], print);
    }
    const { outcome, reason, attempts, error } = await yard.end(parts.length);
    assertEquals([outcome, reason, attempts], ["failed", "not_retryable", 1]);
    assertMatch(`${error?.message}`, /^exit code 0, but what it has printed is no result: .*1048576 bytes$/);
    assertEquals(error?.stack, undefined);
  });

  test("tells with what it has failed, and nothing of the command's own files", async () => {
    await using yard = await openYard();
    await yard.store.admin.queues.update("tasks", { maxAttempts: 1 });
    const id = await yard.send();
    const worker = yard.worker("printf 'first\\n1\\t2\\n' >&2; exit 7", "--drain");
    assertEquals(await codeOf(worker), 0, worker.stderr);
    assertMatch(worker.stderr, /^first\n1\t2\n/m);
    assertStringIncludes(worker.stderr, `warning: Message ${id} of queue "tasks": exit code 7: 1 2\n`);
    assertMatch(worker.stderr, /^Worker "[^"]+" stops\n/m);
    const { error } = await yard.end(id);
    assertEquals(error, { name: "Error", message: "exit code 7: first\n1\t2" });
  });

  test("runs beside more than ten others without a word of the runtime", async () => {
    await using yard = await openYard();
    for (let i = 0; i < 14; i++) await yard.send(i);
    const exec = "echo $$ >> pids; until [ $(wc -l < pids) -ge 14 ]; do sleep 0.05; done";
    const worker = yard.worker(exec, "--concurrency", "14", "--drain");
    assertEquals(await codeOf(worker), 0, worker.stderr);
    assertEquals(worker.stderr.includes("Warning"), false, worker.stderr);
  });
});

describe("a worker", () => {
  test("that hears of the end of its terminal stops as when it is told to, and leaves no program behind", async () => {
    await using yard = await openYard();
    const id = await yard.send();
    const worker = yard.worker("echo $$ >> pids; exec sleep 300", "--grace", "100ms");
    const pids = await yard.pids(1);
    assertEquals(await stop(worker, "SIGHUP"), 0, worker.stderr);
    await gone(...pids);
    assertEquals((await yard.store.admin.messages.get(id))?.attempts, 0);
    assertStringIncludes(worker.stderr, "Handled 0 messages");
  });

  test("waits until its programs are gone, also those that do not end at once", async () => {
    await using yard = await openYard();
    await yard.send();
    const exec = "trap 'sleep 2; echo end > end; exit 1' TERM; echo $$ >> pids; while :; do sleep 0.05; done";
    const worker = yard.worker(exec, "--grace", "50ms");
    const pids = await yard.pids(1);
    assertEquals(await stop(worker), 0, worker.stderr);
    assertEquals([yard.read("end"), pids.some(isAlive)], ["end\n", false]);
  });

  test("that has nothing to do ends soon after Ctrl-C when its database hangs", async () => {
    const database = await freshPostgres();
    const proxy = await TcpProxy.open(Number(new URL(database.dsn).port), new URL(database.dsn).hostname);
    try {
      await using store = await connect(database.dsn);
      await store.admin.install();
      await store.admin.createQueue("tasks");
      using place = openPlace(proxy.through(database.dsn));
      await using child = place.start(["worker", "run", "tasks", "--exec", "cat"]);
      await until("the worker is there", async () => (await store.admin.workers.list()).length === 1);
      proxy.freeze();
      await interrupt(child);
    } finally {
      await proxy.close();
      await database.close();
    }
  });

  test("of a queue that is paused says so, and so does a command that takes a message", async () => {
    await withDatabase(async (pgqrs) => {
      await pgqrs("message", "send", "tasks", "1");
      await pgqrs("queue", "pause", "tasks");
      const worker = await pgqrs("worker", "run", "tasks", "--exec", "cat", "--drain");
      assertMatch(worker.err, /^warning: queue tasks is paused; "pgqrs queue resume tasks" ends that\n/);
      for (const verb of ["read", "dequeue"]) {
        const { code, err } = await pgqrs("message", verb, "tasks");
        assertEquals([code, err], [
          0,
          'There is no message: queue tasks is paused; "pgqrs queue resume tasks" ends that\n',
        ]);
      }
    });
  });
});

describe("a stream that nobody reads", () => {
  test("does not keep words from being lost and work from being done", async () => {
    using place = openPlace();
    const child = startUnread(place, ["install", "--log-level", "trace"], ["stderr"]);
    assertEquals(await once(child, "exit"), [0, null]);
    await using store = await connect(place.dsn);
    await store.admin.verify();
  });

  test("does not end a worker", async () => {
    using place = await openInstalled();
    const ids = await place.json("message", "send", "tasks", "1");
    const exec = "echo words >&2; echo more >&2; cat";
    const child = startUnread(place, ["worker", "run", "tasks", "--exec", exec, "--drain"], ["stderr", "stdout"]);
    assertEquals(await once(child, "exit"), [0, null]);
    await using store = await connect(place.dsn);
    assertEquals((await store.admin.archive.get(ids[0]?.id as number))?.outcome, "succeeded");
  });

  test("is no error behind --out either, and hides none of what is wrong", async () => {
    using place = await openInstalled();
    const script = '{ "$@"; echo $? > code; } | true';
    const cases: [args: string[], code: string][] = [
      [["queue", "list", "--out", "/dev/stdout"], "0\n"],
      [["message", "list", "tasks", "--help"], "0\n"],
      [["queue", "get", "nope"], "3\n"],
    ];
    for (const [args, code] of IS_LINUX ? cases : cases.slice(1)) {
      const runtime = ["sh", "-c", script, "sh", ...runtimeCommand()];
      await using child = place.start(args, { runtime, cwd: place.folder });
      await child.exited;
      assertEquals(readFileSync(join(place.folder, "code"), "utf8"), code, child.stderr);
    }
  });
});

describe("a device that is full", { skip: IS_LINUX ? false : "there is no /dev/full" }, () => {
  test("loses words, which is told once, and fails data", async () => {
    using place = await openInstalled();
    const lost = await place.pgqrs(["queue", "get", "tasks", "--log-dest", "/dev/full", "--log-level", "trace"]);
    assertEquals([lost.code, lost.err], [
      0,
      "warning: cannot write to /dev/full: ENOSPC; nothing more is logged\n",
    ]);
    assertStringIncludes(lost.out, "tasks");
    const failed = await place.pgqrs(["queue", "get", "nope", "--log-dest", "/dev/full"]);
    assertEquals([failed.code, failed.out], [3, ""]);
    const data = await place.pgqrs(["queue", "list", "--out", "/dev/full"]);
    assertEquals([data.code, data.err], [1, "pgqrs: cannot write to /dev/full: ENOSPC\n"]);
    await using child = place.start(["queue", "list"], {
      runtime: ["sh", "-c", 'exec "$@" > /dev/full', "sh", ...runtimeCommand()],
    });
    assertEquals((await child.exited).code, 1, child.stderr);
    assertMatch(child.stderr, /^pgqrs: cannot write the data: [^\n]+\n$/);
    await using words = place.start(["queue", "list", "--log-level", "trace"], {
      runtime: ["sh", "-c", 'exec "$@" 2> /dev/full', "sh", ...runtimeCommand()],
    });
    assertEquals([(await words.exited).code, words.stdout.includes("tasks")], [0, true]);
  });

  test("is no success when it had room for a part", async () => {
    using place = await openInstalled();
    {
      await using store = await connect(place.dsn);
      await store.producer("tasks").enqueueMany(Array.from({ length: 1_000 }, () => "x".repeat(500)));
    }
    const args = ["message", "list", "tasks", "--limit", "1000", "--out", "data.txt"];
    await using child = place.start(args, {
      runtime: ["sh", "-c", LITTLE_ROOM, "sh", ...runtimeCommand()],
      cwd: place.folder,
    });
    assertEquals((await child.exited).code, 1, child.stderr);
    assertMatch(child.stderr, /^pgqrs: cannot write to data\.txt: (EFBIG|File too large[^\n]*)\n$/);
  });
});

describe("--out", () => {
  test("changes a file only when there is data", async () => {
    using place = await openInstalled();
    place.write("data", "what there was, and more of it than is written\n".repeat(50));
    const was = readFileSync(join(place.folder, "data"), "utf8");
    const kept: [args: string[], code: number][] = [
      [["queue", "get", "nope"], 3],
      [["queue", "purge", "tasks"], 5],
      [["message", "send", "tasks", "{oops"], 2],
    ];
    await forAll(kept, async ([args, code]) => {
      assertEquals((await place.pgqrs([...args, "--out", "data"])).code, code);
    });
    assertEquals(readFileSync(join(place.folder, "data"), "utf8"), was);
    assertEquals((await place.pgqrs(["queue", "get", "tasks", "--out", "data", "--format", "json"])).code, 0);
    assertEquals(JSON.parse(readFileSync(join(place.folder, "data"), "utf8")).name, "tasks");
    assertEquals((await place.pgqrs(["message", "list", "tasks", "--out", "data"])).code, 0);
    assertEquals(readFileSync(join(place.folder, "data"), "utf8"), "");
  });

  test("is not the file that is sent", async () => {
    using place = await openInstalled();
    place.write("more.ndjson", "1\n2\n");
    const { code, err } = await place.pgqrs([
      "message",
      "send",
      "tasks",
      "-f",
      "more.ndjson",
      "--out",
      "./more.ndjson",
    ]);
    assertEquals([code, err], [2, "pgqrs: --out and --file are the same file\n"]);
    assertEquals(readFileSync(join(place.folder, "more.ndjson"), "utf8"), "1\n2\n");
    assertEquals((await place.json("message", "count", "tasks"))[0]?.count, 0);
  });
});

test("what is piped in and cannot be read is not its end", async () => {
  using place = await openInstalled();
  await using child = place.start(["message", "send", "tasks", "-"], {
    runtime: ["sh", "-c", 'exec "$@" < /', "sh", ...runtimeCommand()],
  });
  assertEquals((await child.exited).code, 2, child.stderr);
  assertMatch(child.stderr, /pgqrs: cannot read what is piped in: EISDIR\n$/);
});

test("a database that lets somebody in and denies him something was reached", async () => {
  const { dsn, close } = await freshPostgres();
  const sql = postgres(dsn, { max: 1, onnotice() {} });
  const role = `reader_${randomUUID().slice(0, 8)}`;
  const address = new URL(dsn);
  address.username = role;
  address.password = "secret";
  try {
    assertEquals((await run(["install", "-d", dsn])).code, 0);
    await sql.unsafe(`create role ${role} login password 'secret'`);
    await sql.unsafe(`grant select on all tables in schema public to ${role}`);
    const { code, err } = await run(["queue", "create", "tasks", "-d", address.href]);
    assertMatch(err, /permission/);
    assertEquals(code, 1, err);
    address.username = "nobody_of_this_name";
    assertEquals((await run(["queue", "list", "-d", address.href])).code, 4);
  } finally {
    await sql.unsafe(`drop owned by ${role}; drop role if exists ${role}`);
    await sql.end({ timeout: 5 });
    await close();
  }
});

test("a secret of any kind on the command line is warned about, and nothing else is", async () => {
  const cases: [dsn: string, isSecret: boolean][] = [
    ["libsql://host.example?authToken=hush", true],
    ["http://me:hush@127.0.0.1:8080", true],
    ["https://hush@host.example", true],
    ["postgres://me:hush@host/db", true],
    ["postgres://me@host/db?password=hush", true],
    ["postgres://me@host/db?application_name=x", false],
    ["postgres://me@host/db?options=x", false],
    ["file:jobs.db?synchronous=normal", false],
    ["sqlite:jobs.db", false],
  ];
  for (const [dsn, isSecret] of cases) {
    const { out, err } = await run(["config", "--dsn", dsn]);
    assertEquals(/^warning: .*set PGQRS_DSN/m.test(err), isSecret, `${dsn}: ${err}`);
    assert(!`${out}${err}`.includes("hush"), dsn);
  }
});

test("every command that succeeds prints one JSON value, as docs/cli.md has it", async () => {
  const { dsn, close } = freshSqliteFile();
  const pgqrs = (line: string) => run(["--dsn", dsn, ...line.split(" ")]);
  try {
    for (const line of ["install", "queue create tasks", ..."1234".split("").map((n) => `message send tasks ${n}`)]) {
      assertEquals((await pgqrs(line)).code, 0);
    }
    for (const [line, json] of DONE) {
      const { code, out, err } = await pgqrs(`${line} --format json`);
      assertEquals(code, 0, err);
      const shown = line.startsWith("uninstall") ? '{"removed":["table pgqrs_messages"]}' : json;
      const printed = JSON.parse(out);
      if (line.startsWith("uninstall")) {
        printed.removed = printed.removed.filter((name: string) => name === "table pgqrs_messages");
      }
      assertEquals(JSON.stringify(printed), shown, line);
      // Whoever reads a table reads the words.
      assertEquals((await pgqrs("verify")).out, "");
    }
  } finally {
    await close();
  }
});
