/**
 * Listens for hints on one channel, for as long as anybody wants to hear them.
 *
 * That a server has taken LISTEN says little: a pooler that gives every statement another session swallows what comes. So
 * after each connect something is sent that has to arrive here, by another connection if there is one, because a session
 * that notifies itself is told by the answer, pooler or not.
 */
import { isProbe, newProbe } from "../sql/channel.ts";
import type { HintListener } from "../sql/driver.ts";

/** What listens: a session of the server. */
export interface Listened {
  /** Resolves when it is gone. */
  readonly lost: Promise<void>;
  /** How often the server has sent something on it. */
  signCount(): number;
  /** Finds out whether it is still there; one that is not is given up. `check` tells whether what is sent arrives. */
  ping(check: () => Promise<boolean>): Promise<unknown>;
  /** Stops listening. */
  unlisten(): Promise<void>;
}

/** How it is done. */
export interface ListenHost {
  /** Begins to listen. `again` may be called when hints may have been lost. Undefined: listening is of no use here. */
  listen(channel: string, hear: (text: string) => void, again: () => void): Promise<Listened | undefined>;
  /** Sends a text to all who listen. */
  notify(channel: string, text: string): Promise<void>;
  /** After how long a silent connection is asked whether it is still there. */
  readonly keepAliveMs: number;
}

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 60_000;
/** How long a probe may take. */
const PROBE_MS = 3_000;
/** A connection that has held for so long was a good one. */
const STABLE_MS = 5_000;

/** Listens on one channel. */
export class Listening {
  readonly #channel: string;
  readonly #host: ListenHost;
  readonly #listeners = new Set<HintListener>();
  readonly #sleepers = new Set<() => void>();
  /** What was sent to find out whether it arrives, and whom to tell. */
  readonly #probes = new Map<string, () => void>();
  #isHeard = false;
  #isRunning = false;
  #isClosed = false;

  constructor(channel: string, host: ListenHost) {
    this.#channel = channel;
    this.#host = host;
  }

  /** Tells a listener of hints until the function it returns is called. */
  add(listener: HintListener): () => void {
    const own: HintListener = {
      onHint: (text) => listener.onHint(text),
      onChange: (isHeard) => listener.onChange(isHeard),
    };
    this.#listeners.add(own);
    if (this.#isHeard) own.onChange(true);
    void this.#run();
    // The session goes on to listen: whoever comes back finds it as it is.
    return () => void this.#listeners.delete(own);
  }

  /** Told what has arrived. */
  readonly hear = (text: string): void => {
    if (isProbe(text)) return this.#probes.get(text)?.();
    for (const listener of [...this.#listeners]) listener.onHint(text);
  };

  /** Tells nobody of anything any more. */
  close(): void {
    this.#isClosed = true;
    for (const end of [...this.#sleepers]) end();
  }

  get #isWanted(): boolean {
    return this.#listeners.size > 0 && !this.#isClosed;
  }

  async #run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    for (let pauseMs = FIRST_PAUSE_MS; this.#isWanted; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      const beganAt = performance.now();
      const isUseful = await this.#listenOnce().catch(() => true);
      if (performance.now() - beganAt > STABLE_MS) pauseMs = FIRST_PAUSE_MS;
      if (!isUseful) pauseMs = LONGEST_PAUSE_MS;
      if (this.#isWanted) await this.#sleep(pauseMs * (0.5 + Math.random() / 2));
    }
    this.#isRunning = false;
  }

  /** Listens until the session is gone. False: there is nothing to be heard, and that is not going to change soon. */
  async #listenOnce(): Promise<boolean> {
    const again = (): void => void this.#check().then((isHeard) => isHeard && this.#change(true), () => {});
    const session = await this.#host.listen(this.#channel, this.hear, again);
    if (session === undefined) return false;
    if (!(await this.#check())) {
      await session.unlisten().catch(() => {});
      return false;
    }
    this.#change(true);
    await this.#watch(session);
    this.#change(false);
    return true;
  }

  /** Whether what is sent arrives. */
  async #check(): Promise<boolean> {
    const text = newProbe();
    let isHeard = false;
    const heard = new Promise<void>((resolve) => {
      this.#probes.set(text, () => {
        isHeard = true;
        resolve();
      });
    });
    try {
      await this.#host.notify(this.#channel, text);
      await this.#sleep(PROBE_MS, heard);
    } finally {
      this.#probes.delete(text);
    }
    return isHeard;
  }

  /** Waits until the session is gone, and asks from time to time whether it is. */
  async #watch(session: Listened): Promise<void> {
    let isLost = false;
    const lost = session.lost.then(() => {
      isLost = true;
    });
    while (!isLost && !this.#isClosed) {
      const before = session.signCount();
      await this.#sleep(this.#host.keepAliveMs, lost);
      // With nobody to tell, it may be silent for as long as it likes.
      if (isLost || !this.#isWanted || session.signCount() !== before) continue;
      await session.ping(() => this.#check()).catch(() => {});
    }
  }

  #change(isHeard: boolean): void {
    if (this.#isHeard === isHeard && !isHeard) return;
    this.#isHeard = isHeard;
    for (const listener of [...this.#listeners]) listener.onChange(isHeard);
  }

  /** Waits for a time, or less when something has happened or this was closed. */
  #sleep(ms: number, or?: Promise<unknown>): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#sleepers.delete(end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.#sleepers.add(end);
      void or?.then(end);
    });
  }
}
