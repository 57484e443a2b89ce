/** How messages are shown, and how lists of them are read page by page. */
import type { ArchivedMessage, ArchiveQuery, Message, Page } from "../../mod.ts";
import { type Call, given, type Output, type Row, UsageError } from "./command.ts";

/** What a table shows of messages that live. */
export const LIVE_COLUMNS: readonly string[] = [
  "id",
  "state",
  "priority",
  "attempts",
  "visibleAt",
  "worker",
  "key",
  "payload",
];
/** What a table shows of messages that have ended. */
export const ENDED_COLUMNS: readonly string[] = [
  "id",
  "outcome",
  "reason",
  "attempts",
  "archivedAt",
  "archivedBy",
  "payload",
];

/** Pages are read one after the other, so that any number of rows fits into memory. */
const PAGE = 1_000;
const PRESET_LIMIT = 100;

/** What is told of a message that lives, in this order. */
const LIVE = [
  "id",
  "queue",
  "state",
  "priority",
  "attempts",
  "maxAttempts",
  "enqueuedAt",
  "visibleAt",
  "leaseUntil",
  "worker",
  "key",
  "headers",
  "payload",
] as const satisfies readonly (keyof Message)[];
/** What is told of one that has ended, in this order. */
const ENDED = [
  "id",
  "queue",
  "outcome",
  "reason",
  "attempts",
  "enqueuedAt",
  "archivedAt",
  "archivedBy",
  "processingMs",
  "key",
  "headers",
  "error",
  "result",
  "payload",
] as const satisfies readonly (keyof ArchivedMessage)[];

/** A message that lives. */
export function liveRow(message: Message): Row {
  return Object.fromEntries(LIVE.map((name) => [name, message[name]]));
}

/** A message that has ended. */
export function endedRow(message: ArchivedMessage): Row {
  return Object.fromEntries(ENDED.map((name) => [name, message[name]]));
}

/** A list that is read while it is printed, and the sentence that tells how to go on behind it. */
export function pages<T>(
  read: (page: { limit: number; cursor?: string }) => Promise<Page<T>>,
  rowOf: (item: T) => Row,
  { flags }: Call,
  columns: readonly string[],
): Output {
  const { limit = PRESET_LIMIT, cursor } = flags as { limit?: number; cursor?: string };
  let next: string | null | undefined = cursor;
  return {
    data: rows(),
    columns,
    note: () => typeof next === "string" ? `There is more: --cursor ${next}` : undefined,
  };

  async function* rows(): AsyncGenerator<Row> {
    for (let left = limit; left > 0;) {
      const page: Page<T> = await read({ limit: Math.min(left, PAGE), ...given({ cursor: next ?? undefined }) });
      yield* page.items.map(rowOf);
      left -= page.items.length;
      next = page.cursor;
      if (next === null) return;
    }
  }
}

/** Which ended messages are meant, from the flags. */
export function endedFilter(queue: string | undefined, { flags, now }: Pick<Call, "flags" | "now">): ArchiveQuery {
  const olderMs = flags["older-than"] as number | undefined;
  if (olderMs !== undefined && flags.before !== undefined) {
    throw new UsageError("--before and --older-than exclude each other");
  }
  return given({
    queue,
    outcome: flags.outcome as "cancelled" | "failed" | "succeeded",
    reason: flags.reason as string,
    type: flags["message-type"] as string,
    key: flags.key as string,
    worker: flags.worker as string,
    since: flags.since as Date,
    before: (flags.before as Date | undefined) ?? (olderMs === undefined ? undefined : ago(now, olderMs)),
  });
}

/** @throws {UsageError} when no database can hold the instant. */
function ago(now: Date, ms: number): Date {
  if (ms > now.getTime()) throw new UsageError("--older-than goes back to before 1970");
  return new Date(now.getTime() - ms);
}
