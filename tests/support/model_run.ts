/**
 * Runs commands on a real queue and on its model side by side.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  type ArchivedMessage,
  connect,
  type Consumer,
  type Message,
  type Producer,
  StateError,
  type Store,
} from "../../mod.ts";
import { freshLibsql, freshPostgres, memory, type TestDatabase } from "./databases.ts";
import {
  type Command,
  type KeyedCommand,
  LIMITS,
  type OperateCommand,
  pick,
  QueueModel,
  type SettleCommand,
} from "./queue_model.ts";

/** The databases that have to agree. */
export const BACKENDS: Readonly<Record<string, () => Promise<TestDatabase>>> = {
  SQLite: () => Promise.resolve(memory),
  libSQL: () => freshLibsql(),
  Postgres: () => freshPostgres(),
};

/** How the fields of a command are made up. */
type Fields<Kind> = {
  readonly [Name in keyof Omit<Extract<Command, { kind: Kind }>, "kind">]: fc.Arbitrary<
    Extract<Command, { kind: Kind }>[Name]
  >;
};

/** Lists of commands. */
export function commands(maxLength: number): fc.Arbitrary<Command[]> {
  const at = fc.nat({ max: 5 });
  const ms = fc.constantFrom(0, 0, 1, 50, 1_000);
  const n = fc.nat({ max: 1 });
  const until = fc.constantFrom(undefined, "finished" as const, "started" as const, 100);
  const onConflict = fc.constantFrom("existing" as const, "reject" as const, "replace" as const);
  const consumer = fc.nat({ max: 1 });
  const priority = fc.constantFrom(0, 0, 5, 9);
  const changed = fc.option(priority, { nil: undefined });
  const leaseMs = fc.constantFrom(10, 5_000, 100_000);
  const often: { readonly [Kind in Command["kind"]]: [number, Fields<Kind>] } = {
    enqueue: [4, { n, delayMs: ms, priority }],
    enqueueKeyed: [4, { n, delayMs: ms, key: fc.constantFrom("a", "b"), onConflict, until }],
    dequeue: [10, { consumer, limit: fc.integer({ min: 1, max: 3 }), leaseMs }],
    archive: [2, { at }],
    delete: [1, { at }],
    release: [2, { at, ms }],
    extend: [2, { at, ms: fc.constantFrom(1, 50, 1_000) }],
    fail: [4, { at, ms, retry: fc.constantFrom(true, true, false) }],
    cancel: [1, { at }],
    remove: [1, { at }],
    replay: [2, { at }],
    update: [2, { at, delayMs: fc.option(ms, { nil: undefined }), priority: changed }],
    advance: [4, { ms: fc.constantFrom(1, 1, 20, 50, 200, 6_000, 86_500_000) }],
    crash: [1, { consumer }],
    pause: [1, {}],
    resume: [4, {}],
  };
  const command = fc.oneof(
    ...Object.entries(often).map(([kind, [weight, fields]]) => ({
      weight,
      arbitrary: fc.record({ kind: fc.constant(kind), ...fields }) as unknown as fc.Arbitrary<Command>,
    })),
  );
  return fc.array(command, { minLength: 1, maxLength, size: "max" });
}

/** A database on which one list of commands after the other is run, each on a queue of its own. */
export interface ModelArena extends AsyncDisposable {
  /** Runs commands here and on the model, compares all that is seen, and resolves to what is left at the end. */
  run(list: readonly Command[]): Promise<unknown[]>;
}

/** Opens a database whose clock is that of the model. */
export async function openModelArena(open: () => Promise<TestDatabase>): Promise<ModelArena> {
  const database = await open();
  const clock = { now: Date.UTC(2030, 0, 1) };
  const store = await connect(database.dsn, { clock: () => clock.now, maxConnections: 2 });
  await store.admin.install();
  let runs = 0;
  return {
    async run(list) {
      const queue = `q${runs++}`;
      await store.admin.createQueue(queue, LIMITS);
      const world = openWorld(store, queue);
      const model = new QueueModel(clock.now);
      try {
        for (const [i, command] of list.entries()) {
          // The place among the deliveries is counted before the command, and equal in both.
          const expected = model.run(command);
          clock.now = model.now;
          assertEquals(await world.run(command), expected, `command ${i}, ${JSON.stringify(command)}`);
        }
        const seen = await world.seen();
        assertEquals(seen, model.seen());
        return seen;
      } finally {
        await store.admin.queues.delete(queue, { force: true });
      }
    },
    async [Symbol.asyncDispose]() {
      await store.close();
      await database.close();
    },
  };
}

interface Payload {
  readonly n: number;
}

/** The real queue, with what its users remember. */
interface World {
  readonly store: Store;
  readonly queue: string;
  readonly producer: Producer<Payload>;
  readonly consumers: readonly Consumer<Payload>[];
  /** The ids in the order in which they were given. */
  readonly ids: number[];
  deliveries: { readonly consumer: number; readonly message: Message<Payload> }[];
}

function openWorld(
  store: Store,
  queue: string,
): { run(command: Command): Promise<unknown>; seen(): Promise<unknown[]> } {
  const world: World = {
    store,
    queue,
    producer: store.producer<Payload>(queue),
    consumers: [0, 1].map((i) => store.consumer<Payload>(queue, { name: `c${i}` })),
    ids: [],
    deliveries: [],
  };
  return { run: (command) => runCommand(world, command), seen: () => seeAll(world) };
}

async function runCommand(world: World, command: Command): Promise<unknown> {
  const { store, queue, producer } = world;
  switch (command.kind) {
    case "enqueue": {
      const { n, delayMs, priority } = command;
      return indexOf(world, (await producer.enqueue({ n }, { delayMs, priority })).id);
    }
    case "enqueueKeyed":
      return await enqueueKeyed(world, command);
    case "dequeue": {
      const { consumer, limit, leaseMs } = command;
      const messages = await (world.consumers[consumer] as Consumer<Payload>).dequeue({ limit, leaseMs });
      world.deliveries.push(...messages.map((message) => ({ consumer, message })));
      return messages.map((message) => seeLive(world, message));
    }
    case "cancel":
    case "remove":
    case "update":
    case "replay":
      return await operate(world, command);
    case "advance":
      return null;
    case "crash":
      world.deliveries = world.deliveries.filter(({ consumer }) => consumer !== command.consumer);
      return null;
    case "pause":
    case "resume":
      await store.admin.queues[command.kind](queue);
      return null;
    default:
      return await settle(world, command);
  }
}

async function enqueueKeyed(world: World, command: KeyedCommand): Promise<unknown> {
  const { n, delayMs, key, onConflict, until } = command;
  const taken = { value: key, onConflict, ...(until !== undefined && { until }) };
  try {
    return indexOf(world, (await world.producer.enqueue({ n }, { delayMs, key: taken })).id);
  } catch (error) {
    if (error instanceof StateError) return "refused";
    throw error;
  }
}

async function settle(
  { deliveries, consumers }: World,
  command: SettleCommand,
): Promise<unknown> {
  const delivery = pick(deliveries, command.at);
  if (delivery === undefined) return null;
  const { message } = delivery;
  const consumer = consumers[delivery.consumer] as Consumer<Payload>;
  if (command.kind === "archive") return await consumer.archive(message, { reason: "done", result: message.payload });
  if (command.kind === "delete") return await consumer.delete(message);
  if (command.kind === "release") return await consumer.release(message, { delayMs: command.ms });
  if (command.kind === "extend") return await consumer.extend(message, command.ms);
  return await consumer.fail(message, new Error("no"), { delayMs: command.ms, retry: command.retry });
}

async function operate(
  { store: { admin }, ids }: World,
  command: OperateCommand,
): Promise<unknown> {
  const id = pick(ids, command.at);
  if (id === undefined) return null;
  if (command.kind === "cancel") return await admin.messages.cancel(id);
  if (command.kind === "remove") return await admin.messages.delete(id);
  if (command.kind === "replay") return await admin.archive.replay(id);
  const { delayMs, priority } = command;
  const change = { ...(delayMs !== undefined && { delayMs }), ...(priority !== undefined && { priority }) };
  return (await admin.messages.update(id, change)) !== null;
}

/** The place of an id among those given so far; a new one is added at the end. */
function indexOf({ ids }: World, id: number): number {
  if (!ids.includes(id)) ids.push(id);
  return ids.indexOf(id);
}

async function seeAll(world: World): Promise<unknown[]> {
  const { store: { admin }, queue, ids } = world;
  const live = (await admin.messages.list<Payload>({ queue, limit: 1_000 })).items;
  const ended = (await admin.archive.list<Payload>({ queue, limit: 1_000 })).items;
  const all = [
    ...live.map((message) => ({ id: message.id, seen: seeLive(world, message) })),
    ...ended.map((message) => ({ id: message.id, seen: seeEnded(world, message) })),
  ];
  return all.sort((a, b) => ids.indexOf(a.id) - ids.indexOf(b.id)).map(({ seen }) => seen);
}

function seeLive(world: World, message: Message<Payload>): unknown {
  const { state, visibleAt, leaseUntil, worker } = message;
  const due = { state, dueAt: visibleAt.getTime() };
  const lease = leaseUntil === null ? {} : { leaseUntil: leaseUntil.getTime(), worker };
  return { ...seeCommon(world, message), ...due, ...lease };
}

function seeEnded(world: World, message: ArchivedMessage<Payload>): unknown {
  const { state, reason, archivedAt, archivedBy, processingMs } = message;
  return { ...seeCommon(world, message), state, reason, archivedAt: archivedAt.getTime(), archivedBy, processingMs };
}

function seeCommon(world: World, message: Message<Payload>): object {
  const { id, payload, priority, key, attempts, crashes, enqueuedAt, error } = message;
  const index = world.ids.indexOf(id);
  const isErroneous = error !== null;
  return { index, payload: payload.n, priority, key, attempts, crashes, enqueuedAt: enqueuedAt.getTime(), isErroneous };
}
