"""Two to four pictures in a row, and questions about which of them shows what, and how they differ.

Every picture comes from a generator of single ones, so what is held out there is held out here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from sensorium.data.generators.canvas import Split
from sensorium.data.generators.dialogues import a, pick
from sensorium.data.generators.edits import Edit, edit
from sensorium.data.generators.icons import icon_picture
from sensorium.data.generators.scenes import NUMBERS, SHAPES, Scene, place, scene, with_article

Kind: TypeAlias = Literal["what", "which", "count", "same", "difference"]
KINDS: tuple[Kind, ...] = ("what", "which", "count", "same", "difference")

ORDINALS = ("first", "second", "third", "fourth")
_WHAT = ("what does the {nth} picture show", "what is in the {nth} picture", "what is in picture {number}")
_WHICH = ("which picture shows {thing}", "in which picture is {thing}", "where do you see {thing}")
_SAME = ("are the pictures the same", "do both pictures show the same", "is it the same picture twice")
_DIFFERENCE = ("what is different", "what is the difference", "how do the pictures differ", "what has changed")
_SHADES = 6  # levels that two pictures of the same may be apart


class SeveralQuestion(NamedTuple):
    kind: Kind
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Several:
    pictures: tuple[np.ndarray, ...]  # (size, size, 3) uint8 each
    captions: tuple[str, ...]  # all that a question may ask for
    questions: tuple[SeveralQuestion, ...]


class _Shown(NamedTuple):
    pixels: np.ndarray
    caption: str
    short: str  # what is answered to "what does it show"
    things: frozenset[str]  # with their articles: what it may be asked for
    details: tuple[tuple[str, str], ...]  # questions about it alone, and their answers


def several(rng: np.random.Generator, *, split: Split) -> Several:
    """Raises ValueError for an unknown split."""
    draw = rng.random()
    if draw < 0.35:
        made = edit(rng, split=split)
        scenes = (made.before, made.after) if rng.random() < 0.5 else (made.after, made.before)
        shown = [_of_scene(each) for each in scenes]
        questions = [
            *_difference(rng, made, is_turned=scenes[0] is made.after),
            SeveralQuestion("same", pick(rng, _SAME), "no they are different"),
        ]
    elif draw < 0.5:
        one = _drawn(rng, split)
        shade = rng.integers(-_SHADES, _SHADES + 1, size=3)
        again = np.clip(one.pixels.astype(np.int64) + shade, 0, 255).astype(np.uint8)
        shown = [one, one._replace(pixels=again)]
        questions = [SeveralQuestion("same", pick(rng, _SAME), f"yes both show {one.short}")]
    else:
        shown, count = list[_Shown](), int(rng.integers(2, 5))
        while len(shown) < count:
            other = _drawn(rng, split)
            if other.short not in [each.short for each in shown]:
                shown.append(other)
        questions = []
        if count == 2:
            questions.append(SeveralQuestion("same", pick(rng, _SAME), "no they are different"))
    return Several(
        pictures=tuple(each.pixels for each in shown),
        captions=tuple(each.caption for each in shown),
        questions=(*questions, *_of_one(rng, shown), *_of_all(rng, shown)),
    )


def _drawn(rng: np.random.Generator, split: Split) -> _Shown:
    if rng.random() < 0.7:
        return _of_scene(scene(rng, split=split))
    icon = icon_picture(rng, split=split)
    return _Shown(icon.pixels, a(icon.name), a(icon.name), frozenset({a(icon.name)}), ())


def _of_scene(made: Scene) -> _Shown:
    shapes = [item.shape for item in made.objects]
    things = frozenset(with_article(name) for item in made.objects for name in (item.shape, item.phrase))
    colours = [
        (f"what colour is the {item.shape}", f"the {item.shape} is {item.colour}")
        for item in made.objects
        if shapes.count(item.shape) == 1
    ]
    details = (*colours, ("what colour is the background", f"the background is {made.background}"))
    return _Shown(made.pixels, made.description, made.caption, things, details)


def _things(shown: Iterable[_Shown]) -> frozenset[str]:
    """Of all of them."""
    return frozenset[str]().union(*(each.things for each in shown))


def _difference(rng: np.random.Generator, made: Edit, *, is_turned: bool) -> list[SeveralQuestion]:
    """What was changed, of the pictures in the order in which they are shown."""
    before, after = made.before.objects, made.after.objects
    if len(before) != len(after):
        more, fewer = (before, after) if len(before) > len(after) else (after, before)
        (thing,) = [item for item in more if item not in fewer]
        where = ORDINALS[(more is after) != is_turned]
        answer = f"only the {where} picture shows {with_article(thing.phrase)}"
    else:
        (pair,) = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
        one, other = pair[::-1] if is_turned else pair
        looks = [place(item) if made.kind == "move" else item.colour for item in (one, other)]
        if looks[0] == looks[1]:
            return []
        answer = f"the {one.shape} is {looks[0]} in the first picture and {looks[1]} in the second"
    return [SeveralQuestion("difference", pick(rng, _DIFFERENCE), answer)] * 2


def _of_one(rng: np.random.Generator, shown: list[_Shown]) -> list[SeveralQuestion]:
    """What one of them shows, and which shows something that no other does."""
    at, other = (int(rng.integers(len(shown))) for _ in range(2))
    what = pick(rng, _WHAT).format(nth=ORDINALS[at], number=NUMBERS[at + 1])
    asked = [SeveralQuestion("what", what, shown[at].short)]
    if shown[other].details:
        question, answer = pick(rng, shown[other].details)
        asked.append(SeveralQuestion("what", f"{question} in the {ORDINALS[other]} picture", answer))
    for number in rng.permutation(len(shown)).tolist():
        others = _things(each for place, each in enumerate(shown) if place != number)
        alone = sorted(shown[number].things - others)
        if alone:
            question = pick(rng, _WHICH).format(thing=pick(rng, alone))
            return [*asked, SeveralQuestion("which", question, f"the {ORDINALS[number]} picture")]
    return asked


def _of_all(rng: np.random.Generator, shown: list[_Shown]) -> list[SeveralQuestion]:
    """In how many there is a shape: one that is there, or now and then any."""
    there = sorted(thing for thing in _things(shown) if len(thing.split()) == 2)
    if not there:
        return []
    thing = pick(rng, there) if rng.random() < 0.8 else with_article(pick(rng, tuple(SHAPES)))
    count = sum(thing in each.things for each in shown)
    number = NUMBERS[count] if count else "no"
    return [SeveralQuestion("count", f"how many pictures show {thing}", f"{number} picture{'s' * (count != 1)}")]
