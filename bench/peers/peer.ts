/** What every queue can do that is measured. */
import type { Job } from "../job.ts";

/** What a worker is set up for: as many jobs as possible, or each as soon as possible. */
export type Purpose = "drain" | "latency";

/** A queue, as its documentation says that it works best. */
export interface Peer {
  /** Makes tables and queue. */
  install(): Promise<void>;
  enqueue(job: Job): Promise<unknown>;
  enqueueMany(jobs: readonly Job[]): Promise<unknown>;
  /** Handles jobs until the function that it resolves to is called. */
  work(handle: (job: Job) => void, purpose: Purpose): Promise<() => Promise<unknown>>;
  /** A query that gives a row as long as some job has not ended. */
  readonly left: string;
  close(): Promise<unknown>;
}

/** Those that are measured, by the names of their packages. */
export type PeerName = "bullmq" | "graphile-worker" | "pg-boss" | "pgqrs" | "plainjob";

/** Loads a package of this folder's own `package.json`: what the project itself depends on must not know of it. */
export async function load<T>(name: string): Promise<T> {
  return await import(name) as T;
}

/** Hands on parts of a list, so many at a time. */
export async function inParts<T>(
  list: readonly T[],
  send: (part: readonly T[]) => Promise<unknown>,
  { size, atOnce }: { readonly size: number; readonly atOnce: number },
): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (next < list.length) {
      const from = next;
      next += size;
      await send(list.slice(from, from + size));
    }
  }));
}
