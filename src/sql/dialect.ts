/**
 * The two dialects: only what is *spelled* differently stands here. What is truly different stands as twins beside each
 * other, in `perDialect` of the file that holds the statement.
 */

/** The names of the dialects. */
export type DialectName = "postgres" | "sqlite";

/** How a value is bound: every parameter travels as text, integer or null, so that no client has to serialise it. */
export type ParameterType = "int" | "instant" | "json" | "text";

/**
 * Marks what is made by the functions of `sql.ts`. Input that looks like a piece of SQL is refused when a statement is
 * rendered, so that no object of a caller can become SQL, whatever check was forgotten above.
 */
export const made: unique symbol = Symbol("made by pgqrs");

/** A value to bind. */
export interface Parameter {
  readonly [made]: true;
  readonly kind: "parameter";
  readonly type: ParameterType;
  readonly value: string | number | null;
}

/** How a dialect spells what all statements share. */
export interface Dialect {
  readonly name: DialectName;
  /** The instant at which a statement runs. */
  readonly now: string;
  /** What stands before and after an instant to make it milliseconds since the epoch. */
  readonly millis: readonly [string, string];
  /** The largest list that one statement takes, so that a synchronous database does not hold the event loop. */
  readonly listLimit: number;
  /** The placeholder of the `index`-th value, counted from one. */
  placeholder(index: number, type: ParameterType): string;
  /** The value as the client gets it: never anything that a client would serialise by itself. */
  encode(parameter: Parameter): string | number | bigint | null;
  /** The full name of an object. */
  qualify(schema: string, name: string): string;
}

const POSTGRES_CASTS: Readonly<Record<ParameterType, readonly [string, string]>> = {
  int: ["", "::text::bigint"],
  // A float of seconds is off by up to 16 microseconds in the year 9999, which reads as another millisecond when cut off.
  instant: [
    "date_trunc('milliseconds', to_timestamp((",
    "::text::numeric / 1000)::float8) + interval '500 microseconds')",
  ],
  json: ["", "::text::json"],
  text: ["", "::text"],
};

/** PostgreSQL 14 and later. Every parameter is declared as text and cast, so that no client's serialiser ever runs. */
export const postgres: Dialect = {
  name: "postgres",
  now: "date_trunc('milliseconds', statement_timestamp())",
  // Whole milliseconds are all that is stored, so that rounding is exact; `extract` computes with decimals and takes longer.
  millis: ["round(date_part('epoch', ", ") * 1000)::bigint"],
  listLimit: Number.POSITIVE_INFINITY,
  placeholder(index: number, type: ParameterType): string {
    const [before, after] = POSTGRES_CASTS[type];
    return `${before}$${index}${after}`;
  },
  encode({ value }: Parameter): string | null {
    return value === null ? null : String(value);
  },
  qualify(schema: string, name: string): string {
    return `${quoteName(schema)}.${quoteName(name)}`;
  },
};

/** SQLite 3.45 and later, and libSQL. Instants are integers, so that both sides of a comparison are. */
export const sqlite: Dialect = {
  name: "sqlite",
  now: "cast(round(unixepoch('subsec') * 1000) as integer)",
  millis: ["", ""],
  listLimit: 2_000,
  // `?1` binds by number. libSQL binds `$1` by first appearance, so values could be swapped without an error.
  placeholder: (index: number): string => `?${index}`,
  encode({ value }: Parameter): string | number | bigint | null {
    // Clients bind JavaScript numbers as REAL; a bigint is an INTEGER everywhere.
    return value === null || typeof value === "string" ? value : BigInt(value);
  },
  qualify: (_schema: string, name: string): string => quoteName(name),
};

/** Quotes a name: the one place of the program that does. */
export function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
