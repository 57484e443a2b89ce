/**
 * A worker with two jobs: `deno run -A examples/worker.ts [dsn]`.
 *
 * Ctrl-C stops it: what has begun comes to its end, what has not is given back for others. Ctrl-C again ends it at once,
 * and what was under way is delivered again when its lease has run out.
 *
 * @module
 */
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import {
  connect,
  job,
  type Message,
  NonRetryableError,
  queue,
  RetryError,
  type Store,
  type Worker,
} from "@pgqrs/pgqrs";

const mails = queue<{ to: string }>("mails");
const reports = queue<{ pages: number }>("reports");

// Tried again after a pause, three times at most; at once a dead letter where that makes no sense.
const sendMail = job(mails, ({ payload: { to } }, { attempt }) => {
  if (!to.includes("@")) throw new NonRetryableError(`"${to}" is no address`);
  if (to.startsWith("busy") && attempt === 1) throw new RetryError("The mailbox is busy", { afterMs: 200 });
  console.log(`Mail to ${to}, attempt ${attempt}`);
}, {
  concurrency: 5,
  retry: { maxAttempts: 3, backoff: { kind: "exponential", baseMs: 1_000, maxMs: 60_000 } },
  onDead: ({ id }, error) => console.log(`Message ${id} is a dead letter: ${(error as Error).message}`),
});

// Takes its time, tells how far it is, and notices when its result is of no use any more.
const writeReport = job(reports, async ({ payload: { pages } }, { progress, signal }) => {
  console.log(`A report of ${pages} pages begins`);
  for (let page = 1; page <= pages; page++) {
    await pause(50, undefined, { signal });
    await progress({ page, pages });
  }
  return { pages, title: "All quiet" };
}, { concurrency: 1, timeoutMs: 60_000 });

if (import.meta.main) await main(process.argv[2] ?? "sqlite::memory:");

async function main(dsn: string): Promise<void> {
  await using store = await connect(dsn);
  await store.admin.install();
  for (const { name } of [mails, reports]) await store.admin.createQueue(name, { ifMissing: true });
  store.on("failed", ({ message, retryAfterMs }) => {
    if (retryAfterMs !== null) console.log(`Message ${message.id} is tried again in ${retryAfterMs} ms`);
  });

  // Anybody may enqueue and wait for results: another process, another machine.
  await store.producer(mails).enqueueMany(["ada@example.com", "busy@example.com", "nobody"].map((to) => ({ to })));
  const report = await store.producer(reports).enqueue({ pages: 20 });

  const watching = watch(store, report);
  await work(store.worker([sendMail, writeReport], { name: `worker-${process.pid}`, stopTimeoutMs: 10_000 }));
  await store.close();
  await watching;
  console.log("Stopped");
}

/** Works until a signal comes. */
async function work(worker: Worker): Promise<void> {
  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(130);
    console.log("Stopping, once more to leave at once");
    stop.abort();
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  try {
    await worker.run({ signal: stop.signal });
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

/** Tells how far a message has come, and what came of it. */
async function watch(store: Store, message: Message<unknown>): Promise<void> {
  const timer = setInterval(async () => {
    const done = await store.progress<{ page: number; pages: number }>(message).catch(() => null);
    if (done !== null) console.log(`Page ${done.page} of ${done.pages}`);
  }, 250);
  try {
    const { title, pages } = await store.result<{ title: string; pages: number }>(message);
    console.log(`The report "${title}" has ${pages} pages. Ctrl-C ends the worker.`);
  } catch (error) {
    console.log(`No report: ${(error as Error).message}`);
  } finally {
    clearInterval(timer);
  }
}
