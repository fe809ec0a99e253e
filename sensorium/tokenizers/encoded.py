"""Messages whose media have gone through the tokenizers: codes and features in place of sound and pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sensorium.messages import Audio, Image, Message, Role, Text, ToolCall, Video, WordTime

HIDDEN = -1  # a code that is not told


@dataclass(frozen=True)
class SpelledText(Text):
    """Text that the network writes letter by letter, as it is read from a picture: a word never seen is then no
    combination of pieces never written."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedAudio:
    codes: np.ndarray  # (F, 1 + R)
    features: np.ndarray | None = None  # (F, D): heard sound has them, our own speech does not
    transcript: str | None = None
    words: tuple[WordTime, ...] = ()
    voice: str | None = None
    cut: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedImage:
    codes: np.ndarray  # (P, 1 + R)
    features: np.ndarray | None = None  # (P, D)
    caption: Text | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedFilm:
    """Each frame is a picture at half the grid: a patch of it stands for four."""

    frames: tuple[EncodedImage, ...]  # of P / 4 patches
    times_ms: tuple[float, ...]
    sound: EncodedAudio | None = None
    caption: Text | None = None


EncodedPart: TypeAlias = Text | ToolCall | EncodedAudio | EncodedImage | EncodedFilm


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedMessage:
    role: Role
    parts: tuple[EncodedPart, ...]


def encode_message(
    message: Message,
    *,
    audio: Callable[[Audio], EncodedAudio],
    image: Callable[[Image], EncodedImage],
    film: Callable[[Video], EncodedFilm],
) -> EncodedMessage:
    """Runs the media of a message through the tokenizers. Raises ValueError for a film that the assistant shows."""
    parts: list[EncodedPart] = []
    for part in message.parts:
        if isinstance(part, Audio):
            parts.append(audio(part))
        elif isinstance(part, Image):
            parts.append(image(part))
            if message.role != "assistant":
                parts += map(image, part.quarters)
        elif isinstance(part, Video):
            if message.role == "assistant":
                raise ValueError("the assistant makes no films, so it cannot have shown one")
            parts.append(film(part))
        else:
            parts.append(part)
    return EncodedMessage(role=message.role, parts=tuple(parts))
