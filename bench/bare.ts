/**
 * The same statements through the same clients without the library: what it costs at least.
 *
 * Each statement is rendered once with marks for its values. At run time the marks are replaced and the text is sent as it
 * is: no checks, no encoding beyond `JSON.stringify`, no time limits, no reconnection. Rows are decoded as far as a user would.
 */
import { DatabaseSync } from "node:sqlite";
import postgresJs from "postgres";
import { postgres, sqlite } from "../src/sql/dialect.ts";
import { enqueueMessages } from "../src/sql/enqueue.ts";
import { archiveLeased, claimMessages } from "../src/sql/leases.ts";
import { render, type RenderedPart, type Statement, type Target } from "../src/sql/sql.ts";
import { QUEUE } from "./job.ts";
import { LEASE_MS, type Subject } from "./subject.ts";

const MARK = "987654321";
const HOLDER = "bench#00000000";

type Value = string | number | bigint | null;

/** A statement with a hole for the one value that differs from call to call. */
interface Template {
  readonly parts: readonly RenderedPart[];
  fill(part: RenderedPart, value: string): Value[];
}

interface Templates {
  readonly enqueue: Template;
  readonly archive: Template;
  claim(limit: number): readonly RenderedPart[];
}

function templatesFor(target: Target): Templates {
  const claims = new Map<number, readonly RenderedPart[]>();
  const claim = { queue: QUEUE, leaseMs: LEASE_MS, defaultLeaseMs: 5_000, holder: HOLDER, type: undefined };
  return {
    enqueue: template(enqueueMessages(QUEUE, [MARK], {}), target),
    archive: template(
      archiveLeased([{ id: Number(MARK), token: 1, reason: null, result: null }], HOLDER, "bench"),
      target,
    ),
    claim(limit) {
      const known = claims.get(limit) ?? render(claimMessages({ ...claim, limit }), target).parts;
      claims.set(limit, known);
      return known;
    },
  };
}

function template(statement: Statement, target: Target): Template {
  return {
    parts: render(statement, target).parts,
    fill: ({ values }, text) => values.map((value) => typeof value === "string" && value.includes(MARK) ? text : value),
  };
}

/** The list of what was claimed, as the statement that archives it takes it. */
function settleList(rows: readonly (readonly unknown[])[]): string {
  const items = rows.map((row) => {
    JSON.parse(String(row[14]));
    return { id: Number(row[0]), token: Number(row[6]), reason: null, result: null };
  });
  return JSON.stringify(items.sort((a, b) => a.id - b.id));
}

/** Bare Postgres: the `postgres` client with as many connections as the library uses for short statements. */
export function openBarePostgres(dsn: string): Subject {
  const sql = postgresJs(dsn, { max: 2, fetch_types: false, onnotice() {} });
  const { enqueue, archive, claim } = templatesFor({ dialect: postgres, schema: "public" });
  const send = async (text: string, values: readonly Value[]): Promise<readonly unknown[][]> =>
    await sql.unsafe(text, [...values] as never[], { prepare: true }).values() as unknown as unknown[][];
  const fill = async ({ parts, fill }: Template, value: string): Promise<readonly unknown[][]> => {
    const [part] = parts as [RenderedPart];
    return await send(part.text, fill(part, value));
  };
  return {
    name: "bare",
    enqueue: (job) => fill(enqueue, `[${JSON.stringify(job)}]`),
    enqueueMany: (jobs) => fill(enqueue, `[${jobs.map((job) => JSON.stringify(job)).join(",")}]`),
    async work(limit) {
      const [part] = claim(limit) as [RenderedPart];
      const rows = await send(part.text, part.values as readonly Value[]);
      return rows.length === 0 ? 0 : (await fill(archive, settleList(rows))).length;
    },
    close: () => sql.end({ timeout: 5 }),
  };
}

/** Bare SQLite: `node:sqlite` with the settings that the library opens a file with, and statements prepared once. */
export function openBareSqlite(file: string): Subject {
  const database = new DatabaseSync(file);
  database.exec("pragma journal_mode = wal; pragma synchronous = full");
  const { enqueue, archive, claim } = templatesFor({ dialect: sqlite, schema: "public" });
  const prepared = new Map<string, ReturnType<DatabaseSync["prepare"]>>();
  const all = (text: string, values: readonly Value[]): unknown[][] => {
    let statement = prepared.get(text);
    if (statement === undefined) {
      statement = database.prepare(text);
      statement.setReturnArrays(true);
      prepared.set(text, statement);
    }
    return statement.all(...values) as unknown as unknown[][];
  };
  const atomically = <T>(work: () => T): Promise<T> => {
    database.exec("begin immediate");
    const result = work();
    database.exec("commit");
    return Promise.resolve(result);
  };
  const [insert, last] = enqueue.parts as [RenderedPart, RenderedPart];
  const insertMany = (texts: readonly string[]): Promise<unknown> =>
    atomically(() => {
      for (let i = 0; i < texts.length; i += sqlite.listLimit) {
        all(insert.text, enqueue.fill(insert, JSON.stringify(texts.slice(i, i + sqlite.listLimit))));
      }
      return all(last.text, last.values as readonly Value[]);
    });
  return {
    name: "bare",
    enqueue: (job) => insertMany([JSON.stringify(job)]),
    enqueueMany: (jobs) => insertMany(jobs.map((job) => JSON.stringify(job))),
    async work(limit) {
      const rows = await atomically(() => claim(limit).flatMap(({ text, values }) => all(text, values as Value[])));
      if (rows.length === 0) return 0;
      const [part] = archive.parts as [RenderedPart];
      return all(part.text, archive.fill(part, settleList(rows))).length;
    },
    close(): Promise<void> {
      database.close();
      return Promise.resolve();
    },
  };
}

/** Empties the tables, so that every run begins on the same ground. */
export async function clear(dsn: string): Promise<void> {
  if (dsn.startsWith("sqlite:")) {
    const database = new DatabaseSync(dsn.slice("sqlite:".length));
    database.exec("pragma busy_timeout = 5000; delete from pgqrs_messages; delete from pgqrs_archive");
    database.exec("pragma wal_checkpoint(truncate)");
    database.close();
    return;
  }
  const sql = postgresJs(dsn, { max: 1, onnotice() {} });
  await sql.unsafe("truncate pgqrs_messages, pgqrs_archive");
  await sql.unsafe("checkpoint");
  await sql.end({ timeout: 5 });
}
