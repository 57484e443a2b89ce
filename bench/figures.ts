/** Middle values, and tables of them. */

/** The middle of some values, or between the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

/** The value below which a share of the values lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** A table as the formatter would have it, because the page is checked like any other. The first column is of words. */
export function tableOf(head: readonly string[], body: readonly (readonly string[])[], words = 1): string[] {
  const rows = [head, ...body];
  const widths = head.map((_, i) => Math.max(3, ...rows.map((cells) => cells[i]?.length ?? 0)));
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const [first = "", ...others] = rows.map((cells) =>
    line(cells.map((cell, i) => i < words ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
  );
  const rule = line(widths.map((width, i) => i < words ? "-".repeat(width) : `${"-".repeat(width - 1)}:`));
  return [first, rule, ...others];
}
