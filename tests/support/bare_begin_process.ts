/**
 * The child of the tests of `begin`: loads the bare client until its transactions go wrong.
 *
 * A process of its own, because one of the errors is thrown where nobody can catch it.
 */
import process from "node:process";
import postgres from "postgres";

const [dsn = "", load] = process.argv.slice(2);
const isPipelineLoad = load === "max_pipeline";
let failedBegins = 0;
let acknowledged = 0;

process.on("uncaughtException", () => failedBegins++).on("unhandledRejection", () => failedBegins++);

const sql = postgres(dsn, {
  max: isPipelineLoad ? 10 : 1,
  ...(isPipelineLoad ? { max_pipeline: 1 } : {}),
  onnotice() {},
  fetch_types: false,
});
const observer = postgres(dsn, { max: 1, onnotice() {} });
// The connection under test has to be a new one: with a warm one the count at which it goes wrong is another.
await observer`create table if not exists begun (n serial)`;
await observer`truncate begun`;

function insert(): Promise<void> {
  return sql`insert into begun default values`.then(() => void acknowledged++, () => {});
}

function transact(): Promise<void> {
  return sql.begin((tx) => tx`insert into begun default values`).then(() => void acknowledged++, () => {
    failedBegins++;
  });
}

async function insertForever(until: number, share: number): Promise<void> {
  for (let i = 0; performance.now() < until; i++) await (i % 10 < share ? transact() : insert());
}

const work = isPipelineLoad
  ? Array.from({ length: 50 }, () => insertForever(performance.now() + 2_000, 1))
  : [...Array.from({ length: 101 }, insert), transact(), ...Array.from({ length: 101 }, insert)];
await Promise.race([Promise.all(work), new Promise((resolve) => setTimeout(resolve, isPipelineLoad ? 4_000 : 2_000))]);
const [count] = await observer`select count(*)::int as durable from begun`;
console.log(`result ${JSON.stringify({ failedBegins, acknowledged, durable: count?.durable })}`);
process.exit(0);
