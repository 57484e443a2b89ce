/** How values of the caller's own statements reach Postgres: as text, so that no serialiser of the client can fail. */

/** A list, which is a JSON text for a json column and an array literal for all others. */
class List {
  readonly #values: readonly unknown[];
  /** What a json column gets. */
  readonly json: string;

  constructor(values: readonly unknown[]) {
    this.#values = values.map((value) => Array.isArray(value) ? new List(value) : encodePostgresValue(value));
    this.json = jsonOf(values) ?? String(this);
  }

  toString(): string {
    const items = this.#values.map((value) => {
      if (value === null) return "null";
      return value instanceof List ? String(value) : `"${String(value).replaceAll(/["\\]/g, "\\$&")}"`;
    });
    return `{${items.join(",")}}`;
  }
}

/** A list of bigints is no JSON; as an array it may be what is meant, and if not the server refuses it. */
function jsonOf(values: readonly unknown[]): string | undefined {
  try {
    return JSON.stringify(values);
  } catch {
    return undefined;
  }
}

/**
 * A value of the caller's own statement in a form that the client only copies. An error while the client serialises a value
 * would reach the wrong caller, so that everything that can fail fails here, before anything is sent.
 *
 * @throws {TypeError | RangeError} for what has no text: a cycle, a bigint inside an object, an invalid date.
 */
export function encodePostgresValue(value: unknown): unknown {
  if (value === undefined || value === null) return null;
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) {
    return `\\x${Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  }
  if (Array.isArray(value)) return new List(value);
  if (typeof value === "object") return JSON.stringify(value);
  if (typeof value === "function" || typeof value === "symbol") {
    throw new TypeError(`Cannot use a ${typeof value} as a value of a statement`);
  }
  return String(value);
}

/** The types for which the client has a serialiser of its own. */
const SERIALIZED = [16, 17, 114, 1184, 3802];

/** Serialisers for the client that take what {@linkcode encodePostgresValue} makes and cannot fail. */
export const serializers: Readonly<Record<string, { to: number; from: null; serialize: (value: unknown) => string }>> =
  Object.fromEntries(
    SERIALIZED.map((type) => [`pgqrs_${type}`, {
      to: type,
      from: null,
      serialize: (value: unknown): string => isJson(type) && value instanceof List ? value.json : `${value}`,
    }]),
  );

function isJson(type: number): boolean {
  return type === 114 || type === 3802;
}
