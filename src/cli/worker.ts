/** `pgqrs worker …`. */
import type { WorkerInfo } from "../../mod.ts";
import { type Command, counted, type Flag, given, type Row } from "./command.ts";
import { QUEUE } from "./flags.ts";
import { runCommand } from "./run.ts";

const UNSEEN_MS = 180_000;
const COLUMNS = ["name", "kind", "queues", "seenAt", "pausedAt", "leased", "expired"];
const AGE: Flag = { name: "max-age", type: "duration", about: "For how long a worker may not be heard of (3m)" };
const OLDER: Flag = { name: "older-than", type: "duration", about: "For how long they were not heard of (3m)" };

export const workerCommands: readonly Command[] = [
  runCommand,
  {
    usage: "worker list",
    about: "List workers, and consumers that hold leases",
    example: "worker list --queue tasks",
    flags: [QUEUE],
    async run(store, { flags }) {
      const queue = flags.queue as string | undefined;
      if (queue !== undefined) await store.admin.queues.get(queue);
      const list = (await store.admin.workers.list()).filter(serves(queue));
      return { data: list.map(rowOf), columns: COLUMNS };
    },
  },
  {
    usage: "worker get <name>",
    about: "Show all workers of a name",
    example: "worker get host-1",
    run: async (store, { args: { name = "" } }) => ({
      data: (await store.admin.workers.get(name)).map(rowOf),
      columns: COLUMNS,
    }),
  },
  {
    usage: "worker stats",
    about: "Count workers, consumers and leases",
    example: "worker stats",
    run: async (store) => ({ data: { ...await store.admin.workers.stats() } }),
  },
  {
    usage: "worker health",
    about: "Tell which workers are heard of; exit code 1 when one is not",
    example: "worker health --queue tasks --max-age 2m",
    flags: [QUEUE, AGE],
    async run(store, { flags }) {
      const { queue, "max-age": ageMs = UNSEEN_MS } = flags as { queue?: string; "max-age"?: number };
      if (queue !== undefined) await store.admin.queues.get(queue);
      const now = (await store.ping()).now.getTime();
      const workers = (await store.admin.workers.list()).filter(({ kind }) => kind === "worker").filter(serves(queue));
      const data = workers.map(({ name, queues, seenAt, pausedAt, expired }) => {
        const unseenMs = now - (seenAt?.getTime() ?? 0);
        return { name, queues, isHealthy: unseenMs <= ageMs, unseenMs, isPaused: pausedAt !== null, expired };
      });
      const ill = data.filter(({ isHealthy }) => !isHealthy).length;
      if (ill === 0) return { data, note: `${counted(data.length, "worker")}, all of them heard of` };
      return { data, problem: `${counted(ill, "worker")} of ${data.length} not heard of` };
    },
  },
  {
    usage: "worker release <name>",
    about: "Take all leases of a name away, so that others can claim its messages",
    example: "worker release host-1",
    async run(store, { args: { name = "" } }) {
      const ids = await store.admin.workers.release(name);
      // A worker may hold nothing, but there has to be one.
      if (ids.length === 0) await store.admin.workers.get(name);
      return { data: ids.map((id) => ({ id })), note: `Released ${counted(ids.length, "message")}` };
    },
  },
  {
    usage: "worker pause <name>",
    about: "Let workers of a name begin nothing more",
    example: "worker pause host-1",
    run: async (store, { args: { name = "" } }) => ({
      data: (await store.admin.workers.pause(name)).map(rowOf),
      columns: COLUMNS,
    }),
  },
  {
    usage: "worker resume <name>",
    about: "Let workers of a name go on",
    example: "worker resume host-1",
    run: async (store, { args: { name = "" } }) => ({
      data: (await store.admin.workers.resume(name)).map(rowOf),
      columns: COLUMNS,
    }),
  },
  {
    usage: "worker purge",
    about: "Forget workers that have crashed",
    example: "worker purge --older-than 7d",
    flags: [OLDER],
    async preview(store, { flags }) {
      const now = (await store.ping()).now.getTime();
      const olderMs = flags["older-than"] as number ?? UNSEEN_MS;
      const gone = (await store.admin.workers.list()).filter(({ kind, seenAt, leased }) =>
        kind === "worker" && leased === 0 && now - (seenAt?.getTime() ?? 0) > olderMs
      );
      return { what: `forget ${counted(gone.length, "worker")}`, data: gone.map(rowOf) };
    },
    async run(store, { flags }) {
      const purged = await store.admin.workers.purge(given({ unseenMs: flags["older-than"] as number }));
      return { data: { purged }, note: `Forgot ${counted(purged, "worker")}` };
    },
  },
];

function serves(queue: string | undefined): (worker: WorkerInfo) => boolean {
  return ({ queues }) => queue === undefined || queues.includes(queue);
}

function rowOf(worker: WorkerInfo): Row {
  return { ...worker };
}
