"""What was heard in a file, and how it looks on the wire: JSON of three kinds, plain text and subtitles."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sensorium.engine.request import InputTranscriptDelta, TokenLogprob
from sensorium.server.segments import RATE_HZ, Segment

Json = dict[str, Any]
_LOUD = 0.1  # of the loud parts of a segment: what is below is a pause
_BLOCK_S = 0.01
_SHORTEST_WORD_S = 0.04


@dataclass(frozen=True, kw_only=True)
class Word:
    word: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """A segment, written down."""

    start_s: float
    end_s: float
    text: str
    words: Sequence[Word]
    tokens: Sequence[int]
    logprobs: Sequence[TokenLogprob]
    speech: float
    speaker: str = ""


def line_of(segment: Segment, deltas: Sequence[InputTranscriptDelta], *, speaker: str = "") -> Line:
    """A segment's transcript with its words' times in the whole."""
    words = _timed(segment, deltas)
    return Line(
        start_s=words[0].start_s if words else segment.start_s,
        end_s=words[-1].end_s if words else segment.end_s,
        text="".join(delta.text for delta in deltas).strip(),
        words=words,
        tokens=[token for delta in deltas for token in delta.tokens],
        logprobs=[logprob for delta in deltas for logprob in delta.logprobs],
        speech=segment.speech,
        speaker=speaker,
    )


def _timed(segment: Segment, deltas: Sequence[InputTranscriptDelta]) -> list[Word]:
    """The deltas say where each word ends; those that don't share what is left of the segment. A word begins where the
    one before it ends or, after a pause, behind that."""
    said: list[tuple[str, float | None]] = []  # words and where in the segment they end
    length_s = len(segment.waveform) / RATE_HZ
    for delta in deltas:
        end_s = None if delta.end_ms is None else min(delta.end_ms / 1000, length_s)
        if said and not delta.text.startswith(" "):  # more of the same word
            said[-1] = (said[-1][0] + delta.text, end_s)
        else:
            said.append((delta.text.strip(), end_s))
    ends_s = [0.0]
    for number, (_, end_s) in enumerate(said):
        share_s = (length_s - ends_s[-1]) / (len(said) - number)
        ends_s.append(ends_s[-1] + share_s if end_s is None else end_s)
    loud = _loud_blocks(segment.waveform)
    words: list[Word] = []
    for (word, _), (before_s, end_s) in zip(said, pairwise(ends_s), strict=True):
        end_s = min(max(end_s, before_s + _SHORTEST_WORD_S), length_s)
        start_s, end_s = _without_pauses(loud, before_s, end_s)
        words.append(Word(word=word, start_s=segment.start_s + start_s, end_s=segment.start_s + end_s))
    return words


def _loud_blocks(waveform: np.ndarray) -> np.ndarray:
    size = int(_BLOCK_S * RATE_HZ)
    whole = waveform[: len(waveform) - len(waveform) % size].reshape(-1, size)
    level = np.sqrt(np.square(whole).mean(axis=1)) if len(whole) else np.zeros(0)
    return level > _LOUD * np.percentile(level, 90) if len(level) else np.zeros(0, bool)


def _without_pauses(loud: np.ndarray, start_s: float, end_s: float) -> tuple[float, float]:
    """The stretch from its first loud block to its last, if it has any."""
    first, last = round(start_s / _BLOCK_S), round(end_s / _BLOCK_S)
    blocks = np.flatnonzero(loud[first:last])
    if not len(blocks):
        return start_s, end_s
    begin = first + int(blocks[0])
    end = first + int(blocks[-1]) + 1
    return max(start_s, begin * _BLOCK_S), min(end_s, max(end * _BLOCK_S, start_s + _SHORTEST_WORD_S))


def whole_text(lines: Iterable[Line]) -> str:
    return " ".join(line.text for line in lines if line.text)


def words_body(lines: Iterable[Line]) -> list[Json]:
    return [
        {"word": word.word, "start": round(word.start_s, 2), "end": round(word.end_s, 2)}
        for line in lines
        for word in line.words
    ]


def segment_body(index: int, line: Line, temperature: float) -> Json:
    """One of `verbose_json`."""
    text = line.text.encode()
    logprobs = [token.logprob for token in line.logprobs]
    return {
        "id": index,
        "seek": round(100 * line.start_s),  # frames of 10 ms
        "start": round(line.start_s, 2),
        "end": round(line.end_s, 2),
        "text": line.text,
        "tokens": list(line.tokens),
        "temperature": temperature,
        "avg_logprob": sum(logprobs) / len(logprobs) if logprobs else 0.0,
        "compression_ratio": len(text) / max(1, len(zlib.compress(text))),
        "no_speech_prob": round(1.0 - line.speech, 4),
    }


def diarized_body(index: int, line: Line) -> Json:
    """One of `diarized_json`, and an event of its stream and of that of `verbose_json`, where nobody has a name."""
    times = {"start": round(line.start_s, 2), "end": round(line.end_s, 2)}
    about = {"type": "transcript.text.segment", "id": segment_id(index), "text": line.text, "speaker": line.speaker}
    return {**about, **times}


def segment_id(index: int) -> str:
    return f"seg_{index:03d}"


def logprobs_body(tokens: Iterable[TokenLogprob]) -> list[Json]:
    return [
        {"token": token.bytes.decode("utf-8", "replace"), "bytes": list(token.bytes), "logprob": token.logprob}
        for token in tokens
    ]


def subtitles(lines: Iterable[Line], *, vtt: bool) -> str:
    """SubRip, or WebVTT."""
    shown = [line for line in lines if line.text]
    blocks = [
        ("" if vtt else f"{number}\n")
        + f"{_clock(line.start_s, vtt=vtt)} --> {_clock(line.end_s, vtt=vtt)}\n{line.text}\n"
        for number, line in enumerate(shown, start=1)
    ]
    return ("WEBVTT\n\n" if vtt else "") + "\n".join(blocks)


def _clock(at_s: float, *, vtt: bool) -> str:
    ms = round(1000 * at_s)
    hours, minutes, seconds = ms // 3_600_000, ms // 60_000 % 60, ms // 1000 % 60
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{'.' if vtt else ','}{ms % 1000:03d}"
