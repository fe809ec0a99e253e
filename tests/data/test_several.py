"""Pictures in a row: every question has the answer that they give, told here from their captions alone."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from sensorium.data.generators.several import KINDS, ORDINALS, Several, several

NUMBERS = ("no", "one", "two", "three", "four")


@pytest.fixture(scope="module")
def rows() -> list[Several]:
    rng = np.random.default_rng(4)
    return [several(rng, split="train") for _ in range(300)]


def test_the_seed_decides_every_byte() -> None:
    one, other = (several(np.random.default_rng(7), split="train") for _ in range(2))
    assert one.questions == other.questions
    assert all(np.array_equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))


def shows(caption: str, thing: str) -> bool:
    """Whether a caption speaks of a thing; of several alike it speaks in the plural."""
    words = thing.split(maxsplit=1)[1]
    plural = f"{words}es" if words.endswith("s") else f"{words}s"
    told = caption.split(" on ")[0].replace("big ", "").replace("small ", "")
    return f" {words} " in f"{told} " or f" {plural} " in f"{told} "


def test_answers_are_true(rows: list[Several]) -> None:
    kinds = Counter(question.kind for made in rows for question in made.questions)
    assert set(kinds) == set(KINDS)
    for made in rows:
        assert 2 <= len(made.pictures) == len(made.captions) <= 4
        for kind, question, answer in made.questions:
            if kind == "which":
                thing = question.split(" shows ")[-1].split(" is ")[-1].split(" see ")[-1]
                (nth,) = [name for name, text in zip(ORDINALS, made.captions, strict=False) if shows(text, thing)]
                assert answer == f"the {nth} picture", (question, made.captions)
            elif kind == "count":
                count = sum(shows(text, question.removeprefix("how many pictures show ")) for text in made.captions)
                assert answer == f"{NUMBERS[count]} picture{'' if count == 1 else 's'}", (question, made.captions)
            elif kind == "same":
                assert answer.startswith("yes") == (made.captions[0] == made.captions[1])
            elif kind == "difference":
                assert made.captions[0] != made.captions[1]
                assert answer.startswith("only") != (" in the first picture and " in answer)
            else:
                places = {name: at for at, name in enumerate(ORDINALS)} | {
                    name: at - 1 for at, name in enumerate(NUMBERS)
                }
                (at,) = [at for name, at in places.items() if name in question.split()]
                for word in answer.removeprefix("the ").replace(" is ", " ").replace("background", "").split():
                    assert word in made.captions[at], (question, answer, made.captions)


def test_a_difference_is_told_of_the_pictures_in_their_order(rows: list[Several]) -> None:
    turned = Counter[str]()
    for made in rows:
        for kind, _, answer in made.questions:
            if kind == "difference" and answer.startswith("only"):
                nth, thing = answer.removeprefix("only the ").split(" picture shows ")
                assert [shows(text, thing) for text in made.captions] == [nth == "first", nth == "second"]
                turned[nth] += 1
            elif kind == "difference":
                subject, second = answer.removeprefix("the ").split(" in the first picture and ")
                shape, first = subject.split(" is ")
                for text, look in zip(made.captions, (first, second.removesuffix(" in the second")), strict=True):
                    assert shape in text
                    assert look in text, (answer, made.captions)
    assert min(turned["first"], turned["second"]) > 10


def test_pictures_of_the_same_are_not_the_same_bytes(rows: list[Several]) -> None:
    twice = [made for made in rows if made.captions[0] == made.captions[1]]
    assert sum(not np.array_equal(made.pictures[0], made.pictures[1]) for made in twice) > 0.8 * len(twice) > 10


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split"):
        several(np.random.default_rng(0), split="test")  # pyright: ignore[reportArgumentType]
