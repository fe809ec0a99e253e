// @ts-check
/** What a conversation looks like. Builds and updates elements; decides nothing. */

import { button, el, icon } from "./dom.js";
import { SoundStrip } from "./waveform.js";

/** @typedef {{kind: "image", url: string, name: string}} Picture */
/** @typedef {{kind: "film", url: string, shown: string, name: string}} Film  `url` holds the bytes, `shown` names them to the page */
/** @typedef {{kind: "audio", base64: string, format: string, samples: Float32Array, name: string}} Clip */

/** @param {Picture | Film | Clip} attachment @param {import("./player.js").Player} player */
function media(attachment, player) {
  if (attachment.kind === "image") return el("img", { src: attachment.url, alt: attachment.name });
  if (attachment.kind === "film") return el("video", { src: attachment.shown, controls: true, playsInline: true, ariaLabel: attachment.name });
  return new SoundStrip(player, attachment.name).push(attachment.samples).root;
}

/** An attachment in the composer. @param {Picture | Film | Clip} attachment @param {import("./player.js").Player} player @param {() => void} remove */
export function attachmentItem(attachment, player, remove) {
  return el("li", { className: attachment.kind }, media(attachment, player), button("close", `Remove ${attachment.name}`, remove));
}

/** What the user said. @param {string} text @param {(Picture | Film | Clip)[]} attachments @param {import("./player.js").Player} player */
export function userTurn(text, attachments, player) {
  const root = el("li", { className: "turn user" }, el("h3", { className: "sr" }, "You"));
  root.append(...attachments.map((attachment) => media(attachment, player)));
  if (text) root.append(el("p", { className: "text" }, text));
  return root;
}

/** @param {number} ms */
const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** An answer, from its first sign of life to its last figure. */
export class ReplyView {
  #text = el("p", { className: "text" });
  #body = el("div", { className: "body" });
  #foot = el("footer", {});
  /** @type {SoundStrip | null} */
  #strip = null;
  /** @type {HTMLElement | null} */
  #picture = null; // the one still being drawn
  #player;

  /** @param {import("./player.js").Player} player @param {string} prompt names the pictures */
  constructor(player, prompt) {
    this.#player = player;
    this.prompt = prompt;
    this.#body.append(el("span", { className: "waiting", ariaHidden: "true" }, el("i"), el("i"), el("i")));
    this.root = el("li", { className: "turn reply", ariaBusy: "true" }, el("h3", { className: "sr" }, "Sensorium"), this.#body, this.#foot);
  }

  /** @param {Node} part */
  #add(part) {
    this.#body.querySelector(".waiting")?.remove();
    if (!this.#body.contains(part)) this.#body.append(part);
  }

  /** @param {string} delta */
  text(delta) {
    this.#add(this.#text);
    this.#text.append(delta);
  }

  /** @param {Float32Array} samples */
  sound(samples) {
    if (!this.#strip) {
      this.#strip = new SoundStrip(this.#player, "the answer");
      this.#add(this.#strip.root);
      this.#strip.listen();
    }
    this.#strip.push(samples);
  }

  /** A picture, or a later state of the one that is not final yet. @param {string} src @param {boolean} final */
  picture(src, final) {
    const name = `Picture for “${this.prompt}”`;
    const figure = el("figure", { ariaBusy: String(!final) }, el("img", { src, alt: name }));
    if (final) figure.append(el("a", { className: "icon", href: src, download: "picture.png", title: "Save", ariaLabel: `Save: ${name}` }, icon("save")));
    if (this.#picture) this.#picture.replaceWith(figure);
    else this.#add(figure);
    this.#picture = final ? null : figure;
  }

  /**
   * The tools the model wants called, whole. `answer` takes what they returned, one text per call.
   * @param {{function: {name: string, arguments: string}}[]} calls @param {(results: string[]) => void} answer
   */
  toolCalls(calls, answer) {
    const results = calls.map((call) => el("input", { value: '{"ok":true}', ariaLabel: `Result of ${call.function.name}`, spellcheck: false }));
    calls.forEach((call, i) => {
      let pretty = call.function.arguments;
      try {
        pretty = JSON.stringify(JSON.parse(pretty), null, 2);
      } catch {
        // a model may write broken JSON: show it as it is
      }
      this.#add(el("section", { className: "tool" }, el("h4", {}, icon("tool"), call.function.name), el("pre", {}, pretty), results[i]));
    });
    const send = el("button", { type: "button", className: "wide" }, calls.length > 1 ? "Send the results" : "Send the result");
    send.onclick = () => {
      [send, ...results].forEach((control) => (control.disabled = true));
      answer(results.map((input) => input.value));
    };
    this.#add(send);
    return () => results.map((input) => input.value);
  }

  /** @param {{message: string, param?: string | null}} error @param {() => void} edit */
  error(error, edit) {
    const card = el("div", { className: "error", role: "alert" }, el("p", {}, error.message));
    if (error.param) card.append(el("p", { className: "param" }, "Field ", el("code", {}, error.param)));
    card.append(el("button", { type: "button", className: "wide", onclick: edit }, icon("edit"), "Edit and send again"));
    this.#add(card);
  }

  /**
   * The last word on an answer: what it took, and how it ended.
   * @param {{textMs?: number, soundMs?: number, pictureMs?: number, totalMs: number, usage?: any, note?: string}} figures
   * @param {{copy: (() => void) | "", code: () => void}} actions
   */
  close({ textMs, soundMs, pictureMs, totalMs, usage, note }, actions) {
    this.#strip?.end();
    this.#body.querySelector(".waiting")?.remove();
    this.root.ariaBusy = "false";
    const facts = [
      note,
      textMs !== undefined && `first text ${duration(textMs)}`,
      soundMs !== undefined && `first sound ${duration(soundMs)}`,
      pictureMs !== undefined && `first picture ${duration(pictureMs)}`,
      `total ${duration(totalMs)}`,
      usage && `${usage.prompt_tokens} tokens in, ${usage.completion_tokens} out`,
    ];
    const list = el("ul", { ariaLabel: "Figures" }, ...facts.filter(Boolean).map((fact) => el("li", {}, String(fact))));
    const details = { in: usage?.prompt_tokens_details, out: usage?.completion_tokens_details };
    if (usage) list.title = Object.entries(details).map(([way, counts]) => `${way}: ${spelled(counts)}`).join("\n");
    this.#foot.replaceChildren(list);
    if (actions.copy) this.#foot.append(button("copy", "Copy the answer", actions.copy));
    this.#foot.append(button("code", "Show this request in code", actions.code));
  }
}

/** Token counts by modality, in words. @param {Record<string, number> | undefined} counts */
function spelled(counts = {}) {
  const parts = Object.entries(counts).filter(([, count]) => count).map(([name, count]) => `${count} ${name.replace("_tokens", "")}`);
  return parts.join(", ") || "text only";
}
