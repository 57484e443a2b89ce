/**
 * The `pgqrs` command inside of the test: what it was given, what it has said.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { main } from "../../cli.ts";
import { freshSqliteFile, type TestDatabase } from "./databases.ts";

/** What a command has said. */
export interface Answer {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Who sits before the command. */
export interface Seat {
  /** What is piped in. */
  readonly input?: string | AsyncIterable<Uint8Array>;
  /** What is answered to a question; without it nobody can be asked. */
  readonly answer?: string;
  /** How wide the terminal is; without it there is none. */
  readonly columns?: number;
  readonly hasColor?: boolean;
  readonly signal?: AbortSignal;
  /** Hears of every word as it comes. */
  readonly hear?: (text: string) => void;
}

/** Runs a command line. */
export type Pgqrs = (...argv: string[]) => Promise<Answer>;

/** Runs a command line from a seat. */
export async function run(argv: readonly string[], seat: Seat = {}): Promise<Answer> {
  const { input, answer, columns, hasColor, signal, hear = () => {} } = seat;
  let [out, err] = ["", ""];
  const code = await main(argv, {
    out(text) {
      out += text;
      hear(text);
    },
    err(text) {
      err += text;
      hear(text);
    },
    ...(input !== undefined && { input: typeof input === "string" ? bytesOf(input) : input }),
    ...(answer !== undefined && {
      ask(question: string) {
        err += question;
        return Promise.resolve(answer);
      },
    }),
    ...(columns !== undefined && { columns, errColumns: columns }),
    ...(hasColor !== undefined && { hasColor }),
    ...(signal !== undefined && { signal }),
  });
  return { code, out, err };
}

/** Runs work with a command on an installed database that has a queue "tasks". */
export async function withDatabase(
  work: (pgqrs: Pgqrs, dsn: string) => Promise<void>,
  database: TestDatabase = freshSqliteFile(),
): Promise<void> {
  const { dsn, close } = database;
  const pgqrs: Pgqrs = (...argv) => run(["--dsn", dsn, ...argv]);
  try {
    assertEquals((await pgqrs("install")).code, 0);
    assertEquals((await pgqrs("queue", "create", "tasks")).code, 0);
    await work(pgqrs, dsn);
  } finally {
    await close();
  }
}

/** Runs a command that is expected to succeed, and reads its JSON as a list. */
export async function json(pgqrs: Pgqrs, ...argv: string[]): Promise<Record<string, unknown>[]> {
  const { code, out, err } = await pgqrs(...argv, "--format", "json");
  assertEquals(code, 0, err);
  return [JSON.parse(out)].flat();
}

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield await Promise.resolve(new TextEncoder().encode(text));
}
