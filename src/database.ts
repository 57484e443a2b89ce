/** What the roles have in common: the driver, what statements are rendered for, and the settings of queues. */
import { type Combination, Combiner } from "./combine.ts";
import { DatabaseError, NotFoundError, SchemaError, StateError } from "./errors.ts";
import { EventHub } from "./events.ts";
import { kindOf, logEvents } from "./log.ts";
import { checkLimits } from "./options.ts";
import { channelOf } from "./sql/channel.ts";
import type { CallOptions, Connection, Driver, Row } from "./sql/driver.ts";
import { findQueue } from "./sql/queues.ts";
import { decodeQueue, type QueueRecord } from "./sql/record.ts";
import { render, type Statement, type Target } from "./sql/sql.ts";
import { Transaction, type TransactionLike } from "./transaction.ts";
import { encodeHint, type Hint, Wake } from "./wake.ts";

/** What happens worth telling, for whatever the caller logs with. */
export interface Logger {
  /** Something of interest to whoever looks for a fault. */
  debug(message: string): void;
  /** Something that happened as it should. */
  info(message: string): void;
  /** Something that may need attention. */
  warn(message: string): void;
  /** Something that failed. */
  error(message: string): void;
}

/** Limits that every call takes. */
export interface CallLimits {
  /** Stops waiting when aborted; a call that was already sent may have been applied. */
  readonly signal?: AbortSignal;
  /** How long the call may take, in milliseconds. @default the store's `timeoutMs` */
  readonly timeoutMs?: number;
}

/** Limits of a call of a role, and how it is to be executed. */
export interface QueryLimits extends CallLimits {
  /** Executes it in this transaction of the caller. */
  readonly tx?: TransactionLike | undefined;
  /** A statement that may take long or much memory. */
  readonly isLong?: boolean;
  /** A statement that must not wait behind others, such as a heartbeat. */
  readonly isControl?: boolean;
  /** Whether a lock that is not to be had in time ends the call; else it is tried again until the deadline. */
  readonly isImpatient?: boolean;
  /** What to tell those who wait in this process once it is committed; other processes are told by the statement itself. */
  readonly hints?: readonly Hint[];
  /** When the whole call has to have ended, for calls of several statements: see {@linkcode Database.call}. */
  readonly deadline?: number;
  /** Whether it is a statement of a call that began before the store was closed. */
  readonly isLetIn?: boolean;
}

/** What the statements of a call have to bring along. */
export interface LetIn {
  /** Whether the call began before the store was closed. */
  readonly isLetIn: boolean;
}

/** What a store is set up with. */
export interface Settings {
  readonly leaseMs: number;
  readonly maxAttempts: number;
  readonly maxBatchSize: number;
  readonly pollIntervalMs: number;
  readonly timeoutMs: number;
}

/** What everything that was begun inside a transaction can see, also when it goes on after the end. */
export interface OpenTransaction {
  isOpen: boolean;
  /** The step of a run that is being done. */
  readonly step?: string | undefined;
}

/** Runs work in the context of a transaction, and tells whether the caller is in one. */
export interface TransactionScope {
  run<T>(value: OpenTransaction, work: () => T): T;
  getStore(): OpenTransaction | undefined;
  /** Remembers the context of the caller: the function it returns runs work in it, whoever calls. */
  snapshot(): <T>(work: () => T) => T;
}

/** What a database may be made with. */
export interface DatabaseOptions {
  readonly scope?: TransactionScope | undefined;
  readonly logger?: Logger | undefined;
  /** Whether to listen for hints of other processes. */
  readonly isListening?: boolean | undefined;
}

const SQLITE_TRANSACTION_MS = 1_000;

/** For how long settings of a queue that were read once may be used. */
const SETTINGS_MS = 10_000;

/** The SQLSTATEs that say that our tables or functions are not there. */
const MISSING = ["3F000", "42883", "42P01"];

/** A driver together with what its statements are rendered for. */
export class Database {
  readonly driver: Driver;
  readonly settings: Settings;
  readonly target: Target;
  /** Tells of what happens to messages and workers. */
  readonly events: EventHub;
  /** Hints that there is something to do. */
  readonly wake: Wake;
  /** Whatever the caller logs with. */
  readonly logger: Logger | undefined;
  readonly #scope: TransactionScope | undefined;
  /** What is to be told when a transaction of ours is committed. */
  readonly #untold = new WeakMap<Transaction, Map<string, Hint>>();
  readonly #combiners = new Map<string, unknown>();
  readonly #queues = new Map<string, { readonly queue: QueueRecord; readonly until: number }>();
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;
  #underWay = 0;
  #tellIdle = (): void => {};

  constructor(
    driver: Driver,
    target: Target,
    settings: Settings,
    { scope, logger, isListening = true }: DatabaseOptions = {},
  ) {
    this.driver = driver;
    this.target = target;
    this.settings = settings;
    this.logger = logger;
    this.events = new EventHub((name, error) => logger?.error(`A listener of "${name}" has thrown ${kindOf(error)}`));
    if (logger !== undefined) logEvents(this.events, logger);
    this.wake = new Wake(driver, channelOf(target.schema), isListening);
    this.#scope = scope;
  }

  /**
   * Remembers the context of the caller. What runs for a long time goes on in it, and not in that of whoever wakes it up: that
   * one may be inside a transaction or a trace of its own.
   */
  rememberContext(): <T>(work: () => T) => T {
    return this.#scope?.snapshot() ?? ((work) => work());
  }

  /** How long a transaction may take unless it says so itself, in milliseconds. */
  get transactionMs(): number {
    return this.target.dialect.name === "postgres" ? this.settings.timeoutMs : SQLITE_TRANSACTION_MS;
  }

  /** Executes a statement, in the caller's transaction if one is given. */
  async query(statement: Statement, limits: QueryLimits = {}): Promise<readonly Row[]> {
    const options = callOptions(limits, this.settings.timeoutMs);
    const rendered = render(statement, this.target);
    const { tx } = limits;
    this.#enter(limits);
    let isDone = true;
    try {
      if (tx !== undefined) return await this.#connectionOf(tx).query(rendered, options);
      this.assertOutside(statement.name);
      return await this.driver.query(rendered, options);
    } catch (error) {
      isDone = mayBeDone(error);
      throw isMissing(error) ? notInstalled(this.target) : error;
    } finally {
      if (isDone) this.#tell(limits);
      this.#leave();
    }
  }

  /**
   * Makes a call that leaves in one statement with those of the same lane that come while another is under way. Whatever
   * would refuse it by itself does so now, so that no other call suffers for it.
   */
  combine<Item, Result>(
    lane: string,
    kind: Combination<Item, Result>,
    item: Item,
    limits: QueryLimits,
  ): Promise<Result> {
    const options = callOptions(limits, this.settings.timeoutMs);
    if (!this.#letsIn(limits)) throw storeClosed();
    this.assertOutside(kind.statement);
    let combiner = this.#combiners.get(lane) as Combiner<Item, Result> | undefined;
    if (combiner === undefined) {
      combiner = new Combiner(kind, () => this.#combiners.delete(lane));
      this.#combiners.set(lane, combiner);
    }
    return combiner.add(item, options);
  }

  /** The text of a hint for a statement. This process hears its own hints only where it cannot know of the commit. */
  hintText(hint: Hint, tx?: TransactionLike): string {
    return tx === undefined || tx instanceof Transaction ? this.wake.encode(hint) : encodeHint(hint);
  }

  /** Tells now what is committed, and at the end of a transaction what is not. */
  #tell({ hints = [], tx }: QueryLimits): void {
    if (tx === undefined) { for (const hint of hints) this.wake.tell(hint); }
    else if (tx instanceof Transaction) { for (const hint of hints) this.#untold.get(tx)?.set(encodeHint(hint), hint); }
  }

  /** Runs a call of several statements: they share one deadline, which begins now, and `close` waits for all of them. */
  async call<L extends QueryLimits, T>(
    limits: L,
    work: (limits: L & LetIn & { readonly deadline: number }) => Promise<T>,
  ): Promise<T> {
    checkLimits(limits);
    const deadline = limits.deadline ?? performance.now() + (limits.timeoutMs ?? this.settings.timeoutMs);
    return await this.letIn((letIn) => work({ ...limits, ...letIn, deadline }), limits);
  }

  /**
   * Runs a call whose statements have a deadline each, and for all of which `close` waits. After `close` it is the first
   * statement that is refused, so that wrong arguments are told of as ever.
   */
  async letIn<T>(work: (letIn: LetIn) => Promise<T>, limits: QueryLimits = {}): Promise<T> {
    // What is going to be refused does not count: those who try again and again would keep the store from closing.
    if (!this.#letsIn(limits)) return await work({ isLetIn: false });
    this.#underWay++;
    try {
      return await work({ isLetIn: true });
    } finally {
      this.#leave();
    }
  }

  /** Aborted when the store is being closed, for what waits between two calls. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Refuses all further calls, lets those under way end by themselves, each within its own deadline, and then closes. */
  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    if (this.#underWay > 0) await new Promise<void>((resolve) => this.#tellIdle = resolve);
    this.wake.close();
    await this.driver.close();
  }

  /** What belongs to a call or a transaction that was let in is let in as well: these could not end otherwise. */
  #letsIn({ isLetIn = false, tx }: QueryLimits): boolean {
    return isLetIn || tx instanceof Transaction || !this.#closing.signal.aborted;
  }

  #enter(limits: QueryLimits): void {
    if (!this.#letsIn(limits)) throw storeClosed();
    this.#underWay++;
  }

  #leave(): void {
    this.#underWay--;
    if (this.#underWay === 0) this.#tellIdle();
  }

  /** Does the work of a step of a run, which can be told from the work beside it. */
  insideStep<T>(step: string, work: () => T): T {
    return this.#scope === undefined ? work() : this.#scope.run({ isOpen: false, step }, work);
  }

  /** The step of a run inside of which the caller is. */
  get step(): string | undefined {
    return this.#scope?.getStore()?.step;
  }

  /** @throws {StateError} inside a transaction of this store, where a call without `tx` would wait for itself. */
  assertOutside(what: string): void {
    if (this.#scope?.getStore()?.isOpen !== true) return;
    throw new StateError(`Cannot ${what} inside store.transaction without { tx }: pass the transaction along`);
  }

  /** Runs a callback in a transaction. */
  async transaction<T>(
    work: (tx: Transaction) => Promise<T>,
    limits: QueryLimits & { readonly timeoutMs: number },
  ): Promise<T> {
    this.assertOutside("begin a transaction");
    const scope: OpenTransaction = { isOpen: true, step: this.step };
    const hints = new Map<string, Hint>();
    this.#enter(limits);
    let isDone = true;
    try {
      return await this.driver.transaction(
        (connection) => {
          const tx = new Transaction(connection);
          this.#untold.set(tx, hints);
          return this.#scope === undefined ? work(tx) : this.#scope.run(scope, () => work(tx));
        },
        { timeoutMs: limits.timeoutMs, signal: limits.signal },
      );
    } catch (error) {
      isDone = mayBeDone(error);
      throw error;
    } finally {
      scope.isOpen = false;
      if (isDone) this.#tell({ hints: [...hints.values()] });
      this.#leave();
    }
  }

  /** The settings of a queue, read again when they were read long ago. @throws {NotFoundError} */
  async queueNamed(name: string, limits: QueryLimits = {}): Promise<QueueRecord> {
    const known = this.#queues.get(name);
    if (known !== undefined && known.until > performance.now()) return known.queue;
    const [row] = await this.query(findQueue(name), limits);
    if (row === undefined) throw unknownQueue(name);
    const queue = decodeQueue(row);
    this.#queues.set(name, { queue, until: performance.now() + SETTINGS_MS });
    return queue;
  }

  /** Forgets what is known of a queue, because it was changed. */
  forgetQueue(name: string): void {
    this.#queues.delete(name);
  }

  #connectionOf(tx: TransactionLike): Connection {
    return tx instanceof Transaction ? Transaction.connectionOf(tx) : this.driver.join(tx);
  }
}

/** The error of a queue that does not exist, with the line that would make it. */
export function unknownQueue(name: string): NotFoundError {
  return new NotFoundError(
    `Queue ${JSON.stringify(name)} does not exist: create it with store.admin.createQueue(${JSON.stringify(name)})`,
  );
}

/** Whether the database refused a value, which it will do again. */
export function isOfData(error: unknown): boolean {
  if (!(error instanceof DatabaseError) || error.outcome === "unknown") return false;
  return error.reason === "constraint" || /^2[23]/.test(error.sqlState ?? "");
}

/** The error of every call of a store that is closed. */
export function storeClosed(): DatabaseError {
  return new DatabaseError("Store is closed: nothing was changed", { outcome: "not_applied", reason: "closed" });
}

/** The error of a call of several statements of which some have been applied: how far it came, only a look can tell. */
export function partlyApplied(error: unknown): unknown {
  if (!(error instanceof DatabaseError)) return error;
  const { reason, statement, sqlState } = error;
  return new DatabaseError(`Only a part was applied before it failed: ${reason} during ${statement ?? "a statement"}`, {
    outcome: "unknown",
    reason,
    ...(statement !== undefined && { statement }),
    ...(sqlState !== undefined && { sqlState }),
  });
}

function callOptions(limits: QueryLimits, timeoutMs: number): CallOptions & { readonly deadline: number } {
  checkLimits(limits);
  limits.signal?.throwIfAborted();
  const { signal, isLong, isControl, isImpatient, deadline = performance.now() + (limits.timeoutMs ?? timeoutMs) } =
    limits;
  if (performance.now() > deadline) {
    throw new DatabaseError("Call took too long before its next statement was sent; that was not applied", {
      outcome: "not_applied",
      reason: "timeout",
    });
  }
  return { signal, isLong, isControl, isImpatient, deadline };
}

/** Whether what has failed may have been applied nevertheless. */
function mayBeDone(error: unknown): boolean {
  return error instanceof DatabaseError && error.outcome === "unknown";
}

function isMissing(error: unknown): boolean {
  if (!(error instanceof DatabaseError)) return false;
  return MISSING.includes(error.sqlState ?? "") || /no such table: pgqrs_/.test(error.message);
}

function notInstalled({ dialect, schema }: Target): SchemaError {
  const where = dialect.name === "postgres" ? `schema ${JSON.stringify(schema)}` : "this database";
  return new SchemaError(
    `pgqrs is not installed in ${where}, or in an older version: run store.admin.install() or "pgqrs install"`,
  );
}
