/** The whole contract, in the order in which a reader would learn it. */
import type { Context } from "./context.ts";
import { keysContract } from "./keys.ts";
import { producerContract } from "./producer.ts";
import { valuesContract } from "./values.ts";

/** Defines every contract test for one backend. */
export function contract(context: Context): void {
  producerContract(context);
  keysContract(context);
  valuesContract(context);
}
