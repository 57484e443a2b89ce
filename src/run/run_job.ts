/** A workflow as a job: its handler executes one delivery of a run. */
import { encodeValue } from "../codec.ts";
import { revive } from "../codec_read.ts";
import type { Job, JobContext } from "../job.ts";
import { job } from "../job.ts";
import type { Backoff } from "../retry.ts";
import { DeliveryContext } from "../worker/context.ts";
import type { RunContext, Workflow } from "../workflow.ts";
import { Context } from "./context.ts";
import { Execution } from "./execution.ts";
import { startChild } from "./start.ts";

/** Makes the job that runs a workflow. */
export function runJob(workflow: Workflow): Job {
  const { concurrency, leaseMs, retry, timeoutMs = null } = workflow.options;
  const made = job(workflow.queue, (_, context) => execute(workflow, context), {
    timeoutMs,
    ...(concurrency !== undefined && { concurrency }),
    ...(leaseMs !== undefined && { leaseMs }),
    ...(retry !== undefined && { retry }),
  });
  const encodeResult = (value: unknown): string => encodeValue(value, { what: "result" });
  return Object.freeze({ ...made, encodeResult, isWorkflow: true });
}

async function execute(workflow: Workflow, context: JobContext): Promise<unknown> {
  const { delivery, host } = DeliveryContext.internalsOf(context);
  const { message, token } = delivery;
  const { retry, onChange = "strict" } = workflow.options;
  let isTold = false;
  const lease = {
    id: message.id,
    token,
    signal: context.signal,
    parking: () => {
      delivery.state = "settling";
    },
    onUnreached: (keys: readonly string[]) => {
      if (keys.length === 0 || onChange === "off") return undefined;
      if (onChange === "strict") return unreached(keys);
      const { logger } = host.database;
      if (!isTold) logger?.warn(`Run ${message.id} of workflow ${JSON.stringify(workflow.name)}: ${unreached(keys)}`);
      isTold = true;
      return undefined;
    },
  };
  // What was delivered for the first time has no history.
  const history = token > 1 ? await host.recorder.history(message.id, lease.signal) : [];
  const findQueue = () => host.database.queueNamed(message.queue, { isLetIn: true });
  const queue = await host.recorder.insist(lease.signal, findQueue);
  const execution = new Execution(host, lease, history);
  const run: RunContext = new Context({
    execution,
    workflow: workflow.name,
    attempt: context.attempt,
    policy: {
      maxAttempts: retry?.maxAttempts ?? queue.maxAttempts,
      backoff: retry?.backoff ?? queue.backoff as Backoff,
    },
    startChild: (child, input, step) =>
      startChild(
        { ...lease, database: host.database, recorder: host.recorder },
        child,
        input,
        step,
        execution.nextEnding(),
      ),
    progress: context.progress,
    now: host.database.target.clock ?? Date.now,
  });
  try {
    return await execution.run(() => workflow.run(run, revive(message.payload)));
  } catch (error) {
    delivery.isFinal = execution.isFinal(error);
    throw error;
  }
}

/** What is said of a run whose function does not reach everything that is recorded. */
function unreached(keys: readonly string[]): string {
  const more = keys.length > 1 ? ` and ${keys.length - 1} more were` : " was";
  return `step ${JSON.stringify(keys[0])}${more} recorded and ${keys.length > 1 ? "are" : "is"} not reached any more`;
}
