/**
 * Golden SQL: every statement as each database gets it, so that a change of SQL is reviewed as a change of SQL.
 *
 * `UPDATE_GOLDEN=1 deno task test tests/render_test.ts` writes the files anew.
 */
import { assert, assertEquals } from "@std/assert";
import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import * as archive from "../src/sql/archive.ts";
import { type Dialect, postgres, sqlite } from "../src/sql/dialect.ts";
import * as enqueue from "../src/sql/enqueue.ts";
import * as leases from "../src/sql/leases.ts";
import * as maintenance from "../src/sql/maintenance.ts";
import * as messages from "../src/sql/messages.ts";
import * as metrics from "../src/sql/metrics.ts";
import * as migrations from "../src/sql/migrations.ts";
import * as queues from "../src/sql/queues.ts";
import * as runReports from "../src/sql/run_reports.ts";
import * as runs from "../src/sql/runs.ts";
import * as workers from "../src/sql/workers.ts";
import { render, type RenderedPart, type Statement, type Target } from "../src/sql/sql.ts";

/** In every text that a caller gives; it must never be part of a statement. */
const MARK = `it's "$1" ?1`;
const QUEUE = `queue ${MARK}`;
const ITEM = { id: 7, token: 3 };

const FILTER = {
  queue: QUEUE,
  outcome: "failed",
  reason: MARK,
  type: MARK,
  key: MARK,
  worker: MARK,
  before: 1_900_000_000_000,
  since: 1_800_000_000_123,
} as const;

const TURN = { until: 1_900_000_000_000, place: { queueId: 7, key: MARK } } as const;

const SETTINGS = {
  leaseMs: null,
  maxAttempts: 5,
  maxCrashes: 10,
  backoff: `{"note":"x"}`,
  retentionMs: 1_000,
  deadRetentionMs: null,
  concurrency: 3,
};

const ENQUEUE_OPTIONS = {
  delay_ms: 5,
  priority: 9,
  ttl_ms: 7,
  headers: `{"type":"mail"}`,
  retry: `{"maxAttempts":2}`,
} as const;
const KEY = { key: MARK, hash: "ab", conflict: "replace", hold: "time", hold_ms: 1_000 } as const;

const ENDING = { outcome: "cancelled", reason: MARK, by: MARK } as const;

/** Each statement under the name of its function, with all that can make its text another one. */
const RUN = { id: 7, token: 3 } as const;
const STEP = { key: MARK, place: 2, kind: "step" } as const;

const STATEMENTS: Readonly<Record<string, readonly Statement[]>> = {
  archiveLeased: [
    leases.archiveLeased([{ ...ITEM, reason: MARK, result: "[1]" }], MARK, MARK),
    leases.archiveLeased([{ ...ITEM, reason: MARK, result: "[1]" }], MARK, MARK, 500),
  ],
  beat: [workers.beat([{ ...ITEM, lease_ms: 5 }], MARK)],
  claimMessages: [claim({}), claim({ type: MARK, leaseMs: 1_000 }), claim({ isAhead: true, maxAttempts: 3 })],
  countArchived: [archive.countArchived({}), archive.countArchived({ ...FILTER, isExpired: true })],
  countRuns: [runReports.countRuns()],
  countMessages: [
    messages.countMessages({}),
    messages.countMessages({ state: "ready" }),
    messages.countMessages({ state: "delayed" }),
  ],
  createMigrationsTable: [migrations.createMigrationsTable()],
  createQueue: [
    queues.createQueue(QUEUE, SETTINGS),
    queues.createQueue(QUEUE, { ...SETTINGS, isPaused: true, isWorkflow: true }),
  ],
  createSchema: [migrations.createSchema('"pgqrs"')],
  deleteLeased: [leases.deleteLeased([ITEM, { id: 5, token: null }], MARK)],
  deleteMessages: [messages.deleteMessages([1, 2])],
  deleteQueue: [queues.deleteQueue(QUEUE, false), queues.deleteQueue(QUEUE, true)],
  dropObject: [
    "table pgqrs_keys",
    "view pgqrs_runs",
    "trigger pgqrs_archive_tells",
    "function pgqrs_claim(p_queue text)",
  ].flatMap((name) => migrations.dropObject(name) ?? []),
  endMessages: [messages.endMessages([1, 2], ENDING)],
  enqueueMessages: [
    enqueue.enqueueMessages(QUEUE, ["1", `"two"`], ENQUEUE_OPTIONS),
    enqueue.enqueueMessages(QUEUE, ["1"], { at_ms: 1_900_000_000_000 }, MARK),
    enqueue.enqueueMessages(QUEUE, ["1", `"two"`], [KEY, ENQUEUE_OPTIONS]),
    enqueue.enqueueMessages(QUEUE, ["1", `"two"`], [{}, ENQUEUE_OPTIONS]),
    enqueue.enqueueMessages(QUEUE, ["1"], [{ ...KEY, is_alone: 1 }], null, 500),
  ],
  extendLeased: [leases.extendLeased([{ ...ITEM, lease_ms: 5 }], MARK)],
  failLeased: [leases.failLeased([{ ...ITEM, error: `{"message":"x"}`, delay_ms: 5, is_final: 0 }], MARK, MARK)],
  findEndings: [leases.findEndings([1, 2])],
  findArchived: [archive.findArchived(7)],
  findMessage: [messages.findMessage(7)],
  findOverdue: [maintenance.findOverdue(7, 100)],
  findObjects: [migrations.findObjects(["table pgqrs_keys"])],
  findOrphans: [migrations.findOrphans()],
  findRun: [runReports.findRun(7)],
  findProgress: [messages.findProgress(7)],
  findQueue: [queues.findQueue(QUEUE)],
  findRefusal: [enqueue.findRefusal(QUEUE, [KEY, {}])],
  findTriggers: [migrations.findTriggers(["table pgqrs_keys"])],
  inspectSchema: [migrations.inspectSchema(MARK)],
  forgetWorkers: [maintenance.forgetWorkers(300_000, 100)],
  giveTurnBack: [maintenance.giveTurnBack(TURN)],
  keepTurn: [maintenance.keepTurn(TURN, 60_000)],
  listAttempts: [leases.listAttempts([1, 2])],
  listArchived: [
    archive.listArchived({}, { limit: 10, offset: 20, after: undefined }),
    archive.listArchived(FILTER, { limit: 10, offset: 0, after: { archivedAt: 1_900_000_000_000, id: 7 } }),
  ],
  listEndings: [archive.listEndings([1, 2])],
  listLargeValues: [runs.listLargeValues(7, 10, 3, 8)],
  listSteps: [runs.listSteps(7, 10), runs.listSteps(7, 10, { after: MARK, most: 10 })],
  parkRuns: [
    runs.parkRuns([{ ...RUN, state: "ready", reason: MARK, waits: [{ ...STEP, delay_ms: 5, topic: MARK }] }], MARK),
  ],
  pauseRun: [runs.pauseRun(7)],
  receiveMail: [runs.receiveMail([{ ...RUN, ...STEP, topic: MARK, delay_ms: 5, nothing: "null", ending: 4 }], MARK)],
  recordSteps: [
    runs.recordSteps([{ ...RUN, ...STEP, state: "succeeded", attempts: 0, took_ms: 1.5, value: `"${MARK}"` }], MARK),
  ],
  claimRun: [runs.claimRun(7, MARK, 5)],
  redoStep: [runs.redoStep({ ...RUN, key: MARK }, MARK)],
  resumeRun: [runs.resumeRun(7)],
  retryRun: [runs.retryRun(7)],
  runDue: [runs.runDue(7)],
  runState: [runs.runState(7)],
  sendMail: [runs.sendMail(7, MARK, MARK, `"${MARK}"`), runs.sendMail(7, MARK, undefined, "null")],
  wakeRun: [runs.wakeRun(7)],
  listMessages: [
    messages.listMessages({}, 10),
    messages.listMessages({ queue: QUEUE, state: "leased", type: MARK, key: MARK, afterId: 7 }, 10),
  ],
  listRuns: [
    runReports.listRuns({}, 10),
    runReports.listRuns({ workflow: QUEUE, status: "waiting", key: MARK, beforeId: 7 }, 10),
    runReports.listRuns({ status: "failed", since: FILTER.since, until: FILTER.before }, 10),
  ],
  listMigrations: [migrations.listMigrations()],
  listQueues: [queues.listQueues()],
  listWorkers: [workers.listWorkers(), workers.listWorkers(MARK)],
  lookForWork: [workers.lookForWork([QUEUE, MARK], MARK)],
  lockMigrations: [migrations.lockMigrations(MARK)],
  notePurged: [maintenance.notePurged(7, 1_900_000_000_000)],
  pauseWorkers: [workers.pauseWorkers(MARK, true, MARK), workers.pauseWorkers(MARK, false, MARK)],
  ping: [metrics.ping()],
  progressLeased: [leases.progressLeased([{ ...ITEM, progress: "[1]" }], MARK)],
  purgeArchived: [
    archive.purgeArchived({ isExpired: true }, 100),
    archive.purgeArchived({ queue: QUEUE, isExpired: true }, 100),
  ],
  purgeDead: [maintenance.purgeDead(7, 100)],
  purgeEnded: [
    maintenance.purgeEnded(7, 100, null),
    maintenance.purgeEnded(7, 100, { archivedAt: 1_900_000_000_000, id: 7 }),
  ],
  purgeKeys: [
    maintenance.purgeKeys(undefined, 100, null),
    maintenance.purgeKeys(QUEUE, 100, { queueId: 7, key: MARK }),
  ],
  purgeQueue: [queues.purgeQueue(QUEUE, false), queues.purgeQueue(QUEUE, true)],
  registerWorker: [workers.registerWorker({ holder: MARK, name: MARK, queues: [QUEUE] })],
  removeWorker: [workers.removeWorker(MARK)],
  releaseHeld: [messages.releaseHeld(MARK)],
  releaseLeased: [leases.releaseLeased([{ ...ITEM, delay_ms: 5 }], MARK)],
  releaseStray: [leases.releaseStray(QUEUE, MARK, [7])],
  replayArchived: [
    archive.replayArchived({ ids: [1, 2] }, 2),
    archive.replayArchived({ queue: QUEUE, outcome: "failed" }, 100),
  ],
  reportMetrics: [metrics.reportMetrics(undefined), metrics.reportMetrics(QUEUE)],
  settleAndClaim: [
    leases.settleAndClaim([{ ...ITEM, reason: MARK, result: "[1]" }], MARK, claimOf({ isAhead: true })),
  ],
  startLeased: [leases.startLeased([ITEM], MARK)],
  takeTurn: [maintenance.takeTurn(60_000, false), maintenance.takeTurn(60_000, true)],
  updateMessage: [
    messages.updateMessage(7, {}),
    messages.updateMessage(7, { delayMs: 5, priority: 9 }),
    messages.updateMessage(7, { dueAt: 1_900_000_000_123 }),
  ],
  updateQueue: [
    queues.updateQueue(QUEUE, { isPaused: true }),
    queues.updateQueue(QUEUE, { ...SETTINGS, isPaused: false, isWorkflow: true }),
  ],
};

/** What else the modules of statements export: readers of rows and pieces of statements. */
const OTHERS = [
  "after",
  "decodeEnqueued",
  "lacksQueue",
  "decodeCount",
  "decodeMetrics",
  "decodeRun",
  "decodeRunCounts",
  "decodeRunTexts",
  "decodePurgedEnded",
  "decodePurgedKeys",
  "decodeTurn",
  "decodeAttempts",
  "decodeEndings",
  "decodeExchange",
  "decodeFates",
  "decodeStep",
  "decodeWorker",
  "idOfQueue",
  "migrationStatements",
];

const DIALECTS: readonly Dialect[] = [postgres, sqlite];

for (const dialect of DIALECTS) {
  describe(`statements for ${dialect.name}`, () => {
    test("are those of the golden file", () => {
      const file = new URL(`./golden/${dialect.name}.sql`, import.meta.url);
      const text = goldenText({ dialect, schema: "public" });
      if (process.env.UPDATE_GOLDEN) writeFileSync(file, text);
      // One at a time, so that a failure shows one statement and not the whole file.
      const [actual, expected] = [text, readFileSync(file, "utf8")].map(sectionsOf);
      assertEquals(Object.keys(actual ?? {}), Object.keys(expected ?? {}));
      for (const [name, section] of Object.entries(actual ?? {})) assertEquals(section, expected?.[name], name);
    });

    test("begin with their name as a comment", () => {
      for (const [name, statement] of allStatements()) {
        const rendered = render(statement, { dialect, schema: "public" });
        assertEquals(rendered.name, name);
        for (const { text } of rendered.parts) assert(text.startsWith(`/* pgqrs:${name} */ `), text);
      }
    });

    test("number their placeholders from one, without a gap", () => {
      for (const part of partsFor(dialect)) {
        const mark = dialect.name === "postgres" ? "\\$" : "\\?";
        const text = withoutLiterals(part.text);
        const numbers = [...text.matchAll(new RegExp(`${mark}(\\d*)`, "g"))].map(([, n]) => n);
        assertEquals(numbers, part.values.map((_, i) => String(i + 1)), part.text);
      }
    });

    test("bind what callers give, as text, integers or null and never as an object", () => {
      const kinds = dialect.name === "postgres" ? ["string"] : ["string", "bigint"];
      for (const { text, values } of partsFor(dialect)) {
        assert(!text.includes(MARK), text);
        for (const value of values) assert(value === null || kinds.includes(typeof value), `${String(value)}: ${text}`);
      }
    });

    test("bind the clock of a test wherever they would read the clock of the database", () => {
      for (const { text } of partsFor(dialect, () => 1_900_000_000_000)) {
        assert(!withoutLiterals(text).includes(dialect.now), text);
      }
    });
  });
}

test("every statement of src/sql is in the golden files", () => {
  const modules: readonly Readonly<Record<string, unknown>>[] = [
    archive,
    enqueue,
    leases,
    maintenance,
    messages,
    metrics,
    migrations,
    queues,
    runReports,
    runs,
    workers,
  ];
  const functions = modules.flatMap((module) =>
    Object.keys(module).filter((name) => typeof module[name] === "function")
  );
  assertEquals(functions.filter((name) => !OTHERS.includes(name)).sort(), Object.keys(STATEMENTS).sort());
});

function claim(changes: Partial<leases.Claim>): Statement {
  return leases.claimMessages(claimOf(changes));
}

function claimOf(changes: Partial<leases.Claim>): leases.Claim {
  return {
    queue: QUEUE,
    limit: 10,
    leaseMs: undefined,
    defaultLeaseMs: 5_000,
    holder: MARK,
    type: undefined,
    ...changes,
  };
}

function allStatements(): [string, Statement][] {
  return Object.entries(STATEMENTS).flatMap(([name, list]) => list.map((one): [string, Statement] => [name, one]));
}

function partsFor(dialect: Dialect, clock?: () => number): RenderedPart[] {
  return allStatements().flatMap(([, statement]) => render(statement, { dialect, schema: "public", clock }).parts);
}

/** Text in quotes is no place for a placeholder. */
function withoutLiterals(text: string): string {
  return text.replaceAll(/'(?:[^']|'')*'/g, "''");
}

function goldenText(target: Target): string {
  const sections = Object.entries(STATEMENTS).flatMap(([name, list]) =>
    list.map((statement, i) => {
      const parts = render(statement, target).parts.map(({ text, values }) => `${text};\n${comment(values)}`);
      return `-- ${name} ${i + 1}\n${parts.join("")}`;
    })
  );
  const steps = migrations.migrations.map((migration) => {
    const statements = migrations.migrationStatements(migration, { isUnlogged: false }, target);
    const texts = statements.flatMap((statement) => render(statement, target).parts.map(({ text }) => `${text};\n`));
    return `-- migration ${migration.version}\n${texts.join("\n")}`;
  });
  return [...sections, ...steps].join("\n");
}

function comment(values: RenderedPart["values"]): string {
  if (values.length === 0) return "";
  const told = values.map((value) => typeof value === "bigint" ? String(value) : JSON.stringify(value));
  return `-- values: ${told.join(", ")}\n`;
}

function sectionsOf(text: string): Record<string, string> {
  const sections = text.split(/^(?=-- \w+ \d+$)/m);
  return Object.fromEntries(sections.map((section) => [section.slice(0, section.indexOf("\n")), section]));
}
