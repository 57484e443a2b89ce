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

const NEWLINE = 10;
// A mark of the order of bytes is one only at the very beginning.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Splits bytes into lines; what is behind the last end is a line as well. All lines before one that cannot be read come
 * before the error. @throws {NotTextError}
 */
export async function* linesOf(stream: AsyncIterable<Uint8Array>, longest: number): AsyncGenerator<Line> {
  let rest: Uint8Array[] = [];
  let [restBytes, number, bytes] = [0, 0, 0];
  for await (const chunk of stream) {
    bytes += chunk.byteLength;
    const end = chunk.lastIndexOf(NEWLINE);
    if (end >= 0) {
      yield* split(together([...rest, chunk.subarray(0, end)]));
      [rest, restBytes] = [[], 0];
    }
    // The stream may use its memory again.
    rest.push(chunk.slice(end + 1));
    restBytes += chunk.byteLength - end - 1;
    if (restBytes > longest) throw new NotTextError(`line ${number + 1} is too long`);
  }
  if (restBytes > 0) yield* split(together(rest));

  function* split(block: Uint8Array): Generator<Line> {
    const text = decode(block);
    if (text !== undefined) {
      for (const line of text.split("\n")) yield toLine(line);
      return;
    }
    for (let from = 0; from <= block.length;) {
      const to = block.indexOf(NEWLINE, from);
      const line = decode(block.subarray(from, to < 0 ? block.length : to));
      if (line === undefined) throw new NotTextError(`line ${number + 1} is not UTF-8`);
      yield toLine(line);
      from = to < 0 ? block.length + 1 : to + 1;
    }
  }

  function toLine(text: string): Line {
    const bare = text.endsWith("\r") ? text.slice(0, -1) : text;
    return { text: number === 0 && bare.startsWith("\ufeff") ? bare.slice(1) : bare, number: ++number, bytes };
  }
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

function together(chunks: readonly Uint8Array[]): Uint8Array {
  if (chunks.length === 1) return chunks[0] as Uint8Array;
  const whole = new Uint8Array(chunks.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.byteLength;
  }
  return whole;
}
