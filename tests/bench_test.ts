/** Keeps the benchmarks running: a hundredth of the work, without an opinion on its speed. */
import { assertEquals, assertMatch } from "@std/assert";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
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
