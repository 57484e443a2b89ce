/**
 * PgBouncer for tests, in transaction mode.
 *
 * It comes from the Debian package of that name; there is none on npm, so tests that need it skip themselves where the
 * program is absent.
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, giveToServer, serverUser } from "./postgres_server.ts";
import { guard, unref } from "./watchdog.ts";

/** A running pooler. */
export interface PgBouncer {
  /** The same database by way of the pooler. */
  readonly dsn: string;
  readonly port: number;
  /** As in `1.18.0`. */
  readonly version: string;
  close(): Promise<void>;
}

/** What tests print when they skip for want of the program. */
export const NO_PGBOUNCER = "needs the pgbouncer program: apt-get install pgbouncer";

const PROGRAMS = ["/usr/sbin/pgbouncer", "pgbouncer", "/opt/homebrew/bin/pgbouncer"];

/** The version of the installed program, or `undefined` without one. */
export function pgBouncerVersion(): string | undefined {
  return installed()?.version;
}

/**
 * Starts a pooler in front of a database.
 *
 * @param dsn names the database and a user who needs no password.
 * @param settings are added to the `[pgbouncer]` section.
 * @returns `undefined` when the program is not installed.
 */
export async function startPgBouncer(
  dsn: string,
  settings: Readonly<Record<string, string | number>> = {},
): Promise<PgBouncer | undefined> {
  const found = installed();
  if (found === undefined) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-pgbouncer-"));
  const watchdog = guard(folder, join(folder, "pgbouncer.pid"));
  const port = await freePort();
  const configuration = writeConfiguration(folder, port, new URL(dsn), settings);
  const child = spawn(found.program, [configuration], {
    ...serverUser(),
    cwd: folder,
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (chunk) => log = (log + chunk).slice(-65_536));
  const exited = new Promise<string>((done) => {
    child.once("error", (error) => done(error.message));
    child.once("exit", (code, signal) => done(`exit ${code ?? signal}`));
  });
  const close = async () => {
    child.ref();
    child.kill("SIGKILL");
    await exited;
    rmSync(folder, { recursive: true, force: true });
    watchdog.dismiss();
  };
  const failure = await Promise.race([exited, accepts(port)]);
  if (failure !== undefined) {
    await close();
    throw new Error(`PgBouncer did not start (${failure}): ${log}`);
  }
  child.unref();
  unref(child.stderr);
  const pooled = new URL(dsn);
  pooled.hostname = "127.0.0.1";
  pooled.port = String(port);
  return { dsn: pooled.href, port, version: found.version, close };
}

function installed(): { program: string; version: string } | undefined {
  for (const program of PROGRAMS) {
    const result = spawnSync(program, ["--version"], { encoding: "utf8" });
    const version = /PgBouncer (\S+)/.exec(result.stdout ?? "")?.[1];
    if (version !== undefined) return { program, version };
  }
  return undefined;
}

function writeConfiguration(
  folder: string,
  port: number,
  target: URL,
  settings: Readonly<Record<string, string | number>>,
): string {
  const all = {
    listen_addr: "127.0.0.1",
    listen_port: port,
    unix_socket_dir: "",
    auth_type: "trust",
    auth_file: join(folder, "users.txt"),
    pidfile: join(folder, "pgbouncer.pid"),
    pool_mode: "transaction",
    default_pool_size: 5,
    max_client_conn: 500,
    ...settings,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${value}`);
  const databases = `[databases]\n* = host=${target.hostname} port=${target.port}`;
  const file = join(folder, "pgbouncer.ini");
  writeFileSync(join(folder, "users.txt"), `"${decodeURIComponent(target.username)}" ""\n`);
  writeFileSync(file, `${databases}\n\n[pgbouncer]\n${lines.join("\n")}\n`);
  for (const path of [join(folder, "users.txt"), file, folder]) giveToServer(path);
  return file;
}

/** Resolves once the port takes connections; gives up after ten seconds. */
async function accepts(port: number): Promise<string | undefined> {
  for (const deadline = Date.now() + 10_000; Date.now() < deadline;) {
    const isOpen = await new Promise<boolean>((done) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => {
        socket.destroy();
        done(true);
      });
      socket.once("error", () => done(false));
    });
    if (isOpen) return undefined;
    await new Promise((done) => setTimeout(done, 20));
  }
  return "no answer";
}
