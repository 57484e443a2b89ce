/**
 * Crashes at every round trip of a worker to its database.
 *
 * A worker executes the run of `run_crash_flow.ts`. At one of its round trips it dies: before that was sent, or after it was
 * applied and before the answer has come. From then on nothing of it reaches the database. Its leases end, another worker
 * goes on, and the outcome has to be the one there is without a crash. In another variant nobody dies: a lease is taken away
 * at that moment while two workers are at it. In the third the mail that the run waits for comes just then.
 *
 * @module
 */
import { type RunHandle, Store } from "../../mod.ts";
import { checkQueues, checkTraces, makeFlows, type Scene, type Seen } from "./run_crash_flow.ts";
import type { Ground } from "./run_crash_ground.ts";
import { plain, type Point, type When, Wire } from "./run_crash_wire.ts";
import { startWorker } from "./running_worker.ts";
import { openWatchedDatabase, type Watch } from "./watched_store.ts";

/** What happens at a round trip. */
export type Accident = "crash" | "mail" | "theft";

/** What a sweep has done. */
export interface Swept {
  /** How many round trips there are. */
  readonly trips: number;
  readonly cases: number;
  /** Each case that has not ended as it should. */
  readonly faults: string[];
}

/** By how much time jumps when a process has died: its leases are over then. */
const JUMP_MS = 600_000;
const PATIENCE_MS = 10_000;
/** Of so many cases that go wrong it is told. */
const ENOUGH = 3;
/** After how long the answer comes that the run has asked for. */
const ANSWER_MS = 10;
/** How many cases run side by side. */
const LANES = 8;
const POLL_MS = 40;
/** How long a lease that was taken away may lie before the other worker has it. */
const CLAIM_MS = 100;
const WHENS = ["before", "after"] as const;

/** The stores of one case. */
interface Stage extends AsyncDisposable {
  readonly scene: Scene;
  readonly wire: Wire;
  /** The store of whoever looks on, and of who goes on after a crash. */
  readonly control: Store;
  readonly worker: Store;
  /** That of a second worker: of two that work side by side all round trips count. */
  readonly other: Store;
  /** Settled when the accident happens. */
  readonly happened: Promise<void>;
  /** Lets time jump beyond the end of all leases. */
  jump(): void;
}

async function openStage(ground: Ground, accident: Accident, point: Point): Promise<Stage> {
  const id = `${accident}_${point.when}_${point.at}_${point.names?.length ?? 0}`;
  const { dsn, close } = ground.place(id);
  let jumpMs = 0;
  const open = async (watch: Watch): Promise<Store> =>
    new Store(await openWatchedDatabase(dsn, "public", watch, () => Date.now() + jumpMs));
  const happened = Promise.withResolvers<void>();
  const wire = new Wire(point, async () => {
    if (accident === "crash") wire.die();
    if (accident === "theft") await stealLeases(control, scene);
    if (accident === "mail") scene.answer();
    happened.resolve();
  }, () => scene.answer());
  const control = await open(plain);
  const worker = await open((driver) => wire.watch(driver));
  const other = accident === "theft" ? await open((driver) => wire.watch(driver)) : control;
  const scene = sceneOf(id, ground, accident);
  return {
    scene,
    wire,
    control,
    worker,
    other,
    happened: happened.promise,
    jump: () => void (jumpMs += JUMP_MS),
    async [Symbol.asyncDispose]() {
      wire.haunt();
      await Promise.all([control.close(), worker.close(), other.close()]);
      close();
    },
  };
}

/** Lets an accident happen at the round trip of this number. Resolves to the names of all until then, and whether it has. */
export async function crashAt(
  ground: Ground,
  accident: Accident,
  point: Point,
): Promise<{ readonly trips: readonly string[]; readonly hasHappened: boolean }> {
  await using stage = await openStage(ground, accident, point);
  const { control, worker, other, scene, wire } = stage;
  const flows = makeFlows(scene, wire);
  const run = await control.start(flows.main, "input");
  await run.send("early", "one");
  await run.send("early", { two: 2 });
  const mail = scene.mail.then(() => run.send("late", "answer", { key: "late" })).catch(() => {});
  const first = startWorker(worker, flows.all as never, { pollIntervalMs: POLL_MS });
  const ended = endOf(control, run);
  ended.catch(() => {});
  if (accident !== "theft") await Promise.race([stage.happened, ended]);
  const hasDied = wire.isDead;
  if (hasDied) stage.jump();
  await using _second = hasDied || accident === "theft"
    ? startWorker(other, makeFlows(scene, { isDead: false }).all as never, { pollIntervalMs: POLL_MS })
    : undefined;
  const seen = await ended;
  const trips = [...wire.trips];
  const { hasHappened } = wire;
  wire.haunt();
  await Promise.all([first.stop(), mail]);
  await checkEnd(control, run, scene, seen, accident, hasHappened && accident !== "mail" ? 1 : 0);
  return { trips, hasHappened };
}

function sceneOf(id: string, { insert }: Ground, accident: Accident): Scene {
  const mail = Promise.withResolvers<void>();
  const ask = (): void => {
    if (accident !== "mail") setTimeout(mail.resolve, ANSWER_MS);
  };
  return { id, insert, effects: [], views: [], ask, mail: mail.promise, answer: mail.resolve };
}

/** Waits for the run, and for the one that it has started and not waited for. */
async function endOf(control: Store, run: RunHandle<Seen>): Promise<Seen> {
  try {
    const seen = await run.result({ timeoutMs: PATIENCE_MS });
    await control.run(seen.side as number).result({ timeoutMs: PATIENCE_MS });
    return seen;
  } catch (error) {
    const steps = (await run.steps()).map(({ key, kind, state }) => `${key} ${kind} ${state}`);
    throw new Error(`${await run.status()}, with ${steps.join(", ")}`, { cause: error });
  }
}

/** Takes away all leases that there are. */
async function stealLeases(control: Store, { id }: Scene): Promise<void> {
  for (const name of ["main", "child", "broken", "side"]) {
    const { items } = await control.admin.messages.list({ queue: `${name}_${id}`, state: "leased" })
      .catch(() => ({ items: [] }));
    for (const { id } of items) {
      await control.admin.messages.release(id);
      // Only when somebody else has it, whoever has lost it can do harm.
      const end = performance.now() + CLAIM_MS;
      while (performance.now() < end && (await control.admin.messages.get(id))?.state !== "leased") {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  }
}

async function checkEnd(
  control: Store,
  run: RunHandle<Seen>,
  scene: Scene,
  seen: Seen,
  accident: Accident,
  crashes: number,
): Promise<void> {
  const isPostgres = scene.insert.includes("$1");
  const rows = await control.transaction((tx) =>
    tx.query(`select nonce from effects where run = ${isPostgres ? "$1" : "?"}`, [run.id])
  );
  checkTraces({
    seen,
    steps: await run.steps(),
    effects: scene.effects,
    views: scene.views,
    rows: rows.map(({ nonce }) => String(nonce)),
    isStolen: accident === "theft",
    crashes,
  });
  await checkQueues(control, scene);
}

/** Which round trips an accident happens at. */
export interface SweepOptions {
  /** At one of so many. @default 1 */
  readonly stride?: number;
  /** Whether before or after it. @default both */
  readonly when?: When;
  /** Only those of these names count. @default all */
  readonly names?: readonly string[];
}

/** Lets an accident happen at each round trip there is, or at one of so many. */
export async function sweep(
  ground: Ground,
  accident: Accident,
  { stride = 1, when: chosen, names }: SweepOptions = {},
): Promise<Swept> {
  const faults: string[] = [];
  let cases = 0;
  let trips = 0;
  let isPast = false;
  let next = 1;
  const lane = async (): Promise<void> => {
    while (!isPast && faults.length < ENOUGH) {
      const at = next;
      next += stride;
      for (const when of chosen === undefined ? WHENS : [chosen]) {
        cases++;
        try {
          const outcome = await crashAt(ground, accident, { at, when, names });
          if (!outcome.hasHappened) isPast = true;
          else trips = Math.max(trips, at);
        } catch (error) {
          faults.push(`${accident} ${when} round trip ${at}: ${told(error)}`);
        }
      }
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return { trips, cases, faults };
}

function told(error: unknown): string {
  const { message, cause } = error as Error;
  return cause === undefined ? message : `${message}: ${(cause as Error).message}`;
}
