// @ts-check
/** The editor: a mask over a picture, the order in words, and the picture before and after. */

import { editCode } from "./code-media.js";
import { byId, choice } from "./dom.js";
import { MaskBrush } from "./mask.js";
import { showCode, showError } from "./page.js";
import { blobOf } from "./picture.js";

const PARTIAL_IMAGES = 3;
const CONTROLS = { prompt: "edit-prompt", mask: "mask", image: "easel", input_fidelity: "keep" };
const EXAMPLE = "add a blue circle";

export class Editor {
  /** @type {AbortController | null} */
  #changing = null;
  #after = ""; // base64 of the picture as changed
  #mask;
  #drawOne;

  /**
   * @param {(path: string, body: FormData, told: {prompt: string, model: string}, signal: AbortSignal,
   *   code: (language: any, server: any) => string, onGrowth: (base64: string) => void) =>
   *   Promise<{error: any, base64: string}>} drawOne  draws into the gallery
   */
  constructor(drawOne) {
    this.#drawOne = drawOne;
    const size = byId("brush-size");
    this.#mask = new MaskBrush(byId("mask"), {
      erases: () => choice("brush") === "erase",
      share: () => Number(size.value) / 100,
      resize: (by) => {
        size.value = String(Number(size.value) + by);
        this.#mask.showBrush();
      },
    });
    size.oninput = () => this.#mask.showBrush();
    byId("undo").onclick = () => this.#mask.undo();
    byId("wipe").onclick = () => this.#mask.wipe();
    byId("compare").oninput = () => this.#compare(Number(byId("compare").value));
    byId("edit-close").onclick = () => byId("editor").close();
    byId("editor").onclose = () => this.#changing?.abort();
    byId("edit-stop").onclick = () => this.#changing?.abort();
    byId("edit-on").onclick = () => this.open(`data:image/png;base64,${this.#after}`);
    byId("edit-again").onclick = () => this.#showResult(false);
    byId("edit-code").onclick = async () => {
      const fields = this.#asked();
      showCode(this.#code({ ...fields, prompt: fields.prompt || EXAMPLE }, await this.#mask.png()));
    };
    byId("change").onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault(); // the dialog stays
      this.#change();
    };
    byId("editor").onkeydown = (/** @type {KeyboardEvent} */ event) => {
      const isUndo = (event.ctrlKey || event.metaKey) && event.key === "z";
      if (!isUndo || /** @type {Element} */ (event.target).matches("input:not([type=range], [type=radio])")) return;
      event.preventDefault();
      this.#mask.undo();
    };
  }

  /** Shows a picture to be changed. @param {string} url  of a PNG, as a data URL */
  async open(url) {
    const before = byId("before");
    before.src = url;
    if (!byId("editor").open) byId("editor").showModal();
    showError(byId("change"), null);
    this.#showResult(false);
    await before.decode();
    byId("easel").style.setProperty("--ratio", String(before.naturalWidth / before.naturalHeight));
    this.#mask.reset(before.naturalWidth, before.naturalHeight);
    byId("edit-prompt").focus();
  }

  /** What is asked besides the files. */
  #asked() {
    return { model: byId("model").value, prompt: byId("edit-prompt").value.trim(), quality: byId("quality").value };
  }

  /** @param {Record<string, any>} fields @param {Blob | null} mask */
  #code(fields, mask) {
    const whole = this.#whole(fields, mask);
    return (/** @type {any} */ language, /** @type {any} */ server) => editCode(language, whole, mask !== null, server);
  }

  /** @param {Record<string, any>} fields @param {Blob | null} mask */
  #whole(fields, mask) {
    const keeps = !mask && byId("keep").checked; // a mask says itself what is kept
    const old = fields.model.startsWith("dall-e") && { response_format: "b64_json" };
    return { ...fields, ...old, ...(keeps && { input_fidelity: "high" }), stream: true, partial_images: PARTIAL_IMAGES };
  }

  async #change() {
    if (this.#changing) return;
    const fields = this.#asked();
    const { signal } = (this.#changing = new AbortController());
    showError(byId("change"), null);
    this.#showBusy(true);
    const mask = await this.#mask.png();
    const form = new FormData();
    for (const [name, value] of Object.entries(this.#whole(fields, mask))) form.append(name, String(value));
    form.append("image", blobOf(byId("before").src, "image/png"), "picture.png");
    if (mask) form.append("mask", mask, "mask.png");
    const { error, base64 } = await this.#drawOne("/v1/images/edits", form, fields, signal, this.#code(fields, mask), (growth) =>
      this.#grow(growth));
    this.#changing = null;
    this.#showBusy(false);
    if (error) showError(byId("change"), error, CONTROLS);
    if (!base64) return this.#showResult(false);
    this.#after = base64;
    this.#showResult(true);
  }

  /** @param {string} base64 */
  #grow(base64) {
    byId("after").src = `data:image/png;base64,${base64}`;
    byId("after").hidden = false;
    byId("mask").hidden = true;
    this.#compare(0);
  }

  /** Shows so many hundredths of the picture as it was, from the left. @param {number} percent */
  #compare(percent) {
    byId("compare").value = String(percent);
    byId("easel").style.setProperty("--before", `${percent}%`);
  }

  /** Shows the picture before and after, or the brush. @param {boolean} now */
  #showResult(now) {
    const focused = document.activeElement;
    for (const id of ["mask", "brush-tools", "mask-help", "keep-label"]) byId(id).hidden = now;
    for (const id of ["after", "compare-label", "edit-on", "edit-again"]) byId(id).hidden = !now;
    if (now) this.#compare(50);
    if (focused?.matches("body, [hidden], [hidden] *")) byId(now ? "compare" : "edit-prompt").focus();
  }

  /** @param {boolean} now */
  #showBusy(now) {
    const focused = document.activeElement;
    byId("edit-go").hidden = now;
    byId("edit-stop").hidden = !now;
    if (focused?.matches("body, [hidden]")) byId(now ? "edit-stop" : "edit-prompt").focus();
  }
}
