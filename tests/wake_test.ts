/** Hints between processes on SQLite, what an idle worker sends, and the hints themselves. */
import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import { Store } from "../mod.ts";
import { Database } from "../src/database.ts";
import { openSqlite } from "../src/drivers/sqlite.ts";
import { channelOf } from "../src/sql/channel.ts";
import type { Driver } from "../src/sql/driver.ts";
import { decodeHint, encodeHint, Wake } from "../src/wake.ts";
import { freshSqliteFile, memory } from "./support/databases.ts";
import { ENQUEUE, open, OPTIONS, start, until } from "./support/hints.ts";
import { startProcess } from "./support/processes.ts";

describe("hints between SQLite processes", () => {
  test("a worker handles at once what another process has enqueued into the file", async () => {
    const { dsn, close } = freshSqliteFile();
    {
      await using store = await open(dsn);
      await using running = start(store);
      await running.ready();
      await using child = startProcess(ENQUEUE, { args: [dsn, "public", "3"] });
      await until(() => running.handled.length === 3, "all three are handled");
      assertEquals((await child.exited).code, 0, child.stderr);
    }
    await close();
  });

  test("dequeue({ waitMs }) ends with what another connection has committed, and not with its own commits", async () => {
    const { dsn, close } = freshSqliteFile();
    const drivers = await Promise.all([openSqlite(dsn, OPTIONS), openSqlite(dsn, OPTIONS)]) as [Driver, Driver];
    const heard: string[] = [];
    const stop = drivers[0].listen?.("any", { onHint: (text) => heard.push(text), onChange() {} });
    const write = (driver: Driver, text: string) => driver.query({ name: "write", parts: [{ text, values: [] }] });
    await write(drivers[0], "create table t (n integer)");
    await write(drivers[0], "insert into t values (1)");
    await write(drivers[1], "select * from t");
    // After that of another, which comes in any case, nothing of our own can be under way any more.
    await write(drivers[1], "insert into t values (2)");
    await until(() => heard.length > 0, "it is heard");
    assertEquals(heard, ["any"]);
    stop?.();
    for (const driver of drivers) await driver.close();
    await close();
  });

  test("nobody asks the file while nobody waits, and nobody ever asks a database in memory", async () => {
    const { DatabaseSync } = await import("node:sqlite");
    const { adoptSqlite } = await import("../src/drivers/sqlite.ts");
    for (const isFile of [true, false]) {
      const { file, close } = freshSqliteFile();
      const database = new DatabaseSync(isFile ? file : ":memory:");
      let asked = 0;
      const client = {
        exec: (text: string) => database.exec(text),
        close: () => database.close(),
        prepare(text: string) {
          const statement = database.prepare(text);
          return {
            all: (...values: never[]) => {
              if (text.includes("data_version")) asked++;
              return statement.all(...values);
            },
            setReturnArrays: (isOn: boolean) => statement.setReturnArrays(isOn),
            setReadBigInts: (isOn: boolean) => statement.setReadBigInts(isOn),
          };
        },
      };
      const driver = await adoptSqlite(client, OPTIONS);
      const wake = new Wake(driver, "any", true);
      const stops = [wake.subscribe(() => {}), wake.subscribe(() => {})];
      assertEquals(wake.isHeard, isFile);
      if (isFile) await until(() => asked > 2, "it is asked");
      for (const stop of stops) stop();
      const before = asked;
      assertEquals(before > 0, isFile);
      assertEquals(wake.isHeard, false);
      await new Promise((resolve) => setTimeout(resolve, 60));
      assertEquals(asked, before);
      await driver.close();
      database.close();
      await close();
    }
  });
});

describe("an idle worker", () => {
  /** A store on SQLite that counts what it sends. */
  async function counted(dsn: string, pollIntervalMs: number): Promise<{ store: Store; sent: string[] }> {
    const sent: string[] = [];
    const driver = await openSqlite(dsn, OPTIONS);
    const { query } = driver;
    driver.query = (rendered, options) => {
      sent.push(rendered.name);
      return query.call(driver, rendered, options);
    };
    const settings = { leaseMs: 5_000, maxAttempts: 5, maxBatchSize: 100, pollIntervalMs, timeoutMs: 30_000 };
    return { store: new Store(new Database(driver, { dialect: driver.dialect, schema: "public" }, settings)), sent };
  }

  test("sends one statement a poll for any number of queues", async () => {
    for (const count of [1, 3, 10_000]) {
      const { store, sent } = await counted(memory.dsn, 50);
      await store.admin.install();
      await store.transaction(async (tx) => {
        for (let n = 0; n < count; n++) {
          await tx.query(
            "insert into pgqrs_queues (name, created_at, updated_at, max_attempts, max_crashes, backoff) " +
              "values (?, 0, 0, 5, 10, '{}')",
            [`q${n}`],
          );
        }
      });
      const running = start(store, Array.from({ length: count }, (_, n) => `q${n}`));
      await until(() => sent.filter((name) => name === "lookForWork").length > 1, "it looks");
      sent.length = 0;
      const begin = performance.now();
      await until(() => sent.length > 5, "it has looked some times");
      const polls = Math.ceil((performance.now() - begin) / 50) + 1;
      assert(sent.length <= polls, `${sent.length} statements in ${polls} polls`);
      assertEquals([...new Set(sent)], ["lookForWork"]);
      await running[Symbol.asyncDispose]();
      await store.close();
    }
  });

  test("writes nothing, and a hint of anything makes it send one statement", async () => {
    const { dsn, file, close } = freshSqliteFile();
    const { store, sent } = await counted(dsn, 5);
    await store.admin.install();
    for (const name of ["a", "b", "c"]) await store.admin.createQueue(name);
    const running = start(store, ["a", "b", "c"]);
    await running.ready();
    const { DatabaseSync } = await import("node:sqlite");
    const other = new DatabaseSync(file);
    const version = () => Object.values(other.prepare("pragma data_version").get() ?? {})[0];
    await until(() => sent.filter((name) => name === "lookForWork").length > 1, "it looks");
    const before = version();
    sent.length = 0;
    await until(() => sent.length > 3, "it has looked some times");
    assertEquals(version(), before);
    assertEquals([...new Set(sent)], ["lookForWork"]);
    other.exec("create table mine (n integer)");
    await until(() => sent.length > 8, "it has looked some more times");
    assertEquals([...new Set(sent)], ["lookForWork"]);
    other.close();
    await running[Symbol.asyncDispose]();
    await store.close();
    await close();
  });
});

describe("Wake", () => {
  const quiet = { dialect: {} } as unknown as Driver;

  test("encodeHint() and decodeHint() agree, and what is unknown may be about anything", () => {
    for (const hint of [{ kind: "queue", name: "a:b/ü" }, { kind: "any" }, { kind: "control" }, { kind: "ended" }]) {
      assertEquals(decodeHint(encodeHint(hint as never)), hint as never);
    }
    assertEquals(decodeHint("of a later release"), { kind: "any" });
  });

  test("channelOf() fits a name of Postgres, whatever the schema", () => {
    assertEquals(channelOf("public"), "pgqrs_public");
    const long = [..."äb"].map((char) => channelOf(char.repeat(60)));
    for (const name of long) assert(new TextEncoder().encode(name).length <= 63);
    assert(long[0] !== long[1]);
  });

  test("a hint of this process that comes back by the database is not told again", () => {
    let hear = (_: string): void => {};
    const driver: Driver = {
      ...quiet,
      listen: (_, { onHint }) => {
        hear = onHint;
        return () => {};
      },
    };
    const wake = new Wake(driver, "c", true);
    const told: string[] = [];
    const stop = wake.subscribe((hint) => told.push(encodeHint(hint)));
    hear(wake.encode({ kind: "queue", name: "own" }));
    hear(new Wake(driver, "c", true).encode({ kind: "queue", name: "others" }));
    hear("queue:bare");
    assertEquals(told, ["queue:others", "queue:bare"]);
    stop();
    hear("queue:late");
    assertEquals(told.length, 2);
  });

  test("nothing is listened to after close(), and driver.listen() only while somebody waits", () => {
    let count = 0;
    let open = 0;
    const driver: Driver = {
      ...quiet,
      listen: (_, { onChange }) => {
        count++;
        open++;
        onChange(true);
        return () => void open--;
      },
    };
    const wake = new Wake(driver, "c", true);
    const told: string[] = [];
    const stops = [1, 2].map(() => wake.subscribe((hint) => told.push(hint.kind)));
    assertEquals([count, open, wake.isHeard], [1, 1, true]);
    // Whoever subscribes looks for himself: that it is heard from the beginning tells nobody anything.
    assertEquals(told, []);
    for (const stop of stops) stop();
    assertEquals([count, open, wake.isHeard], [1, 0, false]);
    wake.subscribe(() => {});
    wake.close();
    wake.subscribe(() => {});
    assertEquals([count, open, wake.isHeard], [2, 0, false]);
    new Wake(driver, "c", false).subscribe(() => {});
    assertEquals(count, 2);
  });

  test("pauseMs() grows where a look is a request over the network", () => {
    const local = new Wake(quiet, "c", true);
    assertEquals([0, 1, 9].map((inVain) => local.pauseMs(250, inVain)), [250, 250, 250]);
    const remote = new Wake({ ...quiet, polling: { shortestMs: 1_000, longestMs: 5_000 } }, "c", true);
    assertEquals([0, 1, 2, 3, 99].map((inVain) => remote.pauseMs(250, inVain)), [1_000, 2_000, 4_000, 5_000, 5_000]);
    assertEquals(remote.pauseMs(60_000, 3), 60_000);
  });
});
