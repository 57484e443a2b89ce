/** What `enqueue` and `enqueueMany` promise. */
import { assert, assertEquals, assertMatch, assertNotMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, test } from "node:test";
import { DatabaseError, type Message, NotFoundError, queue, type Schema } from "../../mod.ts";
import { type Context, inStore, inTime, type Scene, takeOne } from "./context.ts";

/** Defines the tests for one backend. */
export function producerContract(context: Context): void {
  describe(`producer on ${context.name}`, () => {
    storing(context);
    lists(context);
    options(context);
    typed(context);
  });
}

function storing(context: Context): void {
  test(
    "enqueue() resolves to the message as it is stored",
    inStore(context, async ({ store, producer }) => {
      await store.admin.queues.update("tasks", { maxAttempts: 3 });
      const options = { priority: 7, delayMs: 60_000, key: "k", headers: { type: "mail", lang: "de" } };
      const message = await producer.enqueue({ to: "ada" }, options);
      assertEquals(message, await store.admin.messages.get(message.id) as Message);
      assertEquals([message.state, message.priority, message.maxAttempts], ["delayed", 7, 3]);
      const plain = await producer.enqueue(null);
      assertEquals(plain, await store.admin.messages.get(plain.id) as Message);
      assertEquals([plain.state, plain.maxAttempts, plain.key], ["ready", 3, null]);
    }),
  );

  test(
    "enqueue() never gives an id twice, not even that of the last message when it was deleted",
    inStore(context, async ({ store, producer }) => {
      const first = await producer.enqueue(1);
      await store.admin.messages.delete(first.id);
      const second = await producer.enqueue(2);
      assert(second.id > first.id);
      await store.admin.queues.purge("tasks");
      await store.admin.archive.purge();
      assert((await producer.enqueue(3, { key: "k" })).id > second.id);
    }),
  );

  test(
    "enqueue() is accepted while the queue is paused",
    inStore(context, async ({ store, producer, consumer }) => {
      await store.admin.queues.pause("tasks");
      const { id } = await producer.enqueue(1);
      assertEquals(await consumer.dequeue(), []);
      await store.admin.queues.resume("tasks");
      assertEquals((await consumer.dequeue()).map((message) => message.id), [id]);
    }),
  );

  test(
    "enqueue() to an unknown queue is a NotFoundError with the line to write",
    inStore(context, async ({ store }) => {
      const producer = store.producer('no "such" queue');
      const line = 'store.admin.createQueue("no \\"such\\" queue")';
      await assertRejects(() => producer.enqueue(1), NotFoundError, line);
      await assertRejects(() => producer.enqueue(1, { key: "k" }), NotFoundError, line);
      await assertRejects(() => producer.enqueueMany([1, 2]), NotFoundError, line);
      await assertRejects(() => producer.enqueueMany([1, 2], { each: (n) => ({ key: `${n}` }) }), NotFoundError, line);
    }),
  );

  test(
    "enqueue() with an aborted signal rejects with its reason and stores nothing",
    inStore(context, async ({ store, producer }) => {
      const signal = AbortSignal.abort(new RangeError("enough"));
      await assertRejects(() => producer.enqueue(1, { signal }), RangeError, "enough");
      await assertRejects(() => producer.enqueueMany([1], { signal }), RangeError, "enough");
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );

  test(
    "producer() takes every name that fits in 255 bytes, and no other",
    inStore(context, async ({ store }) => {
      const odd = `"; drop table 'x' -- \\ ? $1 ${"é".repeat(110)}`;
      for (const name of [odd, "__proto__", "ß".repeat(127), "👩‍🚀"]) {
        await store.admin.createQueue(name);
        const { id } = await store.producer(name).enqueue({ name });
        const [message] = await store.consumer(name).dequeue();
        assertEquals([message?.id, message?.queue, message?.payload], [id, name, { name }]);
      }
      for (const name of ["", "ß".repeat(128), "a\0b", "\ud800"]) {
        let thrown: unknown;
        try {
          store.producer(name);
        } catch (error) {
          thrown = error;
        }
        assert(thrown instanceof TypeError || thrown instanceof RangeError, JSON.stringify(name));
      }
    }),
  );
}

function lists(context: Context): void {
  test(
    "enqueueMany() gives ids in the order of the list, in which it is delivered",
    inStore(context, async ({ producer, consumer }) => {
      const list = Array.from({ length: 300 }, (_, n) => ({ n }));
      const messages = await producer.enqueueMany(list);
      assertEquals(messages.map(({ payload }) => payload), list);
      const ids = messages.map(({ id }) => id);
      assertEquals(ids, ids.toSorted((a, b) => a - b));
      const delivered = await consumer.dequeue({ limit: 300 });
      assertEquals(delivered.map(({ id }) => id), ids);
      assertEquals(delivered.map(({ payload }) => payload), list);
    }),
  );

  test(
    "enqueueMany() stores 100 000 messages at once, in order",
    inStore(context, async ({ store, producer, consumer }) => {
      const messages = await producer.enqueueMany(Array.from({ length: 100_000 }, (_, n) => ({ n })));
      assertEquals(messages.length, 100_000);
      assert(messages.every(({ id }, i) => i === 0 || id > (messages[i - 1] as Message).id));
      assertEquals(await store.admin.messages.count({ queue: "tasks" }), 100_000);
      const last = await store.admin.messages.get(messages.at(-1)?.id ?? 0);
      assertEquals(last?.payload, { n: 99_999 });
      assertEquals((await consumer.dequeue({ limit: 3 })).map(({ payload }) => payload), [{ n: 0 }, { n: 1 }, {
        n: 2,
      }]);
    }),
  );

  test(
    "enqueueMany() stores nothing when one payload is refused, and names its place",
    inStore(context, async ({ store, producer }) => {
      const list: unknown[] = Array.from({ length: 1_500 }, (_, n) => ({ n }));
      list[1_400] = { deep: [1, { when: new Date(0) }] };
      await assertRejects(() => producer.enqueueMany(list), TypeError, "payloads[1400].deep[1].when");
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );

  test(
    "enqueueMany() stores nothing when one key is refused, and names its place",
    inStore(context, async ({ store, producer }) => {
      const { id } = await producer.enqueue("first", { key: "1400" });
      // Long enough for SQLite to insert it in several parts.
      const list = Array.from({ length: 1_500 }, (_, n) => n);
      const each = (n: number) => ({ key: { value: `${n}`, onConflict: "reject" as const } });
      const error = await assertRejects(() => producer.enqueueMany(list, { each: (n) => each(n as number) }));
      assertMatch(String(error), new RegExp(`StateError.*item 1400 belongs to message ${id}`));
      assertEquals(await store.admin.messages.count(), 1);
      // Nor is any of the other keys taken.
      const [fresh] = await producer.enqueueMany([7], { each: () => ({ key: "7" }) });
      assert((fresh as Message).id > id);
    }),
  );

  test(
    "enqueueMany() of nothing sends nothing",
    inStore(context, async ({ store, producer }) => {
      await store.close();
      assertEquals(await producer.enqueueMany([]), []);
    }),
  );

  test(
    "enqueueMany() takes what each() says over what is said of all",
    inStore(context, async ({ store, producer }) => {
      const messages = await producer.enqueueMany(["a", "b", "c"], {
        priority: 5,
        delayMs: 1_000,
        headers: { type: "x" },
        maxAttempts: 2,
        each: (_, i) =>
          i === 1
            ? { priority: 9, delayMs: 0, headers: { lang: "fr" }, maxAttempts: 8 }
            : { priority: undefined, maxAttempts: undefined } as never,
      });
      const stored = (await store.admin.messages.list()).items;
      assertEquals(messages, [...stored]);
      assertEquals(stored.map(({ priority }) => priority), [5, 9, 5]);
      assertEquals(stored.map(({ state }) => state), ["delayed", "ready", "delayed"]);
      assertEquals(stored.map(({ maxAttempts }) => maxAttempts), [2, 8, 2]);
      assertEquals(stored.map(({ headers }) => headers), [{ type: "x" }, { lang: "fr" }, { type: "x" }]);
    }),
  );

  test(
    "enqueueMany() refuses what is no list, and options of each() that it does not know",
    inStore(context, async ({ store, producer }) => {
      await assertRejects(() => producer.enqueueMany("ab" as never), TypeError, "must be an array");
      const each = () => ({ prority: 1 } as never);
      await assertRejects(() => producer.enqueueMany([1], { each }), TypeError, 'did you mean "priority"?');
      await assertRejects(() => producer.enqueueMany([1], { key: "k" } as never), TypeError, 'unknown option "key"');
      const thrower = () => {
        throw new EvalError("mine");
      };
      await assertRejects(() => producer.enqueueMany([1], { each: thrower }), EvalError, "mine");
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );
}

function options(context: Context): void {
  test(
    "enqueue() with delayMs or at is delivered at that instant and not before",
    inTime(context, async ({ producer, consumer, clock }) => {
      const delayed = await producer.enqueue("delayed", { delayMs: 1_000 });
      const dated = await producer.enqueue("dated", { at: new Date(clock.now + 2_000) });
      const past = await producer.enqueue("past", { at: new Date(clock.now - 5_000) });
      assertEquals([delayed.state, dated.state, past.state], ["delayed", "delayed", "ready"]);
      assertEquals(dated.visibleAt, new Date(clock.now + 2_000));
      const ids = async () => (await consumer.dequeue({ limit: 9 })).map(({ id }) => id);
      assertEquals(await ids(), [past.id]);
      clock.advance(999);
      assertEquals(await ids(), []);
      clock.advance(1);
      assertEquals(await ids(), [delayed.id]);
      clock.advance(999);
      assertEquals(await ids(), []);
      clock.advance(1);
      assertEquals(await ids(), [dated.id]);
    }),
  );

  test(
    "enqueue() keeps an instant to the millisecond, up to the end of the year 9999",
    inStore(context, async ({ store, producer }) => {
      const last = Date.UTC(9999, 11, 31, 23, 59, 59, 999);
      // A float of seconds is off by a millisecond for some of these.
      const near = Array.from({ length: 60 }, (_, i) => last - 7 * i ** 3);
      const instants = [last, Date.UTC(2301, 1, 3, 4, 5, 6, 789), 0, 1, 1e12 + 1, ...near];
      const messages = await producer.enqueueMany(instants, { each: (ms) => ({ at: new Date(ms as number) }) });
      const single = await producer.enqueue(0, { at: new Date(instants[0] as number) });
      const common = await producer.enqueueMany([1, 2], { at: new Date(instants[1] as number) });
      const all = [...messages, single, ...common];
      const stored = await Promise.all(all.map(({ id }) => store.admin.messages.get(id)));
      const expected = [...instants, instants[0], instants[1], instants[1]];
      assertEquals(all.map(({ visibleAt }) => visibleAt.getTime()), expected as number[]);
      assertEquals(stored.map((message) => message?.visibleAt.getTime()), expected);
    }),
  );

  test(
    "enqueue() refuses times that no database can keep",
    inStore(context, async ({ store, producer }) => {
      for (const delayMs of [-1, 0.5, NaN, Infinity, 2 ** 53, "1" as never, null as never]) {
        await assertRejects(() => producer.enqueue(1, { delayMs }), RangeError, "delayMs");
      }
      for (const at of [new Date(NaN), 0 as never, "2030-01-01" as never, null as never]) {
        await assertRejects(() => producer.enqueue(1, { at }), TypeError, "valid Date");
      }
      for (const at of [new Date(-1), new Date(Date.UTC(10_000, 0))]) {
        await assertRejects(() => producer.enqueue(1, { at }), RangeError, "1970 and 9999");
      }
      await assertRejects(() => producer.enqueue(1, { at: new Date(), delayMs: 0 }), TypeError, "together");
      assertEquals(await store.admin.messages.count(), 0);
      const century = await producer.enqueue(1, { delayMs: 3_155_760_000_000 });
      assertEquals(century.visibleAt.getTime() - century.enqueuedAt.getTime(), 3_155_760_000_000);
    }),
  );

  test(
    "enqueue() takes priorities from 0 to 9 and delivers the larger first",
    inStore(context, async ({ producer, consumer }) => {
      for (const priority of [-1, 10, 1.5, NaN, "5" as never, null as never]) {
        await assertRejects(() => producer.enqueue(1, { priority }), RangeError, "priority");
      }
      await producer.enqueueMany([0, 9, 3, 5, 9, 1], { each: (priority) => ({ priority: priority as number }) });
      const delivered = await consumer.dequeue({ limit: 10 });
      assertEquals(delivered.map(({ payload }) => payload), [9, 9, 5, 3, 1, 0]);
      assertEquals(delivered.map(({ priority }) => priority), [9, 9, 5, 3, 1, 0]);
    }),
  );

  test(
    "enqueue() keeps headers exactly, and refuses those that are not text",
    inStore(context, async ({ store, producer, consumer }) => {
      const headers = { type: "a'b\"c", "": "empty", "ключ": "значение", $1: "?1", "a.b": "\\u0000" };
      await producer.enqueue(1, { headers });
      await producer.enqueueMany([2], { headers });
      await producer.enqueueMany([3], { each: () => ({ headers }) });
      const messages = await consumer.dequeue({ limit: 3, type: "a'b\"c" });
      assertEquals(messages.map((message) => message.headers), [headers, headers, headers]);
      for (
        const bad of [{ n: 1 }, { n: null }, { n: "\0" }, { n: "\ud800" }, { n: "x".repeat(16_385) }, null, "type"]
      ) {
        await assertRejects(() => producer.enqueue(1, { headers: bad as never }), Error, "headers");
      }
      assertEquals(await store.admin.messages.count(), 3);
    }),
  );

  test(
    "enqueue() takes maxAttempts from 1 to 10 000",
    inStore(context, async ({ store, producer, consumer }) => {
      for (const maxAttempts of [0, -1, 10_001, 1.5, null as never]) {
        await assertRejects(() => producer.enqueue(1, { maxAttempts }), RangeError, "maxAttempts");
      }
      const { id } = await producer.enqueue(1, { maxAttempts: 1 });
      const message = await takeOne(consumer);
      assertEquals(message.maxAttempts, 1);
      assert(await consumer.fail(message, new Error("no")));
      assertEquals((await store.admin.archive.get(id))?.outcome, "failed");
    }),
  );

  test(
    "enqueue() names the option that was probably meant",
    inStore(context, async ({ producer }) => {
      const wrong = { prority: "priority", delay: "delayMs", maxattempts: "maxAttempts", timeout: "timeoutMs" };
      for (const [name, meant] of Object.entries(wrong)) {
        const error = await assertRejects(() => producer.enqueue(1, { [name]: 1 }), TypeError);
        assertStringIncludes(error.message, `unknown option "${name}"; did you mean "${meant}"?`);
      }
      await assertRejects(() => producer.enqueue(1, { zzzzzzzzz: 1 } as never), TypeError, "known are");
      await assertRejects(() => producer.enqueue(1, [] as never), TypeError, "must be an object");
    }),
  );
}

/** A schema that wants `to` to be an address and adds what is missing, as zod or valibot would. */
function mailSchema(isAsync: boolean): Schema<{ to: string; copies?: number }> {
  const validate = (value: unknown) => {
    const { to } = value as { to?: unknown };
    if (typeof to === "string" && to.includes("@")) return { value: { to, copies: 1 } };
    const issues = [
      { message: `${JSON.stringify(to)} is no address`, path: ["to"] },
      { message: `in ${JSON.stringify(value)}`, path: [{ key: "list" }, 0] },
    ];
    return { issues };
  };
  return {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: isAsync ? (value) => Promise.resolve().then(() => validate(value)) : validate,
    },
  };
}

async function checkTyped({ store }: Scene, isAsync: boolean): Promise<void> {
  const mails = queue("tasks", { schema: mailSchema(isAsync) });
  const producer = store.producer(mails);
  const message = await producer.enqueue({ to: "ada@example.com" });
  assertEquals(message.payload, { to: "ada@example.com", copies: 1 });
  assertEquals((await store.admin.messages.get(message.id))?.payload, { to: "ada@example.com", copies: 1 });
  for (
    const send of [() => producer.enqueue({ to: "s3cret" }), () => producer.enqueue({ to: "s3cret" }, { key: "k" })]
  ) {
    const error = await assertRejects(send, TypeError);
    assertStringIncludes(error.message, 'Cannot enqueue to "tasks": payload.to, payload.list.0 does not fit');
    assertNotMatch(`${error.message} ${error.stack} ${String(error.cause)}`, /s3cret/);
  }
  const list = [{ to: "bob@example.com" }, { to: "s3cret" }];
  const error = await assertRejects(() => producer.enqueueMany(list), TypeError, "payloads[1].to");
  assertNotMatch(`${error.message} ${error.stack}`, /s3cret/);
  assertEquals(await store.admin.messages.count(), 1);
}

function typed(context: Context): void {
  test("enqueue() to a typed queue stores what its schema gives back", inStore(context, (s) => checkTyped(s, false)));
  test("enqueue() waits for a schema that answers later", inStore(context, (scene) => checkTyped(scene, true)));

  test(
    "enqueue() ends by its deadline or signal when the schema never answers, and nothing is stored",
    inStore(context, async ({ store }) => {
      const validate = (): Promise<never> => new Promise(() => {});
      const silent = store.producer(
        queue("tasks", { schema: { "~standard": { version: 1, vendor: "test", validate } } }),
      );
      const late = await assertRejects(
        () => silent.enqueue({}, { timeoutMs: 20 }),
        DatabaseError,
        "schema did not answer",
      );
      assertEquals([late.outcome, late.reason], ["not_applied", "timeout"]);
      const controller = new AbortController();
      const aborted = assertRejects(() => silent.enqueueMany([1], { signal: controller.signal }), DatabaseError);
      controller.abort();
      assertEquals((await aborted).reason, "aborted");
      assertEquals(await store.admin.messages.count(), 0);
    }),
  );

  test(
    "enqueue() keeps to the limits of a typed queue",
    inStore(context, async ({ store }) => {
      const small = store.producer(queue<unknown>("tasks", { maxBytes: 10, maxDepth: 2 }));
      await small.enqueue("x".repeat(8));
      await assertRejects(() => small.enqueue("x".repeat(9)), RangeError, "limit is 10");
      await small.enqueue([[]]);
      await assertRejects(() => small.enqueue([[[]]]), RangeError, "deeper than 2 levels");
      assertEquals(await store.admin.messages.count(), 2);
    }),
  );
}
