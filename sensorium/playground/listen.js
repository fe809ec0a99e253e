// @ts-check
/** Wires the page that listens: a file is written down as it is heard, stretch by stretch with the times of its words. */

import { modelAbilities, streamEvents } from "./api.js";
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

/** @typedef {import("./subtitles.js").Line} Line */

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

/** Writes a file down. Returns how many seconds it has. @param {File} file @param {AbortSignal} signal */
async function hear(file, signal) {
  const form = new FormData();
  const asked = { model: byId("model").value, response_format: asksForSpeakers() ? "diarized_json" : "verbose_json" };
  for (const [field, value] of Object.entries({ ...asked, stream: "true", "timestamp_granularities[]": "word" })) {
    form.append(field, value);
  }
  form.append("file", file);
  let heardS = 0;
  for await (const event of streamEvents(ROUTE, form, apiKey(), signal)) {
    if (event.type === "transcript.text.segment") {
      const { start, end, text, words } = event;
      const line = { start, end, text, words, speaker: event.speaker && `Speaker ${event.speaker}` };
      lines.push(line);
      transcript.finish(line);
      continue;
    }
    if (event.type === "transcript.text.delta") transcript.add(event.delta);
    const { seconds, total_seconds: total } = event.progress;
    heardS = seconds;
    if (total) Object.assign(byId("progress"), { max: total, value: Math.min(seconds, total) });
    byId("so-far").textContent = `heard ${clock(1000 * seconds)}${total ? ` of ${clock(1000 * total)}` : ""}`;
  }
  return heardS;
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
    const durationS = await hear(file, signal);
    const tookS = (performance.now() - started) / 1000;
    await opened;
    if (signal.aborted) return; // another file has been opened meanwhile
    track.lasts(durationS);
    transcript.end();
    byId("keep").hidden = false;
    byId("hear-figures").textContent = `${durationS.toFixed(1)} s written down in ${tookS.toFixed(1)} s`;
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
