/** `pgqrs worker run`: any program works a queue. */
import { hostname } from "node:os";
import { job } from "../../mod.ts";
import { type Command, counted, given, UsageError } from "./command.ts";
import { checkPrograms, openProgram } from "./program.ts";

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
    // A worker of the library waits for its database and makes its queue. Here a person has typed both.
    await store.admin.queues.get(queue, { signal: shell.signal });
    await checkPrograms();
    const program = openProgram(exec, { deadOn: codesOf(flags["dead-on"] as string | undefined), echo: shell.echo });
    const handled = job(
      queue,
      program,
      given({ concurrency, leaseMs: lease, timeoutMs: flags["job-timeout"] as number }),
    );
    const worker = store.worker([handled], {
      name: name ?? `pgqrs@${hostname()}`.slice(0, 100),
      ...given({ stopTimeoutMs: grace }),
    });
    if (flags.drain !== true) {
      await worker.run({ signal: shell.signal });
      const { completed, failed, dead } = worker.health();
      return { note: summaryOf(completed, failed, dead) };
    }
    const { completed, failed, dead } = await worker.drain({ signal: shell.signal });
    return { data: { queue, completed, failed, dead }, note: summaryOf(completed, failed, dead) };
  },
};

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
