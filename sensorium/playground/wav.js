// @ts-check
/** Sound as numbers: mono Float32Array samples in [-1, 1], WAV files and 16-bit PCM. */

export const RATE_HZ = 24_000; // of every sound the API takes or gives

/** A 16-bit mono WAV file. @param {Float32Array} samples */
export function encodeWav(samples, rateHz = RATE_HZ) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const ascii = (/** @type {number} */ at, /** @type {string} */ text) =>
    [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  ascii(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples.length, true);
  ascii(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rateHz, true);
  view.setUint32(28, 2 * rateHz, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  ascii(36, "data");
  view.setUint32(40, 2 * samples.length, true);
  samples.forEach((x, i) => view.setInt16(44 + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, x))), true));
  return new Uint8Array(view.buffer);
}

/**
 * Any clip the browser can read, at 24 kHz. `decodeAudioData` is the one place where a browser resamples with a
 * proper filter, so recordings made at the microphone's own rate come through here too.
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
export async function decodeClip(bytes) {
  const buffer = await new OfflineAudioContext(1, 1, RATE_HZ).decodeAudioData(bytes.slice().buffer);
  const mono = new Float32Array(buffer.length);
  for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
    buffer.getChannelData(channel).forEach((x, i) => (mono[i] += x / buffer.numberOfChannels));
  }
  return mono;
}

/** "wav" or "mp3", the formats the API takes, told by the first bytes; null for anything else. @param {Uint8Array} bytes */
export function clipFormat(bytes) {
  const head = String.fromCharCode(...bytes.subarray(0, 12));
  if (head.startsWith("RIFF") && head.endsWith("WAVE")) return "wav";
  if (head.startsWith("ID3") || (bytes[0] === 0xff && (bytes[1] & 0xe6) === 0xe2)) return "mp3";
  return null;
}

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
  let binary = "";
  for (let i = 0; i < bytes.length; i += 0x8000) binary += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(binary);
}

/** A stream of base64 16-bit PCM as samples. A sample may be cut in two by a chunk boundary. */
export class PcmDecoder {
  #odd = ""; // the first byte of a sample whose second has not come

  /** @param {string} base64 */
  decode(base64) {
    const binary = this.#odd + atob(base64);
    const samples = new Float32Array(binary.length >> 1);
    for (let i = 0; i < samples.length; i++) {
      const word = binary.charCodeAt(2 * i) | (binary.charCodeAt(2 * i + 1) << 8);
      samples[i] = ((word << 16) >> 16) / 32768; // the shifts carry the sign
    }
    this.#odd = binary.slice(2 * samples.length);
    return samples;
  }
}
