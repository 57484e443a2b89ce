/** Turns of the event loop. */

/**
 * Calls back in the next turn of the event loop, after the promises that are settled now have been heard, and after sockets
 * and timers had theirs.
 */
export function nextTurn(call: () => void): void {
  const immediate = (globalThis as { setImmediate?: (call: () => void) => unknown }).setImmediate;
  if (immediate !== undefined) immediate(call);
  else setTimeout(call, 0);
}

/** Waits, or less when the signal is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
