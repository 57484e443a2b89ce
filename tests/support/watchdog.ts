/**
 * A shell that outlives the test process by a moment, to clean up after it.
 *
 * @module
 */
import { spawn } from "node:child_process";

/** Cleans up when this process is gone. */
export interface Watchdog {
  /** Ends the watchdog: nothing is left to clean up. */
  dismiss(): void;
}

/**
 * Guards a server that was started in a folder.
 *
 * A test process may be killed without a chance to run its own clean-up (a time limit, Ctrl-C, a crash). The shell
 * started here holds the read end of a pipe whose only write end is in this process; the kernel closes that end
 * whatever the manner of death, the shell reads the end of the file, ends the server and removes the folder.
 *
 * @param folder is removed with everything in it.
 * @param pidFile names the file in which the server keeps its process id while it runs; a negative one is a group.
 */
export function guard(folder: string, pidFile: string): Watchdog {
  const child = spawn("/bin/sh", ["-c", SCRIPT, "watchdog", folder, pidFile], {
    stdio: ["pipe", "ignore", "ignore"],
    cwd: "/",
    // A process group of its own, because a test runner may kill its whole group.
    detached: true,
  });
  child.on("error", () => {});
  child.stdin.on("error", () => {});
  // Neither the shell nor the pipe may keep a test process alive that has nothing else to do.
  child.unref();
  unref(child.stdin);
  return {
    dismiss() {
      child.stdin.end("done\n");
    },
  };
}

/** The `unref` of a pipe, which the declared types of a child's streams lack. */
export function unref(stream: unknown): void {
  if (typeof stream === "object" && stream !== null && "unref" in stream && typeof stream.unref === "function") {
    stream.unref();
  }
}

// SIGQUIT is the immediate shutdown of PostgreSQL and PgBouncer alike. The wait lets the server end its children,
// which still write into the folder, before the folder goes.
const SCRIPT = `
trap '' INT TERM HUP
read -r word && [ "$word" = done ] && exit 0
pid=$(head -n 1 "$2" 2>/dev/null)
if [ -n "$pid" ] && kill -s QUIT -- "$pid" 2>/dev/null; then
  for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    kill -s 0 -- "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -s KILL -- "$pid" 2>/dev/null
fi
rm -rf "$1"
`;
