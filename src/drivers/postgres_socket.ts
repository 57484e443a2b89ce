/**
 * Opens a socket to a Postgres server, in TLS where the DSN asks for it.
 *
 * The client could do this by itself, but then a connection that never answers could not be disposed of (it never
 * rejects), a server that accepts and closes is asked again in a hot loop, and `verify-ca` is missing.
 */
import type { Socket } from "node:net";
import type { PostgresAddress } from "./postgres_address.ts";

const CANCEL_MS = 1_000;
const SSL_REQUEST = Uint8Array.of(0, 0, 0, 8, 4, 210, 22, 47);

/** Opens the socket or rejects within `timeoutMs`. */
export async function openSocket(address: PostgresAddress, timeoutMs: number, signal?: AbortSignal): Promise<Socket> {
  const { connect: connectTcp } = await import("node:net");
  const plain = address.host.startsWith("/")
    ? connectTcp({ path: `${address.host}/.s.PGSQL.${address.port}` })
    : connectTcp({ host: address.host, port: address.port });
  // A socket without a listener ends the process when it fails; whoever waits for it hears of it by rejection.
  plain.on("error", () => {});
  let current = plain;
  const giveUp = (): void => void current.destroy(new Error("Cannot connect: no answer in time"));
  const timer = setTimeout(giveUp, timeoutMs);
  signal?.addEventListener("abort", giveUp);
  try {
    await event(plain, "connect");
    plain.setNoDelay(true);
    if (address.sslMode === "disable" || address.sslMode === "allow" || address.host.startsWith("/")) return plain;
    if (!(await offersTls(plain))) {
      if (address.sslMode === "prefer") return plain;
      throw new TlsRefusedError(address.sslMode);
    }
    const { connect: connectTls } = await import("node:tls");
    current = connectTls({ socket: plain, ...(await tlsOptions(address)) });
    current.on("error", () => {});
    await event(current, "secureConnect");
    return current;
  } catch (error) {
    current.destroy();
    plain.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", giveUp);
  }
}

/** Asks the server to stop what the session does; nobody answers, and nothing depends on it. */
export async function requestCancel(address: PostgresAddress, pid: number, secret: number): Promise<void> {
  const socket = await openSocket(address, CANCEL_MS);
  // The server closes it; a server that is out of reach never does, and the process could not end.
  const timer = setTimeout(() => socket.destroy(), CANCEL_MS);
  socket.once("close", () => clearTimeout(timer));
  const request = new DataView(new ArrayBuffer(16));
  [16, 80877102, pid, secret].forEach((value, i) => request.setUint32(i * 4, value >>> 0));
  socket.end(new Uint8Array(request.buffer));
}

/** The server does not offer TLS although the DSN demands it. Trying again would not help. */
export class TlsRefusedError extends Error {
  constructor(mode: string) {
    super(`Cannot connect: the server does not offer TLS, which sslmode=${mode} demands`);
  }
}

/** The options of `node:tls` for a mode: a table of what is checked, and nothing is weakened in silence. */
export async function tlsOptions(
  { host, sslMode, sslRootCert }: Pick<PostgresAddress, "host" | "sslMode" | "sslRootCert">,
): Promise<Record<string, unknown>> {
  const { isIP } = await import("node:net");
  const servername = isIP(host) ? {} : { servername: host };
  const isGiven = sslRootCert !== undefined && sslRootCert !== "system";
  const ca = isGiven ? { ca: await (await import("node:fs/promises")).readFile(sslRootCert) } : {};
  if (sslMode === "verify-full") return { ...servername, ...ca, host, rejectUnauthorized: true };
  if (sslMode === "verify-ca") {
    return { ...servername, ...ca, host, rejectUnauthorized: true, checkServerIdentity: (): undefined => undefined };
  }
  return { ...servername, rejectUnauthorized: false };
}

async function offersTls(socket: Socket): Promise<boolean> {
  socket.write(SSL_REQUEST);
  const answer = await event(socket, "data") as Uint8Array;
  // Bytes after the answer would have been sent before encryption began: somebody in between put them there.
  if (answer.length !== 1) throw new Error("Cannot connect: the server sent data before TLS began");
  return answer[0] === 83;
}

function event(socket: Socket, name: "connect" | "data" | "secureConnect"): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const failed = (error?: Error): void =>
      settle(() => reject(error ?? new Error("Cannot connect: closed by the server")));
    const closed = (): void => failed();
    const happened = (value: unknown): void => settle(() => resolve(value));
    function settle(done: () => void): void {
      socket.off("error", failed).off("close", closed).off(name, happened);
      done();
    }
    socket.once("error", failed).once("close", closed).once(name, happened);
  });
}
