/**
 * What the tests of runs share: one store for all of them on a backend, because every workflow has a queue of its own.
 *
 * @module
 */
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import {
  type Drained,
  type Message,
  type RunHandle,
  type StepInfo,
  type Store,
  type Workflow,
  workflow,
  type WorkflowFunction,
  type WorkflowOptions,
} from "../../mod.ts";
import { type Context, type Place, TestClock } from "../contract/context.ts";

/** Any workflow. */
// deno-lint-ignore no-explicit-any
export type AnyWorkflow = Workflow<any, any>;

/** What a test of runs gets. */
export interface RunScene {
  readonly context: Context;
  readonly place: Place;
  readonly store: Store;
  /** Moves the time of the store, for tests made by `timed`. */
  readonly clock: TestClock;
  /** Another store on the same database, which is told nothing by others; the same one where there can be only one. */
  other(): Promise<Store & AsyncDisposable>;
  /** Makes a workflow with a name of its own. */
  define<Input, Output>(
    run: WorkflowFunction<Input, Output>,
    options?: WorkflowOptions<Input>,
  ): Workflow<Input, Output>;
  /** Works until nothing is due. */
  drain(...workflows: readonly AnyWorkflow[]): Promise<Drained>;
  /** Works until a run has ended, and resolves to its result. */
  finish<T>(run: RunHandle<T>, ...workflows: readonly AnyWorkflow[]): Promise<T>;
  /** Works as long as something is done. */
  during<T>(workflows: readonly AnyWorkflow[], work: () => Promise<T>): Promise<T>;
  /** The live message of a run. */
  message(run: RunHandle): Promise<Message>;
  /** How many rows a table has of a run. */
  rows(table: "mailbox" | "steps", id: number): Promise<number>;
}

/** Defines tests for one backend: by the database's clock, and by one that stands still until it is moved. */
export interface RunTests {
  test(name: string, work: (scene: RunScene) => Promise<void> | void): void;
  timed(name: string, work: (scene: RunScene) => Promise<void> | void): void;
}

/** For how long a test waits at most for what is sure to come. */
const LONGEST_MS = 20_000;
const ENDED: readonly string[] = ["cancelled", "failed", "succeeded"];

/** Makes what defines tests; the stores are opened by the first of them, and closed after the last. */
export function runTests(context: Context): RunTests {
  const shared = opener(context, false);
  const timed = opener(context, true);
  return {
    test: (name, work) => void test(name, async () => await inTime(work(await shared()))),
    timed: (name, work) => void test(name, async () => await inTime(work(await timed()))),
  };
}

/** A run that never ends fails its own test, and does not keep the others from being made. */
async function inTime(work: Promise<void> | void): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error("The test has taken too long")), 2 * LONGEST_MS);
  try {
    await Promise.race([work, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function opener(context: Context, isTimed: boolean): () => Promise<RunScene> {
  let opening: Promise<RunScene> | undefined;
  const open = async (): Promise<RunScene> => {
    const place = await context.place();
    const clock = new TestClock();
    const store = await place.connect(isTimed ? { clock: () => clock.now } : {});
    await store.admin.install();
    return sceneOf(context, place, store, clock);
  };
  after(async () => {
    const scene = await opening;
    await scene?.store.close();
    await scene?.place.close();
  });
  return () => opening ??= open();
}

function sceneOf(context: Context, place: Place, store: Store, clock: TestClock): RunScene {
  const worker = (workflows: readonly AnyWorkflow[]) =>
    store.worker(workflows, { maintenance: false, stopTimeoutMs: 5_000 });
  const during: RunScene["during"] = (workflows, work) => whileWorking(store, workflows, work);
  return {
    context,
    place,
    store,
    clock,
    other: async () => context.isAlone ? borrowed(store) : await place.connect({ listen: false }),
    define: (run, options) => workflow(`w${randomUUID().slice(0, 8)}`, run, options),
    drain: (...workflows) => worker(workflows).drain(),
    async finish(run, ...workflows) {
      // Most runs end without a pause, and then nobody has to look for what is due.
      for (let i = 0; i < 4; i++) {
        await worker(workflows).drain();
        if (ENDED.includes(await run.status())) return await run.result();
      }
      return await during(workflows, () => run.result({ timeoutMs: LONGEST_MS }));
    },
    during,
    async message({ id }) {
      const message = await store.admin.messages.get(id);
      if (message === null) throw new Error(`Run ${id} does not live`);
      return message;
    },
    rows: (table, id) =>
      store.transaction(async (tx) => {
        const name = context.dialect === "postgres" ? `"${place.schema}".pgqrs_${table}` : `pgqrs_${table}`;
        const [row] = await tx.query(`select count(*) as n from ${name} where run_id = ${id}`);
        return Number(row?.n);
      }),
  };
}

/** Runs a worker while something is done. */
export async function whileWorking<T>(
  store: Store,
  workflows: readonly AnyWorkflow[],
  work: () => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const worker = store.worker(workflows, { maintenance: false, stopTimeoutMs: 5_000 });
  const working = worker.run({ signal: stop.signal });
  try {
    return await Promise.race([work(), working.then(() => Promise.reject(new Error("The worker has stopped")))]);
  } finally {
    stop.abort();
    await working;
  }
}

/** A store that is not closed at the end of a scope. */
function borrowed(store: Store): Store & AsyncDisposable {
  return new Proxy(store, {
    get(target, name) {
      if (name === Symbol.asyncDispose) return () => Promise.resolve();
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** Steps as a list of their keys, with how they stand. */
export function outline(steps: readonly StepInfo[]): string[] {
  return steps.map(({ key, kind, state, attempts }) => `${key} ${kind} ${state}${attempts > 0 ? ` ${attempts}` : ""}`);
}

/** How an error looks to whoever caught it. */
export function portrait(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, message, stack, cause } = error;
  const { code, errors } = error as { readonly code?: unknown; readonly errors?: readonly unknown[] };
  return {
    name,
    message,
    stack,
    code,
    fields: { ...error },
    cause: portrait(cause),
    errors: errors?.map(portrait),
  };
}
