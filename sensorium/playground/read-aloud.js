// @ts-check
/** A text read aloud: heard while it is made, and then saved. */

import { ask, streamEvents } from "./api.js";
import { speechCode } from "./code-media.js";
import { button, byId, el } from "./dom.js";
import { apiKey, fileName, save, showCode, showError } from "./page.js";
import { Player } from "./player.js";
import { PcmDecoder, RATE_HZ } from "./wav.js";
import { SoundStrip } from "./waveform.js";

const ROUTE = "/v1/audio/speech";
const CONTROLS = { input: "text", voice: "voice", instructions: "manner", speed: "speed" };
const EXAMPLE = "Turn on the lamp in the kitchen.";
/** How a manner is asked for. @type {Record<string, string>} */
const MANNERS = { whisper: "Whisper", shout: "Shout", fast: "Speak fast", slow: "Speak slowly", calm: "Speak calmly" };

const player = new Player((error) => showError(byId("read"), error));
/** @type {AbortController | null} */
let reading = null;

/** Shows the voices there are, and the manners that the network knows. @param {{voices: string[], manners: string[]}} abilities */
export function offer({ voices, manners }) {
  const chosen = [byId("voice").value, byId("manner").value];
  byId("voice").replaceChildren(...voices.map((voice) => el("option", { value: voice }, voice)));
  byId("manner").replaceChildren(
    el("option", { value: "" }, "As it comes"),
    ...manners.map((manner) => el("option", { value: MANNERS[manner] ?? manner }, MANNERS[manner] ?? manner)),
  );
  ["voice", "manner"].forEach((id, i) => {
    if ([...byId(id).options].some(({ value }) => value === chosen[i])) byId(id).value = chosen[i];
  });
}

/** What is asked, whatever the format. */
function asked() {
  const [model, input, voice, manner, speed] = ["model", "text", "voice", "manner", "speed"].map((id) => byId(id).value);
  return {
    model,
    input: input.trim(),
    voice,
    ...(manner && { instructions: manner }),
    ...(Number(speed) !== 1 && { speed: Number(speed) }),
  };
}

/** @param {boolean} now */
function showBusy(now) {
  byId("read-go").hidden = now;
  byId("read-stop").hidden = !now;
  if (document.activeElement?.matches("body, [hidden]")) byId(now ? "read-stop" : "read-go").focus();
}

async function read() {
  if (reading) return;
  const body = asked();
  const { signal } = (reading = new AbortController());
  showError(byId("read"), null);
  player.prepare(); // within the click: browsers allow sound from nothing else
  showBusy(true);
  const strip = new SoundStrip(player, `“${body.input.length > 40 ? `${body.input.slice(0, 40)}…` : body.input}”`);
  const figures = el("span", { className: "time" });
  const bar = el("div", { className: "bar" }, figures);
  const item = el("li", {}, el("p", {}, body.input), strip.root, bar);
  const decoder = new PcmDecoder();
  const started = performance.now();
  let firstMs = NaN;
  let error = null;
  try {
    for await (const event of streamEvents(ROUTE, { ...body, response_format: "pcm", stream_format: "sse" }, apiKey(), signal)) {
      if (!event.audio) continue;
      if (Number.isNaN(firstMs)) {
        firstMs = performance.now() - started;
        byId("spoken").prepend(item);
        strip.listen();
      }
      strip.push(decoder.decode(event.audio));
    }
  } catch (reason) {
    error = signal.aborted ? null : reason;
  }
  strip.end();
  reading = null;
  showBusy(false);
  if (signal.aborted) player.stop();
  if (error) showError(byId("read"), error, CONTROLS);
  if (!item.isConnected) return;
  const lastedS = strip.samples().length / RATE_HZ;
  const took = `first sound after ${Math.round(firstMs)} ms, ${lastedS.toFixed(1)} s made in ${((performance.now() - started) / 1000).toFixed(1)} s`;
  figures.textContent = signal.aborted ? "stopped" : took;
  const mp3 = el("button", { type: "button", className: "wide", onclick: () => saveMp3(body) }, "Save as MP3");
  bar.append(mp3, button("code", "Show code for this", () => showRequest(body)));
}

/** The same request gives the same sound: it is made again, as MP3. @param {ReturnType<typeof asked>} body */
async function saveMp3(body) {
  try {
    const response = await ask(ROUTE, { ...body, response_format: "mp3" }, apiKey(), new AbortController().signal);
    save(await response.blob(), `${fileName(body.input) || "said"}.mp3`);
  } catch (error) {
    showError(byId("read"), error, CONTROLS);
  }
}

/** @param {ReturnType<typeof asked>} body */
function showRequest(body) {
  const whole = { ...body, input: body.input || EXAMPLE, response_format: "mp3" };
  showCode((language, server) => speechCode(language, whole, server));
}

export function wireReading() {
  byId("read").onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    read();
  };
  byId("read-stop").onclick = () => reading?.abort();
  byId("read-code").onclick = () => showRequest(asked());
  byId("speed").oninput = () => (byId("speed-shown").textContent = `${byId("speed").value} ×`);
}
