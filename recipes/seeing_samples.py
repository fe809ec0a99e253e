"""Films, and pictures in a row, that checkpoints are asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import get_args

import numpy as np

from recipes.asking import SEED, as_asked, usual
from sensorium.data.generators import dialogues
from sensorium.data.generators.film import Film, Kind
from sensorium.data.generators.film import film as drawn_film
from sensorium.data.generators.several import KINDS
from sensorium.data.generators.several import Kind as SeveralKind
from sensorium.data.generators.several import several as drawn_row
from sensorium.data.generators.speech import Synthesizer
from sensorium.data.generators.wordings import SAID
from sensorium.evals.task import Sample
from sensorium.messages import Audio, Image, Message, Text, Video


def film(n: int) -> Iterator[Sample]:
    """Films with a frame a second, every other one with a sound track: what is seen in it, and what is said."""
    rng, synthesizer = np.random.default_rng((SEED, 16)), Synthesizer()
    guesses = _usual_film_answers()
    left = Counter(dict.fromkeys(get_args(Kind), n))
    while left.total():
        shown = drawn_film(rng, split="heldout")
        asked = [question for question in shown.questions if left[question.kind] > 0]
        if asked:
            kind, question, answer = dialogues.pick(rng, asked)
            sound = _sound_track(rng, synthesizer) if left[kind] % 2 == 0 else None
            left[kind] -= 1
            yield Sample(
                id=f"{kind} {left[kind]}",
                messages=_about_film(shown, sound, Text(text=dialogues.typed(question, rng))),
                target=answer,
                condition=kind,
                metadata={"guess": guesses.get(question, "")},
            )
    for index in range(n):
        sound = _sound_track(rng, synthesizer)
        shown = drawn_film(rng, split="heldout", least_ms=sound.duration_ms)
        question = Text(text=dialogues.typed(dialogues.pick(rng, SAID), rng))
        yield Sample(
            id=f"said {index}",
            messages=_about_film(shown, sound, question),
            target=sound.transcript or "",
            condition="said",
            metadata={"guess": "nothing is said"},
        )


def _sound_track(rng: np.random.Generator, synthesizer: Synthesizer) -> Audio:
    return synthesizer.overheard(dialogues.sentence(rng, "heldout"), rng, split="heldout")


def _about_film(shown: Film, sound: Audio | None, question: Text) -> tuple[Message, ...]:
    frames = tuple(Image(pixels=pixels) for pixels in shown.frames)
    return as_asked(
        [Message(role="user", parts=(Video(frames=frames, times_ms=shown.times_ms, sound=sound), question))]
    )


@cache
def _usual_film_answers() -> dict[str, str]:
    """The commonest answer to each question about a training film."""
    rng = np.random.default_rng((SEED, 17))
    films = (drawn_film(rng, split="train", frame_ms=8000.0) for _ in range(1000))
    return usual((question, answer) for shown in films for _, question, answer in shown.questions)


def several(n: int) -> Iterator[Sample]:
    """Two to four pictures in one message: what one of them shows, which shows what, how they differ."""
    rng = np.random.default_rng((SEED, 18))
    guesses = _usual_row_answers()
    left = Counter(dict.fromkeys(KINDS, n))
    while left.total():
        shown = drawn_row(rng, split="heldout")
        asked = [question for question in shown.questions if left[question.kind] > 0]
        if asked:
            kind, question, answer = dialogues.pick(rng, asked)
            left[kind] -= 1
            pictures = tuple(Image(pixels=pixels) for pixels in shown.pictures)
            parts = (*pictures, Text(text=dialogues.typed(question, rng)))
            yield Sample(
                id=f"{kind} {left[kind]}",
                messages=as_asked([Message(role="user", parts=parts)]),
                target=answer,
                condition=kind,
                metadata={"guess": guesses[kind]},
            )


@cache
def _usual_row_answers() -> dict[SeveralKind, str]:
    """The commonest answer to each kind of question about pictures to train on."""
    rng = np.random.default_rng((SEED, 19))
    rows = (drawn_row(rng, split="train") for _ in range(1000))
    return usual((kind, answer) for shown in rows for kind, _, answer in shown.questions)
