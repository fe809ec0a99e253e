"""Samples of a sentence, said or typed: what is written down of it, sums, and what a tutor is asked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recipes.asking import SEED, as_asked
from sensorium.data.generators import dialogues, lessons
from sensorium.data.generators.lessons import SUBJECTS
from sensorium.data.generators.speech import Split, Synthesizer
from sensorium.evals.task import Sample
from sensorium.messages import Message, Text

VOICES: dict[str, Split] = {"seen voices": "train", "unseen voices": "heldout"}  # who speaks; the words are held out


def transcription(n: int) -> Iterator[Sample]:
    """Sentences of the domain, and its words in no order, where nothing helps to guess a word but its sound."""
    for voices, speakers in VOICES.items():
        for words, loose in {"sentences": 0.0, "words in no order": 1.0}.items():
            rng = np.random.default_rng((SEED, 21, len(voices), len(words)))
            for index in range(n):
                said = dialogues.sentence(rng, "heldout", loose=loose)
                condition = f"{voices}, {words}"
                prompt = _heard(said, rng, speakers)
                yield Sample(id=f"{condition} {index}", messages=prompt, target=said, condition=condition)


def spoken_sums(n: int) -> Iterator[Sample]:
    for condition, speakers in VOICES.items():
        rng = np.random.default_rng((SEED, len(condition)))
        for index in range(n):
            asked = dialogues.exchange(rng, "sum", split="heldout")
            prompt = _heard(asked.question, rng, speakers)
            yield Sample(id=f"{condition} {index}", messages=prompt, target=asked.answer, condition=condition)


def lesson(n: int) -> Iterator[Sample]:
    """Each subject typed, then all of them spoken by unknown voices."""
    rng = np.random.default_rng((SEED, 22))
    for subject in SUBJECTS:
        for index in range(n):
            asked = lessons.lesson(rng, "heldout", subject=subject)
            typed = Text(text=dialogues.typed(asked.question, rng))
            prompt = (Message(role="user", parts=(typed,)),)
            yield Sample(id=f"{subject} {index}", messages=prompt, target=asked.answer, condition=subject)
    for index in range(n):
        asked = lessons.lesson(rng, "heldout")
        prompt = _heard(asked.question, rng, "heldout")
        yield Sample(id=f"spoken {index}", messages=prompt, target=asked.answer, condition="all, spoken")


def _heard(words: str, rng: np.random.Generator, speakers: Split) -> tuple[Message, ...]:
    """The words by somebody, in a room."""
    return as_asked((Message(role="user", parts=(_SYNTHESIZER.overheard(words, rng, split=speakers),)),))


_SYNTHESIZER = Synthesizer()
