/** Lines of a stream of bytes. */

/** A line, without its end. */
export interface Line {
  readonly text: string;
  /** From 1. */
  readonly number: number;
  /** How many bytes were read when it was whole. */
  readonly bytes: number;
}

/** What is read is not UTF-8, or has a line that is too long to be one. */
export class NotTextError extends Error {}

/** Splits bytes into lines; what is behind the last end is a line as well. @throws {NotTextError} */
export async function* linesOf(stream: AsyncIterable<Uint8Array>, longest: number): AsyncGenerator<Line> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let [rest, number, bytes] = ["", 0, 0];
  for await (const chunk of stream) {
    bytes += chunk.byteLength;
    const parts = (rest + decode(chunk)).split("\n");
    rest = parts.pop() as string;
    if (rest.length > longest) throw new NotTextError(`line ${number + parts.length + 1} is too long`);
    for (const part of parts) yield { text: part.endsWith("\r") ? part.slice(0, -1) : part, number: ++number, bytes };
  }
  rest += decode();
  if (rest !== "") yield { text: rest, number: number + 1, bytes };

  function decode(chunk?: Uint8Array): string {
    try {
      return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true });
    } catch {
      throw new NotTextError(`behind line ${number} there is something that is not UTF-8`);
    }
  }
}
