// openai-node in the conversation of dialogue.py. The SDK turns every base URL into wss:, so the server must speak TLS.

import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { baseUrl, fail, finish, heardMs, print, results, session, spoken } from "./line.mjs";

const BYTES_PER_MS = 48;
const client = new OpenAI({ baseURL: baseUrl, apiKey: "sk-x", maxRetries: 0 });
const call = new OpenAIRealtimeWS({ model: "gpt-realtime" }, client);

let playing = null; // the item under way: its id, how much of it came, since when
let answers = 0;
let broken = false;

function speak() {
  for (const piece of spoken()) call.send({ type: "input_audio_buffer.append", audio: piece.toString("base64") });
}

call.on("error", fail);
call.on("event", print);
call.on("session.created", () => call.send({ type: "session.update", session }));
call.on("session.updated", speak);
call.on("response.output_audio.delta", (event) => {
  playing ??= { id: event.item_id, bytes: 0, since: performance.now() };
  playing.bytes += Buffer.from(event.delta, "base64").length;
  if (!broken) setTimeout(speak, heardMs);
  broken = true;
});
call.on("input_audio_buffer.speech_started", () => {
  if (!playing) return;
  const heard = Math.min(performance.now() - playing.since, playing.bytes / BYTES_PER_MS);
  const where = { item_id: playing.id, content_index: 0, audio_end_ms: Math.floor(heard) };
  call.send({ type: "conversation.item.truncate", ...where });
});
call.on("response.function_call_arguments.done", (event) => {
  call.send({
    type: "conversation.item.create",
    item: { type: "function_call_output", call_id: event.call_id, output: results.shift() },
  });
});
call.on("response.done", (event) => {
  playing = null;
  answers += 1;
  if (event.response.output[0]?.type === "function_call") call.send({ type: "response.create" });
  if (answers < 4) return;
  call.close();
  finish({ url: call.url.toString() });
});
