/** The files that data and words go to instead of the streams of the process. */
import { closeSync, fstatSync, ftruncateSync, openSync, realpathSync, writeSync } from "node:fs";
import { UsageError } from "./command.ts";

/** A file that is being written. */
export interface OutFile {
  write(text: string): void;
  close(): void;
}

/** Opens a file for data. What is in it stays until there is data, so that a command that fails destroys nothing. */
export function openData(path: string): OutFile {
  const file = open(path);
  let isBegun = false;
  return {
    write(text) {
      if (!isBegun && fstatSync(file).isFile()) ftruncateSync(file);
      isBegun = true;
      writeAll(file, path, text);
    },
    close: () => closeSync(file),
  };
}

/** Opens a file that words are added to. One that cannot be written any more loses them, which is told once. */
export function openWords(path: string, warn: (text: string) => void): OutFile {
  const file = open(path);
  let isLost = false;
  return {
    write(text) {
      if (isLost) return;
      try {
        writeAll(file, path, text);
      } catch (error) {
        isLost = true;
        warn(`${(error as Error).message}; nothing more is logged`);
      }
    },
    close: () => closeSync(file),
  };
}

/** Whether two paths are one file that is there. */
export function isSameFile(one: string, other: string): boolean {
  try {
    return realpathSync(one) === realpathSync(other);
  } catch {
    return false;
  }
}

/** Whether an error says that nobody reads any more what was written: head does that when it has seen enough. */
export function isUnread(error: unknown): boolean {
  return codeOf(error) === "EPIPE";
}

/** The code that the system gives, or else what the runtime says instead. */
export function codeOf(error: unknown): string {
  const { code, message }: { code?: unknown; message?: unknown } = Object(error);
  return String(code ?? message ?? error);
}

function open(path: string): number {
  try {
    return openSync(path, "a", 0o600);
  } catch (error) {
    throw new UsageError(`cannot write to ${path}: ${codeOf(error)}`);
  }
}

/** The system may take less than it is given: a disk has room for a part. */
function writeAll(file: number, path: string, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at);
  } catch (error) {
    if (isUnread(error)) throw error;
    throw new Error(`cannot write to ${path}: ${codeOf(error)}`);
  }
}
