/** The channel on which processes that share a schema give each other hints, and what statements send on it. */
import { made } from "./dialect.ts";
import { type Deferred, perDialect, raw, sql, type SqlValue } from "./sql.ts";

/** The longest name that Postgres takes. */
const LONGEST = 63;
/** How a text begins that is only sent to find out whether it arrives. */
const PROBE = "probe:";

/** The channel of a schema. Those of two schemas differ, but it would do no harm if they did not. */
export function channelOf(schema: string): string {
  const name = `pgqrs_${schema}`;
  if (new TextEncoder().encode(name).length <= LONGEST) return name;
  let hash = 0;
  for (let i = 0; i < schema.length; i++) hash = (hash * 31 + schema.charCodeAt(i)) >>> 0;
  return `pgqrs_${hash.toString(16)}`;
}

/** A text like no other, to be sent to oneself. */
export function newProbe(): string {
  return `${PROBE}${crypto.randomUUID()}`;
}

/** Whether a text is no hint but the probe of somebody. */
export function isProbe(text: string): boolean {
  return text.startsWith(PROBE);
}

/** The channel as a text literal. */
const channelLiteral: Deferred = {
  [made]: true,
  kind: "deferred",
  resolve: ({ schema }) => raw(`'${channelOf(schema).replaceAll("'", "''")}'`),
};

/** Postgres: the call that sends a hint when the transaction commits. Equal hints of one transaction are sent once. */
export function sendHint(text: SqlValue): Deferred {
  return perDialect({
    postgres: () => sql`pg_notify(${channelLiteral}, ${text})`,
    sqlite: () => raw("null"),
  });
}

/** The same as one more column of what a statement returns, which nobody reads; on SQLite there is none. */
export function alsoSend(text: SqlValue): Deferred {
  return perDialect({
    postgres: () => sql`, ${sendHint(text)}::text`,
    sqlite: () => raw(""),
  });
}
