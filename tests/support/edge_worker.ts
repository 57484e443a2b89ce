/** Runs the module of the second argument in a worker that may use the network and nothing else. */
const options = { type: "module", deno: { permissions: { net: true } } } as WorkerOptions;
const worker = new Worker(new URL(Deno.args[1] ?? "", import.meta.url), options);
worker.onerror = (event) => {
  event.preventDefault();
  console.log(event.message);
  Deno.exit(1);
};
