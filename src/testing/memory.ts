/** The database of a test kit. */
import type { Driver, DriverOptions } from "../sql/driver.ts";

type OpenDriver = (dsn: string, options: DriverOptions) => Promise<Driver>;

let open: OpenDriver | undefined;

/** Says which driver opens databases in memory. Only what is public may pick one, so `testing.ts` calls this. */
export function provideDriver(given: OpenDriver): void {
  open = given;
}

/** Opens an empty database in memory. */
export async function openMemory(): Promise<Driver> {
  if (open === undefined) throw new TypeError("Cannot open a test kit: import it from @pgqrs/pgqrs/testing");
  return await open("sqlite::memory:", {
    maxConnections: 1,
    connectTimeoutMs: 30_000,
    timeoutMs: 30_000,
    keepAliveMs: 30_000,
    useWal: false,
    pooler: false,
    onNotice: () => {},
  });
}
