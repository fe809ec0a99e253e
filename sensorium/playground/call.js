// @ts-check
/** A call: a socket, a microphone that goes in, a loudspeaker that comes out, and what both sides have said. */

import { filmItem } from "./call-camera.js";
import { openMicrophone, peak } from "./microphone.js";
import { PcmDecoder, RATE_HZ, toBase64 } from "./wav.js";

const SAMPLES_PER_MS = RATE_HZ / 1000;
const MUTED_MS = 1500; // of silence behind a turn that is muted, and what the settings want besides
const LEAST_TURN_MS = 100; // the server takes no less for a turn
const LOUD = 0.1; // of the loudest that was heard lately: then somebody speaks
const LOUDNESS_MS = 2000; // in which that loudest fades
const REDIAL_MS = [500, 2500]; // how long to wait before each try to reach a call again whose line dropped

/**
 * What the page shows of a call. `side` is who speaks; a line is named by the item it belongs to.
 * @typedef {{
 *   state: (state: "connecting" | "reconnecting" | "listening" | "hearing" | "thinking" | "speaking" | "over") => void,
 *   line: (id: string, side: "user" | "assistant", text: string) => void,
 *   interrupted: (id: string, why: string) => void,
 *   level: (level: number) => void,
 *   seen: (id: string, frames: number) => void,
 *   latency: (ms: number) => void,
 *   error: (message: string) => void,
 * }} CallView
 * @typedef {{model: string, key: string, voice: string, instructions: string, detection: "semantic_vad" | "server_vad" | "none",
 *   eagerness: string, silence_ms: number, threshold: number, speed: number, deviceId: string}} CallSettings
 */

/**
 * How the end of a turn is told: with what that kind has to be set.
 * @param {CallSettings} settings @param {boolean} isAnswered  by itself
 */
function detectionOf({ detection, eagerness, silence_ms, threshold }, isAnswered) {
  if (detection === "none") return null;
  const asked = isAnswered ? {} : { create_response: false };
  if (detection === "semantic_vad") return { type: detection, eagerness, ...asked };
  return { type: detection, silence_duration_ms: silence_ms, threshold, ...asked };
}

/** The session that these settings ask for. @param {CallSettings} settings @param {boolean} isAnswered  when a turn is over, by itself */
export function sessionOf(settings, isAnswered = true) {
  const { voice, instructions, speed } = settings;
  return {
    type: "realtime",
    output_modalities: ["audio"],
    ...(instructions && { instructions }),
    audio: {
      input: { turn_detection: detectionOf(settings, isAnswered), transcription: {} },
      output: { voice, speed },
    },
  };
}

/** Why an answer failed, in words: a failed response names no more than a code. @param {string | null | undefined} code */
function failure(code) {
  if (code === "context_length_exceeded") return "The conversation is too long to be answered: start a new call.";
  return "The answer failed: say it again, or start a new call.";
}

export class Call {
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Awaited<ReturnType<typeof openMicrophone>> | null} */
  #microphone = null;
  /** @type {ReturnType<import("./player.js").Player["open"]> | null} */
  #sound = null;
  #decoder = new PcmDecoder();
  #speaking = ""; // the item whose sound is played
  #arriving = ""; // the item of which more sound is to come
  #played = 0; // samples of it
  #arrived = 0;
  #waitingSince = 0; // the user spoke last then, and has ended the turn; 0: nobody waits
  #sent = 0; // samples, since the button went down
  #loudest = 0; // that the microphone gave lately
  #loudAt = 0; // when it last gave what counts as speech beside that
  #open = false; // whether the call takes what the microphone gives
  #isMuted = false; // nothing of it is sent, whatever the call does
  #session = ""; // by which the server knows the call, once it has told
  #tries = 0; // to reach it again
  #cutOff = ""; // the item that the line's drop cut
  /** @type {import("./call-camera.js").CallCamera | null} */
  #camera = null;

  /** @param {import("./player.js").Player} player @param {CallSettings} settings @param {CallView} view */
  constructor(player, settings, view) {
    this.player = player;
    this.settings = settings;
    this.view = view;
  }

  /** Rings. Ends with an error in words where there is no microphone or no server. */
  async start() {
    this.view.state("connecting");
    try {
      const { deviceId } = this.settings;
      const constraints = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, ...(deviceId && { deviceId: { exact: deviceId } }) };
      this.#microphone = await openMicrophone(constraints, { sampleRate: RATE_HZ, latencyHint: "interactive" }, (samples) => this.#hear(samples));
      this.#microphone.mute(this.#isMuted); // it may have been while the browser asked
    } catch (error) {
      this.view.error(/** @type {Error} */ (error).message);
      this.view.state("over");
      return;
    }
    this.#dial();
  }

  #dial() {
    const { key, model } = this.settings;
    const query = this.#session ? `session_id=${this.#session}` : `model=${encodeURIComponent(model)}`;
    const url = new URL(`/v1/realtime?${query}`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url, ["realtime", ...(key ? [`openai-insecure-api-key.${key}`] : [])]));
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = ({ wasClean }) => {
      if (socket !== this.#socket) return; // hung up here
      if (wasClean) this.end();
      else this.#redial();
    };
  }

  /** The line is dead. The server keeps the call for a while: it is called again, once or twice. */
  #redial() {
    if (!this.#session || this.#tries === REDIAL_MS.length) {
      this.view.error(this.#session ? "The call was cut off, and could not be reached again." : "The call could not be connected.");
      this.end();
      return;
    }
    this.#cutOff ||= this.#arriving;
    this.#arriving = "";
    this.#waitingSince = 0;
    this.#sound?.end(); // what has come is played
    this.view.state("reconnecting");
    setTimeout(() => this.#socket && this.#dial(), REDIAL_MS[this.#tries++]);
  }

  /** Hangs up. */
  end() {
    const socket = this.#socket;
    this.#socket = null;
    this.#open = false;
    socket?.close();
    this.#microphone?.close();
    this.#microphone = null;
    this.player.stop();
    this.view.state("over");
  }

  /** Of a turn that has begun the server hears the end: it waits for silence, not for nothing. @param {boolean} isMuted */
  mute(isMuted) {
    if (isMuted && this.#open && this.settings.detection !== "none") {
      const silence = new Uint8Array(2 * (this.settings.silence_ms + MUTED_MS) * SAMPLES_PER_MS);
      this.#say({ type: "input_audio_buffer.append", audio: toBase64(silence) });
    }
    this.#isMuted = isMuted;
    this.#microphone?.mute(isMuted);
  }

  /**
   * With a camera each turn is answered when what was seen in it has been sent, so the answer is asked for here.
   * @param {import("./call-camera.js").CallCamera | null} camera
   */
  see(camera) {
    this.#camera = camera;
    this.#shape();
  }

  #shape() {
    this.#say({ type: "session.update", session: sessionOf(this.settings, !this.#camera) });
  }

  /** A turn is over. @param {{item_id: string, previous_item_id: string | null}} event */
  #show({ item_id, previous_item_id }) {
    if (!this.#camera) return;
    const frames = this.#camera.take();
    if (frames.length) this.#say(filmItem(frames, previous_item_id));
    this.#say({ type: "response.create" });
    this.view.seen(item_id, frames.length);
  }

  /** Push to talk: the button goes down. What is being said stops. */
  press() {
    if (!this.#isOnLine || this.#isMuted) return;
    this.#cutShort();
    this.#say({ type: "response.cancel" });
    this.#say({ type: "input_audio_buffer.clear" });
    this.#sent = 0;
    this.#open = true;
    this.view.state("hearing");
  }

  /** Push to talk: the button comes up, the turn is over. */
  release() {
    this.#open = false;
    if (!this.#isOnLine || this.#isMuted) return;
    if (this.#sent < LEAST_TURN_MS * SAMPLES_PER_MS) {
      this.view.state("listening");
      return;
    }
    this.#waitingSince = performance.now();
    this.#say({ type: "input_audio_buffer.commit" });
    if (!this.#camera) this.#say({ type: "response.create" });
    this.view.state("thinking");
  }

  get #isOnLine() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** @param {object} event */
  #say(event) {
    if (this.#isOnLine) this.#socket?.send(JSON.stringify(event));
  }

  /** @param {Float32Array} samples */
  #hear(samples) {
    const isSent = this.#open && !this.#isMuted;
    const level = peak(samples);
    this.view.level(isSent ? level : 0);
    if (!isSent) return;
    this.#sent += samples.length;
    this.#loudest = Math.max(level, this.#loudest * Math.exp(-samples.length / (LOUDNESS_MS * SAMPLES_PER_MS)));
    if (level > LOUD * this.#loudest) this.#loudAt = performance.now();
    const pcm = Int16Array.from(samples, (x) => Math.round(32767 * Math.max(-1, Math.min(1, x))));
    this.#say({ type: "input_audio_buffer.append", audio: toBase64(new Uint8Array(pcm.buffer)) });
  }

  /** One event of the server's. @param {any} event */
  #take(event) {
    switch (event.type) {
      case "session.created":
        this.#session = event.session.id;
        this.#tries = 0;
        this.#shape();
        break;
      case "conversation.created":
        this.#goOn(event.conversation.items);
        break;
      case "session.updated":
        this.#open = this.settings.detection !== "none";
        this.view.state(this.#speaking ? "speaking" : "listening");
        break;
      case "input_audio_buffer.speech_started":
        this.#cutShort();
        this.view.line(event.item_id, "user", "");
        this.view.state("hearing");
        break;
      case "input_audio_buffer.speech_stopped":
        this.#waitingSince = this.#loudAt;
        this.view.state("thinking");
        break;
      case "input_audio_buffer.committed":
        this.view.line(event.item_id, "user", "");
        this.#show(event);
        break;
      case "conversation.item.input_audio_transcription.delta":
        this.view.line(event.item_id, "user", event.delta);
        break;
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        this.view.line(event.item_id, "assistant", event.delta);
        break;
      case "response.output_audio.delta":
        this.#play(event.item_id, this.#decoder.decode(event.delta));
        break;
      case "response.output_audio.done":
        this.#sound?.end();
        this.#arriving = "";
        break;
      case "response.done":
        this.#waitingSince = 0;
        if (event.response.status === "failed") this.view.error(failure(event.response.status_details?.error?.code));
        if (!this.#speaking && event.response.status !== "cancelled") this.view.state("listening");
        break;
      case "error":
        // nothing was under way that the button could have stopped: no error to a person
        if (event.error.code !== "response_cancel_not_active") this.view.error(event.error.message);
    }
  }

  /**
   * The call again, over another socket: an answer that the drop cut off ends with what came of it.
   * @param {{id: string, status: string}[]} items
   */
  #goOn(items) {
    const item = items.find(({ id, status }) => id === this.#cutOff && status === "incomplete");
    this.#cutOff = "";
    if (!item) return;
    const came_ms = Math.floor(this.#arrived / SAMPLES_PER_MS);
    this.#say({ type: "conversation.item.truncate", item_id: item.id, content_index: 0, audio_end_ms: came_ms });
    this.view.interrupted(item.id, "the line dropped");
  }

  /** @param {string} item @param {Float32Array} samples */
  #play(item, samples) {
    if (item !== this.#speaking) {
      this.#speaking = this.#arriving = item;
      this.#played = this.#arrived = 0;
      this.#sound = this.player.open(({ finished, played }) => this.#heard(item, finished, played));
      this.view.state("speaking");
      if (this.#waitingSince) this.view.latency(performance.now() - this.#waitingSince);
      this.#waitingSince = 0;
    }
    this.#arrived += samples.length;
    this.#sound?.push(samples);
  }

  /** The loudspeaker tells how far it is. @param {string} item @param {boolean} finished @param {number | undefined} played */
  #heard(item, finished, played) {
    if (item !== this.#speaking) return;
    this.#played = played ?? this.#played;
    if (finished && played !== undefined) {
      this.#speaking = "";
      this.view.state("listening");
    }
  }

  /** The user speaks: the loudspeaker falls silent, and the server is told how much was heard. */
  #cutShort() {
    const item = this.#speaking;
    if (!item) return;
    this.#speaking = this.#arriving = "";
    this.#sound = null;
    this.player.stop();
    const heard_ms = Math.floor(Math.min(this.#played, this.#arrived) / SAMPLES_PER_MS);
    this.#say({ type: "conversation.item.truncate", item_id: item, content_index: 0, audio_end_ms: heard_ms });
    this.view.interrupted(item, "you cut in");
  }
}
