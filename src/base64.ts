/** Bytes as text: what the language has since 2025, and older runtimes have not. */

const STRETCH = 32_768;

/** Writes bytes in base64. */
export function toBase64(bytes: Uint8Array): string {
  const native = (bytes as { toBase64?: () => string }).toBase64;
  if (native !== undefined) return native.call(bytes);
  let text = "";
  // An argument list of any length would overflow the stack.
  for (let i = 0; i < bytes.length; i += STRETCH) text += String.fromCharCode(...bytes.subarray(i, i + STRETCH));
  return btoa(text);
}

/** Reads base64. @throws {SyntaxError | DOMException} */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const native = (Uint8Array as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> }).fromBase64;
  if (native !== undefined) return native.call(Uint8Array, text);
  const units = atob(text);
  const bytes = new Uint8Array(units.length);
  for (let i = 0; i < units.length; i++) bytes[i] = units.charCodeAt(i);
  return bytes;
}
