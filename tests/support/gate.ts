/**
 * A gate that one process opens for others: a file that is there or not.
 *
 * @module
 */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A gate that is closed at first. */
export class Gate implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "pgqrs-gate-"));
  /** What other processes are told, to wait for it. */
  readonly path: string = join(this.#folder, "open");

  /** Lets everybody through, now and later. */
  open(): void {
    writeFileSync(this.path, "");
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Waits until the gate is open. */
export async function passGate(path: string): Promise<void> {
  while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 10));
}
