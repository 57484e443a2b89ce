/**
 * A libSQL server for tests: Hrana 2 over HTTP on top of `node:sqlite`.
 *
 * It knows what `@libsql/client` asks of an `http:` address, keeps one database connection per stream as the real
 * server does, and can be told to fail on purpose. There are no cursors, no WebSocket, no protobuf and no replicas.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { DatabaseSync, type SQLOutputValue, type StatementSync } from "node:sqlite";
import {
  type BatchOutcome,
  type Condition,
  decode,
  encode,
  type HranaError,
  type Pipeline,
  type Request,
  type Statement,
  type StatementResult,
} from "./hrana_protocol.ts";

/** How to start a server. */
export interface HranaOptions {
  /** @default a free one */
  port?: number;
  /** The bearer token that every request must carry; without one nobody is asked. */
  token?: string;
  /** How long a statement waits for a lock before SQLITE_BUSY. @default 5000 */
  busyMs?: number;
  /** A stream unused for so long is closed and its transaction rolled back. @default 10000 */
  idleMs?: number;
}

/**
 * What goes wrong with a request: the answer comes late, the connection breaks after the work is done, the connection
 * breaks before it, or an error page comes and nothing is done.
 */
export type HranaFault =
  | { kind: "delay"; ms: number }
  | { kind: "dropAfter" }
  | { kind: "dropBefore" }
  | { kind: "status"; status: number };

/** A running server. */
export interface HranaServer {
  /** The address for `createClient` and for a DSN. */
  readonly url: string;
  readonly port: number;
  /** How many pipeline requests arrived. */
  readonly requestCount: number;
  /** How many streams are open between requests, mostly by interactive transactions. */
  readonly streamCount: number;
  /** Lets the next request fail, or the next whose SQL matches. Faults wait in line. */
  inject(fault: HranaFault, matching?: RegExp): void;
  /** Forgets every open stream, as a restart of the server does. */
  dropStreams(): void;
  close(): Promise<void>;
}

interface PlannedFault {
  fault: HranaFault;
  matching: RegExp | undefined;
}

const SQLITE_BUSY = 5;
const CODES = new Map([[1, "SQLITE_ERROR"], [SQLITE_BUSY, "SQLITE_BUSY"], [19, "SQLITE_CONSTRAINT"]]);

/** Starts a server on a database file, which is created when absent. */
export async function startHrana(file: string, options: HranaOptions = {}): Promise<HranaServer> {
  const streams = new Streams(file, options);
  const faults: PlannedFault[] = [];
  let requestCount = 0;
  const server = createServer((request, response) => {
    answer(request, response).catch((error) => send(response, 500, { message: String(error) }));
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const isHealthCheck = request.method === "GET" && (request.url === "/v2" || request.url === "/health");
    if (isHealthCheck) return send(response, 200, {});
    if (options.token !== undefined && request.headers.authorization !== `Bearer ${options.token}`) {
      return send(response, 401, { message: "Unauthorized", code: "AUTH_JWT_INVALID" });
    }
    if (request.url !== "/v2/pipeline") return send(response, 404, { message: "not found" });
    const pipeline: Pipeline = JSON.parse(await textOf(request));
    requestCount++;
    const fault = takeFault(faults, pipeline);
    if (fault?.kind === "dropBefore") return void request.socket.destroy();
    if (fault?.kind === "status") return send(response, fault.status, { message: "Injected fault" });
    const { status, body } = await streams.run(pipeline);
    if (fault?.kind === "dropAfter") return void request.socket.destroy();
    if (fault?.kind === "delay") await pause(fault.ms);
    send(response, status, body);
  }

  const port = await listen(server, options.port ?? 0);
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    get requestCount() {
      return requestCount;
    },
    get streamCount() {
      return streams.count;
    },
    inject(fault, matching) {
      faults.push({ fault, matching });
    },
    dropStreams() {
      streams.clear();
    },
    async close() {
      const closed = new Promise<void>((done) => server.close(() => done()));
      server.closeAllConnections();
      await closed;
      streams.close();
    },
  };
}

/** The open streams, by the baton that continues each. */
class Streams {
  readonly #file: string;
  readonly #busyMs: number;
  readonly #byBaton = new Map<string, { stream: Stream; seenAt: number }>();
  readonly #sweep: ReturnType<typeof setInterval>;

  constructor(file: string, options: HranaOptions) {
    const idleMs = options.idleMs ?? 10_000;
    this.#file = file;
    this.#busyMs = options.busyMs ?? 5_000;
    this.#sweep = setInterval(() => this.clear(Date.now() - idleMs), Math.min(1_000, idleMs));
    this.#sweep.unref();
  }

  get count(): number {
    return this.#byBaton.size;
  }

  /** Runs the requests of one HTTP call in order; the stream stays open until one of them closes it. */
  async run(pipeline: Pipeline): Promise<{ status: number; body: unknown }> {
    const stream = this.#take(pipeline.baton);
    if (stream === undefined) return { status: 400, body: { message: "Stream not found", code: "STREAM_EXPIRED" } };
    const results: unknown[] = [];
    for (const request of pipeline.requests) {
      try {
        results.push({ type: "ok", response: await stream.answer(request) });
      } catch (error) {
        results.push({ type: "error", error: toHranaError(error) });
      }
    }
    const isClosed = pipeline.requests.some((request) => request.type === "close");
    if (isClosed) stream.close();
    const baton = isClosed ? null : randomUUID();
    if (baton !== null) this.#byBaton.set(baton, { stream, seenAt: Date.now() });
    return { status: 200, body: { baton, base_url: null, results } };
  }

  /** Closes the streams last used before an instant, or all. */
  clear(before = Infinity): void {
    for (const [baton, { stream, seenAt }] of this.#byBaton) {
      if (seenAt >= before) continue;
      this.#byBaton.delete(baton);
      stream.close();
    }
  }

  close(): void {
    clearInterval(this.#sweep);
    this.clear();
  }

  #take(baton: string | null | undefined): Stream | undefined {
    if (!baton) return new Stream(this.#file, this.#busyMs);
    const found = this.#byBaton.get(baton);
    // A baton is good for one request, so that two requests can never run on one stream at the same time.
    this.#byBaton.delete(baton);
    return found?.stream;
  }
}

/** One database connection and the SQL texts stored on it. */
class Stream {
  readonly #database: DatabaseSync;
  readonly #busyMs: number;
  readonly #texts = new Map<number, string>();

  constructor(file: string, busyMs: number) {
    this.#busyMs = busyMs;
    this.#database = new DatabaseSync(file);
    // The wait for a lock is done here in JavaScript: SQLite's own would stop every other stream of this process,
    // the holder of the lock included.
    this.#database.exec("pragma busy_timeout = 0; pragma journal_mode = wal; pragma synchronous = normal");
  }

  close(): void {
    this.#database.close();
  }

  async answer(request: Request): Promise<unknown> {
    switch (request.type) {
      case "execute":
        return { type: "execute", result: await this.#execute(request.stmt) };
      case "batch":
        return { type: "batch", result: await this.#batch(request.batch.steps) };
      case "sequence":
        await this.#sequence(this.#text(request));
        return { type: "sequence" };
      case "store_sql":
        this.#texts.set(request.sql_id, request.sql);
        return { type: "store_sql" };
      case "close_sql":
        this.#texts.delete(request.sql_id);
        return { type: "close_sql" };
      case "get_autocommit":
        return { type: "get_autocommit", is_autocommit: !this.#database.isTransaction };
      case "close":
        return { type: "close" };
      default:
        throw new Error(`Unsupported request: ${JSON.stringify(request)}`);
    }
  }

  #execute(statement: Statement): Promise<StatementResult> {
    return this.#whenFree(() => {
      const text = this.#text(statement);
      const prepared = this.#database.prepare(text);
      if (withoutComments(text.slice(prepared.sourceSQL.length)) !== "") {
        // The real server refuses two statements in one; SQLite would silently forget the second.
        throw new Error("SQL string contains more than one statement");
      }
      prepared.setReadBigInts(true);
      returnLists(prepared);
      const columns = prepared.columns();
      const before = this.#count("total_changes()");
      const named = Object.fromEntries((statement.named_args ?? []).map(({ name, value }) => [name, decode(value)]));
      const positional = (statement.args ?? []).map(decode);
      const hasNames = Object.keys(named).length > 0;
      const records: unknown = hasNames ? prepared.all(named, ...positional) : prepared.all(...positional);
      return {
        cols: columns.map(({ name, type }) => ({ name, decltype: type })),
        rows: (records as SQLOutputValue[][]).map((record) => record.map(encode)),
        affected_row_count: Number(this.#count("total_changes()") - before),
        last_insert_rowid: String(this.#count("last_insert_rowid()")),
      };
    });
  }

  async #batch(steps: { condition?: Condition | null; stmt: Statement }[]): Promise<BatchOutcome> {
    const outcome: BatchOutcome = { step_results: [], step_errors: [] };
    for (const { condition, stmt } of steps) {
      const isWanted = condition === undefined || condition === null || this.#holds(condition, outcome);
      const result = isWanted ? await this.#execute(stmt).catch(toHranaError) : undefined;
      outcome.step_results.push(result !== undefined && "cols" in result ? result : null);
      outcome.step_errors.push(result !== undefined && "code" in result ? result : null);
    }
    return outcome;
  }

  /** Statement by statement, because one that waits for a lock must not repeat those before it. */
  async #sequence(text: string): Promise<void> {
    let rest = text;
    while (withoutComments(rest) !== "") {
      const current = withoutComments(rest);
      rest = await this.#whenFree(() => {
        const prepared = this.#database.prepare(current);
        prepared.all();
        return current.slice(prepared.sourceSQL.length);
      });
    }
  }

  #holds(condition: Condition, outcome: BatchOutcome): boolean {
    switch (condition.type) {
      case "ok":
        return (outcome.step_results[condition.step] ?? null) !== null;
      case "error":
        return (outcome.step_errors[condition.step] ?? null) !== null;
      case "not":
        return !this.#holds(condition.cond, outcome);
      case "and":
        return condition.conds.every((each) => this.#holds(each, outcome));
      case "or":
        return condition.conds.some((each) => this.#holds(each, outcome));
      case "is_autocommit":
        return !this.#database.isTransaction;
    }
  }

  /** Repeats what fails on a lock until the lock is free or the time is up. */
  async #whenFree<Result>(run: () => Result): Promise<Result> {
    const deadline = Date.now() + this.#busyMs;
    for (;;) {
      try {
        return run();
      } catch (error) {
        // Only the plain code: its extended forms, such as a stale snapshot, never go away by waiting.
        if (errorCode(error) !== SQLITE_BUSY || Date.now() >= deadline) throw error;
        await pause(5);
      }
    }
  }

  #text(source: { sql?: string | null; sql_id?: number | null }): string {
    const text = source.sql ?? this.#texts.get(source.sql_id ?? -1);
    if (text === undefined) throw new Error(`SQL text ${source.sql_id} is not stored`);
    return text;
  }

  #count(expression: string): bigint {
    const statement = this.#database.prepare(`select ${expression} as value`);
    statement.setReadBigInts(true);
    return statement.get()?.value as bigint;
  }
}

/**
 * Makes rows lists, because two columns may have the same name.
 *
 * Declared here because the types of `node:sqlite` that Deno brings along are older than its implementation.
 */
function returnLists(statement: StatementSync & { setReturnArrays?(isEnabled: boolean): void }): void {
  statement.setReturnArrays?.(true);
}

/** SQL without the spaces, semicolons and comments that it begins with; nothing if it is only these. */
function withoutComments(text: string): string {
  return text.replace(/^(?:[\s;]|--.*(?:\n|$)|\/\*[^]*?\*\/)+/, "");
}

function takeFault(faults: PlannedFault[], pipeline: Pipeline): HranaFault | undefined {
  const index = faults.findIndex(({ matching }) => matching === undefined || matching.test(JSON.stringify(pipeline)));
  return index < 0 ? undefined : faults.splice(index, 1)[0]?.fault;
}

function toHranaError(error: unknown): HranaError {
  const message = error instanceof Error ? error.message : String(error);
  return { message, code: CODES.get((errorCode(error) ?? 1) & 0xff) ?? "SQLITE_UNKNOWN" };
}

function errorCode(error: unknown): number | undefined {
  const isCoded = error instanceof Error && "errcode" in error && typeof error.errcode === "number";
  return isCoded ? error.errcode as number : undefined;
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

function listen(server: Server, port: number): Promise<number> {
  return new Promise((done, fail) => {
    server.once("error", fail);
    server.listen(port, "127.0.0.1", () => done((server.address() as AddressInfo).port));
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
