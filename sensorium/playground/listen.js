// @ts-check
/** Wires the page that listens: a file is written down as it is heard, then its words get their times. */

import { ask, modelAbilities, streamEvents } from "./api.js";
import { transcriptionCode } from "./code-media.js";
import { byId } from "./dom.js";
import { apiKey, fileName, save, showCode, showError, takeFiles, wirePage } from "./page.js";
import { offer, wireReading } from "./read-aloud.js";
import { plainText, subRip, webVtt } from "./subtitles.js";
import { Track } from "./track.js";
import { Transcript } from "./transcript.js";
import { clock } from "./waveform.js";

const ROUTE = "/v1/audio/transcriptions";
const CONTROLS = { file: "choose", response_format: "speakers" };
const FILES = { txt: plainText, srt: subRip, vtt: webVtt };
const SAME_S = 0.02; // times are told in hundredths of a second

/** @typedef {import("./subtitles.js").Line} Line */
/** @typedef {{start: number, end: number, speaker: string}} Turn */

const track = new Track((atS) => transcript.mark(atS));
const transcript = new Transcript((atS) => track.seek(atS));
/** @type {AbortController | null} */
let hearing = null;
/** @type {Line[]} */
let lines = [];
let name = "sound.wav";

/** @param {string} message */
function notify(message) {
  showError(byId("hear"), message ? { message } : null);
}

const asksForSpeakers = () => !byId("speakers-label").hidden && byId("speakers").checked;

/** @param {File} file @param {Record<string, string>} fields */
function formOf(file, fields) {
  const form = new FormData();
  form.append("file", file);
  for (const [field, value] of Object.entries({ model: byId("model").value, ...fields })) form.append(field, value);
  return form;
}

/** Writes a file down. Returns who speaks when, as far as that was asked. @param {File} file @param {AbortSignal} signal */
async function hear(file, signal) {
  /** @type {Turn[]} */
  const turns = [];
  const form = formOf(file, { response_format: asksForSpeakers() ? "diarized_json" : "json", stream: "true" });
  for await (const event of streamEvents(ROUTE, form, apiKey(), signal)) {
    if (event.type === "transcript.text.delta") {
      transcript.add(event.delta, event.segment_id);
      const { seconds, total_seconds: total } = event.progress;
      if (total) Object.assign(byId("progress"), { max: total, value: Math.min(seconds, total) });
      byId("so-far").textContent = `heard ${clock(1000 * seconds)}${total ? ` of ${clock(1000 * total)}` : ""}`;
    } else if (event.type === "transcript.text.segment") {
      const speaker = event.speaker && `Speaker ${event.speaker}`;
      turns.push({ start: event.start, end: event.end, speaker });
      transcript.name(speaker);
    }
  }
  return turns;
}

/** The same file with the times of its words. @param {File} file @param {Turn[]} turns @param {AbortSignal} signal */
async function timed(file, turns, signal) {
  byId("progress").removeAttribute("value"); // how long this takes is not told
  byId("so-far").textContent = "finding when each word is said";
  const form = formOf(file, { response_format: "verbose_json" });
  for (const kind of ["word", "segment"]) form.append("timestamp_granularities[]", kind);
  const { words, segments, duration } = await (await ask(ROUTE, form, apiKey(), signal)).json();
  const within = (/** @type {Turn} */ item, /** @type {Turn} */ whole) => item.start >= whole.start - SAME_S && item.end <= whole.end + SAME_S;
  lines = segments
    .filter((/** @type {Line} */ { text }) => text)
    .map((/** @type {Line} */ segment) => ({
      start: segment.start,
      end: segment.end,
      text: segment.text,
      speaker: turns.find((turn) => Math.abs(turn.start - segment.start) < SAME_S)?.speaker ?? "",
      words: words.filter((/** @type {any} */ word) => within(word, /** @type {any} */ (segment))),
    }));
  return duration;
}

/** @param {File | undefined} file */
async function open(file) {
  if (!file) return;
  hearing?.abort();
  const { signal } = (hearing = new AbortController());
  const started = performance.now();
  notify("");
  name = file.name;
  lines = [];
  transcript.clear();
  byId("heard-name").textContent = name;
  byId("heard").hidden = byId("hearing").hidden = false;
  byId("keep").hidden = true;
  byId("progress").removeAttribute("value");
  byId("so-far").textContent = "";
  byId("status").textContent = "Listening";
  const opened = track.open(file);
  try {
    const turns = await hear(file, signal);
    const heardS = (performance.now() - started) / 1000;
    const durationS = await timed(file, turns, signal);
    await opened;
    track.lasts(durationS);
    transcript.show(lines);
    byId("keep").hidden = false;
    byId("hear-figures").textContent = `${durationS.toFixed(1)} s written down in ${heardS.toFixed(1)} s`;
    byId("status").textContent = "The transcript is complete.";
  } catch (error) {
    byId("status").textContent = "";
    if (!signal.aborted) showError(byId("hear"), error, CONTROLS);
  }
  if (hearing?.signal === signal) {
    hearing = null; // else another file has been opened since
    byId("hearing").hidden = true;
    transcript.settle();
  }
}

/** Offers what the chosen model can do. */
async function showAbilities() {
  try {
    const abilities = await modelAbilities(byId("model").value, apiKey());
    byId("speakers-label").hidden = !abilities.speakers;
    offer(abilities);
  } catch (error) {
    notify(error.message);
  }
}

takeFiles("choose", ([file]) => open(file));
byId("hear").onsubmit = (/** @type {Event} */ event) => event.preventDefault();
byId("hear-stop").onclick = () => {
  hearing?.abort();
  byId("choose").focus();
};
for (const button of byId("keep").querySelectorAll("[data-kind]")) {
  const kind = /** @type {keyof typeof FILES} */ (button.dataset.kind);
  button.onclick = () => save(new Blob([FILES[kind](lines)], { type: "text/plain" }), `${fileName(name.replace(/\.\w+$/, ""))}.${kind}`);
}
byId("hear-code").onclick = () => {
  const asked = { model: byId("model").value, speakers: asksForSpeakers(), file: `sound.${/\.(\w{1,5})$/.exec(name)?.[1] ?? "wav"}` };
  showCode((language, server) => transcriptionCode(language, asked, server));
};
byId("model").onchange = showAbilities;
wireReading();
wirePage(notify);
