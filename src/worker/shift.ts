/**
 * One run of a worker: it opens the queues, watches over their lanes, and ends when it is told to or has nothing
 * left.
 */
import { type Database, storeClosed, unknownQueue } from "../database.ts";
import { DatabaseError } from "../errors.ts";
import type { Job } from "../job.ts";
import { encodeJson } from "../json.ts";
import { newHolder } from "../message.ts";
import { LONGEST_TIMER_MS } from "../options.ts";
import { resolveBackoff } from "../retry.ts";
import { createQueue, findQueue, updateQueue } from "../sql/queues.ts";
import { decodeQueue, type QueueRecord } from "../sql/record.ts";
import { Recorder } from "../run/recorder.ts";
import type { Row } from "../sql/driver.ts";
import type { Statement } from "../sql/sql.ts";
import { type beat, decodeFates, type Fate, lookForWork, registerWorker, removeWorker } from "../sql/workers.ts";
import { nextTurn, pause } from "../turn.ts";
import { type Hint, hintOf } from "../wake.ts";
import type { WorkerHealth, WorkerOptions } from "../worker.ts";
import type { Delivery } from "./delivery.ts";
import { Heartbeat } from "./heartbeat.ts";
import { Lane, type LaneHost } from "./lane.ts";
import { Maintenance } from "./maintenance.ts";
import { Progress } from "./progress.ts";
import { Slots } from "./slots.ts";

const STOP_MS = 30_000;
/** How long handlers that were aborted may take to notice. */
const ABORT_MS = 1_000;
const REGISTER_MS = 60_000;
/** Where hints arrive, looking is only for those that were lost. */
const HINTED_FACTOR = 8;
/** Up to how many queues are claimed from without a look before. */
const FEW = 10;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5_000;

/** One run of a worker, from its beginning to its end. */
export class Shift implements LaneHost {
  readonly name: string;
  readonly holder: string;
  readonly database: Database;
  readonly slots: Slots;
  readonly recorder: Recorder;
  readonly #options: WorkerOptions;
  readonly #progress: Progress;
  #lanes: readonly Lane[] = [];
  #heartbeat: Heartbeat | undefined;
  isDraining = false;
  isStopping = false;
  isPaused = false;
  /** When it was asked whether this worker is paused, as far as the answer is known. */
  #pausedAsOf = Number.NEGATIVE_INFINITY;
  #look: ReturnType<typeof setTimeout> | undefined;
  #lookAt = Number.POSITIVE_INFINITY;
  #isLooking = false;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #isChanged = false;
  /** Whether the hint that is being told is our own. */
  #isTelling = false;
  /** Whether nothing may be concluded from the lanes being dry before there was another look. */
  #mustLook = false;
  /** How many looks have found nothing since there was something last. */
  #looksInVain = 0;
  #lastAnswerAt: Date | null = null;
  #failingSince: Date | null = null;
  /** Resolves the promise of `work` when there is nothing more to wait for. */
  #end = (): void => {};

  constructor(database: Database, name: string, options: WorkerOptions) {
    this.database = database;
    this.name = name;
    this.holder = newHolder(name);
    this.#options = options;
    this.slots = new Slots(options.concurrency ?? Number.MAX_SAFE_INTEGER);
    this.#progress = new Progress(this);
    this.recorder = new Recorder(database, this.holder);
  }

  get events(): Database["events"] {
    return this.database.events;
  }

  health(): WorkerHealth {
    const counts = this.#lanes.map((lane) => ({ ...lane.counts, ...lane.totals }));
    const sum = (name: keyof Lane["counts"] | keyof Lane["totals"]): number =>
      counts.reduce((total, lane) => total + lane[name], 0);
    const isBusy = this.#lanes.some(({ isQuiet }) => !isQuiet);
    return {
      name: this.name,
      state: this.isStopping ? "stopping" : this.isPaused ? "paused" : isBusy ? "running" : "idle",
      running: sum("running"),
      waiting: sum("waiting"),
      overdue: sum("overdue"),
      completed: sum("completed"),
      failed: sum("failed"),
      dead: sum("dead"),
      lastAnswerAt: this.#lastAnswerAt,
      failingSince: this.#failingSince,
      isListening: this.database.wake.isHeard,
    };
  }

  async work(jobs: readonly Job[], signal: AbortSignal | undefined, isDraining: boolean): Promise<void> {
    this.isDraining = isDraining;
    const stop = signal === undefined ? this.database.closing : AbortSignal.any([signal, this.database.closing]);
    // Closing the store waits for this: what handlers have done is stored before the connections go.
    await this.database.letIn(async ({ isLetIn }) => {
      if (!isLetIn) throw storeClosed();
      const queues = await this.#openQueues(jobs, stop);
      if (queues === undefined) return;
      this.#lanes = jobs.map((one, i) => new Lane(one, queues[i] as QueueRecord, this));
      await this.#serve(stop);
    });
  }

  async #serve(stop: AbortSignal): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#end = resolve);
    const heartbeat = this.#heartbeat = new Heartbeat({
      holder: this.holder,
      lanes: this.#lanes,
      beat: (statement, timeoutMs) => this.#beat(statement, timeoutMs),
      onLag: (lagMs) => this.events.emit("lag", { worker: this.name, lagMs }),
      onError: (error) => this.report(error, 0),
    });
    const maintenance = this.#options.maintenance === false ? undefined : new Maintenance(this);
    const here = this.database.rememberContext();
    const unsubscribe = this.database.wake.subscribe((hint) => here(() => this.#hear(hint)));
    const register = setInterval(() => void this.#register(), REGISTER_MS);
    const onStop = (): void => here(() => this.#stop());
    stop.addEventListener("abort", onStop);
    heartbeat.start();
    maintenance?.start();
    this.events.emit("workerStarted", { worker: this.name });
    await this.#register();
    if (stop.aborted) this.#stop();
    this.#wakeAll();
    await ended;
    stop.removeEventListener("abort", onStop);
    clearInterval(register);
    clearTimeout(this.#look);
    unsubscribe();
    heartbeat.stop();
    for (const lane of this.#lanes) lane.close();
    await maintenance?.stop();
    await this.query(removeWorker(this.holder)).catch((error) => this.report(error, 0));
    this.events.emit("workerStopped", { worker: this.name });
  }

  /** Makes the queues that are missing, and waits for the database as long as it takes. */
  async #openQueues(jobs: readonly Job[], stop: AbortSignal): Promise<QueueRecord[] | undefined> {
    for (let pauseMs = FIRST_PAUSE_MS; !stop.aborted; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
      try {
        const queues: QueueRecord[] = [];
        for (const one of jobs) queues.push(await this.#openQueue(one));
        return queues;
      } catch (error) {
        if (!(error instanceof DatabaseError)) throw error;
        this.report(error, pauseMs);
      }
      await pause(pauseMs * (0.5 + Math.random() / 2), stop);
    }
    return undefined;
  }

  async #openQueue({ queue: { name }, options: { retry }, isWorkflow }: Job): Promise<QueueRecord> {
    const { maxAttempts } = this.database.settings;
    const [found] = await this.query(findQueue(name));
    if (found !== undefined) return await this.#marked(decodeQueue(found), isWorkflow);
    const backoff = typeof retry?.backoff === "object" ? retry.backoff : undefined;
    const [made] = await this.query(
      createQueue(name, {
        leaseMs: null,
        maxAttempts: retry?.maxAttempts ?? maxAttempts,
        maxCrashes: 10,
        backoff: JSON.stringify(resolveBackoff(backoff)),
        retentionMs: 2_592_000_000,
        isWorkflow,
      }),
    );
    const [row] = made === undefined ? await this.query(findQueue(name)) : [made];
    if (row === undefined) throw unknownQueue(name);
    return await this.#marked(decodeQueue(row), isWorkflow);
  }

  /** Marks a queue that was made before anybody knew that it is a workflow's. */
  async #marked(queue: QueueRecord, isWorkflow: true | undefined): Promise<QueueRecord> {
    if (isWorkflow === undefined || queue.isWorkflow) return queue;
    const [row] = await this.query(updateQueue(queue.name, { isWorkflow }));
    if (row === undefined) throw unknownQueue(queue.name);
    return decodeQueue(row);
  }

  async query(statement: Statement): Promise<readonly Row[]> {
    return this.#answered(await this.database.query(statement, { isLetIn: true }));
  }

  /** What handlers send on their own goes on the way that is kept free, so that it cannot wait for them. */
  async #beat(statement: ReturnType<typeof beat>, timeoutMs: number): Promise<Fate[]> {
    const sentAt = performance.now();
    const rows = this.#answered(await this.database.query(statement, { isLetIn: true, isControl: true, timeoutMs }));
    const { fates, isPaused } = decodeFates(rows);
    this.#setPaused(isPaused, sentAt);
    return fates;
  }

  catchUp(): void {
    this.#heartbeat?.catchUp(performance.now());
  }

  #answered(rows: readonly Row[]): readonly Row[] {
    this.#lastAnswerAt = new Date();
    this.#failingSince = null;
    return rows;
  }

  report(error: unknown, retryAfterMs: number): void {
    if (error instanceof DatabaseError) this.#failingSince ??= new Date();
    this.events.emit("error", { worker: this.name, error, retryAfterMs });
  }

  runHook(hook: () => unknown): void {
    const failed = (error: unknown): void => this.report(error, 0);
    try {
      Promise.resolve(hook()).catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  async progress(delivery: Delivery, value: unknown): Promise<boolean> {
    const text = encodeJson(value, { what: "progress" });
    // Statements of several calls are folded, so that this one would not notice by itself whose transaction it is in.
    this.database.assertOutside("store progress");
    return await this.#progress.store(delivery, text);
  }

  /** Called after everything that may have left the worker without work; one look at all lanes does for all of it. */
  changed(): void {
    if (this.#isChanged) return;
    this.#isChanged = true;
    nextTurn(() => {
      this.#isChanged = false;
      this.#review();
    });
  }

  #review(): void {
    const isQuiet = this.#lanes.every((lane) => lane.isQuiet);
    if (this.isStopping) {
      if (isQuiet) this.#end();
      return;
    }
    const dry = this.#lanes.filter(({ outlook }) => outlook.isDry);
    const isEmpty = isQuiet && dry.length === this.#lanes.length && !this.#mustLook;
    if (this.isDraining && isEmpty) return this.#stop();
    // One that is paused looks whether it still is.
    const idle = this.isPaused ? this.#lanes : dry;
    if (idle.length > 0) this.#setLook(idle);
  }

  /** Sets the timer for the next look: when the next message is due, or after the interval, whatever comes first. */
  #setLook(dry: readonly Lane[]): void {
    const interval = this.#pollIntervalMs();
    const now = performance.now();
    const at = dry.reduce((first, { outlook }) => Math.min(first, outlook.dueAt), this.#lookedAt + interval);
    // A timer that is late already stays: others that are busy would put it off for ever.
    if (this.#isLooking || this.#lookAt <= Math.max(at, now)) return;
    this.#lookAt = Math.max(at, now);
    clearTimeout(this.#look);
    this.#look = setTimeout(() => void this.#lookForWork(), Math.ceil(Math.min(this.#lookAt - now, interval)));
  }

  #pollIntervalMs(): number {
    const { wake, settings } = this.database;
    const { pollIntervalMs = wake.pauseMs(settings.pollIntervalMs, this.#looksInVain) } = this.#options;
    // Nobody sends a hint when a place of a limited queue is given up.
    const isWaiting = this.#lanes.some(({ outlook }) => outlook.isDry && outlook.isLimited);
    return Math.min(wake.isHeard && !isWaiting ? pollIntervalMs * HINTED_FACTOR : pollIntervalMs, LONGEST_TIMER_MS);
  }

  /** Asks for all dry queues at once which have something to claim, and when the next one will. */
  async #lookForWork(): Promise<void> {
    const now = performance.now();
    this.#lookAt = Number.POSITIVE_INFINITY;
    const dry = this.isPaused ? this.#lanes : this.#lanes.filter(({ outlook }) => outlook.isDry);
    const due = dry.filter(({ outlook }) => outlook.dueAt <= now);
    for (const lane of due) lane.wake();
    const isEarly = now - this.#lookedAt < this.#pollIntervalMs() || !this.isPaused && dry.length === due.length;
    if (this.isStopping || isEarly && !this.#mustLook) return this.changed();
    this.#isLooking = true;
    this.#lookedAt = now;
    try {
      const statement = lookForWork(dry.map(({ queue }) => queue.name), this.holder);
      // It goes where hints come from, so that it also finds out whether any could come.
      const rows = this.#answered(await this.database.query(statement, { isLetIn: true, isControl: true }));
      const dueIn = new Map(rows.map(([name, ms]) => [name, Number(ms)]));
      this.#looksInVain = [...dueIn].some(([name, ms]) => name !== null && ms <= 0) ? 0 : this.#looksInVain + 1;
      if (this.#lookedAt === now) this.#mustLook = false;
      this.#setPaused(dueIn.get(null) === 1, now);
      for (const lane of dry) {
        const ms = dueIn.get(lane.queue.name);
        if (ms !== undefined && ms <= 0) lane.wake();
        else lane.outlook.isDueAt(ms === undefined ? Number.POSITIVE_INFINITY : now + ms, now);
      }
    } catch (error) {
      this.report(error, this.#pollIntervalMs());
    }
    this.#isLooking = false;
    this.changed();
  }

  tellOthers(queue: string): void {
    this.#isTelling = true;
    this.database.wake.tell(hintOf(queue));
    this.#isTelling = false;
  }

  #hear(hint: Hint): void {
    if (this.#isTelling) return;
    this.#looksInVain = 0;
    if (hint.kind === "queue") {
      for (const lane of this.#lanes) if (hint.name === lane.queue.name) lane.wake();
    } else if (hint.kind === "any") this.#lookEverywhere();
    else if (hint.kind === "control") {
      void this.#heartbeat?.beat();
      // A worker that holds nothing learns from a look whether it was paused.
      this.#lookNow();
    }
  }

  /** Looks at once, with one statement for any number of queues; for a single one a claim is as cheap. */
  #lookEverywhere(): void {
    const dry = this.#lanes.filter(({ outlook }) => outlook.isDry);
    // Claims that are under way may have seen what was before.
    for (const lane of this.#lanes) if (!lane.outlook.isDry || dry.length === 1) lane.wake();
    if (dry.length !== 1) this.#lookNow();
  }

  /** Lets all lanes begin. Of many queues one look tells in which of them there is something. */
  #wakeAll(): void {
    if (this.#lanes.length <= FEW) { for (const lane of this.#lanes) lane.wake(); }
    else {
      for (const lane of this.#lanes) lane.outlook.isDry = true;
      this.#lookNow();
    }
  }

  #lookNow(): void {
    this.#mustLook = true;
    this.#lookedAt = Number.NEGATIVE_INFINITY;
    this.changed();
  }

  async #register(): Promise<void> {
    try {
      const sentAt = performance.now();
      const names = this.#lanes.map(({ queue }) => queue.name);
      const [row] = await this.query(registerWorker({ holder: this.holder, name: this.name, queues: names }));
      this.#setPaused(Number(row?.[0]) === 1, sentAt);
    } catch (error) {
      this.report(error, REGISTER_MS);
    }
  }

  /** Told of what a statement has seen. What was asked before something else that is known already is older. */
  #setPaused(isPaused: boolean, askedAt: number): void {
    if (askedAt < this.#pausedAsOf) return;
    this.#pausedAsOf = askedAt;
    if (this.isPaused === isPaused) return;
    this.isPaused = isPaused;
    this.events.emit(isPaused ? "workerPaused" : "workerResumed", { worker: this.name });
    if (isPaused) { for (const lane of this.#lanes) lane.schedule(); }
    else this.#wakeAll();
  }

  #stop(): void {
    if (this.isStopping) return;
    this.isStopping = true;
    this.events.emit("workerStopping", { worker: this.name, running: this.health().running });
    for (const lane of this.#lanes) lane.schedule();
    const { stopTimeoutMs = STOP_MS } = this.#options;
    const lastMs = Math.min(ABORT_MS + this.database.settings.timeoutMs, LONGEST_TIMER_MS);
    let timer = setTimeout(() => {
      // Whoever cannot store what it did, because the database is gone, is not waited for either.
      timer = setTimeout(() => this.#end(), lastMs);
      this.#abandon();
    }, stopTimeoutMs);
    const end = this.#end;
    this.#end = () => {
      clearTimeout(timer);
      end();
    };
    this.changed();
  }

  #abandon(): void {
    const error = new DOMException("Worker stops and the time for its handlers is over", "AbortError");
    for (const lane of this.#lanes) lane.abandon(error);
  }
}
