/**
 * OpenWorkflow on Postgres and on SQLite. Its worker has no setting but its concurrency. Its handle asks for a result only
 * once a second, which has no setting at all; here it asks when the function has returned and from then on every 2 ms.
 */
import { WORKFLOW } from "../job.ts";
import { type Engine, type EngineOptions, stepValue } from "./engine.ts";
import { inParts, load } from "./peer.ts";

interface Handle {
  resultPollIntervalMs: number;
  result(): Promise<number>;
}

interface Backend {
  stop(): Promise<void>;
}

interface Input {
  readonly count: number;
  /** By this its caller knows the run. */
  readonly caller?: number;
}

interface Context {
  readonly input: Input;
  readonly step: { run<T>(options: { readonly name: string }, work: () => Promise<T>): Promise<T> };
}

interface Client {
  defineWorkflow(
    options: { readonly name: string },
    work: (context: Context) => Promise<number>,
  ): { run(input: Input): Promise<Handle> };
  newWorker(options: { readonly concurrency: number }): { start(): Promise<void>; stop(): Promise<void> };
}

const ASK_MS = 2;
const AT_ONCE = 20;

/** Opens OpenWorkflow. */
export async function open({ dsn, concurrency, onBegin, onReturn }: EngineOptions): Promise<Engine> {
  const { OpenWorkflow } = await load<{ OpenWorkflow: new (options: { backend: Backend }) => Client }>("openworkflow");
  const isFile = dsn.startsWith("sqlite:");
  const backend = isFile ? await openFile(dsn.slice("sqlite:".length)) : await openServer(dsn);
  const client = new OpenWorkflow({ backend });
  const returned = new Map<number, () => void>();
  let callers = 0;
  const steps = client.defineWorkflow({ name: WORKFLOW }, async ({ input: { count, caller }, step }) => {
    onBegin();
    for (let i = 0; i < count; i++) await step.run({ name: `step ${i}` }, () => stepValue(i));
    onReturn();
    if (caller !== undefined) returned.get(caller)?.();
    return count;
  });
  const schema = isFile ? "" : "openworkflow.";
  return {
    install: () => Promise.resolve(),
    enqueueMany: (runs, count) =>
      inParts(Array.from({ length: runs }, () => count), ([one = 0]) => steps.run({ count: one }), {
        size: 1,
        atOnce: AT_ONCE,
      }),
    async work() {
      const worker = client.newWorker({ concurrency });
      await worker.start();
      return () => worker.stop();
    },
    async execute(count) {
      const caller = callers++;
      const end = new Promise<void>((done) => returned.set(caller, done));
      const handle = await steps.run({ count, caller });
      handle.resultPollIntervalMs = ASK_MS;
      await end;
      returned.delete(caller);
      return await handle.result();
    },
    left: `select 1 from ${schema}workflow_runs where status in ('pending', 'running', 'sleeping') limit 1`,
    recorded: `select count(*) from ${schema}step_attempts where status in ('completed', 'succeeded')`,
    close: () => backend.stop(),
  };
}

async function openServer(dsn: string): Promise<Backend> {
  const { BackendPostgres } = await load<{ BackendPostgres: { connect(dsn: string): Promise<Backend> } }>(
    "openworkflow/postgres",
  );
  return await BackendPostgres.connect(dsn);
}

async function openFile(path: string): Promise<Backend> {
  const { BackendSqlite } = await load<{ BackendSqlite: { connect(path: string): Backend } }>("openworkflow/sqlite");
  return BackendSqlite.connect(path);
}
