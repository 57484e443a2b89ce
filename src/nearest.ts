/** What somebody meant who has mistyped a name. */

const SHORTEST_PREFIX = 2;

/** Finds the name that differs in the fewest letters, or begins like this; `undefined` when none is near. */
export function nearestOf(name: string, known: readonly string[]): string | undefined {
  const longer = name.length < SHORTEST_PREFIX ? [] : known.filter((one) => one.startsWith(name.toLowerCase()));
  if (longer.length === 1) return longer[0];
  let best: string | undefined;
  let least = Math.max(2, Math.ceil(name.length / 2));
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

/** How many letters have to be put in, left out, replaced or swapped with their neighbour. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  let beforeThat: number[] = [];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const swapped = isSwapped ? (beforeThat[j - 2] as number) + 1 : Infinity;
      row.push(Math.min(replaced, swapped, (previous[j] as number) + 1, (row[j - 1] as number) + 1));
    }
    beforeThat = previous;
    previous = row;
  }
  return previous[b.length] as number;
}
