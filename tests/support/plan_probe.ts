/**
 * What PostgreSQL really did for a statement: the plans of it and of all statements inside its functions.
 *
 * `auto_explain` is part of the npm binaries; loaded into a session it sends the plan of every statement, nested ones too,
 * as a message to the client.
 *
 * @module
 */
import postgres from "postgres";

/** A node of a plan. */
interface PlanNode {
  readonly "Node Type": string;
  readonly "Index Name"?: string;
  readonly "Relation Name"?: string;
  readonly "Shared Hit Blocks"?: number;
  readonly "Shared Read Blocks"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** What was done for one call. */
export interface Probe {
  /** The rows of the call. */
  readonly rows: readonly Record<string, unknown>[];
  /** Buffers that the call touched, in functions too. */
  readonly buffers: number;
  /** Each kind of node with what it read, as in `Index Scan pgqrs_messages_ready`; sorted, each once. */
  readonly nodes: readonly string[];
  /** How many statements were executed, nested ones counted. */
  readonly statements: number;
}

/** A session that tells the plans of what it executes. */
export interface PlanSession {
  readonly sql: postgres.Sql;
  /** Executes a statement and tells what was done for it. */
  probe(text: string, values?: readonly (string | null)[]): Promise<Probe>;
  close(): Promise<void>;
}

/** Opens a session of its own, with these settings. */
export async function openPlanSession(dsn: string, settings: readonly string[] = []): Promise<PlanSession> {
  const seen: { readonly Plan: PlanNode; readonly "Query Text": string }[] = [];
  const onnotice = ({ message = "" }: postgres.Notice): void => {
    const start = message.indexOf("plan:");
    if (start >= 0) seen.push(JSON.parse(message.slice(start + "plan:".length)));
  };
  const sql = postgres(dsn, { max: 1, onnotice, fetch_types: false });
  for (const setting of [...EXPLAIN, ...settings]) await sql.unsafe(setting);
  return {
    sql,
    async probe(text, values = []) {
      seen.length = 0;
      await sql.unsafe("set client_min_messages = log");
      const rows = [...await sql.unsafe(text, [...values])];
      await sql.unsafe("set client_min_messages = warning");
      // The statement that the client sent is reported last, and its buffers include those of the nested ones.
      const own = seen.filter((plan) => plan["Query Text"].includes(text)).at(-1);
      if (own === undefined) throw new Error("auto_explain reported no plan");
      const nodes = [...new Set(seen.flatMap(({ Plan }) => nodesOf(Plan)))].sort();
      return { rows, buffers: buffersOf(own.Plan), nodes, statements: seen.length };
    },
    close: () => sql.end({ timeout: 5 }),
  };
}

const EXPLAIN = [
  "load 'auto_explain'",
  "set auto_explain.log_min_duration = 0",
  "set auto_explain.log_nested_statements = on",
  "set auto_explain.log_analyze = on",
  "set auto_explain.log_buffers = on",
  "set auto_explain.log_timing = off",
  "set auto_explain.log_format = json",
];

function buffersOf(plan: PlanNode): number {
  return (plan["Shared Hit Blocks"] ?? 0) + (plan["Shared Read Blocks"] ?? 0);
}

function nodesOf(plan: PlanNode): string[] {
  const object = plan["Index Name"] ?? plan["Relation Name"];
  const own = object === undefined ? plan["Node Type"] : `${plan["Node Type"]} ${object}`;
  return [own, ...(plan.Plans ?? []).flatMap(nodesOf)];
}
