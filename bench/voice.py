"""Calls over the realtime socket by a scripted caller, several at once: how soon is it answered, when is it cut off.

    python -m bench.voice [--checkpoint DIR] [--calls 1 2 4 8] [--turns 8] [--detection semantic_vad ..] [--plot FILE]

The caller streams held-out questions in real time, 20 ms at a time, half of them with a pause in the middle, and knows
where each ends. Of every turn: whether it was cut before its end (a false cut-in) or never ended (a missed turn), and
if neither, `answer_ms` from the end of speech (or from the commit, where the caller says that it is done) to the first
sound; and whether a player would have run dry in its answer (an underrun). Every third answer is spoken into: `stop_ms`
runs from the first sound of the interruption to the last sound of the answer. `--plot` draws both delays by the number
of calls. The last line is JSON.

    python -m bench.voice --own DIR

asks with recordings instead: the folder's WAV files in the order of their names, and `marks.json`, which says of each
how many ms behind its beginning the speech ends: {"first.wav": 1840, "second.wav": 2310.5}. What a recording holds
behind its mark is sent as well, while the answer is waited for.

    python -m bench.voice --minutes 30 [--detection semantic_vad]

holds one long call of each kind instead, one after the other, and compares its last sixth with its first: answers'
delays, and the server's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import httpx2
import numpy as np
import soundfile
import soxr
from websockets.asyncio.client import ClientConnection, connect

from bench.json_line import json_line
from bench.latency import SHIPPED, percentiles, serving
from sensorium.data.generators.dialogues import SKILLS, exchange, pick
from sensorium.data.generators.speech import PRESETS, Synthesizer, with_pauses

RATE_HZ = 24_000
FRAME_MS = 20
DETECTIONS: dict[str, dict[str, Any] | None] = {
    "server_vad": {"type": "server_vad"},
    "semantic_vad": {"type": "semantic_vad"},
    "push_to_talk": None,
}
_PATIENCE_S = 10.0  # longer than any wait that the contract allows: then a turn counts as missed
_HISS = 1e-4  # of a quiet line: true zeros are not what a microphone gives
_SHARES = (50, 95, 99)  # percentiles of every delay
MARKS = "marks.json"


class Question(NamedTuple):
    waveform: np.ndarray  # (N,) at 24 kHz
    num_spoken: int  # samples up to the end of speech


@dataclass(kw_only=True)
class Turns:
    """What a caller has seen, over all its turns."""

    answer_ms: list[float] = field(default_factory=list)
    stop_ms: list[float] = field(default_factory=list)
    false_cut_ins: int = 0
    missed_turns: int = 0
    underruns: int = 0  # answers in which the player ran dry
    total: int = 0
    heard_out: int = 0  # answers that nobody spoke into

    def add(self, seen: Turns) -> None:
        self.answer_ms += seen.answer_ms
        self.stop_ms += seen.stop_ms
        for name in ("false_cut_ins", "missed_turns", "underruns", "total", "heard_out"):
            setattr(self, name, getattr(self, name) + getattr(seen, name))

    def figures(self) -> dict[str, float]:
        """Percentiles of the delays; of turns, and of answers that were heard out, the shares that went wrong."""
        delays = percentiles("answer_ms", self.answer_ms, _SHARES) | percentiles("stop_ms", self.stop_ms, _SHARES)
        shares = {
            "false_cut_ins": round(self.false_cut_ins / max(self.total, 1), 4),
            "missed_turns": round(self.missed_turns / max(self.total, 1), 4),
            "underruns": round(self.underruns / max(self.heard_out, 1), 4),
        }
        return {"turns": self.total, "interruptions": len(self.stop_ms), **delays, **shares}


def questions(seed: int, count: int) -> list[Question]:
    """Held-out ones that end with their last word; every second one has a pause."""
    rng, synthesizer = np.random.default_rng(seed), Synthesizer()
    made = []
    for index in range(count):
        words = exchange(rng, pick(rng, SKILLS), split="heldout").question
        utterance = synthesizer.speak(words, PRESETS[pick(rng, tuple(PRESETS))])
        if index % 2 and len(utterance.audio.words) > 2:
            utterance = with_pauses(utterance, rng, pauses=1)
        waveform = soxr.resample(utterance.audio.waveform, utterance.audio.sample_rate_hz, RATE_HZ)
        made.append(Question(waveform, len(waveform)))
    return made


def from_first_sound(spoken: np.ndarray) -> np.ndarray:
    """Without the silence before it: (N,) from where 10 ms are as loud as 3 % of the loudest."""
    loud = np.convolve(np.square(spoken), np.ones(RATE_HZ // 100), "same")
    return spoken[int(np.argmax(loud >= 0.03**2 * loud.max())) :]


def own_questions(folder: Path) -> list[Question]:
    """Recordings, and where speech ends in each. Raises ValueError naming the file that is wrong."""
    try:
        marks = json.loads((folder / MARKS).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / MARKS} must say where speech ends in each recording: {error}") from None
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        raise ValueError(f"{folder} holds no .wav files")
    return [_recorded(path, marks.get(path.name) if isinstance(marks, dict) else None) for path in paths]


def _recorded(path: Path, end_ms: Any) -> Question:
    try:
        waveform, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path} can't be read: {error}") from None
    length_ms = 1000 * len(waveform) / rate_hz
    if isinstance(end_ms, bool) or not isinstance(end_ms, int | float) or not 0 < end_ms <= length_ms:
        raise ValueError(f"{path.name} needs a mark in {MARKS}, in ms, within its {length_ms:.0f} ms: it has {end_ms}")
    sound = soxr.resample(waveform.mean(axis=1), rate_hz, RATE_HZ)
    return Question(sound, round(end_ms * RATE_HZ / 1000))


class Caller:
    """One call: a microphone that never stops, and ears."""

    def __init__(self, socket: ClientConnection, detection: dict[str, Any] | None, *, pace: float, seed: int) -> None:
        self.turns = Turns()
        self._socket = socket
        self._detection = detection
        self._pace = pace  # seconds of the clock to a second of sound
        self._rng = np.random.default_rng(seed)
        self._next_frame = self._begun_s = time.perf_counter()
        self._sent_ms = 0
        self._arrived: list[tuple[float, float]] = []  # when, and how many ms of the answer's sound
        self._sounding = asyncio.Event()
        self._done = asyncio.Event()
        self._settled = asyncio.Event()  # every turn has had its answer, or the one that was cut off
        self._num_expected = 0
        self._stopped_at_ms: list[int] = []

    async def run(self, questions: Sequence[Question], *, until_s: float | None = None) -> Turns:
        """Asks each of them; or, with `until_s` of the call, goes round until then."""
        audio = {"input": {"turn_detection": self._detection}}
        await self._say("session.update", session={"type": "realtime", "audio": audio})
        ears = asyncio.create_task(self._listen())
        try:
            for index, question in enumerate(questions if until_s is None else cycle(questions)):
                if until_s is not None and time.perf_counter() - self._begun_s > until_s:
                    break
                await self._turn(question, interrupt=index % 3 == 2)
        finally:
            ears.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ears
        return self.turns

    async def _turn(self, question: Question, *, interrupt: bool) -> None:
        await self._speak(np.zeros(RATE_HZ // 2))
        self._sounding.clear()
        self._done.clear()
        self._arrived.clear()
        self._stopped_at_ms.clear()
        spoken, rest = np.split(question.waveform, [question.num_spoken])
        await self._speak(spoken)
        ended, end_ms = time.perf_counter(), self._sent_ms
        if self._detection is None:
            self._expect_answer()
            await self._say("input_audio_buffer.commit")
            await self._say("response.create")
        else:
            await self._speak(rest)
        self.turns.total += 1
        if not await self._silent_until(self._sounding):
            self.turns.missed_turns += 1
            return
        early = any(at < end_ms - FRAME_MS for at in self._stopped_at_ms)
        self.turns.false_cut_ins += early
        if not early:
            self.turns.answer_ms.append(1000 * (self._arrived[0][0] - ended))
        interrupted = interrupt and not early and self._detection is not None and not self._done.is_set()
        if interrupted:
            begun = time.perf_counter()
            await self._speak(from_first_sound(spoken)[: RATE_HZ // 2])
            await self._silent_until(self._done)
            after = [at for at, _ in self._arrived if at > begun]
            self.turns.stop_ms.append(1000 * (max(after) - begun) if after else 0.0)
        # an interruption, and what follows a cut, are turns too: their answers must not be taken for the next one's
        await self._silent_until(self._settled)
        if not interrupted and not early:
            self.turns.heard_out += 1
            self.turns.underruns += self._ran_dry()

    def _expect_answer(self) -> None:
        self._num_expected += 1
        self._settled.clear()

    def _ran_dry(self) -> bool:
        """Whether a player that began with the first sound would have had nothing to play before the end."""
        first, played_ms = self._arrived[0][0], 0.0
        for at, length_ms in self._arrived:
            if 1000 * (at - first) > played_ms + 1.0:
                return True
            played_ms += length_ms
        return False

    async def _silent_until(self, event: asyncio.Event) -> bool:
        deadline = time.perf_counter() + _PATIENCE_S * max(self._pace, 1.0)  # a busy machine is no missed turn
        while not event.is_set() and time.perf_counter() < deadline:
            await self._speak(np.zeros(RATE_HZ * FRAME_MS // 1000))
        return event.is_set()

    async def _speak(self, waveform: np.ndarray) -> None:
        """In real time: a frame is sent when its last sample has sounded."""
        size = RATE_HZ * FRAME_MS // 1000
        for start in range(0, len(waveform), size):
            frame = np.zeros(size)
            frame[: len(waveform[start : start + size])] = waveform[start : start + size]
            frame += _HISS * self._rng.standard_normal(size)
            self._next_frame = max(self._next_frame + self._pace * FRAME_MS / 1000, time.perf_counter() - 0.1)
            await asyncio.sleep(max(0.0, self._next_frame - time.perf_counter()))
            data = (np.clip(frame, -1, 1) * 32767).astype("<i2").tobytes()
            await self._say("input_audio_buffer.append", audio=base64.b64encode(data).decode())
            self._sent_ms += FRAME_MS

    async def _say(self, type: str, **fields: Any) -> None:
        await self._socket.send(json.dumps({"type": type, **fields}))

    async def _listen(self) -> None:
        async for text in self._socket:
            event = json.loads(text)
            match event["type"]:
                case "response.output_audio.delta":
                    length_ms = 1000 * len(base64.b64decode(event["delta"])) / 2 / RATE_HZ
                    self._arrived.append((time.perf_counter(), length_ms))
                    self._sounding.set()
                case "response.done":
                    self._done.set()
                    self._num_expected -= 1
                    if self._num_expected == 0:
                        self._settled.set()
                case "input_audio_buffer.speech_started":
                    self._expect_answer()
                case "input_audio_buffer.speech_stopped":
                    self._stopped_at_ms.append(event["audio_end_ms"])
                case "error":
                    raise SystemExit(f"the server refused: {event['error']}")


async def measure(
    address: str, *, calls: int, turns: int, detection: str, pace: float = 1.0, own: Sequence[Question] = ()
) -> Turns:
    """`calls` at once, each with `turns` turns: of its own questions, or each call from another of them on."""

    async def one(seed: int) -> Turns:
        asked = list(islice(cycle(own), seed, seed + turns)) if own else questions(seed, turns)
        async with connect(f"ws://{address}/v1/realtime?model=gpt-realtime", max_size=None) as socket:
            await asyncio.sleep(0.37 * seed * pace)  # nobody begins at the same time as everybody else
            return await Caller(socket, DETECTIONS[detection], pace=pace, seed=seed).run(asked)

    together = Turns()
    for seen in await asyncio.gather(*(one(seed) for seed in range(calls))):
        together.add(seen)
    return together


async def long_call(
    address: str, *, minutes: float, detection: str, pace: float = 1.0, own: Sequence[Question] = ()
) -> dict[str, Any]:
    """One call; the first and the last sixth of its turns, the whole of it, and what the server's memory did."""
    before = memory_mib(address)
    until_s = 60 * minutes * pace
    async with connect(f"ws://{address}/v1/realtime?model=gpt-realtime", max_size=None) as socket:
        caller = Caller(socket, DETECTIONS[detection], pace=pace, seed=0)
        seen = await caller.run(own or questions(0, 60), until_s=until_s)
    sixth = -(-len(seen.answer_ms) // 6)
    parts = {"first": seen.answer_ms[:sixth], "last": seen.answer_ms[-sixth:]}
    sixths = {name: percentiles("answer_ms", delays, _SHARES) for name, delays in parts.items()}
    return {"minutes": minutes, **sixths, "whole": seen.figures(), "memory_mib": [before, memory_mib(address)]}


def memory_mib(address: str) -> float:
    """The server's resident memory."""
    lines = httpx2.get(f"http://{address}/metrics").text.splitlines()
    (line,) = (line for line in lines if line.startswith("process_resident_memory_bytes"))
    return round(float(line.split()[1]) / 2**20, 1)


Results: TypeAlias = dict[str, dict[str, dict[str, float]]]
"""Figures by the kind of turn detection and the number of calls at once."""


def plot(results: Results, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4))
    named = {"answer_ms": "end of speech to first sound, ms", "stop_ms": "interruption to silence, ms"}
    for axes, (delay, label) in zip(panels, named.items(), strict=True):
        for number, (detection, rows) in enumerate(results.items()):
            for share, style in zip(_SHARES, ("-", "--", ":"), strict=True):
                delays = [row.get(f"{delay}_p{share}", float("nan")) for row in rows.values()]
                if not np.isnan(delays).all():
                    counts = [int(count) for count in rows]
                    axes.plot(counts, delays, style, marker=".", color=f"C{number}", label=f"{detection} p{share}")
        axes.set(xlabel="calls at once", ylabel=label)
        axes.set_ylim(bottom=0)
        if axes.lines:
            axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def print_table(results: Results) -> None:
    delays = [f"{delay}_p{share}" for delay in ("answer_ms", "stop_ms") for share in _SHARES]
    names = (*delays, "false_cut_ins", "missed_turns", "underruns", "turns")
    print(f"  {'':<26}" + "".join(f"{name:>15}" for name in names))
    for detection, rows in results.items():
        for calls, row in rows.items():
            cells = "".join(f"{row.get(name, float('nan')):15.4g}" for name in names)
            print(f"  {f'{detection}, {calls} at once':<26}{cells}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calls", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--turns", type=int, default=8, help="of each call")
    parser.add_argument("--detection", nargs="+", choices=DETECTIONS, default=list(DETECTIONS))
    parser.add_argument("--own", type=Path, metavar="DIR", help=f"recordings to ask with, and their {MARKS}")
    parser.add_argument("--minutes", type=float, help="one call of this length")
    parser.add_argument("--pace", type=float, default=1.0, help="seconds to a second of sound, on a busy machine")
    parser.add_argument("--plot", type=Path, help="a picture of the delays by the number of calls")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    own = own_questions(options.own) if options.own else []
    results: Results = {}
    settings = {"model": str(options.checkpoint), "threads": options.threads}
    if options.own:
        settings["own"] = str(options.own)
    with serving(options.checkpoint, threads=options.threads) as address:
        asyncio.run(measure(address, calls=1, turns=1, detection="push_to_talk"))  # to warm up
        how = {"pace": options.pace, "own": own}
        if options.minutes is not None:
            for detection in options.detection:
                call = asyncio.run(long_call(address, minutes=options.minutes, detection=detection, **how))
                print(json_line({"bench": "voice, one long call", **settings, "detection": detection, **call}))
            return
        for detection in options.detection:
            for calls in options.calls:
                seen = asyncio.run(measure(address, calls=calls, turns=options.turns, detection=detection, **how))
                results.setdefault(detection, {})[str(calls)] = seen.figures()
    print(f"\n{options.checkpoint}: {options.turns} turns in each call, in real time")
    print_table(results)
    if options.plot:
        plot(results, options.plot)
    print(json_line({"bench": "voice", **settings, "turns": options.turns, "results": results}))


if __name__ == "__main__":
    main()
