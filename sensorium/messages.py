"""The nouns people say: a conversation is a sequence of `Message`, a message a sequence of parts.

This file imports nobody from the project, so that every room may speak of messages. Media parts hold
decoded media (waveform, pixels), never bytes of a file format: decoding belongs to the edge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class WordTime(NamedTuple):
    """When one word of a transcript sounds. Characters index into the transcript."""

    start_char: int
    end_char: int
    start_ms: float
    end_ms: float


@dataclass(frozen=True, kw_only=True)
class Text:
    text: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Audio:
    """Mono sound. `transcript` and `words` are known for generated speech and for our own replies."""

    waveform: np.ndarray  # (N,) float32 in [-1, 1]
    sample_rate_hz: int
    transcript: str | None = None
    words: tuple[WordTime, ...] = ()
    voice: str | None = None
    cut: bool = False  # the listener broke in here: there was more to say

    @property
    def duration_ms(self) -> float:
        return 1000.0 * len(self.waveform) / self.sample_rate_hz


_PLAIN_LEVELS = 8  # of 256: what a JPEG makes of one colour, and less than a pencil does to paper


@dataclass(frozen=True, kw_only=True, eq=False)
class Image:
    """A picture. With `detail` "high" a user's is seen whole and then by its quarters, otherwise whole: with "auto" by
    its quarters too if `closer`, where a context has room for that.

    `caption` says in words what it shows, where that is known: of generated pictures. `given_size` is its width and
    height before it was scaled down, if it was.
    """

    pixels: np.ndarray  # (H, W, 3) uint8, RGB
    detail: Literal["low", "high", "auto"] = "auto"
    caption: Text | None = None
    given_size: tuple[int, int] | None = None
    closer: bool = False

    @property
    def quarters(self) -> tuple[Image, ...]:
        """What is looked at besides the whole, row by row: parts of half its width and height, but for plain ones: they
        show nothing, and what was seen last is what is spoken of."""
        if self.detail != "high" and not self.closer:
            return ()
        height, width = self.pixels.shape[:2]
        rows = (slice(0, (height + 1) // 2), slice(height // 2, height))
        columns = (slice(0, (width + 1) // 2), slice(width // 2, width))
        parts = (self.pixels[row, column] for row in rows for column in columns)
        return tuple(Image(pixels=part, detail="low") for part in parts if not _is_plain(part))


def _is_plain(pixels: np.ndarray) -> bool:
    """Whether a picture (H, W, 3) is of one colour."""
    return bool((np.ptp(pixels, axis=(0, 1)) <= _PLAIN_LEVELS).all())


@dataclass(frozen=True, kw_only=True, eq=False)
class Video:
    """Frames with their times, in order, and the sound track they share a clock with.

    `caption` says in words what happens, where that is known: of generated films.
    """

    frames: tuple[Image, ...]
    times_ms: tuple[float, ...]
    sound: Audio | None = None
    caption: Text | None = None

    def __post_init__(self) -> None:
        assert len(self.frames) == len(self.times_ms) > 0
        assert self.times_ms[0] >= 0
        assert list(self.times_ms) == sorted(self.times_ms)

    @property
    def thinned(self) -> Video:
        """Every other frame, from the first."""
        return replace(self, frames=self.frames[::2], times_ms=self.times_ms[::2])

    @property
    def duration_ms(self) -> float:
        """To the last frame, or to the end of the sound."""
        return max(self.times_ms[-1], self.sound.duration_ms if self.sound else 0.0)


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    id: str
    name: str
    arguments: str  # JSON text, as on the wire


def tool_list(functions: Sequence[Mapping[str, Any]]) -> Text:
    """The system text that offers tools: a heading, then one line of JSON per function (OpenAI's `function` object).

    Training and serving both write it here, so that the network meets the tools it was taught to read.
    """
    lines = (json.dumps(function, separators=(",", ":"), ensure_ascii=False) for function in functions)
    return Text(text="\n".join(("tools:", *lines)))


Part: TypeAlias = Text | Audio | Image | Video | ToolCall


@dataclass(frozen=True, kw_only=True, eq=False)
class Message:
    """One turn. A `tool` message answers the call named by `tool_call_id`."""

    role: Role
    parts: tuple[Part, ...]
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text parts, joined: what a reader without ears or eyes would get."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def seen_less_closely(messages: Sequence[Message]) -> tuple[Message, ...] | None:
    """The same conversation, but the oldest picture that need not be seen by its quarters is seen whole only. None if
    there is no such picture."""
    for index, message in enumerate(messages):
        for at, part in enumerate(message.parts):
            if isinstance(part, Image) and part.closer:
                parts = (*message.parts[:at], replace(part, closer=False), *message.parts[at + 1 :])
                return (*messages[:index], replace(message, parts=parts), *messages[index + 1 :])
    return None
