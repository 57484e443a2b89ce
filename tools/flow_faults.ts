/** Faults of what limits and steers the flow of messages: see `sabotage.ts`. */
import type { Fault } from "./sabotage.ts";

const CLAIM = "src/sql/migrations/0002_claim.ts";
const CONSUMER = "src/consumer.ts";
const LANE = "src/worker/lane.ts";
const LEASES = "src/sql/leases.ts";
const SHIFT = "src/worker/shift.ts";

/** All faults. */
export const FLOW_FAULTS: readonly Fault[] = [
  {
    name: "flow: the leases of a limited queue are counted without a lock",
    file: CLAIM,
    find: "    perform pg_advisory_xact_lock(hashtextextended('pgqrs:concurrency:' || v_hint_name, 0));\n",
    replace: "",
    test: limits("is never exceeded by claims that come at once on connections of their own"),
  },
  {
    name: "flow: a lease that has run out leaves its place, though a late heartbeat may renew it",
    file: CLAIM,
    find: "m.lease_until > coalesce(v_hint[11], '-infinity')\n        limit v_concurrency",
    replace: "m.lease_until > v_now\n        limit v_concurrency",
    test: limits("counts a lease that has run out as long as somebody has its row locked, because it may be renewed"),
  },
  {
    name: "flow: a claim on SQLite takes as many as are asked for",
    file: LEASES,
    find: "max(0, min(${limit}, coalesce(q.concurrency - ${heldOf(queue)}, ${limit})))",
    replace: "${limit}",
    test: onSqlite("flow", "dequeue() leases no more messages of a queue than its concurrency, over all consumers"),
  },
  {
    name: "flow: a worker of a limited queue does not look when it has ended something",
    file: LANE,
    find: "if (this.outlook.isLimited && !this.#hasClaimed) this.wake();",
    replace: "",
    test: onSqlite("flow", "a worker of a limited queue looks again when it has ended something, however it ended"),
  },
  {
    name: "flow: a worker of a limited queue claims ahead",
    file: LANE,
    find: "this.outlook.hasLimit ? 0 : this.#prefetch.target",
    replace: "this.#prefetch.target",
    test: onSqlite(
      "flow",
      "a worker of a limited queue holds nothing that it does not handle, and leaves places to others",
    ),
  },
  {
    name: "flow: a worker begins what has expired while it waited for its turn",
    file: "src/worker/waiting.ts",
    find: "      this.#expire(now, size ?? 1);\n",
    replace: "",
    test: onSqlite(
      "lifetime",
      "a worker begins nothing that has expired while it waited for its turn, and tells of it",
    ),
  },
  {
    name: "flow: a claim that has dropped some takes the queue for empty",
    file: "src/worker/outlook.ts",
    find: ' && !ended.some(({ state }) => state === "cancelled")',
    replace: "",
    test: onSqlite("lifetime", "drain() goes on behind any number that has expired"),
  },
  {
    name: "flow: a failure by the id of a message does not ask what the message says of its pauses",
    file: CONSUMER,
    find: "known.set(Number(row[0]), decodeAttempts(row));",
    replace: "known.set(Number(row[0]), { ...decodeAttempts(row), backoff: undefined });",
    test: onSqlite("lifetime", "fail() waits as the message says, and only else as the queue does"),
  },
  {
    name: "flow: a paused worker does not look whether it still is",
    file: SHIFT,
    find: "this.isPaused ? this.#lanes : dry;",
    replace: "dry;",
    test: onSqlite(
      "flow",
      "workers.pause() lets handlers end, gives the rest back, and begins nothing before workers.resume()",
    ),
  },
];

function limits(name: string): Fault["test"] {
  return ["tests/flow_test.ts", "concurrency of a queue on Postgres", name];
}

function onSqlite(suite: "flow" | "lifetime", name: string): Fault["test"] {
  return ["tests/sqlite_test.ts", `${suite} on SQLite memory`, name];
}
