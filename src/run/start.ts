/** Starting runs: a run is a message on its workflow's queue, which is made when it is missing. */
import type { Database } from "../database.ts";
import { NotFoundError } from "../errors.ts";
import type { Message } from "../message.ts";
import { type EnqueueOptions, ownHeaders, Producer } from "../producer.ts";
import { resolveBackoff } from "../retry.ts";
import { PARENT_HEADER } from "../sql/migrations/0003_runs.ts";
import { createQueue } from "../sql/queues.ts";
import { retryRun } from "../sql/runs.ts";
import type { WorkflowRef } from "../workflow.ts";
import type { StepPlace } from "./context.ts";
import type { Recorder } from "./recorder.ts";

const RETENTION_MS = 2_592_000_000;
const MAX_CRASHES = 10;
/** The longest key of a step that stands in the key of its child as it is. */
const SHORT = 200;

/** Starts a run; with a key that is taken, resolves to the run that has it. */
export async function startRun<Input>(
  database: Database,
  { queue }: WorkflowRef<Input, unknown>,
  input: Input,
  options: EnqueueOptions,
): Promise<Message<Input>> {
  const producer = new Producer<Input>(database, queue);
  try {
    return await producer.enqueue(input, options);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
  }
  await makeQueue(database, queue.name, options);
  return await producer.enqueue(input, options);
}

/** Which run and which step of it starts a child, and on whose behalf. */
export interface Parent {
  readonly database: Database;
  readonly recorder: Recorder;
  readonly id: number;
  readonly token: number;
  readonly signal: AbortSignal;
}

/**
 * Starts the child of a step, once however often that is tried. Its id is recorded in the same transaction, so that
 * there is none of which its parent does not know. One that is called, and has failed before, begins again.
 */
export async function startChild<Input>(
  { database, recorder, id, token, signal }: Parent,
  child: WorkflowRef<Input, unknown>,
  input: Input,
  step: StepPlace,
  ending: number,
): Promise<number> {
  const bytes = new TextEncoder().encode(step.key);
  const key = `$run/${id}/${bytes.length <= SHORT ? step.key : await hashOf(bytes)}`;
  return await recorder.insist(signal, async () => {
    const isCall = step.kind === "call";
    const headers = isCall ? ownHeaders({ [PARENT_HEADER]: `${id}/${step.key}` }) : {};
    const { transactionMs: timeoutMs } = database;
    return await database.transaction(async (tx) => {
      const message = await startRun(database, child, input, { key, headers, tx });
      const item = { id, token, ...step, attempts: 0, took_ms: 0 } as const;
      await recorder.recordIn(
        tx,
        isCall
          ? { ...item, state: "waiting", child_id: message.id }
          : { ...item, state: "succeeded", value: String(message.id), ending },
      );
      if (!isCall) return message.id;
      if (message.state === "failed" || message.state === "cancelled") {
        await database.query(retryRun(message.id), { tx, isLetIn: true });
      }
      return message.id;
    }, { timeoutMs, signal, isLetIn: true });
  });
}

async function makeQueue(database: Database, name: string, { tx }: EnqueueOptions): Promise<void> {
  const settings = {
    leaseMs: null,
    maxAttempts: database.settings.maxAttempts,
    maxCrashes: MAX_CRASHES,
    backoff: JSON.stringify(resolveBackoff(undefined)),
    retentionMs: RETENTION_MS,
    isWorkflow: true,
  } as const;
  await database.query(createQueue(name, settings), tx === undefined ? {} : { tx });
}

async function hashOf(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
