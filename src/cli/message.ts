/** `pgqrs message …`, without `send`. */
import { type ArchivedMessage, type Message, type MessageQuery, NotFoundError, type Store } from "../../mod.ts";
import {
  type Call,
  type Command,
  did,
  type Flag,
  given,
  idOf,
  type Output,
  pausedNote,
  UsageError,
} from "./command.ts";
import { ARCHIVE, AT, COUNT, CURSOR, DELAY, KEY, LIMIT, PRIORITY, REASON, TYPE } from "./flags.ts";
import { ENDED_COLUMNS, endedFilter, endedRow, LIVE_COLUMNS, liveRow, pages } from "./rows.ts";
import { sendCommand } from "./send.ts";

const LOCK_TIME: Flag = { name: "lock-time", type: "duration", about: "For how long to lease (5s)" };
const STATE: Flag = { name: "state", type: "text", choices: ["ready", "delayed", "leased"], about: "In this state" };
const NAME = { name: "pgqrs-cli" };

export const messageCommands: readonly Command[] = [
  sendCommand,
  {
    usage: "message read <queue>",
    about: "Lease messages and print them",
    example: "message read tasks --count 10 --lock-time 1m",
    flags: [COUNT, LOCK_TIME, TYPE],
    async run(store, { args: { queue = "" }, flags }) {
      const options = { limit: flags.count as number, leaseMs: flags["lock-time"] as number };
      const type = flags["message-type"] as string;
      const messages = await store.consumer(queue, NAME).dequeue(given({ ...options, type }));
      if (messages.length === 0) return { data: [], note: await nothing(store, queue) };
      return { data: messages.map(liveRow), columns: LIVE_COLUMNS };
    },
  },
  {
    usage: "message dequeue <queue>",
    about: "Take one message, print it and archive it",
    example: "message dequeue tasks",
    flags: [TYPE],
    async run(store, { args: { queue = "" }, flags }) {
      const consumer = store.consumer(queue, NAME);
      const [message] = await consumer.dequeue(given({ type: flags["message-type"] as string }));
      if (message === undefined) return { data: null, note: await nothing(store, queue) };
      if (!await consumer.archive(message, { reason: "dequeued" })) throw new Error("the lease was lost meanwhile");
      return { data: liveRow(message) };
    },
  },
  {
    usage: "message show <queue> <id>",
    about: "Show a message",
    example: "message show tasks 42 --archive",
    flags: [ARCHIVE],
    async run(store, { args: { queue = "", id }, flags }) {
      const message = await find(store, queue, idOf(id), flags.archive === true);
      return { data: flags.archive === true ? endedRow(message as ArchivedMessage) : liveRow(message) };
    },
  },
  {
    usage: "message list <queue>",
    about: "List messages: those that live, or with --archive the last that have ended",
    example: "message list tasks --state delayed --limit 20",
    flags: [ARCHIVE, STATE, TYPE, KEY, LIMIT, CURSOR],
    async run(store, call) {
      const { args: { queue = "" }, flags } = call;
      await store.admin.queues.get(queue);
      const { archive, messages } = store.admin;
      if (flags.archive !== true) {
        const filter = liveFilter(queue, flags);
        return pages((page) => messages.list({ ...filter, ...page }), liveRow, call, LIVE_COLUMNS);
      }
      const filter = endedFilter(queue, withoutState(call));
      return pages((page) => archive.list({ ...filter, ...page }), endedRow, call, ENDED_COLUMNS);
    },
  },
  {
    usage: "message count <queue>",
    about: "Count the messages of a queue: those that live, or with --archive those that have ended",
    example: "message count tasks",
    flags: [ARCHIVE, STATE, TYPE, KEY],
    async run(store, call) {
      const { args: { queue = "" }, flags } = call;
      await store.admin.queues.get(queue);
      const { archive, messages } = store.admin;
      const count = flags.archive === true
        ? await archive.count(endedFilter(queue, withoutState(call)))
        : await messages.count(liveFilter(queue, flags));
      return { data: { queue, count } };
    },
  },
  {
    usage: "message delete <queue> <id>",
    about: "Delete a message without a trace",
    example: "message delete tasks 42",
    async run(store, { args: { queue = "", id } }) {
      const message = await find(store, queue, idOf(id), false);
      if (!await store.admin.messages.delete(message.id)) throw unknown(queue, message.id);
      return did(`Deleted message ${message.id}`, { deleted: [message.id] });
    },
  },
  {
    usage: "message archive <queue> <id>",
    about: "End a message as succeeded",
    example: 'message archive tasks 42 --reason "done by hand"',
    flags: [REASON],
    run: archiveById,
  },
  {
    usage: "message cancel <queue> <id>",
    about: "End a message as cancelled, also while it is handled",
    example: 'message cancel tasks 42 --reason "not needed"',
    flags: [REASON],
    async run(store, { args: { queue = "", id }, flags }) {
      const message = await find(store, queue, idOf(id), false);
      const options = { by: NAME.name, ...given({ reason: flags.reason as string }) };
      if (!await store.admin.messages.cancel(message.id, options)) throw unknown(queue, message.id);
      return did(`Cancelled message ${message.id}`, { cancelled: [message.id] });
    },
  },
  {
    usage: "message release <queue> <id>",
    about: "Take the lease of a message away, so that others can claim it",
    example: "message release tasks 42 --delay 5m",
    flags: [DELAY],
    async run(store, { args: { queue = "", id }, flags }) {
      const message = await find(store, queue, idOf(id), false);
      const released = await store.admin.messages.release(message.id, given({ delayMs: flags.delay as number }));
      if (released === null) throw unknown(queue, message.id);
      return { data: liveRow(released), note: `Released message ${message.id}` };
    },
  },
  {
    usage: "message update <queue> <id>",
    about: "Change when a message is due, or its priority",
    example: "message update tasks 42 --delay 0 --priority 9",
    flags: [DELAY, AT, PRIORITY],
    async run(store, { args: { queue = "", id }, flags }) {
      const { delay: delayMs, at, priority } = flags as { delay?: number; at?: Date; priority?: number };
      const message = await find(store, queue, idOf(id), false);
      const updated = await store.admin.messages.update(message.id, given({ delayMs, at, priority }));
      if (updated === null) throw unknown(queue, message.id);
      return { data: liveRow(updated), note: `Changed message ${message.id}` };
    },
  },
];

/** Why no message came. */
async function nothing(store: Store, queue: string): Promise<string> {
  const { pausedAt } = await store.admin.queues.get(queue);
  return pausedAt === null ? "There is no message" : `There is no message: ${pausedNote(queue)}`;
}

/** Ends a message as succeeded. */
export async function archiveById(
  store: Store,
  { args: { queue = "", id }, flags }: Parameters<Extract<Command, { run: unknown }>["run"]>[1],
): Promise<Output> {
  const message = await find(store, queue, idOf(id), false);
  const options = { by: NAME.name, ...given({ reason: flags.reason as string }) };
  if (!await store.admin.messages.archive(message.id, options)) throw unknown(queue, message.id);
  return did(`Archived message ${message.id}`, { archived: [message.id] });
}

/** Finds a message of a queue. @throws {NotFoundError} */
export async function find(
  store: Store,
  queue: string,
  id: number,
  isArchived: boolean,
): Promise<ArchivedMessage | Message> {
  await store.admin.queues.get(queue);
  const message = await (isArchived ? store.admin.archive : store.admin.messages).get(id);
  if (message?.queue !== queue) throw unknown(queue, id, isArchived);
  return message;
}

function unknown(queue: string, id: number, isArchived = false): NotFoundError {
  const where = isArchived ? `the archive of queue ${JSON.stringify(queue)}` : `queue ${JSON.stringify(queue)}`;
  return new NotFoundError(`Message ${id} is not in ${where}`);
}

function liveFilter(queue: string, flags: Readonly<Record<string, unknown>>): MessageQuery {
  const { state, key } = flags as { state?: "delayed" | "leased" | "ready"; key?: string };
  return given({ queue, state, key, type: flags["message-type"] as string });
}

/** What has ended is in no state. @throws {UsageError} */
function withoutState(call: Call): Call {
  if (call.flags.state !== undefined) {
    throw new UsageError("--state and --archive exclude each other; see pgqrs archive list");
  }
  return call;
}
