/** Durations as people write them. */

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Reads `30` (seconds), `1.5s`, `5m`, `2h30m`, `7d` or `250ms` as milliseconds; `undefined` for anything else. Units go from
 * large to small, each at most once.
 */
export function readDuration(text: string): number | undefined {
  if (/^\d{1,12}(\.\d{1,6})?$/.test(text)) return Math.round(Number(text) * 1_000);
  if (!/^(\d{1,12}(\.\d{1,6})?(ms|[smhd]))+$/.test(text)) return undefined;
  let total = 0;
  let last = Infinity;
  for (const [, count, unit = ""] of text.matchAll(/([\d.]+)(ms|[smhd])/g)) {
    const size = UNITS[unit] as number;
    if (size >= last) return undefined;
    total += Number(count) * size;
    last = size;
  }
  return Math.round(total);
}

/** Writes milliseconds as {@linkcode readDuration} reads them, in at most two units. */
export function writeDuration(ms: number): string {
  if (ms > 0 && ms < 1_000) return `${Math.ceil(ms)}ms`;
  if (ms < 1_000) return "0s";
  if (ms < 10_000 && ms % 1_000 !== 0) return `${(ms / 1_000).toFixed(1)}s`;
  const sizes = Object.entries(UNITS).reverse();
  const parts: string[] = [];
  let rest = Math.round(ms / 1_000) * 1_000;
  for (const [unit, size] of sizes) {
    const count = Math.floor(rest / size);
    if (count > 0) parts.push(`${count}${unit}`);
    rest -= count * size;
  }
  return parts.slice(0, 2).join("");
}
