/**
 * An agent that calls tools in a loop: `deno run -A examples/agent.ts [dsn]`. Without a DSN everything lives in memory.
 *
 * Each answer of the model and each call of a tool is a step. When the process dies, or the agent waits for a person, the
 * conversation is there again without asking the model anew, which would cost money and might answer otherwise. The model
 * here is a fake that knows its lines.
 *
 * @module
 */
import process from "node:process";
import { connect, workflow } from "@pgqrs/pgqrs";

interface Turn {
  readonly role: "assistant" | "tool" | "user";
  readonly text: string;
}

type Answer = { readonly tool: "ask" | "search"; readonly input: string } | { readonly final: string };

let asked = 0;
let executions = 0;

/** Answers by what was said so far, as a model does. */
function model(conversation: readonly Turn[]): Answer {
  asked++;
  const answers: readonly Answer[] = [
    { tool: "search", input: "trains to Vienna" },
    { tool: "ask", input: "In the morning or in the evening?" },
    { tool: "search", input: `trains to Vienna, ${conversation.at(-1)?.text}` },
    { final: `Take the one at ${conversation.at(-1)?.text}` },
  ];
  return answers[conversation.filter(({ role }) => role === "tool").length] ?? { final: "I do not know" };
}

function search(input: string): string {
  console.log(`Searching ${input}`);
  return input.endsWith("morning") ? "7:42" : "7:42, 18:10";
}

const agent = workflow("agent", async (run, question: string) => {
  executions++;
  const conversation: Turn[] = [{ role: "user", text: question }];
  for (let turn = 0; turn < 20; turn++) {
    const answer = await run.step("model", () => model(conversation), { retry: { maxAttempts: 8 } });
    if ("final" in answer) return answer.final;
    const { tool, input } = answer;
    conversation.push({ role: "assistant", text: `${tool}(${input})` });
    const text = tool === "ask"
      ? await run.receive<string>("reply")
      : await run.step("search", () => search(input), { timeoutMs: 10_000 });
    conversation.push({ role: "tool", text });
  }
  throw new Error("The agent has come to no end");
});

const dsn = process.argv[2] ?? "sqlite::memory:";
await using store = await connect(dsn);
await store.admin.install();
const run = await store.start(agent, "When does my train leave?");

await store.worker([agent], { name: "first" }).drain();
console.log(`The agent is ${await run.status()}; the model was asked ${asked} times`);

await store.run(run.id).send("reply", "morning");
await store.worker([agent], { name: "second" }).drain();
console.log(await run.result());
console.log(`The function was called ${executions} times, the model was asked ${asked} times`);
await store.admin.queues.delete(agent.name, { force: true });
