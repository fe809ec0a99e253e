// @openai/agents in the conversation of dialogue.py: the SDK runs the tool, breaks off what it plays, keeps the history.

import { tool } from "@openai/agents";
import { RealtimeAgent, RealtimeSession } from "@openai/agents/realtime";
import { z } from "zod";
import { baseUrl, fail, finish, heardMs, print, results, spoken } from "./line.mjs";

const asked = [];
const weather = tool({
  name: "weather",
  description: "Says what the weather is in a town.",
  parameters: z.object({ town: z.string() }),
  execute: ({ town }) => {
    asked.push(town);
    return results[asked.length - 1];
  },
});
const session = new RealtimeSession(new RealtimeAgent({ name: "forecaster", instructions: "Be brief.", tools: [weather] }), {
  transport: "websocket",
  config: {
    toolChoice: "required",
    audio: {
      input: {
        transcription: { model: "gpt-4o-mini-transcribe" },
        turnDetection: { type: "semantic_vad", interruptResponse: true },
      },
      output: { voice: "echo" },
    },
  },
});

let answers = 0;
let interruptions = 0;
let broken = false;

function speak() {
  for (const piece of spoken()) session.sendAudio(new Uint8Array(piece).buffer);
}

session.on("error", ({ error }) => fail(error));
session.on("audio_interrupted", () => (interruptions += 1));
session.on("audio", () => {
  if (!broken) setTimeout(speak, heardMs);
  broken = true;
});
session.transport.on("*", (event) => {
  if (!event.event_id?.startsWith("event_")) return; // of the SDK's own making
  print(event);
  answers += event.type === "response.done";
  if (answers < 4 || event.type !== "response.done") return;
  const history = session.history.map(({ type, role, status }) => [type, role ?? null, status ?? null]);
  session.close();
  finish({ asked, interruptions, history });
});

const url = `${baseUrl.replace("http", "ws")}/realtime?model=gpt-realtime`;
await session.connect({ apiKey: "sk-x", url });
speak();
