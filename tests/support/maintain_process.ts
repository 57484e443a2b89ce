/**
 * Does maintenance until it is killed: `maintain_process.ts <dsn>`.
 *
 * @module
 */
import process from "node:process";
import { connect } from "../../mod.ts";

await using store = await connect(process.argv[2] ?? "");
console.log("begins");
const { messages } = await store.admin.maintain();
console.log(`has deleted ${messages}`);
