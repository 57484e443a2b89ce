/** The child of the tests of `processes.ts`: repeats what it is given and waits to be killed. */
import process from "node:process";

console.log(`arguments ${process.argv.slice(2).join(" ")}`);
console.log(`variable ${process.env.PGQRS_ECHO ?? "unset"}`);
console.error("to standard error");
for await (const chunk of process.stdin) console.log(`input ${String(chunk)}`);
if (!process.argv.includes("wait")) process.exit(3);
console.log("waiting");
setTimeout(() => {}, 60_000);
