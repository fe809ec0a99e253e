// @ts-check
/** A mask that is painted with a brush, by pointer or by keyboard. What is painted is the hole that may change. */

import { canvasOf } from "./picture.js";

const STEP = 0.02; // of the picture: how far an arrow key moves the brush; ten times so far with Shift
const PAINTED = 128; // of 255: the soft rim of a stroke belongs to it from here on

/** @typedef {{erases: boolean, radius: number, points: [number, number][]}} Stroke  in pixels of the picture */

export class MaskBrush {
  /** @type {Stroke[]} */
  #strokes = [];
  /** @type {Stroke | null} */
  #stroke = null; // while the pointer is down
  /** @type {[number, number]} */
  #at = [0, 0];
  #canvas;
  #pen;
  #settings;

  /**
   * @param {HTMLCanvasElement} canvas  laid over the picture
   * @param {{erases: () => boolean, share: () => number, resize: (by: number) => void}} settings  `share` is the
   *   brush's width, of the picture's longer side
   */
  constructor(canvas, settings) {
    this.#canvas = canvas;
    this.#pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    this.#settings = settings;
    canvas.onpointerdown = (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      canvas.focus();
      canvas.setPointerCapture(event.pointerId);
      this.#begin(this.#place(event));
    };
    canvas.onpointermove = (event) => {
      this.#moveTo(this.#place(event));
      if (this.#stroke) this.#extend(this.#at);
    };
    canvas.onpointerup = canvas.onpointercancel = () => (this.#stroke = null);
    canvas.onkeydown = (event) => this.#key(event);
  }

  /** An empty mask for a picture of this size. @param {number} width @param {number} height */
  reset(width, height) {
    Object.assign(this.#canvas, { width, height });
    this.#strokes = [];
    this.#moveTo([width / 2, height / 2]);
  }

  undo() {
    this.#strokes.pop();
    this.#redraw();
  }

  wipe() {
    this.#strokes = [];
    this.#redraw();
  }

  /** Draws the brush again where it is: its size has been changed. */
  showBrush() {
    this.#moveTo(this.#at);
  }

  /** The mask as the API takes it: a PNG as large as the picture, fully transparent where it was painted; null if nowhere. */
  async png() {
    const { width, height } = this.#canvas;
    const { canvas, pen } = canvasOf(width, height);
    const image = this.#pen.getImageData(0, 0, width, height);
    let isEmpty = true;
    for (let i = 3; i < image.data.length; i += 4) {
      const isHole = image.data[i] >= PAINTED;
      image.data[i] = isHole ? 0 : 255;
      isEmpty &&= !isHole;
    }
    if (isEmpty) return null;
    pen.putImageData(image, 0, 0);
    return /** @type {Promise<Blob>} */ (new Promise((done) => canvas.toBlob((blob) => done(/** @type {Blob} */ (blob)), "image/png")));
  }

  /** @param {PointerEvent} event @returns {[number, number]} */
  #place({ offsetX, offsetY }) {
    const scale = this.#canvas.width / this.#canvas.clientWidth;
    return [offsetX * scale, offsetY * scale];
  }

  get #radius() {
    return (this.#settings.share() * Math.max(this.#canvas.width, this.#canvas.height)) / 2;
  }

  /** Shows the brush there. @param {[number, number]} at */
  #moveTo([x, y]) {
    const { width, height } = this.#canvas;
    this.#at = [Math.max(0, Math.min(width, x)), Math.max(0, Math.min(height, y))];
    const style = /** @type {HTMLElement} */ (this.#canvas.parentElement).style;
    style.setProperty("--brush-x", `${(100 * this.#at[0]) / width}%`);
    style.setProperty("--brush-y", `${(100 * this.#at[1]) / height}%`);
    style.setProperty("--brush-width", `${(200 * this.#radius) / width}%`);
  }

  /** @param {[number, number]} at */
  #begin(at) {
    this.#stroke = { erases: this.#settings.erases(), radius: this.#radius, points: [at] };
    this.#strokes.push(this.#stroke);
    this.#moveTo(at);
    this.#draw(this.#stroke);
  }

  /** @param {[number, number]} at */
  #extend(at) {
    this.#stroke?.points.push(at);
    const { points } = /** @type {Stroke} */ (this.#stroke);
    this.#draw({ .../** @type {Stroke} */ (this.#stroke), points: points.slice(-2) });
  }

  /** @param {Stroke} stroke */
  #draw({ erases, radius, points }) {
    const pen = this.#pen;
    pen.globalCompositeOperation = erases ? "destination-out" : "source-over";
    pen.strokeStyle = getComputedStyle(this.#canvas).accentColor;
    pen.lineWidth = 2 * radius;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(...points[0]);
    for (const point of points) pen.lineTo(...point); // to where it begins, too: a line of no length is a dot
    pen.stroke();
  }

  #redraw() {
    this.#pen.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.#strokes.forEach((stroke) => this.#draw(stroke));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = STEP * (event.shiftKey ? 10 : 1) * Math.max(this.#canvas.width, this.#canvas.height);
    const [x, y] = this.#at;
    /** @type {Record<string, () => void>} */
    const actions = {
      ArrowLeft: () => this.#moveTo([x - step, y]),
      ArrowRight: () => this.#moveTo([x + step, y]),
      ArrowUp: () => this.#moveTo([x, y - step]),
      ArrowDown: () => this.#moveTo([x, y + step]),
      " ": () => {
        this.#begin(this.#at);
        this.#stroke = null;
      },
      "+": () => this.#settings.resize(2),
      "-": () => this.#settings.resize(-2),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    actions[event.key]();
  }
}
