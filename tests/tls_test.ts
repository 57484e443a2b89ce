/** Every sslmode against every kind of server: connected in TLS, connected in plain text, or refused; never by guess. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { connect, DatabaseError } from "../mod.ts";
import { type Certificates, makeCertificates } from "./support/certificates.ts";
import { PostgresServer } from "./support/postgres_server.ts";

const probe = makeCertificates();
probe?.close();

type Verdict = "plain" | "refused" | "tls";
const SERVERS = ["plain", "right", "wrongHost", "untrusted", "tlsOnly"] as const;
type ServerName = typeof SERVERS[number];

/** What libpq does, except that `prefer` does not fall back to plain text when a handshake fails. */
const TABLE: [mode: string, rootCert: "none" | "right" | "wrong", verdicts: Record<ServerName, Verdict>][] = [
  ["disable", "none", { plain: "plain", right: "plain", wrongHost: "plain", untrusted: "plain", tlsOnly: "refused" }],
  ["allow", "none", { plain: "plain", right: "plain", wrongHost: "plain", untrusted: "plain", tlsOnly: "tls" }],
  ["", "none", { plain: "plain", right: "tls", wrongHost: "tls", untrusted: "tls", tlsOnly: "tls" }],
  ["prefer", "none", { plain: "plain", right: "tls", wrongHost: "tls", untrusted: "tls", tlsOnly: "tls" }],
  ["require", "none", { plain: "refused", right: "tls", wrongHost: "tls", untrusted: "tls", tlsOnly: "tls" }],
  ["require", "right", { plain: "refused", right: "tls", wrongHost: "tls", untrusted: "refused", tlsOnly: "tls" }],
  ["require", "wrong", {
    plain: "refused",
    right: "refused",
    wrongHost: "refused",
    untrusted: "tls",
    tlsOnly: "refused",
  }],
  ["verify-ca", "right", { plain: "refused", right: "tls", wrongHost: "tls", untrusted: "refused", tlsOnly: "tls" }],
  ["verify-ca", "none", {
    plain: "refused",
    right: "refused",
    wrongHost: "refused",
    untrusted: "refused",
    tlsOnly: "refused",
  }],
  ["verify-full", "right", {
    plain: "refused",
    right: "tls",
    wrongHost: "refused",
    untrusted: "refused",
    tlsOnly: "tls",
  }],
  ["verify-full", "wrong", {
    plain: "refused",
    right: "refused",
    wrongHost: "refused",
    untrusted: "tls",
    tlsOnly: "refused",
  }],
  ["verify-full", "none", {
    plain: "refused",
    right: "refused",
    wrongHost: "refused",
    untrusted: "refused",
    tlsOnly: "refused",
  }],
];

describe("sslmode and sslrootcert", { skip: probe === undefined ? "needs the openssl program" : false }, () => {
  let certificates: Certificates;
  const servers = new Map<ServerName, PostgresServer>();
  const files = new Map<"none" | "right" | "wrong", string>();

  before(async () => {
    certificates = makeCertificates() as Certificates;
    const { server, wrongHost, untrusted, authority } = certificates;
    const options = [{}, { tls: server }, { tls: wrongHost }, { tls: untrusted }, { tls: server, isTlsRequired: true }];
    for (const [i, name] of SERVERS.entries()) servers.set(name, await PostgresServer.open(options[i]));
    files.set("right", authority);
    files.set("wrong", authority.replace(/authority\.crt$/, "stranger.crt"));
  });

  after(async () => {
    for (const server of servers.values()) await server.close();
    certificates?.close();
  });

  async function verdictOf(dsn: string): Promise<Verdict> {
    await using store = await connect(dsn, { connectTimeoutMs: 3_000 });
    try {
      const rows = await store.transaction((tx) =>
        tx.query("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
      );
      return rows[0]?.ssl === true ? "tls" : "plain";
    } catch (error) {
      assert(error instanceof DatabaseError, String(error));
      assertEquals(error.outcome, "not_applied");
      return "refused";
    }
  }

  function dsnOf(name: ServerName, mode: string, rootCert: "none" | "right" | "wrong", host = "localhost"): string {
    const url = new URL((servers.get(name) as PostgresServer).dsn());
    url.hostname = host;
    if (mode !== "") url.searchParams.set("sslmode", mode);
    const file = files.get(rootCert);
    if (file !== undefined) url.searchParams.set("sslrootcert", file);
    return url.href;
  }

  for (const [mode, rootCert, verdicts] of TABLE) {
    test(`sslmode=${mode || "(none)"} with ${rootCert === "none" ? "no" : `the ${rootCert}`} root certificate`, async () => {
      const begin = performance.now();
      const measured: Record<string, Verdict> = {};
      for (const name of SERVERS) measured[name] = await verdictOf(dsnOf(name, mode, rootCert));
      assertEquals(measured, verdicts);
      // A certificate that is refused is not asked for again until the time for connecting is over.
      assert(performance.now() - begin < 3_000, "what cannot succeed was tried again and again");
    });
  }

  test("verify-full accepts an address that the certificate names, and refuses it for another host", async () => {
    assertEquals(await verdictOf(dsnOf("right", "verify-full", "right", "127.0.0.1")), "tls");
    assertEquals(await verdictOf(dsnOf("wrongHost", "verify-full", "right", "127.0.0.1")), "refused");
  });

  test("a root certificate that cannot be read is an error at once", async () => {
    const dsn = dsnOf("right", "verify-full", "none") + "&sslrootcert=/nowhere/root.crt";
    await using store = await connect(dsn, { connectTimeoutMs: 10_000 });
    const begin = performance.now();
    const error = await assertRejects(() => store.ping(), DatabaseError);
    assertEquals(error.outcome, "not_applied");
    assert(performance.now() - begin < 5_000);
  });
});
