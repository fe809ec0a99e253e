// openai-node on the Responses API over plain HTTP: `node responses.mjs BASE_URL` prints what came of it as JSON.

import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "sk-x", maxRetries: 0 });
const model = "gpt-4o";
const parameters = {
  type: "object",
  properties: { a: { type: "integer" }, b: { type: "integer" } },
  required: ["a", "b"],
  additionalProperties: false,
};
const tools = [{ type: "function", name: "add", description: "Adds two numbers.", parameters, strict: true }];
const Order = z.object({ drink: z.string(), count: z.number().int() });

const said = await client.responses.create({ model, input: "hi", store: true });
const kept = await client.responses.retrieve(said.id);

const events = [];
const stream = client.responses.stream({ model, input: "hi" });
for await (const event of stream) events.push(event.type);
const streamed = await stream.finalResponse();

const called = await client.responses.create({ model, input: 'call add {"a": 2, "b": 3}', tools });
const calls = called.output.filter((item) => item.type === "function_call");
const results = calls.map((call) => {
  const { a, b } = JSON.parse(call.arguments);
  return { type: "function_call_output", call_id: call.call_id, output: String(a + b) };
});
const after = await client.responses.create({ model, previous_response_id: called.id, input: results, tools });

const format = zodTextFormat(Order, "order");
const parsed = await client.responses.parse({ model, input: "an order", text: { format } });
const embedded = await client.embeddings.create({ model: "text-embedding-3-small", input: ["hi", "ho"] });
const chatted = await client.chat.completions.create({ model, messages: [{ role: "user", content: "hi" }] });

console.log(
  JSON.stringify({
    said: said.output_text,
    kept: kept.output_text,
    streamed: streamed.output_text,
    "first and last event": [events[0], events.at(-1)],
    calls: calls.map((call) => [call.name, JSON.parse(call.arguments)]),
    "after the tool": after.output_text,
    document: parsed.output_parsed,
    vectors: embedded.data.map((item) => item.embedding.length),
    chat: chatted.choices[0].message.content,
  }),
);
