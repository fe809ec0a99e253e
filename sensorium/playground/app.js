// @ts-check
/** Wires the page: what is asked, what is sent, what comes back. */

import { ApiError, streamChat } from "./api.js";
import { wireCall } from "./call-view.js";
import { codeFor } from "./code.js";
import { Composer } from "./composer.js";
import { byId, choice, el, icon } from "./dom.js";
import { apiKey, showCode, wirePage } from "./page.js";
import { pngUrl } from "./picture.js";
import { Player } from "./player.js";
import { ReplyView, userTurn } from "./view.js";
import { PcmDecoder } from "./wav.js";

const VOICES = ["alloy", "echo", "sage", "coral", "ash", "ballad", "shimmer", "verse"];
// The tools and questions that follow are such as the released network has learnt.
const SAMPLE_TOOLS = [
  tool("set_device", "switch a device on or off", { device: "string", room: "string", state: "string" }),
  tool("set_timer", "start a timer", { seconds: "integer" }),
];
/** @type {{label: string, prompt: string, icon?: string, picture?: string, options?: AskOptions}[]} */
const EXAMPLES = [
  { label: "Say what three plus four is", prompt: "what is three plus four", icon: "play", options: { aloud: true } },
  { label: "Turn on the kitchen lights", prompt: "turn on the kitchen lights", icon: "tool", options: { offersTools: true } },
  { label: "Draw a red circle", prompt: "draw a red circle", icon: "edit" },
  { label: "Draw a guitar emoji", prompt: "draw a guitar emoji", icon: "edit" },
  { label: "What is in the picture?", prompt: "what is in the picture", picture: samplePicture() },
];
const PINNED_PX = 80; // a reader this close to the end wants to see what comes

/** @typedef {import("./composer.js").Attachment} Attachment */
/** @typedef {{aloud?: boolean, offersTools?: boolean}} AskOptions  what is not said is as chosen on the page */
/**
 * What has come back so far, and how long after the request its firsts came.
 * @typedef {{text: string, calls: any[], pictures: any[], textMs?: number, soundMs?: number, pictureMs?: number,
 *   usage?: any, finish?: string}} Reply
 */
/**
 * One exchange. `messages` are what later requests carry of it: nothing, if it failed.
 * @typedef {{text: string, attachments: Attachment[], body: any, messages: any[],
 *   results?: () => string[], elements: Element[]}} Turn
 */

const player = new Player((error) => notify(error.message));
const composer = new Composer(player, notify, submit);
/** @type {Turn[]} */
let turns = [];
/** @type {AbortController | null} */
let answering = null;

/** @param {string} message  empty: nothing to say */
function notify(message) {
  byId("notice").textContent = message;
  byId("notice").hidden = !message;
}

// What is sent

/** @param {string} name @param {string} description @param {Record<string, string>} types of its arguments */
function tool(name, description, types) {
  const properties = Object.fromEntries(Object.entries(types).map(([key, type]) => [key, { type }]));
  const parameters = { type: "object", properties, required: Object.keys(types) };
  return { type: "function", function: { name, description, parameters } };
}

/** What earlier turns leave in the request. */
function history() {
  return byId("remember").checked ? turns.flatMap((turn) => [...turn.messages, ...toolMessages(turn)]) : [];
}

/** A tool call must be answered: its card's field is, whether sent or not. @param {Turn} turn */
function toolMessages({ messages, results }) {
  const contents = results?.() ?? [];
  return contents.map((content, i) => ({ role: "tool", tool_call_id: messages.at(-1).tool_calls[i].id, content }));
}

/** @param {string} text @param {Attachment[]} attachments */
function userMessage(text, attachments) {
  if (!attachments.length) return { role: "user", content: text };
  const media = attachments.map((item) => {
    if (item.kind === "image") return { type: "image_url", image_url: { url: item.url } };
    if (item.kind === "film") return { type: "video_url", video_url: { url: item.url } };
    return { type: "input_audio", input_audio: { data: item.base64, format: item.format } };
  });
  return { role: "user", content: [...media, ...(text ? [{ type: "text", text }] : [])] };
}

/**
 * The body of a request, or null (and a notice) when the tools are not JSON.
 * @param {object[]} messages @param {AskOptions} options
 */
function requestBody(messages, { aloud = choice("mode") === "voice", offersTools = byId("offer-tools").checked } = {}) {
  const system = byId("system").value.trim();
  let tools = null;
  try {
    tools = offersTools && JSON.parse(byId("tools").value);
  } catch {
    notify("The tools in the settings are not valid JSON.");
    return null;
  }
  return {
    model: byId("model").value,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...messages],
    ...(aloud && { modalities: ["text", "audio"], audio: { voice: byId("voice").value, format: "pcm16" } }),
    ...(tools && { tools }),
    stream: true,
    stream_options: { include_usage: true },
  };
}

/** @param {string} text @param {Attachment[]} attachments @param {AskOptions} options */
function send(text, attachments, options = {}) {
  const message = userMessage(text, attachments);
  const body = requestBody([...history(), message], options);
  if (body) start({ text, attachments, body, messages: [message], elements: [userTurn(text, attachments, player)] });
}

/** Goes on from what the tools have answered. @param {Turn} turn whose reply called them */
function goOn(turn) {
  const messages = [...turn.body.messages, turn.messages.at(-1), ...toolMessages(turn)];
  start({ text: "", attachments: [], body: { ...turn.body, messages }, messages: [], elements: [] });
}

/** @param {Turn} turn */
function start(turn) {
  answering?.abort();
  player.stop();
  notify("");
  if (turn.body.audio) player.prepare(); // within the click: browsers allow sound from nothing else
  const view = new ReplyView(player, turn.text || "your request");
  turn.elements.push(view.root);
  turns.push(turn);
  byId("turns").append(...turn.elements);
  byId("welcome").hidden = true;
  view.root.scrollIntoView({ block: "end" });
  receive(turn, view);
}

function submit() {
  const { text, attachments } = composer.peek();
  if (answering || (!text && !attachments.length)) return;
  composer.clear();
  send(text, attachments);
}

// What comes back

/** Reads one answer to its end. @param {Turn} turn @param {ReplyView} view */
async function receive(turn, view) {
  const abort = (answering = new AbortController());
  showBusy(true);
  const started = performance.now();
  const pcm = new PcmDecoder();
  /** @type {Reply} */
  const reply = { text: "", calls: [], pictures: [] };
  let error = null;
  try {
    for await (const chunk of streamChat(turn.body, apiKey(), abort.signal)) {
      const elapsed = performance.now() - started;
      const [first] = chunk.choices; // none in the chunk that carries the usage
      const delta = first?.delta ?? {};
      reply.usage = chunk.usage ?? reply.usage;
      reply.finish = first?.finish_reason ?? reply.finish;
      const text = (delta.content ?? "") + (delta.refusal ?? "") + (delta.audio?.transcript ?? "");
      if (text) {
        reply.textMs ??= elapsed;
        reply.text += text;
        view.text(text);
      }
      if (delta.audio?.data) {
        reply.soundMs ??= elapsed;
        view.sound(pcm.decode(delta.audio.data));
      }
      for (const { image_url, final = true } of delta.images ?? []) {
        reply.pictureMs ??= elapsed;
        view.picture(image_url.url, final);
        if (final) reply.pictures.push({ type: "image_url", image_url });
      }
      for (const part of delta.tool_calls ?? []) {
        const call = (reply.calls[part.index] ??= { id: part.id, type: "function", function: { name: "", arguments: "" } });
        call.function.name += part.function?.name ?? "";
        call.function.arguments += part.function?.arguments ?? "";
      }
    }
  } catch (reason) {
    if (!abort.signal.aborted) error = reason;
  }
  const stopped = abort.signal.aborted;
  if (answering === abort) {
    answering = null; // else another has begun, or all was cleared
    showBusy(false);
    if (stopped) player.stop();
  }
  if (turns.includes(turn)) finish(turn, view, reply, { error, stopped, totalMs: performance.now() - started });
}

/**
 * @param {Turn} turn @param {ReplyView} view @param {Reply} reply
 * @param {{error: any, stopped: boolean, totalMs: number}} end
 */
function finish(turn, view, reply, { error, stopped, totalMs }) {
  const calls = stopped ? [] : reply.calls; // the arguments of a stopped call may be cut
  if (error) {
    turn.messages = [];
    view.error(error instanceof ApiError ? error : { message: `Something went wrong on this page: ${error.message}` }, () => edit(turn));
  } else {
    const extras = { ...(calls.length && { tool_calls: calls }), ...(reply.pictures.length && { images: reply.pictures }) };
    turn.messages = [...turn.messages, { role: "assistant", content: reply.text, ...extras }];
    if (calls.length) turn.results = view.toolCalls(calls, () => goOn(turn));
  }
  const cut = { length: "cut at the token limit", content_filter: "cut by the content filter" }[String(reply.finish)];
  view.close(
    { ...reply, totalMs, note: stopped ? "stopped" : cut },
    { copy: reply.text && (() => navigator.clipboard.writeText(reply.text)), code: () => showRequest(turn.body) },
  );
  byId("status").textContent = error ? "" : reply.text || "The answer is complete."; // an error card announces itself
}

/** Shows which of Send and Stop there is. A control that is gone hands the focus on. @param {boolean} now */
function showBusy(now) {
  const focused = document.activeElement; // hiding it takes the focus away
  byId("send").hidden = now;
  byId("stop").hidden = !now;
  if (now) byId("status").textContent = "Answering";
  // what began an answer may be gone by now; at its end only Stop goes, and a reader's selection must stay
  if (focused?.matches(now ? "body, :disabled, [hidden], [hidden] *" : "[hidden]")) byId(now ? "stop" : "prompt").focus();
}

/** Takes a turn back into the composer. @param {Turn} turn */
function edit(turn) {
  turns = turns.filter((other) => other !== turn);
  turn.elements.forEach((element) => element.remove());
  composer.restore(turn.text, turn.attachments);
}

function clear() {
  answering?.abort();
  answering = null;
  showBusy(false);
  player.stop();
  turns = [];
  byId("turns").replaceChildren();
  byId("welcome").hidden = false;
  notify("");
  byId("prompt").focus();
}

// The page

/** @param {object} body */
function showRequest(body) {
  showCode((language, server) => codeFor(language, body, server));
}

function samplePicture() {
  return pngUrl(128, 128, (pen) => {
    pen.fillStyle = "rgb(218 36 38)";
    pen.arc(34, 64, 23, 0, 2 * Math.PI);
    pen.fill();
    pen.fillStyle = "rgb(36 82 222)";
    pen.fillRect(76, 45, 38, 38);
  });
}

/** @param {typeof EXAMPLES[number]} example */
function chip({ label, prompt, icon: name, picture, options }) {
  const mark = picture ? el("img", { src: picture, alt: "" }) : icon(name ?? "");
  const attachments = picture ? [/** @type {const} */ ({ kind: "image", url: picture, name: "a circle and a square" })] : [];
  return el("li", {}, el("button", { type: "button", className: "chip", onclick: () => send(prompt, attachments, options) }, mark, label));
}

/** Keeps the newest words in sight, unless the reader has scrolled away from them. */
function followTheEnd() {
  const main = byId("main");
  let pinned = true;
  let top = 0;
  main.onscroll = () => {
    const isNear = main.scrollHeight - main.scrollTop - main.clientHeight < PINNED_PX;
    pinned = isNear || (pinned && main.scrollTop >= top); // growth alone, without a scroll up, does not unpin
    top = main.scrollTop;
  };
  const observer = new ResizeObserver(() => pinned && main.scrollTo(0, main.scrollHeight));
  observer.observe(byId("turns"));
  observer.observe(main); // the composer takes room from it
}

function wire() {
  byId("voice").replaceChildren(...VOICES.map((voice) => el("option", { value: voice }, voice)));
  byId("tools").value = JSON.stringify(SAMPLE_TOOLS, null, 2);
  byId("examples").append(...EXAMPLES.map(chip));
  const showVoices = () => (byId("voice").hidden = choice("mode") !== "voice");
  byId("modes").onchange = showVoices;
  showVoices(); // a reload may have kept the choice
  byId("stop").onclick = () => answering?.abort();
  byId("stop").onkeydown = (/** @type {KeyboardEvent} */ event) => event.repeat && event.preventDefault(); // held since Send
  byId("clear").onclick = clear;
  byId("show-code").onclick = () => {
    const { text, attachments } = composer.peek();
    const message = userMessage(text || (attachments.length ? "" : EXAMPLES[0].prompt), attachments);
    const body = requestBody([...history(), message]);
    if (body) showRequest(body);
  };
  document.onkeydown = ({ key }) => {
    if (key !== "Escape" || document.querySelector("dialog[open]")) return;
    if (composer.isRecording) composer.endRecording(false);
    else answering?.abort();
  };
  const settings = () => ({ model: byId("model").value, key: apiKey(), instructions: byId("system").value.trim() });
  wireCall(player, settings, VOICES);
  followTheEnd();
}

wire();
wirePage(notify);
