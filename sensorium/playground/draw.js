// @ts-check
/** Wires the page that draws: an order in words, the raster growing, the gallery, the editor behind each picture. */

import { ApiError, streamEvents } from "./api.js";
import { drawingCode } from "./code-media.js";
import { byId } from "./dom.js";
import { Editor } from "./editor.js";
import { Card, factsOf } from "./gallery.js";
import { apiKey, sendOnEnter, showCode, showError, takeFiles, wirePage } from "./page.js";
import { readPicture } from "./picture.js";

const PARTIAL_IMAGES = 3; // how often a picture is shown while it grows: the most that the API has
const EXAMPLE = "A big red square";
const CONTROLS = { prompt: "prompt", size: "size", quality: "quality", background: "background", n: "count" };

/** @type {AbortController | null} */
let drawing = null;

/** @param {string} message */
function notify(message) {
  showError(byId("order"), message ? { message } : null);
}

/** What is asked for each of the pictures: a stream shows one. */
function requestBody() {
  const [prompt, size, quality, background] = ["prompt", "size", "quality", "background"].map((id) => byId(id).value.trim());
  const model = byId("model").value;
  const body = { model, prompt, size, quality, ...(model.startsWith("dall-e") && { response_format: "b64_json" }) };
  return { ...body, ...(background !== "opaque" && { background }), stream: true, partial_images: PARTIAL_IMAGES };
}

/**
 * Draws one picture into a card of its own. Returns what the server had against it, if it refused.
 * @param {string} path @param {object | FormData} body @param {{prompt: string, model: string}} told
 * @param {AbortSignal} signal @param {(language: any, server: any) => string} code
 * @param {(base64: string) => void} onGrowth
 * @returns {Promise<{error: ApiError | null, base64: string}>}
 */
async function drawOne(path, body, { prompt, model }, signal, code, onGrowth = () => {}) {
  const card = new Card(prompt);
  const started = performance.now();
  let firstMs = NaN;
  try {
    for await (const event of streamEvents(path, body, apiKey(), signal)) {
      const elapsed = performance.now() - started;
      if (Number.isNaN(firstMs)) firstMs = elapsed;
      card.show(event.b64_json);
      onGrowth(event.b64_json);
      if (!event.type.endsWith(".completed")) continue;
      const picture = { base64: event.b64_json, prompt, facts: factsOf(event, model, firstMs, elapsed) };
      card.finish(picture, { change: () => editor.open(`data:image/png;base64,${picture.base64}`), code: () => showCode(code) });
      byId("status").textContent = `The picture for “${prompt}” is complete.`;
      return { error: null, base64: event.b64_json };
    }
  } catch (error) {
    if (signal.aborted) card.fail("Stopped.");
    else if (error instanceof ApiError && Number.isNaN(firstMs)) {
      card.remove(); // nothing was drawn: what was asked is to be put right
      return { error, base64: "" };
    } else card.fail(error.message);
  }
  return { error: null, base64: "" };
}

const editor = new Editor(drawOne);

/** @param {boolean} now */
function showBusy(now) {
  byId("draw").hidden = now;
  byId("stop").hidden = !now;
  if (document.activeElement?.matches("body, [hidden]")) byId(now ? "stop" : "prompt").focus();
}

async function draw() {
  if (drawing) return;
  const body = requestBody();
  const { signal } = (drawing = new AbortController());
  const count = Number(byId("count").value);
  notify("");
  byId("status").textContent = "Drawing";
  showBusy(true);
  const code = codeOf(body, count);
  const drawn = Array.from({ length: count }, () => drawOne("/v1/images/generations", body, body, signal, code));
  const refused = (await Promise.all(drawn)).find(({ error }) => error);
  drawing = null;
  showBusy(false);
  if (refused) showError(byId("order"), refused.error, CONTROLS);
}

/** @param {ReturnType<typeof requestBody>} body @param {number} count */
function codeOf(body, count) {
  const said = { ...body, prompt: body.prompt || EXAMPLE };
  const { stream, partial_images, ...asked } = said;
  const shown = count > 1 ? { ...asked, n: count } : said; // a stream shows one picture: several come whole
  return (/** @type {any} */ language, /** @type {any} */ server) => drawingCode(language, shown, server);
}

/** @param {File | undefined} file */
async function openPicture(file) {
  if (!file) return;
  try {
    editor.open(await readPicture(file));
  } catch {
    notify(`${file.name} is not a picture that this browser can read.`);
  }
}

byId("order").onsubmit = (/** @type {Event} */ event) => {
  event.preventDefault();
  draw();
};
sendOnEnter("prompt", "order");
byId("stop").onclick = () => drawing?.abort();
takeFiles("open", ([file]) => openPicture(file));
byId("show-code").onclick = () => showCode(codeOf(requestBody(), Number(byId("count").value)));
document.onkeydown = ({ key }) => {
  if (key === "Escape" && !document.querySelector("dialog[open]")) drawing?.abort();
};
wirePage(notify);
