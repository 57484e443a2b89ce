/**
 * Certificates for TLS tests, made by the `openssl` program.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Paths of a certificate and its private key. */
export interface Certificate {
  readonly certificate: string;
  readonly key: string;
}

/** An authority and what it signed. */
export interface Certificates {
  /** Path of the authority's certificate: what a client must trust. */
  readonly authority: string;
  /** Valid for `127.0.0.1` and `localhost`. */
  readonly server: Certificate;
  /** Signed by the same authority, but for the host `elsewhere.test`. */
  readonly wrongHost: Certificate;
  /** Valid for the right host, but signed by an authority that nobody trusts. */
  readonly untrusted: Certificate;
  /** Removes the files. */
  close(): void;
}

/** Makes the certificates; `undefined` when there is no `openssl`, and the test skips itself. */
export function makeCertificates(): Certificates | undefined {
  if (spawnSync("openssl", ["version"]).status !== 0) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-tls-"));
  const authority = makeAuthority(folder, "authority");
  const stranger = makeAuthority(folder, "stranger");
  const here = "IP:127.0.0.1,DNS:localhost";
  return {
    authority: authority.certificate,
    server: sign(folder, "server", here, authority),
    wrongHost: sign(folder, "wrong-host", "DNS:elsewhere.test", authority),
    untrusted: sign(folder, "untrusted", here, stranger),
    close: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function makeAuthority(folder: string, name: string): Certificate {
  const made = pathsOf(folder, name);
  const extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
  openssl([
    "req",
    "-x509",
    ...newKey(made.key),
    "-subj",
    `/CN=${name}`,
    "-days",
    "2",
    ...extensions,
    "-out",
    made.certificate,
  ]);
  return made;
}

function sign(folder: string, name: string, hosts: string, authority: Certificate): Certificate {
  const made = pathsOf(folder, name);
  const request = join(folder, `${name}.csr`);
  const extensions = join(folder, `${name}.ext`);
  writeFileSync(extensions, `subjectAltName=${hosts}\nextendedKeyUsage=serverAuth\n`);
  openssl(["req", ...newKey(made.key), "-subj", `/CN=${name}`, "-out", request]);
  const signer = ["-CA", authority.certificate, "-CAkey", authority.key, "-CAcreateserial", "-days", "2"];
  openssl(["x509", "-req", "-in", request, ...signer, "-extfile", extensions, "-out", made.certificate]);
  return made;
}

/** An elliptic key, because an RSA one takes up to a second. */
function newKey(path: string): string[] {
  return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", path];
}

function pathsOf(folder: string, name: string): Certificate {
  return { certificate: join(folder, `${name}.crt`), key: join(folder, `${name}.key`) };
}

function openssl(args: string[]): void {
  const result = spawnSync("openssl", args, { encoding: "utf8" });
  if (result.status !== 0) throw new Error(`openssl ${args[0]} failed: ${result.error ?? result.stderr}`);
}
