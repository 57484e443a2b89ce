/**
 * The library beside other queues: `deno task bench:peers [--quick] [--rounds <n>] [--only <queue>] [<workload> …]`.
 *
 * Every queue works in processes of its own on Node, the home of most of them, on the same server, one after the other:
 * A B C A B C … What is told is the median of the rounds, and the median of the ratios within a round. A queue that does less
 * than half of the best one in the first round sits out the others. The rows of the workloads that were run are replaced in
 * docs/benchmarks.md.
 *
 *   --quick     one round of a hundredth of the work; nothing is written
 *   --rounds    how often, instead of five times
 *   --only      ours and one other queue, or "pgqrs": ours alone; nothing is written
 *
 * @module
 */
import process from "node:process";
import { compare } from "./compare.ts";
import { workloads } from "./workloads.ts";

const introduction = [
  "Jobs of about 200 bytes; our archive is kept. Medians of rounds in which every queue has its turn (five, or three of the",
  "long ones, or one of the longest), with the ratio to the best peer within a round. CPU is that of the client's and of the",
  "server's processes. A peer that does less than half of the best in the first round sits out the others. Rows that were not",
  "run again are those of an earlier run.",
];

if (import.meta.main) {
  await compare({ part: "Beside other queues", each: "job", introduction, workloads }, process.argv.slice(2));
}
