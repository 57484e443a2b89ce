/** The whole contract, in the order in which a reader would learn it. */
import { adminArchiveContract } from "./admin_archive.ts";
import { adminMessagesContract } from "./admin_messages.ts";
import { adminQueuesContract } from "./admin_queues.ts";
import { adminReportsContract } from "./admin_reports.ts";
import { closingContract } from "./closing.ts";
import { consumerContract } from "./consumer.ts";
import type { Context } from "./context.ts";
import { countsContract } from "./counts.ts";
import { driftContract } from "./drift.ts";
import { foreignContract } from "./foreign.ts";
import { handlesContract } from "./handles.ts";
import { inputContract } from "./input.ts";
import { keysContract } from "./keys.ts";
import { neighboursContract } from "./neighbours.ts";
import { privilegesContract } from "./privileges.ts";
import { producerContract } from "./producer.ts";
import { schemaContract } from "./schema.ts";
import { settleContract } from "./settle.ts";
import { sqlEnqueueContract } from "./sql_enqueue.ts";
import { statementsContract } from "./statements.ts";
import { transactionContract } from "./transaction.ts";
import { valuesContract } from "./values.ts";

/** Defines every contract test for one backend. */
export function contract(context: Context): void {
  producerContract(context);
  keysContract(context);
  valuesContract(context);
  inputContract(context);
  consumerContract(context);
  settleContract(context);
  countsContract(context);
  transactionContract(context);
  foreignContract(context);
  handlesContract(context);
  closingContract(context);
  adminQueuesContract(context);
  adminMessagesContract(context);
  adminArchiveContract(context);
  adminReportsContract(context);
  statementsContract(context);
  schemaContract(context);
  driftContract(context);
  neighboursContract(context);
  privilegesContract(context);
  sqlEnqueueContract(context);
}
