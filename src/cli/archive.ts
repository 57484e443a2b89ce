/** `pgqrs archive …` and `pgqrs dead …`. */
import { type ArchivedMessage, type ArchiveQuery, NotFoundError, type Store } from "../../mod.ts";
import { type Call, type Command, counted, type Flag, given, idOf, UsageError } from "./command.ts";
import { BEFORE, CURSOR, KEY, LIMIT, OFFSET, OLDER, QUEUE, REASON, SINCE, TYPE, WORKER } from "./flags.ts";
import { archiveById, find } from "./message.ts";
import { ENDED_COLUMNS, endedFilter, endedRow, pages } from "./rows.ts";

const OUTCOME: Flag = {
  name: "outcome",
  type: "text",
  choices: ["succeeded", "failed", "cancelled"],
  about: "With this outcome",
};
const ALL: Flag = { name: "all", type: "boolean", about: "All there are" };
const EXPIRED: Flag = { name: "expired", type: "boolean", about: "Only what the queue keeps no longer" };
const DEAD_FILTER: readonly Flag[] = [REASON, TYPE, KEY, WORKER, SINCE, BEFORE, OLDER];
const FILTER: readonly Flag[] = [OUTCOME, ...DEAD_FILTER];

export const archiveCommands: readonly Command[] = [
  {
    usage: "archive <queue> <id>",
    about: "End a message as succeeded",
    example: "archive tasks 42",
    flags: [REASON],
    run: archiveById,
  },
  {
    usage: "archive list <queue>",
    about: "List ended messages, the last first",
    example: "archive list tasks --limit 20 --offset 100",
    flags: [...FILTER, LIMIT, OFFSET, CURSOR],
    async run(store, call) {
      const { args: { queue = "" }, flags } = call;
      await store.admin.queues.get(queue);
      const filter = endedFilter(queue, call);
      let offset = flags.offset as number | undefined;
      return pages(
        async (page) => {
          const found = await store.admin.archive.list({ ...filter, ...page, ...given({ offset }) });
          offset = undefined;
          return found;
        },
        endedRow,
        call,
        ENDED_COLUMNS,
      );
    },
  },
  {
    usage: "archive show <queue> <id>",
    about: "Show an ended message",
    example: "archive show tasks 42",
    run: async (store, { args: { queue = "", id } }) => ({
      data: endedRow(await find(store, queue, idOf(id), true) as ArchivedMessage),
    }),
  },
  {
    usage: "archive count <queue>",
    about: "Count ended messages",
    example: "archive count tasks --outcome failed",
    flags: FILTER,
    async run(store, call) {
      const { args: { queue = "" } } = call;
      await store.admin.queues.get(queue);
      return { data: { queue, count: await store.admin.archive.count(endedFilter(queue, call)) } };
    },
  },
  {
    usage: "archive purge [queue]",
    about: "Delete ended messages of a queue, or with --all of all queues",
    example: "archive purge tasks --older-than 7d --dry-run",
    flags: [...FILTER, EXPIRED, ALL],
    async preview(store, call) {
      const queue = await meant(call, (name) => store.admin.queues.get(name));
      const isExpired = call.flags.expired === true;
      const filter = endedFilter(queue, call);
      const count = isExpired ? await countExpired(store, filter) : await store.admin.archive.count(filter);
      const which = isExpired ? ", kept for their time" : "";
      return {
        what: `delete ${counted(count, "ended message")} of ${placeOf(queue)}${which}`,
        data: given({ queue, messages: count }),
      };
    },
    async run(store, call) {
      const { args: { queue }, flags } = call;
      const expired = flags.expired === true;
      const deleted = await store.admin.archive.purge({ ...endedFilter(queue, call), expired });
      return { data: given({ queue, deleted }), note: `Deleted ${counted(deleted, "ended message")}` };
    },
  },
];

export const deadCommands: readonly Command[] = [
  {
    usage: "dead list [queue]",
    about: "List the messages that failed for good, the last first",
    example: "dead list tasks --reason attempts",
    flags: [...DEAD_FILTER, LIMIT, OFFSET, CURSOR],
    async run(store, call) {
      const { args: { queue }, flags } = call;
      if (queue !== undefined) await store.admin.queues.get(queue);
      const filter = endedFilter(queue, call);
      let offset = flags.offset as number | undefined;
      return pages(
        async (page) => {
          const found = await store.admin.dead.list({ ...filter, ...page, ...given({ offset }) });
          offset = undefined;
          return found;
        },
        endedRow,
        call,
        ["id", "queue", "reason", "attempts", "archivedAt", "archivedBy", "payload"],
      );
    },
  },
  {
    usage: "dead show <id>",
    about: "Show a dead letter with its error",
    example: "dead show 42",
    async run(store, { args: { id } }) {
      const message = await store.admin.archive.get(idOf(id));
      if (message?.outcome !== "failed") throw new NotFoundError(`There is no dead letter ${id}`);
      return { data: endedRow(message) };
    },
  },
  {
    usage: "dead replay [id...]",
    about: "Bring dead letters back: those of these ids, of a queue, or all",
    example: "dead replay --queue tasks --reason attempts",
    flags: [QUEUE, ...DEAD_FILTER, ALL],
    async run(store, call) {
      const { rest, flags } = call;
      const queue = flags.queue as string | undefined;
      if ([rest.length > 0, queue !== undefined, flags.all === true].filter(Boolean).length !== 1) {
        throw new UsageError("dead replay needs ids, --queue or --all, and one of them only");
      }
      if (queue !== undefined) await store.admin.queues.get(queue);
      const ids = rest.map(idOf);
      const filter = endedFilter(queue, call);
      if (ids.length > 0 && Object.keys(filter).length > 0) {
        throw new UsageError("dead replay takes ids or filters, not both");
      }
      const replayed = await store.admin.dead.replay(ids.length > 0 ? ids : filter);
      const missing = ids.filter((id) => !replayed.includes(id));
      return {
        // Where nothing was done there is nothing to tell.
        ...(replayed.length > 0 || missing.length === 0
          ? { data: replayed.map((id) => ({ id })), note: `Brought ${counted(replayed.length, "message")} back` }
          : {}),
        ...(missing.length > 0 && { missing: `There is no dead letter ${missing.join(", ")}` }),
      };
    },
  },
  {
    usage: "dead purge [queue]",
    about: "Delete dead letters of a queue, or with --all of all queues",
    example: "dead purge tasks --older-than 30d --yes",
    flags: [...DEAD_FILTER, ALL],
    async preview(store, call) {
      const queue = await meant(call, (name) => store.admin.queues.get(name));
      const count = await store.admin.dead.count(endedFilter(queue, call));
      return {
        what: `delete ${counted(count, "dead letter")} of ${placeOf(queue)}`,
        data: given({ queue, messages: count }),
      };
    },
    async run(store, call) {
      const { args: { queue } } = call;
      const deleted = await store.admin.dead.purge(endedFilter(queue, call));
      return { data: given({ queue, deleted }), note: `Deleted ${counted(deleted, "dead letter")}` };
    },
  },
];

/** Which queue is meant; none means all of them, and that has to be said. @throws {UsageError} */
async function meant(
  { args: { queue }, flags }: Call,
  check: (queue: string) => Promise<unknown>,
): Promise<string | undefined> {
  if ((queue === undefined) !== (flags.all === true)) {
    throw new UsageError("give a queue or --all, and one of them only");
  }
  if (queue !== undefined) await check(queue);
  return queue;
}

/** Counts what queues keep no longer: dead letters may be kept for another time than all else. */
async function countExpired(store: Store, filter: ArchiveQuery): Promise<number> {
  const { queues, archive } = store.admin;
  const { queue, outcome: wanted, before } = filter;
  const [{ now }, list] = [
    await store.ping(),
    queue === undefined ? await queues.list() : [await queues.get(queue)],
  ];
  let count = 0;
  for (const { name, retentionMs, deadRetentionMs } of list) {
    for (const outcome of ["succeeded", "failed", "cancelled"] as const) {
      const keptMs = outcome === "failed" ? deadRetentionMs : retentionMs;
      if (keptMs === null || keptMs > now.getTime() || (wanted !== undefined && wanted !== outcome)) continue;
      const end = Math.min(now.getTime() - keptMs, before?.getTime() ?? Infinity);
      count += await archive.count({ ...filter, queue: name, outcome, before: new Date(end) });
    }
  }
  return count;
}

function placeOf(queue: string | undefined): string {
  return queue === undefined ? "all queues" : `queue ${queue}`;
}
