/** What the function `pgqrs_enqueue` of Postgres promises to triggers, psql and other languages. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { type Message, StateError } from "../../mod.ts";
import { type Context, inStore, inTime, type Scene, takeOne } from "./context.ts";
import { bareClient } from "../support/databases.ts";

/** Defines the tests for one server. */
export function sqlEnqueueContract(context: Context): void {
  if (context.dialect !== "postgres") return;
  describe(`pgqrs_enqueue() on ${context.name}`, () => {
    likeness(context);
    options(context);
    keys(context);
    triggers(context);
  });
}

/** Calls the function and resolves to the id. */
async function enqueue({ place, store }: Scene, payload: unknown, options?: unknown): Promise<number> {
  const call = options === undefined ? "$1, $2::json" : "$1, $2::json, $3::json";
  const values = [
    "tasks",
    JSON.stringify(payload),
    ...(options === undefined ? [] : [options === null ? null : JSON.stringify(options)]),
  ];
  const rows = await store.transaction((tx) =>
    tx.query(`select "${place.schema}".pgqrs_enqueue(${call}) as id`, values)
  );
  return Number(rows[0]?.id);
}

function likeness(context: Context): void {
  test(
    "pgqrs_enqueue() stores what the library would have stored",
    inStore(context, async (scene) => {
      await scene.store.admin.queues.update("tasks", { maxAttempts: 7 });
      const options = {
        priority: 3,
        maxAttempts: 2,
        backoff: { kind: "fixed", baseMs: 5 },
        headers: { type: "mail", lang: "de" },
      } as const;
      const without = ({ id: _, enqueuedAt: _e, visibleAt: _v, ...rest }: Message): unknown => rest;
      for (const given of [undefined, null, {}, options]) {
        const id = await enqueue(scene, { to: "ada", list: [1, null, "é"] }, given);
        const bySql = await scene.store.admin.messages.get(id) as Message;
        const byLibrary = await scene.producer.enqueue({ to: "ada", list: [1, null, "é"] }, given ?? {});
        assertEquals(without(bySql), without(byLibrary));
        assert(byLibrary.id > bySql.id);
        assertEquals(bySql.visibleAt, bySql.enqueuedAt);
      }
      assertEquals((await scene.consumer.dequeue({ type: "mail", limit: 9 })).length, 2);
      assertEquals((await scene.consumer.dequeue({ limit: 9 })).length, 6);
    }),
  );
}

function options(context: Context): void {
  test(
    "pgqrs_enqueue() takes a due time as a delay or as an instant, and a key",
    inTime(context, async (scene) => {
      const { get } = scene.store.admin.messages;
      const read = get.bind(scene.store.admin.messages);
      const delayed = await read(await enqueue(scene, 1, { delayMs: 60_000 })) as Message;
      assertEquals(delayed.visibleAt.getTime() - delayed.enqueuedAt.getTime(), 60_000);
      const at = "2999-12-31T23:59:59.123Z";
      assertEquals((await read(await enqueue(scene, 1, { at })))?.visibleAt, new Date(at));
      assertEquals((await read(await enqueue(scene, 1, { key: "k" })))?.key, "k");
    }),
  );

  test(
    "pgqrs_enqueue() takes a time to live, attempts and a back-off",
    inTime(context, async (scene) => {
      const { messages } = scene.store.admin;
      const sent = await messages.get(await enqueue(scene, 1, { delayMs: 1_000, ttlMs: 500 })) as Message;
      assertEquals(Number(sent.expiresAt) - Number(sent.enqueuedAt), 1_500);
      await messages.delete(sent.id);
      const id = await enqueue(scene, 1, { maxAttempts: 3, backoff: { baseMs: 70, jitter: 0 } });
      const message = await takeOne(scene.consumer);
      assertEquals([message.id, message.maxAttempts], [id, 3]);
      await scene.consumer.fail(message, new Error("no"));
      assertEquals(Number((await messages.get(id))?.visibleAt), scene.clock.now + 70);
    }),
  );

  test(
    "pgqrs_enqueue() tells whoever calls it from SQL what it refuses, with a SQLSTATE",
    inStore(context, async (scene) => {
      await enqueue(scene, { a: 1, b: 2 }, { key: "k" });
      const refused: [string, string, RegExp][] = [
        [`'nowhere', '1'`, "P0002", /queue "nowhere" does not exist/],
        [`'tasks', '1', '{"delay": 1, "prio": 2}'`, "22023", /unknown option delay, prio/],
        [`'tasks', '{"a": 1, "b": 3}', '{"key": "k"}'`, "23505", /key is in use for another payload/],
        [`'tasks', null`, "22023", /payload is missing/],
        [`'tasks', '1', '{"priority": 10}'`, "22023", /priority is not between/],
        [`'tasks', '1', '{"maxAttempts": 0}'`, "22023", /maxAttempts is not between/],
        [`'tasks', '1', '{"ttlMs": 0}'`, "22023", /ttlMs is out of range/],
        [`'tasks', '1', '{"backoff": 5}'`, "22023", /backoff is not an object/],
        [`'tasks', '1', '{"backoff": {"base": 5}}'`, "22023", /backoff is not an object/],
        [`'tasks', '1', '{"backoff": {"baseMs": "5"}}'`, "22023", /backoff is not an object/],
        [`'tasks', '1', '{"backoff": {"maxMs": 1e30}}'`, "22023", /backoff is not an object/],
        [`'tasks', '1', '{"backoff": {"jitter": 2}}'`, "22023", /backoff is not an object/],
        [`'tasks', '1', '{"backoff": {"kind": null}}'`, "22023", /backoff is not an object/],
        [`'tasks', '1', '{"delayMs": -1}'`, "22023", /delayMs is out of range/],
        [`'tasks', '1', '{"delayMs": 1, "at": "2031-01-01Z"}'`, "22023", /exclude each other/],
        [`'tasks', '1', '{"at": "infinity"}'`, "22023", /at is not between/],
        [`'tasks', '1', '{"at": "1969-12-31 23:59:59Z"}'`, "22023", /at is not between/],
        [`'tasks', '1', '{"key": ""}'`, "22023", /key does not have 1 to 255 bytes/],
        [`'tasks', '1', '{"key": "${"é".repeat(128)}"}'`, "22023", /key does not have 1 to 255 bytes/],
        [`'tasks', '1', '{"headers": {"type": 7}}'`, "22023", /headers is not an object of strings/],
        [`'tasks', '1', '{"headers": ["type"]}'`, "22023", /headers is not an object of strings/],
        [`'tasks', '1', '{"delayMs": "soon"}'`, "22P02", /bigint/],
        [`'tasks', '{"a": '`, "22P02", /json/],
        [`'tasks', '"\\u0000"'`, "22P05", /Unicode/],
      ];
      const sql = bareClient(scene.place.dsn);
      try {
        for (const [values, code, told] of refused) {
          const call = () => sql.unsafe(`select "${scene.place.schema}".pgqrs_enqueue(${values})`);
          const error = await assertRejects(async () => void await call()) as Error & { readonly code: string };
          assertEquals([error.code, told.test(error.message)], [code, true], `${values}: ${error.message}`);
        }
      } finally {
        await sql.end({ timeout: 5 });
      }
      assertEquals(await enqueue(scene, { b: 2, a: 1 }, { key: "k" }), 1, "the order of fields is no difference");
      assertEquals(await scene.store.admin.messages.count(), 1);
    }),
  );
}

function keys(context: Context): void {
  test(
    "pgqrs_enqueue() shares its keys with the library",
    inStore(context, async (scene) => {
      const { producer, store } = scene;
      const id = await enqueue(scene, { n: 1 }, { key: "sql" });
      assertEquals(await enqueue(scene, { n: 1 }, { key: "sql" }), id);
      // The hashes of the two are made of different texts and are not compared.
      assertEquals((await producer.enqueue({ n: 1 }, { key: "sql" })).id, id);
      const reject = { value: "sql", onConflict: "reject" } as const;
      await assertRejects(() => producer.enqueue({ n: 1 }, { key: reject }), StateError, `message ${id}`);

      const other = await producer.enqueue({ n: 2 }, { key: "library" });
      assertEquals(await enqueue(scene, { n: 2 }, { key: "library" }), other.id);
      assertEquals(await store.admin.messages.count(), 2);
    }),
  );

  test(
    "a key of pgqrs_enqueue() holds after the message has ended",
    inStore(context, async (scene) => {
      const id = await enqueue(scene, 1, { key: "k" });
      const message = await takeOne(scene.consumer);
      assert(await scene.consumer.archive(message));
      assertEquals(await enqueue(scene, 1, { key: "k" }), id);
      assertEquals(await scene.store.admin.messages.count(), 0);
    }),
  );
}

function triggers(context: Context): void {
  test(
    "pgqrs_enqueue() in a trigger enqueues if and only if the row is committed",
    inStore(context, async ({ place, store, consumer }) => {
      const name = `"${place.schema}"`;
      await store.transaction(async (tx) => {
        await tx.query(`create table ${name}.orders (id integer primary key, total numeric)`);
        await tx.query(`create function ${name}.on_order() returns trigger language plpgsql as $$
          begin
            perform ${name}.pgqrs_enqueue('tasks', row_to_json(new), json_build_object('key', 'order-' || new.id));
            return null;
          end $$`);
        await tx.query(`create trigger enqueue after insert on ${name}.orders
          for each row execute function ${name}.on_order()`);
      });
      await assertRejects(() =>
        store.transaction(async (tx) => {
          await tx.query(`insert into ${name}.orders values (1, 1)`);
          throw new RangeError("undo");
        }), RangeError);
      assertEquals(await store.admin.messages.count(), 0);
      // Whoever uses a search_path of their own, or none, gets no other function.
      await store.transaction(async (tx) => {
        await tx.query("set local search_path = ''");
        await tx.query(`insert into ${name}.orders values (2, 9.50), (3, 0)`);
      });
      const messages = await consumer.dequeue({ limit: 9 });
      const got = messages.map(({ payload, key }) => [payload, key]);
      assertEquals(got, [[{ id: 2, total: 9.5 }, "order-2"], [{ id: 3, total: 0 }, "order-3"]]);
    }),
  );
}
