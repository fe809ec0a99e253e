// @ts-check
/** A transcript as files: plain text, SubRip and WebVTT. */

/** @typedef {{word: string, start: number, end: number}} Word  in seconds */
/** @typedef {{start: number, end: number, text: string, speaker: string, words: Word[]}} Line  `speaker` may be empty */

/** Hours, minutes, seconds and milliseconds. @param {number} seconds @param {string} point */
function timecode(seconds, point) {
  const ms = Math.round(1000 * seconds);
  const parts = [ms / 3_600_000, (ms / 60_000) % 60, (ms / 1000) % 60].map((part) => String(Math.floor(part)).padStart(2, "0"));
  return `${parts.join(":")}${point}${String(ms % 1000).padStart(3, "0")}`;
}

/** @param {Line[]} lines  none of them empty */
export function plainText(lines) {
  return lines.map(({ speaker, text }) => `${speaker && `${speaker}: `}${text}\n`).join("");
}

/** @param {Line[]} lines */
export function subRip(lines) {
  const cue = ({ start, end, speaker, text }, /** @type {number} */ i) =>
    `${i + 1}\n${timecode(start, ",")} --> ${timecode(end, ",")}\n${speaker && `${speaker}: `}${text}\n`;
  return lines.map(cue).join("\n");
}

/** @param {Line[]} lines */
export function webVtt(lines) {
  const escaped = (/** @type {string} */ text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const cue = ({ start, end, speaker, text }) =>
    `${timecode(start, ".")} --> ${timecode(end, ".")}\n${speaker && `<v ${escaped(speaker)}>`}${escaped(text)}\n`;
  return `WEBVTT\n\n${lines.map(cue).join("\n")}`;
}
