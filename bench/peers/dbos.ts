/**
 * DBOS. What is started and waited for runs in the same process without its queue, which is its fastest way; what is
 * drained comes from a queue without limits, which is what its documentation begins with, and is looked at every 10 ms
 * instead of every second. Its pool has the 10 connections that it has by itself: with 20 or 50 it does less.
 */
import { WORKFLOW } from "../job.ts";
import { type Engine, type EngineOptions, stepValue } from "./engine.ts";
import { inParts, load } from "./peer.ts";

interface Handle {
  getResult(): Promise<number>;
}

type Steps = (count: number) => Promise<number>;

interface Dbos {
  setConfig(config: object): void;
  launch(): Promise<void>;
  shutdown(): Promise<void>;
  registerWorkflow(work: Steps, options: { readonly name: string }): Steps;
  registerQueue(name: string, options: object): Promise<unknown>;
  runStep<T>(work: () => Promise<T>, options: { readonly name: string }): Promise<T>;
  startWorkflow(work: Steps): (count: number) => Promise<Handle>;
}

interface Client {
  enqueue(options: object, count: number): Promise<unknown>;
  destroy(): Promise<void>;
}

const QUEUE = "drained";
const APPLICATION = "bench";
const AT_ONCE = 20;

/** Opens DBOS. */
export async function open({ dsn, onBegin, onReturn }: EngineOptions): Promise<Engine> {
  const { DBOS, DBOSClient } = await load<{ DBOS: Dbos; DBOSClient: { create(options: object): Promise<Client> } }>(
    "@dbos-inc/dbos-sdk",
  );
  const logger = { info() {}, debug() {}, warn() {}, error: console.error };
  DBOS.setConfig({
    name: APPLICATION,
    systemDatabaseUrl: dsn,
    applicationVersion: APPLICATION,
    logger,
  });
  const steps = DBOS.registerWorkflow(async (count) => {
    onBegin();
    for (let i = 0; i < count; i++) await DBOS.runStep(() => stepValue(i), { name: `step ${i}` });
    onReturn();
    return count;
  }, { name: WORKFLOW });
  return {
    install: () => DBOS.launch(),
    async enqueueMany(runs, count) {
      const client = await DBOSClient.create({ systemDatabaseUrl: dsn, logger });
      const options = { workflowName: WORKFLOW, queueName: QUEUE, appVersion: APPLICATION };
      const parts = Array.from({ length: runs }, () => count);
      await inParts(parts, ([one = 0]) => client.enqueue(options, one), { size: 1, atOnce: AT_ONCE });
      await client.destroy();
    },
    async work(purpose) {
      if (purpose === "drain") await DBOS.registerQueue(QUEUE, { minPollingIntervalMs: 10 });
      return () => Promise.resolve();
    },
    execute: async (count) => await (await DBOS.startWorkflow(steps)(count)).getResult(),
    left: "select 1 from dbos.workflow_status where status in ('ENQUEUED', 'PENDING') limit 1",
    recorded: "select count(*) from dbos.operation_outputs where function_name like 'step %'",
    close: () => DBOS.shutdown(),
  };
}
