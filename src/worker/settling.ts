/** What has become of the messages of one job, until it is stored. */
import { DatabaseError, NonRetryableError, RetryError } from "../errors.ts";
import type { EventHub } from "../events.ts";
import type { Job } from "../job.ts";
import { encodeError, encodeJson } from "../json.ts";
import { type Message, toMessage } from "../message.ts";
import { type Backoff, delayAfter } from "../retry.ts";
import { Parked } from "../run/parked.ts";
import { RunLostError } from "../run/lost.ts";
import type { Row } from "../sql/driver.ts";
import { type ArchiveItem, failLeased, findEndings, listAttempts, releaseLeased } from "../sql/leases.ts";
import { PARENT_HEADER } from "../sql/migrations/0003_runs.ts";
import type { LiveRecord } from "../sql/record.ts";
import type { Statement } from "../sql/sql.ts";
import { cancelled, type Delivery, leaseLost } from "./delivery.ts";

/** How many messages one statement settles at most. */
const MOST_AT_ONCE = 1_000;
/** About how much text of results one statement takes: more would not fit into a string, or hold everybody up. */
const MOST_TEXT = 8_388_608;

/** What settling needs of its lane. */
export interface SettlingHost {
  readonly holder: string;
  readonly name: string;
  readonly events: EventHub;
  /** Executes a statement. */
  query(statement: Statement): Promise<readonly Row[]>;
  /** The back-off of the queue. Never rejects. */
  backoff(): Promise<Backoff>;
  /** Tells of an error of the database, after which the lane pauses. */
  report(error: unknown): void;
  /** Calls what the user gave us; what it throws is only told of. */
  runHook(hook: () => unknown): void;
  /** Looks soon what there is to do. */
  schedule(): void;
  /** Told that a message is due again in so many milliseconds. */
  expect(delayMs: number): void;
  /** Told that messages were given back, of which nobody else in this process knows. */
  givenBack(): void;
  /** Nothing more is done on behalf of a delivery. */
  forget(delivery: Delivery): void;
  /** Told that a run was given back until something happens. */
  parked(delivery: Delivery, dueMs: number | null): void;
  /** Told that the lease of a delivery is gone. */
  lose(delivery: Delivery, error: Error): void;
}

/** A delivery whose handler resolved. */
export interface Done {
  readonly delivery: Delivery;
  readonly value: unknown;
  /** The value as a JSON text. */
  readonly result: string | null;
}

/** A delivery whose attempt failed. */
interface Failed {
  readonly delivery: Delivery;
  readonly error: unknown;
  readonly text: string;
  readonly isFinal: boolean;
  /** The pause before the next attempt; undefined: what the queue says. */
  delayMs: number | undefined;
}

/** What has become of the messages of one job. */
export class Settling {
  readonly #job: Job;
  readonly #host: SettlingHost;
  #done: Done[] = [];
  #failed: Failed[] = [];
  #returned: Delivery[] = [];
  #isFailing = false;
  #isReturning = false;
  /** How many messages have ended as succeeded, how many attempts have failed, how many messages have died. */
  completed = 0;
  failures = 0;
  dead = 0;

  constructor(job: Job, host: SettlingHost) {
    this.#job = job;
    this.#host = host;
  }

  /** How many messages wait to be archived, which is the business of the lane's exchanges. */
  get ready(): number {
    return this.#done.length;
  }

  /** Whether nothing waits to be stored, and no statement of ours is under way. */
  get isQuiet(): boolean {
    const waiting = this.#done.length + this.#failed.length + this.#returned.length;
    return waiting === 0 && !this.#isFailing && !this.#isReturning;
  }

  /** The handler has resolved. A result that cannot be stored is a failed attempt. */
  succeeded(delivery: Delivery, value: unknown): void {
    if (delivery.isSettled) return this.#complete(delivery, delivery.value);
    if (isOf(value, Parked)) return this.#host.parked(delivery, value.dueMs);
    let result: string | null;
    try {
      const { encodeResult } = this.#job;
      if (encodeResult !== undefined) result = encodeResult(value);
      else result = value === undefined ? null : encodeJson(value, { what: "result" });
    } catch (error) {
      return this.failed(delivery, error);
    }
    delivery.state = "settling";
    this.#done.push({ delivery, value, result });
  }

  /** The attempt has failed. */
  failed(delivery: Delivery, error: unknown): void {
    delivery.state = "settling";
    // It is not ours any more, and nothing is to be counted.
    if (isOf(error, RunLostError)) return void this.#loseRun(delivery);
    this.#failed.push({ delivery, error, text: encodeError(error), ...this.#judge(delivery, error) });
  }

  /** The message is to be given back without a failure being counted. */
  returned(delivery: Delivery): void {
    delivery.state = "settling";
    this.#returned.push(delivery);
  }

  /** Does not settle a delivery after all. */
  drop(delivery: Delivery): void {
    this.#done = this.#done.filter((item) => item.delivery !== delivery);
    this.#failed = this.#failed.filter((item) => item.delivery !== delivery);
    this.#returned = this.#returned.filter((one) => one !== delivery);
  }

  /** Sends what is not part of an exchange. */
  send(): void {
    if (this.#failed.length > 0 && !this.#isFailing) void this.#sendFailed();
    if (this.#returned.length > 0 && !this.#isReturning) void this.#sendReturned();
  }

  /** Takes what the next exchange is to archive. */
  take(): Done[] {
    let count = 0;
    for (let length = 0; count < Math.min(this.#done.length, MOST_AT_ONCE); count++) {
      length += this.#done[count]?.result?.length ?? 0;
      if (count > 0 && length > MOST_TEXT) break;
    }
    const done = this.#done.slice(0, count);
    this.#done = this.#done.slice(count);
    for (const { delivery } of done) delivery.state = "sent";
    return done;
  }

  /** An exchange got no answer. A settling is fenced, so that it may be sent again whatever became of it. */
  takeBack(done: readonly Done[], error: unknown): void {
    const kept = done.filter(({ delivery }) => delivery.state !== "over");
    for (const { delivery } of kept) doubt(delivery, error);
    this.#done = [...kept, ...this.#done];
  }

  /** Looks which of the messages of an exchange were ours to end. */
  async confirm(done: readonly Done[], settled: ReadonlySet<number>): Promise<void> {
    const unsure: Done[] = [];
    for (const item of done) {
      const { delivery } = item;
      if (delivery.state === "over") continue;
      if (settled.has(delivery.message.id)) this.#complete(delivery, item.value);
      else unsure.push(item);
    }
    if (unsure.length === 0) return;
    try {
      const endings = await this.#findEndings(unsure);
      for (const { delivery, value } of unsure) {
        if (delivery.state === "over") continue;
        const outcome = endings.get(delivery);
        const isOurs = delivery.isInDoubt && outcome !== undefined && outcome !== "cancelled";
        if (isOurs) this.#complete(delivery, value);
        else this.#lose(delivery, outcome);
      }
    } catch (error) {
      this.takeBack(unsure, error);
      this.#host.report(error);
    }
  }

  /** A claim has ended a message: because of its crashes, or because it is too late for it. */
  ended(record: LiveRecord): void {
    const message = toMessage(record);
    if (record.state === "cancelled") this.#host.events.emit("expired", { message });
    else this.#died(message, "crashes", message.error);
  }

  /** Whether there is another attempt, and after which pause. */
  #judge(delivery: Delivery, error: unknown): { isFinal: boolean; delayMs: number | undefined } {
    if (delivery.isFinal || isOf(error, NonRetryableError)) return { isFinal: true, delayMs: 0 };
    if (isOf(error, RetryError) && error.afterMs !== undefined) return { isFinal: false, delayMs: error.afterMs };
    const policy = delivery.backoff ?? this.#job.options.retry?.backoff;
    const attempt = delivery.message.attempts + 1;
    return { isFinal: false, delayMs: policy === undefined ? undefined : delayAfter(policy, error, attempt) };
  }

  async #sendFailed(): Promise<void> {
    this.#isFailing = true;
    const list = this.#failed.splice(0, MOST_AT_ONCE);
    for (const { delivery } of list) delivery.state = "sent";
    try {
      const items = [];
      for (const item of list) {
        const { delivery: { message, token }, error, text, isFinal } = item;
        item.delayMs ??= delayAfter(await this.#host.backoff(), error, message.attempts + 1);
        items.push({ id: message.id, token, error: text, delay_ms: item.delayMs, is_final: isFinal ? 1 : 0 } as const);
      }
      const rows = await this.#host.query(failLeased(items, this.#host.holder, this.#host.name));
      const held = new Set(rows.map(([id]) => Number(id)));
      for (const item of list) if (held.has(item.delivery.message.id)) this.#fail(item);
      if (held.size > 0) this.#host.givenBack();
      await this.#confirmFailed(list.filter(({ delivery }) => delivery.state !== "over"));
    } catch (error) {
      const kept = list.filter(({ delivery }) => delivery.state !== "over");
      for (const { delivery } of kept) doubt(delivery, error);
      this.#failed = [...kept, ...this.#failed];
      this.#host.report(error);
    }
    this.#isFailing = false;
    this.#host.schedule();
  }

  /** What was not held is lost, or was counted when the same was sent before without an answer. */
  async #confirmFailed(list: readonly Failed[]): Promise<void> {
    const unsure = list.filter(({ delivery }) => delivery.isInDoubt);
    const endings = list.length === 0 ? new Map<Delivery, string>() : await this.#findEndings(list);
    const ids = unsure.map(({ delivery }) => delivery.message.id);
    const rows = unsure.length === 0 ? [] : await this.#host.query(listAttempts(ids));
    const attempts = new Map(rows.map(([id, count]) => [Number(id), Number(count)]));
    for (const item of list) {
      const { delivery } = item;
      const { message } = delivery;
      // Somebody may have taken it away meanwhile.
      if (delivery.state === "over") continue;
      const isCounted = delivery.isCounted || (attempts.get(message.id) ?? 0) > message.attempts;
      const outcome = endings.get(delivery);
      if (outcome === "succeeded") this.#complete(delivery, delivery.value);
      else if (delivery.isInDoubt && (outcome === "failed" || isCounted)) this.#fail(item);
      else this.#lose(delivery, outcome);
    }
  }

  async #sendReturned(): Promise<void> {
    this.#isReturning = true;
    const list = this.#returned.splice(0, MOST_AT_ONCE);
    for (const delivery of list) delivery.state = "sent";
    try {
      const items = list.map(({ message, token, returnMs }) => ({ id: message.id, token, delay_ms: returnMs }));
      await this.#host.query(releaseLeased(items, this.#host.holder));
      for (const delivery of list) this.#host.forget(delivery);
      for (const { returnMs } of list) this.#host.expect(returnMs);
      this.#host.givenBack();
    } catch (error) {
      this.#returned = [...list.filter(({ state }) => state !== "over"), ...this.#returned];
      for (const delivery of this.#returned) delivery.state = "settling";
      this.#host.report(error);
    }
    this.#isReturning = false;
    this.#host.schedule();
  }

  async #loseRun(delivery: Delivery): Promise<void> {
    const endings = await this.#findEndings([{ delivery }]).catch(() => new Map<Delivery, string>());
    this.#lose(delivery, endings.get(delivery));
  }

  #lose(delivery: Delivery, outcome: string | undefined): void {
    const { message } = delivery;
    this.#host.lose(delivery, outcome === "cancelled" ? cancelled(message) : leaseLost(message));
  }

  /**
   * Which of the deliveries have ended their message, and how: what was sent without an answer may have been applied. Of a
   * message that somebody has cancelled that is told whoever held it.
   */
  async #findEndings(list: readonly { readonly delivery: Delivery }[]): Promise<Map<Delivery, string>> {
    const rows = await this.#host.query(findEndings(list.map(({ delivery }) => delivery.message.id)));
    const endings = new Map<Delivery, string>();
    for (const [id, token, outcome] of rows) {
      const item = list.find(({ delivery }) => delivery.message.id === Number(id));
      if (item?.delivery.token === Number(token) || item !== undefined && outcome === "cancelled") {
        endings.set(item.delivery, String(outcome));
      }
    }
    return endings;
  }

  #complete(delivery: Delivery, result: unknown): void {
    this.#host.forget(delivery);
    this.completed++;
    const { events } = this.#host;
    if (events.has("completed")) events.emit("completed", { message: delivery.message, result });
  }

  #fail({ delivery, error, delayMs = 0, isFinal }: Failed): void {
    this.#host.forget(delivery);
    this.failures++;
    const { message } = delivery;
    const isLast = message.attempts + 1 >= message.maxAttempts;
    const retryAfterMs = isLast || isFinal ? null : delayMs;
    this.#host.events.emit("failed", { message, error, retryAfterMs });
    if (retryAfterMs === null) this.#died(message, isLast ? "attempts" : "not_retryable", error);
    else this.#host.expect(retryAfterMs);
  }

  #died(message: Message, reason: "attempts" | "crashes" | "not_retryable", error: unknown): void {
    this.dead++;
    this.#host.events.emit("dead", { message, reason });
    const { onDead } = this.#job.options;
    if (onDead !== undefined) this.#host.runHook(() => onDead(message, error));
  }
}

/** What an archive statement needs of a delivery whose handler resolved. */
export function toItem({ delivery, result }: Done): ArchiveItem {
  const { message: { id, headers }, token } = delivery;
  const parent = headers[PARENT_HEADER];
  return { id, token, reason: null, result, ...(parent !== undefined && { parent_id: Number.parseInt(parent) }) };
}

/** Notes that what was sent may have been applied. */
function doubt(delivery: Delivery, error: unknown): void {
  delivery.state = "settling";
  if (!(error instanceof DatabaseError) || error.outcome === "unknown") delivery.isInDoubt = true;
}

/** Handlers throw whatever they like, also what cannot even be asked for its class. */
function isOf<T>(error: unknown, kind: abstract new (...args: never) => T): error is T {
  try {
    return error instanceof kind;
  } catch {
    return false;
  }
}
