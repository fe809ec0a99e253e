// @ts-check
/** The call's dialog: its settings, what both sides say, how loud the microphone is, and how soon an answer comes. */

import { CallCamera } from "./call-camera.js";
import { Call, sessionOf } from "./call.js";
import { callCodeFor } from "./code.js";
import { byId, el } from "./dom.js";
import { showCode } from "./page.js";
import { drawLatestBars } from "./waveform.js";

const STATES = {
  connecting: "Connecting",
  reconnecting: "The line dropped: calling again",
  listening: "Listening",
  hearing: "You are speaking",
  thinking: "Thinking",
  speaking: "Speaking",
  over: "Not in a call",
};
const CHOICES = ["call-voice", "call-detection", "call-eagerness", "call-silence", "call-threshold", "call-speed", "call-device"];
const MAX_LEVELS = 400; // more than any meter is wide

/**
 * Wires the dialog. `settings` gives what is chosen elsewhere on the page.
 * @param {import("./player.js").Player} player
 * @param {() => {model: string, key: string, instructions: string}} settings
 * @param {string[]} voices
 */
export function wireCall(player, settings, voices) {
  /** @type {Call | null} */
  let call = null;
  /** @type {number[]} */
  let levels = [];
  /** @type {Map<string, HTMLElement>} */
  const lines = new Map();
  const camera = new CallCamera(byId("call-view"));
  const asked = () => ({
    ...settings(),
    voice: byId("call-voice").value,
    detection: byId("call-detection").value,
    eagerness: byId("call-eagerness").value,
    silence_ms: Number(byId("call-silence").value),
    threshold: Number(byId("call-threshold").value),
    speed: Number(byId("call-speed").value),
    deviceId: byId("call-device").value,
  });

  /** @type {import("./call.js").CallView} */
  const view = {
    state(state) {
      byId("call-state").textContent = STATES[state];
      byId("call").dataset.state = state;
      if (state !== "over") return;
      call = null;
      showBusy(false);
      look(false);
    },
    line(id, side, text) {
      if (!lines.has(id)) {
        const words = el("p", { className: "text" });
        lines.set(id, words);
        byId("call-lines").append(el("li", { className: `turn ${side}` }, el("span", { className: "sr" }, side === "user" ? "You: " : "Sensorium: "), words));
      }
      const words = /** @type {HTMLElement} */ (lines.get(id));
      words.append(text);
      words.parentElement?.scrollIntoView({ block: "end" });
    },
    interrupted(id, why) {
      lines.get(id)?.parentElement?.classList.add("cut");
      lines.get(id)?.parentElement?.append(el("small", {}, why));
    },
    level(level) {
      levels = [...levels, level].slice(-MAX_LEVELS);
      drawLatestBars(byId("call-meter"), levels);
    },
    seen(id, frames) {
      lines.get(id)?.parentElement?.append(el("small", {}, `${frames} frames of the camera seen`));
    },
    latency(ms) {
      byId("call-latency").textContent = `first sound ${Math.round(ms)} ms after you spoke`;
    },
    error(message) {
      byId("call-notice").textContent = message;
      byId("call-notice").hidden = !message;
    },
  };

  /** @param {boolean} now */
  function showBusy(now) {
    byId("call-start").hidden = now;
    byId("call-end").hidden = byId("call-mute").hidden = !now;
    byId("call-push").hidden = !now || asked().detection !== "none";
    for (const id of CHOICES) byId(id).disabled = now;
    byId("call-mute").ariaPressed = "false";
  }

  /** Whether the camera sees along, of a call or of one to come. @param {boolean} now */
  async function look(now) {
    byId("call-camera").ariaPressed = String(now);
    byId("call-view").hidden = !now;
    if (!now) {
      camera.stop();
      call?.see(null);
      return;
    }
    try {
      if (!(await camera.start(byId("call-camera-device").value, Number(byId("call-camera-rate").value)))) return;
    } catch (error) {
      const denied = error instanceof DOMException && error.name === "NotAllowedError";
      view.error(denied ? "The browser was not allowed to use the camera." : `The camera cannot be used. ${/** @type {Error} */ (error).message}`);
      return look(false);
    }
    call?.see(camera);
    listDevices(); // names are told once the camera is allowed
  }

  /** Only what the chosen kind of turn detection has is shown. */
  function showDetection() {
    for (const label of byId("call").querySelectorAll("[data-detection]")) {
      label.hidden = label.dataset.detection !== byId("call-detection").value;
    }
  }

  async function listDevices() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    for (const [select, kind, name] of [["call-device", "audioinput", "microphone"], ["call-camera-device", "videoinput", "camera"]]) {
      const inputs = devices.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "default");
      const chosen = byId(select).value;
      byId(select).replaceChildren(
        el("option", { value: "" }, `System ${name}`),
        ...inputs.map(({ deviceId, label }, i) => el("option", { value: deviceId }, label || `${name} ${i + 1}`)),
      );
      byId(select).value = inputs.some(({ deviceId }) => deviceId === chosen) ? chosen : "";
    }
  }

  byId("call-voice").replaceChildren(...voices.map((voice) => el("option", { value: voice }, voice)));
  byId("call-detection").onchange = showDetection;
  showDetection();
  byId("talk").onclick = () => {
    listDevices();
    view.error("");
    byId("call").showModal();
  };
  byId("call-start").onclick = () => {
    if (!CHOICES.every((id) => byId(id).reportValidity())) return;
    player.prepare(); // browsers allow sound from nothing but a click
    levels = [];
    lines.clear();
    byId("call-lines").replaceChildren();
    byId("call-latency").textContent = "";
    view.error("");
    call = new Call(player, asked(), view);
    if (byId("call-camera").ariaPressed === "true") call.see(camera);
    showBusy(true);
    call.start().then(listDevices); // names are told once the microphone is allowed
  };
  byId("call-end").onclick = () => call?.end();
  byId("call").onclose = () => {
    call?.end();
    look(false);
  };
  byId("call-camera").onclick = () => look(byId("call-camera").ariaPressed !== "true");
  byId("call-camera-device").onchange = byId("call-camera-rate").onchange = () => byId("call-camera").ariaPressed === "true" && look(true);
  byId("call-mute").onclick = () => {
    const muted = byId("call-mute").ariaPressed !== "true";
    byId("call-mute").ariaPressed = String(muted);
    call?.mute(muted);
  };
  const push = byId("call-push");
  let pressed = false;
  push.onpointerdown = push.onkeydown = (/** @type {any} */ event) => {
    if (pressed || (event.key !== undefined && event.key !== " ")) return;
    pressed = true;
    call?.press();
  };
  push.onpointerup = push.onpointerleave = push.onkeyup = (/** @type {any} */ event) => {
    if (!pressed || (event.key !== undefined && event.key !== " ")) return;
    pressed = false;
    call?.release();
  };
  byId("call-code").onclick = () =>
    showCode((language, server) => callCodeFor(language, settings().model, sessionOf(asked()), server));
  showBusy(false);
}
