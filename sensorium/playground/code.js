// @ts-check
/** A request, written as a program that makes it: with the official clients, or with curl. */

/** Text that is code already, not a value to be quoted. */
export class Code {
  /** @param {string} text */
  constructor(text) {
    this.text = text;
  }
}

/**
 * The body with every inline file replaced by code that reads that file: `read(path)` gives its base64.
 * @param {any} value @param {(path: string, prefix: string) => Code} read @param {Record<string, number>} counts
 * @returns {any}
 */
function withFiles(value, read, counts = {}) {
  const name = (/** @type {string} */ stem, /** @type {string} */ suffix) => {
    counts[stem] = (counts[stem] ?? 0) + 1;
    return `${stem}${counts[stem] > 1 ? counts[stem] : ""}.${suffix}`;
  };
  if (Array.isArray(value)) return value.map((item) => withFiles(item, read, counts));
  if (value === null || typeof value !== "object") return value;
  if (value.type === "image_url") {
    return { ...value, image_url: { ...value.image_url, url: read(name("picture", "png"), "data:image/png;base64,") } };
  }
  if (value.type === "video_url") {
    const [prefix, type] = /^data:video\/(\w+)[^,]*,/.exec(value.video_url.url) ?? [];
    return { ...value, video_url: { ...value.video_url, url: read(name("film", type === "quicktime" ? "mov" : (type ?? "mp4")), prefix ?? "") } };
  }
  if (value.type === "input_audio") {
    const { format } = value.input_audio;
    return { ...value, input_audio: { data: read(name("clip", format), ""), format } };
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withFiles(item, read, counts)]));
}

/** @typedef {{true: string, false: string, null: string, key: (name: string) => string}} Dialect */

/** @type {Dialect} */
export const PYTHON = { true: "True", false: "False", null: "None", key: JSON.stringify };
/** @type {Dialect} */
export const JAVASCRIPT = { true: "true", false: "false", null: "null", key: (name) => (/^\w+$/.test(name) ? name : JSON.stringify(name)) };

/** A value as source text. @param {any} value @param {Dialect} dialect @returns {string} */
export function literal(value, dialect, indent = "") {
  if (value instanceof Code) return value.text;
  if (typeof value === "boolean" || value === null) return dialect[/** @type {"true" | "false" | "null"} */ (String(value))];
  if (typeof value !== "object") return JSON.stringify(value);
  const deeper = `${indent}    `;
  const items = Array.isArray(value)
    ? value.map((item) => literal(item, dialect, deeper))
    : Object.entries(value).map(([key, item]) => `${dialect.key(key)}: ${literal(item, dialect, deeper)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const line = open + items.join(", ") + close;
  if (indent.length + line.length < 88 && !line.includes("\n")) return line;
  return `${open}\n${items.map((item) => `${deeper}${item},\n`).join("")}${indent}${close}`;
}

/** @param {any} body @param {string} base @param {boolean} hasKey */
function python(body, base, hasKey) {
  const full = withFiles(body, (path, prefix) => new Code(prefix ? `"${prefix}" + base64_of("${path}")` : `base64_of("${path}")`));
  const request = Object.entries(full).map(([key, value]) => `    ${key}=${literal(value, PYTHON, "    ")},\n`).join("");
  const readsFiles = request.includes("base64_of(");
  const speaks = Boolean(body.audio);
  const imports = [(readsFiles || speaks) && "import base64", speaks && "import wave", readsFiles && "from pathlib import Path"];
  return `${imports.filter(Boolean).map((line) => `${line}\n`).join("")}${readsFiles || speaks ? "\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${base}"${hasKey ? "" : ', api_key="none"'})
${readsFiles ? `

def base64_of(path: str) -> str:
    return base64.b64encode(Path(path).read_bytes()).decode()


` : "\n"}stream = client.chat.completions.create(
${request})
${speaks ? `sound = b""
for chunk in stream:
    for choice in chunk.choices:
        audio = choice.delta.model_dump().get("audio") or {}
        print(audio.get("transcript") or "", end="", flush=True)
        sound += base64.b64decode(audio.get("data") or "")

with wave.open("answer.wav", "wb") as file:
    file.setparams((1, 2, 24_000, 0, "NONE", "NONE"))
    file.writeframes(sound)
` : `for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
`}`;
}

/** @param {any} body @param {string} base @param {boolean} hasKey */
function javascript(body, base, hasKey) {
  const full = withFiles(body, (path, prefix) =>
    new Code(prefix ? `"${prefix}" + readFileSync("${path}", "base64")` : `readFileSync("${path}", "base64")`));
  const request = literal(full, JAVASCRIPT);
  const speaks = Boolean(body.audio);
  const files = [request.includes("readFileSync(") && "readFileSync", speaks && "writeFileSync"].filter(Boolean);
  return `${files.length ? `import { ${files.join(", ")} } from "node:fs";\n` : ""}import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base}"${hasKey ? "" : ', apiKey: "none"'} });

const stream = await client.chat.completions.create(${request});
${speaks ? `const sound = [];
for await (const chunk of stream) {
    const audio = chunk.choices[0]?.delta.audio;
    process.stdout.write(audio?.transcript ?? "");
    if (audio?.data) sound.push(Buffer.from(audio.data, "base64"));
}
writeFileSync("answer.pcm", Buffer.concat(sound)); // 16-bit, 24 kHz, mono
` : `for await (const chunk of stream) {
    process.stdout.write(chunk.choices[0]?.delta.content ?? "");
}
`}`;
}

/** @param {any} body @param {string} base @param {boolean} hasKey @param {string} path  with more options of curl behind it */
export function curl(body, base, hasKey, path = "/chat/completions") {
  // The shell expands $(base64 ...) in the document, so what JSON holds of $, ` and \ is escaped; the marks are put in last.
  /** @type {string[]} */
  const reads = [];
  const full = withFiles(body, (path, prefix) => {
    reads.push(`${prefix}$(base64 -w0 ${path})`);
    return new Code(`"\u0000${reads.length - 1}\u0000"`);
  });
  const json = literal(full, { ...JAVASCRIPT, key: JSON.stringify }).replaceAll(/,(\n\s*[\]}])/g, "$1");
  const text = reads.length ? json.replaceAll(/[$`\\]/g, "\\$&").replaceAll(/\0(\d+)\0/g, (_, i) => reads[i]) : json;
  return `curl -N ${base}${path} \\
  -H "Content-Type: application/json" \\
${hasKey ? '  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n' : ""}  --data-binary @- <<${reads.length ? "END" : "'END'"}
${text}
END
`;
}

const WRITERS = { python, javascript, curl };

/**
 * @param {keyof typeof WRITERS} language
 * @param {object} body of POST /v1/chat/completions
 * @param {{base: string, hasKey: boolean}} server  a key is read from OPENAI_API_KEY, never written out
 */
export function codeFor(language, body, { base, hasKey }) {
  return WRITERS[language](body, base, hasKey);
}

/** @param {string} model @param {any} session @param {string} base @param {boolean} hasKey */
function pythonCall(model, session, base, hasKey) {
  return `import asyncio
import base64
import wave

from openai import AsyncOpenAI

SESSION = ${literal(session, PYTHON)}


async def main() -> None:
    client = AsyncOpenAI(base_url="${base}"${hasKey ? "" : ', api_key="none"'}, websocket_base_url="${base.replace("http", "ws")}")
    async with client.realtime.connect(model="${model}") as call:
        await call.session.update(session=SESSION)
        with wave.open("question.wav", "rb") as file:  # 16-bit, 24 kHz, mono: as from a microphone
            sound = file.readframes(file.getnframes())
        await call.input_audio_buffer.append(audio=base64.b64encode(sound + bytes(96_000)).decode())  # and silence
${session.audio.input.turn_detection ? "" : `        await call.input_audio_buffer.commit()
        await call.response.create()
`}        answer = b""
        async for event in call:
            if event.type == "response.output_audio_transcript.delta":
                print(event.delta, end="", flush=True)
            elif event.type == "response.output_audio.delta":
                answer += base64.b64decode(event.delta)
            elif event.type == "response.done":
                break
    with wave.open("answer.wav", "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", "NONE"))
        file.writeframes(answer)


asyncio.run(main())
`;
}

/** @param {string} model @param {any} session @param {string} base @param {boolean} hasKey */
function javascriptCall(model, session, base, hasKey) {
  return `import { readFileSync, writeFileSync } from "node:fs";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const client = new OpenAI({ baseURL: "${base}"${hasKey ? "" : ', apiKey: "none"'} });
const call = new OpenAIRealtimeWS({ model: "${model}" }, client);
const answer = [];

call.socket.on("open", () => {
    call.send({ type: "session.update", session: ${literal(session, JAVASCRIPT, "    ")} });
    const sound = readFileSync("question.wav").subarray(44); // 16-bit, 24 kHz, mono: as from a microphone
    const heard = Buffer.concat([sound, Buffer.alloc(96_000)]); // and silence
    call.send({ type: "input_audio_buffer.append", audio: heard.toString("base64") });
${session.audio.input.turn_detection ? "" : `    call.send({ type: "input_audio_buffer.commit" });
    call.send({ type: "response.create" });
`}});
call.on("response.output_audio_transcript.delta", (event) => process.stdout.write(event.delta));
call.on("response.output_audio.delta", (event) => answer.push(Buffer.from(event.delta, "base64")));
call.on("response.done", () => {
    writeFileSync("answer.pcm", Buffer.concat(answer)); // 16-bit, 24 kHz, mono
    call.close();
});
`;
}

/**
 * A call with this session. There is none in curl: Python is shown instead.
 * @param {string} language @param {string} model @param {any} session
 * @param {{base: string, hasKey: boolean}} server
 */
export function callCodeFor(language, model, session, { base, hasKey }) {
  return (language === "javascript" ? javascriptCall : pythonCall)(model, session, base, hasKey);
}
