/**
 * One connection to Postgres, with everything that the client leaves to its user: a budget and back-off for connecting, a
 * deadline on every call, and disposal of a connection that does not answer.
 */
import type { Socket } from "node:net";
import type postgresJs from "postgres";
import { DatabaseError } from "../errors.ts";
import type { CallOptions, DriverOptions, Row } from "../sql/driver.ts";
import type { RenderedPart } from "../sql/sql.ts";
import type { PostgresAddress } from "./postgres_address.ts";
import { unanswered, unsent } from "./failure.ts";
import { isWorthReconnecting, toDatabaseError } from "./postgres_failure.ts";
import { openSocket, requestCancel, TlsRefusedError } from "./postgres_socket.ts";
import { encodePostgresValue, serializers } from "./postgres_value.ts";
import { CALLERS, endWithin } from "./transaction.ts";

/**
 * Keeps bundlers from drawing the client into a bundle for browsers, with all its imports of `node:` at the top: they only
 * follow an import whose second argument they can read. Deno, JSR, Node and Bun see a usual one.
 */
const NOT_BUNDLED: ImportCallOptions | undefined = undefined;
const MOST_CANCELS = 4;
const CANCEL_PAUSE_MS = 50;
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1_000;
/** How often the deadlines of the calls under way are looked at: one timer a connection costs less than one a call. */
const WATCH_MS = 50;

/** A call that was sent and not yet answered. */
interface Call {
  readonly statement: string;
  readonly deadline: number;
  /** Whether the caller has stopped waiting; the server works on it nevertheless. */
  isAbandoned: boolean;
  readonly reject: (error: DatabaseError) => void;
}

/** What a connection told about itself when it was opened. */
export interface Session {
  readonly client: postgresJs.Sql;
  readonly socket: Socket;
  readonly pid: number;
  readonly secret: number;
  /** Whether a pooler stands between, so that no prepared statement may be relied upon. */
  readonly isPooled: boolean;
}

/** One connection that opens itself when it is needed, and again after it was lost. */
export class Lane {
  #address: PostgresAddress;
  readonly #options: DriverOptions;
  readonly #calls = new Set<Call>();
  #session: Session | undefined;
  #opening: Promise<Session> | undefined;
  #watch: ReturnType<typeof setInterval> | undefined;
  readonly #closing = new AbortController();
  /** Called for each notification that arrives. */
  readonly onNotify: ((channel: string, text: string) => void) | undefined;
  /** How often the server has sent something: whether it is still there. */
  signCount = 0;
  /** How many calls have their place here, sent or not. */
  load = 0;
  /** Set while a transaction or a long statement has this connection for itself. */
  isReserved = false;

  constructor(address: PostgresAddress, options: DriverOptions, onNotify?: (channel: string, text: string) => void) {
    this.#address = address;
    this.#options = options;
    this.onNotify = onNotify;
  }

  /** Opens the connection if need be. Rejects with *not applied*: nothing of the caller has been sent. */
  async open(statement: string, options: CallOptions): Promise<Session> {
    if (this.#session !== undefined) return this.#session;
    this.#opening ??= this.#connect().finally(() => this.#opening = undefined);
    return await endWithin(
      this.#opening,
      options,
      (reason) => unsent(statement, reason, "no connection to the database in time"),
    );
  }

  /**
   * Sends one statement of ours and resolves to its rows by position. With `pinned` it is sent on that session or not at
   * all: what belongs to a transaction must never run on the connection that replaced a lost one.
   */
  async query(statement: string, part: RenderedPart, options: CallOptions, pinned?: Session): Promise<readonly Row[]> {
    const session = pinned ?? await this.open(statement, options);
    this.#assertCurrent(session, statement);
    const isPrepared = !session.isPooled;
    return await this.#send(
      statement,
      options,
      () =>
        session.client.unsafe(part.text, [...part.values] as never[], { prepare: isPrepared, simple: false } as never)
          .values() as Promise<readonly Row[]>,
    );
  }

  /** Sends one statement of the caller and resolves to its rows as objects. */
  async run(
    text: string,
    values: readonly unknown[],
    options: CallOptions,
    session: Session,
  ): Promise<readonly Record<string, unknown>[]> {
    this.#assertCurrent(session, "run a statement");
    const encoded = values.map(encodePostgresValue) as never[];
    // A plain array, as every driver gives it; the client's own has the statement and its values as properties.
    return [
      ...await this.#send(
        CALLERS,
        options,
        () => session.client.unsafe(text, encoded) as unknown as Promise<Record<string, unknown>[]>,
      ),
    ];
  }

  #assertCurrent(session: Session, statement: string): void {
    if (this.#session !== session) throw unsent(statement, "connection", "the connection was lost");
  }

  /** Gives the connection up: whatever is under way ends as *unknown*, and the next call opens a new one. */
  dispose(why: string, session: Session | undefined = this.#session): void {
    if (session !== this.#session) return;
    this.#session = undefined;
    const underWay = this.#calls.size;
    for (const call of this.#calls) {
      call.reject(
        new DatabaseError(`${why} during ${call.statement}: it may or may not have been applied`, {
          outcome: "unknown",
          reason: "connection",
          statement: call.statement,
        }),
      );
    }
    this.#calls.clear();
    clearInterval(this.#watch);
    this.#watch = undefined;
    if (session === undefined) return;
    // The server would go on with what nobody waits for, and might hold locks meanwhile.
    if (underWay > 0 && !session.socket.destroyed) {
      cancelAll(this.#address, session, underWay).catch(() => {});
    }
    discard(session);
  }

  /** Closes the connection for good, with whatever nobody waits for any more. */
  close(): void {
    this.#closing.abort();
    this.dispose("Store was closed");
  }

  async #connect(): Promise<Session> {
    const giveUpAt = performance.now() + this.#options.connectTimeoutMs;
    for (let pause = FIRST_PAUSE_MS;; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        const session = await this.#attempt(giveUpAt - performance.now());
        if (this.#closing.signal.aborted) {
          discard(session);
          throw closedError();
        }
        return this.#session = session;
      } catch (error) {
        if (this.#closing.signal.aborted) throw closedError();
        if (this.#address.sslMode === "allow" && (error as { code?: unknown }).code === "28000") {
          // The server takes nobody without TLS: from here on neither do we.
          this.#address = { ...this.#address, sslMode: "require" };
          continue;
        }
        const next = pause * (0.5 + Math.random() / 2);
        const isRefused = error instanceof TlsRefusedError || missingPermission(error) !== undefined;
        if (isRefused || !isWorthReconnecting(error) || performance.now() + next > giveUpAt) {
          throw connectError(error);
        }
        await waitUnless(next, this.#closing.signal);
        if (this.#closing.signal.aborted) throw closedError();
      }
    }
  }

  async #attempt(timeoutMs: number): Promise<Session> {
    const closing = this.#closing.signal;
    const { default: createClient } = await import("postgres", NOT_BUNDLED);
    const socket = await openSocket(this.#address, Math.max(timeoutMs, 1), closing);
    const client = this.#client(createClient, socket);
    const giveUp = (): void => void socket.destroy();
    const timer = setTimeout(giveUp, Math.max(timeoutMs, 1));
    closing.addEventListener("abort", giveUp);
    // The client reconnects by itself when a connection ends before its first answer: that socket is not given twice.
    const lost = new Promise<never>((_, reject) =>
      socket.once("close", () => reject(new Error("Connection closed by the server")))
    );
    lost.catch(() => {});
    try {
      const hello = client.unsafe("select pg_catalog.pg_backend_pid()").values();
      const answer = await Promise.race([hello, lost]) as unknown as { state: { pid: number; secret: number } } & Row[];
      const { pid, secret } = answer.state;
      // A pooler hands out a process number of its own, which is how it gives itself away.
      const isPooled = this.#options.pooler === "auto" ? Number(answer[0]?.[0]) !== pid : this.#options.pooler;
      const session = { client, socket, pid, secret, isPooled };
      socket.once("close", () => this.#session === session && this.dispose("Connection was lost"));
      return session;
    } catch (error) {
      discard({ client, socket });
      throw error;
    } finally {
      clearTimeout(timer);
      closing.removeEventListener("abort", giveUp);
    }
  }

  #client(createClient: typeof postgresJs, socket: Socket): postgresJs.Sql {
    let fresh: Socket | undefined = socket;
    const { host, port, database, user, password, applicationName } = this.#address;
    return createClient({
      // All settings are given, because the client would look for the rest in the environment.
      host,
      port,
      database,
      ...(user === undefined ? {} : { user }),
      pass: password ?? "",
      max: 1,
      ssl: false,
      idle_timeout: 0,
      max_lifetime: null,
      connect_timeout: 0,
      keep_alive: Math.max(1, Math.ceil(this.#options.keepAliveMs / 1_000)),
      fetch_types: false,
      prepare: true,
      types: serializers,
      connection: { application_name: applicationName },
      onnotice: ({ severity, message }: { severity?: string; message?: string }) =>
        this.#options.onNotice(`${severity ?? "NOTICE"}: ${message ?? ""}`),
      onnotify: (channel: string, text: string) => {
        this.signCount++;
        this.onNotify?.(channel, text);
      },
      socket: () => {
        const given = fresh;
        fresh = undefined;
        if (given === undefined) throw new Error("Connection closed by the server");
        return given;
      },
    } as never);
  }

  #send<T>(
    statement: string,
    options: CallOptions,
    start: () => Promise<T>,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const deadline = options.deadline ?? performance.now() + this.#options.timeoutMs;
      const call: Call = { statement, deadline, isAbandoned: false, reject };
      const abort = (): void => this.#abandon(call);
      const done = (): void => {
        this.signCount++;
        this.#calls.delete(call);
        options.signal?.removeEventListener("abort", abort);
      };
      this.#calls.add(call);
      this.#watch ??= setInterval(() => this.#checkDeadlines(), WATCH_MS);
      options.signal?.addEventListener("abort", abort);
      start().then((value) => {
        done();
        resolve(value);
      }, (error) => {
        done();
        reject(toDatabaseError(error, statement));
      });
    });
  }

  /**
   * Ends a call whose caller stopped waiting. The server goes on with it, and others may wait behind it; once nobody waits
   * any more the connection is given up, so that no later call has to stand behind it.
   */
  #abandon(call: Call): void {
    call.isAbandoned = true;
    call.reject(abortedError(call.statement));
    for (const other of this.#calls) if (!other.isAbandoned) return;
    this.dispose("Connection was given up");
  }

  #checkDeadlines(): void {
    if (this.#calls.size === 0) {
      clearInterval(this.#watch);
      this.#watch = undefined;
      return;
    }
    const time = performance.now();
    for (const call of this.#calls) {
      if (call.deadline > time) continue;
      call.reject(unanswered(call.statement, "timeout"));
      this.dispose("Connection was given up because another call on it got no answer");
      return;
    }
  }
}

/** The caller stopped waiting for something that was already sent. */
function abortedError(statement: string): DatabaseError {
  return new DatabaseError(`Waiting for ${statement} was aborted: it may or may not have been applied`, {
    outcome: "unknown",
    reason: "aborted",
    statement,
  });
}

/** Ends an attempt to connect for which nobody waits any more. */
function closedError(): DatabaseError {
  return new DatabaseError("Store is closed", { outcome: "not_applied", reason: "closed" });
}

function connectError(error: unknown): DatabaseError {
  const fields = error as { code?: unknown; message?: unknown };
  const isServer = typeof (error as { severity?: unknown }).severity === "string";
  const isOurs = error instanceof Error && error.message.startsWith("Cannot connect");
  const code = typeof fields.code === "string" ? fields.code : undefined;
  const why = isServer || isOurs
    ? String(fields.message).replace(/^Cannot connect: /, "")
    : code ?? missingPermission(error) ?? "connection failed";
  return new DatabaseError(`Cannot connect to the database: ${why}; nothing was changed`, {
    outcome: "not_applied",
    reason: code?.startsWith("28") === true || missingPermission(error) !== undefined ? "permission" : "connection",
    statement: "connect",
    ...(isServer && code !== undefined ? { sqlState: code } : {}),
  });
}

/** What Deno was not allowed to do. Its message also names the variable or the server, which we do not repeat. */
function missingPermission(error: unknown): string | undefined {
  if (!(error instanceof Error) || !/^(NotCapable|PermissionDenied)$/.test(error.name)) return undefined;
  const [flag] = /--allow-[a-z]+/.exec(error.message) ?? [];
  return flag === undefined ? "a permission of Deno is missing" : `Deno needs the permission ${flag}`;
}

/** Waits, or less when the signal is aborted. */
function waitUnless(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}

/**
 * Asks the server to stop what it works on. Behind the first statement it may have received others, and it notices that
 * nobody is there any more only when it has answered one or two of them.
 */
async function cancelAll(address: PostgresAddress, { pid, secret }: Session, underWay: number): Promise<void> {
  for (let i = 0; i < Math.min(underWay, MOST_CANCELS); i++) {
    if (i > 0) await new Promise((resolve) => setTimeout(resolve, CANCEL_PAUSE_MS));
    await requestCancel(address, pid, secret);
  }
}

function discard({ client, socket }: Pick<Session, "client" | "socket">): void {
  socket.destroy();
  client.end({ timeout: 0 }).catch(() => {});
}
