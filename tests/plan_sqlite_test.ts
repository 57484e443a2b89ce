/**
 * SQLite's plans: what a hot statement costs depends on its list alone. Nothing tells SQLite how long a list in JSON is, so
 * it once read every key of a queue for each item of a list; that is what this guards against.
 */
import { assert, assertEquals } from "@std/assert";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { connect } from "../mod.ts";
import { sqlite } from "../src/sql/dialect.ts";
import { enqueueMessages, findRefusal } from "../src/sql/enqueue.ts";
import {
  archiveLeased,
  claimMessages,
  deleteLeased,
  extendLeased,
  failLeased,
  listAttempts,
  releaseLeased,
} from "../src/sql/leases.ts";
import { findOverdue, forgetWorkers, purgeDead, purgeEnded, purgeKeys, takeTurn } from "../src/sql/maintenance.ts";
import { endMessages, findMessage, updateMessage } from "../src/sql/messages.ts";
import { render, type Statement } from "../src/sql/sql.ts";

const LEASE = { id: 7, token: 3 };
const KEY = { key: "k", hash: "js:0", conflict: "replace", hold: "default", hold_ms: 1_000 } as const;
const CLAIM = { queue: "tasks", limit: 10, leaseMs: undefined, defaultLeaseMs: 5_000, holder: "h", type: undefined };

const HOT: readonly Statement[] = [
  archiveLeased([{ ...LEASE, reason: null, result: null }], "h", "ann"),
  claimMessages(CLAIM),
  claimMessages({ ...CLAIM, type: "mail" }),
  deleteLeased([LEASE], "h"),
  endMessages([7], { outcome: "cancelled", reason: "because", by: "ops" }),
  enqueueMessages("tasks", ["1", "2"], {}),
  enqueueMessages("tasks", ["1", "2"], [KEY, {}]),
  extendLeased([{ ...LEASE, lease_ms: 1_000 }], "h"),
  failLeased([{ ...LEASE, error: "{}", delay_ms: 1_000, is_final: 0 }], "h", "ann"),
  findMessage(7),
  findOverdue(7, 100),
  findRefusal("tasks", [KEY]),
  forgetWorkers(300_000, 100),
  listAttempts([7]),
  purgeDead(7, 100),
  purgeEnded(7, 100, { archivedAt: 1_900_000_000_000, id: 7 }),
  purgeKeys(undefined, 100, { queueId: 7, key: "k" }),
  releaseLeased([{ ...LEASE, delay_ms: 1_000 }], "h"),
  takeTurn(60_000, false),
  updateMessage(7, { priority: 3 }),
];

/** What stands in a plan when a table is read as a whole, or when the keys of a queue are. */
const FULL_READ = /SCAN (?:a|c|k|m|q|pgqrs_\w+)(?: |$)|SEARCH (?:k|pgqrs_keys) [^(]*\(queue_id=\?\)/;

test("SQLite finds the rows of hot statements by an index", async () => {
  const database = new DatabaseSync(":memory:");
  try {
    await using store = await connect(database);
    await store.admin.install();
    for (const statement of HOT) {
      for (const { text, values } of render(statement, { dialect: sqlite, schema: "" }).parts) {
        const plan = database.prepare(`explain query plan ${text}`).all(...values) as { detail: string }[];
        const wrong = plan.map(({ detail }) => detail).filter((detail) => FULL_READ.test(detail));
        assertEquals(wrong, [], `${statement.name}: ${text}`);
      }
    }
    const scan = database.prepare("explain query plan select * from pgqrs_messages m where m.payload = 'x'").all();
    assert(FULL_READ.test((scan[0] as { detail: string }).detail), "the pattern finds what it is looking for");
  } finally {
    database.close();
  }
});
