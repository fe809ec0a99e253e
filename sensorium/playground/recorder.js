// @ts-check
/** The microphone. Its samples come at the device's own rate and leave at 24 kHz. */

import { decodeClip, encodeWav } from "./wav.js";

/**
 * Starts recording. `onLevel` hears the peak, 0 to 1, of every block.
 * @param {(level: number) => void} onLevel
 */
export async function record(onLevel) {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    throw new Error("Browsers give the microphone only to pages on localhost or https.");
  }
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext();
  const close = async () => {
    microphone.getTracks().forEach((track) => track.stop());
    await context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
  } catch (error) {
    await close();
    throw error;
  }

  /** @type {Float32Array[]} */
  const blocks = [];
  const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  node.port.onmessage = ({ data }) => {
    blocks.push(data);
    onLevel(data.reduce((/** @type {number} */ peak, /** @type {number} */ x) => Math.max(peak, Math.abs(x)), 0));
  };
  context.createMediaStreamSource(microphone).connect(node);

  return {
    /** Ends the recording and throws it away. */
    cancel: close,
    /** Ends the recording and gives its samples at 24 kHz. */
    async stop() {
      await close();
      const samples = new Float32Array(blocks.reduce((total, block) => total + block.length, 0));
      let at = 0;
      for (const block of blocks) {
        samples.set(block, at);
        at += block.length;
      }
      return samples.length ? decodeClip(encodeWav(samples, context.sampleRate)) : samples;
    },
  };
}
