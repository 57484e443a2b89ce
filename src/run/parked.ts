/** What an execution resolves to whose run goes on later. */

/** A run that was given back, and in how many milliseconds it is due; null: not by itself. */
export class Parked {
  readonly dueMs: number | null;

  constructor(dueMs: number | null) {
    this.dueMs = dueMs;
  }
}
