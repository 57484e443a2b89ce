/** The fault test of the project's bars: what breaks comes back within seconds, with its throughput. */
import { test } from "node:test";
import { withstandFaults } from "./support/faults.ts";

test("nothing is lost, nobody hangs, and the throughput comes back after each fault", async () => {
  const size = { calmMs: 6_000, faultMs: 6_000, backlog: 40_000, isMeasured: true };
  await withstandFaults("fault test", size);
});
