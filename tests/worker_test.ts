/** The pure parts of a worker: how much it claims ahead, who gets the next place, what is known of a queue, pauses. */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import { type Backoff, RetryError } from "../mod.ts";
import { delayAfter } from "../src/retry.ts";
import type { Exchange } from "../src/sql/leases.ts";
import { Outlook } from "../src/worker/outlook.ts";
import { Prefetch } from "../src/worker/prefetch.ts";
import { Slots } from "../src/worker/slots.ts";
import { startProcess } from "./support/processes.ts";

/** Lets some messages be handled in each of some steps of 10 ms, and tells how many are to be held then. */
function targetAfter(steps: number, perStep: number, most = 500): number {
  const prefetch = new Prefetch(most, 0);
  for (let step = 1; step <= steps; step++) {
    for (let i = 0; i < perStep; i++) prefetch.count();
    prefetch.observe(step * 10);
  }
  return prefetch.target;
}

describe("Prefetch", () => {
  test("holds nothing before anything was handled, and nothing of slow jobs", () => {
    assertEquals(targetAfter(0, 0), 0);
    assertEquals(targetAfter(100, 0), 0);
    const slow = new Prefetch(500, 0);
    slow.count();
    slow.observe(5_000);
    assertEquals(slow.target, 0);
  });

  test("holds what lasts for some milliseconds, in proportion, and never more than it may", () => {
    const [some, more] = [targetAfter(20, 10), targetAfter(20, 20)];
    assert(some > 10 && some < 400, `${some}`);
    assert(Math.abs(more - 2 * some) <= 2, `${some} ${more}`);
    assertEquals(targetAfter(20, 10_000), 500);
    assertEquals(targetAfter(20, 10_000, 7), 7);
    assertEquals(targetAfter(20, 10_000, 0), 0);
  });

  test("forgets a burst soon", () => {
    const prefetch = new Prefetch(500, 0);
    for (let i = 0; i < 1_000; i++) prefetch.count();
    prefetch.observe(10);
    assertEquals(prefetch.target, 500);
    for (let step = 2; step < 25; step++) prefetch.observe(step * 10);
    assertEquals(prefetch.target, 0);
  });

  test("does not take two looks in the same millisecond for a measurement", () => {
    const prefetch = new Prefetch(500, 0);
    for (let i = 0; i < 5; i++) prefetch.count();
    prefetch.observe(0.1);
    assertEquals(prefetch.target, 0);
    prefetch.observe(50);
    assert(prefetch.target > 0 && prefetch.target < 10, `${prefetch.target}`);
  });
});

describe("Slots", () => {
  /** Somebody who wants so many places, and notes each that it gets. */
  function wanting(slots: Slots, name: string, got: string[], count: number): () => boolean {
    const turn = (): boolean => {
      let hasTaken = false;
      while (count > 0 && slots.take(turn)) {
        count--;
        hasTaken = true;
        got.push(name);
      }
      return hasTaken;
    };
    return turn;
  }

  test("give() calls in turn those who found no place, each for as many as there are", () => {
    const slots = new Slots(1);
    const got: string[] = [];
    for (const [name, count] of [["a", 3], ["b", 2], ["c", 1]] as const) wanting(slots, name, got, count)();
    assertEquals([got.splice(0), slots.free], [["a"], 0]);
    for (let i = 0; i < 5; i++) slots.give();
    assertEquals([got, slots.free], [["a", "b", "c", "a", "b"], 0]);
    slots.give();
    assertEquals([got.length, slots.free], [5, 1]);
  });

  test("who takes no place when called has left the line, and does not keep others waiting", () => {
    const slots = new Slots(0);
    const got: string[] = [];
    slots.take(() => false);
    wanting(slots, "b", got, 1)();
    slots.give();
    assertEquals(got, ["b"]);
    slots.give();
    assertEquals(slots.free, 1);
  });

  test("a place that is given back inside a turn goes to the next in line, without recursion", () => {
    const slots = new Slots(0);
    let left = 100_000;
    let depth = 0;
    let deepest = 0;
    const order: string[] = [];
    const turnOf = (name: string): () => boolean => {
      const turn = (): boolean => {
        if (left === 0 || !slots.take(turn)) return false;
        deepest = Math.max(deepest, ++depth);
        if (order.length < 6) order.push(name);
        left--;
        slots.take(turn);
        slots.give();
        depth--;
        return true;
      };
      return turn;
    };
    for (const name of ["a", "b", "c"]) slots.take(turnOf(name));
    slots.give();
    assertEquals([left, deepest, order, slots.free], [0, 1, ["a", "b", "c", "a", "b", "c"], 1]);
  });

  test("takeSome() takes what is free and no more", () => {
    const slots = new Slots(3);
    assertEquals([slots.takeSome(2), slots.takeSome(2), slots.takeSome(1), slots.takeSome(-1)], [2, 1, 0, 0]);
    slots.give(3);
    assertEquals(slots.free, 3);
  });
});

describe("Outlook", () => {
  const found = (count: number, nextMs: number | null = null): Exchange => ({
    settled: new Set(),
    claimed: Array.from({ length: count }, () => ({}) as never),
    ended: [],
    nextMs,
    isFull: undefined,
  });

  test("a claim that finds less than it asked for tells that the queue is empty, and until when", () => {
    const outlook = new Outlook();
    outlook.answers(found(5, 100), 5, 1_000);
    assertEquals(outlook.isDry, false);
    outlook.answers(found(4, 100), 5, 1_000);
    assertEquals([outlook.isDry, outlook.dueAt], [true, 1_100]);
    outlook.wake(undefined);
    assertEquals([outlook.isDry, outlook.dueAt], [false, Infinity]);
    outlook.answers(found(0), 5, 2_000);
    assertEquals([outlook.isDry, outlook.dueAt], [true, Infinity]);
  });

  test("a hint that comes while claims are under way is newer than what any of them saw", () => {
    const outlook = new Outlook();
    // Two claims are sent, at 10 and at 20, and the hint comes before either has an answer.
    outlook.wake(30);
    outlook.answers(found(0), 5, 10);
    outlook.answers(found(0), 5, 20);
    assertEquals(outlook.isDry, false);
    outlook.answers(found(0), 5, 40);
    assertEquals(outlook.isDry, true);
  });

  test("the due time of a claim that was sent after a look stays when the look is answered later", () => {
    const outlook = new Outlook();
    outlook.answers(found(0), 5, 10);
    // A look is sent at 20. Before it is answered a message is enqueued with a delay, and a claim finds that out.
    outlook.wake(undefined);
    outlook.answers(found(0, 50), 5, 30);
    outlook.isDueAt(Infinity, 20);
    assertEquals(outlook.dueAt, 80);
    outlook.isDueAt(Infinity, 100);
    assertEquals(outlook.dueAt, Infinity);
  });

  test("what is given back while a claim is under way is due no later for it", () => {
    const outlook = new Outlook();
    outlook.asks();
    outlook.expect(50);
    outlook.answers(found(0, 1_000), 5, 0);
    assertEquals(outlook.dueAt, 50);
    outlook.isDueAt(2_000, 0);
    assertEquals(outlook.dueAt, 50);
    outlook.asks();
    outlook.answers(found(0, 1_000), 5, 0);
    outlook.isDueAt(3_000, 0);
    assertEquals(outlook.dueAt, 3_000);
  });
});

describe("delayAfter()", () => {
  test("reads a policy or calls a function with the error and the attempt, and rounds", () => {
    const error = new RetryError("no");
    assertEquals([1, 2, 3].map((n) => delayAfter({ baseMs: 10, jitter: 0 }, error, n)), [10, 20, 40]);
    assertEquals(delayAfter((reason, attempt) => reason === error ? attempt * 1.4 : 0, error, 2), 3);
    assertEquals(delayAfter(() => 0, error, 1), 0);
  });

  test("what is no policy or no duration leaves the usual pause", () => {
    const wrong = [
      () => NaN,
      () => 1e15,
      () => Promise.resolve(5),
      () => {
        throw new Error("no");
      },
      { kind: "of a later release" },
      { baseMs: "10" },
      5,
    ] as never[];
    for (const backoff of [...wrong, undefined] as (Backoff | undefined)[]) {
      const ms = delayAfter(backoff, new Error("no"), 3);
      assert(ms >= 3_000 && ms <= 5_000, `${String(backoff)} ${ms}`);
    }
  });
});

test("a process ends by itself when its worker has: no timer, no connection is left", async () => {
  const file = new URL("./support/worker_end_process.ts", import.meta.url);
  await using child = startProcess(file);
  assertEquals(await child.exited, { code: 0, signal: null }, child.stderr);
  assertEquals(child.stdout.trim(), "drained 3");
});
