// @ts-check
/** The microphone, block by block. */

/**
 * Opens it. `onSamples` hears every block.
 * @param {MediaTrackConstraints} constraints  of the track besides that it is mono
 * @param {AudioContextOptions} options  without a rate the samples come at the device's own
 * @param {(samples: Float32Array) => void} onSamples
 */
export async function openMicrophone(constraints, options, onSamples) {
  if (!navigator.mediaDevices || !window.AudioWorkletNode) {
    throw new Error("Browsers give the microphone only to pages on localhost or https.");
  }
  const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, ...constraints } });
  const context = new AudioContext(options);
  const close = async () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") await context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
  } catch (error) {
    await close();
    throw error;
  }
  const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
  node.port.onmessage = ({ data }) => onSamples(data);
  context.createMediaStreamSource(stream).connect(node);
  /** While it is muted nothing is recorded, as browsers show beside the address. @param {boolean} isMuted */
  const mute = (isMuted) => stream.getAudioTracks().forEach((track) => (track.enabled = !isMuted));
  return { close, mute, rateHz: context.sampleRate };
}

/** The loudest sample of a block, 0 to 1. @param {Float32Array} samples */
export function peak(samples) {
  return samples.reduce((loudest, x) => Math.max(loudest, Math.abs(x)), 0);
}
