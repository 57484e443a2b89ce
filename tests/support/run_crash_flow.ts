/**
 * The workflow of the crash tests, which uses everything a run can do, and what has to have become of it.
 *
 * Every step yields a new nonce in each attempt and notes it in a ledger, so that it can be told afterwards which attempt
 * was recorded, what later steps have seen, and what was done again.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  FailedError,
  NonRetryableError,
  type RunContext,
  type StepContext,
  type StepInfo,
  type Store,
  type Transaction,
  type Workflow,
  workflow,
} from "../../mod.ts";

/** One attempt of a step that was begun. */
export interface Effect {
  readonly step: string;
  readonly attempt: number;
  readonly nonce: string;
}

/** What a run yields: what its function has seen in its last execution. */
export type Seen = Record<string, unknown>;

/** What the workflows of one test have in common, over all its workers. */
export interface Scene {
  /** Tells the queues of this test from those of others. */
  readonly id: string;
  /** A statement that puts a run and a nonce into the user's own table. */
  readonly insert: string;
  readonly effects: Effect[];
  /** What was yielded to the function of the run, in any execution of it: by the names of steps. */
  readonly views: [step: string, value: unknown][];
  /** Has somebody outside send the run what it waits for, after a while. */
  ask(): void;
  /** Has it sent at once. */
  answer(): void;
  /** Settled when it is to be sent. */
  readonly mail: Promise<void>;
}

/** The process that executes: a dead one begins nothing any more. */
export interface Life {
  readonly isDead: boolean;
}

/** The workflows of a scene as one process has them. */
export interface Flows {
  readonly main: Workflow<string, Seen>;
  readonly all: readonly Workflow[];
}

/** How long a wait is that is not waited for in memory. */
const LONG_MS = 25;
/** And one that is. */
const SHORT_MS = 4;

/** Makes the workflows for one process. */
export function makeFlows(scene: Scene, life: Life): Flows {
  const act = async (step: string, attempt = 1): Promise<string> => {
    if (life.isDead) await new Promise(() => {});
    const nonce = `${step} ${scene.effects.length + 1}`;
    scene.effects.push({ step, attempt, nonce });
    return nonce;
  };
  const child = workflow<string, string>(`child_${scene.id}`, async (run, input) => {
    await run.step("before", () => act("child before"));
    await run.sleep("rest", LONG_MS);
    return `${input} ${await run.step("after", () => act("child after"))}`;
  });
  const broken = workflow<string, string>(`broken_${scene.id}`, () => Promise.reject(new NonRetryableError("no")));
  const side = workflow<string, string>(`side_${scene.id}`, (run) => run.step("only", () => act("side only")));
  const kin = { child, broken, side };
  const main = workflow<string, Seen>(`main_${scene.id}`, async (run, input) => {
    const seen: Seen = { input };
    await doSteps(run, scene, act, seen);
    await doWaits(run, scene, act, seen);
    await doChildren(run, kin, seen);
    await doBranches(run, scene, act, seen);
    await run.step("seen", () => seen);
    return seen;
  });
  return { main, all: [main, child, broken, side] as unknown as Workflow[] };
}

type Act = (step: string, attempt?: number) => Promise<string>;

/** Notes what a step yields. */
async function view<T>({ views }: Scene, step: string, yielding: Promise<T>): Promise<T> {
  const value = await yielding;
  views.push([step, value]);
  return value;
}

async function doSteps(run: RunContext, scene: Scene, act: Act, seen: Seen): Promise<void> {
  seen.first = await view(scene, "first", run.step("first", () => act("first")));
  const hesitate = async ({ attempt }: StepContext): Promise<string> => {
    const nonce = await act("retried", attempt);
    if (attempt < 3) throw new Error(`attempt ${attempt}`);
    return nonce;
  };
  const backoff = { kind: "fixed", baseMs: LONG_MS, jitter: 0 } as const;
  seen.retried = await view(scene, "retried", run.step("retried", hesitate, { retry: { maxAttempts: 3, backoff } }));
  seen.once = await run.step("once", () => act("once"), { atMostOnce: true }).catch((error) => {
    assertEquals(error.name, "InterruptedError", String(error));
    return "interrupted";
  });
  const store = async (tx: Transaction): Promise<string> => {
    const nonce = await act("stored");
    await tx.query(scene.insert, [run.id, nonce]);
    return nonce;
  };
  seen.stored = await view(scene, "stored", run.transaction("stored", store));
  const fail = async (): Promise<never> => {
    await act("fails");
    throw new RangeError("no", { cause: new TypeError("why") });
  };
  // A user's code may hand on everything an error has, so everything has to be the same in replay.
  seen.caught = await run.step("fails", fail, { retry: { maxAttempts: 1 } }).catch(
    (error) => [error instanceof RangeError, error.message, error.stack, error.cause.message],
  );
}

async function doWaits(run: RunContext, scene: Scene, act: Act, seen: Seen): Promise<void> {
  const at = await run.now();
  seen.made = [at, await run.random(), await run.uuid()];
  await run.sleep("nap", SHORT_MS);
  await run.sleep("rest", LONG_MS);
  await run.sleepUntil("date", new Date(at.getTime() + 3 * LONG_MS));
  seen.early = [await run.receive("early"), await run.receive("early", { timeoutMs: 3_600_000 })];
  const ask = (): Promise<string> => {
    scene.ask();
    return act("ask");
  };
  seen.asked = await view(scene, "ask", run.step("ask", ask));
  seen.late = await run.receive("late");
  seen.nothing = await run.receive("never", { timeoutMs: LONG_MS });
  await run.progress(0.5);
}

async function doChildren(
  run: RunContext,
  { child, broken, side }: Readonly<Record<"broken" | "child" | "side", Workflow<string, string>>>,
  seen: Seen,
): Promise<void> {
  seen.called = await run.call(child, "called");
  seen.broken = await run.call(broken, "").catch((error) => {
    assert(error instanceof FailedError, String(error));
    return error.reason;
  });
  seen.side = await run.start(side, "");
}

async function doBranches(run: RunContext, scene: Scene, act: Act, seen: Seen): Promise<void> {
  seen.mapped = await run.map([LONG_MS, SHORT_MS, 0], async (ms, branch, index) => {
    const work = async (): Promise<string> => {
      const nonce = await act(`item ${index}`);
      // Longer than the other branch waits, so that one is at work while the other has nothing to do.
      if (index === 1) await new Promise((resolve) => setTimeout(resolve, 2 * LONG_MS));
      return nonce;
    };
    const before = await view(scene, `item ${index}`, branch.step("item", work));
    await branch.sleep("gap", ms);
    return [before, await view(scene, `again ${index}`, branch.step("item", () => act(`again ${index}`)))];
  }, { concurrency: 2 });
  const corner = run.scope("corner");
  seen.corner = await Promise.all([
    view(scene, "corner first", corner.step("first", () => act("corner first"))),
    view(scene, "corner second", run.scope("corner").step("first", () => act("corner second"))),
    corner.receive("early", { timeoutMs: 0 }),
  ]);
}

/** Where a step of the ledger is recorded. */
const RECORDED: Readonly<Record<string, string>> = {
  "first": "first",
  "retried": "retried",
  "stored": "stored",
  "ask": "ask",
  "item 0": "map/0/item",
  "item 1": "map/1/item",
  "item 2": "map/2/item",
  "again 0": "map/0/item#2",
  "again 1": "map/1/item#2",
  "again 2": "map/2/item#2",
  "corner first": "corner/first",
  "corner second": "corner#2/first",
};

/** What a run has left behind. */
export interface Traces {
  readonly seen: Seen;
  readonly steps: readonly StepInfo[];
  readonly effects: readonly Effect[];
  readonly views: Scene["views"];
  /** The nonces that the user's own table has for the run. */
  readonly rows: readonly string[];
  /** Whether a lease was taken away: then what had lost it may have begun what another did as well. */
  readonly isStolen: boolean;
  /** How often something may have been begun in vain. */
  readonly crashes: number;
}

/** Checks that the outcome is the one there can be. @throws {AssertionError} */
export function checkTraces({ seen, steps, effects, views, rows, isStolen, crashes }: Traces): void {
  const byKey = new Map(steps.map((step) => [step.key, step]));
  assertEquals(byKey.get("seen")?.value, seen, "what was seen by a step is not what its run has returned");
  const recorded = new Map(Object.entries(RECORDED).map(([step, key]) => [step, byKey.get(key)?.value]));
  assertEquals(seen, expectedOf(seen, recorded), "what was seen is not what is recorded");
  assertEquals(rows as readonly unknown[], [recorded.get("stored")], "the user's own rows");
  const others = views.filter(([step, value]) => value !== recorded.get(step));
  assertEquals(others, [], "what was yielded is not what is recorded");
  // The child that fails is looked at by itself.
  const isOpen = ({ kind, state }: StepInfo): boolean =>
    state !== "succeeded" && !(kind === "call" && state === "failed");
  const open = steps.filter(isOpen).map(({ key, state }) => `${key} ${state}`);
  assertEquals(open, [...seen.once === "interrupted" ? ["once failed"] : [], "fails failed"], "steps that are open");
  for (const [step, value] of recorded) checkEffects(step, value, effects, isStolen);
  if (!isStolen) checkOrder(effects);
  const once = effects.filter(({ step }) => step === "once");
  assert(once.length <= 1, "a step that may begin once was begun twice");
  assert(seen.once === "interrupted" || seen.once === once[0]?.nonce, `once is ${seen.once}`);
  assert(seen.once !== "interrupted" || crashes > 0, "a step was interrupted by nothing");
  // Retries begin three times; what is in the ledger beyond that was begun in vain. Two branches can be at it at once.
  const vain = effects.length - LEAST_EFFECTS + (once.length === 0 ? 1 : 0);
  assert(vain <= crashes * 3, `${vain} steps were begun in vain: ${effects.map(({ nonce }) => nonce).join(", ")}`);
}

/** Those of the main run, those of its children, two retries, and the two that are checked apart. */
const LEAST_EFFECTS = Object.keys(RECORDED).length + 3 + 2 + 2;

function expectedOf({ made, caught, once, side, called }: Seen, recorded: ReadonlyMap<string, unknown>): Seen {
  const pair = (index: number): unknown[] => [recorded.get(`item ${index}`), recorded.get(`again ${index}`)];
  const [, , stack] = caught as unknown[];
  assert(/^called child after \d+$/.test(String(called)), `the child has returned ${called}`);
  assert(typeof side === "number");
  return {
    input: "input",
    first: recorded.get("first"),
    retried: recorded.get("retried"),
    once,
    stored: recorded.get("stored"),
    caught: [true, "no", stack, "why"],
    made,
    early: ["one", { two: 2 }],
    asked: recorded.get("ask"),
    late: "answer",
    nothing: undefined,
    called,
    broken: "not_retryable",
    side,
    mapped: [pair(0), pair(1), pair(2)],
    corner: [recorded.get("corner first"), recorded.get("corner second"), undefined],
  };
}

/** Steps that follow each other: a later one begins only when those before it are recorded, and then these never again. */
const SEQUENCE = ["first", "retried", "once", "stored", "fails", "ask", "item 0", "again 0", "corner first"];

function checkOrder(effects: readonly Effect[]): void {
  const places = effects.map(({ step }) => SEQUENCE.indexOf(step)).filter((place) => place >= 0);
  const late = places.findIndex((place, i) => place < Math.max(...places.slice(0, i)));
  assert(late < 0, `${SEQUENCE[places[late] ?? 0]} was begun after a later step`);
}

/** What was recorded is the last that was begun: nothing was done again after it. */
function checkEffects(step: string, value: unknown, effects: readonly Effect[], isStolen: boolean): void {
  const own = effects.filter((effect) => effect.step === step);
  const nonces = own.map(({ nonce }) => nonce);
  assert(nonces.includes(value as string), `${step} recorded ${value}, and has begun ${nonces}`);
  if (!isStolen) assertEquals(nonces.at(-1), value, `${step} was begun again after it was recorded: ${nonces}`);
  const attempts = own.map(({ attempt }) => attempt);
  const isCounted = attempts.every((attempt, i) => i === 0 || attempt >= (attempts[i - 1] ?? 0));
  if (!isStolen) assert(isCounted, `the attempts of ${step} were counted anew: ${attempts}`);
  const last = step === "retried" ? 3 : 1;
  assertEquals(Math.max(...attempts), last, `the attempts of ${step}`);
}

/** Checks that a scene has left nothing behind that could still run, and each child once. */
export async function checkQueues(store: Store, { id }: Scene): Promise<void> {
  for (const name of ["main", "child", "broken", "side"]) {
    const queue = `${name}_${id}`;
    assertEquals(await store.admin.messages.count({ queue }), 0, `${queue} has messages that have not ended`);
    const { items } = await store.admin.archive.list({ queue });
    assertEquals(items.map(({ outcome }) => outcome), [name === "broken" ? "failed" : "succeeded"], queue);
  }
}
