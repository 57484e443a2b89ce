/** The workflows of the library itself. */
import { connect, workflow } from "@pgqrs/pgqrs";
import { WORKFLOW } from "../job.ts";
import { type Engine, type EngineOptions, stepValue } from "./engine.ts";

/** How many calls that enqueue are under way at once: they travel together. */
const AT_ONCE = 500;

/** Opens the library as a user has it. */
export async function open({ dsn, concurrency, onBegin, onReturn }: EngineOptions): Promise<Engine> {
  const store = await connect(dsn);
  const steps = workflow(WORKFLOW, async (run, count: number) => {
    onBegin();
    for (let i = 0; i < count; i++) await run.step(`step ${i}`, () => stepValue(i));
    onReturn();
    return count;
  }, { concurrency });
  return {
    async install() {
      await store.admin.install();
      await store.admin.createQueue(WORKFLOW, { ifMissing: true });
    },
    async enqueueMany(runs, count) {
      for (let next = 0; next < runs; next += AT_ONCE) {
        const part = Math.min(AT_ONCE, runs - next);
        await Promise.all(Array.from({ length: part }, () => store.start(steps, count)));
      }
    },
    work() {
      const stop = new AbortController();
      const ended = store.worker([steps]).run({ signal: stop.signal });
      // A worker that cannot even begin rejects; nobody waits for it before it is stopped.
      ended.catch((error) => console.error(error));
      return Promise.resolve(async () => {
        stop.abort();
        await ended;
      });
    },
    execute: async (count) => await (await store.start(steps, count)).result(),
    left: "select 1 from pgqrs_messages limit 1",
    recorded: "select count(*) from pgqrs_steps where state = 'succeeded'",
    close: () => store.close(),
  };
}
