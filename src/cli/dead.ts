/** `pgqrs dead …`. */
import { NotFoundError } from "../../mod.ts";
import { type Command, type Flag, given, idOf, UsageError } from "./command.ts";
import { archivedRowOf, LIMIT } from "./message.ts";

const QUEUE: Flag = { name: "queue", letter: "q", type: "text", about: "Only those of this queue" };

export const deadCommands: readonly Command[] = [
  {
    usage: "dead list [queue]",
    about: "List the messages that failed for good, the last first",
    flags: [LIMIT],
    async run(store, { args: { queue }, flags }) {
      if (queue !== undefined) await store.admin.queues.get(queue);
      const options = given({ queue, limit: flags.limit as number });
      return { data: (await store.admin.dead.list(options)).items.map(archivedRowOf) };
    },
  },
  {
    usage: "dead replay [id...]",
    about: "Bring dead letters back: those of these ids, of a queue, or all",
    flags: [QUEUE, { name: "all", type: "boolean", about: "All there are" }],
    async run(store, { rest, flags }) {
      const queue = flags.queue as string | undefined;
      if ([rest.length > 0, queue !== undefined, flags.all === true].filter(Boolean).length !== 1) {
        throw new UsageError("dead replay needs ids, --queue or --all, and one of them only");
      }
      if (queue !== undefined) await store.admin.queues.get(queue);
      const ids = rest.map(idOf);
      const replayed = await store.admin.dead.replay(ids.length > 0 ? ids : given({ queue }));
      const missing = ids.filter((id) => !replayed.includes(id));
      if (missing.length > 0) throw new NotFoundError(`There is no dead letter ${missing.join(", ")}`);
      return { data: replayed.map((id) => ({ id })), note: `Brought ${replayed.length} messages back` };
    },
  },
];
