/** `install` under fire: by many processes at once, and by some that are killed at each of its statements. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { connect, DatabaseError, SchemaError } from "../mod.ts";
import { render, sql, statement } from "../src/sql/sql.ts";
import { postgres as dialect } from "../src/sql/dialect.ts";
import { bareClient, freshLibsql, freshPostgres, freshSqliteFile, type TestDatabase } from "./support/databases.ts";
import { countStatements, openAround } from "./support/install_stops.ts";
import { startProcess } from "./support/processes.ts";

const PROCESS = new URL("./support/install_process.ts", import.meta.url);
const PROCESSES = 20;
const BARRIER = 20_260_101;

interface Place {
  readonly dsn: string;
  readonly schema: string;
}

/** A backend with as many empty places as a test asks for. */
interface Ground extends AsyncDisposable {
  place(n: number): Promise<Place> | Place;
}

const GROUNDS: Readonly<Record<string, () => Promise<Ground>>> = {
  Postgres: postgresGround,
  "a SQLite file": () => groundOf(freshSqliteFile),
  libSQL: () => groundOf(() => freshLibsql({ idleMs: 200 })),
};

/** One database with a schema for each place. */
async function postgresGround(): Promise<Ground> {
  const { dsn, close } = await freshPostgres();
  return { place: (n) => ({ dsn, schema: `s${n}` }), [Symbol.asyncDispose]: close };
}

/** A database for each place. */
async function groundOf(open: () => Promise<TestDatabase> | TestDatabase): Promise<Ground> {
  const opened: TestDatabase[] = [];
  await Promise.resolve();
  return {
    async place() {
      const database = await open();
      opened.push(database);
      return { dsn: database.dsn, schema: "public" };
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(opened.map((database) => database.close()));
    },
  };
}

describe("install() by many processes", () => {
  test(`makes one schema when ${PROCESSES} of them begin at the same moment`, async () => {
    const { dsn, close } = await freshPostgres();
    const barrier = bareClient(dsn);
    const children = [];
    try {
      await barrier`select pg_advisory_lock(${BARRIER}::bigint)`;
      for (let n = 0; n < PROCESSES; n++) children.push(startProcess(PROCESS, { args: ["together", dsn, "jobs"] }));
      await Promise.all(children.map((child) => child.waitFor("ready")));
      await barrier`select pg_advisory_unlock(${BARRIER}::bigint)`;
      for (const child of children) {
        assertEquals(await child.exited, { code: 0, signal: null }, child.stderr);
      }
      await using store = await connect(dsn, { schema: "jobs" });
      await store.admin.verify();
      const applied = await barrier`select version from jobs.pgqrs_migrations order by version`;
      assertEquals(applied.map(({ version }) => version), applied.map((_, i) => i + 1));
    } finally {
      await Promise.all(children.map((child) => child[Symbol.asyncDispose]()));
      await barrier.end({ timeout: 5 });
      await close();
    }
  });
});

for (const [backend, open] of Object.entries(GROUNDS)) {
  describe(`install() on ${backend}`, () => {
    test("is all or nothing when its process is killed after any of its statements", async () => {
      await using ground = await open();
      const { dsn, schema } = await ground.place(0);
      const count = await countStatements(dsn, schema);
      assert(count > 10);
      const places = await Promise.all(Array.from({ length: count }, (_, i) => ground.place(i + 1)));
      await using child = startProcess(PROCESS, {
        args: ["stop", ...places.flatMap((place) => [place.dsn, place.schema])],
      });
      // In any order, because they run side by side.
      for (let n = 0; n < count; n++) await child.waitFor("stopped after");
      child.kill("SIGKILL");
      assertEquals((await child.exited).signal, "SIGKILL");
      for (const [i, place] of places.entries()) await assertMendable(place, i + 1);
    });
  });
}

/** Nothing is there, and an installation makes everything. */
async function assertMendable({ dsn, schema }: Place, n: number): Promise<void> {
  await using store = await connect(dsn, { schema, maxConnections: 1 });
  await assertRejects(() => store.admin.verify(), SchemaError, "is not installed", `after statement ${n}`);
  await store.admin.install();
  await store.admin.verify();
  await store.admin.createQueue("tasks");
  const { id } = await store.producer("tasks").enqueue(n);
  assertEquals((await store.consumer("tasks").dequeue())[0]?.id, id);
}

describe("install() on a connection that is cut", () => {
  test("changes nothing, says so, and succeeds when it is called again", async () => {
    const { dsn, close } = await freshPostgres();
    const killer = bareClient(dsn);
    const whoAmI = render(statement("whoAmI", sql`select pg_backend_pid()`), { dialect, schema: "" });
    try {
      const count = await countStatements(dsn, "whole");
      // The first statement stands before the transaction; the driver itself asks again when an idle connection is lost.
      for (let cut = 2; cut <= count; cut++) {
        let n = 0;
        await using store = await openAround(dsn, `s${cut}`, async (send, connection) => {
          if (++n !== cut) return await send();
          const [row] = await connection.query(whoAmI);
          await killer`select pg_terminate_backend(${Number(row?.[0])}::int)`;
          return await send();
        });
        const error = await assertRejects(() => store.admin.install(), DatabaseError);
        assertEquals([error.outcome, error.reason], ["not_applied", "connection"], `cut at statement ${cut}`);
        await assertRejects(() => store.admin.verify(), SchemaError, "is not installed");
        await store.admin.install();
        await store.admin.verify();
      }
    } finally {
      await killer.end({ timeout: 5 });
      await close();
    }
  });
});
