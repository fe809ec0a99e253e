// @ts-check
/** The camera: a still picture, or a film of a few seconds with or without sound. */

import { byId } from "./dom.js";
import { scaledPng } from "./picture.js";
import { toBase64 } from "./wav.js";
import { clock } from "./waveform.js";

const MAX_FILM_MS = 8000;
const TICK_MS = 100;
const FILM_TYPES = ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"]; // by preference; Safari has the last only
const FILM_BITS_PER_S = 1_500_000; // a network sees far less

/** @typedef {import("./view.js").Picture | import("./view.js").Film} Shot */

/** A film file as the API takes it. @param {Blob} file @param {string} name @returns {Promise<import("./view.js").Film>} */
export async function filmOf(file, name) {
  const type = file.type.replace(/;.*/, ""); // codecs are no part of a data URL's type
  const base64 = toBase64(new Uint8Array(await file.arrayBuffer()));
  return { kind: "film", url: `data:${type};base64,${base64}`, shown: URL.createObjectURL(file), name };
}

export class Camera {
  /** @type {MediaStream | null} */
  #stream = null;
  /** @type {MediaRecorder | null} */
  #recorder = null;
  #onShot;

  /** @param {(shot: Shot) => void} onShot  the dialog closes behind it */
  constructor(onShot) {
    this.#onShot = onShot;
    byId("camera-open").onclick = () => this.#open();
    byId("camera").onclose = () => this.#close();
    byId("camera-device").onchange = () => this.#show();
    byId("camera-shoot").onclick = () => this.#shoot();
    byId("camera-film").onclick = () => (this.#recorder ? this.#recorder.stop() : this.#film());
  }

  /** @param {string} message */
  #notify(message) {
    byId("camera-notice").textContent = message;
    byId("camera-notice").hidden = !message;
  }

  /** @param {unknown} error @param {string} device */
  #refused(error, device) {
    const denied = error instanceof DOMException && error.name === "NotAllowedError";
    const reason = error instanceof Error ? error.message : String(error);
    this.#notify(denied ? `The browser was not allowed to use the ${device}.` : `The ${device} cannot be used. ${reason}`);
  }

  async #open() {
    this.#showFilming(false);
    byId("camera").showModal();
    await this.#show();
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? []; // named once the camera is allowed
    const cameras = devices.filter(({ kind }) => kind === "videoinput");
    const chosen = byId("camera-device").value || this.#stream?.getVideoTracks()[0]?.getSettings().deviceId;
    byId("camera-device").replaceChildren(...cameras.map(({ deviceId, label }, i) => new Option(label || `Camera ${i + 1}`, deviceId)));
    byId("camera-device").value = chosen ?? "";
    byId("camera-device-label").hidden = cameras.length < 2;
  }

  /** Shows what the chosen camera sees. */
  async #show() {
    this.#stop();
    this.#notify("");
    for (const id of ["camera-shoot", "camera-film"]) byId(id).disabled = true;
    try {
      if (!navigator.mediaDevices) throw new Error("Browsers give it only to pages on localhost or https.");
      const chosen = byId("camera-device").value;
      const which = chosen ? { deviceId: { exact: chosen } } : { facingMode: "environment" };
      const stream = await navigator.mediaDevices.getUserMedia({ video: { ...which, width: { ideal: 640 }, frameRate: { ideal: 15 } } });
      if (!byId("camera").open) return stream.getTracks().forEach((track) => track.stop());
      this.#stream = stream;
      byId("camera-view").srcObject = stream;
      await byId("camera-view").play();
      byId("camera-shoot").disabled = false;
      byId("camera-film").disabled = !window.MediaRecorder;
      byId("camera-shoot").focus();
    } catch (error) {
      if (byId("camera").open) this.#refused(error, "camera");
    }
  }

  #shoot() {
    const view = byId("camera-view");
    this.#onShot({ kind: "image", url: scaledPng(view, view.videoWidth, view.videoHeight), name: "picture from the camera" });
    byId("camera").close();
  }

  async #film() {
    const stream = new MediaStream(this.#stream?.getVideoTracks());
    if (byId("camera-sound").checked) {
      try {
        const sound = await navigator.mediaDevices.getUserMedia({ audio: true });
        sound.getTracks().forEach((track) => (this.#stream?.active ? this.#stream.addTrack(track) : track.stop()));
        sound.getTracks().forEach((track) => stream.addTrack(track));
      } catch (error) {
        return this.#refused(error, "microphone");
      }
    }
    if (!this.#stream) return; // closed while the microphone was asked for
    const mimeType = FILM_TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    const recorder = (this.#recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: FILM_BITS_PER_S }));
    /** @type {Blob[]} */
    const parts = [];
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = async () => {
      clearInterval(ticking);
      if (this.#recorder !== recorder) return; // the dialog was closed: it is thrown away
      this.#recorder = null;
      this.#onShot(await filmOf(new Blob(parts, { type: recorder.mimeType }), "film from the camera"));
      byId("camera").close();
    };
    const started = performance.now();
    const ticking = setInterval(() => {
      const elapsed = performance.now() - started;
      byId("camera-time").textContent = `${clock(elapsed)} of ${clock(MAX_FILM_MS)}`;
      if (elapsed >= MAX_FILM_MS && recorder.state === "recording") recorder.stop();
    }, TICK_MS);
    recorder.start();
    this.#showFilming(true);
  }

  /** @param {boolean} now */
  #showFilming(now) {
    byId("camera-film").textContent = now ? "Stop filming" : "Film";
    byId("camera-time").textContent = now ? clock(0) : "";
    byId("camera-dot").hidden = !now;
    byId("camera-shoot").hidden = now;
    for (const id of ["camera-sound", "camera-device"]) byId(id).disabled = now;
  }

  #stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = byId("camera-view").srcObject = null;
  }

  #close() {
    const recorder = this.#recorder;
    this.#recorder = null;
    if (recorder && recorder.state !== "inactive") recorder.stop();
    this.#stop();
    byId("prompt").focus();
  }
}
