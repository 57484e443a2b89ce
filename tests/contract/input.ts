/** What every role promises of what it is given: what cannot be meant is refused, and `undefined` means not given. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { connect, queue } from "../../mod.ts";
import { type Context, inStore, type Scene } from "./context.ts";

/** Defines the tests for one backend. */
export function inputContract(context: Context): void {
  describe(`input on ${context.name}`, () => {
    filters(context);
    omissions(context);
    limits(context);
    switches(context);
    payloads(context);
  });
}

/** What a fragment of a statement looks like: it would match everything. */
const FRAGMENT = { kind: "fragment", strings: ["'zz' or true"], values: [] };

/** A call with an argument that its types do not allow, as a caller without types would make it. */
type Call = (given: never) => Promise<unknown>;

/** Every call that takes limits and nothing else beside its subject. */
function limitCalls({ store, consumer }: Scene): Record<string, Call> {
  const { archive, dead, messages, queues, workers } = store.admin;
  return {
    "messages.get": (given) => messages.get(1, given),
    "archive.get": (given) => archive.get(1, given),
    "archive.replay": (given) => archive.replay(1, given),
    "dead.replay": (given) => dead.replay([1], given),
    "queues.get": (given) => queues.get("tasks", given),
    "queues.list": (given) => queues.list(given),
    "queues.update": (given) => queues.update("tasks", { maxAttempts: 7 }, given),
    "queues.pause": (given) => queues.pause("tasks", given),
    "queues.resume": (given) => queues.resume("tasks", given),
    "workers.list": (given) => workers.list(given),
    "workers.get": (given) => workers.get("ann", given),
    "workers.stats": (given) => workers.stats(given),
    "workers.pause": (given) => workers.pause("ann", given),
    "workers.resume": (given) => workers.resume("ann", given),
    "workers.release": (given) => workers.release("ann", given),
    "metrics": (given) => store.admin.metrics("tasks", given),
    "ping": (given) => store.ping(given),
    "extend": (given) => consumer.extend(1, 1_000, given),
  };
}

/** Calls that take limits among other options. */
function optionCalls({ store, producer, consumer }: Scene): Record<string, Call> {
  const { archive, dead, messages } = store.admin;
  return {
    "messages.list": (given) => messages.list(given),
    "messages.count": (given) => messages.count(given),
    "messages.cancel": (given) => messages.cancel(1, given),
    "messages.release": (given) => messages.release(1, given),
    "archive.list": (given) => archive.list(given),
    "dead.count": (given) => dead.count(given),
    "dead.purge": (given) => dead.purge(given),
    "workers.purge": (given) => store.admin.workers.purge(given),
    "createQueue": (given) => store.admin.createQueue("new", given),
    "deleteQueue": (given) => store.admin.queues.delete("tasks", given),
    "purgeQueue": (given) => store.admin.queues.purge("tasks", given),
    "enqueue": (given) => producer.enqueue(1, given),
    "dequeue": (given) => consumer.dequeue(given),
    "archive": (given) => consumer.archive(1, given),
    "fail": (given) => consumer.fail(1, "why", given),
    "transaction": (given) => store.transaction(() => Promise.resolve(), given),
  };
}

function filters(context: Context): void {
  test(
    "filters take text and nothing that could be a part of a statement",
    inStore(context, async ({ store, producer }) => {
      const { archive, dead, messages } = store.admin;
      await producer.enqueue(1, { key: "k" });
      const calls: Record<string, Call[]> = {
        type: [(given) => messages.count(given), (given) => messages.list(given)],
        key: [(given) => messages.count(given), (given) => archive.count(given), (given) => dead.replay(given)],
        reason: [(given) => archive.list(given), (given) => dead.count(given), (given) => dead.replay(given)],
        worker: [(given) => archive.purge(given), (given) => dead.list(given), (given) => dead.purge(given)],
      };
      for (const [name, list] of Object.entries(calls)) {
        for (const call of list) {
          for (const value of [FRAGMENT, 5, null, ["k"], true]) {
            await assertRejects(() => call({ [name]: value } as never), TypeError, `Cannot use ${name}`);
          }
          await call({ [name]: undefined } as never);
        }
      }
      for (const name of ["state", "queue", "cursor"]) {
        await assertRejects(() => messages.list({ [name]: FRAGMENT } as never), TypeError, name);
      }
      assertEquals(await messages.count({ key: "k" }), 1);
    }),
  );
}

function omissions(context: Context): void {
  test(
    "createQueue() takes undefined for not given",
    inStore(context, async ({ store }) => {
      const { queues } = store.admin;
      const names = ["leaseMs", "maxAttempts", "maxCrashes", "backoff", "retentionMs", "paused", "ifMissing", "signal"]
        .concat("concurrency", "deadRetentionMs");
      const omitted = Object.fromEntries([...names, "timeoutMs"].map((name) => [name, undefined]));
      const { name: _, createdAt: __, updatedAt: ___, ...made } = await queues.create("omitted", omitted as never);
      assertEquals(made, {
        leaseMs: null,
        maxAttempts: 5,
        maxCrashes: 10,
        backoff: { kind: "exponential", baseMs: 1_000, maxMs: 60_000, jitter: 0.25 },
        retentionMs: 2_592_000_000,
        deadRetentionMs: 2_592_000_000,
        concurrency: null,
        isWorkflow: false,
        pausedAt: null,
      });
      const backoff = { kind: undefined, baseMs: 5, maxMs: undefined, jitter: undefined } as never;
      assertEquals((await queues.create("partly", { backoff })).backoff, { ...made.backoff, baseMs: 5 });
      assertEquals((await queues.create("for ever", { retentionMs: null })).retentionMs, null);
    }),
  );

  test(
    "messages.release() takes undefined for no delay",
    inStore(context, async ({ store, producer, consumer }) => {
      const { id } = await producer.enqueue(1);
      await consumer.dequeue({ leaseMs: 60_000 });
      assertEquals((await store.admin.messages.release(id, { delayMs: undefined } as never))?.state, "ready");
    }),
  );

  test(
    "fail() on a queue that was deleted is false, as every settling is",
    inStore(context, async ({ store, producer, consumer }) => {
      await producer.enqueueMany([1, 2]);
      const messages = await consumer.dequeue({ limit: 2 });
      await store.admin.queues.delete("tasks", { force: true });
      assertEquals(await consumer.failMany(messages, new Error("why")), [false, false]);
      assertEquals(await consumer.failMany(messages.map(({ id }) => id), "why"), [false, false]);
      assertEquals(await consumer.archive(messages[0]!), false);
    }),
  );
}

function limits(context: Context): void {
  test(
    "timeoutMs and signal are checked by every call",
    inStore(context, async (scene) => {
      for (const [name, call] of Object.entries({ ...limitCalls(scene), ...optionCalls(scene) })) {
        for (const timeoutMs of [Number.NaN, -1, 0, 1.5, "5", {}, null, Infinity, 2 ** 31]) {
          await assertRejects(() => call({ timeoutMs } as never), RangeError, "timeoutMs", `${name} ${timeoutMs}`);
        }
        for (const signal of [{}, null, "", 0, { aborted: false, throwIfAborted() {} }]) {
          await assertRejects(() => call({ signal } as never), TypeError, "signal", `${name} ${signal}`);
        }
      }
      // Nothing of all that was done.
      const [tasks, ...others] = await scene.store.admin.queues.list();
      assertEquals([tasks?.name, tasks?.maxAttempts, tasks?.pausedAt, others], ["tasks", 5, null, []]);
      assertEquals(await scene.store.admin.messages.count({ timeoutMs: 2 ** 31 - 1, signal: undefined } as never), 0);
    }),
  );

  test(
    "limits have no other names, and the one that was meant is suggested",
    inStore(context, async (scene) => {
      for (const [name, call] of Object.entries(limitCalls(scene))) {
        await assertRejects(() => call({ timeoutMS: 5 } as never), TypeError, 'did you mean "timeoutMs"?', name);
        await assertRejects(() => call(5 as never), TypeError, "must be an object", name);
      }
    }),
  );

  test(
    "waits are no longer than a timer can be",
    inStore(context, async ({ place, consumer }) => {
      for (const waitMs of [2 ** 31, -1, Number.NaN, "5" as never]) {
        await assertRejects(() => consumer.dequeue({ waitMs }), RangeError, "waitMs");
      }
      for (const timeoutMs of [2 ** 31, 0, Number.NaN, "5" as never]) {
        await assertRejects(() => place.connect({ timeoutMs }), RangeError, "timeoutMs");
      }
    }),
  );
}

function switches(context: Context): void {
  test(
    "switches take true and false only",
    inStore(context, async (scene) => {
      const { store, producer, consumer } = scene;
      const { admin } = store;
      await producer.enqueue(1);
      const [message] = await consumer.dequeue({ leaseMs: 60_000 });
      assert(message !== undefined);
      const calls: Record<string, Call[]> = {
        force: [(given) => admin.queues.delete("tasks", given), (given) => admin.queues.purge("tasks", given)],
        retry: [(given) => consumer.fail(message, "why", given)],
        unlogged: [(given) => admin.install(given), (given) => admin.migrate(given)],
        print: [(given) => admin.migrate(given)],
        expired: [(given) => admin.archive.purge(given), (given) => admin.dead.purge(given)],
        ifMissing: [(given) => admin.createQueue("tasks", given)],
        paused: [(given) => admin.createQueue("new", given), (given) => admin.queues.update("tasks", given)],
      };
      for (const [name, list] of Object.entries(calls)) {
        for (const call of list) {
          for (const value of ["false", 1, 0, null, {}]) {
            await assertRejects(() => call({ [name]: value } as never), TypeError, `Cannot use ${name}`);
          }
        }
      }
      assertEquals((await admin.messages.get(message.id))?.state, "leased");
    }),
  );
}

function payloads(context: Context): void {
  test(
    "headers are a plain object",
    inStore(context, async ({ store, producer }) => {
      for (const headers of [["a"], [], new Map([["type", "a"]]), new Headers({ type: "a" }), "a", null]) {
        await assertRejects(() => producer.enqueue(1, { headers: headers as never }), TypeError, "headers");
      }
      const headers = Object.assign(Object.create(null), { type: "a" });
      await producer.enqueue(1, { headers });
      assertEquals(await store.admin.messages.count({ type: "a" }), 1);
    }),
  );

  test(
    "typed queues have limits and a schema that can be used",
    inStore(context, ({ store }) => {
      for (const value of [0, -1, 1.5, Number.NaN, "5", null, Infinity]) {
        for (const name of ["maxBytes", "maxDepth"]) {
          const options = { [name]: value } as never;
          assertThrows(() => queue("tasks", options), RangeError, name);
          assertThrows(() => store.producer({ name: "tasks", ...options as object }), RangeError, name);
        }
      }
      for (const schema of [{}, { "~standard": {} }, { "~standard": { validate: 5 } }, 5, null]) {
        assertThrows(() => queue("tasks", { schema: schema as never }), TypeError, "schema");
      }
      const options = { maxBytes: undefined, maxDepth: undefined, schema: undefined };
      assertEquals(queue("tasks", options as never).name, "tasks");
      return Promise.resolve();
    }),
  );

  test("connect() takes a DSN, a configuration or a client", async () => {
    for (const target of [5, true, false, null, 5n, Symbol("dsn"), {}, () => {}]) {
      await assertRejects(() => connect(target as never), TypeError, "neither a DSN nor a client");
    }
  });
}
