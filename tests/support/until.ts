/**
 * Waiting for a condition instead of for a time.
 *
 * @module
 */

/** Waits until something holds, and fails with its name when it has not held for far too long. */
export async function until(what: string, holds: () => Promise<boolean> | boolean, longestMs = 20_000): Promise<void> {
  const end = performance.now() + longestMs;
  while (!await holds()) {
    if (performance.now() > end) throw new Error(`Waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
