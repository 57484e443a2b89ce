/**
 * A stand-in for `@std/cli/parse-args`, so that tests and tools need no package host but npm.
 *
 * The published command uses the real one. Values are `unknown` here where the real types are exact, so code that
 * compiles against this also compiles against that.
 *
 * @module
 */

/** What `parseArgs` is told about the options of a command. */
export interface ParseOptions {
  /** When set, what follows `--` goes to `args["--"]` and not to `args._`. */
  "--"?: boolean;
  /** Other names of an option. */
  alias?: Record<string, string | readonly string[]>;
  /** Options without a value; `true` makes every `--name` without `=` one. */
  boolean?: boolean | string | readonly string[];
  /** Options that may be repeated and become a list. */
  collect?: string | readonly string[];
  /** Values of options that are not given. */
  default?: Record<string, unknown>;
  /** Boolean options that also exist as `--no-name`. */
  negatable?: string | readonly string[];
  /** Whether everything after the first positional argument is positional. */
  stopEarly?: boolean;
  /** Options whose value stays text even when it looks like a number; `_` means the positional arguments. */
  string?: string | readonly string[];
  /** Called for each argument not described here; `false` leaves it out. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/** What `parseArgs` found. */
export interface Args {
  [name: string]: unknown;
  /** The positional arguments. */
  _: (string | number)[];
  /** What follows `--`, when asked for. */
  "--"?: string[];
}

const NUMBER = /^(?:0x[0-9a-f]+|[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?)$/i;

/** Parses a command line into options and positional arguments. */
export function parseArgs(args: readonly string[], options: ParseOptions = {}): Args {
  const parser = new Parser(options);
  const end = args.indexOf("--");
  parser.read(end < 0 ? args : args.slice(0, end));
  return parser.finish(end < 0 ? [] : args.slice(end + 1));
}

class Parser {
  readonly #options: ParseOptions;
  readonly #booleans: ReadonlySet<string>;
  readonly #strings: ReadonlySet<string>;
  readonly #collected: ReadonlySet<string>;
  readonly #negatable: ReadonlySet<string>;
  readonly #aliases = new Map<string, ReadonlySet<string>>();
  readonly #result: Args = { _: [] };

  constructor(options: ParseOptions) {
    this.#options = options;
    for (const [name, others] of Object.entries(options.alias ?? {})) {
      const group = new Set([name, ...list(others)]);
      for (const member of group) this.#aliases.set(member, group);
    }
    this.#booleans = this.#withAliases(options.boolean === true ? [] : options.boolean || []);
    this.#strings = this.#withAliases(options.string ?? []);
    this.#collected = this.#withAliases(options.collect ?? []);
    this.#negatable = this.#withAliases(options.negatable ?? []);
  }

  read(args: readonly string[]): void {
    for (let index = 0; index < args.length; index++) {
      const arg = args[index] ?? "";
      const next = args[index + 1];
      if (arg.startsWith("--")) {
        if (this.#readLong(arg, next)) index++;
      } else if (arg.startsWith("-") && arg.length > 1) {
        if (this.#readShort(arg, next)) index++;
      } else {
        if (this.#options.unknown?.(arg) !== false) this.#result._.push(this.#value("_", arg));
        if (!this.#options.stopEarly) continue;
        this.#result._.push(...args.slice(index + 1));
        return;
      }
    }
  }

  finish(rest: readonly string[]): Args {
    const result = this.#result;
    for (const [name, value] of Object.entries(this.#options.default ?? {})) {
      if (!(name in result)) this.#store(name, value);
    }
    for (const name of this.#booleans) {
      if (!(name in result)) result[name] = this.#collected.has(name) ? [] : false;
    }
    for (const name of this.#strings) {
      if (!(name in result) && this.#collected.has(name)) result[name] = [];
    }
    if (this.#options["--"]) result["--"] = [...rest];
    else result._.push(...rest);
    return result;
  }

  /** Reads `--name`, `--name=value`, `--name value` or `--no-name`; true when it used the next argument. */
  #readLong(arg: string, next: string | undefined): boolean {
    const equals = arg.indexOf("=");
    const name = arg.slice(2, equals < 0 ? undefined : equals);
    if (equals >= 0) {
      const value = arg.slice(equals + 1);
      this.#set(name, this.#booleans.has(name) ? value !== "false" : value, arg);
      return false;
    }
    if (name.startsWith("no-") && this.#negatable.has(name.slice(3))) {
      this.#store(name.slice(3), false);
      return false;
    }
    const alwaysBoolean = this.#booleans.has(name) || this.#options.boolean === true;
    return this.#setFromNext(name, arg, alwaysBoolean, next);
  }

  /** Reads `-a`, `-a value`, `-abc`, `-n5` or `-a=value`; true when it used the next argument. */
  #readShort(arg: string, next: string | undefined): boolean {
    const letters = arg.slice(1);
    for (let index = 0; index < letters.length - 1; index++) {
      const letter = letters.charAt(index);
      const rest = letters.slice(index + 1);
      const attached = rest.startsWith("=") ? rest.slice(1) : /^-?\d|^\W/.test(rest) ? rest : undefined;
      if (attached !== undefined) {
        this.#set(letter, attached, arg);
        return false;
      }
      this.#set(letter, this.#strings.has(letter) ? "" : true, arg);
    }
    const last = letters.slice(-1);
    return this.#setFromNext(last, arg, this.#booleans.has(last), next);
  }

  #setFromNext(name: string, arg: string, isBoolean: boolean, next: string | undefined): boolean {
    if (next && !isBoolean && !next.startsWith("-")) {
      this.#set(name, next, arg);
      return true;
    }
    if (next === "true" || next === "false") {
      this.#set(name, next === "true", arg);
      return true;
    }
    this.#set(name, this.#strings.has(name) ? "" : true, arg);
    return false;
  }

  #set(name: string, value: string | boolean, arg: string): void {
    const isKnown = this.#booleans.has(name) || this.#strings.has(name) || this.#aliases.has(name) ||
      (this.#options.boolean === true && arg.startsWith("--") && !arg.includes("="));
    const converted = this.#value(name, value);
    if (!isKnown && this.#options.unknown?.(arg, name, converted) === false) return;
    this.#store(name, converted);
  }

  #store(name: string, value: unknown): void {
    const before = this.#result[name];
    const isListed = this.#collected.has(name) && !Array.isArray(value);
    const after = isListed ? [...(Array.isArray(before) ? before : []), value] : value;
    for (const alias of this.#aliases.get(name) ?? [name]) this.#result[alias] = after;
  }

  #value<Value extends string | boolean>(name: string, value: Value): Value | number {
    return typeof value === "string" && !this.#strings.has(name) && NUMBER.test(value) ? Number(value) : value;
  }

  #withAliases(names: string | readonly string[]): ReadonlySet<string> {
    return new Set(list(names).flatMap((name) => [...(this.#aliases.get(name) ?? [name])]));
  }
}

function list(names: string | readonly string[]): readonly string[] {
  return typeof names === "string" ? [names] : names;
}
