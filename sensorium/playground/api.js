// @ts-check
/** The HTTP API of this origin: what is asked, as JSON or as a form, and what comes back, whole or as it is made. */

/** What went wrong, in the words of the API's error envelope. */
export class ApiError extends Error {
  /** @param {{message?: string, param?: string | null, code?: string | null}} error @param {number | null} status */
  constructor(error, status) {
    super(error.message || "the request failed");
    this.param = error.param ?? null;
    this.code = error.code ?? null;
    this.status = status;
  }
}

/** Server-sent events out of bytes cut anywhere: in a line, in a line end, in a character. */
export class SseParser {
  #decoder = new TextDecoder();
  #line = "";
  /** @type {string[]} */
  #data = [];

  /** The data of every event that these bytes complete. @param {Uint8Array} bytes */
  push(bytes) {
    const events = [];
    const lines = (this.#line + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#line = lines.pop() ?? "";
    for (const line of lines.map((line) => line.replace(/\r$/, ""))) {
      if (line.startsWith("data:")) {
        this.#data.push(line.slice(line[5] === " " ? 6 : 5));
      } else if (line === "" && this.#data.length) {
        events.push(this.#data.join("\n"));
        this.#data = [];
      }
    }
    return events;
  }
}

/** @param {string} path @param {string} key @param {RequestInit} init */
async function request(path, key, init = {}) {
  const isForm = init.body instanceof FormData; // the browser names a form's type, since it makes up the boundary
  const headers = { ...(!isForm && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError({ message: "The server cannot be reached." }, null);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new ApiError(body?.error ?? { message: `The server answered ${response.status} ${response.statusText}` }, response.status);
}

/** The ids of the models served. @param {string} key @returns {Promise<string[]>} */
export async function listModels(key) {
  const { data } = await (await request("/v1/models", key)).json();
  return data.map((/** @type {{id: string}} */ model) => model.id);
}

/**
 * What this server's model can do: its voices, the manners of speaking it knows, whether it tells speakers apart.
 * @param {string} id @param {string} key
 * @returns {Promise<{voices: string[], manners: string[], speakers: boolean}>}
 */
export async function modelAbilities(id, key) {
  const model = await (await request(`/v1/models/${encodeURIComponent(id)}`, key)).json();
  return model.sensorium;
}

/** An answer that comes whole. @param {string} path @param {object | FormData} body @param {string} key @param {AbortSignal} signal */
export function ask(path, body, key, signal) {
  return request(path, key, { method: "POST", body: body instanceof FormData ? body : JSON.stringify(body), signal });
}

/**
 * The events of a streamed answer as they come, as text. Leaving the loop or aborting closes the connection, which
 * makes the server stop.
 * @param {string} path @param {object | FormData} body @param {string} key @param {AbortSignal} signal
 */
async function* streamData(path, body, key, signal) {
  const response = await ask(path, body, key, signal);
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new ApiError({ message: "The connection closed before the answer was complete." }, null);
      yield* parser.push(value);
    }
  } finally {
    reader.cancel().catch(() => {}); // already closed or aborted: nothing is left to stop
  }
}

/** @param {string} data of an event @returns {any} */
function parsed(data) {
  const event = JSON.parse(data);
  if (event.error) throw new ApiError(event.error, 200);
  return event;
}

/** The chunks of a chat completion. @param {object} body @param {string} key @param {AbortSignal} signal */
export async function* streamChat(body, key, signal) {
  for await (const data of streamData("/v1/chat/completions", body, key, signal)) {
    if (data === "[DONE]") return;
    yield parsed(data);
  }
}

/**
 * The events of an answer whose last one says so by its type: `image_generation.completed`, `speech.audio.done`.
 * @param {string} path @param {object | FormData} body @param {string} key @param {AbortSignal} signal
 */
export async function* streamEvents(path, body, key, signal) {
  for await (const data of streamData(path, body, key, signal)) {
    const event = parsed(data);
    yield event;
    if (/\.(completed|done)$/.test(event.type)) return;
  }
}
