/** The pure parts of the command: durations, widths, tables, words that cannot control a terminal. */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import { readDuration, writeDuration } from "../src/cli/duration.ts";
import { linesOf, NotTextError } from "../src/cli/lines.ts";
import { openLog } from "../src/cli/log.ts";
import { type Layout, printData } from "../src/cli/print.ts";
import { cut, pad, printable, safeJson, widthOf } from "../src/cli/text.ts";

const TABLE: Layout = { format: "table", hasColor: false };

async function printed(...args: Parameters<typeof printData>): Promise<string> {
  let text = "";
  for await (const piece of printData(...args)) text += piece;
  return text;
}

describe("durations", () => {
  test("are read as people write them", () => {
    const known: Record<string, number> = {
      "30": 30_000,
      "1.5": 1_500,
      "0": 0,
      "250ms": 250,
      "30s": 30_000,
      "5m": 300_000,
      "2h30m": 9_000_000,
      "7d": 604_800_000,
      "1d1h1m1s1ms": 90_061_001,
      "0.5h": 1_800_000,
    };
    for (const [text, ms] of Object.entries(known)) assertEquals(readDuration(text), ms, text);
    for (
      const text of ["", "m", "5x", "-1", "+1", "1e3", "5m2h", "5m5m", "1 h", "5 m", "١", ".5", "5.", "Infinity", " 5"]
    ) {
      assertEquals(readDuration(text), undefined, text);
    }
  });

  test("are written so that they are read as the same, to two units", () => {
    const known: Record<string, number> = {
      "0s": 0,
      "1ms": 0.3,
      "999ms": 999,
      "1.5s": 1_500,
      "30s": 30_000,
      "1h1m": 3_660_999,
    };
    for (const [text, ms] of Object.entries(known)) assertEquals(writeDuration(ms), text);
    for (const text of ["0s", "250ms", "1.5s", "30s", "5m", "2h30m", "7d", "30d"]) {
      assertEquals(writeDuration(readDuration(text) as number), text);
    }
  });
});

describe("text for terminals", () => {
  test("shows what would control it", () => {
    const unsafe = [
      "\u001b[31m",
      "\u0000",
      "\u0007",
      "\u009b31m",
      "\u202e",
      "\u2066",
      "\u200b",
      "\ufeff",
      "\u2028",
      "\ud800",
      "\u{e0041}",
    ];
    for (const text of unsafe) {
      const shown = printable(`a${text}b`);
      assert(/^a(\\u[0-9a-f]{4})+.*b$/.test(shown), shown);
      assertEquals(JSON.parse(safeJson(JSON.stringify(text))), text);
      const forbidden = /[\p{Cc}\u200b\u2028\u202e\u2066\ufeff]/u;
      assert(!forbidden.test(shown + safeJson(JSON.stringify(text))));
    }
    assertEquals(printable("Grüße, 日本語 👍"), "Grüße, 日本語 👍");
  });

  test("is as wide as a terminal shows it", () => {
    const known: Record<string, number> = {
      "": 0,
      abc: 3,
      "é": 1,
      "e\u0301": 1,
      "日本": 4,
      "ｆ": 2,
      "한": 2,
      "👍": 2,
      "❤️": 2,
      "🇫🇷": 2,
      "…": 1,
    };
    for (const [text, width] of Object.entries(known)) assertEquals(widthOf(text), width, text);
    assertEquals([cut("日本語", 6), cut("日本語", 5), cut("日本語", 4), cut("abc", 2)], [
      "日本語",
      "日本…",
      "日…",
      "a…",
    ]);
    assertEquals(widthOf(pad("日本", 7)), 7);
  });
});

describe("tables", () => {
  test("are as wide as their content, or as the terminal", async () => {
    const rows = [{ id: 1, waitMs: 90_000, payload: { text: "日本語 ".repeat(20) } }, {
      id: 22,
      waitMs: null,
      payload: "x",
    }];
    const wide = await printed({ data: rows }, TABLE);
    assertEquals(wide.split("\n")[0], "id  wait   payload");
    assert(wide.includes("\n22  -      x\n"), wide);
    for (const columns of [20, 40, 80, 200]) {
      const text = await printed({ data: rows }, { ...TABLE, columns });
      for (const line of text.split("\n")) assert(widthOf(line) <= Math.max(columns, 27), `${columns}: ${line}`);
    }
  });

  test("show the columns that are asked for, and nothing of an empty list", async () => {
    assertEquals(await printed({ data: [{ a: 1, b: 2 }], columns: ["b"] }, TABLE), "b\n2\n");
    assertEquals(await printed({ data: [], columns: ["b"] }, TABLE), "");
    assertEquals(await printed({ data: [], columns: ["b"] }, { ...TABLE, format: "json" }), "[]\n");
    assertEquals(
      await printed({ data: [{ a: 1, b: 2 }], columns: ["b"] }, { ...TABLE, format: "ndjson" }),
      '{"a":1,"b":2}\n',
    );
  });

  test("of many rows have one head, and lose nothing behind the first ones", async () => {
    const rows = Array.from({ length: 2_500 }, (_, id) => ({ id, text: "x" }));
    const lines = (await printed({ data: rows }, TABLE)).split("\n");
    assertEquals([lines.length, lines[0], lines[1], lines[2_500]], [2_502, "id   text", "0    x", "2499  x"]);
    assertEquals(JSON.parse(await printed({ data: rows }, { ...TABLE, format: "json" })), rows);
  });
});

test("lines are those of the bytes, however they come", async () => {
  const bytes = new TextEncoder().encode("ä\r\n\n日本\nlast");
  for (const size of [1, 2, 3, 100]) {
    const lines: [number, string][] = [];
    for await (const { number, text } of linesOf(inPieces(bytes, size), 10)) lines.push([number, text]);
    assertEquals(lines, [[1, "ä"], [2, ""], [3, "日本"], [4, "last"]]);
  }
  const failing: readonly Uint8Array[] = [new Uint8Array([0x61, 0x0a, 0xff]), new TextEncoder().encode("x".repeat(11))];
  for (const wrong of failing) {
    const error = await drain(linesOf(inPieces(wrong, 100), 10));
    assert(error instanceof NotTextError, String(error));
  }
});

test("a log tells what its level tells, and in a file when", () => {
  const lines: string[] = [];
  const hide = (words: string): string => words;
  const log = openLog({ level: "warn", write: (text) => void lines.push(text), isFile: false, hasColor: false, hide });
  for (const level of ["error", "warn", "info", "debug", "trace", "fail"] as const) log[level](`a\u001b${level}`);
  assertEquals(lines, ["error: a\\u001berror\n", "warning: a\\u001bwarn\n", "pgqrs: a\\u001bfail\n"]);
  const file: string[] = [];
  openLog({ level: "trace", write: (text) => void file.push(text), isFile: true, hasColor: false, hide }).info(
    "two\nlines",
  );
  assert(/^\d{4}-\d\d-\d\dT[\d:.]+Z INFO two\\u000alines\n$/.test(file.join("")), file.join(""));
});

async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < bytes.length; i += size) yield await Promise.resolve(bytes.subarray(i, i + size));
}

async function drain(stream: AsyncIterable<unknown>): Promise<unknown> {
  const items: unknown[] = [];
  try {
    for await (const item of stream) items.push(item);
  } catch (error) {
    return error;
  }
  return items;
}
