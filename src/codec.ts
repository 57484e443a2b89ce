/**
 * The text of what a workflow takes, returns, records and sends.
 *
 * What JSON represents exactly is stored as just the text that `encodeJson` writes. What it does not is stored as an
 * object with the key `$pgqrs`, whose value is an array of a name and what belongs to it:
 *
 * | value                                 | stored as the value of `$pgqrs`                                           |
 * | ------------------------------------- | ------------------------------------------------------------------------- |
 * | `undefined`, also as member, element  | `["undefined"]`; a member that is `undefined` stays a member              |
 * | `NaN`, `Infinity`, `-Infinity`, `-0`  | `["number","NaN"]`                                                        |
 * | a bigint                              | `["bigint","42"]`                                                         |
 * | a string with lone surrogates, U+0000 | `["string",…]`: its UTF-16 units, little-endian, in base64                |
 * | `Date`                                | `["Date","2026-01-01T00:00:00.000Z"]`, `["Date",null]` for an invalid one |
 * | `Map`, `Set`                          | `["Map",[[key,value],…]]`, `["Set",[…]]`                                  |
 * | `RegExp`                              | `["RegExp",source,flags]`; `lastIndex` starts again at 0                  |
 * | `URL`                                 | `["URL",href]`                                                            |
 * | `ArrayBuffer`, `DataView`, a view     | `["Uint8Array",…]`: base64 of the bytes that the view shows, no others    |
 * | an error                              | `["TypeError"]`, see below                                                |
 * | an object with a key like the above,  | `["Object",[[key,value],…]]`                                              |
 * | with `__proto__` or with `$pgqrs`     |                                                                           |
 *
 * The object of an error has members beside `$pgqrs`, so that SQL and people find them where those of a stored error
 * are: `name`, `message`, `stack`, `cause`, `errors`, `error`, `suppressed` and `code` if they are own properties that
 * are not enumerable, and `fields` with all own enumerable properties. An error becomes one of the closest class of the
 * language again (the errors of ECMAScript and `DOMException`), with its name; a class of one's own is lost.
 *
 * What else changes: an object without a prototype becomes an ordinary one, as do those of another realm; a `Buffer`
 * becomes a `Uint8Array`, and the `Date` of a fake clock a real one; what occurs in several places is there several
 * times; a view gets a buffer of its own, a resizable buffer becomes a fixed one; a frozen object is not frozen;
 * properties that were hung on a view or with a symbol on a class of the language are lost. Views keep the order of
 * bytes of the machine, which is little-endian wherever this runs.
 *
 * Refused with the path of the first such part are functions, symbols, instances of other classes, holes of arrays,
 * getters, properties that are not enumerable or have a symbol as key, and what contains itself. In a path, `[2][0]` is
 * the key and `[2][1]` the value of the third entry of a `Map`, and `[2]` the third value of a `Set`.
 *
 * What is read and written again has the same text.
 *
 * @module
 */
import { boundThrown } from "./codec_error.ts";
import { revive } from "./codec_read.ts";
import { encodeTagged, TAG, UNDEFINED } from "./codec_write.ts";
import { decodeJson, encodeError, encodeJson, type JsonLimits, type StoredError } from "./json.ts";

/** The largest text of what was thrown, and the longest text of an error in it. */
const THROWN_BYTES = 16_384;
const THROWN_TEXT = 4_096;

const encoder = new TextEncoder();

/**
 * Writes a value as JSON text from which `decodeValue` reads the same value. The table above says what may be in it.
 *
 * Getters are never called, but those for name, message and stack of an error. Messages hold paths and types, never a
 * value.
 *
 * @param value The value to write.
 * @param limits How large the text and how deep the value may be; every object counts for the depth.
 * @throws {TypeError} If a part of the value cannot be stored, or the value contains itself.
 * @throws {RangeError} If the value is nested too deeply or its text is too long.
 */
export function encodeValue(value: unknown, limits: JsonLimits = {}): string {
  // Most steps return nothing; everything else is tried as JSON, which is nearly always enough.
  if (value === undefined) return UNDEFINED;
  try {
    const text = encodeJson(value, limits);
    if (!text.includes(`"${TAG}":`)) return text;
  } catch (error) {
    // JSON is looked at from the beginning, so what is too large or too deep before the first tag stays so with tags.
    if (!(error instanceof TypeError)) throw error;
  }
  return encodeTagged(value, limits);
}

/**
 * Reads what `encodeValue` has written, or any other JSON. Data sets no prototype and calls no constructor but those in
 * the table above.
 *
 * @throws {SyntaxError} If the text is not JSON or has a tag that cannot be read; the message does not quote it.
 */
export function decodeValue(text: string): unknown {
  const value = decodeJson(text);
  return text.includes(`"${TAG}"`) ? revive(value) : value;
}

/**
 * Writes whatever was thrown as JSON text of at most 16 kB, from which `decodeThrown` reads the same, or the closest
 * that can be stored.
 *
 * Never throws. Name, message and stack have at most 4 kB each, and less if the whole would not fit; what is cut off
 * ends in "…". Of a chain of causes five errors are kept, of a list of errors five, in all sixteen. Fields have at most
 * 8 kB together: each that is too large or cannot be stored is left out alone, and so is a cause that leads back. A
 * thrown value that is no error stays what it is; if it cannot be stored, it becomes an `Error` with its storable
 * properties.
 */
export function encodeThrown(thrown: unknown): string {
  for (let textBytes = THROWN_TEXT; textBytes >= 16; textBytes /= 2) {
    try {
      return encodeValue(boundThrown(thrown, textBytes, measure), { maxBytes: THROWN_BYTES, what: "error" });
    } catch {
      // It is too large, and tried again with shorter texts.
    }
  }
  const { name, message } = decodeJson(encodeError(thrown)) as StoredError;
  return `{"${TAG}":["Error"],"name":${JSON.stringify(name)},"message":${JSON.stringify(message)}}`;
}

/**
 * Reads what `encodeThrown` has written.
 *
 * @throws {SyntaxError} If the text is not JSON or has a tag that cannot be read; the message does not quote it.
 */
export const decodeThrown: (text: string) => unknown = decodeValue;

function measure(value: unknown, limits: JsonLimits): number | undefined {
  try {
    return encoder.encode(encodeValue(value, limits)).length;
  } catch {
    return undefined;
  }
}
