/**
 * A handler for whatever serves `Request` and `Response`: `/health`, `/metrics` for Prometheus, `/queues` as JSON. By itself:
 * `deno run -A examples/monitor.ts [dsn] [port]`.
 *
 * @module
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { connect, type Store, type Worker } from "@pgqrs/pgqrs";

/** Makes the handler for a store, and for those of its workers that run in this process. */
export function monitor(store: Store, workers: readonly Worker[] = []): (request: Request) => Promise<Response> {
  return async (request) => {
    switch (new URL(request.url).pathname) {
      case "/health":
        return await store.ping({ timeoutMs: 2_000 }).then(
          ({ roundTripMs }) => {
            const health = workers.map((worker) => worker.health());
            const isUp = health.every(({ state }) => state !== "stopped");
            const body = { status: isUp ? "up" : "stopped", roundTripMs, workers: health };
            return Response.json(body, { status: isUp ? 200 : 503 });
          },
          (error) => Response.json({ status: "down", reason: error.message }, { status: 503 }),
        );
      case "/queues":
        return Response.json(await store.admin.metrics());
      case "/metrics":
        return new Response(await exposition(store), { headers: { "content-type": "text/plain; version=0.0.4" } });
      default:
        return new Response("Not found: try /health, /metrics or /queues\n", { status: 404 });
    }
  };
}

async function exposition(store: Store): Promise<string> {
  const lines = ["# HELP pgqrs_messages Messages by queue and state.", "# TYPE pgqrs_messages gauge"];
  for (const metrics of await store.admin.metrics()) {
    const queue = JSON.stringify(metrics.queue);
    for (const state of ["ready", "delayed", "leased", "succeeded", "failed", "cancelled"] as const) {
      lines.push(`pgqrs_messages{queue=${queue},state="${state}"} ${metrics[state]}`);
    }
    lines.push(`pgqrs_oldest_ready_seconds{queue=${queue}} ${(metrics.oldestReadyMs ?? 0) / 1_000}`);
  }
  return `${lines.join("\n")}\n`;
}

if (import.meta.main) {
  const store = await connect(process.argv[2] ?? "sqlite::memory:");
  await store.admin.install();
  const handle = monitor(store);
  const server = createServer(async ({ url, method }, answer) => {
    // A path that is no URL, or a database that is down, must not end the server.
    const response = await Promise.resolve()
      .then(() => handle(new Request(new URL(url ?? "/", "http://localhost"), { method: method ?? "GET" })))
      .catch((error) => new Response(`${error.message}\n`, { status: 500 }));
    answer.writeHead(response.status, Object.fromEntries(response.headers)).end(await response.text());
  });
  server.listen(Number(process.argv[3] ?? 9_187), "127.0.0.1", () => {
    console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}/health`);
  });
  process.once("SIGINT", () => server.close(() => store.close()));
}
