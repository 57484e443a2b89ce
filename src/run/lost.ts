/** What ends an execution whose run is somebody else's by now. */
import { LeaseLostError } from "../errors.ts";

/** The lease by which a run is executed is gone: nothing is recorded any more, and somebody else may be at it. */
export class RunLostError extends LeaseLostError {
  constructor(id: number) {
    super(`Lease of run ${id} was lost: nothing was changed`);
    this.name = "LeaseLostError";
  }
}
