/**
 * The bars of a long test: each prints its figure, reached or not, and then the first that was missed fails the test.
 *
 * @module
 */
import { assert } from "@std/assert";

/** What has to be reached, what was measured, and whether that is enough. */
export type Bar = readonly [bar: string, figure: number | string, isReached: boolean];

/** Prints one line per bar, and fails when one is missed. */
export function assertAllBars(name: string, bars: readonly Bar[]): void {
  const lines = bars.map(([bar, figure, isReached]) => `${name}, ${bar}: ${figure}${isReached ? "" : " MISSED"}`);
  console.log(lines.join("\n"));
  for (const [bar, figure, isReached] of bars) assert(isReached, `${name}, ${bar}: but ${figure}`);
}
