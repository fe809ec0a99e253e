"""Films, and pictures in a row, that checkpoints are asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import get_args

import numpy as np

from recipes.asking import SEED, about, as_asked, usual
from sensorium.data.generators import dialogues
from sensorium.data.generators.emoji import EmojiPicture, characters, emoji_orders, emoji_picture
from sensorium.data.generators.film import Film, Kind
from sensorium.data.generators.film import film as drawn_film
from sensorium.data.generators.icons import IconPicture, colours_to_draw, icon_picture, icon_to_draw
from sensorium.data.generators.scenes import COLOURS
from sensorium.data.generators.several import KINDS
from sensorium.data.generators.several import Kind as SeveralKind
from sensorium.data.generators.several import several as drawn_row
from sensorium.data.generators.speech import Synthesizer
from sensorium.data.generators.wordings import DRAW, NAME, NAME_EMOJI, SAID
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


def icons(n: int) -> Iterator[Sample]:
    yield from _to_name(n, 6, icon_picture, NAME)


def emoji(n: int) -> Iterator[Sample]:
    yield from _to_name(n, 18, emoji_picture, NAME_EMOJI)


def _to_name(
    n: int, number: int, picture: Callable[..., IconPicture | EmojiPicture], questions: Sequence[str]
) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, number))
    for index in range(n):
        shown = picture(rng, split="heldout")
        messages = about(rng, shown.pixels, dialogues.pick(rng, questions))
        yield Sample(id=str(index), messages=messages, target=dialogues.a(shown.name))


def draw_icon(n: int) -> Iterator[Sample]:
    """Each by its name, and as many in a colour in which it was never drawn."""
    for condition in ("by name", "in a colour"):
        rng = np.random.default_rng((SEED, 17, condition == "in a colour"))
        for index in range(n):
            name, colours = icon_to_draw(rng), tuple[str, ...]()
            while condition == "in a colour" and not (colours := colours_to_draw(name, "heldout")):
                name = icon_to_draw(rng)
            colour = dialogues.pick(rng, colours) if colours else ""
            wanted = dialogues.a(f"{colour} {name}".strip())
            yield _drawing(f"{condition} {index}", wanted, name, rng, condition=condition, colour=colour)


def draw_emoji(n: int) -> Iterator[Sample]:
    rng = np.random.default_rng((SEED, 19))
    for index in range(n):
        name = dialogues.pick(rng, tuple(characters()))
        yield _drawing(str(index), dialogues.pick(rng, emoji_orders(name)), f"{name} emoji", rng)


def _drawing(
    number: str, wanted: str, name: str, rng: np.random.Generator, *, condition: str = "all", colour: str = ""
) -> Sample:
    order = dialogues.typed(dialogues.pick(rng, DRAW).format(x=wanted), rng)
    prompt = Message(role="user", parts=(Text(text=order),))
    asked = {"icon": name, "colour": colour, "palette": COLOURS}
    return Sample(id=number, messages=(prompt,), target=dialogues.a(name), condition=condition, metadata=asked)
