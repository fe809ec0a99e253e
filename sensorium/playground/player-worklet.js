/**
 * Plays samples as they come, without gaps. The queue has no bound, unlike a ring: a reply may arrive much faster than
 * it sounds, and none of it may be dropped.
 */
const START_SAMPLES = 1920; // 80 ms, one frame of the model: the least that rides out network jitter
const RESTART_SAMPLES = 7200; // 300 ms: a stream that ran dry once will do so again
const REPORT_QUANTA = 8; // of 128 samples: a progress message every 43 ms

registerProcessor("player", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.open(0);
    this.port.onmessage = ({ data }) => {
      if (data.open !== undefined) this.open(data.open);
      if (data.id !== this.id) return; // a sound that another one has replaced
      if (data.samples) {
        this.queue.push(data.samples);
        this.waiting += data.samples.length;
      }
      if (data.end) this.ended = true;
    };
  }

  open(id) {
    this.id = id; // 0: silence
    this.queue = [];
    this.offset = 0; // of the next sample in the first block
    this.waiting = 0; // samples queued
    this.played = 0;
    this.underruns = 0;
    this.quanta = 0;
    this.sounding = false;
    this.ended = false;
  }

  process(_inputs, [[output]]) {
    if (this.id === 0) return true;
    if (!this.sounding) this.sounding = this.ended || this.waiting >= (this.underruns ? RESTART_SAMPLES : START_SAMPLES);
    if (this.sounding) this.fill(output);
    const finished = this.ended && this.waiting === 0;
    if (finished || ++this.quanta % REPORT_QUANTA === 0) {
      this.port.postMessage({ id: this.id, played: this.played, underruns: this.underruns, finished });
    }
    if (finished) this.open(0);
    return true;
  }

  fill(output) {
    let filled = 0;
    while (filled < output.length && this.queue.length) {
      const part = this.queue[0].subarray(this.offset, this.offset + output.length - filled);
      output.set(part, filled);
      filled += part.length;
      this.offset += part.length;
      if (this.offset === this.queue[0].length) {
        this.queue.shift();
        this.offset = 0;
      }
    }
    this.waiting -= filled;
    this.played += filled;
    if (filled < output.length && !this.ended) {
      this.sounding = false;
      this.underruns++;
    }
  }
});
