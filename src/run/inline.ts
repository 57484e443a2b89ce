/** A run that is executed here and now, by whoever has started it: one run, its lease, and no loop around it. */
import type { Database } from "../database.ts";
import { TimeoutError } from "../errors.ts";
import { encodeError, encodeJson } from "../json.ts";
import { newHolder, toMessage } from "../message.ts";
import { LONGEST_TIMER_MS } from "../options.ts";
import type { Results } from "../results.ts";
import { type Backoff, delayAfter } from "../retry.ts";
import { archiveLeased, extendLeased, failLeased, progressLeased, releaseLeased } from "../sql/leases.ts";
import { decodeLive } from "../sql/record.ts";
import { claimRun, runDue } from "../sql/runs.ts";
import type { Row } from "../sql/driver.ts";
import type { Statement } from "../sql/sql.ts";
import { type ContextHost, DeliveryContext } from "../worker/context.ts";
import { Delivery, leaseLost } from "../worker/delivery.ts";
import { toItem } from "../worker/settling.ts";
import type { Workflow } from "../workflow.ts";
import { Parked } from "./parked.ts";
import { Recorder } from "./recorder.ts";
import { runJob } from "./run_job.ts";

const NAME = "inline";
const LEASE_MS = 30_000;
/** How often to look for a run that somebody else executes, or that waits for something without a time. */
const LOOK_MS = 250;

/** Executes a run until it has ended. Somebody else who executes it meanwhile is waited for. */
export async function executeRun(
  database: Database,
  results: Results,
  workflow: Workflow,
  id: number,
  signal: AbortSignal | undefined,
): Promise<unknown> {
  const inline = new Inline(database, workflow);
  for (;;) {
    signal?.throwIfAborted();
    const hasRun = await inline.attempt(id, signal);
    const [row] = hasRun ? [] : await database.query(runDue(id));
    const waitMs = hasRun ? 0 : Math.min(LOOK_MS, Math.max(1, Number(row?.[0] ?? LOOK_MS)));
    // It resolves when the run has ended, whoever has ended it.
    const ended = row === undefined && !hasRun
      ? await results.wait(id, { ...(signal && { signal }) })
      : await endOf(results, id, waitMs, signal);
    if (ended !== STILL) return ended;
  }
}

const STILL = Symbol("still going on");

async function endOf(results: Results, id: number, ms: number, signal: AbortSignal | undefined): Promise<unknown> {
  if (ms <= 0) return STILL;
  try {
    return await results.wait(id, { timeoutMs: ms, ...(signal && { signal }) });
  } catch (error) {
    if (error instanceof TimeoutError) return STILL;
    throw error;
  }
}

/** Executes deliveries of runs of one workflow, one at a time. */
class Inline implements ContextHost {
  readonly name = NAME;
  readonly holder: string = newHolder(NAME);
  readonly isStopping = false;
  readonly database: Database;
  readonly recorder: Recorder;
  readonly #workflow: Workflow;
  readonly #leaseMs: number;
  /** Why the last execution was aborted, if it took too long. */
  #late: Error | undefined;

  constructor(database: Database, workflow: Workflow) {
    this.database = database;
    this.recorder = new Recorder(database, this.holder);
    this.#workflow = workflow;
    this.#leaseMs = workflow.options.leaseMs ?? LEASE_MS;
  }

  /** Takes the run, if it is due and nobody has it, and executes it until it ends or waits. */
  async attempt(id: number, signal: AbortSignal | undefined): Promise<boolean> {
    const sentAt = performance.now();
    const [row] = await this.database.query(claimRun(id, this.holder, this.#leaseMs));
    if (row === undefined) return false;
    const record = decodeLive(row);
    const delivery = new Delivery(record, toMessage(record, true), this.#leaseMs, sentAt + this.#leaseMs);
    delivery.state = "running";
    const onAbort = (): void => delivery.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    const { timeoutMs } = this.#workflow.options;
    const limit = timeoutMs === undefined ? undefined : setTimeout(() => {
      this.#late = new DOMException(`The run took longer than ${timeoutMs} ms`, "TimeoutError");
      delivery.abort(this.#late);
    }, timeoutMs);
    const beat = setInterval(() => void this.#renew(delivery), Math.min(this.#leaseMs / 3, LONGEST_TIMER_MS));
    try {
      await this.#execute(delivery);
    } finally {
      clearInterval(beat);
      clearTimeout(limit);
      signal?.removeEventListener("abort", onAbort);
    }
    return true;
  }

  /** What has lapsed is given up by the next write, which is fenced. */
  catchUp(): void {}

  async progress({ message, token }: Delivery, value: unknown): Promise<boolean> {
    const progress = encodeJson(value, { what: "progress" });
    return (await this.#query(progressLeased([{ id: message.id, token, progress }], this.holder))).length > 0;
  }

  async #execute(delivery: Delivery): Promise<void> {
    const { message } = delivery;
    const { handler, encodeResult, options: { retry } } = runJob(this.#workflow);
    let value: unknown;
    let result: string;
    try {
      value = await (handler as (one: typeof message, context: DeliveryContext<unknown>) => unknown)(
        message,
        new DeliveryContext(delivery, this),
      );
      if (value instanceof Parked) return;
      result = encodeResult?.(value) ?? encodeJson(value);
    } catch (error) {
      const { aborted, reason } = delivery.signal;
      if (aborted && reason !== this.#late) {
        // Somebody else may go on at once; what is lost by now is refused.
        await this.#query(releaseLeased([{ id: message.id, token: delivery.token, delay_ms: 0 }], this.holder));
        throw reason;
      }
      const backoff = retry?.backoff ?? (await this.database.queueNamed(message.queue)).backoff as Backoff;
      await this.#query(failLeased(
        [{
          id: message.id,
          token: delivery.token,
          error: encodeError(error),
          delay_ms: delayAfter(backoff, error, message.attempts + 1),
          is_final: delivery.isFinal ? 1 : 0,
        }],
        this.holder,
        NAME,
      ));
      return;
    }
    await this.#query(archiveLeased([toItem({ delivery, value, result })], this.holder, NAME));
  }

  async #renew(delivery: Delivery): Promise<void> {
    const { message: { id }, token } = delivery;
    const sentAt = performance.now();
    const items = [{ id, token, lease_ms: this.#leaseMs }];
    // What gets no answer is tried again at the next beat, as long as the lease holds.
    const rows = await this.#query(extendLeased(items, this.holder)).catch(() => undefined);
    if (rows === undefined && performance.now() < delivery.safeUntil) return;
    if (rows === undefined || rows.length === 0) delivery.abort(leaseLost(delivery.message));
    else delivery.renewed(sentAt);
  }

  #query(statement: Statement): Promise<readonly Row[]> {
    return this.database.query(statement, { isLetIn: true });
  }
}
