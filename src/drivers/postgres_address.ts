/** Reads a `postgres:` DSN: where to connect, as whom, and how the connection is secured. */
import { ConfigError } from "../errors.ts";

/** How a connection is secured; the names and meanings are those of libpq. */
export type SslMode = "allow" | "disable" | "prefer" | "require" | "verify-ca" | "verify-full";

/** What a DSN says. */
export interface PostgresAddress {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly applicationName: string;
  readonly sslMode: SslMode;
  /** The path of a file with the certificates of the authorities to trust; the system's are trusted without it. */
  readonly sslRootCert: string | undefined;
  /** Declared by `?pgbouncer=true` or `false`; otherwise found out. */
  readonly pooler: boolean | undefined;
}

const SSL_MODES: readonly string[] = ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"];
const KNOWN: readonly string[] = [
  "application_name",
  "host",
  "pgbouncer",
  "port",
  "ssl",
  "sslmode",
  "sslrootcert",
];

/** Reads the DSN. @throws {ConfigError} naming the part that cannot be used, never the DSN itself. */
export function parsePostgresDsn(dsn: string): PostgresAddress {
  const url = parseUrl(dsn);
  for (const name of url.searchParams.keys()) {
    if (!KNOWN.includes(name)) {
      assertNoPassword(url);
      throw new ConfigError(`Cannot use the Postgres DSN: unknown parameter "${name}"; known are ${KNOWN.join(", ")}`);
    }
  }
  const user = decode(url.username, "user");
  const database = decode(url.pathname.slice(1), "database");
  const sslRootCert = url.searchParams.get("sslrootcert") ?? undefined;
  return {
    host: url.searchParams.get("host") ?? (decode(url.hostname, "host").replace(/^\[(.*)\]$/, "$1") || "localhost"),
    port: portOf(url),
    database: database || user || "postgres",
    user: user || undefined,
    password: decode(url.password, "password") || undefined,
    applicationName: url.searchParams.get("application_name") ?? "pgqrs",
    sslMode: sslModeOf(url, sslRootCert),
    sslRootCert,
    pooler: booleanOf(url, "pgbouncer"),
  };
}

function parseUrl(dsn: string): URL {
  try {
    // A special scheme makes URL check host and port; an empty host is allowed for sockets given by `?host=`.
    return new URL(dsn.replace(/^postgres(ql)?:\/\/(?=\/|$)/, "postgres://localhost"));
  } catch {
    throw notUrl();
  }
}

/** A password with a bare "?" goes on behind what looks like the end of the host, where it must not be shown. */
function assertNoPassword(url: URL): void {
  if (url.search.includes("@")) throw notUrl();
}

function notUrl(): ConfigError {
  return new ConfigError(
    "Cannot use the Postgres DSN: it is not a URL; special characters in user and password have to be percent-encoded",
  );
}

function sslModeOf(url: URL, sslRootCert: string | undefined): SslMode {
  const mode = url.searchParams.get("sslmode") ?? (booleanOf(url, "ssl") ? "require" : "prefer");
  if (!SSL_MODES.includes(mode)) {
    assertNoPassword(url);
    throw new ConfigError(`Cannot use the Postgres DSN: sslmode "${mode}" is none of ${SSL_MODES.join(", ")}`);
  }
  // libpq: `require` with a root certificate verifies the chain, for the sake of those who gave one.
  return mode === "require" && sslRootCert !== undefined ? "verify-ca" : mode as SslMode;
}

function portOf(url: URL): number {
  const port = url.searchParams.get("port") ?? (url.port || "5432");
  if (/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535) return Number(port);
  throw new ConfigError("Cannot use the Postgres DSN: the port must be a whole number from 1 to 65535");
}

function booleanOf(url: URL, name: string): boolean | undefined {
  const value = url.searchParams.get(name);
  if (value === null) return undefined;
  if (value === "true" || value === "1") return true;
  if (value === "false" || value === "0") return false;
  throw new ConfigError(`Cannot use the Postgres DSN: ${name} must be true or false`);
}

function decode(value: string, what: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    throw new ConfigError(`Cannot use the Postgres DSN: the ${what} is not percent-encoded correctly`);
  }
}
