/** `pgqrs install`, `uninstall`, `verify`, `migrate`, `maintain`, `doctor`, `config`, `stats`. */
import { SchemaError, type Store } from "../../mod.ts";
import { type Command, counted, did, type Flag, type Preview } from "./command.ts";

const UNLOGGED: Flag = {
  name: "unlogged",
  type: "boolean",
  about: "Postgres: tables that are empty after a crash of the server",
};

/** How long a call may take unless --timeout says so. */
const TIMEOUT_MS = 30_000;

export const schemaCommands: readonly Command[] = [
  {
    usage: "install",
    about: "Make the tables, if they are not there",
    example: "--dsn sqlite:jobs.db install",
    flags: [UNLOGGED],
    async run(store, { flags }) {
      await store.admin.install({ unlogged: flags.unlogged === true });
      return did("Installed", { installed: true });
    },
  },
  {
    usage: "uninstall",
    about: "Remove the tables and everything in them",
    example: "uninstall --dry-run",
    preview,
    async run(store) {
      const removed = await store.admin.uninstall();
      return did(removed.length === 0 ? "There was nothing to remove" : `Removed ${removed.join(", ")}`, { removed });
    },
  },
  {
    usage: "verify",
    about: "Compare the tables with what was installed",
    example: "verify",
    async run(store) {
      await store.admin.verify();
      return did("The schema is as it was installed", { verified: true });
    },
  },
  {
    usage: "migrate",
    about: "Apply the steps of the schema that are pending",
    example: "migrate --print > pending.sql",
    flags: [{ name: "print", type: "boolean", about: "Print their SQL instead" }, UNLOGGED],
    async run(store, { flags }) {
      const print = flags.print === true;
      const steps = await store.admin.migrate({ print, unlogged: flags.unlogged === true });
      const note = steps.length === 0 ? "Nothing is pending" : undefined;
      if (!print) {
        const applied = steps.map(({ version, name }) => ({ version, name }));
        const told = applied.map(({ version, name }) => `${version} ${name}`).join(", ");
        return did(note ?? `Applied ${told}`, { applied });
      }
      const text = steps.map(({ version, name, statements }) => `-- ${version} ${name}\n${statements.join("\n")}\n`);
      const data = steps.map(({ version, name, statements }) => ({ version, name, statements }));
      return { ...(note && { note }), data, text: text.join("\n") };
    },
  },
  {
    usage: "maintain",
    about: "Delete what is kept no longer, as workers do",
    example: "maintain",
    async run(store) {
      const done = await store.admin.maintain();
      return { data: { ...done }, note: done.isDone ? "Done" : "There is more: run it again" };
    },
  },
  {
    usage: "doctor",
    about: "Look for what stands in the way of messages; exit code 1 when pgqrs does not work",
    example: "doctor",
    async run(store) {
      const data = (await store.admin.doctor()).map((finding) => ({ ...finding }));
      const count = (wanted: string): number => data.filter(({ level }) => level === wanted).length;
      const failures = count("failure");
      if (failures > 0) return { data, problem: counted(failures, "failure") };
      return { data, note: `Nothing is broken; ${counted(count("warning"), "warning")}` };
    },
  },
  {
    usage: "config",
    about: "Show the settings, and where each comes from",
    example: "config --format json",
    read(config, limits) {
      const sources: Readonly<Record<string, string>> = { ...config.sources };
      const isGiven = limits.timeoutMs !== undefined;
      const values = Object.entries({ ...config.toJSON(), timeoutMs: TIMEOUT_MS, ...limits });
      return {
        data: values.map(([setting, value]) => {
          const isLimit = isGiven && Object.hasOwn(limits, setting);
          return { setting, value, source: isLimit ? "--timeout" : sources[setting] ?? "default" };
        }),
      };
    },
  },
  {
    usage: "stats",
    about: "Count queues, messages and workers",
    example: "stats",
    async run(store) {
      const queues = await store.admin.metrics();
      const sum = (
        name: "cancelled" | "delayed" | "expired" | "failed" | "leased" | "ready" | "stopped" | "succeeded",
      ): number => queues.reduce((total, queue) => total + queue[name], 0);
      const { workers, paused, unseen, consumers } = await store.admin.workers.stats();
      return {
        data: {
          queues: queues.length,
          pausedQueues: queues.filter(({ isPaused }) => isPaused).length,
          ready: sum("ready"),
          delayed: sum("delayed"),
          stopped: sum("stopped"),
          leased: sum("leased"),
          expired: sum("expired"),
          succeeded: sum("succeeded"),
          failed: sum("failed"),
          cancelled: sum("cancelled"),
          workers,
          pausedWorkers: paused,
          unseenWorkers: unseen,
          consumers,
        },
      };
    },
  },
];

/** What is there to be removed; of tables that are not as they should be only that there is something. */
async function preview(store: Store): Promise<Preview> {
  const metrics = await store.admin.metrics().catch((error) => {
    if (error instanceof SchemaError) return undefined;
    throw error;
  });
  if (metrics === undefined) return { what: "remove what there is of pgqrs", data: [] };
  const data = metrics.map(({ queue, ready, delayed, leased, succeeded, failed, cancelled }) => ({
    queue,
    live: ready + delayed + leased,
    ended: succeeded + failed + cancelled,
  }));
  const [live, ended] = [
    data.reduce((sum, { live }) => sum + live, 0),
    data.reduce((sum, { ended }) => sum + ended, 0),
  ];
  const what = `remove ${counted(data.length, "queue")} with ${
    counted(live, "live message")
  } and ${ended} in the archive`;
  return { what, data };
}
