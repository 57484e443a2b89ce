/** By what a step is known: its name, how often that name was used before it, and the scopes around both. */

/** Gives out the keys of one scope, in the order in which its steps are reached. */
export class Keys {
  readonly #prefix: string;
  readonly #counts = new Map<string, number>();

  /** Of the run itself, or of a scope in it whose key is given. */
  constructor(scope?: string) {
    this.#prefix = scope === undefined ? "" : `${scope}/`;
  }

  /** The key of the next step of this name: the name alone, then with `#2`, `#3` and so on. */
  next(name: string): string {
    const count = (this.#counts.get(name) ?? 0) + 1;
    this.#counts.set(name, count);
    const key = this.#prefix + name.replace(/[%#/]/g, (sign) => `%${sign.charCodeAt(0).toString(16)}`);
    return count === 1 ? key : `${key}#${count}`;
  }
}
