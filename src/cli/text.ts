/** Text for terminals: what it shows and how wide it is. What comes from elsewhere never controls the terminal. */

/**
 * Controls, among them ESC and those of C1; what is invisible, blank or turns the direction of text; lone halves of a
 * character. The sign that makes an emoji of what is before it may stand there.
 */
const UNSAFE =
  /(?!(?<=\p{Extended_Pictographic})\ufe0f)[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\uffa0]/gu;
/** What takes two columns: East Asian wide and fullwidth forms. Emoji are found by their properties. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{17000}-\u{18cff}\u{1aff0}-\u{1b2fb}\u{1f200}-\u{1f265}\u{20000}-\u{3fffd}]/u;
const EMOJI = /\p{Emoji_Presentation}|\p{Extended_Pictographic}\ufe0f|\p{Regional_Indicator}{2}/u;
const INVISIBLE = /^[\p{Mn}\p{Me}]+$/u;
const ASCII = /^[\x20-\x7e]*$/;
const segmenter = new Intl.Segmenter(undefined, { granularity: "grapheme" });

const STYLES = { bold: [1, 22], dim: [2, 22], red: [31, 39], yellow: [33, 39] } as const;

/** How a word is shown. */
export type Style = keyof typeof STYLES;

/** Makes what would control a terminal visible. */
export function printable(text: string): string {
  return ASCII.test(text) ? text : text.replace(UNSAFE, escape);
}

/** The same where lines are meant. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}

/** How many columns a printable text takes. */
export function widthOf(text: string): number {
  if (ASCII.test(text)) return text.length;
  let width = 0;
  for (const { segment } of segmenter.segment(text)) width += widthOfOne(segment);
  return width;
}

/** Cuts a printable text so that it takes no more columns, with an ellipsis for what is left out. */
export function cut(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  let [shown, width] = ["", 0];
  for (const { segment } of segmenter.segment(text)) {
    width += widthOfOne(segment);
    if (width > columns - 1) break;
    shown += segment;
  }
  return `${shown}…`;
}

/** Fills a printable text up with spaces. */
export function pad(text: string, columns: number): string {
  return text + " ".repeat(Math.max(0, columns - widthOf(text)));
}

/** Gives a text a style, where there are colors. */
export function paint(text: string, style: Style, hasColor: boolean): string {
  const [on, off] = STYLES[style];
  return hasColor ? `\x1b[${on}m${text}\x1b[${off}m` : text;
}

/** Writes characters as JSON does. */
export function escape(char: string): string {
  const codes = Array.from({ length: char.length }, (_, i) => char.charCodeAt(i).toString(16).padStart(4, "0"));
  return codes.map((code) => `\\u${code}`).join("");
}

/** Escapes what would control a terminal in a JSON text; its meaning stays. */
export function safeJson(json: string): string {
  return json.replace(UNSAFE, (char) => char === "\n" ? char : escape(char));
}

function widthOfOne(grapheme: string): number {
  if (INVISIBLE.test(grapheme)) return 0;
  return WIDE.test(grapheme) || EMOJI.test(grapheme) ? 2 : 1;
}
