/** Everything that `pgqrs` can do. */
import { archiveCommands, deadCommands } from "./archive.ts";
import type { Command } from "./command.ts";
import { messageCommands } from "./message.ts";
import { queueCommands } from "./queue.ts";
import { schemaCommands } from "./schema.ts";
import { workerCommands } from "./worker.ts";
import { workflowCommands } from "./workflow.ts";

/** In the order of the help. */
export const commands: readonly Command[] = [
  ...schemaCommands,
  ...queueCommands,
  ...messageCommands,
  ...archiveCommands,
  ...deadCommands,
  ...workflowCommands,
  ...workerCommands,
];
