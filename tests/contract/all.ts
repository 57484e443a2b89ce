/** The whole contract, in the order in which a reader would learn it. */
import { consumerContract } from "./consumer.ts";
import type { Context } from "./context.ts";
import { countsContract } from "./counts.ts";
import { foreignContract } from "./foreign.ts";
import { keysContract } from "./keys.ts";
import { producerContract } from "./producer.ts";
import { settleContract } from "./settle.ts";
import { transactionContract } from "./transaction.ts";
import { valuesContract } from "./values.ts";

/** Defines every contract test for one backend. */
export function contract(context: Context): void {
  producerContract(context);
  keysContract(context);
  valuesContract(context);
  consumerContract(context);
  settleContract(context);
  countsContract(context);
  transactionContract(context);
  foreignContract(context);
}
