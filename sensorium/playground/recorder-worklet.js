/** Hands the microphone's samples to the page, about 40 times a second. */
const BLOCK = 1024; // samples per message

registerProcessor("recorder", class extends AudioWorkletProcessor {
  block = new Float32Array(BLOCK);
  filled = 0;

  process([[input]]) {
    if (!input) return true; // no microphone connected yet
    this.block.set(input, this.filled); // a quantum of 128 always fits: BLOCK is a multiple of it
    this.filled += input.length;
    if (this.filled === BLOCK) {
      this.port.postMessage(this.block, [this.block.buffer]);
      this.block = new Float32Array(BLOCK);
      this.filled = 0;
    }
    return true;
  }
});
