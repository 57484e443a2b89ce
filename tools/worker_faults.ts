/** Faults of workers, and of what they send together: see `sabotage.ts`. */
import type { Fault } from "./sabotage.ts";

const LANE = "src/worker/lane.ts";
const LEASES = "src/sql/leases.ts";
const HEARTBEAT = "src/worker/heartbeat.ts";
const SETTLING = "src/worker/settling.ts";

/** All faults. */
export const WORKER_FAULTS: readonly Fault[] = [
  {
    name: "worker: a heartbeat renews nothing",
    file: "src/sql/workers.ts",
    find: "set lease_until = max(m.lease_until, ${now} + (i.value ->> 'lease_ms'))",
    replace: "set lease_until = m.lease_until",
    test: onSqlite(
      "leases of a worker",
      "heartbeats keep the lease of a handler that takes longer: nobody else gets the message, and nothing is counted",
    ),
  },
  {
    name: "worker: what a heartbeat says is lost is not noticed",
    file: HEARTBEAT,
    find: 'else if (fate !== "locked") this.#lose(lane, delivery, fate);',
    replace: "",
    test: inDoubt("a lease that somebody takes away is noticed, and its handler aborted"),
  },
  {
    name: "worker: what was handled while the event loop stood still for longer than the lease is stored",
    file: HEARTBEAT,
    find: "lane.dropLapsed(now);",
    replace: "void lane;",
    test: onSqlite(
      "leases of a worker",
      "a handler that blocks the event loop (synchronous) for longer than its lease: its late result changes nothing",
    ),
  },
  {
    name: "worker: a transaction commits although the lease was lost",
    file: "src/worker/context.ts",
    find: "if (rows.length === 0) throw nothingChanged(message);",
    replace: "",
    test: [
      "tests/worker_freeze_test.ts",
      undefined,
      "a worker on Postgres that was frozen for twice its lease changes nothing, and hears that it has lost",
    ],
  },
  {
    name: "worker: the last crash counts also for a message that was not begun",
    file: LEASES,
    find: "and crashes + 1 >= max_crashes and is_started = 1",
    replace: "and crashes + 1 >= max_crashes",
    test: onSqlite(
      "leases of a worker",
      "a message that was claimed ahead and not begun is never dead because of crashes",
    ),
  },
  {
    name: "worker: a crash in the second half counts also for a message that was not begun",
    file: LEASES,
    find: "(is_started = 1 or crashes * 2 < max_crashes and crashes + 1 < max_crashes)",
    replace: "(is_started = 1 or crashes + 1 < max_crashes)",
    test: suspects("a crash in the second half counts only for a message that was begun"),
  },
  {
    name: "worker: what may be what ends processes is handled side by side",
    file: "src/worker/slots.ts",
    find: "if (this.#suspect !== undefined) {",
    replace: "if (this.#suspect === suspect) {",
    test: suspects("drain() handles one at a time, over all jobs of the worker, and others beside it"),
  },
  {
    name: "worker: what may be what ends processes is begun together with what has crashed with it",
    file: "src/worker/waiting.ts",
    find: "if (delivery.isSuspect && isRisky && ",
    replace: "if (delivery.isSuspect && !isRisky && ",
    test: suspects("run() does not begin one together with others that have crashed, with which it may have"),
  },
  {
    name: "worker: one that stops gives nothing back",
    file: LANE,
    find: "this.#settling.returned(delivery);\n    this.schedule();",
    replace: "if (!this.#host.isStopping) this.#settling.returned(delivery);\n    this.schedule();",
    test: [
      "tests/worker_stop_test.ts",
      "a worker process on a SQLite file that is told to stop",
      "finishes what it handles, gives back the rest at once without an attempt, and ends with code 0",
    ],
  },
  {
    name: "worker: a settling without an answer is taken for lost when it was applied",
    file: SETTLING,
    find: 'const isOurs = delivery.isInDoubt && outcome !== undefined && outcome !== "cancelled";',
    replace: "const isOurs = false;",
    test: inDoubt("a settling without an answer, unknown, ends its message once, and as completed"),
  },
  {
    name: "worker: a failure without an answer is taken for lost when it was counted",
    file: SETTLING,
    find: '(outcome === "failed" || isCounted)',
    replace: 'outcome === "failed"',
    test: inDoubt("a failure without an answer, unknown, is counted once"),
  },
  {
    name: "worker: what a claim without an answer has leased is left lying",
    file: LANE,
    find: "this.#mustRecover = true;",
    replace: ";",
    test: inDoubt("a claim without an answer, unknown, leaves nothing lying until its lease ends"),
  },
  {
    name: "worker: a handler that has had its time is not aborted",
    file: "src/worker/handlers.ts",
    find: "delivery.abort(error);\n      if (this.#endAsSaid",
    replace: "if (this.#endAsSaid",
    test: onSqlite(
      "worker",
      "a handler that hangs is aborted after timeoutMs, costs an attempt and frees its place; its late result is dropped",
    ),
  },
  {
    name: "worker: a queue that was empty is not looked at again",
    file: "src/worker/shift.ts",
    find: "if (idle.length > 0) this.#setLook(idle);",
    replace: "",
    test: ["tests/wake_test.ts", "an idle worker", "sends one statement a poll for any number of queues"],
  },
  {
    name: "combine: whoever travels with an item that is refused fails with it",
    file: "src/combine.ts",
    find: "if (entries.length > 1 && isDivisible(error)) {",
    replace: "if (entries.length < 1) {",
    test: [
      "tests/combine_test.ts",
      "Combiner tells each caller",
      "an item that makes the statement fail with 22P02 fails alone, found by halving",
    ],
  },
];

function onSqlite(suite: string, name: string): Fault["test"] {
  return ["tests/sqlite_test.ts", `${suite} on SQLite memory`, name];
}

function suspects(name: string): Fault["test"] {
  return ["tests/worker_suspects_test.ts", "suspects on a SQLite file", name];
}

function inDoubt(name: string): Fault["test"] {
  return ["tests/worker_doubt_test.ts", "a worker in doubt on SQLite memory", name];
}
