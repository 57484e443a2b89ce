/** `pgqrs message …`. */
import { type ArchivedMessage, type Message, NotFoundError, type Store } from "../../mod.ts";
import { type Command, type Flag, given, idOf, type Row, UsageError } from "./command.ts";

const ARCHIVE: Flag = { name: "archive", type: "boolean", about: "In the archive" };
export const LIMIT: Flag = { name: "limit", type: "integer", about: "How many at most" };
const COUNT: Flag = { name: "count", letter: "n", type: "integer", about: "How many at most (1)" };
const TYPE: Flag = { name: "message-type", letter: "t", type: "text", about: "Only messages of this header type" };
const LOCK_TIME: Flag = { name: "lock-time", type: "seconds", about: "For how long to lease, in seconds" };
const NAME = { name: "pgqrs-cli" };

export const messageCommands: readonly Command[] = [
  {
    usage: "message send <queue> <payload>",
    about: "Put a message, written as JSON, on a queue",
    flags: [
      { name: "delay", type: "seconds", about: "Not before so many seconds have passed" },
      { name: "at", type: "instant", about: "Not before this instant, such as 2030-01-31T12:00:00Z" },
      { name: "priority", type: "integer", about: "From 0 to 9; larger ones go first" },
      { name: "key", type: "text", about: "Any number of sends under one key make one message" },
      { name: "headers", type: "json", about: "An object of texts" },
      { name: "ttl", type: "seconds", about: "Dropped unless it is begun within so many seconds" },
    ],
    async run(store, { args: { queue = "", payload = "" }, flags: { delay, at, priority, key, headers, ttl } }) {
      const options = given({
        delayMs: delay as number,
        at: at as Date,
        priority: priority as number,
        key: key as string,
        headers: headers as Record<string, string>,
        ttlMs: ttl as number,
      });
      const message = await store.producer(queue).enqueue(parseJson("payload", payload), options);
      return { data: rowOf(message), note: `Sent message ${message.id}` };
    },
  },
  {
    usage: "message dequeue <queue>",
    about: "Take one message, print it and archive it",
    flags: [TYPE],
    async run(store, { args: { queue = "" }, flags }) {
      const consumer = store.consumer(queue, NAME);
      const [message] = await consumer.dequeue(given({ type: flags["message-type"] as string }));
      if (message === undefined) return { data: [], note: "There is no message" };
      if (!await consumer.archive(message, { reason: "dequeued" })) throw new Error("The lease was lost meanwhile");
      return { data: rowOf(message) };
    },
  },
  {
    usage: "message read <queue>",
    about: "Lease messages and print them",
    flags: [COUNT, LOCK_TIME, TYPE],
    async run(store, { args: { queue = "" }, flags }) {
      const options = { limit: flags.count as number, leaseMs: flags["lock-time"] as number };
      const type = flags["message-type"] as string;
      return { data: (await store.consumer(queue, NAME).dequeue(given({ ...options, type }))).map(rowOf) };
    },
  },
  {
    usage: "message show <queue> <id>",
    about: "Show a message",
    flags: [ARCHIVE],
    async run(store, { args: { queue = "", id }, flags }) {
      const message = await find(store, queue, idOf(id), flags.archive === true);
      return { data: flags.archive === true ? archivedRowOf(message as ArchivedMessage) : rowOf(message) };
    },
  },
  {
    usage: "message list <queue>",
    about: "List messages: those that live, or with --archive the last that have ended",
    flags: [ARCHIVE, LIMIT],
    async run(store, { args: { queue = "" }, flags }) {
      await store.admin.queues.get(queue);
      const options = { queue, ...given({ limit: flags.limit as number }) };
      if (flags.archive !== true) return { data: (await store.admin.messages.list(options)).items.map(rowOf) };
      return { data: (await store.admin.archive.list(options)).items.map(archivedRowOf) };
    },
  },
  {
    usage: "message count <queue>",
    about: "Count the messages of a queue",
    flags: [ARCHIVE],
    async run(store, { args: { queue = "" }, flags }) {
      await store.admin.queues.get(queue);
      const of = flags.archive === true ? store.admin.archive : store.admin.messages;
      return { data: { queue, count: await of.count({ queue }) } };
    },
  },
  {
    usage: "message delete <queue> <id>",
    about: "Delete a message without a trace",
    async run(store, { args: { queue = "", id } }) {
      const message = await find(store, queue, idOf(id), false);
      if (!await store.admin.messages.delete(message.id)) throw unknown(queue, message.id);
      return { note: `Deleted message ${message.id}` };
    },
  },
  {
    usage: "message archive <queue> <id>",
    about: "End a message as succeeded",
    flags: [{ name: "reason", type: "text", about: "Why" }],
    async run(store, { args: { queue = "", id }, flags }) {
      const message = await find(store, queue, idOf(id), false);
      const options = { by: NAME.name, ...given({ reason: flags.reason as string }) };
      if (!await store.admin.messages.archive(message.id, options)) throw unknown(queue, message.id);
      return { note: `Archived message ${message.id}` };
    },
  },
];

async function find(store: Store, queue: string, id: number, isArchived: boolean): Promise<Message | ArchivedMessage> {
  await store.admin.queues.get(queue);
  const message = await (isArchived ? store.admin.archive : store.admin.messages).get(id);
  if (message?.queue !== queue) throw unknown(queue, id, isArchived);
  return message;
}

function unknown(queue: string, id: number, isArchived = false): NotFoundError {
  const where = isArchived ? `the archive of queue ${JSON.stringify(queue)}` : `queue ${JSON.stringify(queue)}`;
  return new NotFoundError(`Message ${id} is not in ${where}`);
}

function parseJson(what: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError(`the ${what} is not JSON; a text is written as '"text"'`);
  }
}

function rowOf(message: Message): Row {
  const { id, queue, state, priority, attempts, enqueuedAt, visibleAt, leaseUntil, worker, key, headers, payload } =
    message;
  return { id, queue, state, priority, attempts, enqueuedAt, visibleAt, leaseUntil, worker, key, headers, payload };
}

/** What is shown of a message that has ended. */
export function archivedRowOf(message: ArchivedMessage): Row {
  const { id, queue, outcome, reason, attempts, archivedAt, archivedBy, processingMs, key, error, result, payload } =
    message;
  return { id, queue, outcome, reason, attempts, archivedAt, archivedBy, processingMs, key, error, result, payload };
}
