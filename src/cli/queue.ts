/** `pgqrs queue …`. */
import { type QueueInfo, type QueueMetrics, type QueueOptions, StateError } from "../../mod.ts";
import { type Command, counted, did, type Flag, given, type Preview, type Row, UsageError } from "./command.ts";
import { FORCE } from "./flags.ts";

const LEASE: Flag = { name: "lease", type: "duration", about: "For how long messages are leased" };
const ATTEMPTS: Flag = {
  name: "max-attempts",
  type: "integer",
  about: "After how many failures a message is dead (5)",
};
const CRASHES: Flag = {
  name: "max-crashes",
  type: "integer",
  about: "After how many crashes of workers it is dead (10)",
};
const CONCURRENCY: Flag = { name: "concurrency", type: "integer", about: "How many messages may be leased at once" };
const RETENTION: readonly Flag[] = [
  { name: "retention", type: "duration", about: "For how long ended messages are kept (30d)" },
  { name: "no-retention", type: "boolean", about: "Ended messages are kept for ever" },
  { name: "dead-retention", type: "duration", about: "The same of dead letters; else it follows --retention" },
  { name: "no-dead-retention", type: "boolean", about: "Dead letters are kept for ever" },
];
const COLUMNS = ["name", "pausedAt", "leaseMs", "maxAttempts", "concurrency", "retentionMs"];
const METRICS = [
  "queue",
  "isPaused",
  "ready",
  "delayed",
  "leased",
  "succeeded",
  "failed",
  "cancelled",
  "oldestReadyMs",
];

export const queueCommands: readonly Command[] = [
  {
    usage: "queue create <name>",
    about: "Create a queue",
    example: "queue create tasks --lease 2m --max-attempts 3",
    flags: [
      LEASE,
      ATTEMPTS,
      CRASHES,
      CONCURRENCY,
      ...RETENTION,
      { name: "paused", type: "boolean", about: "Without deliveries for now" },
      { name: "if-missing", type: "boolean", about: "It is no error when there is one of that name" },
    ],
    async run(store, { args: { name = "" }, flags }) {
      const options = { ...settingsOf(flags), paused: flags.paused === true, ifMissing: flags["if-missing"] === true };
      const info = await store.admin.createQueue(name, options);
      const others = otherSettings(info, flags);
      const note = others.length === 0
        ? `There is a queue ${info.name}`
        : `There is a queue ${info.name} already, with another ${others.join(", ")}; "pgqrs queue update" changes that`;
      return { data: rowOf(info), note };
    },
  },
  {
    usage: "queue update <name>",
    about: "Change settings of a queue",
    example: "queue update tasks --retention 7d",
    flags: [
      LEASE,
      ATTEMPTS,
      CRASHES,
      CONCURRENCY,
      ...RETENTION,
      { name: "no-concurrency", type: "boolean", about: "As many messages leased at once as there are" },
    ],
    async run(store, { args: { name = "" }, flags }) {
      const settings = settingsOf(flags);
      if (Object.keys(settings).length === 0) {
        throw new UsageError("queue update needs a setting to change, as in: pgqrs queue update tasks --retention 7d");
      }
      const info = await store.admin.queues.update(name, settings);
      return { data: rowOf(info), note: `Changed queue ${info.name}` };
    },
  },
  {
    usage: "queue list",
    about: "List all queues",
    example: "queue list",
    run: async (store) => ({ data: (await store.admin.queues.list()).map(rowOf), columns: COLUMNS }),
  },
  {
    usage: "queue get <name>",
    about: "Show the settings of a queue",
    example: "queue get tasks --format json",
    run: async (store, { args: { name = "" } }) => ({ data: rowOf(await store.admin.queues.get(name)) }),
  },
  {
    usage: "queue delete <name>",
    about: "Delete a queue with its archive",
    example: "queue delete tasks --force --yes",
    flags: [FORCE],
    preview: async (store, { args: { name = "" }, flags }) =>
      previewOf(await store.admin.metrics(name), flags.force === true),
    async run(store, { args: { name = "" }, flags }) {
      await store.admin.queues.delete(name, { force: flags.force === true });
      return did(`Deleted queue ${name}`, { deleted: name });
    },
  },
  {
    usage: "queue purge <name>",
    about: "Delete the messages that wait",
    example: "queue purge tasks --dry-run",
    flags: [FORCE],
    async preview(store, { args: { name = "" }, flags }) {
      const { queue, ready, delayed, stopped, leased } = await store.admin.metrics(name);
      const count = ready + delayed + stopped + (flags.force === true ? leased : 0);
      return { what: `delete ${counted(count, "message")} of queue ${queue}`, data: { queue, messages: count } };
    },
    async run(store, { args: { name = "" }, flags }) {
      const force = flags.force === true;
      const deleted = await store.admin.queues.purge(name, { force });
      const { leased } = await store.admin.metrics(name);
      const rest = leased === 0 || force ? "" : `; ${leased} that are leased stay, and go with --force`;
      return { data: { queue: name, deleted }, note: `Deleted ${counted(deleted, "message")}${rest}` };
    },
  },
  {
    usage: "queue pause <name>",
    about: "Stop deliveries",
    example: "queue pause tasks",
    run: async (store, { args: { name = "" } }) => ({ data: rowOf(await store.admin.queues.pause(name)) }),
  },
  {
    usage: "queue resume <name>",
    about: "Take deliveries up again",
    example: "queue resume tasks",
    run: async (store, { args: { name = "" } }) => ({ data: rowOf(await store.admin.queues.resume(name)) }),
  },
  {
    usage: "queue metrics [name]",
    about: "Count the messages of one queue or of all, by state",
    example: "queue metrics tasks",
    async run(store, { args: { name } }) {
      if (name !== undefined) return { data: { ...await store.admin.metrics(name) } };
      return { data: (await store.admin.metrics()).map((metrics) => ({ ...metrics })), columns: METRICS };
    },
  },
];

/** @throws {StateError} when that would be refused. */
function previewOf(metrics: QueueMetrics, isForced: boolean): Preview {
  const { queue, ready, delayed, stopped, leased, succeeded, failed, cancelled } = metrics;
  const live = ready + delayed + stopped + leased;
  if (live > 0 && !isForced) {
    throw new StateError(`Cannot delete queue ${JSON.stringify(queue)}: it has live messages; use --force`);
  }
  const ended = succeeded + failed + cancelled;
  return {
    what: `delete queue ${queue} with ${counted(live, "live message")} and ${ended} in its archive`,
    data: { queue, live, ended },
  };
}

function settingsOf(flags: Readonly<Record<string, unknown>>): QueueOptions {
  return given({
    leaseMs: flags.lease as number,
    maxAttempts: flags["max-attempts"] as number,
    maxCrashes: flags["max-crashes"] as number,
    concurrency: orNone(flags, "concurrency"),
    retentionMs: orNone(flags, "retention"),
    deadRetentionMs: orNone(flags, "dead-retention"),
  });
}

/** Which of the settings that were given a queue does not have, because it was there before. */
function otherSettings(info: QueueInfo, flags: Readonly<Record<string, unknown>>): string[] {
  const others = Object.entries(settingsOf(flags)).filter(([name, value]) => Reflect.get(info, name) !== value);
  const names = others.map(([name]) => name.replace(/Ms$/, ""));
  return flags.paused === true && info.pausedAt === null ? [...names, "paused"] : names;
}

/** A number, or null with the flag that says that there is none. @throws {UsageError} */
function orNone(flags: Readonly<Record<string, unknown>>, name: string): number | null | undefined {
  if (flags[`no-${name}`] !== true) return flags[name] as number | undefined;
  if (flags[name] !== undefined) throw new UsageError(`--${name} and --no-${name} exclude each other`);
  return null;
}

function rowOf(info: QueueInfo): Row {
  const {
    name,
    pausedAt,
    leaseMs,
    maxAttempts,
    maxCrashes,
    backoff,
    concurrency,
    retentionMs,
    deadRetentionMs,
    isWorkflow,
    createdAt,
  } = info;
  return {
    name,
    pausedAt,
    leaseMs,
    maxAttempts,
    maxCrashes,
    backoff,
    concurrency,
    retentionMs,
    deadRetentionMs,
    isWorkflow,
    createdAt,
  };
}
