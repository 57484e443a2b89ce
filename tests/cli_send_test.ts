/** `pgqrs message send` from files and pipes: what becomes messages, what is refused, and what is told on the way. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { type Answer, json, type Pgqrs, run, type Seat, withDatabase } from "./support/cli.ts";
import { checkSending, type SendSize } from "./support/cli_send.ts";
import { freshPostgres, freshSqliteFile, type TestDatabase } from "./support/databases.ts";
import { until } from "./support/until.ts";

const sample: SendSize = { lines: 20_000, isTimed: false, longestMs: 60_000 };
/** What is sent at once. */
const BATCH = 1_000;

/** What a test sends with. */
interface Sender {
  readonly pgqrs: Pgqrs;
  /** Sends what is piped in. */
  pipe(input: Seat["input"], args?: readonly string[], seat?: Seat): Promise<Answer>;
  /** Runs a command from a seat. */
  from(seat: Seat): Pgqrs;
  /** Writes a file, and gives its path. */
  write(content: string | Uint8Array): string;
  /** Sends a file. */
  file(content: string | Uint8Array, ...args: string[]): Promise<Answer>;
  /** The messages of the queue in the order of their ids. */
  sent(): Promise<Record<string, unknown>[]>;
  payloads(): Promise<unknown[]>;
}

async function withSender(work: (sender: Sender) => Promise<void>, database?: TestDatabase): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-cli-send-"));
  let files = 0;
  const write = (content: string | Uint8Array) => {
    const path = join(folder, `input${files++}`);
    writeFileSync(path, content);
    return path;
  };
  try {
    await withDatabase(async (pgqrs, dsn) => {
      const sent = async () => {
        const messages = await json(pgqrs, "message", "list", "tasks", "--limit", "10000");
        return messages.sort((a, b) => Number(a.id) - Number(b.id));
      };
      await work({
        pgqrs,
        pipe: (input = "", args = [], seat = {}) =>
          run(["--dsn", dsn, "message", "send", "tasks", "-", ...args], { ...seat, input }),
        from: (seat) => (...argv) => run(["--dsn", dsn, ...argv], seat),
        write,
        file: (content, ...args) => pgqrs("message", "send", "tasks", "--file", write(content), ...args),
        sent,
        payloads: async () => (await sent()).map(({ payload }) => payload),
      });
    }, database);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function* chunksOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}

function linesOf(count: number, from = 0): string {
  return Array.from({ length: count }, (_, i) => `{"id":${from + i}}\n`).join("");
}

/** Writes what clears the rest of a line as a word. */
function plain(text: string): string {
  return text.replaceAll("\x1b[K", "<clear>");
}

/** Checks that a command has failed with 2 and one sentence, behind a word on what was sent before. */
function assertUsage({ code, out, err }: Answer, sent: string, sentence: string): void {
  assertEquals({ code, out }, { code: 2, out: "" }, err);
  assertEquals(err, `warning: ${sent} of before ${sent === "1 message" ? "was" : "were"} sent\npgqrs: ${sentence}\n`);
}

const CONTENTS: readonly [what: string, content: string, payloads: unknown[]][] = [
  ["NDJSON", '{"n":1}\n[2]\n"3"\nnull\n', [{ n: 1 }, [2], "3", null]],
  ["no newline at the end", "1\n2", [1, 2]],
  ["CRLF, with and without a last one", "1\r\n2\r\n3", [1, 2, 3]],
  ["blank lines and blanks", "\n\n1\n  \n\t2 \r\n\r\n3\n\n", [1, 2, 3]],
  ["one JSON on one line", '{"a":[1,2]}', [{ a: [1, 2] }]],
  ["a list on one line, which is one payload", "[1,2,3]\n", [[1, 2, 3]]],
  ["one JSON over several lines", '{\n  "a": [\n    1,\r\n    2\n  ]\n}\n', [{ a: [1, 2] }]],
  ["one JSON over several lines behind blank ones", '\n\n[\n"a",\n\n"b"]', [["a", "b"]]],
  ["a byte order mark", "\ufeff1\n2\n", [1, 2]],
  ["text that other programs take for an end of line", '"a\u2028b\u0085c"\n1\n', ["a\u2028b\u0085c", 1]],
  ["nothing", "", []],
  ["nothing but blank lines", "\n\r\n  \n", []],
];

describe("pgqrs message send", () => {
  for (const [what, content, payloads] of CONTENTS) {
    test(`takes a file and a pipe: ${what}`, async () => {
      await withSender(async ({ file, pipe, payloads: sent }) => {
        const note = `Sent ${payloads.length} message${payloads.length === 1 ? "" : "s"}\n`;
        for (const send of [file, pipe]) {
          const { code, err } = await send(content);
          assertEquals({ code, err }, { code: 0, err: note });
        }
        assertEquals(await sent(), [...payloads, ...payloads]);
      });
    });
  }

  test("tells how many as data", async () => {
    await withSender(async ({ file }) => {
      assertEquals(JSON.parse((await file("1\n2\n", "--format", "json")).out), { queue: "tasks", sent: 2 });
    });
  });

  test("puts characters together that are split over chunks", async () => {
    const text = '"äß€"\n{"😀":"e\u0301"}\r\n"家"';
    for (const size of [1, 2, 3, 5]) {
      await withSender(async ({ pipe, payloads }) => {
        assertEquals((await pipe(chunksOf(new TextEncoder().encode(text), size))).code, 0);
        assertEquals(await payloads(), ["äß€", { "😀": "e\u0301" }, "家"]);
      });
    }
  });

  test("refuses what is not UTF-8, and keeps what was before", async () => {
    await withSender(async ({ pipe, file, payloads }) => {
      const bad = new Uint8Array([0x22, 0xff, 0x22, 0x0a]);
      async function* input() {
        yield await Promise.resolve(new TextEncoder().encode("1\n2\n"));
        yield bad;
      }
      assertUsage(await pipe(input()), "2 messages", "line 3 is not UTF-8");
      assertEquals(await payloads(), [1, 2]);
      assertUsage(await file(bad), "0 messages", "line 1 is not UTF-8");
      // A character that is cut at the end of everything.
      assertUsage(await file(new Uint8Array([0x33, 0x0a, 0x22, 0xe2, 0x82])), "1 message", "line 2 is not UTF-8");
      assertEquals(await payloads(), [1, 2, 3]);
    });
  });

  test("keeps what was before a bad line, and names the line", async () => {
    await withSender(async ({ pipe, file, sent, payloads }) => {
      assertUsage(await file("1\n\n2\n{oops\n4\n"), "2 messages", "line 4 is not JSON");
      assertEquals(await payloads(), [1, 2]);
      const bad = `${linesOf(2 * BATCH + 10)}{oops\n${linesOf(10)}`;
      assertUsage(await pipe(bad), `${2 * BATCH + 10} messages`, `line ${2 * BATCH + 11} is not JSON`);
      assertEquals((await sent()).length, 2 + 2 * BATCH + 10);
      const text = "line 1 is not JSON, nor are all lines together";
      assertUsage(await pipe("{oops\n1\n"), "0 messages", text);
    });
  });

  test("takes the key of each message from a field, so that sending again makes nothing twice", async () => {
    await withSender(async ({ file, pipe, sent, payloads }) => {
      const content = '{"id":1}\n{"id":"two"}\n{"id":1}\n';
      for (const send of [file(content, "--key-field", "id"), pipe(content, ["--key-field", "id"])]) {
        assertEquals((await send).code, 0);
      }
      assertEquals((await sent()).map(({ key, payload }) => [key, payload]), [["1", { id: 1 }], ["two", {
        id: "two",
      }]]);
      const missing = 'line 5 has neither a text nor a number in the field "id"';
      assertUsage(await file('\n{"id":3}\n\n{"id":4}\n{"no":5}\n{"id":6}', "--key-field", "id"), "2 messages", missing);
      assertEquals((await payloads()).slice(2), [{ id: 3 }, { id: 4 }]);
      for (const value of ["null", "true", "[]", '{"id":null}', '{"id":[1]}', "{}", '"id"']) {
        assertUsage(await file(value, "--key-field", "id"), "0 messages", missing.replace("5", "1"));
      }
      assertUsage(
        await file("{}", "--key-field", "toString"),
        "0 messages",
        missing.replace("5", "1").replace("id", "toString"),
      );
    });
  });

  test("says the same of every message", async () => {
    await withSender(async ({ file, sent }) => {
      const args = ["-H", "a=1", "-H", "b=x=y", "--headers", '{"c":"3","a":"0"}', "-t", "mail", "--priority", "7"];
      await file("1\n2\n", ...args, "--delay", "10m", "--ttl", "1h", "--max-attempts", "9");
      for (const message of await sent()) {
        assertEquals(message.headers, { a: "1", b: "x=y", c: "3", type: "mail" });
        assertEquals([message.priority, message.state], [7, "delayed"]);
        const [enqueuedAt, visibleAt] = [message.enqueuedAt, message.visibleAt].map((at) => Date.parse(String(at)));
        assertEquals(Number(visibleAt) - Number(enqueuedAt), 600_000);
      }
      await file("3\n", "--at", "2999-01-01T00:00:00Z");
      assertEquals((await sent())[2]?.visibleAt, "2999-01-01T00:00:00.000Z");
    });
  });

  test("drops a message that nobody has begun within its time to live", async () => {
    await withSender(async ({ file, pgqrs, payloads }) => {
      await file("1\n", "--ttl", "1ms");
      await until("it has run out", async () => (await json(pgqrs, "message", "read", "tasks")).length === 0);
      assertEquals(await payloads(), []);
    });
  });

  test("refuses what does not go together or cannot be read", async () => {
    await withSender(async ({ file, pipe, pgqrs, payloads }) => {
      const refused = async (answer: Promise<Answer>, expected: string) => {
        const { code, out, err } = await answer;
        assertEquals({ code, out }, { code: 2, out: "" }, err);
        assertStringIncludes(err, expected);
        assertMatch(err, /^(warning: 0 messages of before were sent\n)?pgqrs: [^\n]+\n$/);
      };
      await refused(file("1", "--key", "a", "--key-field", "id"), "--key and --key-field exclude each other");
      await refused(pipe("1", ["--file", "x"]), "one of them only");
      await refused(pgqrs("message", "send", "tasks"), "needs a payload, - for what is piped in, or --file");
      await refused(pgqrs("message", "send", "tasks", "--file", "/nowhere/x"), "cannot read /nowhere/x: ENOENT");
      await refused(pgqrs("message", "send", "tasks", "--file", tmpdir()), `cannot read ${tmpdir()}: EISDIR`);
      await refused(file("1", "--header", "a"), "--header is name=value");
      await refused(file("1", "--headers", "[1]"), "--headers is an object of texts");
      await refused(file("1", "--delay", "1s", "--at", "2999-01-01"), "at");
      await refused(file("1", "--key", "a"), "key");
      assertEquals(await payloads(), []);
    });
  });

  test("shows how far it is on a terminal only, and clears that at the end", async () => {
    await withSender(async ({ pipe, file, pgqrs }) => {
      const terminal = await pipe(linesOf(BATCH + 1), [], { columns: 60 });
      const shown = plain(terminal.err).split("\r");
      assertEquals(shown.pop(), "<clear>Sent 1001 messages\n");
      assertEquals(shown.length, 3);
      assertMatch(shown[1] ?? "", /^1,000 messages, [\d,]+ a second<clear>$/);
      assertMatch(shown[2] ?? "", /^1,001 messages, [\d,]+ a second<clear>$/);
      assertEquals((await pipe(linesOf(2))).err, "Sent 2 messages\n");
      assertEquals((await pipe("1\n", ["--quiet"], { columns: 60 })).err, "");
      assertMatch(
        plain((await pipe("1\n{", [], { columns: 60 })).err),
        /\r<clear>warning: 1 message .*\npgqrs: line 2 .*\n$/,
      );
      // Nothing of it is left in the data.
      assertEquals((await file("1", "--format", "json")).err, "Sent 1 message\n");
      assertEquals((await json(pgqrs, "message", "count", "tasks"))[0]?.count, BATCH + 1 + 2 + 1 + 1 + 1);
    });
  });

  test("shows which part of a file was sent, in no more columns than there are", async () => {
    await withSender(async ({ from, write }) => {
      const path = write(linesOf(4 * BATCH));
      const { err } = await from({ columns: 40 })("message", "send", "tasks", "--file", path);
      const parts = plain(err).split("\r");
      const shown = parts.slice(1, -1);
      assertEquals(shown.length, 4);
      for (const bar of shown) assertMatch(bar, /^\[#*-*\] \d+ %  [^<]+…<clear>$/);
      assertEquals(shown.map((bar) => bar.replace("<clear>", "").length), [39, 39, 39, 39]);
      assertStringIncludes(shown[3] ?? "", "[####################] 100 %");
      assertEquals(parts.at(-1), "<clear>Sent 4000 messages\n");
    });
  });

  test("ends between two batches when it is interrupted", async () => {
    await withSender(async ({ pipe, payloads }) => {
      const stop = new AbortController();
      async function* input() {
        yield await Promise.resolve(new TextEncoder().encode(linesOf(BATCH)));
        stop.abort("SIGINT");
        yield new TextEncoder().encode(linesOf(BATCH));
      }
      const { code, err } = await pipe(input(), [], { signal: stop.signal });
      assertEquals({ code, err }, { code: 130, err: "Sent 1000 messages before the interruption\n" });
      assertEquals((await payloads()).length, BATCH);
    });
  });

  test("ends when it is interrupted while nothing comes", async () => {
    await withSender(async ({ pipe }) => {
      const stop = new AbortController();
      async function* input() {
        yield await Promise.resolve(new TextEncoder().encode("1\n"));
        setTimeout(() => stop.abort("SIGINT"));
        await new Promise(() => {});
      }
      const { code, err } = await pipe(input(), [], { signal: stop.signal });
      assertEquals({ code, err }, { code: 130, err: "Sent 0 messages before the interruption\n" });
    });
  });

  test("does all that on Postgres", async () => {
    await withSender(async ({ file, pipe, payloads }) => {
      assertEquals((await file('{"id":1}\r\n\n{"id":2}', "--key-field", "id", "-H", "a=1")).code, 0);
      assertUsage(
        await pipe('{"id":2}\n{"id":3}\n{', ["--key-field", "id", "-H", "a=1"]),
        "2 messages",
        "line 3 is not JSON",
      );
      assertEquals(await payloads(), [{ id: 1 }, { id: 2 }, { id: 3 }]);
    }, await freshPostgres());
  });
});

test("a large file is sent to Postgres by a process, and again when that was killed", async () => {
  await checkSending("Postgres", () => freshPostgres(), sample);
});

test("a large file is sent to a SQLite file by a process, and again when that was killed", async () => {
  await checkSending("SQLite", freshSqliteFile, sample);
});
