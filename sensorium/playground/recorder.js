// @ts-check
/** A recording. Its samples come at the device's own rate and leave at 24 kHz. */

import { openMicrophone, peak } from "./microphone.js";
import { decodeClip, encodeWav } from "./wav.js";

/**
 * Starts recording. `onLevel` hears the peak, 0 to 1, of every block.
 * @param {(level: number) => void} onLevel
 */
export async function record(onLevel) {
  /** @type {Float32Array[]} */
  const blocks = [];
  const { close, rateHz } = await openMicrophone({}, {}, (samples) => {
    blocks.push(samples);
    onLevel(peak(samples));
  });

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
      return samples.length ? decodeClip(encodeWav(samples, rateHz)) : samples;
    },
  };
}
