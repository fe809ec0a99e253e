"""Something told and questions about it, all in text: what teaches a network to look up what it has read.

Nothing else here does. A template's words follow from the words beside them, so a network of this size never learns to
find a word by what it is, and then it cannot tell two objects in its own description apart (docs/decisions/006).
Every answer stands in what was told, behind or before what is asked for, and nowhere else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sensorium.data.generators.canvas import Split
from sensorium.data.generators.dialogues import a, free_words, is_heldout, pick
from sensorium.data.generators.scenes import COLOURS, SHAPES

_THINGS = (
    *("ball", "book", "box", "cup", "door", "egg", "fish", "hat", "house", "key", "lamp", "moon", "shoe", "sun"),
    *("table", "tree", "chair", "window", "bus", "bed"),
)


class Told(NamedTuple):
    text: str
    questions: tuple[tuple[str, str], ...]  # with their answers, in no order


def told(rng: np.random.Generator, split: Split) -> Told:
    """A list of words, notes that pair words, or a few coloured things. A tenth of all texts is held out."""
    while True:
        made = pick(rng, (_list, _pairs, _things, _things))(rng)
        if is_heldout(made.text) == (split == "heldout"):
            return made


def _list(rng: np.random.Generator) -> Told:
    words = _words(rng, int(rng.integers(5, 13)))
    asked = rng.permutation(len(words) - 1)[:3]
    questions = tuple((f"go on from {words[at]}", " ".join(words[at:])) for at in asked)
    return Told(" ".join(words), questions)


def _pairs(rng: np.random.Generator) -> Told:
    words = _words(rng, 2 * int(rng.integers(3, 9)))
    pairs = list(zip(words[::2], words[1::2], strict=True))
    text = pick(rng, (" and ", ", ", " | ")).join(f"{one} {other}" for one, other in pairs)
    return Told(text, tuple((f"what goes with {one}", f"{one} goes with {other}") for one, other in pairs))


def _things(rng: np.random.Generator) -> Told:
    nouns = tuple(SHAPES) if rng.random() < 0.6 else _THINGS
    size = int(rng.integers(2, 7))
    things = [nouns[at] for at in rng.permutation(len(nouns))[:size]]
    colours = [tuple(COLOURS)[at] for at in rng.permutation(len(COLOURS))[:size]]
    questions: list[tuple[str, str]] = []
    for thing, colour in zip(things, colours, strict=True):
        missing = pick(rng, [noun for noun in nouns if noun not in things])
        questions += [
            (f"what colour is the {thing}", f"the {thing} is {colour}"),
            (f"what is {colour}", f"the {thing} is {colour}"),
            (f"is there {a(thing)}", f"yes there is {a(thing)}"),
            (f"is there {a(missing)}", f"no there is no {missing}"),
        ]
    looks = list(zip(colours, things, strict=True))
    joint = pick(rng, (" and ", " above ", " left of "))
    text = joint.join(a(f"{colour} {thing}") for colour, thing in looks)
    # Without notes as often as with: with them alone, a network takes the word behind a colour there for its thing.
    notes = "".join(f", {thing} {colour}" for colour, thing in looks) if rng.random() < 0.5 else ""
    return Told(text + notes, tuple(questions))


def _words(rng: np.random.Generator, size: int) -> list[str]:
    words = free_words()
    return [words[at] for at in rng.permutation(len(words))[:size]]
