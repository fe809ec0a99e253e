// @ts-check
/** What the user is about to say: the text, the attachments, a recording being made. */

import { Camera, filmOf } from "./camera.js";
import { byId } from "./dom.js";
import { sendOnEnter, takeFiles } from "./page.js";
import { readPicture } from "./picture.js";
import { record } from "./recorder.js";
import { attachmentItem } from "./view.js";
import { clipFormat, decodeClip, encodeWav, toBase64 } from "./wav.js";
import { clock, drawLatestBars } from "./waveform.js";

const MAX_FILE_BYTES = 25 * 2 ** 20;
const MAX_RECORDING_MS = 60_000;

/** @typedef {import("./view.js").Picture | import("./view.js").Film | import("./view.js").Clip} Attachment */

/** @param {Float32Array} samples @param {string} name @returns {Attachment} */
function wavClip(samples, name) {
  return { kind: "audio", base64: toBase64(encodeWav(samples)), format: "wav", samples, name };
}

/** A file as the API takes it: a PNG of at most 1024 pixels, a film as it is, a WAV or an MP3. @param {File} file @returns {Promise<Attachment>} */
async function readAttachment(file) {
  if (file.size > MAX_FILE_BYTES) throw new Error("it is larger than 25 MB");
  if (file.type.startsWith("image/")) {
    return { kind: "image", url: await readPicture(file), name: file.name };
  }
  if (file.type.startsWith("video/")) return filmOf(file, file.name);
  const bytes = new Uint8Array(await file.arrayBuffer());
  const samples = await decodeClip(bytes);
  const format = clipFormat(bytes);
  return format ? { kind: "audio", base64: toBase64(bytes), format, samples, name: file.name } : wavClip(samples, file.name);
}

export class Composer {
  /** @type {Attachment[]} */
  #attachments = [];
  /** @type {Awaited<ReturnType<typeof record>> | null} */
  #recording = null;
  #player;
  #notify;

  /**
   * @param {import("./player.js").Player} player
   * @param {(message: string) => void} notify  shows a message, or none if it is empty
   * @param {() => void} submit
   */
  constructor(player, notify, submit) {
    this.#player = player;
    this.#notify = notify;
    byId("composer").onsubmit = async (/** @type {Event} */ event) => {
      event.preventDefault();
      await this.endRecording(true); // sending ends a recording and takes it along
      submit();
    };
    sendOnEnter("prompt", "composer");
    takeFiles("attach", (files) => this.#attach(files));
    document.onpaste = (event) => {
      const files = event.clipboardData?.files;
      if (!files?.length) return;
      event.preventDefault();
      this.#attach([...files]);
    };
    new Camera((shot) => this.#set([...this.#attachments, shot]));
    byId("record").onclick = () => this.#startRecording();
    byId("recording-cancel").onclick = () => this.endRecording(false);
    byId("recording-keep").onclick = () => this.endRecording(true);
  }

  get isRecording() {
    return this.#recording !== null;
  }

  /** What would be sent now. */
  peek() {
    return { text: byId("prompt").value.trim(), attachments: this.#attachments };
  }

  clear() {
    this.#player.stop(); // an attachment may be playing
    this.#set([]);
    byId("prompt").value = "";
  }

  /** Takes back what was sent, before whatever has been typed since. @param {string} text @param {Attachment[]} attachments */
  restore(text, attachments) {
    byId("prompt").value = [text, byId("prompt").value].filter(Boolean).join("\n");
    this.#set([...attachments, ...this.#attachments]);
    byId("prompt").focus();
  }

  /** @param {Attachment[]} attachments */
  #set(attachments) {
    this.#attachments = attachments;
    const items = attachments.map((item) =>
      attachmentItem(item, this.#player, () => {
        this.#player.stop();
        this.#set(this.#attachments.filter((other) => other !== item));
        byId("prompt").focus();
      }));
    byId("attachments").replaceChildren(...items);
  }

  /** @param {File[]} files */
  async #attach(files) {
    this.#notify("");
    for (const file of files) {
      try {
        this.#set([...this.#attachments, await readAttachment(file)]);
      } catch (error) {
        const reason = error instanceof DOMException ? "it is not a picture, a clip or a film that this browser can read" : error.message;
        this.#notify(`${file.name} was not attached: ${reason}.`);
      }
    }
    byId("prompt").focus();
  }

  async #startRecording() {
    this.#notify("");
    this.#player.stop(); // or the microphone would hear it
    byId("record").disabled = true;
    /** @type {number[]} */
    const levels = [];
    const started = performance.now();
    try {
      this.#recording = await record((level) => {
        levels.push(level);
        const elapsed = performance.now() - started;
        byId("recording-time").textContent = clock(elapsed);
        drawLatestBars(byId("meter"), levels);
        if (elapsed > MAX_RECORDING_MS) this.endRecording(true);
      });
      this.#showRecording(true);
      byId("recording-keep").focus();
    } catch (error) {
      const denied = error instanceof DOMException && error.name === "NotAllowedError";
      this.#notify(denied ? "The browser was not allowed to use the microphone." : `The microphone cannot be used. ${error.message}`);
      this.#showRecording(false);
      byId("record").focus(); // disabled for a moment, it lost the focus
    }
  }

  /** Ends a recording, if there is one. @param {boolean} keep it as an attachment */
  async endRecording(keep) {
    const recording = this.#recording;
    if (!recording) return;
    this.#recording = null;
    this.#showRecording(false);
    byId("prompt").focus();
    if (!keep) return recording.cancel();
    const samples = await recording.stop();
    if (samples.length) this.#set([...this.#attachments, wavClip(samples, "recording")]);
  }

  /** @param {boolean} now */
  #showRecording(now) {
    byId("recording").hidden = !now;
    byId("record").disabled = now;
    byId("recording-time").textContent = clock(0);
  }
}
