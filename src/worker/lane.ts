/**
 * The messages of one job in one worker: claimed ahead, handed to handlers, settled.
 *
 * A busy lane settles what has been handled and claims what comes next in one statement. While such an exchange is
 * under way, handlers run on what was claimed before, and what they finish gathers for the next one.
 */
import { isOfData } from "../database.ts";
import { CancelledError, DatabaseError } from "../errors.ts";
import type { EventHub } from "../events.ts";
import type { Job } from "../job.ts";
import { toMessage } from "../message.ts";
import type { Backoff } from "../retry.ts";
import type { Row } from "../sql/driver.ts";
import {
  archiveLeased,
  type Claim,
  claimMessages,
  decodeExchange,
  type Exchange,
  releaseStray,
  settleAndClaim,
  startLeased,
} from "../sql/leases.ts";
import type { LiveRecord, QueueRecord } from "../sql/record.ts";
import type { Statement } from "../sql/sql.ts";
import { nextTurn } from "../turn.ts";
import { Delivery, leaseLost } from "./delivery.ts";
import { type HandlerEnds, Handlers, type HandlersHost } from "./handlers.ts";
import { Outlook } from "./outlook.ts";
import { Patience } from "./patience.ts";
import { Prefetch } from "./prefetch.ts";
import { type Done, Settling, type SettlingHost, toItem } from "./settling.ts";
import { Waiting, type WaitingLane } from "./waiting.ts";

/** How many exchanges may be under way at once: while the database works on one, the next can gather. */
const MOST_EXCHANGES = 2;
/** How many messages one statement claims at most. */
const MOST_AT_ONCE = 1_000;
/** From how many messages on a settling is worth a statement while another is under way. */
const WORTHWHILE = 50;
const CONCURRENCY = 10;
const PREFETCH = 500;
const LEASE_MS = 30_000;

/** What a lane needs of its worker. */
export interface LaneHost extends HandlersHost {
  /** Whether the worker is to end when nothing is left that is due. */
  readonly isDraining: boolean;
  /** Whether nothing is to be begun any more. */
  readonly isStopping: boolean;
  /** Whether somebody has paused this worker. */
  readonly isPaused: boolean;
  /** Tells the worker that something has changed: it may be idle now, or have to look again at a certain time. */
  changed(): void;
  /** Tells whoever else in this process takes messages of a queue that some were given back. */
  tellOthers(queue: string): void;
  /** Executes a statement of a lane. */
  query(statement: Statement): Promise<readonly Row[]>;
  /** Tells of an error of the database, after which the lane pauses. */
  report(error: unknown, retryAfterMs: number): void;
  /** Calls what the user gave us; what it throws is only told of. */
  runHook(hook: () => unknown): void;
}

/** The messages of one job in one worker. */
export class Lane implements HandlerEnds, SettlingHost, WaitingLane {
  readonly job: Job;
  readonly queue: QueueRecord;
  readonly leaseMs: number;
  readonly #host: LaneHost;
  readonly #handlers: Handlers;
  readonly #settling: Settling;
  readonly #prefetch: Prefetch;
  readonly #patience = new Patience(() => this.schedule());
  /** What is known of the queue. */
  readonly outlook = new Outlook();
  /** Everything that is leased, by id: waiting, running or settling. */
  readonly held = new Map<number, Delivery>();
  readonly #waiting: Waiting;
  /** How many messages have been asked for and not come yet. */
  #incoming = 0;
  #exchanges = 0;
  /** Whether a claim got no answer: messages may be leased to us of which we do not know. */
  #mustRecover = false;
  #isRecovering = false;
  /** Whether what is being settled has been replaced by the same statement. */
  #hasClaimed = false;
  /** Whether anything was handled since the last claim was sent. */
  #hasHandled = false;
  #isScheduled = false;
  #isClosed = false;

  constructor(job: Job, queue: QueueRecord, host: LaneHost) {
    const { concurrency = CONCURRENCY, prefetch = PREFETCH, leaseMs } = job.options;
    this.job = job;
    this.queue = queue;
    this.#host = host;
    this.leaseMs = leaseMs ?? queue.leaseMs ?? LEASE_MS;
    this.#handlers = new Handlers(job, host, this);
    this.#waiting = new Waiting(this, host, this.#handlers, { concurrency, batch: job.options.batch });
    this.#settling = new Settling(job, this);
    this.#prefetch = new Prefetch(prefetch, performance.now());
  }

  get name(): string {
    return this.#host.name;
  }

  get holder(): string {
    return this.#host.holder;
  }

  get events(): EventHub {
    return this.#host.events;
  }

  /** How many messages are being handled, claimed and not yet begun, and handled although nobody waits for it. */
  get counts(): { readonly running: number; readonly waiting: number; readonly overdue: number } {
    return { running: this.#handlers.size, waiting: this.#waiting.length, overdue: this.#handlers.overdue };
  }

  /** How many messages have ended as succeeded, how many attempts have failed, how many messages have died. */
  get totals(): { readonly completed: number; readonly failed: number; readonly dead: number } {
    const { completed, failures, dead } = this.#settling;
    return { completed, failed: failures, dead };
  }

  /** Whether everything that was claimed has been settled, and nothing is under way. */
  get isQuiet(): boolean {
    const isSending = this.#exchanges > 0 || this.#mustRecover || this.#isRecovering;
    return this.held.size === 0 && this.#handlers.size === 0 && this.#settling.isQuiet && !isSending;
  }

  /** Told that there may be something to claim. */
  wake(): void {
    this.outlook.wake(this.#exchanges > 0 ? performance.now() : undefined);
    this.schedule();
  }

  expect(delayMs: number): void {
    if (delayMs <= 0) return this.wake();
    this.outlook.expect(performance.now() + delayMs);
  }

  slowedDown(count: number, elapsedMs: number): void {
    this.#prefetch.slowedDown(count, elapsedMs, performance.now());
  }

  givenBack(): void {
    this.#host.tellOthers(this.queue.name);
  }

  get isAsking(): boolean {
    const { isStopping, isPaused } = this.#host;
    const isIdle = isStopping || isPaused || this.#patience.isPausing;
    return !isIdle && !this.outlook.isDry && this.#incoming === 0;
  }

  /** Looks in the next turn of the event loop what there is to do: by then everything that ends now has ended. */
  schedule(): void {
    if (this.#isScheduled || this.#isClosed) return;
    this.#isScheduled = true;
    nextTurn(() => this.#turn());
  }

  /** Aborts the handlers that still run, and gives their messages back without counting a failure. */
  abandon(reason: Error): void {
    this.#handlers.abandon(reason);
    this.schedule();
  }

  /** Does nothing more. */
  close(): void {
    this.#isClosed = true;
    this.#patience.close();
    this.#handlers.close();
    this.#waiting.close();
  }

  /** Told that the lease of a delivery is gone: whatever its handler still does counts for nothing. */
  lose(delivery: Delivery, error: Error): void {
    if (delivery.state === "over" || delivery.isSettled) return;
    if (delivery.state === "waiting") this.#waiting.drop(delivery);
    else if (!this.#handlers.drop(delivery)) this.#settling.drop(delivery);
    delivery.abort(error);
    this.forget(delivery);
    const { message } = delivery;
    if (error instanceof CancelledError) this.events.emit("cancelled", { message });
    else this.events.emit("lost", { message });
    this.schedule();
  }

  /** Told that the event loop stood still: what was handled under a lease that has ended by now is not written. */
  dropLapsed(now: number): void {
    for (const delivery of [...this.held.values()]) {
      const isBegun = delivery.state === "running" || delivery.state === "settling";
      const isUnsaid = isBegun && !delivery.isInDoubt && delivery.transactions === 0;
      if (isUnsaid && now > delivery.safeUntil) this.lose(delivery, leaseLost(delivery.message));
    }
  }

  forget(delivery: Delivery): void {
    delivery.state = "over";
    const { id } = delivery.message;
    if (this.held.get(id) === delivery) this.held.delete(id);
    if (this.outlook.isLimited && !this.#hasClaimed) this.wake();
  }

  parked(delivery: Delivery, dueMs: number | null): void {
    this.forget(delivery);
    if (dueMs !== null) this.expect(dueMs);
    this.#handled();
  }

  succeeded(delivery: Delivery, value: unknown): void {
    this.#settling.succeeded(delivery, value);
    this.#handled();
  }

  failed(delivery: Delivery, error: unknown): void {
    this.#settling.failed(delivery, error);
    this.#handled();
  }

  returned(delivery: Delivery): void {
    this.#settling.returned(delivery);
    this.schedule();
  }

  late(): void {
    this.#host.changed();
  }

  async prove(list: readonly Delivery[]): Promise<boolean> {
    try {
      const items = list.map(({ message, token }) => ({ id: message.id, token }));
      const rows = await this.query(startLeased(items, this.holder));
      const held = new Set(rows.map(([id]) => Number(id)));
      for (const delivery of list) {
        if (!held.has(delivery.message.id)) this.lose(delivery, leaseLost(delivery.message));
      }
      return true;
    } catch (error) {
      this.report(error);
      return false;
    }
  }

  async query(statement: Statement): Promise<readonly Row[]> {
    const rows = await this.#host.query(statement);
    this.#patience.answered();
    return rows;
  }

  async backoff(): Promise<Backoff> {
    // An operator may have changed it since the worker began.
    const queue = await this.#host.database.queueNamed(this.queue.name, { isLetIn: true }).catch(() => this.queue);
    return queue.backoff as Backoff;
  }

  report(error: unknown): void {
    if (!this.#isClosed) this.#host.report(error, this.#patience.pause());
  }

  runHook(hook: () => unknown): void {
    this.#host.runHook(hook);
  }

  #handled(): void {
    this.#hasHandled = true;
    this.#prefetch.count();
    this.schedule();
  }

  #turn(): void {
    this.#isScheduled = false;
    if (this.#isClosed) return;
    const host = this.#host;
    host.catchUp();
    if (host.isStopping || host.isPaused) this.#waiting.giveBack();
    this.#waiting.begin();
    this.#flush();
    // Places for messages that did not come are for others.
    if (this.#incoming === 0) this.#waiting.giveUp();
    if (this.outlook.isDry || this.isQuiet) host.changed();
  }

  /** Sends what is to be sent. */
  #flush(): void {
    if (this.#patience.isPausing) return;
    this.#settling.send();
    if (this.#mustRecover) return void this.#recover();
    const isLast = this.#host.isDraining && this.#handlers.size === 0 && this.#exchanges === 0;
    // The end is not reached before a claim has found nothing after everything was handled.
    if (isLast && this.#hasHandled) this.outlook.isDry = false;
    while (this.#exchanges < MOST_EXCHANGES) {
      const want = this.#want();
      const { ready } = this.#settling;
      // A second exchange is worth its statement only when much has gathered.
      if (want === 0 && (ready === 0 || this.#exchanges > 0 && ready < WORTHWHILE)) return;
      void this.#exchange(this.#settling.take(), want);
    }
  }

  /**
   * How many messages to claim now. Their places are taken before they come, so that no more are claimed than begun.
   */
  #want(): number {
    const { isStopping, isPaused } = this.#host;
    if (isStopping || isPaused) return 0;
    if (this.outlook.isDry && !(this.outlook.isLimited && this.#settling.ready > 0)) return 0;
    this.#prefetch.observe(performance.now());
    const size = this.job.options.batch ?? 1;
    // Where places are few, none is taken by a message that nobody handles yet.
    const ahead = this.outlook.hasLimit ? 0 : this.#prefetch.target;
    const coming = this.#waiting.length + this.#incoming;
    const { room } = this.#waiting;
    const want = room * size + ahead - coming;
    if (room <= 0 && coming === 0) this.#waiting.queueUp();
    // While there is enough left, a claim waits until it is worth its statement.
    if (want <= 0 || coming > 0 && want * 2 < ahead) return 0;
    this.#waiting.reserve(room);
    // Half at a time: while the database works on the one half, the other is handled here.
    const most = ahead >= 2 * WORTHWHILE ? Math.ceil((room * size + ahead) / 2) : MOST_AT_ONCE;
    return Math.min(want, most, MOST_AT_ONCE);
  }

  async #exchange(done: readonly Done[], want: number): Promise<void> {
    this.#exchanges++;
    this.#incoming += want;
    if (want > 0) {
      this.#hasHandled = false;
      this.outlook.asks();
    }
    const sentAt = performance.now();
    let exchange: Exchange | undefined;
    try {
      exchange = decodeExchange(await this.query(this.#statementOf(done, want)));
    } catch (error) {
      this.#unanswered(done, want, error);
    }
    this.#exchanges--;
    this.#incoming -= want;
    if (exchange !== undefined) {
      const { settled, claimed, ended } = exchange;
      if (want > 0) this.outlook.answers(exchange, want, sentAt);
      this.#take(claimed, sentAt);
      for (const record of ended) this.#settling.ended(record);
      this.#hasClaimed = want > 0;
      const confirmed = this.#settling.confirm(done, settled);
      this.#hasClaimed = false;
      await confirmed;
    }
    this.schedule();
  }

  #statementOf(done: readonly Done[], want: number): Statement {
    const { name, holder } = this.#host;
    const items = done.map(toItem);
    if (want === 0) return archiveLeased(items, holder, name);
    const claim: Claim = {
      queue: this.queue.name,
      limit: want,
      leaseMs: this.leaseMs,
      defaultLeaseMs: LEASE_MS,
      holder,
      type: undefined,
      isAhead: true,
      maxAttempts: this.job.options.retry?.maxAttempts,
    };
    return items.length === 0 ? claimMessages(claim) : settleAndClaim(items, name, claim);
  }

  /** An exchange has failed, or nobody knows. */
  #unanswered(done: readonly Done[], want: number, error: unknown): void {
    if (isOfData(error) && done.length > 0) {
      // One of them cannot be stored, or the claim is to blame: parts without a claim find out which.
      const middle = want > 0 ? done.length : done.length >> 1;
      if (want === 0 && done.length === 1) return this.#settling.failed((done[0] as Done).delivery, error);
      for (const part of [done.slice(0, middle), done.slice(middle)]) if (part.length > 0) void this.#exchange(part, 0);
      return;
    }
    this.#settling.takeBack(done, error);
    if (want > 0 && !(error instanceof DatabaseError && error.outcome === "not_applied")) this.#mustRecover = true;
    this.report(error);
  }

  /** Makes deliveries of what was claimed. */
  #take(claimed: readonly LiveRecord[], sentAt: number): void {
    const isRisky = claimed.some(({ crashes, maxCrashes }) => crashes > 0 && crashes * 2 < maxCrashes);
    for (const record of claimed) {
      const delivery = new Delivery(record, toMessage(record, true), this.leaseMs, sentAt + this.leaseMs);
      const stale = this.held.get(record.id);
      const isUnanswered = stale?.state === "sent" || stale?.isInDoubt === true;
      // A failure whose answer has not come was applied, if it was counted; and what was given back is there again.
      if (isUnanswered && record.attempts > stale.message.attempts) stale.isCounted = true;
      else if (stale !== undefined && stale.state !== "sent") this.lose(stale, leaseLost(stale.message));
      this.held.set(record.id, delivery);
      this.#waiting.push(delivery, isRisky);
    }
    this.#waiting.begin();
  }

  /** Gives back what an unanswered claim may have leased to us: otherwise it would lie there until its leases end. */
  async #recover(): Promise<void> {
    if (this.#isRecovering || this.#exchanges > 0) return;
    this.#isRecovering = true;
    try {
      await this.query(releaseStray(this.queue.name, this.holder, [...this.held.keys()]));
      this.#mustRecover = false;
      this.outlook.isDry = false;
    } catch (error) {
      this.report(error);
    }
    this.#isRecovering = false;
    this.schedule();
  }
}
