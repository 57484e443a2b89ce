/**
 * `pgqrs message send --file` as a real process: how fast, how large, and what is left when it is killed.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type Message, type Page, type Store } from "../../mod.ts";
import { assertAllBars, type Bar } from "./bars.ts";
import type { TestDatabase } from "./databases.ts";
import { startProcess, type TestProcess } from "./processes.ts";
import { until } from "./until.ts";

/** How large the test is. */
export interface SendSize {
  readonly lines: number;
  /** Whether the speed is a bar: a short run is mostly the start of the process. */
  readonly isTimed: boolean;
  /** How long a whole file may take. */
  readonly longestMs: number;
}

/** One line of the file. */
interface Mail {
  readonly id: number;
  readonly to: string;
  readonly text: string;
}

type Open = () => Promise<TestDatabase> | TestDatabase;

const CLI = new URL("../../cli.ts", import.meta.url);
const CHUNK = 5_000;
const LEAST_SPEED = 0.6;
const MOST_MEGABYTES = 200;
/** Makes a line of about 200 bytes. */
const TEXT = "All work and no play makes Jack a dull boy. ".repeat(3).trim();

/** Sends a file, and after a kill sends it again; prints and checks all figures. */
export async function checkSending(name: string, open: Open, size: SendSize): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "pgqrs-send-"));
  try {
    const file = join(folder, "mails.ndjson");
    writeMails(file, size.lines);
    const bars = [...await sendWhole(name, open, file, size), ...await sendTwice(name, open, file, size)];
    assertAllBars(name, bars);
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Sends the same by the library and by the command, each to a database of its own. */
async function sendWhole(name: string, open: Open, file: string, size: SendSize): Promise<Bar[]> {
  const { lines, isTimed } = size;
  const libraryMs = await withStore(open, (store) => enqueueAll(store, lines));
  const bars: Bar[] = [];
  await withStore(open, async (store, dsn) => {
    const begin = performance.now();
    await using child = send(dsn, ["--file", file]);
    const megabytes = await largest(child);
    const speed = libraryMs / (performance.now() - begin);
    assertSent(await child.exited, child, lines);
    const count = await store.admin.messages.count({ queue: "mails" });
    console.log(`${name}: enqueueMany ${perSecond(lines, libraryMs)}, the command ${percent(speed)} of that`);
    bars.push([`${lines} lines make messages`, count, count === lines]);
    if (isTimed) {
      bars.push([`speed of enqueueMany, at least ${percent(LEAST_SPEED)}`, percent(speed), speed >= LEAST_SPEED]);
    }
    if (megabytes > 0) bars.push([`memory, under ${MOST_MEGABYTES} MB`, megabytes, megabytes < MOST_MEGABYTES]);
  });
  return bars;
}

/** Kills the command when a part has been sent, and runs it again. */
async function sendTwice(name: string, open: Open, file: string, size: SendSize): Promise<Bar[]> {
  return await withStore(open, async (store, dsn) => {
    const atKill = await sendUntilKilled(store, dsn, file, size);
    const begin = performance.now();
    await using child = send(dsn, ["--file", file, "--key-field", "id"]);
    const megabytes = await largest(child);
    assertSent(await child.exited, child, size.lines);
    console.log(`${name}: with keys, behind a kill, ${perSecond(size.lines, performance.now() - begin)}`);
    const { missing, twice } = await check(store, size.lines);
    const bars: Bar[] = [
      ["sent before the kill, some and not all", atKill, atKill > 0 && atKill < size.lines],
      ["ids missing after the second run, 0", missing, missing === 0],
      ["ids there twice, 0", twice, twice === 0],
    ];
    if (megabytes > 0) {
      bars.push([`memory with keys, under ${MOST_MEGABYTES} MB`, megabytes, megabytes < MOST_MEGABYTES]);
    }
    return bars;
  });
}

/** Resolves to how many messages the killed process has left. */
async function sendUntilKilled(
  store: Store,
  dsn: string,
  file: string,
  { lines, longestMs }: SendSize,
): Promise<number> {
  // A short file would be sent before anybody has looked: there the end is held back, so that the process must wait for it.
  const isShort = lines <= 4 * CHUNK;
  const input = isShort ? { input: readFileSync(file, "utf8").slice(0, -2), keepInput: true } : {};
  await using child = send(dsn, [...isShort ? ["-"] : ["--file", file], "--key-field", "id"], input);
  const count = () => store.admin.messages.count({ queue: "mails" });
  let isOver = false;
  child.exited.then(() => isOver = true);
  await until("a part was sent", async () => {
    assert(!isOver, `the process ended by itself: ${child.stderr}`);
    return await count() >= Math.max(CHUNK, lines / 4);
  }, longestMs);
  child.kill("SIGKILL");
  assertEquals((await child.exited).signal, "SIGKILL");
  return await count();
}

function send(dsn: string, args: readonly string[], input: { input?: string; keepInput?: boolean } = {}): TestProcess {
  return startProcess(CLI, { args: ["message", "send", "mails", ...args], env: { PGQRS_DSN: dsn }, ...input });
}

function assertSent(exit: unknown, { stdout, stderr }: TestProcess, lines: number): void {
  assertEquals({ exit, stderr }, { exit: { code: 0, signal: null }, stderr: `Sent ${lines} messages\n` });
  assert(/^mails +\d+$/m.test(stdout) || stdout.includes(String(lines)), stdout);
}

/** Waits for the end of a process, and resolves to the most memory that it had, in MB; 0 where nobody can tell. */
async function largest({ pid, exited }: TestProcess): Promise<number> {
  let [isOver, kilobytes] = [false, 0];
  const over = exited.then(() => isOver = true);
  const status = `/proc/${pid}/status`;
  while (!isOver) {
    if (existsSync(status)) kilobytes = Math.max(kilobytes, peakOf(status));
    let timer: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([over, new Promise((resolve) => timer = setTimeout(resolve, 20))]);
    clearTimeout(timer);
  }
  return Math.round(kilobytes / 1_024);
}

function peakOf(status: string): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(status, "utf8"))?.[1] ?? 0);
  } catch {
    // It has ended in between.
    return 0;
  }
}

/** Resolves to how many milliseconds the library took. */
async function enqueueAll(store: Store, lines: number): Promise<number> {
  const producer = store.producer<Mail>("mails");
  let ms = 0;
  for (let n = 0; n < lines; n += CHUNK) {
    const mails = Array.from({ length: Math.min(CHUNK, lines - n) }, (_, i) => mailOf(n + i));
    const begin = performance.now();
    await producer.enqueueMany(mails);
    ms += performance.now() - begin;
  }
  return ms;
}

/** Looks at every message. */
async function check(store: Store, lines: number): Promise<{ missing: number; twice: number }> {
  const seen = new Uint8Array(lines);
  let [found, twice] = [0, 0];
  let cursor: string | null = null;
  do {
    const page: Page<Message<Mail>> = await store.admin.messages.list<Mail>({
      queue: "mails",
      limit: CHUNK,
      ...(cursor !== null && { cursor }),
    });
    for (const { payload: { id } } of page.items) {
      if (seen[id] === 1) twice++;
      else found++;
      seen[id] = 1;
    }
    cursor = page.cursor;
  } while (cursor !== null);
  return { missing: lines - found, twice };
}

async function withStore<T>(open: Open, work: (store: Store, dsn: string) => Promise<T>): Promise<T> {
  const { dsn, close } = await open();
  try {
    await using store = await connect(dsn);
    await store.admin.install();
    await store.admin.createQueue("mails");
    return await work(store, dsn);
  } finally {
    await close();
  }
}

function writeMails(file: string, lines: number): void {
  const handle = openSync(file, "w");
  for (let n = 0; n < lines; n += CHUNK) {
    const mails = Array.from({ length: Math.min(CHUNK, lines - n) }, (_, i) => `${JSON.stringify(mailOf(n + i))}\n`);
    writeSync(handle, mails.join(""));
  }
  closeSync(handle);
}

function mailOf(id: number): Mail {
  return { id, to: `user${id}@example.com`, text: TEXT };
}

function percent(part: number): string {
  return `${Math.round(part * 100)} %`;
}

function perSecond(lines: number, ms: number): string {
  return `${Math.round(lines / ms * 1_000)} a second`;
}
