import numpy as np
import pytest

from sensorium.data.generators.dialogues import is_heldout
from sensorium.data.generators.refusals import MATTERS, REFUSALS, refusal
from sensorium.data.generators.speech import Split

ONLY_WORDINGS = {"i want to sleep", "i hurt my hand"}  # of their answers: trained on, whatever their hash says


@pytest.mark.parametrize("split", ["train", "heldout"])
@pytest.mark.parametrize("matter", MATTERS)
def test_every_matter_has_questions_of_its_split_and_one_answer_to_refuse(matter, split: Split):
    rng = np.random.default_rng(3)
    made = [refusal(rng, split, matter=matter) for _ in range(40)]
    is_known = {item.question: is_heldout(item.question) == (split == "heldout") for item in made}
    assert {question for question, is_ours in is_known.items() if not is_ours} <= ONLY_WORDINGS
    assert split == "train" or not ONLY_WORDINGS & is_known.keys()
    assert all(set(item.question) <= set("abcdefghijklmnopqrstuvwxyz ") for item in made)
    if matter == "fine":
        assert not {item.answer for item in made} & set(REFUSALS.values())
    else:
        assert {item.answer for item in made} == {REFUSALS[matter]}
    assert len({item.question for item in made}) > (10 if split == "train" else 1)


def test_what_is_fine_is_asked_in_the_words_of_what_is_not():
    rng = np.random.default_rng(0)
    asked = [refusal(rng, "train") for _ in range(600)]
    openings = {" ".join(item.question.split()[:3]) for item in asked if item.matter != "fine"}
    fine = [item for item in asked if item.matter == "fine"]
    assert 0.2 < len(fine) / len(asked) < 0.4
    assert np.mean([" ".join(item.question.split()[:3]) in openings for item in fine]) > 0.7
