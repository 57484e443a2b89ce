/** `pgqrs workflow …`. */
import { createReadStream } from "node:fs";
import {
  NotFoundError,
  type RunDetails,
  type RunHandle,
  type RunQuery,
  type RunStatus,
  type Store,
  workflowRef,
} from "../../mod.ts";
import { type Command, counted, did, type Flag, given, idOf, type Output, type Shell, UsageError } from "./command.ts";
import { CURSOR, DELAY, KEY, LIMIT, PRIORITY, REASON } from "./flags.ts";
import { readJson } from "./json.ts";
import { pages } from "./rows.ts";
import { detailRow, detailText, RUN_COLUMNS, runRow } from "./workflow_rows.ts";

const STATUS: Flag = {
  name: "status",
  type: "text",
  choices: ["ready", "delayed", "leased", "waiting", "paused", "blocked", "succeeded", "failed", "cancelled"],
  about: "That stand so",
};
const WORKFLOW: Flag = { name: "workflow", type: "text", about: "Of this workflow" };
const SINCE: Flag = { name: "since", type: "instant", about: "Started at this instant or after it" };
const UNTIL: Flag = { name: "until", type: "instant", about: "Started before this instant" };
const FILE: Flag = { name: "file", letter: "f", type: "text", about: "A file with the input as one JSON text" };
const COUNTS = ["workflow", "ready", "delayed", "leased", "waiting", "paused", "blocked", "succeeded", "failed"];
/** The most that is read; the library has the exact limit. */
const LONGEST_INPUT = 64 * 1024 * 1024;

export const workflowCommands: readonly Command[] = [
  {
    usage: "workflow list",
    about: "List all workflows, and count their runs by state",
    example: "workflow list",
    run: async (store) => ({
      data: (await store.admin.runs.counts()).map((counts) => ({ ...counts })),
      columns: COUNTS,
    }),
  },
  {
    usage: "workflow start <workflow> [input]",
    about: "Start a run of a workflow, with an input that is written as JSON, in a file, or piped in (-)",
    example: `workflow start order '{"id": 7}' --key order-7`,
    flags: [
      FILE,
      { ...KEY, about: "Any number of starts under one key make one run" },
      DELAY,
      PRIORITY,
    ],
    async run(store, { args: { workflow = "", input }, flags }, shell) {
      const value = await readInput(input, flags.file as string | undefined, shell);
      const { key, delay: delayMs, priority } = flags as { key?: string; delay?: number; priority?: number };
      const options = { ...given({ key, delayMs, priority }), signal: shell.signal };
      const { id } = await store.start(workflowRef(workflow), value, options);
      return { data: runRow(await find(store, id)), note: `Started run ${id}` };
    },
  },
  {
    usage: "workflow runs",
    about: "List runs, the last first, and why they do not move",
    example: "workflow runs --workflow order --status waiting",
    flags: [WORKFLOW, STATUS, { ...KEY, about: "Started under this key" }, SINCE, UNTIL, LIMIT, CURSOR],
    async run(store, call) {
      const { workflow, status, key, since, until } = call.flags as Record<string, string | undefined>;
      if (workflow !== undefined) await store.admin.queues.get(workflow);
      const filter = given({ workflow, status: status as RunStatus, key, since, until }) as RunQuery;
      return pages((page) => store.admin.runs.list({ ...filter, ...page }), runRow, call, RUN_COLUMNS);
    },
  },
  {
    usage: "workflow show <id>",
    about: "Show a run with its steps, and what it waits for",
    example: "workflow show 42",
    async run(store, { args: { id } }) {
      const run = await find(store, idOf(id), true);
      return { data: detailRow(run), text: await detailText(run) };
    },
  },
  {
    usage: "workflow cancel <id>",
    about: "End a run as cancelled, with the runs that it waits for, also while it is executed",
    example: 'workflow cancel 42 --reason "not needed" --yes',
    flags: [REASON],
    async preview(store, { args: { id } }) {
      const run = await find(store, idOf(id));
      if (run.endedAt !== null) throw new Error(`cannot cancel run ${run.id}: it has ${stateOf(run)}`);
      const children = run.waitsFor.flatMap(({ childId }) => childId ?? []);
      const more = children.length === 0 ? "" : ` and ${counted(children.length, "run")} that it waits for`;
      return { what: `cancel run ${run.id} of workflow ${run.workflow}${more}`, data: runRow(run) };
    },
    run: (store, { args: { id }, flags }) =>
      change(store, id, "cancel", (run) => run.cancel(given({ reason: flags.reason as string })), "Cancelled"),
  },
  {
    usage: "workflow pause <id>",
    about: "Stop a run at its next step, until it is resumed",
    example: "workflow pause 42",
    run: (store, { args: { id } }) => change(store, id, "pause", (run) => run.pause(), "Paused"),
  },
  {
    usage: "workflow resume <id>",
    about: "Let a run go on that is paused or blocked",
    example: "workflow resume 42",
    run: (store, { args: { id } }) => change(store, id, "resume", (run) => run.resume(), "Resumed"),
  },
  {
    usage: "workflow retry <id>",
    about: "Bring a run back that has failed or was cancelled; steps that have succeeded are not done again",
    example: "workflow retry 42",
    run: (store, { args: { id } }) => change(store, id, "retry", (run) => run.retry(), "Brought back"),
  },
  {
    usage: "workflow wake <id>",
    about: "End what a run sleeps for, or the pause before the next attempt of a step",
    example: "workflow wake 42",
    run: (store, { args: { id } }) => change(store, id, "wake", (run) => run.wake(), "Woke"),
  },
  {
    usage: "workflow send <id> <topic> <payload>",
    about: "Send something to a run, written as JSON, or piped in (-)",
    example: "workflow send 42 approval true",
    flags: [{ ...KEY, about: "Under one key something is sent to a run only once" }],
    async run(store, { args: { id, topic = "", payload }, flags }, shell) {
      const run = await find(store, idOf(id));
      const value = await readInput(payload, undefined, shell);
      await store.run(run.id).send(topic, value, given({ key: flags.key as string }));
      return did(`Sent to run ${run.id}`, { id: run.id, topic });
    },
  },
];

/** Does something to a run, and shows what has become of it. */
async function change(
  store: Store,
  id: string | undefined,
  verb: string,
  work: (run: RunHandle) => Promise<boolean>,
  done: string,
): Promise<Output> {
  const run = await find(store, idOf(id));
  if (!await work(store.run(run.id))) {
    const is = run.endedAt === null ? "is" : "has";
    throw new Error(`cannot ${verb} run ${run.id}: it ${is} ${stateOf(run)}`);
  }
  return { data: runRow(await find(store, run.id)), note: `${done} run ${run.id}` };
}

/** Finds a run, with its steps if they are needed. @throws {NotFoundError} */
async function find(store: Store, id: number, steps = false): Promise<RunDetails> {
  const run = await store.admin.runs.get(id, { steps });
  if (run === null) throw new NotFoundError(`Run ${id} does not exist, or not any more`);
  return run;
}

function stateOf({ status }: RunDetails): string {
  return status === "cancelled" ? "been cancelled" : status === "leased" ? "being executed" : status;
}

/** Reads the one JSON text that is given, from wherever it comes; undefined without any. @throws {UsageError} */
async function readInput(given: string | undefined, file: string | undefined, { input }: Shell): Promise<unknown> {
  if (given !== undefined && file !== undefined) throw new UsageError("an input and --file exclude each other");
  if (given === undefined && file === undefined) return undefined;
  const text = file !== undefined ? await readFile(file) : given === "-" ? await collect(input) : given as string;
  return readJson("what was given", text, `; a text is written as '"text"'`);
}

async function readFile(path: string): Promise<string> {
  try {
    return await collect(createReadStream(path));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { code }: { code?: unknown } = Object(error);
    throw new UsageError(`cannot read ${path}: ${code ?? error}`);
  }
}

async function collect(bytes: AsyncIterable<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let text = "";
  try {
    for await (const chunk of bytes) {
      text += decoder.decode(chunk, { stream: true });
      if (text.length > LONGEST_INPUT) throw new UsageError("what was given is too long");
    }
    return text + decoder.decode();
  } catch (error) {
    throw error instanceof TypeError ? new UsageError("what was given is not UTF-8") : error;
  }
}
