// @ts-check
/** A transcript on the page: it grows while the file is heard, and the words of each finished stretch can be clicked. */

import { byId, el } from "./dom.js";

/** @typedef {import("./subtitles.js").Line} Line */

export class Transcript {
  #root = byId("transcript");
  /** @type {HTMLElement | null} */
  #paragraph = null; // of the stretch that is being heard
  #speaker = ""; // of the stretch before it
  /** @type {{button: HTMLButtonElement, start: number, end: number}[]} */
  #words = [];
  /** @type {HTMLButtonElement | null} */
  #current = null;
  #seek;

  /** @param {(atS: number) => void} seek  plays from there */
  constructor(seek) {
    this.#seek = seek;
    this.#root.onkeydown = (/** @type {KeyboardEvent} */ event) => this.#key(event);
  }

  clear() {
    this.#root.replaceChildren();
    this.#paragraph = this.#current = null;
    this.#speaker = "";
    this.#words = [];
  }

  /** More of what is heard. @param {string} text */
  add(text) {
    if (!this.#paragraph) {
      this.#paragraph = el("p", { className: "growing" });
      this.#root.append(this.#paragraph);
      text = text.trimStart();
    }
    this.#paragraph.append(text);
  }

  /** The stretch that has just been heard, with times. @param {Line} line */
  finish({ speaker, words, text }) {
    const paragraph = el("p", {});
    if (speaker && speaker !== this.#speaker) paragraph.append(el("b", { className: "speaker" }, speaker));
    this.#speaker = speaker;
    for (const { word, start, end } of words) {
      const button = el("button", { type: "button", className: "word", tabIndex: -1, title: `${start.toFixed(2)} s` }, word);
      button.onclick = () => this.#go(button, start);
      if (!this.#words.length) button.tabIndex = 0;
      this.#words.push({ button, start, end });
      paragraph.append(button, " ");
    }
    if (!words.length) paragraph.append(text);
    if (this.#paragraph) this.#paragraph.replaceWith(paragraph);
    else this.#root.append(paragraph);
    this.#paragraph = null;
  }

  /** No more of it comes. */
  settle() {
    this.#paragraph?.classList.remove("growing");
  }

  /** It is whole. */
  end() {
    if (!this.#root.childElementCount) this.#root.append(el("p", { className: "note" }, "Nobody says anything in it."));
  }

  /** Marks the word that is being said. @param {number} atS */
  mark(atS) {
    let low = 0;
    let high = this.#words.length; // the last word that has begun lies before it
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#words[middle].start <= atS) low = middle + 1;
      else high = middle;
    }
    const word = this.#words[low - 1];
    const now = word && atS < word.end ? word.button : null;
    if (now === this.#current) return;
    this.#current?.removeAttribute("aria-current");
    now?.setAttribute("aria-current", "true");
    this.#current = now;
  }

  /** @param {HTMLButtonElement} button @param {number} start */
  #go(button, start) {
    for (const word of this.#words) word.button.tabIndex = word.button === button ? 0 : -1;
    this.#seek(start);
  }

  /** Arrow keys walk the words, which are one stop of the Tab key. @param {KeyboardEvent} event */
  #key(event) {
    const at = this.#words.findIndex(({ button }) => button === document.activeElement);
    /** @type {Record<string, number>} */
    const places = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: this.#words.length - 1 };
    const next = this.#words[places[event.key]];
    if (at < 0 || !next) return;
    event.preventDefault();
    this.#words[at].button.tabIndex = -1;
    next.button.tabIndex = 0;
    next.button.focus();
  }
}
