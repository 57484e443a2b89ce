/**
 * A stand-in for `@std/yaml`, so that tests and tools need no package host but npm.
 *
 * The published package uses the real one. This covers `parse` and `stringify`, which is all that pgqrs calls.
 *
 * @module
 */
import jsYaml from "js-yaml";

/** How `stringify` lays out a document. */
export interface StringifyOptions {
  /** Spaces per level. */
  indent?: number;
  /** Lines are folded at this width; -1 never folds. */
  lineWidth?: number;
  /** Whether mappings are written in key order. */
  sortKeys?: boolean;
}

/** Parses one YAML document; an empty one is `null`. */
export function parse(content: string): unknown {
  return jsYaml.load(content) ?? null;
}

/** Writes a value as one YAML document. */
export function stringify(data: unknown, options: StringifyOptions = {}): string {
  return jsYaml.dump(data, options);
}
