// @ts-check
/** Pictures as they are drawn: each a card that grows, and says in the end what made it. */

import { button, byId, el, icon } from "./dom.js";
import { fileName, save } from "./page.js";
import { blobOf } from "./picture.js";

/**
 * What came back: `base64` is the PNG file itself, signed, as it is saved.
 * @typedef {{base64: string, prompt: string, facts: string[]}} Picture
 */

/** @param {number} ms */
const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

const MADE = { low: "without guidance", medium: "with guidance", high: "the best of several drawings" };

/**
 * What made a picture, by the last event of its stream.
 * @param {any} event @param {string} model
 * @param {number} firstMs  until the first of the raster was there @param {number} totalMs
 */
export function factsOf(event, model, firstMs, totalMs) {
  const { native_size: native, layout } = event.sensorium;
  return [
    `by ${model}, ${MADE[event.quality] ?? MADE.medium}`,
    native === event.size ? `drawn at ${native}` : `drawn at ${native}, shown at ${event.size}${layout === "continued" ? ", its border continued" : ""}`,
    `first seen after ${duration(firstMs)}, whole after ${duration(totalMs)}`,
    `${event.usage.input_tokens} tokens in, ${event.usage.output_tokens} out`,
    // the chunk of a PNG file that holds a C2PA manifest
    atob(event.b64_json.slice(0, 400)).includes("caBX") ? "signed: the file says what made it" : "not signed",
  ];
}

export class Card {
  #image = el("img", { alt: "" });
  #figure = el("figure", { ariaBusy: "true" }, el("span", { className: "blank" }));
  #body = el("div", { className: "made" });

  /** @param {string} prompt */
  constructor(prompt) {
    this.prompt = prompt;
    this.#image.alt = `Picture for “${prompt}”`;
    this.#body.append(el("p", {}, prompt));
    this.root = el("li", {}, this.#figure, this.#body);
    byId("gallery").prepend(this.root);
    byId("empty").hidden = true;
  }

  /** @param {string} base64  the picture as far as it is */
  show(base64) {
    this.#image.src = `data:image/png;base64,${base64}`;
    if (!this.#image.isConnected) this.#figure.replaceChildren(this.#image);
  }

  /**
   * The whole picture, and what may be done with it.
   * @param {Picture} picture @param {{change: () => void, code: () => void}} actions
   */
  finish(picture, { change, code }) {
    this.show(picture.base64);
    this.#figure.ariaBusy = "false";
    const name = `“${this.prompt}”`;
    const edit = el("button", { type: "button", className: "wide", onclick: change }, icon("edit"), "Change this");
    const store = button("save", `Save ${name}`, () => save(blobOf(picture.base64, "image/png"), `${fileName(this.prompt) || "picture"}.png`));
    const drop = button("close", `Take ${name} off the page`, () => this.remove());
    const facts = el("ul", { ariaLabel: "What made it" }, ...picture.facts.map((fact) => el("li", {}, fact)));
    this.#body.append(facts, el("div", { className: "bar" }, edit, store, button("code", `Show code for ${name}`, code), drop));
  }

  remove() {
    this.root.remove();
    byId("empty").hidden = byId("gallery").childElementCount > 0;
    byId("prompt").focus();
  }

  /** It did not come to an end. @param {string} why */
  fail(why) {
    this.#figure.ariaBusy = "false";
    this.#body.append(el("p", { className: "notice", role: "alert" }, why));
    this.#body.append(el("div", { className: "bar" }, button("close", "Take it off the page", () => this.remove())));
  }
}
