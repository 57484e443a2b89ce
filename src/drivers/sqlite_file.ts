/** Reads a `sqlite:` or `file:` DSN, and creates the file for its owner alone, or looks whether there is one. */
import { ConfigError, DatabaseError } from "../errors.ts";

/** What a DSN says. */
export interface SqliteAddress {
  /** A path, or `:memory:`. */
  readonly path: string;
  /** How far a commit waits for the disk; with `full` it survives the loss of power. */
  readonly synchronous: "full" | "normal";
}

/** Reads the DSN. @throws {ConfigError} naming the part that cannot be used. */
export function parseSqliteDsn(dsn: string): SqliteAddress {
  const [, scheme = "", rest = "", query = ""] = /^(sqlite:|file:)?([^?]*)\??(.*)$/s.exec(dsn) ?? [];
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (name !== "synchronous") throw new ConfigError(`Cannot use the SQLite DSN: unknown parameter "${name}"`);
  }
  const synchronous = (parameters.get("synchronous") ?? "full").toLowerCase();
  if (synchronous !== "full" && synchronous !== "normal") {
    throw new ConfigError(`Cannot use the SQLite DSN: synchronous must be full or normal, not "${synchronous}"`);
  }
  const path = (scheme === "file:" ? decode(rest) : rest)
    .replace(/^\/\/(localhost(?=\/))?/, "")
    .replace(/^\/(?=[A-Za-z]:[\\/])/, "");
  if (path === "") throw new ConfigError("Cannot use the SQLite DSN: it names no file; use sqlite::memory: for none");
  return { path, synchronous };
}

function decode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new ConfigError("Cannot use the SQLite DSN: the path is not percent-encoded correctly");
  }
}

/**
 * Creates the file with mode 0600 if there is none; SQLite gives its side files the mode of the database. A file that
 * exists is never opened here: to close it would drop the locks that other connections of this process have on it, and
 * then another process takes itself for the last one and deletes the log under their hands.
 */
export async function createFile(path: string): Promise<void> {
  const { mkdir, open } = await import("node:fs/promises");
  const { dirname } = await import("node:path");
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await (await open(path, "wx", 0o600)).close();
  } catch (error) {
    if (codeOf(error) !== "EEXIST") throw openError(codeOf(error));
  }
}

/** Looks whether there is a file, because SQLite would make one. @throws {DatabaseError} if there is none. */
export async function findFile(path: string): Promise<void> {
  const { stat } = await import("node:fs/promises");
  try {
    await stat(path);
  } catch (error) {
    const code = codeOf(error);
    if (code !== "ENOENT") throw openError(code);
    // A name and a password may stand in it, by mistake.
    const name = path.includes("@") ? "such file" : `file ${path}`;
    throw openError(code, `there is no ${name}; run "pgqrs install" to make it`);
  }
}

function codeOf(error: unknown): string {
  return String((error as { code?: unknown }).code ?? "");
}

function openError(code: string, told?: string): DatabaseError {
  const why = code || "permission denied; on Deno give --allow-read and --allow-write";
  return new DatabaseError(`Cannot open the database file: ${told ?? `${why}; nothing was changed`}`, {
    outcome: "not_applied",
    reason: code === "EACCES" || code === "EPERM" || code === "" ? "permission" : "connection",
    statement: "open the database file",
  });
}
