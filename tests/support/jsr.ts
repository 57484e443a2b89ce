/**
 * A package registry for tests: as much of JSR as `deno publish` and the resolution of `jsr:` ask for.
 *
 * It keeps what was published in memory, takes every token, checks nothing and rewrites nothing.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";

/** What was published as one version of a package. */
export interface Published {
  /** With the scope, as in `@scope/name`. */
  readonly name: string;
  readonly version: string;
  readonly exports: Readonly<Record<string, string>>;
  /** By path in the package, as in `/mod.ts`. */
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** A running registry. */
export interface JsrServer {
  /** What `JSR_URL` has to say. */
  readonly url: string;
  /** What was published, in this order. */
  readonly published: readonly Published[];
  close(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly body: string | Uint8Array;
}

const BLOCK = 512;
const NOT_FOUND: Answer = { status: 404, body: '{"code":"notFound","message":"Not found"}' };
const POST = /^\/api\/scopes\/([^/]+)\/packages\/([^/]+)\/versions\/([^/]+)$/;
const ABOUT = /^\/api\/scopes\/([^/]+)\/packages\/([^/]+)$/;
const META = /^\/(@[^/]+\/[^/]+)\/meta\.json$/;
const VERSION_META = /^\/(@[^/]+\/[^/]+)\/([^/]+)_meta\.json$/;
const FILE = /^\/(@[^/]+\/[^/]+)\/([^/]+)(\/.+)$/;

/** Starts an empty registry. */
export async function startJsr(): Promise<JsrServer> {
  const published: Published[] = [];
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://localhost");
    const body = await bytesOf(request);
    const { status, body: answer } = request.method === "POST" ? take(published, url, body) : find(published, url);
    response.writeHead(status, {
      "content-type": typeof answer === "string" ? "application/json" : "text/typescript",
    });
    response.end(answer);
  });
  const port = await listen(server);
  return {
    url: `http://127.0.0.1:${port}/`,
    published,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

/** The files of a tar archive by path; folders and other entries are passed over. */
export function readTar(tar: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  let longPath: string | undefined;
  for (let offset = 0; offset + BLOCK <= tar.length && tar[offset] !== 0;) {
    const field = (start: number, length: number) => textOf(tar.subarray(offset + start, offset + start + length));
    const size = parseInt(field(124, 12), 8);
    const content = tar.slice(offset + BLOCK, offset + BLOCK + size);
    const kind = field(156, 1);
    const prefix = field(257, 5) === "ustar" ? field(345, 155) : "";
    const path = longPath ?? (prefix === "" ? field(0, 100) : `${prefix}/${field(0, 100)}`);
    // A path of more than a hundred bytes is the content of an entry of its own before the file.
    longPath = kind === "L" ? textOf(content) : undefined;
    if (kind === "0" || kind === "") files.set(path.replace(/^(\.?\/)?/, "/"), content);
    offset += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return files;
}

/** Takes a version that is published. */
function take(published: Published[], { pathname, searchParams }: URL, body: Uint8Array): Answer {
  const [, scope, name, version] = POST.exec(pathname) ?? [];
  if (version === undefined) return NOT_FOUND;
  const files = readTar(gunzipSync(body));
  const config = files.get(searchParams.get("config") ?? "/deno.json");
  const { exports } = JSON.parse(config === undefined ? "{}" : textOf(config)) as {
    exports: string | Record<string, string>;
  };
  published.push({
    name: `@${scope}/${name}`,
    version,
    exports: typeof exports === "string" ? { ".": exports } : exports,
    files,
  });
  return json({ id: "1", status: "success", error: null });
}

/** Answers a question about a package, or gives a file of one. */
function find(published: readonly Published[], { pathname }: URL): Answer {
  const [, scope, name] = ABOUT.exec(pathname) ?? [];
  if (name !== undefined) return json({ scope, name, description: "", runtimeCompat: {} });
  const [, ofAll] = META.exec(pathname) ?? [];
  if (ofAll !== undefined) return metaOf(published.filter((each) => each.name === ofAll));
  const [, ofOne, versionOfOne] = VERSION_META.exec(pathname) ?? [];
  const [, owner, version, path] = FILE.exec(pathname) ?? [];
  const found = published.find((each) => each.name === (ofOne ?? owner) && each.version === (versionOfOne ?? version));
  if (found === undefined) return NOT_FOUND;
  if (ofOne !== undefined) return versionMetaOf(found);
  const content = found.files.get(path ?? "");
  return content === undefined ? NOT_FOUND : { status: 200, body: content };
}

function metaOf(versions: readonly Published[]): Answer {
  const latest = versions.at(-1);
  if (latest === undefined) return NOT_FOUND;
  const [scope = "", name] = latest.name.slice(1).split("/");
  const entries = versions.map(({ version }) => [version, {}] as const);
  return json({ scope, name, latest: latest.version, versions: Object.fromEntries(entries) });
}

function versionMetaOf({ exports, files }: Published): Answer {
  const manifest = [...files].map(([path, content]) => {
    const checksum = `sha256-${createHash("sha256").update(content).digest("hex")}`;
    return [path, { size: content.length, checksum }] as const;
  });
  return json({ manifest: Object.fromEntries(manifest), exports });
}

function json(value: unknown): Answer {
  return { status: 200, body: JSON.stringify(value) };
}

/** Text up to the first zero byte. */
function textOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end)).trim();
}

async function bytesOf(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const bytes = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  chunks.reduce((offset, chunk) => {
    bytes.set(chunk, offset);
    return offset + chunk.length;
  }, 0);
  return bytes;
}

function listen(server: Server): Promise<number> {
  return new Promise((done, fail) => {
    server.once("error", fail);
    server.listen(0, "127.0.0.1", () => done((server.address() as AddressInfo).port));
  });
}
