// @ts-check
/** The camera of a call: what it sees is kept frame by frame, until a turn is over that it was seen in. */

import { canvasOf } from "./picture.js";

const MAX_FRAMES = 12; // of a turn, the newest: with their notes 384 positions of the network's 1,024
const MAX_FRAME_PX = 256; // the network sees less
const JPEG_QUALITY = 0.85;

/** @typedef {{url: string, time_ms: number}} Frame */

export class CallCamera {
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {Frame[]} */
  #frames = [];
  #timer = 0;
  #starts = 0; // how often it was started or stopped: the last one counts
  #started = 0; // performance.now() of the first frame
  #view;

  /** @param {HTMLVideoElement} view  which shows what it sees */
  constructor(view) {
    this.#view = view;
  }

  /** Looks from now on; false if it was stopped meanwhile. @param {string} deviceId  "" for any @param {number} framesPerS */
  async start(deviceId, framesPerS) {
    this.stop();
    const start = this.#starts;
    if (!navigator.mediaDevices) throw new Error("Browsers give it only to pages on localhost or https.");
    const which = deviceId ? { deviceId: { exact: deviceId } } : {};
    const stream = await navigator.mediaDevices.getUserMedia({ video: { ...which, width: { ideal: 320 }, frameRate: { ideal: 15 } } });
    if (start !== this.#starts) {
      stream.getTracks().forEach((track) => track.stop());
      return false;
    }
    this.#view.srcObject = this.#stream = stream;
    this.#started = performance.now();
    this.#timer = window.setInterval(() => this.#look(), 1000 / framesPerS);
    await this.#view.play().catch(() => {}); // stopped meanwhile
    return start === this.#starts;
  }

  stop() {
    this.#starts++;
    clearInterval(this.#timer);
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = this.#view.srcObject = null;
    this.#frames = [];
  }

  /** What was seen since it was last asked, at most the newest MAX_FRAMES. */
  take() {
    this.#look(); // what is shown now is what is asked about
    return this.#frames.splice(0);
  }

  #look() {
    const { videoWidth, videoHeight } = this.#view;
    if (!this.#stream || !videoWidth) return;
    const scale = Math.min(1, MAX_FRAME_PX / Math.max(videoWidth, videoHeight));
    const { canvas, pen } = canvasOf(Math.round(scale * videoWidth), Math.round(scale * videoHeight));
    pen.drawImage(this.#view, 0, 0, canvas.width, canvas.height);
    const frame = { url: canvas.toDataURL("image/jpeg", JPEG_QUALITY), time_ms: Math.round(performance.now() - this.#started) };
    this.#frames = [...this.#frames, frame].slice(-MAX_FRAMES);
  }
}

/**
 * An item of the frames of a turn, to stand before it: so the network was taught, what is asked about comes first.
 * @param {Frame[]} frames @param {string | null} before  the item that the turn follows
 */
export function filmItem(frames, before) {
  const content = frames.map(({ url, time_ms }) => ({ type: "input_image", image_url: url, time_ms }));
  return { type: "conversation.item.create", previous_item_id: before ?? "root", item: { type: "message", role: "user", content } };
}
