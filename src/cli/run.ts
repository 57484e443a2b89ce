/** `pgqrs worker run`: any program works a queue. */
import { hostname } from "node:os";
import { job, type Store } from "../../mod.ts";
import { type Command, counted, did, given, pausedNote, UsageError } from "./command.ts";
import { checkPrograms, openPrograms } from "./program.ts";

const TIMEOUT_MS = 900_000;
/** The longest that a timer can keep. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;
/** How long a worker that has nothing to store waits for its database when it is to stop. */
const LEAVE_MS = 2_000;

export const runCommand: Command = {
  usage: "worker run <queue>",
  about: "Handle the messages of a queue with a program",
  example: `worker run tasks --exec './handle.sh' --concurrency 4`,
  flags: [
    {
      name: "exec",
      letter: "e",
      type: "text",
      about: "A command of the shell: the payload on stdin, what it prints is the result, exit code 0 is success",
    },
    { name: "concurrency", type: "integer", about: "How many of it may run at once (1)" },
    { name: "job-timeout", type: "duration", about: "After how long one is stopped and its attempt has failed (15m)" },
    { name: "dead-on", type: "text", about: "Exit codes after which no other attempt is made, such as 65,78" },
    { name: "lease", type: "duration", about: "For how long messages are leased; renewed meanwhile (30s)" },
    { name: "grace", type: "duration", about: "How long programs may go on when the worker is to stop (30s)" },
    { name: "name", type: "text", about: "The name of the worker (pgqrs@ and the name of the host)" },
    { name: "drain", type: "boolean", about: "End when nothing is left that is due" },
  ],
  endsItself: true,
  isService: true,
  async run(store, { args: { queue = "" }, flags }, shell) {
    const { exec, concurrency = 1, grace, lease, name } = flags as Record<string, never> & { exec?: string };
    if (exec === undefined) throw new UsageError("worker run needs --exec and a command");
    const timeoutMs = flags["job-timeout"] as number ?? TIMEOUT_MS;
    if (timeoutMs < 1 || timeoutMs > LONGEST_TIMEOUT_MS) throw new UsageError("--job-timeout is from 1ms to 24d");
    const deadOn = codesOf(flags["dead-on"] as string | undefined);
    // A worker of the library waits for its database and makes its queue. Here a person has typed both.
    const { pausedAt } = await store.admin.queues.get(queue, { signal: shell.signal });
    if (pausedAt !== null) shell.log.warn(pausedNote(queue));
    await checkPrograms();
    const { echo, log } = shell;
    const programs = openPrograms(exec, { concurrency, timeoutMs, deadOn, echo, warn: (text) => log.warn(text) });
    // The time is kept here: for the library a handler has ended as soon as it takes too long, and a program has not.
    const handled = job(queue, programs.handle, given({ concurrency, leaseMs: lease, timeoutMs: null }));
    const worker = store.worker([handled], {
      name: name ?? `pgqrs@${hostname()}`.slice(0, 100),
      ...given({ stopTimeoutMs: grace }),
    });
    const isDraining = flags.drain === true;
    const isFree = watch(store);
    const { signal } = shell;
    try {
      await Promise.race([isDraining ? worker.drain({ signal }) : worker.run({ signal }), leave(signal, isFree)]);
    } finally {
      await programs.end();
    }
    const { completed, failed, dead } = worker.health();
    const done = { data: { queue, completed, failed, dead }, note: summaryOf(completed, failed, dead) };
    return isDraining ? done : did(done.note, done.data);
  },
};

/** Tells whether no message is in the hands of a program, and of all that were it is stored what has become of them. */
function watch(store: Store): () => boolean {
  const open = new Set<number>();
  store.on("started", ({ message }) => void open.add(message.id));
  for (const name of ["completed", "failed", "lost", "cancelled"] as const) {
    store.on(name, ({ message }) => void open.delete(message.id));
  }
  return () => open.size === 0;
}

/** Resolves when a worker that is to stop and has nothing to store has waited for its database long enough. */
function leave(signal: AbortSignal, isFree: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const wait = (): void => {
      if (isFree()) setTimeout(resolve, LEAVE_MS).unref?.();
    };
    if (signal.aborted) wait();
    signal.addEventListener("abort", wait, { once: true });
  });
}

function summaryOf(completed: number, failed: number, dead: number): string {
  return `Handled ${counted(completed, "message")}; ${counted(failed, "attempt")} failed, ${
    counted(dead, "dead letter")
  }`;
}

function codesOf(text: string | undefined): ReadonlySet<number> {
  const codes = text?.split(",").map((code) => /^\d{1,3}$/.test(code.trim()) ? Number(code) : 0) ?? [];
  if (codes.some((code) => code < 1 || code > 255)) {
    throw new UsageError("--dead-on is exit codes from 1 to 255, such as 65,78");
  }
  return new Set(codes);
}
