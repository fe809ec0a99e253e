// @ts-check
/** A sound as it is seen: bars that grow while it arrives, a play button, its length and a file to save. */

import { button, el, icon } from "./dom.js";
import { fileName, save } from "./page.js";
import { encodeWav, RATE_HZ } from "./wav.js";

const BAR_SAMPLES = 1200; // 50 ms of sound per bar
const BAR_PX = 2;
export const PITCH_PX = 4; // from bar to bar

/**
 * Draws levels (0 to 1) as bars from left to right; more bars than fit are merged. The colours come from the canvas's
 * style: `accent-color` for the first `share` of the bars, `color` for the rest.
 * @param {HTMLCanvasElement} canvas @param {number[]} levels
 */
export function drawBars(canvas, levels, share = 1) {
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  const pen = canvas.getContext("2d");
  if (!pen || !width) return;
  pen.scale(devicePixelRatio, devicePixelRatio);
  const style = getComputedStyle(canvas);
  const count = Math.min(levels.length, Math.floor(width / PITCH_PX));
  for (let i = 0; i < count; i++) {
    const merged = levels.slice(Math.floor((i * levels.length) / count), Math.floor(((i + 1) * levels.length) / count));
    const bar = Math.max(BAR_PX, Math.sqrt(Math.max(...merged)) * height); // the root shows quiet speech too
    pen.fillStyle = i < share * count ? style.accentColor : style.color;
    pen.beginPath();
    pen.roundRect(i * PITCH_PX, (height - bar) / 2, BAR_PX, bar, BAR_PX / 2);
    pen.fill();
  }
}

/** Draws as many of the newest levels as fit. @param {HTMLCanvasElement} canvas @param {number[]} levels */
export function drawLatestBars(canvas, levels) {
  drawBars(canvas, levels.slice(-Math.floor(canvas.clientWidth / PITCH_PX)));
}

/** Minutes and seconds. @param {number} ms */
export function clock(ms) {
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

export class SoundStrip {
  /** @type {Float32Array[]} */
  #blocks = [];
  #length = 0; // samples
  /** @type {number[]} */
  #levels = [];
  /** @type {ReturnType<import("./player.js").Player["open"]> | null} */
  #sound = null; // while it plays
  #share = 1;
  #player;

  /** @param {import("./player.js").Player} player @param {string} name what it is, for people who do not see it */
  constructor(player, name) {
    this.#player = player;
    this.name = name;
    this.play = button("play", `Play ${name}`, () => (this.#sound ? player.stop() : this.replay()));
    this.canvas = el("canvas", { ariaHidden: "true" });
    this.time = el("span", { className: "time" });
    this.save = button("save", `Save ${name} as WAV`, () => this.download());
    this.root = el("div", { className: "sound" }, this.play, this.canvas, this.time, this.save);
    new ResizeObserver(() => this.#draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  /** More sound, heard at once if it is playing. @param {Float32Array} samples */
  push(samples) {
    this.#sound?.push(samples);
    this.#blocks.push(samples);
    for (const sample of samples) {
      const bar = Math.floor(this.#length++ / BAR_SAMPLES);
      this.#levels[bar] = Math.max(this.#levels[bar] ?? 0, Math.abs(sample));
    }
    this.time.textContent = clock((1000 * this.#length) / RATE_HZ);
    this.#draw();
    return this;
  }

  /** Plays what there is, and what is pushed until `end`. */
  listen() {
    this.#sound = this.#player.open((progress) => this.#progress(progress));
    this.#blocks.forEach((block) => this.#sound?.push(block));
    this.#progress({ finished: false, played: 0, underruns: 0 });
    return this;
  }

  end() {
    this.#sound?.end();
  }

  replay() {
    this.listen().end();
  }

  samples() {
    const samples = new Float32Array(this.#length);
    let at = 0;
    for (const block of this.#blocks) {
      samples.set(block, at);
      at += block.length;
    }
    return samples;
  }

  download() {
    save(new Blob([encodeWav(this.samples())], { type: "audio/wav" }), `${fileName(this.name)}.wav`);
  }

  /** @param {import("./player.js").Progress} progress */
  #progress({ played, underruns, finished }) {
    if (finished) this.#sound = null;
    if (played !== undefined) Object.assign(this.root.dataset, { playedSamples: played, underruns });
    this.#share = finished ? 1 : (played ?? 0) / Math.max(this.#length, 1);
    const action = finished ? "Play" : "Stop";
    if (!this.play.title.startsWith(action)) {
      this.play.ariaLabel = this.play.title = `${action} ${this.name}`;
      this.play.replaceChildren(icon(action.toLowerCase()));
    }
    this.#draw();
  }

  #draw() {
    drawBars(this.canvas, this.#levels, this.#share);
  }
}
