/** What may be in inputs, values, results and mail. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { FailedError, type Workflow } from "../../mod.ts";
import { portrait, type RunScene, type RunTests } from "../support/run_scene.ts";

/** Defines the tests for one backend. */
export function runDataContract(tests: RunTests): void {
  kinds(tests);
  plain(tests);
  refused(tests);
  sizes(tests);
}

/** What comes back of a value on every way through a run: input, step, transaction, mail, child, result. */
function allWays(scene: RunScene): Workflow<unknown, unknown[]> {
  const child = scene.define((_run, input: unknown) => input);
  const flow = scene.define(async (run, input: unknown) => {
    const values = [
      input,
      await run.step("step", () => input),
      await run.transaction("transaction", () => Promise.resolve(input)),
      await run.receive("mail"),
      await run.call(child, input),
    ];
    return [...values, await run.step("all", () => values).then((list) => list[3])];
  });
  return Object.assign({ ...flow, child });
}

async function roundTrip(scene: RunScene, value: unknown): Promise<unknown[]> {
  const flow = allWays(scene) as Workflow<unknown, unknown[]> & { readonly child: Workflow };
  const run = await scene.store.start(flow, value);
  await run.send("mail", value);
  return await scene.finish(run, flow, flow.child);
}

/** What a value is, for all that equality does not tell. */
function look(value: unknown): unknown {
  if (value instanceof Error) return portrait(value);
  if (Object.is(value, -0)) return "-0";
  if (value instanceof Date) return `Date ${value.getTime()}`;
  if (ArrayBuffer.isView(value)) return [value.constructor.name, ...value as Uint8Array];
  return value;
}

function kinds({ test }: RunTests): void {
  test("B57: what JSON does not have comes back as it was from inputs, steps, mail, children and results", async (scene) => {
    const typed = new Uint8Array([9, 1, 2, 3, 9]).subarray(1, 4);
    const cause = new RangeError("inner", { cause: { code: 7 } });
    const values: unknown[] = [
      undefined,
      null,
      NaN,
      -0,
      Infinity,
      -Infinity,
      123456789012345678901234567890n,
      new Date(5),
      new Date(NaN),
      typed,
      new Float64Array([0.5, NaN]),
      "\ud800 lone",
      "nul \0 here",
      "🙂 " + "\u2028",
      new TypeError("outer", { cause }),
      new AggregateError([new Error("one"), cause], "several"),
      /a+/gi,
    ];
    const back = await roundTrip(scene, values);
    assertEquals(back.length, 6);
    for (const list of back as unknown[][]) {
      assertEquals(list.map(look), values.map(look));
    }
    for (const value of [undefined, new Date(5), 7n]) {
      assertEquals(await roundTrip(scene, value), Array.from({ length: 6 }, () => value));
    }
  });

  test("B57: maps, sets, keys that mean something elsewhere, and undefined members come back too", async (scene) => {
    const value = {
      map: new Map<unknown, unknown>([["a", new Set([1, { b: 2 }])], [{ k: 1 }, undefined]]),
      z: undefined,
      a: [undefined, 1],
      ["nul\0key"]: 1,
      $pgqrs: ["Date", "not one"],
      constructor: "x",
      ...JSON.parse('{"__proto__": {"evil": true}}') as object,
    };
    for (const back of await roundTrip(scene, value)) {
      assertEquals(back, value);
      assertEquals(Object.keys(back as object), Object.keys(value));
      assertEquals([Object.hasOwn(back as object, "__proto__"), ({} as { evil?: boolean }).evil], [true, undefined]);
    }
  });
}

function plain({ test }: RunTests): void {
  test("plain JSON stays plain JSON in the tables, for whoever reads them by SQL", async (scene) => {
    const { store, context, place } = scene;
    const flow = scene.define(async (run, _input: { a: number }) => {
      await run.step("json", () => ({ b: [1, "x", null, true] }));
      return await run.receive("mail");
    });
    const run = await store.start(flow, { a: 1 });
    await run.send("mail", { c: "y" });
    await scene.finish(run, flow);
    const read = async (table: string, column: string, where: string): Promise<unknown> => {
      const name = context.dialect === "postgres" ? `"${place.schema}".pgqrs_${table}` : `pgqrs_${table}`;
      const sql = `select cast(${column} as text) as v from ${name} where ${where}`;
      const [row] = await store.transaction((tx) => tx.query(sql));
      return JSON.parse(String(row?.v));
    };
    assertEquals([
      await read("archive", "payload", `id = ${run.id}`),
      await read("archive", "result", `id = ${run.id}`),
      await read("steps", "value", `run_id = ${run.id} and key = 'json'`),
      await read("mailbox", "payload", `run_id = ${run.id}`),
    ], [{ a: 1 }, { c: "y" }, { b: [1, "x", null, true] }, { c: "y" }]);
    assertEquals((await store.admin.archive.get(run.id))?.payload, { a: 1 });
  });
}

function refused({ test }: RunTests): void {
  test("B57: what contains itself and what cannot be stored is refused with its path, and nothing is sent", async (scene) => {
    const { store } = scene;
    const cyclic: { self?: unknown } = {};
    cyclic.self = cyclic;
    class Point {
      x = 1;
    }
    const flow = scene.define(async (run, _input: unknown) => {
      const errors: string[] = [];
      for (const value of [cyclic, { p: new Point() }, [Symbol("x")], { f() {} }]) {
        const retry = { maxAttempts: 1 };
        errors.push(
          await run.step("odd", () => value, { retry }).then(() => "stored", (error: Error) => error.message),
        );
      }
      return errors;
    });
    for (const value of [cyclic, { p: new Point() }, [Symbol("x")], { f() {} }]) {
      await assertRejects(() => store.start(flow, value), TypeError);
    }
    const run = await store.start(flow, null);
    const errors = await scene.finish(run, flow);
    const paths = ["self", ".p", "[0]", ".f"];
    for (const [index, path] of paths.entries()) assert(errors[index]?.includes(path), errors[index]);
  });
}

function sizes({ test }: RunTests): void {
  test("B58: an input and a result may have 1 MB, and not a byte more", async (scene) => {
    const { store } = scene;
    const most = 1_048_576 - 2;
    const flow = scene.define((_run, text: string) => text.length > 10 ? text.length : "x".repeat(most + 1), {
      retry: { maxAttempts: 1 },
    });
    await assertRejects(() => store.start(flow, "x".repeat(most + 1)), RangeError);
    assertEquals(await scene.finish(await store.start(flow, "x".repeat(most)), flow), most);
    const run = await store.start(flow, "large");
    const error = await assertRejects(() => scene.finish(run, flow), FailedError);
    assertEquals(error.error?.name, "RangeError");
    await assertRejects(() => run.send("x", "y".repeat(most + 1)), RangeError);
  });

  test("B58: a step may yield 16 MB and not a byte more, and a large one comes back in replay", async (scene) => {
    const { store } = scene;
    const large = 500_000;
    let calls = 0;
    const flow = scene.define(async (run) => {
      const text = await run.step("large", () => `${++calls}`.padEnd(large, "ä"));
      await run.receive("word");
      const error = await run.step("huge", () => "x".repeat(16_777_216 - 1), { retry: { maxAttempts: 1 } })
        .catch((error: unknown) => error);
      return [text.length, text.at(0), (error as Error).name];
    });
    const run = await store.start(flow, null);
    await scene.drain(flow);
    await run.send("word", null);
    assertEquals(await scene.finish(run, flow), [large, "1", "RangeError"]);
    const [step] = await run.steps();
    assertEquals((step?.value as string).length, large);
  });
}
