// @ts-check
/** A sound file as it is seen and played: its waveform, a slider over it, and where it is. */

import { byId, icon } from "./dom.js";
import { decodeClip, RATE_HZ } from "./wav.js";
import { clock, drawBars, PITCH_PX } from "./waveform.js";

const LEVEL_SAMPLES = RATE_HZ / 100; // 10 ms

/** At least so many levels, so that a short file fills the slider's width too. @param {number[]} levels @param {number} count */
function filling(levels, count) {
  if (!levels.length || levels.length >= count) return levels;
  return Array.from({ length: count }, (_, i) => levels[Math.floor((i * levels.length) / count)]);
}

export class Track {
  #audio = new Audio();
  /** @type {number[]} */
  #levels = [];
  /** @type {File | null} */
  #file = null;
  #durationS = 0;
  #onTime;

  /** @param {(atS: number) => void} onTime  hears where it plays, at every picture the screen shows */
  constructor(onTime) {
    this.#onTime = onTime;
    byId("play").onclick = () => (this.#audio.paused ? this.#audio.play() : this.#audio.pause());
    byId("at").oninput = () => this.seek(Number(byId("at").value), !this.#audio.paused);
    this.#audio.onplay = () => {
      this.#showPlaying(true);
      this.#follow();
    };
    this.#audio.onpause = this.#audio.onended = () => this.#showPlaying(false);
    this.#audio.onseeked = () => this.#show();
    new ResizeObserver(() => this.#show()).observe(byId("wave"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#show());
  }

  /** Takes a file. What the browser can't decode has no waveform; the server may read it all the same. @param {File} file */
  async open(file) {
    this.#audio.pause();
    URL.revokeObjectURL(this.#audio.src);
    this.#audio.src = URL.createObjectURL(file);
    this.#levels = [];
    this.#file = file;
    this.lasts(0);
    try {
      const samples = await decodeClip(new Uint8Array(await file.arrayBuffer()));
      if (file !== this.#file) return; // another has been opened meanwhile
      for (let at = 0; at < samples.length; at += LEVEL_SAMPLES) {
        let level = 0;
        for (const sample of samples.subarray(at, at + LEVEL_SAMPLES)) level = Math.max(level, Math.abs(sample));
        this.#levels.push(level);
      }
      this.lasts(samples.length / RATE_HZ);
    } catch {
      this.#show();
    }
  }

  /** @param {number} durationS */
  lasts(durationS) {
    this.#durationS = durationS;
    byId("at").max = String(durationS || 1);
    this.#show();
  }

  /** @param {number} atS @param {boolean} plays */
  seek(atS, plays = true) {
    this.#audio.currentTime = atS;
    if (plays) this.#audio.play();
  }

  #follow() {
    if (this.#audio.paused) return;
    this.#show();
    requestAnimationFrame(() => this.#follow());
  }

  #show() {
    const atS = this.#audio.currentTime;
    const wave = byId("wave");
    drawBars(wave, filling(this.#levels, Math.floor(wave.clientWidth / PITCH_PX)), this.#durationS ? atS / this.#durationS : 0);
    byId("at").value = String(atS);
    byId("at").setAttribute("aria-valuetext", `${clock(1000 * atS)} of ${clock(1000 * this.#durationS)}`);
    byId("clock").textContent = `${clock(1000 * atS)} / ${clock(1000 * this.#durationS)}`;
    this.#onTime(atS);
  }

  /** @param {boolean} now */
  #showPlaying(now) {
    const play = byId("play");
    play.title = play.ariaLabel = now ? "Pause" : "Play";
    play.replaceChildren(icon(now ? "pause" : "play"));
    this.#show();
  }
}
