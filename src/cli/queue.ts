/** `pgqrs queue …`. */
import type { QueueInfo, QueueOptions } from "../../mod.ts";
import { type Command, type Flag, given, type Row, UsageError } from "./command.ts";

const FORCE: Flag = { name: "force", type: "boolean", about: "Also what is in use" };
const LEASE: Flag = { name: "lease", type: "seconds", about: "For how long messages are leased, in seconds" };
const ATTEMPTS: Flag = { name: "max-attempts", type: "integer", about: "After how many failures a message is dead" };
const CONCURRENCY: Flag = { name: "concurrency", type: "integer", about: "How many messages may be leased at once" };
const RETENTION: readonly Flag[] = [
  { name: "retention", type: "seconds", about: "For how long ended messages are kept, in seconds" },
  { name: "no-retention", type: "boolean", about: "Ended messages are kept for ever" },
  { name: "dead-retention", type: "seconds", about: "The same of dead letters; else it follows --retention" },
  { name: "no-dead-retention", type: "boolean", about: "Dead letters are kept for ever" },
];

export const queueCommands: readonly Command[] = [
  {
    usage: "queue create <name>",
    about: "Create a queue",
    flags: [
      LEASE,
      ATTEMPTS,
      CONCURRENCY,
      ...RETENTION,
      { name: "paused", type: "boolean", about: "Without deliveries for now" },
    ],
    async run(store, { args: { name = "" }, flags }) {
      const info = await store.admin.createQueue(name, { ...settingsOf(flags), paused: flags.paused === true });
      return { data: rowOf(info), note: `Created queue ${info.name}` };
    },
  },
  {
    usage: "queue update <name>",
    about: "Change settings of a queue",
    flags: [
      LEASE,
      ATTEMPTS,
      CONCURRENCY,
      ...RETENTION,
      { name: "no-concurrency", type: "boolean", about: "As many messages leased at once as there are" },
    ],
    async run(store, { args: { name = "" }, flags }) {
      const info = await store.admin.queues.update(name, settingsOf(flags));
      return { data: rowOf(info), note: `Changed queue ${info.name}` };
    },
  },
  {
    usage: "queue list",
    about: "List all queues",
    run: async (store) => ({ data: (await store.admin.queues.list()).map(rowOf) }),
  },
  {
    usage: "queue get <name>",
    about: "Show the settings of a queue",
    run: async (store, { args: { name = "" } }) => ({ data: rowOf(await store.admin.queues.get(name)) }),
  },
  {
    usage: "queue delete <name>",
    about: "Delete a queue with its archive",
    flags: [FORCE],
    async run(store, { args: { name = "" }, flags }) {
      await store.admin.queues.delete(name, { force: flags.force === true });
      return { note: `Deleted queue ${name}` };
    },
  },
  {
    usage: "queue purge <name>",
    about: "Delete the messages that wait",
    flags: [FORCE],
    async run(store, { args: { name = "" }, flags }) {
      const deleted = await store.admin.queues.purge(name, { force: flags.force === true });
      return { data: { queue: name, deleted }, note: `Deleted ${deleted} messages` };
    },
  },
  {
    usage: "queue pause <name>",
    about: "Stop deliveries",
    run: async (store, { args: { name = "" } }) => ({ data: rowOf(await store.admin.queues.pause(name)) }),
  },
  {
    usage: "queue resume <name>",
    about: "Take deliveries up again",
    run: async (store, { args: { name = "" } }) => ({ data: rowOf(await store.admin.queues.resume(name)) }),
  },
  {
    usage: "queue metrics [name]",
    about: "Count the messages of one queue or of all, by state",
    async run(store, { args: { name } }) {
      if (name !== undefined) return { data: { ...await store.admin.metrics(name) } };
      return { data: (await store.admin.metrics()).map((metrics) => ({ ...metrics })) };
    },
  },
];

function settingsOf(flags: Readonly<Record<string, unknown>>): QueueOptions {
  return given({
    leaseMs: flags.lease as number,
    maxAttempts: flags["max-attempts"] as number,
    concurrency: orNone(flags, "concurrency"),
    retentionMs: orNone(flags, "retention"),
    deadRetentionMs: orNone(flags, "dead-retention"),
  });
}

/** A number, or null with the flag that says that there is none. @throws {UsageError} */
function orNone(flags: Readonly<Record<string, unknown>>, name: string): number | null | undefined {
  if (flags[`no-${name}`] !== true) return flags[name] as number | undefined;
  if (flags[name] !== undefined) throw new UsageError(`--${name} and --no-${name} exclude each other`);
  return null;
}

function rowOf(info: QueueInfo): Row {
  const { name, pausedAt, leaseMs, maxAttempts, maxCrashes, concurrency, retentionMs, deadRetentionMs, createdAt } =
    info;
  return { name, pausedAt, leaseMs, maxAttempts, maxCrashes, concurrency, retentionMs, deadRetentionMs, createdAt };
}
