/**
 * The `pgqrs` command: installs, and administers queues and messages. `pgqrs --help` lists what it can do.
 *
 * ```sh
 * export PGQRS_DSN=sqlite:jobs.db
 * pgqrs install
 * pgqrs queue create tasks
 * pgqrs message send tasks '{"task": "send_email"}'
 * ```
 *
 * @module
 */
import process from "node:process";
import { type Io, main } from "./src/cli/main.ts";

export { type Io, main };

if (import.meta.main) {
  process.exitCode = await main(process.argv.slice(2), {
    out: (text) => process.stdout.write(text),
    err: (text) => process.stderr.write(text),
  });
}
