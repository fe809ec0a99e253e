// @ts-check
/** The loudspeaker. One sound at a time: opening the next silences the last. */

import { RATE_HZ } from "./wav.js";

/** @typedef {{finished: boolean, played?: number, underruns?: number}} Progress  `played` counts samples; none if it was cut */

export class Player {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {Promise<AudioWorkletNode> | null} */
  #node = null;
  #id = 0;
  /** @type {(progress: Progress) => void} */
  #listener = () => {};
  #report;

  /** @param {(error: Error) => void} onError  hears why there is no sound */
  constructor(onError) {
    this.#report = onError;
  }

  /** Wakes the device. First called from a click or a key: browsers allow sound from nothing else. */
  prepare() {
    this.#context ??= new AudioContext({ sampleRate: RATE_HZ, latencyHint: "interactive" });
    this.#node ??= this.#start(this.#context);
    Promise.all([this.#node, this.#context.resume()]).catch((error) => {
      this.stop();
      this.#report(error);
    });
  }

  /** @param {AudioContext} context */
  async #start(context) {
    if (!context.audioWorklet) throw new Error("Browsers play streamed sound only on localhost or https. The recording can be saved.");
    await context.audioWorklet.addModule(new URL("player-worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
    node.connect(context.destination);
    node.port.onmessage = ({ data }) => {
      if (data.id !== this.#id) return; // reported before another sound replaced it
      this.#listener(data);
      if (data.finished) this.#silence();
    };
    return node;
  }

  /**
   * Begins a sound. Its samples may be pushed at once: they wait for the device.
   * @param {(progress: Progress) => void} listener
   */
  open(listener) {
    this.stop();
    this.prepare();
    const id = ++this.#id;
    this.#listener = listener;
    this.#post({ open: id });
    return {
      push: (/** @type {Float32Array} */ samples) => this.#post({ id, samples }),
      end: () => this.#post({ id, end: true }),
    };
  }

  /** Silence, at once. The listener of the sound that was cut hears that it is finished. */
  stop() {
    const listener = this.#listener;
    this.#post({ open: 0 });
    this.#silence();
    listener({ finished: true });
  }

  #silence() {
    this.#id++;
    this.#listener = () => {};
    this.#context?.suspend(); // an idle device would keep a core awake
  }

  /** Messages keep their order: all wait for the same promise. @param {object} message */
  #post(message) {
    this.#node?.then((node) => node.port.postMessage(message)).catch(() => {}); // prepare() has reported why
  }
}
