/** The checker of the kill test finds what is wrong. */
import { assertEquals } from "@std/assert";
import { test } from "node:test";
import type { ArchivedMessage } from "../mod.ts";
import { checkHistory, type Findings, type History } from "./support/history.ts";
import type { Dose } from "./support/poison.ts";

const GOOD: Dose = { n: 3, kind: "good" };
const THROWS: Dose = { n: 4, kind: "throws" };
const EXITS: Dose = { n: 5, kind: "exits" };

function ended(id: number, change: Partial<ArchivedMessage<Dose>>): ArchivedMessage<Dose> {
  const plain = { id, outcome: "succeeded", reason: null, attempts: 0, crashes: 0, error: null, result: { square: 9 } };
  return { ...plain, ...change } as ArchivedMessage<Dose>;
}

const dead = { outcome: "failed", result: null } as const;

/** One of each kind, as it should be. */
function rightHistory(): History {
  return {
    enqueued: new Map([[1, GOOD], [2, THROWS], [3, EXITS]]),
    lines: [
      "a begin 1 1 0",
      "a completed 1",
      "a begin 2 1 0",
      "a failed 2 1",
      "b begin 2 2 0",
      "b failed 2 2",
      "b dead 2 attempts",
      "a begin 3 1 0",
      "b begin 3 1 1",
      "c dead 3 crashes",
    ],
    archived: [
      ended(1, {}),
      ended(2, { ...dead, reason: "attempts", attempts: 2 }),
      ended(3, { ...dead, reason: "crashes", crashes: 2 }),
    ],
    live: [],
    maxAttempts: 2,
    maxCrashes: 2,
  };
}

function found(history: History): Partial<Record<keyof Findings, number>> {
  const counts = Object.entries(checkHistory(history)).map(([name, list]) => [name, list.length]);
  return Object.fromEntries(counts.filter(([, count]) => count !== 0));
}

function withLine(line: string): History {
  return { ...rightHistory(), lines: [...rightHistory().lines, line] };
}

function withEnding(id: number, change: Partial<ArchivedMessage<Dose>>): History {
  const history = rightHistory();
  return { ...history, archived: history.archived.map((one) => one.id === id ? { ...one, ...change } : one) };
}

test("checkHistory() finds nothing where nothing is wrong", () => {
  assertEquals(found(rightHistory()), {});
});

test("checkHistory() finds what is lost, twice there, or never enqueued", () => {
  const { archived, ...rest } = rightHistory();
  assertEquals(found({ ...rest, archived: archived.slice(1) }), { lost: 1 });
  assertEquals(found({ ...rest, archived: [...archived, ended(1, {})] }), { double: 1 });
  assertEquals(found({ ...rest, archived, live: [1] }), { double: 1, notes: 1 });
  assertEquals(found({ ...rest, archived: [...archived, ended(9, {})] }), { double: 1 });
});

test("checkHistory() finds good messages and poison that did not end as they should", () => {
  assertEquals(found(withEnding(1, { result: { square: 8 } })), { good: 1 });
  assertEquals(found(withEnding(1, { crashes: 2 })), { good: 1 });
  assertEquals(found(withEnding(2, { attempts: 1 })), { poison: 1, notes: 1 });
  assertEquals(found(withEnding(2, { reason: "crashes" })), { poison: 1, notes: 2 });
  assertEquals(found(withEnding(3, { crashes: 1 })), { poison: 1 });
  assertEquals(found(withEnding(3, { outcome: "succeeded" })), { poison: 1 });
});

test("checkHistory() finds what happened after a completion, counts that do not fit, and what was unheard", () => {
  assertEquals(found(withLine("b begin 1 1 0")), { again: 1 });
  assertEquals(found(withLine("b completed 1")), { again: 1, notes: 1 });
  assertEquals(found(withLine("b failed 2 2")), { notes: 2 });
  assertEquals(found(withLine("b dead 3 attempts")), { double: 1, notes: 1 });
  assertEquals(found(withLine("b unhandled Error")), { unhandled: 1 });
  const { lines, ...rest } = rightHistory();
  assertEquals(found({ ...rest, lines: lines.filter((line) => !/begin 3/.test(line)) }), { notes: 1 });
});
