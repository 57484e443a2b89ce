/**
 * What a contract test gets: a fresh database with the schema in it, on whatever backend the suite runs on.
 *
 * @module
 */
import { assert } from "@std/assert";
import { randomUUID } from "node:crypto";
import { after } from "node:test";
import {
  connect,
  type ConnectOptions,
  type Consumer,
  type DequeueOptions,
  type Message,
  type Page,
  type Producer,
  type Store,
} from "../../mod.ts";
import {
  freshLibsql,
  freshPostgres,
  freshSqliteFile,
  memory,
  type TestDatabase,
  type TestLibsql,
} from "../support/databases.ts";

/** An empty database, or on Postgres an empty schema. */
export interface Place {
  readonly dsn: string;
  /** The schema of pgqrs; of no meaning on SQLite. */
  readonly schema: string;
  /** The file behind it, on SQLite and libSQL, to look at it by another way. */
  readonly file?: string;
  /** Opens a store on it; nothing is installed. In memory every store has a database of its own. */
  connect(options?: ConnectOptions): Promise<Store>;
  /** Removes it. */
  close(): Promise<void>;
}

/** A backend. */
export interface Context {
  readonly name: string;
  readonly dialect: "postgres" | "sqlite";
  /** Whether a database has one store only, because it is in memory. */
  readonly isAlone: boolean;
  /** Makes an empty place. */
  place(): Promise<Place>;
  /** Opens a store on a fresh place and installs. */
  connect(options?: ConnectOptions): Promise<Store>;
}

/** Time that stands still until it is moved. */
export class TestClock {
  /** Milliseconds since the epoch. */
  now = Date.UTC(2030, 0, 1);

  advance(ms: number): void {
    this.now += ms;
  }
}

/** What most tests need: a queue `tasks` with a producer and a consumer. */
export interface Scene {
  readonly place: Place;
  readonly store: Store;
  readonly producer: Producer;
  readonly consumer: Consumer;
  /** Moves the time of the store, for tests made by {@linkcode inTime}. */
  readonly clock: TestClock;
}

/** A test on a fresh database with a queue `tasks`, by the database's clock. */
export function inStore(
  context: Context,
  work: (scene: Scene) => Promise<void>,
  options: ConnectOptions = {},
): () => Promise<void> {
  return () => play(context, work, options, new TestClock());
}

/** The same by a clock that the test moves. */
export function inTime(
  context: Context,
  work: (scene: Scene) => Promise<void>,
  options: ConnectOptions = {},
): () => Promise<void> {
  return () => {
    const clock = new TestClock();
    return play(context, work, { ...options, clock: () => clock.now }, clock);
  };
}

async function play(
  context: Context,
  work: (scene: Scene) => Promise<void>,
  options: ConnectOptions,
  clock: TestClock,
): Promise<void> {
  const place = await context.place();
  try {
    await using store = await place.connect(options);
    await store.admin.install();
    await store.admin.createQueue("tasks");
    const producer = store.producer("tasks");
    const consumer = store.consumer("tasks", { name: "ann" });
    await work({ place, store, producer, consumer, clock });
  } finally {
    await place.close();
  }
}

/** Takes one message, which has to be there. */
export async function takeOne(consumer: Consumer, options: DequeueOptions = {}): Promise<Message> {
  const [message] = await consumer.dequeue({ ...options, limit: 1 });
  assert(message !== undefined, "there is no message to take");
  return message;
}

/** The ids of the messages of a page. */
export function idsOf({ items }: Page<Message>): number[] {
  return items.map(({ id }) => id);
}

/** Postgres: one database for a test file, a schema for each test. `start` gives the server's DSN. */
export function postgresContext(start?: () => Promise<string>, name = "Postgres"): Context {
  let opening: Promise<TestDatabase> | undefined;
  const open = (): Promise<TestDatabase> => opening ??= (start?.() ?? Promise.resolve(undefined)).then(freshPostgres);
  after(async () => await (await opening)?.close());
  return contextOf(name, "postgres", async () => {
    const { dsn } = await open();
    return { dsn, schema: `s${randomUUID().slice(0, 8)}`, close: () => Promise.resolve() };
  });
}

/** SQLite in a file of its own for each test. */
export function sqliteFileContext(): Context {
  return contextOf("SQLite file", "sqlite", () => Promise.resolve({ ...freshSqliteFile(), schema: "public" }));
}

/** SQLite in memory. */
export function memoryContext(): Context {
  return contextOf("SQLite memory", "sqlite", () => Promise.resolve({ ...memory, schema: "public" }));
}

/** libSQL over HTTP, against a server of the tests' own. */
export function libsqlContext(): Context {
  return contextOf("libSQL", "sqlite", async () => {
    const { dsn, file, close }: TestLibsql = await freshLibsql();
    return { dsn, file, close, schema: "public" };
  });
}

function contextOf(
  name: string,
  dialect: "postgres" | "sqlite",
  open: () => Promise<Omit<Place, "connect">>,
): Context {
  const place = async (): Promise<Place> => {
    const opened = await open();
    return { ...opened, connect: (options) => connect(opened.dsn, { schema: opened.schema, ...options }) };
  };
  return {
    name,
    dialect,
    isAlone: name === "SQLite memory",
    place,
    async connect(options) {
      const fresh = await place();
      const store = await fresh.connect(options);
      await store.admin.install();
      const close = store.close.bind(store);
      store.close = async () => {
        await close();
        await fresh.close();
      };
      return store;
    },
  };
}
