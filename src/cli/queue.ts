/** `pgqrs queue …`. */
import type { QueueInfo } from "../../mod.ts";
import { type Command, given, type Row } from "./command.ts";

const FORCE = { name: "force", type: "boolean", about: "Also what is in use" } as const;

export const queueCommands: readonly Command[] = [
  {
    usage: "queue create <name>",
    about: "Create a queue",
    flags: [
      { name: "lease", type: "seconds", about: "For how long messages are leased, in seconds" },
      { name: "max-attempts", type: "integer", about: "After how many failures a message is dead" },
      { name: "paused", type: "boolean", about: "Without deliveries for now" },
    ],
    async run(store, { args: { name = "" }, flags }) {
      const options = { leaseMs: flags.lease as number, maxAttempts: flags["max-attempts"] as number };
      const info = await store.admin.createQueue(name, { ...given(options), paused: flags.paused === true });
      return { data: rowOf(info), note: `Created queue ${info.name}` };
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

function rowOf({ name, pausedAt, leaseMs, maxAttempts, maxCrashes, retentionMs, createdAt }: QueueInfo): Row {
  return { name, pausedAt, leaseMs, maxAttempts, maxCrashes, retentionMs, createdAt };
}
