// @ts-check
/** Requests for pictures, speech and transcripts, each written as a program that makes it. */

import { Code, curl, JAVASCRIPT, literal, PYTHON } from "./code.js";

/** @typedef {"python" | "javascript" | "curl"} Language */
/** @typedef {{base: string, hasKey: boolean}} Server  a key is read from OPENAI_API_KEY, never written out */

/** @param {string[]} imports @param {Server} server */
function pythonHead(imports, { base, hasKey }) {
  const lines = imports.map((line) => `${line}\n`).join("");
  return `${lines}${lines && "\n"}from openai import OpenAI

client = OpenAI(base_url="${base}"${hasKey ? "" : ', api_key="none"'})

`;
}

/** @param {string[]} files  functions of node:fs @param {Server} server */
function javascriptHead(files, { base, hasKey }) {
  return `import { ${files.join(", ")} } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base}"${hasKey ? "" : ', apiKey: "none"'} });

`;
}

/** @param {Record<string, any>} fields */
function pythonArguments(fields) {
  return Object.entries(fields).map(([key, value]) => `    ${key}=${literal(value, PYTHON, "    ")},\n`).join("");
}

/**
 * A form for curl. Texts are given so that nothing in them means anything to curl or to the shell.
 * @param {string} path @param {[string, string][]} texts @param {[string, string][]} files @param {Server} server
 */
function curlForm(path, texts, files, { base, hasKey }) {
  const quoted = (/** @type {string} */ text) => `'${text.replaceAll("'", "'\\''")}'`;
  return [
    `curl -N ${base}${path}`,
    ...(hasKey ? ['-H "Authorization: Bearer $OPENAI_API_KEY"'] : []),
    ...texts.map(([name, text]) => `--form-string ${quoted(`${name}=${text}`)}`),
    ...files.map(([name, file]) => `-F ${name}=@${file}`),
  ].join(" \\\n  ") + "\n";
}

/** What to do with what comes back, in Python. @param {boolean} streams */
const pythonPictures = (streams) =>
  streams
    ? `for event in stream:  # the picture as far as it is; the last one is whole
    print(event.type)
    Path("drawn.png").write_bytes(base64.b64decode(event.b64_json))
`
    : `for number, drawn in enumerate(reply.data):
    Path(f"drawn{number + 1}.png").write_bytes(base64.b64decode(drawn.b64_json))
`;

/** @param {boolean} streams */
const javascriptPictures = (streams) =>
  streams
    ? `for await (const event of stream) { // the picture as far as it is; the last one is whole
    console.log(event.type);
    writeFileSync("drawn.png", event.b64_json, "base64");
}
`
    : `reply.data.forEach((drawn, i) => writeFileSync(\`drawn\${i + 1}.png\`, drawn.b64_json, "base64"));
`;

/** POST /v1/images/generations. @param {Language} language @param {any} body @param {Server} server */
export function drawingCode(language, body, server) {
  const streams = Boolean(body.stream);
  const name = streams ? "stream" : "reply";
  if (language === "curl") return curl(body, server.base, server.hasKey, "/images/generations");
  if (language === "javascript") {
    return `${javascriptHead(["writeFileSync"], server)}const ${name} = await client.images.generate(${literal(body, JAVASCRIPT)});
${javascriptPictures(streams)}`;
  }
  return `${pythonHead(["import base64", "from pathlib import Path"], server)}${name} = client.images.generate(
${pythonArguments(body)})
${pythonPictures(streams)}`;
}

/** POST /v1/images/edits, streamed. @param {Language} language @param {any} fields @param {boolean} hasMask @param {Server} server */
export function editCode(language, fields, hasMask, server) {
  const files = ["image", ...(hasMask ? ["mask"] : [])];
  const file = (/** @type {string} */ name) => (name === "image" ? "picture.png" : "mask.png");
  if (language === "curl") {
    const texts = Object.entries(fields).map(([name, value]) => /** @type {[string, string]} */ ([name, String(value)]));
    return curlForm("/images/edits", texts, files.map((name) => [name, file(name)]), server);
  }
  const isPython = language === "python";
  const open = (/** @type {string} */ name) => new Code(isPython ? `Path("${file(name)}")` : `createReadStream("${file(name)}")`);
  const whole = { ...Object.fromEntries(files.map((name) => [name, open(name)])), ...fields };
  if (isPython) {
    return `${pythonHead(["import base64", "from pathlib import Path"], server)}stream = client.images.edit(
${pythonArguments(whole)})
${pythonPictures(true)}`;
  }
  return `${javascriptHead(["createReadStream", "writeFileSync"], server)}const stream = await client.images.edit(${literal(whole, JAVASCRIPT)});
${javascriptPictures(true)}`;
}

/** POST /v1/audio/speech, into a file. @param {Language} language @param {any} body @param {Server} server */
export function speechCode(language, body, server) {
  const file = `said.${body.response_format}`;
  if (language === "curl") return curl(body, server.base, server.hasKey, `/audio/speech -o ${file}`);
  if (language === "javascript") {
    return `${javascriptHead(["writeFileSync"], server)}const said = await client.audio.speech.create(${literal(body, JAVASCRIPT)});
writeFileSync("${file}", Buffer.from(await said.arrayBuffer()));
`;
  }
  return `${pythonHead([], server)}with client.audio.speech.with_streaming_response.create(
${pythonArguments(body)}) as said:
    said.stream_to_file("${file}")
`;
}

/**
 * POST /v1/audio/transcriptions: as it is heard, each stretch of speech with the times of its words.
 * @param {Language} language @param {{model: string, speakers: boolean, file: string}} asked @param {Server} server
 */
export function transcriptionCode(language, { model, speakers, file }, server) {
  const format = speakers ? "diarized_json" : "verbose_json";
  if (language === "curl") {
    const texts = [["model", model], ["response_format", format], ["stream", "true"], ["timestamp_granularities[]", "word"]];
    return curlForm("/audio/transcriptions", /** @type {[string, string][]} */ (texts), [["file", file]], server);
  }
  const isJavascript = language === "javascript";
  const source = new Code(isJavascript ? `createReadStream("${file}")` : `Path("${file}")`);
  const body = { model, file: source, response_format: format, stream: true, timestamp_granularities: ["word"] };
  if (isJavascript) {
    return `${javascriptHead(["createReadStream"], server)}const stream = await client.audio.transcriptions.create(${literal(body, JAVASCRIPT)});
for await (const event of stream) {
    if (event.type === "transcript.text.delta") process.stdout.write(event.delta);
    if (event.type !== "transcript.text.segment") continue;
    console.log(${speakers ? "` (${event.speaker})`" : ""});
    for (const word of event.words) console.log(word.start, word.end, word.word);
}
`;
  }
  return `${pythonHead(["from pathlib import Path"], server)}stream = client.audio.transcriptions.create(
${pythonArguments(body)})
for event in stream:
    if event.type == "transcript.text.delta":
        print(event.delta, end="", flush=True)
    elif event.type == "transcript.text.segment":
        print(${speakers ? 'f" ({event.speaker})"' : ""})
        for word in event.words:
            print("{start:6.2f} {end:6.2f} {word}".format(**word))
`;
}
