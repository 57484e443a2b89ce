/**
 * A TCP proxy that breaks connections on purpose.
 *
 * @module
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** What happens to traffic: all well, nothing arrives but nothing closes, or each new connection is closed at once. */
type Mode = "pass" | "freeze" | "refuse";

/** Stands between a client and a server. */
export class TcpProxy {
  /** The port of 127.0.0.1 on which the proxy listens. */
  readonly port: number;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #mode: Mode = "pass";
  #delayMs = 0;
  #bytesLeft = Infinity;
  #connectCount = 0;

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  /** Starts a proxy in front of a port. */
  static async open(targetPort: number, targetHost = "127.0.0.1"): Promise<TcpProxy> {
    const server = createServer({ allowHalfOpen: true });
    await new Promise<void>((done, fail) => {
      server.once("error", fail);
      server.listen(0, "127.0.0.1", done);
    });
    const proxy = new TcpProxy(server);
    server.on("connection", (client) => proxy.#accept(client, targetPort, targetHost));
    return proxy;
  }

  /** How many connections clients made, refused ones included. */
  get connectCount(): number {
    return this.#connectCount;
  }

  /** How many connections are open. */
  get openCount(): number {
    return this.#pairs.size;
  }

  /** The same DSN or address, but by way of this proxy. */
  through(dsn: string): string {
    const url = new URL(dsn);
    url.hostname = "127.0.0.1";
    url.port = String(this.port);
    return url.href;
  }

  /** Resets every open connection; new ones work. */
  cut(): void {
    for (const pair of this.#pairs) pair.destroy();
  }

  /**
   * Swallows everything in both directions and closes nothing, as a network does that lost its route.
   *
   * New connections are accepted and swallowed too. Bytes are lost for good, so `pass()` cuts what was frozen.
   */
  freeze(): void {
    this.#mode = "freeze";
    for (const pair of this.#pairs) pair.isFrozen = true;
  }

  /** Delivers each chunk so much later, in order, in both directions. */
  delay(ms: number): void {
    this.#delayMs = ms;
  }

  /** Lets so many more bytes from the server through, over all connections, and then cuts: a torn answer. */
  truncate(bytes: number): void {
    this.#bytesLeft = bytes;
  }

  /** Closes every new connection at once, as a balancer without backends does; open ones are cut. */
  refuse(): void {
    this.#mode = "refuse";
    this.cut();
  }

  /** Ends every fault. */
  pass(): void {
    this.#mode = "pass";
    this.#delayMs = 0;
    this.#bytesLeft = Infinity;
    for (const pair of this.#pairs) {
      if (pair.isFrozen) pair.destroy();
    }
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((done) => this.#server.close(() => done()));
    this.cut();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #accept(client: Socket, port: number, host: string): void {
    this.#connectCount++;
    client.on("error", () => client.destroy());
    if (this.#mode === "refuse") return void client.destroy();
    const target = connect({ port, host, allowHalfOpen: true });
    const pair = new Pair(client, target, this.#mode === "freeze");
    this.#pairs.add(pair);
    client.on("close", () => {
      this.#pairs.delete(pair);
      pair.destroy();
    });
    target.on("close", () => pair.isFrozen || pair.destroy());
    target.on("error", () => pair.isFrozen || pair.destroy());
    client.on("data", (chunk: Uint8Array) => this.#forward(pair, target, chunk));
    target.on("data", (chunk: Uint8Array) => this.#answer(pair, chunk));
    client.on("end", () => this.#afterDelay(pair, () => target.end()));
    target.on("end", () => this.#afterDelay(pair, () => client.end()));
  }

  #answer(pair: Pair, chunk: Uint8Array): void {
    if (pair.isFrozen) return;
    const allowed = chunk.subarray(0, Math.min(chunk.length, this.#bytesLeft));
    this.#bytesLeft -= allowed.length;
    if (allowed.length === chunk.length) return this.#forward(pair, pair.client, chunk);
    this.#bytesLeft = Infinity;
    // An orderly end, because a reset could overtake the bytes before it.
    this.#afterDelay(pair, () => {
      pair.isFrozen = true;
      pair.client.end(allowed, () => pair.destroy());
    });
  }

  #forward(pair: Pair, to: Socket, chunk: Uint8Array): void {
    this.#afterDelay(pair, () => {
      if (to.writable) to.write(chunk);
    });
  }

  #afterDelay(pair: Pair, run: () => void): void {
    if (!pair.isFrozen) pair.later(this.#delayMs, () => pair.isFrozen || run());
  }
}

/** The two halves of one connection. */
class Pair {
  readonly client: Socket;
  readonly target: Socket;
  isFrozen: boolean;
  readonly #line: { readonly at: number; readonly run: () => void }[] = [];

  constructor(client: Socket, target: Socket, isFrozen: boolean) {
    this.client = client;
    this.target = target;
    this.isFrozen = isFrozen;
  }

  /** Runs now or later, and never before what came before it: what is not delayed any more overtakes nothing. */
  later(delayMs: number, run: () => void): void {
    if (delayMs === 0 && this.#line.length === 0) return run();
    const now = performance.now();
    this.#line.push({ at: Math.max(now + delayMs, this.#line.at(-1)?.at ?? 0), run });
    if (this.#line.length === 1) this.#wait(now);
  }

  #wait(now: number): void {
    const [first] = this.#line;
    if (first !== undefined) setTimeout(() => this.#runDue(), Math.ceil(first.at - now));
  }

  #runDue(): void {
    const now = performance.now();
    while (this.#line[0] !== undefined && this.#line[0].at <= now) {
      const { run } = this.#line[0];
      run();
      this.#line.shift();
    }
    this.#wait(now);
  }

  destroy(): void {
    this.client.destroy();
    this.target.destroy();
  }
}

/** Starts a proxy in front of the server of a DSN. */
export function startProxy(dsn: string): Promise<TcpProxy> {
  const { hostname, port } = new URL(dsn);
  return TcpProxy.open(Number(port), hostname);
}
