/** What is logged: of events a line each, without payloads, results and texts of the user's errors. */
import type { Logger } from "./database.ts";
import { DatabaseError } from "./errors.ts";
import type { EventHub } from "./events.ts";
import type { Message } from "./message.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const;

/** A logger of the caller, from which nothing comes back: neither what it throws nor what it rejects with. @throws {TypeError} */
export function guardLogger(logger: Logger): Logger {
  if (
    typeof logger !== "object" && typeof logger !== "function" || LEVELS.some((level) => !isFunction(logger?.[level]))
  ) {
    throw new TypeError("Cannot use logger: it must have the functions debug, info, warn and error");
  }
  const guarded = (level: typeof LEVELS[number]) => (message: string): void => {
    try {
      const returned: unknown = logger[level](message);
      // There is nowhere left where this could be told.
      if (isFunction((returned as PromiseLike<unknown> | null | undefined)?.then)) {
        Promise.resolve(returned).catch(() => {});
      }
    } catch {
      // The same.
    }
  };
  return { debug: guarded("debug"), info: guarded("info"), warn: guarded("warn"), error: guarded("error") };
}

/** Logs what happens to messages and workers; docs/events.md says what on which level. */
export function logEvents(events: EventHub, logger: Logger): void {
  events.on("started", ({ message }) => logger.debug(`${nameOf(message)}: attempt ${message.attempts + 1} begins`));
  events.on("completed", ({ message }) => logger.debug(`${nameOf(message)} has succeeded`));
  events.on("failed", ({ message, error, retryAfterMs }) => {
    const next = retryAfterMs === null ? "there is no other" : `the next one comes in ${retryAfterMs} ms`;
    logger.warn(`${nameOf(message)}: attempt ${message.attempts + 1} has failed with ${kindOf(error)}, ${next}`);
  });
  events.on("dead", ({ message, reason }) => logger.error(`${nameOf(message)} is a dead letter: ${reason}`));
  events.on("expired", ({ message }) => logger.warn(`${nameOf(message)} was dropped: it was not begun in time`));
  events.on("cancelled", ({ message }) => logger.info(`${nameOf(message)} was cancelled while it was handled`));
  events.on("lost", ({ message }) => logger.warn(`${nameOf(message)}: its lease was lost, and its result is dropped`));
  events.on("error", ({ worker, error, retryAfterMs }) => {
    // Only what a database says is known to hold no value of the caller.
    const told = error instanceof DatabaseError ? error.message : kindOf(error);
    logger.error(`${workerOf(worker)}: ${told}${retryAfterMs > 0 ? `; again in ${Math.round(retryAfterMs)} ms` : ""}`);
  });
  events.on("lag", ({ worker, lagMs }) => {
    logger.warn(`${workerOf(worker)}: the event loop stood still for ${lagMs} ms, so that heartbeats were late`);
  });
  events.on("workerStarted", ({ worker }) => logger.info(`${workerOf(worker)} has started`));
  events.on("workerPaused", ({ worker }) => logger.info(`${workerOf(worker)} is paused`));
  events.on("workerResumed", ({ worker }) => logger.info(`${workerOf(worker)} goes on`));
  events.on("workerStopping", ({ worker, running }) => {
    const rest = running === 0
      ? ""
      : running === 1
      ? " when 1 handler has ended"
      : ` when ${running} handlers have ended`;
    logger.info(`${workerOf(worker)} stops${rest}`);
  });
  events.on("workerStopped", ({ worker }) => logger.info(`${workerOf(worker)} has stopped`));
}

/** What an error may be called without repeating what somebody put into it: a name that looks like one of a class. */
export function kindOf(error: unknown): string {
  if (!(error instanceof Error)) return `a value of type ${typeof error}`;
  const name: unknown = error.name;
  return typeof name === "string" && /^[A-Za-z_$][\w$]{0,59}$/.test(name) ? name : "an error";
}

function nameOf({ id, queue }: Message): string {
  return `Message ${id} of queue ${JSON.stringify(queue)}`;
}

function workerOf(name: string): string {
  return `Worker ${JSON.stringify(name)}`;
}

function isFunction(value: unknown): boolean {
  return typeof value === "function";
}
