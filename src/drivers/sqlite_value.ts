/** How values of the caller's own statements reach SQLite. */

/** A value of the caller's own statement in a form that SQLite takes: what it has no type for travels as text. */
export function encodeCallerValue(value: unknown): unknown {
  if (value === undefined) return null;
  if (typeof value === "boolean") return value ? 1n : 0n;
  // A JavaScript number would be bound as REAL even if it is whole.
  if (typeof value === "number" && Number.isSafeInteger(value)) return BigInt(value);
  if (value instanceof Date) return BigInt(value.getTime());
  if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
  return JSON.stringify(value);
}
