/**
 * The driver for a `postgres` client that the caller made and goes on owning: it is used as it is and never closed.
 *
 * Its transforms and parsers cannot disturb us: statements are sent as text with text values and answers are read raw. A
 * connection of somebody else cannot be disposed of, so a call that gets no answer ends as *unknown* and is cancelled.
 */
import { DatabaseError } from "../errors.ts";
import { postgres as dialect } from "../sql/dialect.ts";
import type {
  CallOptions,
  Connection,
  Driver,
  DriverOptions,
  HintListener,
  Row,
  TransactionConnection,
  TransactionLimits,
} from "../sql/driver.ts";
import type { Rendered, RenderedPart } from "../sql/sql.ts";
import { unanswered, unsent } from "./failure.ts";
import { assertCommitted, toDatabaseError } from "./postgres_failure.ts";
import { type Listened, Listening } from "./postgres_listen.ts";
import { joinPostgres, type PostgresClient, type PostgresSession, sendRaw } from "./postgres_session.ts";
import { CALLERS, COMMIT_MS, endWithin, rolledBack, runParts, TransactionClock } from "./transaction.ts";

/** How often to find out whether the client still listens. */
const CHECK_MS = 60_000;
const UNLISTEN_MS = 1_000;

/** What tells the client that nobody listens any more. */
interface Handle {
  unlisten(): Promise<unknown>;
}

/** Makes a driver of the caller's client. */
export function adoptPostgres(client: PostgresClient, options: DriverOptions): Driver {
  return new PostgresClientDriver(client, options);
}

class PostgresClientDriver implements Driver {
  readonly dialect = dialect;
  readonly #client: PostgresClient;
  readonly #options: DriverOptions;
  readonly #listenings = new Map<string, Listening>();
  /** What this driver has begun to listen with: the client's own, which is stopped when the driver is closed. */
  readonly #handles = new Set<Handle>();

  constructor(client: PostgresClient, options: DriverOptions) {
    this.#client = client;
    this.#options = options;
  }

  async query({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> {
    const limits = { ...options, deadline: options.deadline ?? performance.now() + this.#options.timeoutMs };
    if (parts.length === 1) {
      return await sendRaw(this.#client, name, parts[0] as RenderedPart, limits, this.#options.pooler === false);
    }
    const timeoutMs = this.#options.timeoutMs;
    return await this.transaction((tx) => tx.query({ name, parts }, limits), { ...limits, timeoutMs });
  }

  async transaction<T>(work: (tx: TransactionConnection) => Promise<T>, limits: TransactionLimits): Promise<T> {
    const clock = new TransactionClock(limits);
    // `begin` of the client can send a transaction's first statement on a connection that others use as well.
    const session = await this.#reserve(clock);
    let result: T;
    try {
      await sendRaw(session, "begin", { text: "begin", values: [] }, clock, false);
      result = await endWithin(work(new ReservedTransaction(session, clock)), clock);
    } catch (error) {
      clock.end();
      await leave(session, "rollback", clock).catch(() => {});
      throw rolledBack(error);
    }
    clock.end();
    await leave(session, "commit", clock);
    return result;
  }

  join(tx: unknown): Connection {
    return joinPostgres(tx);
  }

  listen(channel: string, listener: HintListener): () => void {
    // Behind a pooler LISTEN would stay in a session that is somebody else's next.
    if (this.#client.listen === undefined || this.#options.pooler === true) return () => {};
    let listening = this.#listenings.get(channel);
    if (listening === undefined) {
      listening = new Listening(channel, {
        listen: (_, hear, again) => this.#listen(channel, hear, again),
        notify: (_, text) => this.#notify(channel, text),
        keepAliveMs: CHECK_MS,
      });
      this.#listenings.set(channel, listening);
    }
    return listening.add(listener);
  }

  async close(): Promise<void> {
    for (const listening of this.#listenings.values()) listening.close();
    for (const handle of this.#handles) await this.#unlisten(handle);
  }

  /** Listens in the way of the client, which connects again by itself and does not say when it gave that up. */
  async #listen(channel: string, hear: (text: string) => void, again: () => void): Promise<Listened> {
    let signCount = 0;
    let isFirst = true;
    let lose = (): void => {};
    const lost = new Promise<void>((resolve) => lose = resolve);
    const onNotify = (text: string): void => {
      signCount++;
      hear(text);
    };
    const onListen = (): void => {
      if (!isFirst) again();
      isFirst = false;
    };
    const begun = (this.#client as Required<PostgresClient>).listen(channel, onNotify, onListen);
    const handle = await endWithin(begun, { deadline: performance.now() + this.#options.timeoutMs });
    this.#handles.add(handle);
    return {
      lost,
      signCount: () => signCount,
      ping: async (check) => {
        if (await check()) return;
        await this.#unlisten(handle);
        lose();
      },
      unlisten: () => this.#unlisten(handle),
    };
  }

  async #unlisten(handle: Handle): Promise<void> {
    this.#handles.delete(handle);
    const limits = { deadline: performance.now() + UNLISTEN_MS };
    await endWithin(Promise.resolve(handle.unlisten()), limits).catch(() => {});
  }

  async #notify(channel: string, text: string): Promise<void> {
    const part = { text: "select pg_catalog.pg_notify($1::text, $2::text)", values: [channel, text] };
    const limits = { deadline: performance.now() + this.#options.timeoutMs };
    await sendRaw(this.#client, "notify", part, limits, false);
  }

  async #reserve(limits: CallOptions): Promise<ReservedSession> {
    const reserved = this.#client.reserve();
    try {
      return await endWithin(
        reserved,
        limits,
        (reason) => unsent("begin a transaction", reason, "all connections are busy"),
      );
    } catch (error) {
      // It may still come, and then it belongs to the others.
      reserved.then((session) => session.release(), () => {});
      throw error instanceof DatabaseError ? error : toDatabaseError(error, "begin a transaction");
    }
  }
}

type ReservedSession = PostgresSession & { release(): void };

/** Ends the transaction and gives the session back, unless it is lost or may still be inside the transaction. */
async function leave(session: ReservedSession, text: "commit" | "rollback", clock: TransactionClock): Promise<void> {
  const answer = sendRaw(session, text, { text, values: [] }, {}, false);
  const release = (): void => session.release();
  answer.then(release, (error) => error.outcome === "not_applied" && release());
  const deadline = Math.max(text === "commit" ? clock.deadline : 0, performance.now() + COMMIT_MS);
  const answered = await endWithin(answer, { deadline }, (reason) => unanswered(text, reason));
  if (text === "commit") assertCommitted(answered);
}

class ReservedTransaction implements TransactionConnection {
  readonly #session: PostgresSession;
  readonly #clock: TransactionClock;

  constructor(session: PostgresSession, clock: TransactionClock) {
    this.#session = session;
    this.#clock = clock;
  }

  async query({ name, parts }: Rendered, options: CallOptions = {}): Promise<readonly Row[]> {
    this.#clock.assertOpen();
    const limits = this.#clock.within(options);
    return await runParts(parts, (part) => sendRaw(this.#session, name, part, limits, false));
  }

  async run(text: string, values: readonly unknown[]): Promise<readonly Record<string, unknown>[]> {
    this.#clock.assertOpen();
    const answer = Promise.resolve(this.#session.unsafe(text, [...values])).catch((error) => {
      throw toDatabaseError(error, CALLERS);
    });
    return [...await endWithin(answer, this.#clock.within({})) as readonly Record<string, unknown>[]];
  }
}
