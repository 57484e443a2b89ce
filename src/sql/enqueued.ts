/** What came of the statements that put messages on a queue. */
import { DatabaseError } from "../errors.ts";
import type { Row } from "./driver.ts";
import type { MessageState } from "./record.ts";

/** What became of one message of a list. */
export interface Enqueued {
  readonly id: number;
  /** When the statement ran, by the database's clock. */
  readonly at: number;
  /** The limit of a new message, which may be the queue's. */
  readonly maxAttempts?: number | undefined;
  /** What is known of a message that was there before; absent for a new one. */
  readonly found?: {
    readonly state: MessageState;
    readonly priority: number | null;
    readonly attempts: number | null;
    readonly maxAttempts: number | null;
    readonly enqueuedAt: number | null;
    readonly dueAt: number | null;
    readonly expiresAt: Date | null;
  };
}

/** Why a list, or one item of it, was refused: the key of item `index` belongs to message `id`. */
export interface Refused {
  readonly index: number;
  readonly id: number;
  readonly reason: "payload" | "taken";
}

/**
 * Reads the rows of `enqueueMessages`: what became of each message, or why the whole list was refused. Undefined: there is no
 * such queue.
 */
export function decodeEnqueued(rows: readonly Row[], count: number): (Enqueued | Refused)[] | Refused | undefined {
  const out: (Enqueued | Refused)[] = [];
  const fresh: Enqueued[] = [];
  for (const row of rows) {
    const answer = JSON.parse(String(row[0])) as EnqueueAnswer;
    const at = Number(answer.at);
    if (answer.refused !== undefined) {
      const refused = { index: Number(answer.n) - 1, id: Number(answer.id), reason: answer.refused };
      if (answer.is_alone !== 1) return refused;
      out[refused.index] ??= refused;
      continue;
    }
    const { n, ids, limits, last } = answer;
    const maxAttempts = answer.max_attempts ?? undefined;
    if (ids !== undefined) {
      for (const [i, id] of ids.entries()) fresh.push({ id, at, maxAttempts: limits?.[i] ?? maxAttempts });
    } else if (last !== undefined) {
      for (let id = last - count + 1; id <= last; id++) fresh.push({ id, at, maxAttempts });
    } else if (n === undefined || n === null) {
      fresh.push({ id: Number(answer.id), at, maxAttempts });
    } else if (n > 0) {
      const own = answer.is_new === 1 ? { id: Number(answer.id), at, maxAttempts } : foundIn(answer, at);
      // The second column is what the places of one part of a large list have to be moved by.
      out[Number(row[1] ?? 0) + n - 1] ??= own;
    }
  }
  if (rows.length === 0) return undefined;
  // What came without a number are the items without a key, in their order.
  for (let i = 0, next = 0; i < count; i++) out[i] ??= fresh[next++] as Enqueued;
  return out;
}

/** Whether a list of several parts failed because there is no such queue. */
export function lacksQueue(error: unknown): boolean {
  return error instanceof DatabaseError && error.sqlState === "22012";
}

interface EnqueueAnswer {
  readonly at?: number;
  /** The place in the list, from one; 0 for a row whose item is told of by another; none for an item without a key. */
  readonly n?: number | null;
  readonly id?: number;
  readonly ids?: readonly number[];
  /** The limits of attempts of those, where they differ. */
  readonly limits?: readonly number[];
  readonly last?: number;
  readonly is_new?: number;
  readonly refused?: "payload" | "taken";
  /** Whether the refusal is of this item only: 1. */
  readonly is_alone?: number;
  readonly state?: MessageState;
  readonly priority?: number | null;
  readonly attempts?: number | null;
  readonly max_attempts?: number | null;
  readonly enqueued_at?: number | null;
  readonly due_at?: number | null;
  readonly expires_at?: number | null;
}

function foundIn(answer: EnqueueAnswer, at: number): Enqueued {
  return {
    id: Number(answer.id),
    at,
    found: {
      state: answer.state ?? "deleted",
      priority: answer.priority ?? null,
      attempts: answer.attempts ?? null,
      maxAttempts: answer.max_attempts ?? null,
      enqueuedAt: answer.enqueued_at ?? null,
      dueAt: answer.due_at ?? null,
      expiresAt: typeof answer.expires_at === "number" ? new Date(answer.expires_at) : null,
    },
  };
}
