/** The whole contract, in the order in which a reader would learn it. */
import type { Context } from "./context.ts";
import { producerContract } from "./producer.ts";

/** Defines every contract test for one backend. */
export function contract(context: Context): void {
  producerContract(context);
}
