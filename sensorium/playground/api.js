// @ts-check
/** The HTTP API of this origin: the model list and streamed chat completions. */

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
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
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
 * The chunks of a streamed answer, until its end. Leaving the loop or aborting closes the connection, which makes
 * the server stop.
 * @param {object} body @param {string} key @param {AbortSignal} signal
 */
export async function* streamChat(body, key, signal) {
  const response = await request("/v1/chat/completions", key, { method: "POST", body: JSON.stringify(body), signal });
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const parser = new SseParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new ApiError({ message: "The connection closed before the answer was complete." }, null);
      for (const data of parser.push(value)) {
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(chunk.error, response.status);
        yield chunk;
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // already closed or aborted: nothing is left to stop
  }
}
