"""Reading aloud and writing down over HTTP, and the error of word times.

    python -m bench.speech [--checkpoint DIR] [--requests 20] [--minutes 1] [--clips 60]
    python -m bench.speech --requests 0 --clips 0 --minutes 60      only a file of an hour

Starts `sensorium serve` in a process of its own. first_sound_ms counts from the request's last byte to the first byte
of PCM; a real-time factor is the time that was needed by the time that the sound plays. The file to write down is in
all voices, sent as Opus and answered as a stream; the server's resident memory is looked at once a second (and told on
stderr for every five minutes heard), and the words of its first and last minutes are compared with what was said. Word
times are of generated speech, whose words' times are exact, for words that were heard right; held-out sentences, known
voices. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import http.client
import io
import json
import re
import sys
import threading
import time
from contextlib import closing
from fractions import Fraction
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import av
import httpx2
import numpy as np
from av.audio.stream import AudioStream

from bench.json_line import json_line
from bench.latency import SHIPPED, percentiles, serving
from sensorium.data.generators.dialogues import sentence
from sensorium.data.generators.documents import document
from sensorium.data.generators.speech import PRESETS, Synthesizer
from sensorium.engine.engine import OmniEngine
from sensorium.engine.request import InputTranscriptDelta, SamplingParams
from sensorium.messages import Audio
from sensorium.safety.watermark import RATE_HZ
from sensorium.server.segments import Segment
from sensorium.server.transcript import line_of

_SENTENCES = 80  # that are said over and over in a long file: ten by each voice
_BITS_PER_S = 24_000  # as speech is usually sent: 10 MiB an hour
_COMPARED = 300  # words at the beginning and at the end of it
_TOLD_EVERY_S = 300.0  # of sound

TEXTS = (
    "turn on the lamp in the kitchen",
    "what is the capital of france",
    "Set a timer for 20 minutes. Then tell me what time it is.",
)


def read_aloud(address: str, num_requests: int) -> dict[str, float]:
    firsts_ms, factors = [], []
    with closing(http.client.HTTPConnection(address, timeout=120)) as connection:
        for number in range(num_requests + 2):
            body = {"model": "tts-1", "voice": "alloy", "input": TEXTS[number % 3], "response_format": "pcm"}
            connection.request("POST", "/v1/audio/speech", json.dumps(body), {"content-type": "application/json"})
            start_s = time.perf_counter()
            response = connection.getresponse()
            size = len(response.read(2))
            first_ms = 1000 * (time.perf_counter() - start_s)
            size += len(response.read())
            if number >= 2:  # the first ones are not counted
                firsts_ms.append(first_ms)
                factors.append((time.perf_counter() - start_s) / (size / 48_000))
    return {**percentiles("first_sound_ms", firsts_ms), "rtf": round(float(np.median(factors)), 3)}


def spoken(minutes: float) -> tuple[bytes, list[str]]:
    """An Opus file of sentences with half a second between them, over and over, and the words that are said in it."""
    rng, synthesizer = np.random.default_rng(5), Synthesizer()
    texts = [sentence(rng, "heldout") for _ in range(_SENTENCES)]
    said = [
        synthesizer.speak(text, PRESETS[tuple(PRESETS)[number % len(PRESETS)]]).audio
        for number, text in enumerate(texts)
    ]
    pause = np.zeros(RATE_HZ // 2, np.float32)
    blocks = [(32767 * np.concatenate((audio.waveform, pause))).astype("<i2")[None] for audio in said]
    words: list[str] = []
    num_samples, file = 0, io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=RATE_HZ, layout="mono", bit_rate=_BITS_PER_S)
        assert isinstance(stream, AudioStream)
        for number in count():
            if num_samples >= 60 * minutes * RATE_HZ:
                break
            frame = av.AudioFrame.from_ndarray(blocks[number % _SENTENCES], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, num_samples, Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
            num_samples += frame.samples
            words += texts[number % _SENTENCES].split()
        container.mux(stream.encode(None))
    return file.getvalue(), words


def write_down(address: str, *, minutes: float) -> dict[str, float]:
    _streamed(address, *spoken(0.2))  # with all that is loaded on first use
    before_mib = _memory_mib(address)
    return {"memory_before_mib": before_mib, **_streamed(address, *spoken(minutes))}


def _streamed(address: str, data: bytes, said: list[str]) -> dict[str, float]:
    form = {"model": "gpt-4o-transcribe", "stream": "true"}
    peaks_mib, is_over = [_memory_mib(address)], threading.Event()

    def watch() -> None:
        while not is_over.wait(1.0):
            peaks_mib.append(_memory_mib(address))

    watcher = threading.Thread(target=watch)
    watcher.start()
    at_s = [time.perf_counter()]
    events: list[dict[str, Any]] = []
    told_s = 0.0
    try:
        files = {"file": ("a.ogg", data)}
        url = f"http://{address}/v1/audio/transcriptions"
        with httpx2.stream("POST", url, data=form, files=files, timeout=1800) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    events.append(json.loads(line.removeprefix("data: ")))
                    at_s.append(time.perf_counter())
                    heard = events[-1].get("progress", {}).get("seconds", 0.0)
                    if heard >= told_s + _TOLD_EVERY_S:
                        told_s = heard
                        took_s = at_s[-1] - at_s[0]
                        print(f"{heard:.0f} s heard in {took_s:.0f} s, {peaks_mib[-1]:.0f} MiB", file=sys.stderr)
    finally:
        is_over.set()
        watcher.join()
    if events[-1]["type"] != "transcript.text.done":
        raise SystemExit(f"the transcription failed: {events[-1]}")
    heard = events[-1]["text"].split()
    heard_s = [event["progress"]["seconds"] for event in events]
    assert heard_s == sorted(heard_s)
    return {
        "file_mib": round(len(data) / 2**20, 1),
        "seconds": heard_s[-1],
        "rtf": round((at_s[-1] - at_s[0]) / heard_s[-1], 3),
        "memory_peak_mib": max(peaks_mib),
        "events": len(events),
        "first_event_s": round(at_s[1] - at_s[0], 2),
        "longest_gap_s": round(max(after - before for before, after in pairwise(at_s)), 2),
        "words_right_first": _share_right(said[:_COMPARED], heard[:_COMPARED]),
        "words_right_last": _share_right(said[-_COMPARED:], heard[-_COMPARED:]),
    }


def _share_right(said: list[str], heard: list[str]) -> float:
    matcher = difflib.SequenceMatcher(None, said, heard, autojunk=False)
    return round(sum(block.size for block in matcher.get_matching_blocks()) / len(said), 3)


def _memory_mib(address: str) -> float:
    """Resident, as the server tells it to whoever operates it."""
    text = httpx2.get(f"http://{address}/metrics", timeout=60).text
    found = re.search(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    return round(float(found[1]) / 2**20, 1) if found else float("nan")  # only Linux tells


async def word_times(engine: OmniEngine, num_clips: int) -> dict[str, float]:
    starts_ms, ends_ms, num_words = [], [], 0
    for seed in range(num_clips):
        parts = [
            part
            for message in document("transcribe", seed, split="heldout", speaker_split="train").messages
            for part in message.parts
            if isinstance(part, Audio)
        ]
        clip = parts[0]
        assert clip.transcript is not None
        said = [(clip.transcript[word.start_char : word.end_char], word) for word in clip.words]
        heard = [event async for event in engine.transcribe(clip.waveform, SamplingParams())]
        deltas = [event for event in heard if isinstance(event, InputTranscriptDelta)]
        words = line_of(Segment(start_s=0.0, waveform=clip.waveform, speech=1.0), deltas).words
        matcher = difflib.SequenceMatcher(
            None, [word for word, _ in said], [word.word for word in words], autojunk=False
        )
        for block in matcher.get_matching_blocks():
            for at in range(block.size):
                truth, found = said[block.a + at][1], words[block.b + at]
                starts_ms.append(abs(1000 * found.start_s - truth.start_ms))
                ends_ms.append(abs(1000 * found.end_s - truth.end_ms))
        num_words += len(said)
    return {
        "words": num_words,
        "matched": len(ends_ms),
        "start_error_ms": round(float(np.median(starts_ms)), 1),
        "end_error_ms": round(float(np.median(ends_ms)), 1),
        "start_error_ms_p90": round(float(np.percentile(starts_ms, 90)), 1),
        "end_error_ms_p90": round(float(np.percentile(ends_ms, 90)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=1.0, help="of the file that is written down")
    parser.add_argument("--clips", type=int, default=60, help="whose words' times are compared")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with serving(options.checkpoint, threads=1) as address:
        if options.requests:
            results["speech"] = read_aloud(address, options.requests)
        if options.minutes:
            results["transcription"] = write_down(address, minutes=options.minutes)
    if options.clips:
        results["word_times"] = asyncio.run(word_times(OmniEngine.load(options.checkpoint), options.clips))
    for name, figures in results.items():
        print(f"{name}: " + ", ".join(f"{figure} {value}" for figure, value in figures.items()))
    print(json_line({"bench": "speech", "model": str(options.checkpoint), **results}))


if __name__ == "__main__":
    main()
