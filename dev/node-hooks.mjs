// Node reads neither the import map of deno.json nor the paths of tsconfig.json, so this maps the same names for it.
import { registerHooks } from "node:module";

const files = new Map([
  ["@pgqrs/pgqrs", "../mod.ts"],
  ["@std/assert", "./std/assert/mod.ts"],
  ["@std/cli", "./std/cli/mod.ts"],
  ["@std/cli/parse-args", "./std/cli/mod.ts"],
  ["@std/yaml", "./std/yaml/mod.ts"],
]);

registerHooks({
  resolve(specifier, context, nextResolve) {
    const file = files.get(specifier);
    return nextResolve(file === undefined ? specifier : new URL(file, import.meta.url).href, context);
  },
});
