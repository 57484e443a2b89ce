/** What is between the command and whoever calls it. */

/** What the command has to do with the world. */
export interface Io {
  /** Takes the data; a promise that comes back is waited for. An error with the code `EPIPE` says that nobody reads on. */
  out(text: string): unknown;
  /** Takes words for whoever watches, and errors. */
  err(text: string): unknown;
  /** What is piped into the command. */
  readonly input?: AsyncIterable<Uint8Array>;
  /** Asks the user; missing when nobody is there. */
  ask?(question: string): Promise<string>;
  /** How wide the terminal is that shows the data; missing when none does. */
  readonly columns?: number | undefined;
  /** How wide the terminal is that shows the words; missing when none does. */
  readonly errColumns?: number | undefined;
  /** Whether colors may be used. */
  readonly hasColor?: boolean;
  /** Aborted by Ctrl-C, with the reason `SIGINT`, or by a request to stop, with another one such as `SIGTERM`. */
  readonly signal?: AbortSignal;
}
