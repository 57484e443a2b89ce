/**
 * The `sql` tag: a statement is a value that is rendered for one dialect, and runs nothing by itself.
 *
 * Values stand where they are bound. What is merely spelled differently is a fragment of the dialect; what is truly
 * different stands twice in {@linkcode perDialect}. This little language has no other verbs and is not a query builder.
 */
import { type Dialect, type DialectName, made, type Parameter } from "./dialect.ts";

/** A piece of SQL with its values. */
export interface Fragment {
  readonly [made]: true;
  readonly kind: "fragment";
  readonly strings: readonly string[];
  readonly values: readonly SqlValue[];
}

/** A piece whose text is known only when the dialect, the schema and the clock are. */
export interface Deferred {
  readonly [made]: true;
  readonly kind: "deferred";
  readonly resolve: (target: Target) => Fragment | readonly Fragment[];
}

/** A JSON text that is made anew each time it is sent. */
export interface Late {
  readonly [made]: true;
  readonly kind: "late";
  readonly make: () => string;
}

/** What may stand in a `${…}` of the tag: a fragment, or a value to bind. */
export type SqlValue = Fragment | Deferred | Late | Parameter | string | number;

/** A named statement of one or more parts; the parts are executed as one atomic unit in one round trip. */
export interface Statement {
  readonly name: string;
  readonly body: Fragment | Deferred;
}

/** For what a statement is rendered. */
export interface Target {
  readonly dialect: Dialect;
  readonly schema: string;
  /** A test's clock: milliseconds since the epoch. Without it the database's clock decides. */
  readonly clock?: (() => number) | undefined;
}

/** The text of one part and the values for its placeholders. */
export interface RenderedPart {
  readonly text: string;
  readonly values: readonly (string | number | bigint | null)[];
}

/** A statement in the form in which a driver sends it. */
export interface Rendered {
  readonly name: string;
  readonly parts: readonly RenderedPart[];
}

/** Makes a fragment; strings and safe integers in `${…}` are bound. */
export function sql(strings: TemplateStringsArray, ...values: readonly SqlValue[]): Fragment {
  return { [made]: true, kind: "fragment", strings, values };
}

/** Makes a fragment of text that is part of this program, never of input. */
export function raw(text: string): Fragment {
  return { [made]: true, kind: "fragment", strings: [text], values: [] };
}

/** Binds an integer or null. */
export function int(value: number | null | undefined): Parameter {
  return { [made]: true, kind: "parameter", type: "int", value: value ?? null };
}

/** Binds text or null. */
export function text(value: string | null | undefined): Parameter {
  return { [made]: true, kind: "parameter", type: "text", value: value ?? null };
}

/** Binds a JSON text or null. */
export function json(value: string | null | undefined): Parameter {
  return { [made]: true, kind: "parameter", type: "json", value: value ?? null };
}

/** Binds a JSON text that is made when its part is sent: of a long list only one part then is in memory as one text. */
export function jsonLater(make: () => string): Late {
  return { [made]: true, kind: "late", make };
}

/** Binds an instant, given as milliseconds since the epoch, or null. */
export function instant(value: number | null | undefined): Parameter {
  return { [made]: true, kind: "parameter", type: "instant", value: value ?? null };
}

/** Two texts for one idea. The branches are thunks, so the other dialect's values are never even encoded. */
export function perDialect(
  branches: Readonly<Record<DialectName, () => Fragment | readonly Fragment[]>>,
): Deferred {
  return { [made]: true, kind: "deferred", resolve: (target) => branches[target.dialect.name]() };
}

/** Joins fragments by a text such as `, ` or ` and `. */
export function join(fragments: readonly SqlValue[], separator: string): Fragment {
  if (fragments.length === 0) return raw("");
  return {
    [made]: true,
    kind: "fragment",
    strings: ["", ...Array(fragments.length - 1).fill(separator), ""],
    values: fragments,
  };
}

/** A table of ours, qualified by the schema where the dialect has schemas. */
export function table(name: string): Deferred {
  return {
    [made]: true,
    kind: "deferred",
    resolve: ({ dialect, schema }) => raw(dialect.qualify(schema, `pgqrs_${name}`)),
  };
}

/** The same name as a text literal, where SQL wants the name of an object as a value. */
export function tableLiteral(name: string): Deferred {
  return {
    [made]: true,
    kind: "deferred",
    resolve: ({ dialect, schema }) => raw(`'${dialect.qualify(schema, `pgqrs_${name}`).replaceAll("'", "''")}'`),
  };
}

/** What stands around the body of a function: a word that the name of the schema, which is in the body, does not hold. */
export const bodyQuote: Deferred = {
  [made]: true,
  kind: "deferred",
  resolve: ({ schema }) => {
    let word = "pgqrs";
    while (schema.includes(`$${word}$`)) word += "_";
    return raw(`$${word}$`);
  },
};

/** The instant at which the statement runs: by the database's clock, or by the clock of a test. */
export const now: Deferred = {
  [made]: true,
  kind: "deferred",
  resolve: ({ dialect, clock }) => clock === undefined ? raw(dialect.now) : sql`${instant(clock())}`,
};

/** The clock of a test as an instant, or null: for functions of the schema, which read the clock themselves. */
export const testNow: Deferred = {
  [made]: true,
  kind: "deferred",
  resolve: ({ clock }) => clock === undefined ? raw("null") : sql`${instant(clock())}`,
};

/** An instant as whole milliseconds since the epoch. */
export function millis(expression: Fragment): Deferred {
  return {
    [made]: true,
    kind: "deferred",
    resolve: ({ dialect }) => sql`${raw(dialect.millis[0])}${expression}${raw(dialect.millis[1])}`,
  };
}

/** Whole milliseconds as a duration, to be added to an instant or taken from it. */
export function duration(ms: SqlValue): Deferred {
  return perDialect({
    postgres: () => sql`${ms} * interval '1 millisecond'`,
    sqlite: () => sql`${ms}`,
  });
}

/** The comparison of a column with a list that travels as one parameter. */
export function oneOf(ids: readonly number[]): Deferred {
  return perDialect({
    postgres: () => sql`= any(${`{${ids.join(",")}}`}::bigint[])`,
    sqlite: () => sql`in (select value from json_each(${`[${ids.join(",")}]`}))`,
  });
}

/** Names a statement. */
export function statement(name: string, body: Fragment | Deferred): Statement {
  return { name, body };
}

/** Several statements as the parts of one: executed as one atomic unit, under the name of the first. */
export function sequence(statements: readonly [Statement, ...Statement[]]): Statement {
  const resolve = (target: Target): Fragment[] => statements.flatMap(({ body }) => partsOf(body, target));
  return { name: statements[0].name, body: { [made]: true, kind: "deferred", resolve } };
}

/** Renders a statement for one target. */
export function render(statement: Statement, target: Target): Rendered {
  const parts = partsOf(statement.body, target).map((part) => renderPart(statement.name, part, target));
  return { name: statement.name, parts };
}

function partsOf(body: Fragment | Deferred, target: Target): readonly Fragment[] {
  const resolved = body.kind === "deferred" ? body.resolve(target) : body;
  return isList(resolved) ? resolved : [resolved];
}

function renderPart(name: string, part: Fragment, target: Target): RenderedPart {
  const out: Writer = { text: `/* pgqrs:${name} */ `, values: [] };
  write(part, target, out);
  const { text, values } = out;
  const isLate = values.some((value) => typeof value === "object" && value !== null);
  return isLate ? new LatePart(text, values) : { text, values: values as RenderedPart["values"] };
}

interface Writer {
  text: string;
  readonly values: (Late | RenderedPart["values"][number])[];
}

/** A part some of whose values are made when they are read. */
class LatePart implements RenderedPart {
  readonly text: string;
  readonly #values: Writer["values"];

  constructor(text: string, values: Writer["values"]) {
    this.text = text;
    this.#values = values;
  }

  get values(): RenderedPart["values"] {
    return this.#values.map((value) => typeof value === "object" && value !== null ? value.make() : value);
  }
}

function write(fragment: Fragment, target: Target, out: Writer): void {
  out.text += fragment.strings[0];
  for (let i = 0; i < fragment.values.length; i++) {
    writeValue(fragment.values[i] as SqlValue, target, out);
    out.text += fragment.strings[i + 1];
  }
}

function writeValue(value: SqlValue, target: Target, out: Writer): void {
  if (typeof value === "string") return bind(text(value), target, out);
  if (typeof value === "number") return bind(int(value), target, out);
  if (value[made] !== true) throw new TypeError("Cannot render a statement: a value is neither text nor a number");
  if (value.kind === "parameter") return bind(value, target, out);
  if (value.kind === "late") {
    out.values.push(value);
    out.text += target.dialect.placeholder(out.values.length, "json");
    return;
  }
  if (value.kind === "fragment") return write(value, target, out);
  const resolved = value.resolve(target);
  if (isList(resolved)) throw new TypeError("Cannot nest a statement of several parts in a fragment");
  write(resolved, target, out);
}

function bind(parameter: Parameter, { dialect }: Target, out: Writer): void {
  out.values.push(dialect.encode(parameter));
  out.text += dialect.placeholder(out.values.length, parameter.type);
}

function isList(value: Fragment | readonly Fragment[]): value is readonly Fragment[] {
  return Array.isArray(value);
}
