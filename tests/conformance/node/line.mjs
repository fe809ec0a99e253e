// What both clients share: the command line of a driver, the spoken question, and the report to the test.
//
//     node DRIVER.mjs BASE_URL QUESTION.pcm '{"session": {}, "results": [], "heard_ms": 0}'
//
// Every server event is printed as one line of JSON; the last line, of type "driver", holds what the client itself saw.

import { readFileSync } from "node:fs";

export const [baseUrl, questionFile] = process.argv.slice(2);
/** What the session is, what the tool says each time, and how much of that is heard before the user breaks in. */
export const { session, results, heard_ms: heardMs } = JSON.parse(process.argv[4]);
const PIECE_BYTES = 4800; // 100 ms of PCM at 24 kHz

/** The question and the silence that ends it, piece by piece. */
export function* spoken() {
  const sound = readFileSync(questionFile);
  for (let at = 0; at < sound.length; at += PIECE_BYTES) yield sound.subarray(at, at + PIECE_BYTES);
}

export function print(event) {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** Prints what the client saw, and ends the process once that has been written. */
export function finish(seen) {
  process.stdout.write(`${JSON.stringify({ type: "driver", ...seen })}\n`, () => process.exit(0));
}

export function fail(error) {
  process.stderr.write(`${error?.stack ?? JSON.stringify(error)}\n`, () => process.exit(1));
}

process.on("unhandledRejection", fail);
setTimeout(() => fail(new Error("the conversation took too long")), 40_000).unref();
