/** Faults of the engine that executes runs: see `sabotage.ts`. */
import type { Fault } from "./sabotage.ts";

const CONTEXT = "src/run/context.ts";
const EXECUTION = "src/run/execution.ts";
const FILE = "tests/run_crash_test.ts";
const MIGRATION = "src/sql/migrations/0003_runs.ts";
const STATEMENTS = "src/sql/runs.ts";
const STEPS = "src/run/steps.ts";

/** All faults. */
export const RUN_FAULTS: readonly Fault[] = [
  {
    name: "run: one is parked on SQLite without a look for mail",
    file: STATEMENTS,
    find: "b.topic = w.value ->> 'topic' and b.taken_by is null\n    ) then ${now}",
    replace: "b.topic = w.value ->> 'topic' and false\n    ) then ${now}",
    test: onSqlite("mail that comes"),
  },
  {
    name: "run: one is parked on Postgres without a look for mail",
    file: MIGRATION,
    find: "b.topic = w.topic and b.taken_by is null\n    ) then",
    replace: "b.topic = w.topic and false\n    ) then",
    test: onPostgres("mail that comes"),
  },
  {
    name: "run: what is sent on SQLite does not make the run due",
    file: STATEMENTS,
    find: 'update ${table("messages")} set due_at = ${now}\nwhere id = ${run}',
    replace: 'update ${table("messages")} set due_at = due_at\nwhere id = ${run}',
    test: onSqlite("mail that comes"),
  },
  {
    name: "run: what is sent on Postgres does not make the run due",
    file: MIGRATION,
    find: "select from json_array_elements(m.waits) w where w ->> 'topic' = p_topic\n  ) then v_now",
    replace: "select from json_array_elements(m.waits) w where w ->> 'topic' = p_topic\n  ) then m.due_at",
    test: onPostgres("mail that comes"),
  },
  {
    name: "run: whoever has lost the lease records on SQLite all the same",
    file: STATEMENTS,
    find: " and m.holder = ${holder} and m.token = i.value ->> 'token'",
    replace: " and ${holder} <> ''",
    test: onSqlite("a lease that is taken away"),
  },
  {
    name: "run: whoever has lost the lease records on Postgres all the same",
    file: MIGRATION,
    find: '"m.id = any (array[i.id]) and m.holder = p_holder and m.token = i.token"',
    replace: '"m.id = any (array[i.id])"',
    test: onPostgres("a lease that is taken away"),
  },
  {
    name: "run: a transaction is committed although the lease was lost",
    file: "src/run/recorder.ts",
    find: "if (row === undefined) throw new RunLostError(item.id);",
    replace: "if (row === undefined) return { wish: null, written: 1 };",
    test: [FILE, undefined, "a lease that is taken away from a transaction has it executed once, on Postgres"],
  },
  {
    name: "run: one is parked while a branch of it is at work",
    file: EXECUTION,
    find: "if (this.#isOver || this.#active.size > 0 || this.#waits.size === 0) return;",
    replace: "if (this.#isOver || this.#waits.size === 0) return;",
    test: onSqlite("a worker that dies"),
  },
  {
    name: "run: the parent does not hear of its child's end on SQLite",
    file: MIGRATION,
    find: "when ${parent} is not null begin",
    replace: "when ${parent} is not null and false begin",
    test: onSqlite("a worker that dies"),
  },
  {
    name: "run: the parent does not hear of its child's end on Postgres",
    file: MIGRATION,
    find: "split_part(v_parent, '/', 1)::bigint, '$child/'",
    replace: "-split_part(v_parent, '/', 1)::bigint, '$child/'",
    test: onPostgres("a worker that dies"),
  },
  {
    name: "run: replay does a recorded step again",
    file: STEPS,
    find: 'reach(key, "step");\n  if (known?.state === "succeeded" || known?.state === "failed")',
    replace: 'reach(key, "step");\n  if (known?.state === "failed")',
    test: onSqlite("a worker that dies"),
  },
  {
    name: "run: replay does a failed step again",
    file: STEPS,
    find: 'reach(key, "step");\n  if (known?.state === "succeeded" || known?.state === "failed")',
    replace: 'reach(key, "step");\n  if (known?.state === "succeeded")',
    test: onSqlite("a worker that dies"),
  },
  {
    name: "run: the value of a step is used before it is durable",
    file: STEPS,
    find:
      'await execution.record({ ...step, attempts, took_ms: performance.now() - startedAt, state: "succeeded", value });',
    replace:
      'void execution.record({ ...step, attempts, took_ms: performance.now() - startedAt, state: "succeeded", value });',
    test: onSqlite("a worker that dies"),
  },
  {
    name: "run: the keys of steps are without their scope",
    file: "src/run/key.ts",
    find: 'scope === undefined ? "" : `${scope}/`',
    replace: '""',
    test: onSqlite("a worker that dies"),
  },
  {
    name: "run: replay begins the time limit of a receive anew",
    file: STATEMENTS,
    find: "do update set child_id = coalesce(excluded.child_id, s.child_id) where s.state = 'waiting'`",
    replace:
      "do update set due_at = excluded.due_at, child_id = coalesce(excluded.child_id, s.child_id) where s.state = 'waiting'`",
    test: onSqlite("a worker that dies"),
  },
  {
    name: "run: a crash has the attempts of a step counted anew",
    file: STEPS,
    find: "let attempts = known?.attempts ?? 0;",
    replace: "let attempts = 0;",
    test: onSqlite("a worker that dies"),
  },
  {
    name: "run: a step that may begin once is not noted before it begins",
    file: STEPS,
    find:
      'if (options.atMostOnce === true) await execution.record({ ...step, attempts, took_ms: 0, state: "started" });',
    replace: "",
    test: onSqlite("a worker that dies"),
  },
  {
    name: "run: replay begins a sleep anew",
    file: CONTEXT,
    find: "const left = known?.dueMs ?? ms;",
    replace: "const left = ms;",
    test: onSqlite("a worker that dies"),
  },
];

function onPostgres(what: string): Fault["test"] {
  return [
    FILE,
    undefined,
    `${what} at a round trip changes nothing of what becomes of a run, on Postgres`,
  ];
}

function onSqlite(what: string): Fault["test"] {
  return [
    FILE,
    undefined,
    `${what} at a round trip changes nothing of what becomes of a run, on SQLite`,
  ];
}
