/** The combiner by itself: what leaves together, in which order, and who suffers for whom. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";

import { type BatchLimits, type Combination, Combiner } from "../src/combine.ts";
import { DatabaseError } from "../src/errors.ts";

/** A statement that was sent, which the test answers. */
interface Sent {
  readonly items: readonly string[];
  readonly limits: BatchLimits;
  /** Answers each item with itself and the number of the statement. */
  answer(): void;
  fail(error: unknown): void;
}

/** A combiner, and a database that answers when it is told to. */
class Arena {
  readonly sent: Sent[] = [];
  /** How often the combiner had nothing left to do. */
  rests = 0;
  readonly combiner: Combiner<string, string>;
  #tell = (): void => {};

  constructor(kind: Partial<Combination<string, string>> = {}) {
    const whole = { statement: "test", isSynchronous: false, lengthOf: (item: string) => item.length };
    const send = (items: readonly string[], limits: BatchLimits) => this.#send(items, limits);
    const size = { items: 4, length: 20 };
    this.combiner = new Combiner<string, string>({ ...whole, send, ...kind }, () => this.rests++, size);
  }

  /** Makes a call, by default with all the time in the world. */
  add(item: string, { ms = 600_000, signal }: { ms?: number; signal?: AbortSignal } = {}): Promise<string> {
    return this.combiner.add(item, { deadline: performance.now() + ms, signal });
  }

  /** What has been sent, without the limits. */
  get batches(): string[] {
    return this.sent.map(({ items }) => items.join(" "));
  }

  /** Waits for the statement of this number, counted from zero. */
  async statement(index: number): Promise<Sent> {
    while (this.sent.length <= index) await new Promise<void>((resolve) => this.#tell = resolve);
    return this.sent[index] as Sent;
  }

  /** Answers the statements of these numbers, one after the other. */
  async answer(...indexes: number[]): Promise<void> {
    for (const index of indexes) (await this.statement(index)).answer();
  }

  #send(items: readonly string[], limits: BatchLimits): Promise<string[]> {
    const number = this.sent.length;
    return new Promise((resolve, reject) => {
      const answer = (): void => resolve(items.map((item) => `${item}@${number}`));
      this.sent.push({ items, limits, answer, fail: reject });
      this.#tell();
    });
  }
}

/** Lets everything run that is ready to run. */
function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

function failure(sqlState: string, outcome: "not_applied" | "unknown" = "not_applied"): DatabaseError {
  const reason = outcome === "unknown" ? "connection" : sqlState.startsWith("23") ? "constraint" : "server";
  return new DatabaseError(`failed with ${sqlState}`, { outcome, reason, sqlState, statement: "test" });
}

async function assertDatabaseError(
  call: Promise<unknown>,
  outcome: DatabaseError["outcome"],
  reason: DatabaseError["reason"],
): Promise<void> {
  const error = await assertRejects(() => call, DatabaseError);
  assertEquals([error.outcome, error.reason, error.statement], [outcome, reason, "test"]);
}

describe("Combiner gathers", () => {
  test("a lone call leaves before any timer or socket has its turn", async () => {
    const arena = new Arena();
    let hasTurned = false;
    setTimeout(() => hasTurned = true, 0);
    const call = arena.add("a");
    await arena.statement(0);
    assert(!hasTurned);
    await arena.answer(0);
    assertEquals(await call, "a@0");
    await settle();
    assertEquals(arena.rests, 1);
  });

  test("calls of one breath leave together, and those that come meanwhile as the next statement, in their order", async () => {
    const arena = new Arena();
    const first = ["a", "b"].map((item) => arena.add(item));
    await arena.statement(0);
    const later = ["c", "d", "e"].map((item) => arena.add(item));
    await settle();
    assertEquals(arena.batches, ["a b"]);
    await arena.answer(0, 1);
    assertEquals(await Promise.all([...first, ...later]), ["a@0", "b@0", "c@1", "d@1", "e@1"]);
    assertEquals(arena.batches, ["a b", "c d e"]);
  });

  test("a call resolves only when its own statement has been answered", async () => {
    const arena = new Arena();
    const ended: string[] = [];
    const note = (result: string) => ended.push(result);
    const calls = [arena.add("a").then(note)];
    await arena.statement(0);
    calls.push(arena.add("b").then(note));
    await arena.answer(0);
    await arena.statement(1);
    await settle();
    assertEquals(ended, ["a@0"]);
    await arena.answer(1);
    await Promise.all(calls);
    assertEquals(ended, ["a@0", "b@1"]);
  });

  test("calls on a synchronous database wait for the turn of the event loop, and leave together", async () => {
    const arena = new Arena({ isSynchronous: true });
    const calls = [arena.add("a")];
    await Promise.resolve();
    assertEquals(arena.batches, []);
    calls.push(arena.add("b"));
    await arena.answer(0);
    // Who calls again because of the answer is not sent alone, ahead of the others who got one.
    await calls[0];
    calls.push(arena.add("c"));
    await calls[1];
    calls.push(arena.add("d"));
    await arena.answer(1);
    await Promise.all(calls);
    assertEquals(arena.batches, ["a b", "c d"]);
  });

  test("no statement has more items or text than allowed, except for a call that has more by itself", async () => {
    const arena = new Arena({ countOf: (item) => item.startsWith("#") ? 3 : 1 });
    const calls = ["a", "b", "c", "d", "e", "#f", "#g", "x".repeat(30), "y".repeat(15), "z".repeat(6)]
      .map((item) => arena.add(item));
    await arena.answer(0, 1, 2, 3, 4, 5);
    await Promise.all(calls);
    const wide = ["x".repeat(30), "y".repeat(15), "z".repeat(6)];
    assertEquals(arena.batches, ["a b c d", "e #f", "#g", ...wide]);
  });

  test("calls about the same thing do not travel together and keep their order; others pass by", async () => {
    const arena = new Arena({ keysOf: (item) => [...item.slice(1)] });
    const calls = ["1k", "2k", "3m", "4km", "5m", "6n"].map((item) => arena.add(item));
    await arena.answer(0, 1, 2, 3);
    await Promise.all(calls);
    assertEquals(arena.batches, ["1k 3m 6n", "2k", "4km", "5m"]);
  });

  test("calls that are the same get the answer of one, unless another about the same thing came in between", async () => {
    const arena = new Arena({ keysOf: (item) => [item[1] as string], isSame: (a, b) => a.slice(1) === b.slice(1) });
    const calls = ["1k", "2k", "3k!", "4k", "5m"].map((item) => arena.add(item));
    await arena.answer(0, 1, 2);
    assertEquals(await Promise.all(calls), ["1k@0", "1k@0", "3k!@1", "4k@2", "5m@0"]);
  });
});

describe("Combiner tells each caller", () => {
  test("an item that the statement refuses fails alone", async () => {
    const refused = new RangeError("no");
    const arena = new Arena({ send: (items) => Promise.resolve(items.map((item) => item === "b" ? refused : item)) });
    const results = await Promise.allSettled(["a", "b", "c"].map((item) => arena.add(item)));
    assertEquals(results.map((one) => one.status === "rejected" ? one.reason : one.value), ["a", refused, "c"]);
  });

  for (const sqlState of ["22P02", "23514"]) {
    test(`an item that makes the statement fail with ${sqlState} fails alone, found by halving`, async () => {
      const sent: string[] = [];
      const poison = failure(sqlState);
      const arena = new Arena({
        send(items) {
          sent.push(items.join(" "));
          return items.includes("c") ? Promise.reject(poison) : Promise.resolve([...items]);
        },
      });
      const results = await Promise.allSettled(["a", "b", "c", "d"].map((item) => arena.add(item)));
      assertEquals(results.map((one) => one.status === "rejected" ? one.reason : one.value), ["a", "b", poison, "d"]);
      assertEquals(sent, ["a b c d", "a b", "c d", "c", "d"]);
    });
  }

  for (const error of [failure("08006", "unknown"), failure("23514", "unknown"), failure("57014"), new Error("lost")]) {
    const what = error instanceof DatabaseError ? `${error.sqlState}, ${error.outcome}` : "not of the database";
    test(`an error that is nobody's own (${what}) is told to all, and nothing is sent again`, async () => {
      const arena = new Arena();
      const calls = ["a", "b", "c"].map((item) => arena.add(item));
      (await arena.statement(0)).fail(error);
      const results = await Promise.allSettled(calls);
      assertEquals(results.map((one) => one.status === "rejected" ? one.reason : "ok"), [error, error, error]);
      await settle();
      assertEquals([arena.batches, arena.rests], [["a b c"], 1]);
    });
  }

  test("an error is told to those who were sent, and those who came meanwhile are sent", async () => {
    const arena = new Arena();
    const first = arena.add("a");
    const sent = await arena.statement(0);
    const later = arena.add("b");
    sent.fail(failure("08006", "unknown"));
    await assertDatabaseError(first, "unknown", "connection");
    await arena.answer(1);
    assertEquals(await later, "b@1");
  });
});

describe("Combiner ends the wait of a call", () => {
  test("whose signal or deadline comes before it was sent as not applied, and never sends it", async () => {
    const arena = new Arena();
    const stop = new AbortController();
    const first = arena.add("a");
    await arena.statement(0);
    const calls = [arena.add("b", { signal: stop.signal }), arena.add("c", { ms: 1 }), arena.add("d")] as const;
    stop.abort();
    await assertDatabaseError(calls[0], "not_applied", "aborted");
    await assertDatabaseError(calls[1], "not_applied", "timeout");
    await arena.answer(0, 1);
    assertEquals(await Promise.all([first, calls[2]]), ["a@0", "d@1"]);
    assertEquals(arena.batches, ["a", "d"]);
  });

  test("whose signal or deadline comes after it was sent as unknown, and leaves the others alone", async () => {
    const arena = new Arena();
    const stop = new AbortController();
    const calls = [arena.add("a", { signal: stop.signal }), arena.add("b", { ms: 1 }), arena.add("c")] as const;
    const { limits } = await arena.statement(0);
    stop.abort();
    await assertDatabaseError(calls[0], "unknown", "aborted");
    await assertDatabaseError(calls[1], "unknown", "timeout");
    assert(limits.signal?.aborted === false);
    await arena.answer(0);
    assertEquals(await calls[2], "c@0");
  });

  test("and gives the statement up when nobody waits for it any more", async () => {
    const arena = new Arena();
    const stop = new AbortController();
    const calls = [arena.add("a", { signal: stop.signal }), arena.add("b", { ms: 1 })] as const;
    const { limits, fail } = await arena.statement(0);
    await assertDatabaseError(calls[1], "unknown", "timeout");
    stop.abort();
    await assertDatabaseError(calls[0], "unknown", "aborted");
    assert(limits.signal?.aborted);
    fail(new Error("given up"));
    await settle();
    assertEquals(arena.rests, 1);
  });

  test("that is alone by the limits of its statement", async () => {
    const arena = new Arena();
    const { signal } = new AbortController();
    const deadline = performance.now() + 600_000;
    const call = arena.combiner.add("a", { deadline, signal });
    const { limits } = await arena.statement(0);
    assertEquals([limits.deadline, limits.signal === signal], [deadline, true]);
    await arena.answer(0);
    await call;
  });

  test("by the latest deadline when there are several, none of which is passed on to another statement", async () => {
    const arena = new Arena();
    const [one, two] = [performance.now() + 600_000, performance.now() + 900_000];
    const calls = [one, two].map((deadline, i) => arena.combiner.add(`${i}`, { deadline }));
    assertEquals((await arena.statement(0)).limits.deadline, two);
    const last = arena.combiner.add("2", { deadline: one });
    await arena.answer(0);
    assertEquals((await arena.statement(1)).limits.deadline, one);
    await arena.answer(1);
    await Promise.all([...calls, last]);
  });

  test("that gave up while the statement failed because of another, and does not send it again", async () => {
    const arena = new Arena();
    const stop = new AbortController();
    const calls = [arena.add("a"), arena.add("b", { signal: stop.signal }), arena.add("c")] as const;
    const sent = await arena.statement(0);
    stop.abort();
    await assertDatabaseError(calls[1], "unknown", "aborted");
    sent.fail(failure("23505"));
    await arena.answer(1, 2);
    assertEquals(await Promise.all([calls[0], calls[2]]), ["a@1", "c@2"]);
    assertEquals(arena.batches, ["a b c", "a", "c"]);
  });
});

describe("Combiner with patience", () => {
  test("sends those alone that wait for a lock, in nobody's way", async () => {
    const arena = new Arena({ patienceMs: 500 });
    const calls = ["a", "b", "c", "d"].map((item) => arena.add(item));
    const all = await arena.statement(0);
    assertEquals(all.limits.patienceMs, 500);
    all.fail(failure("55P03"));
    (await arena.statement(1)).fail(failure("55P03"));
    // Both are alone now, and wait as long as it takes; the rest goes on meanwhile.
    const alone = [await arena.statement(2), await arena.statement(3)];
    assertEquals(alone.map(({ limits }) => limits.patienceMs), [undefined, undefined]);
    (await arena.statement(4)).answer();
    assertEquals(await Promise.all([calls[2], calls[3]]), ["c@4", "d@4"]);
    const next = arena.add("e");
    await arena.answer(5);
    assertEquals(await next, "e@5");
    for (const { answer } of alone) answer();
    assertEquals(await Promise.all([calls[0], calls[1]]), ["a@2", "b@3"]);
    assertEquals(arena.batches, ["a b c d", "a b", "a", "b", "c d", "e"]);
  });

  test("lets the next statement leave when a lone one has no answer for so long", async () => {
    const arena = new Arena({ patienceMs: 1 });
    const held = arena.add("a");
    await arena.statement(0);
    const next = arena.add("b");
    await arena.answer(1);
    assertEquals(await next, "b@1");
    await arena.answer(0);
    assertEquals(await held, "a@0");
  });

  test("and without it, nothing overtakes a statement", async () => {
    const arena = new Arena();
    const held = arena.add("a");
    await arena.statement(0);
    const next = arena.add("b");
    await new Promise((resolve) => setTimeout(resolve, 5));
    assertEquals(arena.batches, ["a"]);
    await arena.answer(0, 1);
    await Promise.all([held, next]);
  });
});
