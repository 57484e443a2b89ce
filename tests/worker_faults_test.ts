/** The fault test in small: a sample of `worker_faults_long_test.ts` for every run. */
import { test } from "node:test";
import { withstandFaults } from "./support/faults.ts";

test("nothing is lost and nobody hangs while the server and the way to it break", async () => {
  const size = { calmMs: 300, faultMs: 1_000, backlog: 1_000, isMeasured: false };
  await withstandFaults("fault test", size);
});
