/** `pgqrs install`, `uninstall`, `verify`, `migrate`, `maintain`. */
import { type Command, UsageError } from "./command.ts";

const UNLOGGED = {
  name: "unlogged",
  type: "boolean",
  about: "Postgres: tables that are empty after a crash of the server",
} as const;

export const schemaCommands: readonly Command[] = [
  {
    usage: "install",
    about: "Make the tables, if they are not there",
    flags: [UNLOGGED],
    async run(store, { flags }) {
      await store.admin.install({ unlogged: flags.unlogged === true });
      return { note: "Installed" };
    },
  },
  {
    usage: "uninstall",
    about: "Remove the tables and everything in them",
    flags: [{ name: "yes", type: "boolean", about: "Do it" }],
    async run(store, { flags }) {
      if (flags.yes !== true) throw new UsageError("uninstall deletes all queues and messages; say so with --yes");
      const removed = await store.admin.uninstall();
      return { note: removed.length === 0 ? "There was nothing to remove" : `Removed ${removed.join(", ")}` };
    },
  },
  {
    usage: "verify",
    about: "Compare the tables with what was installed",
    async run(store) {
      await store.admin.verify();
      return { note: "The schema is as it was installed" };
    },
  },
  {
    usage: "migrate",
    about: "Apply the steps of the schema that are pending",
    flags: [{ name: "print", type: "boolean", about: "Print their SQL instead" }, UNLOGGED],
    async run(store, { flags }) {
      const print = flags.print === true;
      const steps = await store.admin.migrate({ print, unlogged: flags.unlogged === true });
      const note = steps.length === 0 ? "Nothing is pending" : undefined;
      if (!print) {
        return { note: note ?? `Applied ${steps.map(({ version, name }) => `${version} ${name}`).join(", ")}` };
      }
      const text = steps.map(({ version, name, statements }) => `-- ${version} ${name}\n${statements.join("\n")}\n`);
      return { ...(note && { note }), text: text.join("\n") };
    },
  },
  {
    usage: "maintain",
    about: "Delete what is kept no longer, as workers do",
    async run(store) {
      const done = await store.admin.maintain();
      return { data: { ...done }, note: done.isDone ? "Done" : "There is more: run it again" };
    },
  },
];
