"""When is a turn over: rules for `semantic_vad` compared on the same held-out sentences, without a clock.

    python -m bench.turns [--checkpoint DIR] [--turns 60] [--line 0 1e-4 1e-3] [--call 1] [--seed 77] [--traces FILE]

Sentences in unseen voices, every second one with a pause or two, each on one of the lines, go through all that a call's
sound goes through: 24 kHz in 16 bits, the noise of the `--line`, 20 ms at a time, the detector of speech, comfort
noise, the network. What was known after every 20 ms is a trace; each rule is then applied to all of them. Of sentences
with and without pauses: the share cut before its end with its standard error, the share not ended 1.5 s behind it, and
the ms from the end to the decision (p50 / p95), in time of the sound: what the machine needs comes on top. A rule is to
be chosen with one `--seed` and told with another: each has sentences and voices of its own. `--turns` are for each
line. With `--call 8` so many follow each other in a call, of one voice, each heard to its end and answered aloud: what
is said late in it is heard behind all that. Which words were understood is told as well, where a call has several
turns of its earlier half and of its later one. `--traces` keeps the traces, or takes them up again. The last line is
JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import soxr

from bench.json_line import json_line
from bench.latency import SHIPPED
from sensorium.data.generators.dialogues import SKILLS, exchange, pick
from sensorium.data.generators.speech import Speaker, Synthesizer, random_speaker, with_pauses
from sensorium.engine.engine import OmniEngine
from sensorium.engine.request import SamplingParams
from sensorium.evals.scorers import word_error_rate
from sensorium.messages import Audio
from sensorium.server.conversation import Content, Item
from sensorium.server.realtime_audio import WireDecoder, encoded
from sensorium.server.realtime_events import SemanticVad
from sensorium.server.realtime_thread import Thread
from sensorium.server.recording import Recording
from sensorium.server.turn_end import PATIENCE, Patience, TurnEnd
from sensorium.server.turns import SpeechStarted, TurnDetector

RATE_HZ = 16_000
STEP_MS = 20
LEAD_MS, TAIL_MS = 500, 1500  # of quiet line around a sentence


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What was known of a turn after each 20 ms of it."""

    has_pauses: bool
    end_ms: float
    at_ms: list[int]
    silence_ms: list[int]
    probabilities: list[list[float]]  # of the frames that came to be complete
    number: int = 0  # of the turn in its call
    num_words: int = 0
    num_word_errors: float = 0.0


class Watched(TurnEnd):
    """Keeps what the network thought of each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.thought: list[float] = []

    def add(self, probability: float) -> None:
        super().add(probability)
        self.thought.append(probability)


def sentences(seed: int, count: int, *, call: int = 1) -> Iterator[tuple[Audio, bool]]:
    """At 16 kHz, and whether there are pauses in it. One person says `call` of them."""
    rng, synthesizer, made = np.random.default_rng(seed), Synthesizer(), 0
    speaker: Speaker | None = None
    while made < count:
        words = exchange(rng, pick(rng, SKILLS), split="heldout").question
        if speaker is None or made % call == 0:
            speaker = random_speaker(rng, split="heldout")
        utterance = synthesizer.speak(words, speaker)
        if len(utterance.audio.words) <= 2:
            continue
        has_pauses = bool(made % 2)
        if has_pauses:
            utterance = with_pauses(utterance, rng, pauses=int(rng.integers(1, 3)))
        yield utterance.audio, has_pauses
        made += 1


async def listen(thread: Thread, sentence: Audio, *, line: float, rng: np.random.Generator) -> Trace:
    """`line` is the root mean square of its noise."""
    detector = TurnDetector(SemanticVad(type="semantic_vad"))
    decoder = WireDecoder("audio/pcm", RATE_HZ)
    quiet = np.pad(sentence.waveform, (LEAD_MS * RATE_HZ // 1000, TAIL_MS * RATE_HZ // 1000))
    wire = soxr.resample(quiet, RATE_HZ, 24_000)
    trace = Trace(has_pauses=False, end_ms=LEAD_MS + sentence.duration_ms, at_ms=[], silence_ms=[], probabilities=[])
    heard, start, watched = np.zeros(0, np.float32), None, Watched()
    size = 24 * STEP_MS
    for at in range(0, len(wire) - size + 1, size):
        samples = wire[at : at + size] + line * rng.standard_normal(size)
        decoded = decoder.push(encoded(samples, "audio/pcm"))
        heard = np.concatenate((heard, decoded))
        for event in detector.push(decoded):
            if isinstance(event, SpeechStarted) and start is None:
                start = event.at_ms * RATE_HZ // 1000
                await thread.listen(heard[start : start + 1])  # the turn begins, and with it another `TurnEnd`
                thread.turn_end, heard = watched, heard[start + 1 :]
        if start is None:
            continue
        known = len(watched.thought)
        await thread.listen(heard)
        heard = heard[len(heard) :]
        trace.at_ms.append((at // size + 1) * STEP_MS)
        trace.silence_ms.append(detector.silence_ms)
        trace.probabilities.append(watched.thought[known:])
    return trace


async def answer(thread: Thread, *, aloud: bool) -> str:
    """The turn is over. Returns what was heard in it; the next one is heard behind its answer."""
    if not thread.hears:
        return ""
    turn, reply = (Content(kind=kind, sound=Recording(rate_hz=RATE_HZ)) for kind in ("input_audio", "output_audio"))
    await thread.end_turn(Item(id="turn", role="user", content=[turn]))
    if aloud:
        here = await thread.mark()
        async for _ in thread.answer(SamplingParams(modality="audio", seed=1)):
            pass
        await thread.answered(here, [Item(id="reply", role="assistant", content=[reply])], is_over=True)
    return turn.text or ""


Rule = Callable[[int, list[float]], bool]  # the silence so far, in ms, and what was thought of each frame


def smoothed(patience: Patience) -> Rule:
    """The server's."""

    def is_over(silence_ms: int, thought: list[float]) -> bool:
        turn_end = TurnEnd()
        for probability in thought[-32:]:
            turn_end.add(probability)
        return turn_end.is_over(silence_ms, patience)

    return is_over


def last_frames(count: int, sure: float, *, least_ms: int = 32) -> Rule:
    """Each of so many."""
    return lambda silence_ms, thought: silence_ms >= least_ms and min(thought[-count:], default=0.0) >= sure


def rules() -> dict[str, Rule]:
    shares, smooth = (0.5, 0.6, 0.7, 0.8, 0.9), (0.8, 0.85, 0.9, 0.92, 0.95, 0.97)
    never_ms = 10**6
    return {
        **{f"{name} (as served)": smoothed(patience) for name, patience in PATIENCE.items()},
        **{f"smoothed >= {sure}, no long silence": smoothed(Patience(32, sure, never_ms)) for sure in smooth},
        **{f"smoothed >= {sure}": smoothed(Patience(32, sure, 1280)) for sure in smooth},
        **{f"the last frame >= {sure}": last_frames(1, sure) for sure in shares},
        "the last frame >= 0.8, 80 ms": last_frames(1, 0.8, least_ms=80),
        **{f"the last two >= {sure}": last_frames(2, sure) for sure in shares},
    }


def decided_ms(trace: Trace, rule: Rule) -> int | None:
    """When the turn was ended, if it was."""
    thought: list[float] = []
    for at_ms, silence_ms, probabilities in zip(trace.at_ms, trace.silence_ms, trace.probabilities, strict=True):
        thought += probabilities
        if rule(silence_ms, thought):
            return at_ms
    return None


def figures(traces: list[Trace], rule: Rule) -> dict[str, float]:
    """NaN where there is nothing to tell."""
    ends = [(decided_ms(trace, rule), trace.end_ms) for trace in traces]
    late = [at - end for at, end in ends if at is not None and at >= end - STEP_MS]
    p50, p95 = np.percentile(late, [50, 95]).round() if late else (float("nan"), float("nan"))
    cut = sum(at is not None and at < end - STEP_MS for at, end in ends)
    counts = {"cut": cut, "missed": sum(at is None for at, _ in ends)}
    shares = {name: round(count / len(ends), 4) if ends else float("nan") for name, count in counts.items()}
    error = (shares["cut"] * (1 - shares["cut"]) / len(ends)) ** 0.5 if ends else float("nan")
    return {**shares, "cut_stderr": round(error, 4), "p50_ms": float(p50), "p95_ms": float(p95)}


async def collect(checkpoint: Path, *, turns: int, lines: list[float], call: int, seed: int) -> list[Trace]:
    engine, traces = OmniEngine.load(checkpoint), list[Trace]()
    try:
        rng, thread = np.random.default_rng(0), Thread(engine)
        for index, (sentence, has_pauses) in enumerate(sentences(seed, turns * len(lines), call=call)):
            number, is_last = index % call, index % call == call - 1
            thread = Thread(engine) if number == 0 else thread
            trace = await listen(thread, sentence, line=lines[index // 2 % len(lines)], rng=rng)
            told, num_words = word_error_rate(sentence.transcript or "", await answer(thread, aloud=not is_last))
            about = {"has_pauses": has_pauses, "number": number, "num_words": int(num_words)}
            traces.append(replace(trace, **about, num_word_errors=told * num_words))
    finally:
        await engine.close()
    return traces


def word_errors(traces: list[Trace], *, call: int) -> dict[str, float]:
    """The share of the words that were misunderstood, by where in its call a turn is."""
    late = {"earlier": [trace for trace in traces if trace.number < call / 2]}
    if call > 1:
        late["later"] = [trace for trace in traces if trace.number >= call / 2]
    sums = {name: (sum(t.num_word_errors for t in part), sum(t.num_words for t in part)) for name, part in late.items()}
    return {name: round(wrong / max(words, 1), 4) for name, (wrong, words) in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--turns", type=int, default=60, help="on each line")
    parser.add_argument("--line", type=float, nargs="+", default=[0.0, 1e-4, 1e-3], help="noise, of full scale")
    parser.add_argument("--call", type=int, default=1, help="turns of each call")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--traces", type=Path)
    options = parser.parse_args()
    if options.traces is not None and options.traces.exists():
        traces = [Trace(**row) for row in json.loads(options.traces.read_text())]
    else:
        material = {"turns": options.turns, "lines": options.line, "call": options.call, "seed": options.seed}
        traces = asyncio.run(collect(options.checkpoint, **material))
        if options.traces is not None:
            options.traces.write_text(json.dumps([asdict(trace) for trace in traces]))
    parts = {
        name: [trace for trace in traces if trace.has_pauses == is_so] for name, is_so in (("pauses", 1), ("none", 0))
    }
    results = {name: {part: figures(chosen, rule) for part, chosen in parts.items()} for name, rule in rules().items()}
    print(f"\n{options.checkpoint}: {len(parts['pauses'])} sentences with pauses, {len(parts['none'])} without")
    for name, row in results.items():
        cells = "".join(
            f" |{100 * part['cut']:6.1f} +-{100 * part['cut_stderr']:4.1f} % cut{100 * part['missed']:6.1f} % missed"
            f"{part['p50_ms']:6.0f} /{part['p95_ms']:5.0f} ms"
            for part in row.values()
        )
        print(f"  {name:<38}{cells}")
    understood = word_errors(traces, call=options.call)
    print("  word errors: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in understood.items()))
    told = {"turns": len(traces), "call": options.call, "word_errors": understood, "results": results}
    print(json_line({"bench": "turns", "model": str(options.checkpoint), **told}))


if __name__ == "__main__":
    main()
