/**
 * The soak of the project's bars: 300 jobs a second for an hour with `PGQRS_SOAK_MINUTES=60`, for six minutes otherwise.
 */
import { test } from "node:test";
import process from "node:process";
import { soak } from "./support/soak.ts";

test("a steady load does not grow memory, connections or tables", async () => {
  const minutes = Number(process.env.PGQRS_SOAK_MINUTES ?? 6);
  await soak(`soak of ${minutes} minutes`, minutes);
});
