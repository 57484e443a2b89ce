/** Where the queues are measured: a server, or a folder of files, with a fresh database for every run. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { startPostgres } from "../tests/support/postgres_server.ts";
import { serverCpu } from "./machine.ts";

/** The server of the comparisons. `fsync` and `synchronous_commit` are on, autovacuum too. */
export const SETTINGS = {
  fsync: "on",
  synchronous_commit: "on",
  wal_level: "replica",
  shared_buffers: "1GB",
  max_wal_size: "8GB",
  min_wal_size: "1GB",
  checkpoint_timeout: "15min",
  max_connections: "300",
};

/** A place for databases. */
export interface Ground extends AsyncDisposable {
  readonly title: string;
  /** Makes an empty database; the one that was made before is gone. */
  fresh(): Promise<string>;
  /** Makes a database that stays, or gives the one of this name. */
  keep(name: string): Promise<{ readonly dsn: string; readonly isNew: boolean }>;
  /** Vacuums, analyses, checkpoints: every drain begins on the same ground. */
  tidy(dsn: string): Promise<void>;
  /** Executes statements. */
  run(dsn: string, ...texts: readonly string[]): Promise<void>;
  /** Asks one thing: the first column of the first row. */
  ask(dsn: string, text: string): Promise<unknown>;
  /** The CPU time of the server so far, in microseconds. */
  cpu(): number;
  /** Holds a snapshot of a database until it is let go. */
  holdSnapshot(dsn: string): Promise<() => Promise<void>>;
}

/** A server of its own, with the binaries of the tests. */
export async function openServer(): Promise<Ground> {
  const server = await startPostgres({ settings: SETTINGS });
  const settings = Object.entries(SETTINGS).map(([name, value]) => `${name}=${value}`).join(", ");
  const kept = new Set<string>();
  const open = (dsn: string): postgres.Sql => postgres(dsn, { max: 1, onnotice() {} });
  const run = async (dsn: string, ...texts: readonly string[]): Promise<void> => {
    const sql = open(dsn);
    try {
      for (const text of texts) await sql.unsafe(text);
    } finally {
      await sql.end({ timeout: 5 });
    }
  };
  const create = (name: string): Promise<void> =>
    run(server.dsn(), `drop database if exists ${name} with (force)`, `create database ${name}`);
  return {
    title: `PostgreSQL ${server.version}, ${settings}`,
    async fresh() {
      await create("bench");
      return server.dsn("bench");
    },
    async keep(name) {
      const isNew = !kept.has(name);
      if (isNew) await create(name);
      kept.add(name);
      return { dsn: server.dsn(name), isNew };
    },
    tidy: (dsn) => run(dsn, "vacuum analyze", "checkpoint"),
    run,
    async ask(dsn, text) {
      const sql = open(dsn);
      try {
        return (await sql.unsafe(text).values())[0]?.[0];
      } finally {
        await sql.end({ timeout: 5 });
      }
    },
    cpu: () => serverCpu(server.pid),
    async holdSnapshot(dsn) {
      const sql = open(dsn);
      await sql.unsafe("begin isolation level repeatable read");
      await sql.unsafe("select count(*) from pg_class");
      return async () => {
        await sql.unsafe("rollback");
        await sql.end({ timeout: 5 });
      };
    },
    [Symbol.asyncDispose]: () => server.close(),
  };
}

/** A folder for files of SQLite. */
export function openFolder(): Ground {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-bench-"));
  let count = 0;
  const next = (): string => `sqlite:${join(folder, `${++count}.db`)}`;
  const unused = (): never => {
    throw new Error("A file of SQLite has no server");
  };
  return {
    title: "SQLite file, journal_mode=wal, synchronous=full (plainjob: normal)",
    fresh: () => Promise.resolve(next()),
    keep: unused,
    tidy: () => Promise.resolve(),
    run: unused,
    ask: unused,
    cpu: () => 0,
    holdSnapshot: unused,
    [Symbol.asyncDispose]() {
      rmSync(folder, { recursive: true, force: true });
      return Promise.resolve();
    },
  };
}
