/** Large lists in a SQLite file, whose log is copied by a thread meanwhile. */
import { assert, assertEquals } from "@std/assert";
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { connect, type SqliteClient, type Store } from "../mod.ts";
import { freshSqliteFile } from "./support/databases.ts";
import { startProcess } from "./support/processes.ts";

/** A list that is just large enough for a thread. */
const PAYLOADS = Array.from({ length: 10 }, () => "x".repeat(100_000));

async function openStore(target: SqliteClient | string): Promise<Store> {
  const store = await connect(target);
  await store.admin.install();
  await store.admin.createQueue("tasks");
  return store;
}

test("a process ends by itself after large lists, and makes no file where it has gone meanwhile", async () => {
  const database = freshSqliteFile();
  const folder = dirname(database.file);
  for (const name of ["first", "second"]) mkdirSync(`${folder}/${name}`);
  await using child = startProcess(new URL("./support/log_process.ts", import.meta.url), { args: [folder] });
  await child.waitFor("closed");
  const late = setTimeout(() => child.kill(), 20_000);
  assertEquals(await child.exited, { code: 0, signal: null });
  clearTimeout(late);
  assertEquals(readdirSync(`${folder}/first`), ["jobs.db"]);
  assertEquals(readdirSync(`${folder}/second`), []);
  await database.close();
});

test("a database file that is removed while a large list is stored is not made anew", async () => {
  const { dsn, file, close } = freshSqliteFile();
  const store = await openStore(dsn);
  const stored = store.producer("tasks").enqueueMany(PAYLOADS);
  for (const path of [file, `${file}-wal`, `${file}-shm`]) rmSync(path);
  await stored;
  await store.close();
  assert(!existsSync(file));
  await close();
});

test("large lists that follow each other closely do not let the log grow for ever", async () => {
  const { dsn, file, close } = freshSqliteFile();
  const store = await openStore(dsn);
  const producer = store.producer("tasks");
  const sizes: number[] = [];
  await Promise.all(Array.from({ length: 4 }, async () => {
    for (let i = 0; i < 10; i++) {
      await producer.enqueueMany(PAYLOADS);
      sizes.push(statSync(`${file}-wal`).size);
    }
  }));
  // A list has a million characters, and while two are copied a third may be written.
  assert(Math.max(...sizes) < 4_500_000, `the log has grown to ${Math.max(...sizes)} bytes`);
  await store.close();
  await close();
});

test("enqueueMany() cuts a list by its headers too", async () => {
  const client = new DatabaseSync(":memory:");
  let longest = 0;
  const store = await openStore({
    exec: (text) => client.exec(text),
    prepare: (text) => {
      const statement = client.prepare(text);
      return {
        all: (...values) => {
          for (const value of values) longest = Math.max(longest, String(value).length);
          return statement.all(...values as never[]);
        },
        setReturnArrays: (isOn) => statement.setReturnArrays(isOn),
        setReadBigInts: (isOn) => statement.setReadBigInts(isOn),
      };
    },
    close: () => client.close(),
  });
  const headers = { text: "x".repeat(16_000) };
  const payloads = Array.from({ length: 200 }, (_, n) => n);
  const stored = await store.producer<number>("tasks").enqueueMany(payloads, { each: () => ({ headers }) });
  assertEquals(stored.map(({ payload }) => payload), payloads);
  assertEquals(await store.admin.messages.count(), 200);
  assert(longest < 400_000, `a text of ${longest} characters`);
  await store.close();
  client.close();
});
