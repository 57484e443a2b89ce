/** Durations as tests write them. */
import { checkDuration } from "../options.ts";

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Reads milliseconds, or a text such as `90s`, `5m`, `1h30m` or `30d`. @throws {TypeError | RangeError} */
export function millisecondsOf(what: string, given: number | string): number {
  const ms = typeof given === "string" ? read(given) : given;
  if (ms === undefined) {
    throw new TypeError(`Cannot use ${what}: it must be milliseconds, or a text such as "90s", "5m", "1h30m" or "30d"`);
  }
  checkDuration(what, ms);
  return ms;
}

function read(text: string): number | undefined {
  if (!/^(\d{1,12}(ms|[smhd]))+$/.test(text)) return undefined;
  const parts = [...text.matchAll(/(\d+)(ms|[smhd])/g)];
  return parts.reduce((total, [, count, unit = ""]) => total + Number(count) * (UNITS[unit] as number), 0);
}
