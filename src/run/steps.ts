/** Steps: each is reached, yields what is recorded, or is done, as often as its policy says, and recorded. */
import { encodeValue } from "../codec.ts";
import { DatabaseError, InterruptedError, NonRetryableError, RetryError } from "../errors.ts";
import type { Schema } from "../queue.ts";
import { type Backoff, delayAfter, type RetryPolicy } from "../retry.ts";
import type { StepKind, StepRecord } from "../sql/runs.ts";
import type { Transaction } from "../transaction.ts";
import type { StepContext, StepOptions } from "../workflow.ts";
import type { Execution } from "./execution.ts";
import { RunLostError } from "./lost.ts";

/** What a recorded value may have. */
const VALUE = { maxBytes: 16_777_216, maxDepth: 64 } as const;

/** How often a step is tried, and after which pauses: as it says itself, or as the workflow does. */
export interface StepPolicy {
  readonly maxAttempts: number;
  readonly backoff: RetryPolicy["backoff"] | Backoff;
}

/** What is recorded when a step has ended. */
type Ended = Pick<StepRecord, "error" | "state" | "value">;

/** What one attempt does, until its end is recorded. */
type Attempt = (context: StepContext, startedAt: number) => Promise<Ended>;

interface Step {
  readonly key: string;
  readonly place: number;
  readonly kind: StepKind;
}

/** Somebody else, or an attempt before, has recorded the end of the step while this one was at it. */
class RecordedMeanwhile extends Error {}

/** Does a step. */
export async function doStep<T>(
  execution: Execution,
  key: string,
  work: (step: StepContext) => Promise<T> | T,
  options: StepOptions<T>,
  policy: StepPolicy,
): Promise<T> {
  const known = await execution.reach(key, "step");
  if (known?.state === "succeeded" || known?.state === "failed") return execution.outcomeOf<T>(key, known);
  const step: Step = { key, place: known?.place ?? execution.nextPlace(), kind: "step" };
  return await insist<T>(execution, step, known, options, policy, async (context, startedAt) => {
    const attempts = context.attempt - 1;
    if (options.atMostOnce === true) await execution.record({ ...step, attempts, took_ms: 0, state: "started" });
    const { database } = execution.host;
    const given = await inTime(key, (one) => database.insideStep(key, () => work(one)), context, options.timeoutMs);
    const value = encode(key, await checked(key, given, options));
    await execution.record({ ...step, attempts, took_ms: performance.now() - startedAt, state: "succeeded", value });
    return { state: "succeeded", value, error: null };
  });
}

/** Does a step in a transaction that also records it. */
export async function doTransaction<T>(
  execution: Execution,
  key: string,
  work: (tx: Transaction) => Promise<T>,
  options: StepOptions<T>,
  policy: StepPolicy,
): Promise<T> {
  const known = await execution.reach(key, "transaction");
  if (known?.state === "succeeded" || known?.state === "failed") return execution.outcomeOf<T>(key, known);
  const step: Step = { key, place: known?.place ?? execution.nextPlace(), kind: "transaction" };
  const { database, recorder } = execution.host;
  const { timeoutMs = database.transactionMs } = options;
  const { id, token } = execution.lease;
  return await insist<T>(execution, step, known, options, policy, async (context, startedAt) => {
    let value = "";
    try {
      await database.insideStep(key, () =>
        database.transaction(async (tx) => {
          value = encode(key, await checked(key, await work(tx), options));
          const attempts = context.attempt - 1;
          const took_ms = performance.now() - startedAt;
          const item = { id, token, ...step, state: "succeeded", attempts, took_ms, value } as const;
          const { wish, written } = await recorder.recordIn(tx, { ...item, ending: execution.nextEnding() });
          execution.heed(wish);
          // An attempt before was committed after all: what this one has done is rolled back.
          if (written === 0) throw new RecordedMeanwhile();
        }, { timeoutMs, signal: context.signal, isLetIn: true }));
    } catch (error) {
      const isOpen = error instanceof DatabaseError && error.outcome === "unknown";
      if (!isOpen && !(error instanceof RecordedMeanwhile)) throw error;
      // Whether it was committed is what the record says, which is part of it.
      const steps = await recorder.history(id, context.signal);
      const found = steps.find((one) => one.key === key && (one.state === "succeeded" || one.state === "failed"));
      if (found === undefined) throw error;
      return found.isLarge ? { ...found, value } : found;
    }
    return { state: "succeeded", value, error: null };
  });
}

/** Attempts a step until it succeeds, or its policy has it fail. Every failure is recorded before the pause after it. */
async function insist<T>(
  execution: Execution,
  step: Step,
  known: StepRecord | undefined,
  { atMostOnce = false }: StepOptions<T>,
  { maxAttempts, backoff }: StepPolicy,
  attempt: Attempt,
): Promise<T> {
  const { key } = step;
  const { signal, lease: { id } } = execution;
  let attempts = known?.attempts ?? 0;
  if (known?.state === "started") {
    const text = `Step ${JSON.stringify(key)} was begun, and its process has ended: nobody knows what it has done`;
    const fail = () =>
      execution.recordError({ ...step, attempts: attempts + 1, took_ms: 0 }, new InterruptedError(text));
    return await execution.busy(fail);
  }
  let waitMs = known?.state === "retrying" ? known.dueMs ?? 0 : 0;
  for (;;) {
    if (waitMs > 0) await execution.wait({ ...step }, performance.now() + waitMs);
    const startedAt = performance.now();
    const ended = await execution.busy(async () => {
      try {
        return await attempt({ attempt: attempts + 1, signal, idempotencyKey: `${id}/${key}` }, startedAt);
      } catch (error) {
        // What was aborted has not failed: it is done again where the run goes on.
        if (signal.aborted || error instanceof RunLostError) throw error;
        attempts++;
        const took_ms = performance.now() - startedAt;
        const isFinal = error instanceof NonRetryableError || execution.isFinal(error);
        const isLast = atMostOnce || attempts >= maxAttempts || isFinal;
        if (isLast) return await execution.recordError({ ...step, attempts, took_ms }, causeOf(error));
        const asked = error instanceof RetryError ? error.afterMs : undefined;
        waitMs = asked ?? delayAfter(backoff as RetryPolicy["backoff"], error, attempts);
        await execution.record({ ...step, state: "retrying", attempts, took_ms, delay_ms: waitMs });
        return undefined;
      }
    });
    if (ended !== undefined) return execution.outcomeOf<T>(key, ended);
    await execution.reach(key, step.kind);
  }
}

/** A value that cannot be stored: to do the step again would not change that. */
class UnstorableError extends NonRetryableError {}

function encode(key: string, value: unknown): string {
  try {
    return encodeValue(value, { what: `the value of step ${key}`, ...VALUE });
  } catch (error) {
    throw new UnstorableError("", { cause: error });
  }
}

function causeOf(error: unknown): unknown {
  return error instanceof UnstorableError ? error.cause : error;
}

/** Does the user's work, at most for so long; what comes later is heard by nobody. */
async function inTime<T>(
  key: string,
  work: (step: StepContext) => Promise<T> | T,
  context: StepContext,
  timeoutMs: number | undefined,
): Promise<T> {
  if (timeoutMs === undefined) return await work(context);
  const controller = new AbortController();
  const late = Promise.withResolvers<never>();
  const stop = (reason: unknown): void => {
    controller.abort(reason);
    late.reject(reason);
  };
  const onAbort = (): void => stop(context.signal.reason);
  const timer = setTimeout(() => {
    stop(new DOMException(`Step ${JSON.stringify(key)} took longer than ${timeoutMs} ms`, "TimeoutError"));
  }, timeoutMs);
  context.signal.addEventListener("abort", onAbort);
  try {
    // Called here, so that what it throws at once is a failure like any other.
    return await Promise.race([(async () => await work({ ...context, signal: controller.signal }))(), late.promise]);
  } finally {
    clearTimeout(timer);
    context.signal.removeEventListener("abort", onAbort);
  }
}

/** The value as the step's schema gives it back. */
async function checked<T>(key: string, value: T, { schema }: { readonly schema?: Schema<T> }): Promise<T> {
  if (schema === undefined) return value;
  const result = await schema["~standard"].validate(value);
  if (result.issues === undefined) return result.value;
  throw new NonRetryableError(`The value of step ${JSON.stringify(key)} does not fit its schema`);
}
