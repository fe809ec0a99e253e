"""What all samples share: the seed, a conversation as a user brings it, what is usually answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from sensorium.data.generators.dialogues import typed
from sensorium.data.generators.documents import Document
from sensorium.messages import Audio, Image, Message, Part, Text, Video

SEED = 1
Asked = TypeVar("Asked")


def as_asked(messages: Sequence[Message]) -> tuple[Message, ...]:
    """A conversation as a user brings it: clips without transcripts, pictures and films without captions."""

    def bare(part: Part) -> Part:
        if isinstance(part, Video):
            sound = None if part.sound is None else _unheard(part.sound)
            frames = tuple(replace(frame, caption=None) for frame in part.frames)
            return Video(frames=frames, times_ms=part.times_ms, sound=sound)
        if isinstance(part, Image):
            return replace(part, caption=None)
        return _unheard(part) if isinstance(part, Audio) else part

    return tuple(replace(message, parts=tuple(bare(part) for part in message.parts)) for message in messages)


def _unheard(clip: Audio) -> Audio:
    return Audio(waveform=clip.waveform, sample_rate_hz=clip.sample_rate_hz)


def usual(answers: Iterable[tuple[Asked, str]]) -> dict[Asked, str]:
    """The commonest answer to each question: what a guesser says that has not perceived it."""
    counts: dict[Asked, Counter[str]] = {}
    for asked, answer in answers:
        counts.setdefault(asked, Counter())[answer] += 1
    return {asked: counted.most_common(1)[0][0] for asked, counted in counts.items()}


def first_turn(made: Document) -> tuple[tuple[Message, ...], Part]:
    """The messages up to the first answer, and that answer."""
    at = next(index for index, message in enumerate(made.messages) if message.role == "assistant")
    return made.messages[:at], made.messages[at].parts[0]


def words_of(answer: Part) -> str:
    words = answer.text if isinstance(answer, Text) else answer.transcript if isinstance(answer, Audio) else None
    assert words
    return words


def about(rng: np.random.Generator, pixels: np.ndarray, question: str) -> tuple[Message, ...]:
    """A picture and a typed question, in either order."""
    picture, text = Image(pixels=pixels), Text(text=typed(question, rng))
    return (Message(role="user", parts=(picture, text) if rng.random() < 0.5 else (text, picture)),)
