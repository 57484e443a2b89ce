/**
 * What every command of `pgqrs` is tried with. Command lines are words with blanks between them.
 *
 * @module
 */

/** What a command is tried with. */
export interface CommandCase {
  /** As the command has it. */
  readonly usage: string;
  /** Finds something, or does what it should. */
  readonly found: string;
  /** Names that its data has. */
  readonly shows: string;
  /** Somebody who reads tables is only told in words what was done. */
  readonly isSilent?: boolean;
  /** Cannot be used: exit code 2. */
  readonly bad: string;
  /** Each means something that is not there: exit code 3. */
  readonly missing?: readonly string[];
  /** Finds nothing, which is no error. */
  readonly nothing?: string;
  /** It asks first; these are names that its data has with --dry-run. */
  readonly preview?: string;
  /** It needs a worker "live" that runs. */
  readonly needsWorker?: boolean;
  /** It changes something, so that every try needs a database of its own. */
  readonly isChange?: boolean;
  /** Without that it works all the same. */
  readonly works?: "without a database" | "without tables";
}

const MESSAGE = "id state priority attempts visibleAt worker key payload";
const ENDED = "id outcome reason attempts archivedAt archivedBy payload";
const QUEUE = "name pausedAt leaseMs maxAttempts concurrency retentionMs";
const COUNTS = "queue isPaused ready delayed leased succeeded failed cancelled oldestReadyMs";
const RUN = "id workflow status why key priority attempts stepCount endedStepCount enqueuedAt dueAt waitsFor";
const WORKER = "name kind queues seenAt pausedAt leased expired";

/** For each command what it is tried with, on what `openScene` has prepared. */
export const cases: readonly CommandCase[] = [
  tried("install", "install", "installed", { isSilent: true, bad: "install --print", works: "without tables" }),
  tried("uninstall", "uninstall", "removed", {
    isSilent: true,
    bad: "uninstall --force",
    preview: "queue live ended",
    isChange: true,
    works: "without tables",
  }),
  tried("verify", "verify", "verified", { isSilent: true, bad: "verify tables" }),
  tried("migrate", "migrate", "applied", { isSilent: true, bad: "migrate now", works: "without tables" }),
  tried("maintain", "maintain", "messages keys workers isDone", { bad: "maintain tasks", isChange: true }),
  tried("doctor", "doctor", "check level text", { bad: "doctor --all" }),
  tried("config", "config", "setting value source", {
    bad: "config --config /there/is/no/such.yaml",
    works: "without a database",
  }),
  tried("stats", "stats", "queues ready delayed leased succeeded failed workers consumers", { bad: "stats tasks" }),
  tried("queue create <name>", "queue create fresh --lease 2m", QUEUE, {
    bad: "queue create fresh --max-attempts 0",
    isChange: true,
  }),
  tried("queue update <name>", "queue update tasks --concurrency 3", QUEUE, {
    bad: "queue update tasks --lease soon",
    missing: ["queue update nope --concurrency 3"],
    isChange: true,
  }),
  tried("queue list", "queue list", QUEUE, { bad: "queue list --state ready" }),
  tried("queue get <name>", "queue get tasks", QUEUE, {
    bad: "queue get",
    missing: ["queue get nope", "queue get Nope-2"],
  }),
  tried("queue delete <name>", "queue delete tasks --force", "deleted", {
    isSilent: true,
    bad: "queue delete --yes",
    missing: ["queue delete nope --yes", "queue delete nope --dry-run"],
    preview: "queue live ended",
    isChange: true,
  }),
  tried("queue purge <name>", "queue purge tasks", "queue deleted", {
    bad: "queue purge tasks idle",
    missing: ["queue purge nope --yes"],
    nothing: "queue purge idle --yes",
    preview: "queue messages",
    isChange: true,
  }),
  tried("queue pause <name>", "queue pause tasks", QUEUE, {
    bad: "queue pause tasks idle",
    missing: ["queue pause nope"],
    isChange: true,
  }),
  tried("queue resume <name>", "queue resume tasks", QUEUE, {
    bad: "queue resume tasks idle",
    missing: ["queue resume nope"],
    isChange: true,
  }),
  tried("queue metrics [name]", "queue metrics", COUNTS, {
    bad: "queue metrics tasks idle",
    missing: ["queue metrics nope"],
  }),
  tried("message send <queue> [payload]", 'message send tasks {"n":1} --key n', MESSAGE, {
    bad: "message send tasks {oops",
    missing: ["message send nope 1"],
    isChange: true,
  }),
  tried("message read <queue>", "message read tasks --count 10 --lock-time 1h", MESSAGE, {
    bad: "message read tasks --count 0",
    missing: ["message read nope"],
    nothing: "message read idle",
    isChange: true,
  }),
  tried("message dequeue <queue>", "message dequeue tasks", MESSAGE, {
    bad: "message dequeue tasks --count 2",
    missing: ["message dequeue nope"],
    nothing: "message dequeue idle",
    isChange: true,
  }),
  tried("message show <queue> <id>", "message show tasks 1", MESSAGE, {
    bad: "message show tasks one",
    missing: ["message show tasks 99", "message show idle 1", "message show nope 1"],
  }),
  tried("message list <queue>", "message list tasks", MESSAGE, {
    bad: "message list tasks --state lost",
    missing: ["message list nope"],
    nothing: "message list idle",
  }),
  tried("message count <queue>", "message count tasks", "queue count", {
    bad: "message count tasks --limit 5",
    missing: ["message count nope"],
    nothing: "message count idle",
  }),
  tried("message delete <queue> <id>", "message delete tasks 1", "deleted", {
    isSilent: true,
    bad: "message delete tasks one",
    missing: ["message delete tasks 99", "message delete tasks 4"],
    isChange: true,
  }),
  tried("message archive <queue> <id>", "message archive tasks 1", "archived", {
    isSilent: true,
    bad: "message archive tasks one",
    missing: ["message archive tasks 99", "message archive tasks 4"],
    isChange: true,
  }),
  tried("message cancel <queue> <id>", "message cancel tasks 1", "cancelled", {
    isSilent: true,
    bad: "message cancel tasks one",
    missing: ["message cancel tasks 99", "message cancel tasks 4"],
    isChange: true,
  }),
  tried("message release <queue> <id>", "message release tasks 3", MESSAGE, {
    bad: "message release tasks one",
    missing: ["message release tasks 99", "message release tasks 4"],
    isChange: true,
  }),
  tried("message update <queue> <id>", "message update tasks 1 --priority 9", MESSAGE, {
    bad: "message update tasks one --priority 9",
    missing: ["message update tasks 99 --priority 9", "message update tasks 4 --priority 9"],
    isChange: true,
  }),
  tried("archive <queue> <id>", "archive tasks 1", "archived", {
    isSilent: true,
    bad: "archive tasks 1 2",
    missing: ["archive tasks 99", "archive nope 1"],
    isChange: true,
  }),
  tried("archive list <queue>", "archive list tasks", ENDED, {
    bad: "archive list tasks --outcome lost",
    missing: ["archive list nope"],
    nothing: "archive list idle",
  }),
  tried("archive show <queue> <id>", "archive show tasks 4", ENDED, {
    bad: "archive show tasks 0",
    missing: ["archive show tasks 1", "archive show idle 4"],
  }),
  tried("archive count <queue>", "archive count tasks", "queue count", {
    bad: "archive count tasks --since yesterday",
    missing: ["archive count nope"],
    nothing: "archive count idle",
  }),
  tried("archive purge [queue]", "archive purge tasks", "queue deleted", {
    bad: "archive purge --yes",
    missing: ["archive purge nope --yes"],
    nothing: "archive purge idle --yes",
    preview: "queue messages",
    isChange: true,
  }),
  tried("dead list [queue]", "dead list", "id queue reason attempts archivedAt archivedBy payload", {
    bad: "dead list --limit many",
    missing: ["dead list nope"],
    nothing: "dead list idle",
  }),
  tried("dead show <id>", "dead show 5", "id outcome reason attempts archivedAt archivedBy payload error", {
    bad: "dead show five",
    missing: ["dead show 4", "dead show 99"],
  }),
  tried("dead replay [id...]", "dead replay --queue tasks", "id", {
    bad: "dead replay",
    missing: ["dead replay 4", "dead replay --queue nope"],
    nothing: "dead replay --queue idle",
    isChange: true,
  }),
  tried("dead purge [queue]", "dead purge --all", "deleted", {
    bad: "dead purge tasks --all --yes",
    missing: ["dead purge nope --yes"],
    nothing: "dead purge idle --yes",
    preview: "messages",
    isChange: true,
  }),
  tried("workflow list", "workflow list", "workflow ready delayed leased waiting paused blocked succeeded failed", {
    bad: "workflow list flow",
  }),
  tried("workflow start <workflow> [input]", 'workflow start flow {"n":1} --delay 30 --priority 3 --key n', RUN, {
    bad: "workflow start flow {oops",
    isChange: true,
  }),
  tried("workflow runs", "workflow runs", "id workflow status attempts stepCount enqueuedAt key why", {
    bad: "workflow runs --status done",
    missing: ["workflow runs --workflow nope"],
    nothing: "workflow runs --status failed",
  }),
  tried("workflow show <id>", "workflow show 7", "id workflow status why attempts maxAttempts input result childIds", {
    bad: "workflow show seven",
    missing: ["workflow show 1", "workflow show 99"],
  }),
  tried("workflow cancel <id>", "workflow cancel 7", RUN, {
    bad: "workflow cancel 7 8 --yes",
    missing: ["workflow cancel 1 --yes", "workflow cancel 99 --dry-run"],
    preview: "id workflow status",
    isChange: true,
  }),
  tried("workflow pause <id>", "workflow pause 8", RUN, {
    bad: "workflow pause",
    missing: ["workflow pause 1", "workflow pause 99"],
    isChange: true,
  }),
  tried("workflow resume <id>", "workflow resume 9", RUN, {
    bad: "workflow resume nine",
    missing: ["workflow resume 1", "workflow resume 99"],
    isChange: true,
  }),
  tried("workflow retry <id>", "workflow retry 10", RUN, {
    bad: "workflow retry 10 --key k",
    missing: ["workflow retry 4", "workflow retry 99"],
    isChange: true,
  }),
  tried("workflow wake <id>", "workflow wake 8", RUN, {
    bad: "workflow wake 0",
    missing: ["workflow wake 1", "workflow wake 99"],
    isChange: true,
  }),
  tried("workflow send <id> <topic> <payload>", "workflow send 7 approval true --key k", "id topic", {
    isSilent: true,
    bad: "workflow send 7 approval {oops",
    missing: ["workflow send 1 approval true", "workflow send 99 approval true"],
    isChange: true,
  }),
  tried("worker run <queue>", "worker run tasks --exec cat --drain", "queue completed failed dead", {
    bad: "worker run tasks --drain",
    nothing: "worker run idle --exec cat --drain",
    isChange: true,
  }),
  tried("worker list", "worker list", WORKER, {
    bad: "worker list host-1",
    missing: ["worker list --queue nope"],
    nothing: "worker list --queue idle",
    needsWorker: true,
  }),
  tried("worker get <name>", "worker get host-1", WORKER, { bad: "worker get", missing: ["worker get nobody"] }),
  tried("worker stats", "worker stats", "workers paused unseen consumers leased expired", {
    bad: "worker stats --queue tasks",
  }),
  tried("worker health", "worker health", "name queues isHealthy unseenMs isPaused expired", {
    bad: "worker health --max-age old",
    missing: ["worker health --queue nope"],
    nothing: "worker health --queue idle",
    needsWorker: true,
  }),
  tried("worker release <name>", "worker release host-1", "id", {
    bad: "worker release",
    missing: ["worker release nobody"],
    isChange: true,
  }),
  tried("worker pause <name>", "worker pause live", WORKER, {
    bad: "worker pause live host-1",
    missing: ["worker pause nobody", "worker pause host-1"],
    needsWorker: true,
    isChange: true,
  }),
  tried("worker resume <name>", "worker resume live", WORKER, {
    bad: "worker resume live host-1",
    missing: ["worker resume nobody", "worker resume host-1"],
    needsWorker: true,
    isChange: true,
  }),
  tried("worker purge", "worker purge --older-than 0", "purged", {
    bad: "worker purge live --yes",
    nothing: "worker purge --yes",
    preview: "name kind queues",
    needsWorker: true,
    isChange: true,
  }),
];

function tried(
  usage: string,
  found: string,
  shows: string,
  rest: Omit<CommandCase, "found" | "shows" | "usage">,
): CommandCase {
  return { usage, found, shows, ...rest };
}
