"""What checkpoints are asked about the sets in $SENSORIUM_DATA: recordings, photographs and orders of people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice

import numpy as np

from recipes.asking import SEED, as_asked, first_turn, words_of
from sensorium.data.generators import dialogues, wordings, world
from sensorium.data.recorded import MEANING, recorded_document
from sensorium.data.sources import Source, data_root
from sensorium.evals.task import Sample
from sensorium.messages import Audio, Image, Message, Part, Text, ToolCall
from sensorium.server.comfort_noise import with_quiet_edges


def _recorded(task: str) -> Iterator[tuple[int, tuple[Message, ...], Part]]:
    """Every held-out record once, in the order in which they are first drawn, until no new one turns up for long."""
    asked: set[bytes] = set()
    repeated = 0
    for seed in count():
        prompt, answer = first_turn(recorded_document(task, seed, split="heldout"))
        key = _key(prompt[-1])
        repeated = 0 if key not in asked else repeated + 1
        if repeated > 300:
            return
        if not repeated:
            asked.add(key)
            yield seed, prompt, answer


def _key(asked: Message) -> bytes:
    """What tells one record from another: its clip or picture, however it is asked about; else its words."""
    media = [part for part in asked.parts if isinstance(part, Audio | Image)]
    if not media:
        return asked.text.encode()
    return (media[0].waveform if isinstance(media[0], Audio) else media[0].pixels).tobytes()


def _as_served(prompt: Sequence[Message]) -> tuple[Message, ...]:
    """As a server hears what is sent to it: many recordings are cut close around their word."""

    def heard(part: Part) -> Part:
        if not isinstance(part, Audio):
            return part
        return Audio(
            waveform=with_quiet_edges(part.waveform, part.sample_rate_hz).waveform, sample_rate_hz=part.sample_rate_hz
        )

    return tuple(replace(message, parts=tuple(heard(part) for part in message.parts)) for message in as_asked(prompt))


def real_word(n: int) -> Iterator[Sample]:
    left = Counter({"arabic, as said": n, "arabic, its meaning": n, "english words": n})
    for seed, prompt, answer in _recorded("real-word"):
        asks_meaning = any(isinstance(part, Text) and part.text in MEANING for part in prompt[-1].parts)
        said = "english words" if words_of(answer).isascii() else "arabic, as said"
        condition = "arabic, its meaning" if asks_meaning else said
        if left[condition] > 0:
            left[condition] -= 1
            sample_id = f"{condition} {seed}"
            yield Sample(id=sample_id, messages=_as_served(prompt), target=words_of(answer), condition=condition)
        if not left.total():
            break
    rng = np.random.default_rng((SEED, 13))
    digits = list(Source.open("digits_open-sa", data_root()).records(purpose="test"))
    for index, at in enumerate(rng.permutation(len(digits))[:n].tolist()):
        clip, question = digits[at].media, Text(text=dialogues.pick(rng, wordings.TRANSCRIBE))
        assert isinstance(clip, Audio)
        messages = _as_served((Message(role="user", parts=(clip, question)),))
        target = world.DIGITS[int(digits[at].fields["label"])]
        yield Sample(id=f"digit {index}", messages=messages, target=target, condition="english digits")


def real_order(n: int) -> Iterator[Sample]:
    for seed, prompt, answer in islice(_recorded("real-order"), n):
        assert isinstance(answer, ToolCall)
        call = (answer.name, answer.arguments)
        yield Sample(id=str(seed), messages=_as_served(prompt), target=" ".join(call), metadata={"call": call})


def photograph(n: int) -> Iterator[Sample]:
    for condition, task in (("groceries", "grocery"), ("clothes", "clothing")):
        for seed, prompt, answer in islice(_recorded(task), n):
            yield Sample(
                id=f"{condition} {seed}", messages=as_asked(prompt), target=words_of(answer), condition=condition
            )


def command(n: int) -> Iterator[Sample]:
    for seed, prompt, answer in islice(_recorded("command"), n):
        assert isinstance(answer, ToolCall)
        call = (answer.name, answer.arguments)
        yield Sample(
            id=str(seed),
            messages=prompt,
            target=" ".join(call),
            metadata={"call": call, "offered": prompt[0].text.count("\n")},  # a line for each function
        )
