/** Keeps the benchmarks running: a hundredth of the work, without an opinion on its speed. */
import { assertEquals, assertMatch } from "@std/assert";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startProcess } from "./support/processes.ts";

test("bench/main.ts --quick runs every workload on SQLite, with the library and without", async () => {
  const temporary = mkdtempSync(join(tmpdir(), "pgqrs-bench-test-"));
  try {
    const file = new URL("../bench/main.ts", import.meta.url);
    await using child = startProcess(file, { args: ["--quick", "--backend", "sqlite"], env: { TMPDIR: temporary } });
    assertEquals((await child.exited).code, 0, child.stderr);
    const rows = child.stdout.split("\n").filter((line) => line.includes(" | "));
    assertEquals(rows.map((row) => row.split(" | ")[0]), [
      "enqueue one by one, c=1",
      "enqueue one by one, c=32",
      "enqueueMany",
      "dequeue + archive, limit 1",
      "dequeue + archive, limit 10",
      "dequeue + archive, limit 50",
      "dequeue + archive, limit 200",
    ]);
    for (const row of rows) {
      assertMatch(row, /^[^|]+( \| [\d,]+){2} \| [\d.]+( \| [\d.]+ \+ [\d.]+){2} \| ([\d.]+|NaN)$/);
    }
    assertEquals(readdirSync(temporary), []);
  } finally {
    rmSync(temporary, { recursive: true });
  }
});

const peers = new URL("../bench/peers.ts", import.meta.url);
const hasPeers = existsSync(new URL("../bench/peers/node_modules", import.meta.url));

test("bench/peers.ts --quick measures ours on a server and on a file, and leaves the page alone", async () => {
  const rows = await runQuick(["--only", "pgqrs", "enqueue-spread", "drain-2", "latency-inside", "sqlite-drain"]);
  assertEquals(rows.map((row) => row[0]), [
    "enqueue, 32 callers in 8 processes",
    "drain 100,000, two processes",
    "enqueue → handler start, in one process, p50",
    "enqueue → handler start, in one process, p99",
    "SQLite: drain 100,000 of one file",
    "SQLite: drain 100,000 of one file: a timer of 5 ms is late by at most",
  ]);
  for (const row of rows) assertMatch(row[4] ?? "", /^[\d,.]+ (jobs\/s|ms)$/);
});

const skip = !hasPeers && "the packages of bench/peers are not installed";
test("bench/peers.ts --quick measures every peer", { skip }, async () => {
  const rows = await runQuick(["drain", "sqlite-enqueue"]);
  const found = rows.flatMap((row) => `${row[5]}, ${row[8]}`.match(/(?<=\()[a-z-]+(?=\))/g) ?? []);
  assertEquals(new Set(found), new Set(["bullmq", "graphile-worker", "pg-boss", "plainjob"]));
});

/** The rows that a run of a hundredth of the work prints. */
async function runQuick(args: readonly string[]): Promise<string[][]> {
  const temporary = mkdtempSync(join(tmpdir(), "pgqrs-bench-test-"));
  try {
    // The server's user must be able to walk through it.
    chmodSync(temporary, 0o755);
    // npm would leave compiled code there, which is not ours to clear up.
    const env = { TMPDIR: temporary, NODE_DISABLE_COMPILE_CACHE: "1" };
    await using child = startProcess(peers, { args: ["--quick", ...args], env });
    assertEquals((await child.exited).code, 0, child.stderr);
    assertEquals(readdirSync(temporary), []);
    return child.stdout.split("\n").filter((line) => line.includes(" | ")).map((line) => line.split(" | "));
  } finally {
    rmSync(temporary, { recursive: true });
  }
}
