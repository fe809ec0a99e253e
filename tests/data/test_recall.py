import re

import numpy as np
import pytest

from sensorium.data.generators.dialogues import is_heldout
from sensorium.data.generators.recall import Told, told
from sensorium.data.generators.speech import Split


def many(split: Split = "train", n: int = 300) -> list[Told]:
    rng = np.random.default_rng(0)
    return [told(rng, split) for _ in range(n)]


def test_every_answer_can_be_looked_up():
    """In what was told, or in the question; and only "no" says that something is not there."""
    glue = {"is", "the", "there", "yes", "no", "a", "an", "goes", "with"}
    for given in many():
        known = set(given.text.replace(",", " ").split())
        for question, answer in given.questions:
            absent = set(question.split()) - known if answer.startswith("no ") else set()
            assert set(answer.split()) <= known | glue | absent, (given.text, question, answer)


def test_a_list_goes_on_to_its_end():
    lists = [given for given in many() if given.questions[0][0].startswith("go on from")]
    assert lists
    for given in lists:
        for question, answer in given.questions:
            assert given.text.endswith(answer)
            assert answer.startswith(question.removeprefix("go on from "))


def test_things_are_asked_for_both_ways_and_are_there_or_not():
    scenes = [given for given in many() if any(question.startswith("is there") for question, _ in given.questions)]
    assert scenes
    for given in scenes:
        told, *notes = given.text.split(", ")
        looks = [look.split()[1:] for look in re.split(" and | above | left of ", told)]  # "a red ball", "an ..."
        assert notes in ([], [f"{thing} {colour}" for colour, thing in looks])
        for colour, thing in looks:
            assert (f"what colour is the {thing}", f"the {thing} is {colour}") in given.questions
            assert (f"what is {colour}", f"the {thing} is {colour}") in given.questions
        answers = [answer for question, answer in given.questions if question.startswith("is there")]
        assert sum(answer.startswith("yes") for answer in answers) == len(looks) == len(answers) / 2
    assert 0.3 < np.mean(["," in given.text for given in scenes]) < 0.7, "notes stand behind half of them"


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_a_tenth_of_all_texts_is_held_out(split: Split):
    assert all(is_heldout(given.text) == (split == "heldout") for given in many(split))
