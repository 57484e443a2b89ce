/** Starts the processes that use a queue, and asks them to do things. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { EngineRequest } from "./peers/engine_protocol.ts";
import { ANSWER, HANDLED, type Request, type Took } from "./peers/protocol.ts";

const AGENT = fileURLToPath(new URL("./peers/agent.ts", import.meta.url));
/** What lets Node find the stand-ins of the standard library. */
export const HOOKS = new URL("../dev/node-hooks.mjs", import.meta.url).href;

/** How long anything may take. */
const LONGEST_MS = 600_000;

/** Installs the packages of bench/peers, which nothing else needs. */
export function installPeers(): void {
  const cwd = fileURLToPath(new URL("./peers/", import.meta.url));
  const { dependencies } = JSON.parse(readFileSync(`${cwd}package.json`, "utf8"));
  if (Object.keys(dependencies).every((name) => existsSync(`${cwd}node_modules/${name}`))) return;
  // Not `ci`: which packages for other platforms there are depends on the registry, and the lock need not name them.
  const args = ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const { status } = spawnSync("npm", args, { cwd, stdio: "inherit" });
  if (status !== 0) throw new Error("Cannot install the packages of bench/peers");
}

/** The program of Node 26, the runtime on which all are measured, and its version. */
export function findNode(): { readonly path: string; readonly version: string } {
  const print = "process.execPath + ' ' + process.versions.node";
  const args = ["-y", "--loglevel=error", "node@26", "-p", print];
  const { stdout, stderr } = spawnSync("npx", args, { encoding: "utf8" });
  const [path, version] = String(stdout).trim().split(" ");
  if (!path || !version) throw new Error(`Cannot find Node 26: ${stderr}`);
  return { path, version };
}

/** What to start. */
export interface AgentOptions {
  readonly node: string;
  readonly name: string;
  readonly dsn: string;
  /** Set up for latency instead of throughput. */
  readonly isForLatency?: boolean;
  /** The program, and what it is told beside name and DSN. @default that which uses a queue */
  readonly program?: string;
  readonly words?: readonly string[];
  /** Words for Node, such as `--cpu-prof`. */
  readonly flags?: readonly string[];
}

/** A process that uses a queue, or an engine of workflows. */
export class Agent {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  /** How many jobs the drain under way has handled, and who is told when that changes. */
  handled = 0;
  onHandled = (): void => {};
  #settle: { resolve(took: unknown): void; reject(error: Error): void } | undefined;
  #errors = "";

  constructor(options: AgentOptions) {
    const { node, name, dsn, isForLatency = false, flags = [], program = AGENT, words = [] } = options;
    this.name = name;
    const args = [...flags, "--no-warnings", "--import", HOOKS, program, name, dsn, ...words];
    const child = spawn(node, isForLatency ? [...args, "latency"] : args, { stdio: ["pipe", "pipe", "pipe"] });
    this.#child = child;
    child.stdin.on("error", () => {});
    child.stderr.on("data", (chunk) => this.#errors = (this.#errors + chunk).slice(-8_192));
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line.startsWith(ANSWER)) this.#settle?.resolve(JSON.parse(line.slice(ANSWER.length)));
      else if (line.startsWith(HANDLED)) {
        this.handled = Number(line.slice(HANDLED.length));
        this.onHandled();
      }
    });
    this.#exited = new Promise((done) =>
      child.once("close", () => {
        this.#settle?.reject(new Error(`The process of ${name} ended: ${this.#errors}`));
        done();
      })
    );
  }

  /** Asks for something; one thing at a time. */
  ask<T = Took>(request: EngineRequest | Request): Promise<T> {
    // A queue that has lost a job would be waited for without end.
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), LONGEST_MS);
    return new Promise<T>((resolve, reject) => {
      this.#settle = { resolve: resolve as (took: unknown) => void, reject };
      if (this.#child.exitCode !== null) reject(new Error(`The process of ${this.name} ended: ${this.#errors}`));
      this.#write(request);
    }).finally(() => clearTimeout(timer));
  }

  /** Lets all drain a queue of so many jobs together. */
  static drain(agents: readonly Agent[], jobs: number): Promise<Took[]> {
    for (const agent of agents) {
      agent.handled = 0;
      agent.onHandled = () => {
        const handled = agents.reduce((sum, one) => sum + one.handled, 0);
        if (handled >= jobs) { for (const one of agents) one.#write({ do: "finish" }); }
      };
    }
    return Promise.all(agents.map((agent) => agent.ask({ do: "drain" })));
  }

  #write(request: EngineRequest | Request): void {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
  }

  /** Ends the process, by force if need be: some queues take long to stop. */
  async close(): Promise<void> {
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 5_000);
    await this.#exited;
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
