/** Typed queues. */
import { DatabaseError } from "./errors.ts";
import { checkInteger, checkName, checkOptions } from "./options.ts";

/** What we need of a schema of zod, valibot, arktype or any other library that follows Standard Schema. */
export interface Schema<T = unknown> {
  /** The properties that the standard prescribes. */
  readonly "~standard": {
    /** The version of the standard. */
    readonly version: 1;
    /** The name of the library. */
    readonly vendor: string;
    /** Checks a value: the checked value, or what is wrong with it. */
    readonly validate: (value: unknown) => SchemaResult<T> | Promise<SchemaResult<T>>;
    /** The types that the library infers; never read at run time. */
    readonly types?: { readonly input: unknown; readonly output: T } | undefined;
  };
}

/** What a schema says of a value. */
export type SchemaResult<T> =
  | { readonly value: T; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

/** One thing that is wrong with a value. */
export interface SchemaIssue {
  /** What is wrong, in the words of the library. It may quote the value, so we never repeat it. */
  readonly message: string;
  /** Where. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** A queue with the type of its payloads. */
export interface Queue<T = unknown> {
  /** The name of the queue. */
  readonly name: string;
  /** Checks payloads before they are enqueued. */
  readonly schema?: Schema<T> | undefined;
  /** The largest payload, in bytes of UTF-8. */
  readonly maxBytes?: number | undefined;
  /** How deep a payload may be nested. */
  readonly maxDepth?: number | undefined;
  /** How payloads are written: as JSON, or, for workflows, with tags for what JSON does not have. @default "json" */
  readonly codec?: "json" | "tagged" | undefined;
}

/** Options of {@linkcode queue}. */
export interface QueueTypeOptions<T> {
  /** Checks payloads before they are enqueued; what it returns is stored. Any Standard Schema. */
  readonly schema?: Schema<T>;
  /** The largest payload, in bytes of UTF-8. @default 1048576 */
  readonly maxBytes?: number;
  /** How deep a payload may be nested. @default 64 */
  readonly maxDepth?: number;
  /** How payloads are written: as JSON, or, as for workflows, with tags for what JSON does not have. @default "json" */
  readonly codec?: "json" | "tagged";
}

/**
 * Names a queue together with the type of its payloads, and optionally with what checks them.
 *
 * @example Usage
 * ```ts
 * import { connect, queue } from "@pgqrs/pgqrs";
 * import assert from "node:assert/strict";
 *
 * const emails = queue<{ to: string }>("emails");
 * await using store = await connect("sqlite::memory:");
 * await store.admin.install();
 * await store.admin.createQueue(emails);
 * await store.producer(emails).enqueue({ to: "ada@example.com" });
 * const [message] = await store.consumer(emails).dequeue();
 * assert.equal(message?.payload.to, "ada@example.com");
 * ```
 */
export function queue<T = unknown>(name: string, options: QueueTypeOptions<T> = {}): Queue<T> {
  checkOptions("queue", options, ["codec", "maxBytes", "maxDepth", "schema"]);
  const made = { name, ...options };
  checkQueue(made);
  return Object.freeze(made);
}

/** The queue that a name or a typed queue means. @throws {TypeError | RangeError} */
export function resolveQueue<T>(given: Queue<T> | string): Queue<T> {
  if (typeof given === "string") return queue<T>(given);
  if (typeof given !== "object" || given === null) {
    throw new TypeError("Cannot use the queue: it must be a name or made by queue()");
  }
  checkQueue(given);
  return given;
}

function checkQueue<T>({ name, schema, maxBytes, maxDepth, codec }: Queue<T>): void {
  checkName("the name of a queue", name);
  if (maxBytes !== undefined) checkInteger("maxBytes", maxBytes, 1, Number.MAX_SAFE_INTEGER);
  if (maxDepth !== undefined) checkInteger("maxDepth", maxDepth, 1, 1_000);
  if (codec !== undefined && codec !== "json" && codec !== "tagged") {
    throw new TypeError('Cannot use codec: it must be "json" or "tagged"');
  }
  if (schema === undefined || typeof schema?.["~standard"]?.validate === "function") return;
  throw new TypeError("Cannot use schema: it must follow Standard Schema");
}

/**
 * The payload as the schema of the queue gives it back.
 *
 * @throws {TypeError} naming the places that do not fit.
 * @throws {DatabaseError} when the schema does not answer in time; nothing was sent.
 */
export async function checkPayload<T>(
  { name, schema }: Queue<T>,
  payload: T,
  what: string,
  limits: { readonly signal?: AbortSignal | undefined; readonly timeoutMs: number },
): Promise<T> {
  if (schema === undefined) return payload;
  const answer = schema["~standard"].validate(payload);
  const result = answer instanceof Promise ? await inTime(name, answer, limits) : answer;
  if (result.issues === undefined) return result.value;
  const places = [...new Set(result.issues.map(({ path = [] }) => [what, ...path.map(segmentOf)].join(".")))];
  throw new TypeError(`Cannot enqueue to "${name}": ${places.slice(0, 5).join(", ")} does not fit the queue's schema`);
}

/** Waits for a schema that may never answer. */
async function inTime<R>(
  name: string,
  answer: Promise<R>,
  { signal, timeoutMs }: { readonly signal?: AbortSignal | undefined; readonly timeoutMs: number },
): Promise<R> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let abort = (): void => {};
  const late = new Promise<never>((_, reject) => {
    const fail = (reason: "aborted" | "timeout") => (): void =>
      reject(
        new DatabaseError(`Cannot enqueue to "${name}": its schema did not answer in time; nothing was changed`, {
          outcome: "not_applied",
          reason,
        }),
      );
    abort = fail("aborted");
    timer = setTimeout(fail("timeout"), timeoutMs);
    signal?.addEventListener("abort", abort);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

function segmentOf(segment: PropertyKey | { readonly key: PropertyKey }): string {
  return String(typeof segment === "object" ? segment.key : segment);
}
